"""Slots, operations, traffic and bounds of placed cascades, on examples that hands can check."""

from dataclasses import replace
from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

import archsim
import einsum_cascade as ec
from archsim.arch import load_architecture
from archsim.lower_bound import recurrence_cycles
from archsim.mapping import load_mapping, mapping_from
from archsim.operator_counts import operators
from archsim.placement import place
from einsum_cascade.documents import read_text

ONE_PASS = ec.load("softmax-1pass")


def small(resized, **sizes):
    defaults = {"rows": 4, "cols": 4, "lanes": 4}
    return resized("fusemax", **{**defaults, **sizes})


def test_worked_example_of_two_key_tiles(resized):
    """R=C=E=F=4, M=8, P=4: two key tiles of one query tile.

    Array: 2 x (4 QK + 1 LM + 7 SLN + 1 SLD + 4 SLNV) = 34 slots. Lanes: 2 x (1 RM + 7 PRM + 1 SPD +
    1 RD + 4 SPNV + 4 RNV) + 4 AV = 40 slots, which is the lower bound.
    """
    workload = ec.workload(M=8, P=4, E=4, F=4)
    report = archsim.bound(ONE_PASS, workload, small(resized), load_mapping("fusemax"))
    placed = report.placed
    assert {w.einsum: w.slots for w in placed.work} == {
        "SQ": 0,
        "QK": 8,
        "LM": 2,
        "RM": 2,
        "SLN": 14,
        "SLD": 2,
        "SLNV": 8,
        "PRM": 14,
        "SPD": 2,
        "RD": 2,
        "SPNV": 8,
        "RNV": 8,
        "AV": 4,
    }
    assert placed.phases[0].slots_on("array_2d") == 34
    assert placed.phases[0].slots_on("array_1d") == 40
    assert report.cycles == 40
    # Q, K, V read once and AV written once, two bytes each: (4*4 + 4*8 + 4*8 + 4*4) * 2.
    assert report.traffic_bytes["total"] == 192


def test_operations_per_point():
    """A sum of products is multiply-accumulate; exp and its subtraction count one by one."""
    array = load_architecture("fusemax").array("array_2d")
    counts = {e.name: operators(e, array) for e in ONE_PASS.einsums if not e.is_initial}
    assert counts["QK"] == {"mac": 1}
    assert counts["LM"] == {"max": 1}
    assert counts["SLN"] == {"exp": 1, "sub": 1}
    assert counts["SLD"] == {"add": 1}
    assert counts["SPD"] == {"mul": 1}
    # sqrt(E) is a constant: only the division counts.
    assert counts["SQ"] == {"div": 1}


def test_counts_are_over_true_points_and_slots_over_ragged_tiles(resized):
    """M=9, P=5 on 4x4: 3 x 2 tiles of E slots, but 9*5*E multiply-accumulates."""
    workload = ec.workload(M=9, P=5, E=3, F=2, B=2, H=3)
    placed = archsim.bound(ONE_PASS, workload, small(resized), load_mapping("fusemax")).placed
    work = {w.einsum: w for w in placed.work}
    assert work["QK"].slots == 3 * 2 * 3
    assert dict(work["QK"].operations) == {"mac": 9 * 5 * 3}
    assert work["AV"].slots == 2 * 2
    assert placed.batch == 6


def test_lanes_may_take_two_variables_and_ragged_tiles_fill_them(resized):
    """FLAT's softmax: P=5 queries by M=9 keys in tiles of 4x4, over 8 lanes.

    Tiles: two full (4x4: 2 steps), one 4x1 of keys (1 step), and for the fifth query two 1x4
    (1 step) and one 1x1 (1 step): 2 + 2 + 1 + 1 + 1 + 1 = 8 steps.
    """
    arch = resized("flat", rows=4, cols=4, lanes=8)
    workload = ec.workload(M=9, P=5, E=3, F=2)
    placed = archsim.bound("softmax-3pass", workload, arch, "unfused").placed
    assert {w.einsum: w.slots for w in placed.work}["GM"] == 8


