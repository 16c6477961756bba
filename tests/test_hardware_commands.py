"""`archsim rtl` and `archsim rtl-test`: what they write, print and refuse; files in git."""

import json
import re
from pathlib import Path

import pytest
from test_rtl import lint

import einsum_cascade as ec
from archsim.hdl import instruction
from archsim.hdl.package import contents, rtl_folder
from archsim.hdl.top import generate
from archsim.lowering import lower

ROOT = Path(__file__).parents[1]
GENERATED = rtl_folder() / "generated"
TINY = {"M": 8, "P": 4, "E": 4, "F": 4}


@pytest.mark.parametrize("mapping", ["fusemax-serial", "fusemax-ahead"])
def test_generated_files_are_those_that_are_checked_in(mapping):
    found = lower("softmax-1pass", ec.workload(**TINY), "fusemax-4x4", mapping)
    design = generate(found)
    for name, text in contents(found, design, blocks=False).items():
        assert (GENERATED / name).read_text(encoding="utf-8") == text, name


@pytest.mark.parametrize("name", ["fusemax_serial", "fusemax_ahead"])
def test_generated_tops_are_lint_clean(name):
    path = GENERATED / f"softmax_1pass_{name}_4x4.sv"
    assert lint(path, rtl_folder(), GENERATED) == ""


def test_instruction_words_are_as_documented_and_as_the_blocks_read_them():
    offsets = instruction.offsets(instruction.FIELDS)
    assert sum(instruction.FIELDS.values()) == 64
    assert sum(instruction.HEAD.values()) == 9
    documented = (ROOT / "docs" / "hardware.md").read_text(encoding="utf-8")
    table = documented[documented.index("| field | bits") :]
    found = []
    for names, bits in re.findall(r"^\| ([a-z_, ]+) \| ([\d, ]+) \|", table, re.M):
        found += zip(names.split(", "), map(int, bits.split(", ")), strict=True)
    assert dict(found) == instruction.FIELDS
    text = (rtl_folder() / "pe.sv").read_text(encoding="utf-8")
    for name, wire in (("dest", "dest"), ("adds", "adds"), ("partial", "partial"), ("lat", "lat")):
        first = offsets[name]
        last = first + instruction.FIELDS[name] - 1
        bits = f"[{first}]" if first == last else f"[{last}:{first}]"
        assert re.search(rf"wire\s+(\[\d+:0\]\s+)?{wire}\s+= op{re.escape(bits)};", text), name


def test_rtl_writes_a_folder(archsim_command, tmp_path):
    out = tmp_path / "rtl"
    options = ["--mapping", "fusemax-ahead", "--set", "M=8,P=4,E=4,F=4", "-o", str(out), "--json"]
    done = archsim_command("rtl", "fusemax-4x4", *options)
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    assert sorted(data["files"]) == sorted(path.name for path in out.iterdir())
    manifest = json.loads((out / f"{data['name']}.json").read_text(encoding="utf-8"))
    assert manifest["units"]["array"]["body"][2] == "SLN lag 1"
    assert {"name": "AV_data", "direction": "output", "width": 128} in manifest["ports"]
    listed = (out / f"{data['name']}.f").read_text(encoding="utf-8").split()
    assert all((out / name).exists() for name in listed)
    assert str(tmp_path) not in json.dumps(manifest)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    archsim_command("rtl", "fusemax-4x4", *options)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_the_documentation_shows_what_is_printed(archsim_command, tmp_path):
    text = (ROOT / "docs" / "hardware.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    command, shown = block.split("\n", 1)
    words = command.removeprefix("$ archsim ").split()
    done = archsim_command(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert shown.startswith(done.stdout)
    assert shown.removeprefix(done.stdout) == "$ archsim rtl-test fusemax-4x4\n"


def test_rtl_of_another_size_and_of_a_saved_program(archsim_command, tmp_path):
    done = archsim_command("rtl", "fusemax", "--rows", "3", "--cols", "2", "-o", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "3 x 2 PEs" in done.stdout
    path = tmp_path / "program.yaml"
    sizes = "M=8,P=4,E=4,F=4"
    run = ["softmax-1pass", "--arch", "fusemax-4x4", "--mapping", "fusemax-serial", "--set", sizes]
    assert archsim_command("lower", *run, "-o", str(path)).returncode == 0
    out = str(tmp_path / "saved")
    done = archsim_command("rtl", "fusemax-4x4", "--program", str(path), "-o", out)
    assert done.returncode == 0, done.stderr


def test_programs_that_cannot_run_get_no_hardware(archsim_command, tmp_path):
    path = tmp_path / "program.yaml"
    sizes = "M=12,P=8,E=4,F=4"
    run = ["softmax-1pass", "--arch", "fusemax-4x4", "--mapping", "fusemax", "--set", sizes]
    assert archsim_command("lower", *run, "-o", str(path)).returncode == 0
    text = path.read_text(encoding="utf-8")
    for right, wrong, message in (
        (r"RM: \d+", "RM: 1", "deadlock"),
        (r"landing: \d+", "landing: 1", "overflow"),
    ):
        path.write_text(re.sub(right, wrong, text), encoding="utf-8")
        out = ["-o", str(tmp_path / "rtl")]
        done = archsim_command("rtl", "fusemax-4x4", "--program", str(path), *out)
        assert done.returncode == 2
        assert message in done.stderr
        assert not (tmp_path / "rtl").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fusemax-4x4"], "--output: the folder to write is missing"),
        (["fusemax-5x5", "-o", "x"], "fusemax-5x5"),
        (["fusemax-4x4", "--rows", "0", "-o", "x"], "'--rows'"),
        (["fusemax-4x4", "--program", "p.yaml", "--rows", "2", "-o", "x"], "--program: a program"),
        (
            ["flat", "--mapping", "flat", "--cascade", "softmax-3pass", "-o", "x"],
            "no order of issue",
        ),
    ],
)
def test_rtl_refuses(archsim_command, tmp_path, arguments, message):
    done = archsim_command("rtl", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / "x").exists()


def test_rtl_test_says_what_it_ran(archsim_command):
    done = archsim_command("rtl-test", "--json")
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    assert {test["outcome"] for test in data["tests"]} == {"passed"}
    assert set(data["tests"][0]) == {"name", "simulator", "outcome"}
    rows = [row for row in data["cycles"] if row["sizes"] == TINY]
    taken = {row["mapping"]: (row["simulated"], row["rtl"]) for row in rows}
    assert taken["fusemax-serial"] == (59, 59)
    assert taken["fusemax-ahead"] == (55, 55)
    assert all(row["simulated"] == row["rtl"] for row in data["cycles"])


@pytest.mark.slow
def test_area_counts_every_block(archsim_command, tmp_path):
    options = ["--rows", "2", "--cols", "2", "--area", "-o", str(tmp_path), "--json"]
    done = archsim_command("rtl", "fusemax-4x4", *options)
    assert done.returncode == 0, done.stderr
    blocks = {row["block"]: row for row in json.loads(done.stdout)["area"]["blocks"]}
    # Registers of a PE: 32 bit each, 64 bits of instruction, words to the right and down.
    assert blocks["PE"]["count"] == 4
    assert 200 < blocks["PE"]["flip_flops"] < 600
    # A lane has 20 registers of 32 bit, a divider and an fp32 multiplier.
    assert blocks["lane"]["gates"] > 2 * blocks["PE"]["gates"]
