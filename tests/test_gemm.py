"""`archsim.gemm` against SCALE-Sim's counts, the engines' programs, and a clocked model."""

import csv
from pathlib import Path

import numpy as np
import pytest

import archsim
import einsum_cascade as ec
from archsim.lowering import lower
from archsim.pe import simulate_pe
from archsim.slots import execute

GOLDEN = Path(__file__).parent / "golden"


def scalesim():
    with (GOLDEN / "scalesim_gemm.csv").open() as file:
        yield from csv.DictReader(file)


@pytest.mark.parametrize("row", list(scalesim()), ids=lambda r: "-".join(list(r.values())[:6]))
def test_scale_sim_counts_one_less(row):
    """SCALE-Sim 3.0.0 reports the index of the last cycle; its operand reads are exact."""
    m, n, k, rows, cols = (int(row[name]) for name in ("M", "N", "K", "rows", "cols"))
    report = archsim.gemm(m, n, k, rows=rows, cols=cols, dataflow=row["dataflow"])
    assert report.cycles == int(row["total_cycles"]) + 1
    reads = {"A": int(row["sram_ifmap_reads"]), "B": int(row["sram_filter_reads"])}
    assert report.operand_reads == reads


def test_the_small_product_of_the_documentation():
    size = {"rows": 4, "cols": 4}
    assert archsim.gemm(4, 4, 4, **size).cycles == 10
    assert archsim.gemm(4, 4, 4, **size, drain="shift").cycles == 15
    assert archsim.gemm(4, 4, 4, **size).utilization == 64 / 160
    assert archsim.gemm(8, 8, 4, **size, folds="pipelined").cycles == 4 * 4 + 6
    assert archsim.gemm(8, 8, 4, **size, drain="shift", folds="pipelined").cycles == 4 * 8 + 7
    assert archsim.gemm(8, 8, 4, **size, drain="shadow", folds="pipelined").cycles == 4 * 4 + 4 + 7


@pytest.mark.parametrize("mapping", ["projection", "projection-ws"])
@pytest.mark.parametrize("sizes", [(1, 1, 1), (4, 4, 4), (5, 3, 7), (8, 8, 8), (9, 10, 11)])
@pytest.mark.parametrize("shape", [(4, 4), (2, 3), (3, 1), (1, 5)])
def test_programs_take_the_pipelined_shift(mapping, sizes, shape, resized):
    """Lowered, executed by both engines, with the values of the product in the same order."""
    m, n, k = sizes
    rows, cols = shape
    arch = resized("fusemax-4x4", rows=rows, cols=cols, lanes=cols)
    workload = ec.workload(N=m, S=n, D=k)
    program = lower(ec.load("projection"), workload, arch, archsim.load_mapping(mapping))
    generator = np.random.default_rng(7)
    a, b = generator.standard_normal((m, k)), generator.standard_normal((k, n))
    dataflow = "os" if mapping == "projection" else "ws"
    expected = archsim.gemm(
        m, n, k, rows=rows, cols=cols, dataflow=dataflow, drain="shift", folds="pipelined",
        values=(a, b),
    )  # fmt: skip
    run = execute(program)
    registers = simulate_pe(program, {"X": a[None, None], "W": b[None, None]})
    assert run.cycles == registers.timeline.cycles == expected.cycles
    for unit, issues in run.issued.items():
        assert [(i.op, i.at) for i in issues] == list(registers.issued[unit])
    assert np.array_equal(registers.outputs["Z"][0, 0], expected.result)
    # A single fold is the serial convention, too.
    if expected.folds == 1:
        serial = archsim.gemm(m, n, k, rows=rows, cols=cols, dataflow=dataflow, drain="shift")
        assert serial.cycles == run.cycles


def clocked_os(folds: int, k: int, rows: int, cols: int) -> int:
    """Output-stationary with shadow registers, one cycle at a time.

    Each PE multiplies for k cycles, hands its sum to its shadow register, and goes on with the next
    fold if the shadow is free. Shadows of a column shift down one row a cycle into the lane.
    """
    last = 0
    for c in range(cols):
        start, free = 1 + c, 0
        for _ in range(folds):
            # Row 0 decides: the others follow a row hop later, and so do their shadows.
            first_shift = max(start + k, free)
            start = first_shift
            free = first_shift + rows
            # The word of the bottom row leaves last: R shifts, R - 1 hops, one cycle to the lane.
            last = max(last, first_shift + rows - 1 + rows - 1 + 1)
    return last


@pytest.mark.parametrize(("k", "rows", "cols"), [(4, 4, 4), (2, 5, 3), (9, 2, 6), (1, 1, 1)])
@pytest.mark.parametrize("folds", [1, 2, 5])
def test_shadow_registers_against_a_clocked_model(k, rows, cols, folds):
    report = archsim.gemm(
        rows * folds, cols, k, rows=rows, cols=cols, drain="shadow", folds="pipelined"
    )
    assert report.cycles == clocked_os(folds, k, rows, cols)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"M": 0}, "M = 0 is not a whole number"),
        ({"rows": 2.5}, "rows = 2.5 is not"),
        ({"dataflow": "rs"}, "dataflow = 'rs'; legal: os, ws, is"),
        ({"drain": "up"}, "drain = 'up'; legal: none, shift, shadow"),
        ({"folds": "all"}, "folds = 'all'; legal: serial, pipelined"),
        ({"values": (np.ones((2, 2)), np.ones((3, 3)))}, "due: (4, 4) and (4, 4)"),
    ],
)
def test_mistakes_say_what_is_legal(change, message):
    arguments = {"M": 4, "N": 4, "K": 4, "rows": 4, "cols": 4} | change
    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace(")", r"\)")):
        archsim.gemm(**arguments)


@pytest.mark.parametrize("dataflow", ["os", "ws", "is"])
def test_values_are_the_product(dataflow):
    generator = np.random.default_rng(3)
    a, b = generator.standard_normal((37, 53)), generator.standard_normal((53, 29))
    report = archsim.gemm(37, 29, 53, rows=8, cols=16, dataflow=dataflow, values=(a, b))
    assert np.allclose(report.result, a @ b, rtol=1e-12, atol=1e-12)