def test_queries_are_tiled_to_fit_the_buffer(resized):
    """64K tokens, E=64: the rule allows 251 tiles of queries, the largest divisor of 256 is 128."""
    workload = ec.workload("bert", M=65536, P=65536)
    tiles = archsim.run(ONE_PASS, workload, "fusemax", "fusemax").tiles
    assert (tiles["P1"], tiles["P2"]) == (128, 2)
    half = resized("fusemax", capacity_bytes=8 * 2**20)
    smaller = archsim.run(ONE_PASS, workload, half, "fusemax")
    assert (smaller.tiles["P1"], smaller.tiles["P2"]) == (64, 4)
    assert smaller.buffer_bytes["needed"] <= 8 * 2**20
    # K and V are read once for each of the P2 blocks of queries.
    assert smaller.traffic_bytes["by_tensor"]["K"] == 4 * 768 * 65536 * 64 * 2


def test_a_tile_that_does_not_fit_is_refused_with_both_places(resized):
    tiny = resized("fusemax", capacity_bytes=1000)
    with pytest.raises(archsim.ArchError) as error:
        archsim.run(ONE_PASS, ec.workload("bert", M=512, P=512), tiny, "fusemax")
    message = str(error.value)
    assert "one tile needs 193 KiB, the buffer may hold 1000 B" in message
    assert "mappings/fusemax.yaml:25:3: " in message
    assert "architectures/fusemax.yaml:" in message


def test_phases_pass_tensors_through_memory():
    """Unfused: QK is written once and read once, A likewise, Q, K, V read and AV written once."""
    workload = ec.workload(M=512, P=256, E=64, F=32)
    report = archsim.bound("softmax-3pass", workload, "flat", "unfused")
    words = {"Q": 64 * 256, "K": 64 * 512, "QK": 2 * 512 * 256, "A": 2 * 512 * 256}
    words |= {"V": 32 * 512, "AV": 32 * 256}
    assert report.traffic_bytes["by_tensor"] == {name: 2 * n for name, n in words.items()}


def test_recurrences_bound_narrow_problems(resized):
    """One query, wide lanes: each key tile costs the recurrence SPD then RD, two cycles."""
    workload = ec.workload(M=4096, P=1, E=1, F=1)
    placed = archsim.bound(ONE_PASS, workload, small(resized), load_mapping("fusemax")).placed
    assert recurrence_cycles(placed, placed.phases[0]) == 2 * 1024


@given(
    M=st.integers(1, 3000),
    P=st.integers(1, 3000),
    E=st.integers(1, 200),
    F=st.integers(1, 200),
)
def test_bounds_hold_for_any_size(M, P, E, F):
    """Busy PEs never exceed PEs; the bound covers traffic; more bandwidth never slows down."""
    arch, mapping = load_architecture("fusemax"), load_mapping("fusemax")
    workload = ec.workload(M=M, P=P, E=E, F=F)
    report = archsim.bound(ONE_PASS, workload, arch, mapping)
    assert all(0 <= share <= 1 for share in report.utilization.values())
    rate = Fraction(arch.outer.bandwidth_bytes_per_s, arch.clock_hz)
    assert report.cycles >= ceil(report.traffic_bytes["total"] / rate)
    assert report.traffic_bytes["total"] >= 2 * (P * E + P * F + M * (E + F))
    fast = tuple(
        replace(m, bandwidth_bytes_per_s=m.bandwidth_bytes_per_s and 2 * m.bandwidth_bytes_per_s)
        for m in arch.memories
    )
    faster = archsim.bound(ONE_PASS, workload, replace(arch, memories=fast), mapping)
    assert faster.cycles <= report.cycles


