"""The command line as users meet it: output, JSON, exit codes, messages."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import einsum_cascade as ec
from archsim.arch import load_architecture
from archsim.mapping import load_mapping

ARCHSIM = [sys.executable, "-c", "from archsim.cli import main; main()"]


def archsim(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*ARCHSIM, *arguments], capture_output=True, text=True, cwd=cwd, check=False
    )


def fine(*arguments: str, cwd: Path | None = None) -> str:
    done = archsim(*arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def data(*arguments: str, cwd: Path | None = None):
    return json.loads(fine(*arguments, "--json", cwd=cwd))


def refused(*arguments: str, cwd: Path | None = None) -> str:
    done = archsim(*arguments, cwd=cwd)
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    return done.stderr


def test_list_shows_everything_that_ships():
    found = data("list")
    assert set(found["architectures"]) >= {"fusemax", "flat"}
    assert set(found["models"]) >= {"bert", "trxl", "t5", "xlm"}
    assert set(found["mappings"]) >= {
        "unfused",
        "flat",
        "fusemax-cascade",
        "fusemax-arch",
        "fusemax",
    }
    assert set(found["cascades"]) == set(ec.names("cascades"))
    papers = data("list", "cascades", "--papers")["cascades"]
    assert all(papers.values())
    assert "FuseMax" in papers["softmax-1pass"]


def test_passes():
    text = fine("passes", "softmax-3pass")
    assert "softmax-3pass over M: 3 passes" in text
    assert "barrier: GM[p] = max[m](QK[m,p]) needs all of M" in text
    found = data("passes", "softmax-1pass", "--rank", "M0")
    assert (found["passes"], found["rank"], found["tight"]) == (2, "M0", True)
    assert found["tensors"]["K"] == 2
    assert found["widths"].keys() == {"1", "2"}


def test_run_levels_and_sizes():
    common = ("run", "softmax-1pass", "--arch", "fusemax", "--mapping", "fusemax")
    found = data(*common, "--model", "bert", "--set", "M=4096,P=4096", "--level", "published")
    assert found["cycles"] == 27918336
    assert found["sizes"]["H"] == 12
    keys = "cascade model arch mapping level accounting sizes cycles latency_s traffic_bytes"
    keys += " energy_pj area_um2 utilization utilization_by_einsum buffer_bytes bottleneck"
    keys += " lower_bound_cycles stall_cycles versions"
    assert set(keys.split()) <= set(found)
    # Without a model every rank is set, and there is one head.
    one = data(*common, "--set", "M=4096,P=4096", "--set", "E=64,F=64", "--level", "published")
    assert one["cycles"] * 768 == found["cycles"]
    bound = data(*common, "--set", "M=4096,P=4096,E=64,F=64", "--level", "bound")
    assert bound["level"] == "bound"
    # A mapping with an order of issue is simulated by default, any other bounded.
    tile = data(*common, "--set", "M=4096,P=4096,E=64,F=64")
    assert tile["level"] == "tile"
    assert bound["cycles"] == tile["lower_bound_cycles"] <= tile["cycles"] <= 1.05 * bound["cycles"]
    flat = ("run", "softmax-3pass", "--arch", "flat", "--mapping", "flat", "--model", "bert")
    assert data(*flat, "--set", "M=4096,P=4096")["level"] == "bound"
    assert bound["cycles"] == bound["lower_bound_cycles"] <= one["cycles"]


def test_reproduce_fusemax_json_and_figures(tmp_path):
    done = archsim(
        "reproduce",
        "fusemax",
        "--seq",
        "1024,2048",
        "--model",
        "bert,xlm",
        "-o",
        "out",
        "--json",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found["points"]) == 5 * 2 * 2
    point = found["points"][0]
    assert {"model", "seq_len", "config", "latency_s", "traffic_bytes", "util_1d"} <= set(point)
    assert all(row["reason"] for row in found["deviations"])
    assert len(found["end_to_end"]) == 20
    assert {p["pe_dim"] for p in found["pareto"]} == {16, 32, 64, 128, 256, 512}
    assert {p["config"] for p in found["points"]} == {
        "unfused",
        "flat",
        "cascade",
        "arch",
        "binding",
    }
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert "fig8_attention_speedup.png" in written
    assert "fig6b_utilization_2d.svg" in written
    # Nothing else was written.
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_evaluate(tmp_path):
    rng = np.random.default_rng(1)
    q, k, v = rng.normal(size=(4, 3)), rng.normal(size=(4, 7)), rng.normal(size=(2, 7))
    np.savez(tmp_path / "in.npz", Q=q, K=k, V=v)
    for cascade, sizes in (("softmax-3pass", ()), ("softmax-1pass", ("--set", "M0=2"))):
        fine("evaluate", cascade, "in.npz", "-o", "out.npz", *sizes, cwd=tmp_path)
        logits = q.T @ k / 2
        weights = np.exp(logits - logits.max(1, keepdims=True))
        expected = (weights / weights.sum(1, keepdims=True) @ v.T).T
        with np.load(tmp_path / "out.npz") as out:
            assert list(out) == ["AV"]
            np.testing.assert_allclose(out["AV"], expected, rtol=1e-13)


@pytest.mark.parametrize("kind", ["cascade", "workload", "architecture", "mapping"])
def test_schema_is_json_schema(kind):
    found = json.loads(fine("schema", kind))
    assert found["type"] == "object"
    assert "name" in found["properties"]


@pytest.fixture
def own(tmp_path):
    """A folder with a user's own cascade, model, architecture and mapping."""
    arch = "\n".join(load_architecture("fusemax").document.lines)
    arch = arch.replace("name: fusemax", "name: mine").replace("value: 256,", "value: 32,")
    (tmp_path / "arch.yaml").write_text(arch)
    mapping = "\n".join(load_mapping("fusemax").document.lines)
    (tmp_path / "map.yaml").write_text(mapping.replace("name: fusemax", "name: my-map"))
    cascade = "name: my-attention\nsizes: {M0: 32}\ncascade: |\n" + "".join(
        f"  {line}\n" for line in str(ec.load("softmax-1pass")).splitlines()
    )
    (tmp_path / "cascade.yaml").write_text(cascade)
    (tmp_path / "model.yaml").write_text(
        "name: tiny\nsource: my own\nsizes: {B: 1, H: 2, E: 16, F: 16, M: 96, P: 64}\n"
    )
    return tmp_path


