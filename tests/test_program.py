"""Programs: lowering, printing, files, refusals with places, and what explains a run."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import archsim
import einsum_cascade as ec
from archsim.critical import by_reason, explain
from archsim.issue import Body, read_entry
from archsim.lowering import lower
from archsim.program_file import load_program, save, to_yaml
from archsim.slots import execute, simulate

SIZES = ["--set", "M=8,P=4,E=4,F=4"]
TINY = {"M": 8, "P": 4, "E": 4, "F": 4}


def archsim_command(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    code = "from archsim.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False, cwd=cwd
    )


def tiny(mapping: str = "fusemax-ahead"):
    return lower(
        ec.load("softmax-1pass"),
        ec.workload(**TINY),
        archsim.load_architecture("fusemax-4x4"),
        archsim.load_mapping(mapping),
    )


def test_a_program_prints_like_assembly():
    text = str(tiny())
    assert text.startswith("program softmax-1pass on fusemax-4x4 through fusemax-ahead\n")
    assert "  nest     b 1 > h 1 > p2 1 > m1 2 > p1 1\n" in text
    assert "  register QK     1 x 2 in each PE of array_2d\n" in text
    assert (
        "  SLN lag 1\n"
        "    ; SLN[m1,m0,p] = exp(QK[m1,m0,p] - RM[m1+1,p])\n"
        "    sub    QK, RM@returned -> t0\n"
        "    exp    t0 -> SLN  (6 slots)\n"
    ) in text
    assert "max    RM[m1-1], LM@landing -> RM and to the top" in text
    assert "; AV[f,p] = RNV[M1,f,p]/RD[M1,p] for each f, last m1" in text
    # No times: latencies belong to the architecture.
    assert not re.search(r"latency|cycle|slot \d", text)


@pytest.mark.parametrize("name", ["fusemax-serial", "fusemax-ahead"])
def test_a_saved_program_is_the_same_program(name, tmp_path):
    program = tiny(name)
    path = tmp_path / "program.yaml"
    save(program, path)
    again = load_program(path)
    assert str(again) == str(program)
    assert to_yaml(again) == to_yaml(program)
    assert execute(again).cycles == execute(program).cycles
    report = archsim.report(archsim.simulate(again))
    assert report.cycles == {"fusemax-serial": 59}.get(name, 55)
    assert (report.cascade, report.model) == ("softmax-1pass", "custom")


def test_a_program_edited_by_hand_runs_as_edited(tmp_path):
    path = tmp_path / "program.yaml"
    done = archsim_command(
        "lower", "softmax-1pass", "--arch", "fusemax-4x4", "--mapping", "fusemax-ahead", *SIZES,
        "-o", str(path),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    text = path.read_text()
    assert "    - SLN lag 1\n" in text
    # All lags 0 is fusemax-serial: 59 cycles, at both levels.
    path.write_text(text.replace("lag 1", "lag 0"))
    for level in ("tile", "pe"):
        done = archsim_command("run", "--program", str(path), "--level", level, "--json")
        assert json.loads(done.stdout)["cycles"] == 59, done.stderr
    # Another machine: two more return registers delay each of two tiles.
    mine = tmp_path / "slow.yaml"
    shipped = Path(archsim.load_architecture("fusemax-4x4").document.file).read_text()
    mine.write_text(shipped.replace("return_registers: {value: 1", "return_registers: {value: 3"))
    done = archsim_command("run", "--program", str(path), "--arch", str(mine), "--json")
    assert json.loads(done.stdout)["cycles"] == 63, done.stderr


@pytest.mark.parametrize(
    ("old", "new", "place", "message"),
    [
        ("- QK lag 0", "- QK leg 0", "26:7", "'QK leg 0' is no entry; write TASK lag N"),
        ("- QK lag 0", "- QQ lag 0", "26:7", "no Einsum 'QQ' is placed"),
        ("- LM lag 0\n", "- QK lag 1\n", "25:3", "the order lacks LM"),
        ("nest: [b 1", "nest: [b 2", "23:8", "b has 1 tiles at these sizes, not 2"),
        ("m1 2", "m7 2", "23:24", "'m7 2' is no loop"),
        ("QK: 2,", "QQ: 2,", "40:17", "no register QQ"),
        ("QK: 2,", "QK: 0,", "40:17", "a depth is at least 1"),
        ("landing: 128", "landing: none", "41:10", "landing"),
        ('"fusemax-ahead"', '"fusemax-haed"', "3:10", "fusemax-ahead"),
        ("drain: never", "drain: always", "38:8", "drain"),
        ("sizes: {M: 8", "sizes: {M: 0", "22:12", "M"),
    ],
)
def test_a_broken_program_says_where(old, new, place, message, tmp_path):
    path = tmp_path / "mine.yaml"
    text = to_yaml(tiny())
    assert old in text
    path.write_text(text.replace(old, new, 1))
    done = archsim_command("run", "--program", str(path))
    assert done.returncode == 2, done.stdout
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    if place:
        assert f"mine.yaml:{place}" in done.stderr, done.stderr


def test_registers_too_shallow_are_a_deadlock(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(to_yaml(tiny()).replace("QK: 2,", "QK: 1,"))
    done = archsim_command("run", "--program", str(path))
    assert done.returncode == 2
    assert "deadlock: array_2d: QK of tile 1 waits for SLN of tile 0" in done.stderr
    assert "to have read the register of QK" in done.stderr


ORDER = {
    "array_2d": ["QK", "LM", "SLN", "SLD", "SLNV"],
    "array_1d": ["RM", "PRM", "SPD", "RD", "SPNV | RNV", "AV"],
}


def lowered(order=ORDER, cascade="softmax-1pass", arch="fusemax-4x4", **mapping):
    bodies = tuple(Body(unit, tuple(map(read_entry, lines))) for unit, lines in order.items())
    found = replace(archsim.load_mapping("fusemax-serial"), order=bodies, **mapping)
    chip = archsim.load_architecture(arch) if isinstance(arch, str) else arch
    what = ec.load(cascade) if isinstance(cascade, str) else cascade
    return lower(what, ec.workload(**TINY), chip, found)


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ({**ORDER, "array_3d": ["QK"]}, "unknown array 'array_3d'"),
        ({**ORDER, "array_2d": ["QK", "LM", "SLN", "SLD"]}, "the order lacks SLNV"),
        ({**ORDER, "array_2d": [*ORDER["array_2d"], "QK lag 2"]}, "is issued 2 times"),
        ({**ORDER, "array_2d": [*ORDER["array_2d"], "QK.drain"]}, "there is no task QK.drain"),
        (
            {"array_2d": ORDER["array_2d"][1:], "array_1d": ["QK", *ORDER["array_1d"]]},
            "QK runs on array_2d, not on array_1d",
        ),
        ({**ORDER, "array_1d": ["RM", "PRM", "SPD+SLD", "RD", "SPNV", "RNV", "AV"]}, "SLD"),
        ({**ORDER, "array_1d": ["RM+PRM", "SPD", "RD", "SPNV", "RNV", "AV"]}, "in one go"),
    ],
)
def test_an_order_that_does_not_fit_is_refused(order, message):
    if "in one go" in message:
        message = "RM is not read by PRM alone, at its own indices"
    with pytest.raises(archsim.ArchError, match=re.escape(message)):
        lowered(order)


@pytest.mark.parametrize(
    ("cascade", "arch", "mapping", "message"),
    [
        ("softmax-3pass", "flat", "flat", "says no order of issue"),
        ("softmax-1pass", "flat", "fusemax-cascade", "says no order of issue"),
    ],
)
def test_what_cannot_be_lowered_says_why(cascade, arch, mapping, message):
    done = archsim_command(
        "run", cascade, "--arch", arch, "--mapping", mapping, "--level", "tile",
        "--set", "M=512,P=512,E=64,F=64",
    )  # fmt: skip
    assert done.returncode == 2
    assert message in done.stderr
    assert "add to the file: order:" in done.stderr


def test_an_einsum_that_no_pattern_fits_is_named_with_its_place():
    text = str(ec.load("softmax-1pass")).replace("max[m0](QK[m1,m0,p])", "max[m0](m0*QK[m1,m0,p])")
    with pytest.raises(archsim.ArchError) as caught:
        lowered(cascade=ec.parse(text, name="mine"))
    assert "LM can't be lowered: m0 is used as a number, which no PE knows" in str(caught.value)
    assert "LM[m1,p] = max[m0](m0*QK[m1,m0,p])" in str(caught.value)


def test_hardware_that_does_not_fit_is_refused():
    chip = archsim.load_architecture("fusemax-4x4")
    array, lanes = chip.arrays
    few = replace(chip, arrays=(array, replace(lanes, axes=(("lanes", 2),))))
    with pytest.raises(archsim.ArchError, match="2 lanes below 4 columns"):
        lowered(arch=few)
    slow = tuple(
        replace(row, latency_cycles=3) if row.operator == "max" else row for row in array.operators
    )
    with pytest.raises(archsim.ArchError, match="passes max down after 3 cycles and the"):
        lowered(arch=replace(chip, arrays=(replace(array, operators=slow), lanes)))
    small = replace(array, register_entries=4)
    with pytest.raises(archsim.ArchError, match="a PE needs 88 bit of registers"):
        lowered(arch=replace(chip, arrays=(small, lanes)))


def test_memory_that_is_too_slow_sets_the_time(resized):
    """1 GB/s at 940 MHz: 192 bytes take 181 cycles at least, and a simulation waits for them."""
    chip = resized("fusemax-4x4", bandwidth_bytes_per_s=10**9)
    found = archsim.run("softmax-1pass", ec.workload(**TINY), chip, "fusemax-serial", level="tile")
    assert found.traffic_bytes["total"] == 2 * (4 * 4 + 8 * 4 + 8 * 4 + 4 * 4)
    assert found.lower_bound_cycles == 181
    assert 181 <= found.cycles < 181 + 59
    assert found.bottleneck == "dram"
    assert found.stall_cycles["array_2d"]["memory"] > 60


def test_renamed_cascades_lower_the_same():
    """Nothing hangs on the paper's names."""
    text = str(ec.load("softmax-1pass"))
    names = {"QK": "Logit", "LM": "Best", "RM": "Top", "SLN": "Weight", "AV": "Out"}
    mapping = archsim.load_mapping("fusemax-serial")
    for old, new in names.items():
        text = re.sub(rf"\b{old}\b", new, text)

    def name(word: str) -> str:
        return names.get(word, word)

    renamed = replace(
        mapping,
        placements=tuple((name(n), where) for n, where in mapping.placements),
        held=tuple((name(n), v) for n, v in mapping.held),
        forwarded=tuple((name(n), tuple(map(name, r))) for n, r in mapping.forwarded),
        order=tuple(
            Body(
                body.unit,
                tuple(
                    tuple(replace(item, task=name(item.task)) for item in entry)
                    for entry in body.entries
                ),
            )
            for body in mapping.order
        ),
    )
    program = lower(
        ec.parse(text, name="renamed"),
        ec.workload(M0=4, **TINY),
        archsim.load_architecture("fusemax-4x4"),
        renamed,
    )
    assert simulate(program).cycles == 59


