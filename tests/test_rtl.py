"""The RTL leaves in Icarus: every block against the Python model of the same bits."""

import shutil
from pathlib import Path

import pytest

RTL = Path(__file__).parents[1] / "rtl"


def simulate(top: str, module: str, folder: Path, env: dict[str, str], **parameters: int) -> None:
    """Build a bench and run its cocotb tests; a failing one raises."""
    from cocotb_tools.runner import get_results, get_runner

    runner = get_runner("icarus")
    runner.build(
        sources=[*sorted(RTL.glob("*.sv")), RTL / "testbenches" / f"{top}.sv"],
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


@pytest.mark.parametrize("count", [6_400])
def test_arithmetic_leaves_compute_the_bits_of_formats(tmp_path, count):
    env = {"BENCH_N": "32", "BENCH_COUNT": str(count)}
    simulate("arithmetic_bench", "arithmetic_tests", tmp_path, env, N=32)