def test_own_files_work_from_any_directory(own):
    assert (
        fine("check", "arch.yaml", "map.yaml", "cascade.yaml", "model.yaml", cwd=own).count("fine")
        == 4
    )
    found = data(
        "run",
        "./cascade.yaml",
        "--model",
        "model.yaml",
        "--arch",
        "arch.yaml",
        "--mapping",
        "map.yaml",
        "--level",
        "published",
        cwd=own,
    )
    # 2 heads x 3 x 2 tiles of 1 + 16 + 9 + 16 slots in the lanes, and F = 16 for each query tile.
    assert found["cycles"] == 2 * (6 * (1 + 16 + 9 + 16) + 2 * 16)
    assert data("passes", "cascade.yaml", cwd=own)["passes"] == 1


RUN = "run softmax-1pass --arch fusemax --mapping fusemax"
SIZED = "--model bert --set M=512,P=512"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("passes softmax-3pas", "did you mean 'softmax-3pass'?"),
        ("passes nowhere/x.yaml", "no such cascade file"),
        ("passes softmax-3pass --rank Q", "ranks of softmax-3pass: E, F, M, P"),
        ("passes toy-iterative", "say which rank to analyse"),
        (f"{RUN} {SIZED} --arch fusemx", "did you mean 'fusemax'?"),
        (f"{RUN} {SIZED} --mapping fusemix", "did you mean 'fusemax'?"),
        (f"{RUN} --model brt", "did you mean 'bert'?"),
        (f"{RUN} --model bert", "the size of ranks P, M is not set; known: B=64"),
        (f"{RUN} --set M=4,P=4,M=5", "'M=5' after M=4: two sizes of one rank"),
        (f"{RUN} --set M=4k", "'M=4k' is no size"),
        (f"{RUN} --set m=4", "write ranks in capitals"),
        (f"{RUN} --set M=0", "'M=0' is no size"),
        (f"{RUN} {SIZED} --mapping flat", "flat does not place LM, RM, SLN, SLD, SLNV, PRM"),
        (f"{RUN} {SIZED} --mapping flat", "softmax-1pass has no Einsum GM to place"),
        (f"{RUN} {SIZED} --arch flat", "array_2d of flat cannot compute max"),
        (f"{RUN} {SIZED} --level tiles", "unknown level 'tiles'"),
        ("reproduce fusemix", "did you mean 'fusemax'?"),
        ("reproduce fusemax --seq 1000", "1000 is not a positive multiple of 256"),
        ("reproduce fusemax --seq 1K", "'1K' is no number of tokens"),
        ("reproduce fusemax --model gpt", "unknown model 'gpt'"),
        ("list casades", "did you mean 'cascades'?"),
        ("schema archtecture", "did you mean 'architecture'?"),
        ("check missing.yaml", "missing.yaml: cannot read the file"),
        ("evaluate softmax-3pass missing.npz -o x.npz", "missing.npz: no such file"),
        ("evaluate softmax-3pass x.npz -o x.npz --engine torch", "unknown engine 'torch'"),
    ],
)
def test_bad_requests_exit_2_with_a_suggestion(command, expected, tmp_path):
    message = refused(*command.split(), cwd=tmp_path)
    assert message.startswith("error: ")
    assert expected in message
    assert list(tmp_path.iterdir()) == []