def test_the_critical_chain_adds_up():
    for name, cycles in (("fusemax-serial", 59), ("fusemax-ahead", 55)):
        found = explain(tiny(name))
        assert found.cycles == cycles
        assert sum(by_reason(found.chain).values()) + found.skew == cycles
    # One return register fewer: each of the two tiles of `serial` starts its SLN a cycle earlier.
    assert dict(explain(tiny("fusemax-serial")).improvements)["no return registers"] == 57


def test_the_critical_circuit_is_the_steady_period():
    program = lower(
        ec.load("softmax-1pass"),
        ec.workload(M=256 * 30, P=256, E=64, F=64),
        archsim.load_architecture("fusemax"),
        archsim.load_mapping("fusemax"),
    )
    found = explain(program.compute_only())
    assert found.tiles == 1
    assert by_reason(found.circuit) == {
        "issuing SPNV": 64,
        "issuing RNV": 64,
        "issuing PRM": 7,
        "issuing RM": 1,
        "issuing SPD": 1,
        "issuing RD": 1,
    }


def test_json_of_a_simulated_run():
    for level in ("tile", "pe"):
        done = archsim_command(
            "run", "softmax-1pass", "--arch", "fusemax-4x4", "--mapping", "fusemax-ahead", *SIZES,
            "--level", level, "--json",
        )  # fmt: skip
        found = json.loads(done.stdout)
        assert (found["cycles"], found["level"], found["lower_bound_cycles"]) == (55, level, 40)
        for unit, busy in (("array_2d", 34), ("array_1d", 40)):
            assert sum(found["stall_cycles"][unit].values()) == 55 - busy
            assert found["utilization"][unit] == pytest.approx(busy / 55)


@pytest.mark.parametrize("command", ["run", "lower", "explain"])
def test_a_size_of_no_rank_is_refused(command):
    done = archsim_command(
        command, "softmax-1pass", "--arch", "fusemax-4x4", "--mapping", "fusemax-serial",
        "--set", "M=8,P=4,E=4,F=4,N=3",
    )  # fmt: skip
    assert done.returncode == 2
    assert "softmax-1pass has no rank N" in done.stderr


def test_a_program_comes_alone(tmp_path):
    path = tmp_path / "program.yaml"
    save(tiny(), path)
    done = archsim_command("run", "softmax-3pass", "--program", str(path))
    assert done.returncode == 2
    assert "a program file holds its cascade, mapping and sizes" in done.stderr


def test_missing_names_are_asked_for_at_once():
    done = archsim_command("run", "softmax-1pass")
    assert done.returncode == 2
    assert "--arch, --mapping are missing" in done.stderr