def test_cycles_do_not_depend_on_the_clock_when_compute_bound():
    arch, mapping = load_architecture("fusemax"), load_mapping("fusemax")
    workload = ec.workload("bert", M=16384, P=16384)
    slow = archsim.bound(ONE_PASS, workload, replace(arch, clock_hz=arch.clock_hz // 2), mapping)
    fast = archsim.bound(ONE_PASS, workload, arch, mapping)
    assert slow.cycles == fast.cycles
    assert slow.latency_s == pytest.approx(2 * fast.latency_s)


def broken(old: str, new: str) -> str:
    """The message for the shipped mapping with one change, placed on FuseMax."""
    text = load_mapping("fusemax").document
    source = "\n".join(text.lines).replace(old, new)
    assert source != "\n".join(text.lines)
    workload = ec.workload("bert", M=1024, P=1024)
    try:
        mapping = mapping_from(read_text(source, "mine.yaml", archsim.ArchError))
        place(ONE_PASS, workload, load_architecture("fusemax"), mapping)
    except archsim.ArchError as error:
        return str(error)
    return "nothing was wrong"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "  SLD: {array: array_2d, rows: m0, cols: p0}\n",
            "",
            "fusemax does not place SLD of softmax-1pass",
        ),
        ("  SLD: {", "  SLX: {", "mine.yaml:15:8: softmax-1pass has no Einsum SLX to place"),
        ("array: array_1d, lanes: p0}", "array: arrays_1d, lanes: p0}", "did you mean 'array_1d'?"),
        ("rows: m0, cols: p0}", "lanes: m0, cols: p0}", "array_2d has no lanes"),
        ("rows: m0, cols", "rows: mm, cols", "unknown variable 'mm'"),
        (
            "  AV: {array: array_1d, lanes: p0}",
            "  AV: {array: array_2d, cols: p0}",
            "cannot compute div",
        ),
        ("loops: [p2, m1, p1]", "loops: [p2, m1, pp]", "unknown variable 'pp' in the loops"),
        ("  Q: [p1, p0, e]", "  QQ: [p1, p0, e]", "unknown tensor 'QQ'"),
        ("  Q: [p1, p0, e]", "  Q: [p1, p0, x]", "unknown variable 'x' for Q"),
        ("M: M1*M0", "M: M2*M0", "contradicts the cascade's M1*M0"),
        ("P: P2*P1*P0", "P: P2", "'P2' is no split of P"),
        ("M0: ROWS", "M0: RROWS", "unknown name 'RROWS' in a formula"),
        ("M0: ROWS", 'M0: "where(M < 9, 1, 2)"', "'where' is not legal in a formula"),
        ("M0: ROWS", "M0: ROWS % 5", "'mod' is not legal in a formula"),
        ("M0: ROWS", "M0: ROWS +", "cannot read this line"),
        ("P1: fit", "P1: P/0", "division by zero in a formula"),
        ("loops:", "loop:", "unknown key 'loop'"),
        ("placement:", "placements:", "the key 'placement' is missing"),
        ("{at: load}", "{at: store}", "placement.SQ.at"),
        ("{at: load}", "{}", "give 'array: NAME', or 'at: load'"),
        ("cascade: softmax-1pass", "cascade: mine", "4:10: unknown cascade 'mine'"),
    ],
)
def test_mapping_errors_name_place_and_cure(old, new, expected):
    message = broken(old, new)
    assert expected in message
    assert "mine.yaml:" in message


K_READ = "SQ[e,p]*K[e,m1,m0]"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (K_READ, K_READ + " where m1*m0 <= p", "3:1: QK has a filter that can't be placed: m1*m0"),
        ("V[f,m1,m0]", "V[f,I[m1],m0]", "9:1: SLNV gathers: how many"),
        (
            "exp(QK[m1,m0,p] - RM[m1+1,p])",
            "exp(where(m0 < 9, QK[m1,m0,p] - RM[m1+1,p], -inf))",
            "7:1: SLN chooses with where(...), which no array has an operator for",
        ),
        (
            K_READ,
            "SQ[e,p]*K[e,m1,m0%4]",
            "3:1: QK reads at m0%4: which words a tile needs of it is not modelled",
        ),
        (
            K_READ,
            "SQ[e,p]*K[e,m1,clamp(m0-1,0,9)]",
            "3:1: QK reads at clamp(m0 - 1, 0, 9): which words",
        ),
        (
            "rank M = M1*M0",
            "rank M = M1*M0\nrank E = C + D\nvar c in C\nvar d in D",
            "5:1: SQ ranges over E = C + D: tiles of such a rank have no model",
        ),
    ],
    ids=["filter", "gather", "choice", "remainder", "clamp", "concatenation"],
)
def test_what_has_no_model_is_refused_with_its_place(old, new, message):
    text = str(ONE_PASS)
    assert old in text
    cascade = ec.parse(text.replace(old, new), "mine", file="mine.yaml")
    with pytest.raises(archsim.ArchError) as caught:
        archsim.run(cascade, ec.workload("bert", M=512, P=512, C=1, D=1), "fusemax", "fusemax")
    assert f"mine.yaml:{message}" in str(caught.value)