def test_check_reports_all_files_at_once(own):
    text = (own / "arch.yaml").read_text()
    (own / "arch.yaml").write_text(text.replace("16 MiB", "16").replace("ports:", "prots:"))
    (own / "map.yaml").write_text((own / "map.yaml").read_text().replace("loops:", "lops:"))
    (own / "other.yaml").write_text("name: x\n")
    message = refused("check", "arch.yaml", "map.yaml", "other.yaml", cwd=own)
    for expected in (
        ": memories.buffer.capacity.value: a unit is due here",
        "did you mean 'ports'?",
        "did you mean 'loops'?",
        "cannot tell what kind of file this is",
    ):
        assert expected in message


def test_evaluate_compiled_and_in_hardware_numbers(tmp_path):
    """(1/3)*3 is 1; with bf16 words 1/3 is 171/512, and three times that fits fp32 exactly."""
    np.savez(tmp_path / "in.npz", X=[[1 / 3]], W=[[3.0]])
    for engine in ("naive", "numba"):
        for number, expected in ((None, 1.0), ("bf16", 3 * 171 / 512)):
            more = [] if number is None else ["--format", number]
            command = ["evaluate", "projection", "in.npz", "-o", "out.npz", "--engine", engine]
            fine(*command, *more, cwd=tmp_path)
            with np.load(tmp_path / "out.npz") as found:
                assert expected == found["Z"][0, 0]


def test_evaluate_errors_keep_the_old_output(tmp_path):
    (tmp_path / "bad.npz").write_text("no archive")
    np.savez(tmp_path / "in.npz", Q=np.ones((2, 2)), K=np.ones((3, 2)), V=np.ones((2, 2)))
    (tmp_path / "out.npz").write_bytes(b"precious")
    assert "not an .npz file" in refused(
        "evaluate", "softmax-3pass", "bad.npz", "-o", "out.npz", cwd=tmp_path
    )
    assert "rank E is" in refused(
        "evaluate", "softmax-3pass", "in.npz", "-o", "out.npz", cwd=tmp_path
    )
    assert (tmp_path / "out.npz").read_bytes() == b"precious"


def test_inputs_are_never_written_over(own):
    """The result of a command may not take the place of what it was made from."""
    text = str(ec.load("softmax-1pass")).replace("\n", "\n  ")
    (own / "mine.yaml").write_text(f"name: mine\ncascade: |\n  {text}\n")
    np.savez(own / "in.npz", Q=np.ones((2, 2)), K=np.ones((2, 2)), V=np.ones((2, 2)))
    before = {path: path.read_bytes() for path in own.iterdir()}
    lower = "lower mine.yaml --arch arch.yaml --mapping map.yaml --set M=8,P=4,E=4,F=4 -o"
    for command, name in (
        ("derive mine.yaml --reduce m1 -o", "mine.yaml"),
        ("evaluate mine.yaml in.npz -o", "in.npz"),
        (lower, "map.yaml"),
        (lower, "./arch.yaml"),
    ):
        message = refused(*command.split(), name, cwd=own)
        assert f"--output: {Path(name)} is an input and would be lost" in message
    assert "there is no folder none" in refused(
        "evaluate", "mine.yaml", "in.npz", "-o", "none/out.npz", cwd=own
    )
    assert before == {path: path.read_bytes() for path in own.iterdir()}


def test_help_teaches():
    text = fine("--help")
    assert "archsim passes softmax-3pass" in text
    for command in ("list", "check", "schema", "passes", "evaluate", "run", "reproduce"):
        assert command in text
        assert "Usage" in fine(command, "--help")


FIRST = """
from archsim.compile_notice import announce
announce()
import numba
once = numba.njit(lambda x: x + 1)
once(1), once(1.0)
"""


def test_a_word_while_kernels_are_compiled():
    """Once a process, on stderr, and without loading numba for it."""
    done = subprocess.run(
        [sys.executable, "-c", FIRST], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "compiling kernels; they are kept on disk, so later runs start at once\n"
