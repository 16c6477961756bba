"""Filters on tiles: counts against walking through every tile, refusals, tiles that must stay."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import archsim
import einsum_cascade as ec
from archsim import coverage
from archsim.elements import random_inputs
from archsim.errors import ArchError
from archsim.lower_bound import lower_bound
from archsim.lowering import lower
from archsim.mapping import load_mapping
from archsim.nest import Limit, Loop, Nest, Span
from archsim.pe import simulate_pe
from archsim.placement import place
from archsim.slots import simulate
from archsim.timeline import busy_by_task
from archsim.values import compute

CHIP = archsim.load_architecture("fusemax-4x4")
CAUSAL = str(ec.load("causal-1pass"))
FILTER = "m1*M0 + m0 <= p + M - P"


def placed(text: str, mapping="fusemax-serial", **sizes):
    cascade = ec.parse(text, "mine", file="mine.yaml")
    return place(cascade, ec.workload(**sizes), CHIP, load_mapping(mapping))


# ---- counting without visiting ----


@st.composite
def nests(draw) -> Nest:
    """Two split ranks on rows and columns, in any order of loops, and a few straight limits."""
    room, cols = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    m, p, inner = draw(st.integers(1, 14)), draw(st.integers(1, 14)), draw(st.integers(1, 3))
    m1, p1 = -(-m // room), -(-p // cols)
    loops = [Loop("m1", m1), Loop("p2", -(-p1 // inner)), Loop("p1", inner)]
    rows = Span("m0", room, m, (("m1", room),))
    columns = Span("p0", cols, p, (("p2", cols * inner), ("p1", cols)))
    limits = []
    for _ in range(draw(st.integers(0, 3))):
        a, b = draw(st.integers(-3, 3)), draw(st.integers(-3, 3))
        terms = {"m0": a, "m1": a * room, "p0": b, "p1": b * cols, "p2": b * cols * inner}
        limits.append(
            Limit(tuple((v, c) for v, c in terms.items() if c), draw(st.integers(-12, 12)))
        )
    return Nest(tuple(draw(st.permutations(loops))), rows, columns, tuple(limits))


@settings(max_examples=400, deadline=None)
@given(nests())
def test_counts_are_those_of_all_tiles(nest):
    tiles = nest.tiles()
    shape = nest.rows.room, nest.cols.room
    loops = tuple(loop.variable for loop in nest.loops)
    assert len(tiles) == coverage.tile_count(nest, loops)
    assert sum(t.rows * t.cols for t in tiles) == coverage.tile_count(nest, loops, ("m0", "p0"))
    for over, filled in (
        (("m1",), ("m0",)),
        (("p2", "p1"), ("p0",)),
        (("p2", "m1"), ("m0",)),
        (("p1", "m1"), ()),
        ((), ()),
    ):
        fills = {tuple(dict(t.at)[v] for v in over): {"m0": t.rows, "p0": t.cols} for t in tiles}
        expected = sum(int(np.prod([f[v] for v in filled])) for f in fills.values())
        assert expected == coverage.tile_count(nest, over, filled)
    assert coverage.sees_whole_ranks(nest)
    kept = sum(int(nest.mask(tile, shape).sum()) for tile in tiles)
    assert kept == coverage.point_count(nest, loops)
    lines: dict[tuple, int] = {}
    for tile in tiles:
        key = tuple(c for v, c in tile.at if v != "m1")
        lines[key] = lines.get(key, 0) + 1
    assert max(lines.values(), default=0) == coverage.longest(nest, "m1")


def test_a_million_by_a_million_is_counted_in_closed_form():
    """A triangle of n tiles a side has n (n + 1) / 2, of n M0 points a side n M0 (n M0 + 1) / 2."""
    n = 2**20
    chip = archsim.load_architecture("fusemax")
    sizes = ec.workload(M=n, P=n, E=64, F=64)
    found = place(ec.load("causal-1pass"), sizes, chip, load_mapping("fusemax"))
    work = {one.einsum: one for one in found.work}
    assert work["QK"].points == 64 * n * (n + 1) // 2
    side = n // 256
    assert work["QK"].slots == 64 * side * (side + 1) // 2
    assert work["RM"].points == 256 * side * (side + 1) // 2
    assert work["AV"].points == 64 * n


def test_a_nest_that_is_too_large_to_count_is_refused():
    loops = tuple(Loop(v, 2**14) for v in ("a", "b", "c"))
    nest = Nest(loops, Span("m0", 1, 1, ()), Span("p0", 1, 1, ()), (Limit((("a", 1),)),))
    with pytest.raises(ArchError, match="268,435,456 stretches of tiles are more than"):
        coverage.tile_count(nest, ("a", "b", "c"))


# ---- what a filter costs ----


@pytest.mark.parametrize("mapping", ["fusemax-serial", "fusemax-ahead", "fusemax"])
@pytest.mark.parametrize(
    ("cascade", "sizes"),
    [
        ("causal-1pass", {"M": 13, "P": 13}),
        ("causal-1pass", {"M": 23, "P": 1}),
        ("causal-1pass", {"M": 9, "P": 14}),
        ("window-1pass", {"M": 17, "P": 11, "W": 6}),
        ("causal-gqa-1pass", {"M": 11, "P": 33, "G": 3, "P1": 2}),
        ("window-gqa-1pass", {"M": 14, "P": 20, "G": 2, "W": 3, "P1": 3}),
    ],
)
def test_placement_counts_what_the_engine_does(cascade, sizes, mapping):
    sizes = {"E": 3, "F": 5, "H": 2, **sizes}
    program = lower(cascade, ec.workload(**sizes), CHIP, mapping)
    timeline, bound = simulate(program), lower_bound(program.placed)
    assert bound.cycles <= timeline.cycles
    busy = {
        name: slots for tasks in busy_by_task(timeline).values() for name, slots in tasks.items()
    }
    for work in program.placed.work:
        if work.array:
            assert busy[work.einsum] == work.busy * program.placed.batch, work
    moved = dict(timeline.totals.moved)
    for tensor, amount in bound.read_bytes:
        assert moved[f"{tensor}.fetch"] == amount
    for tensor, amount in bound.write_bytes:
        assert moved[f"{tensor}.store"] == amount


def test_keys_are_fetched_only_as_far_as_a_block_of_queries_needs_them():
    """Loops p2 > m1 > p1: block p2 of 4 queries sees the first p2 + 1 of 4 tiles of keys."""
    found = place(
        ec.load("causal-1pass"),
        ec.workload(M=16, P=16, E=2, F=3, P1=1),
        CHIP,
        load_mapping("fusemax"),
    )
    read = dict(found.phases[0].read)
    assert read["K"] == 4 * (1 + 2 + 3 + 4) * 2
    assert read["V"] == 4 * (1 + 2 + 3 + 4) * 3
    assert read["Q"] == 16 * 2


# ---- tiles that may not be left out ----


def test_softmax_keeps_its_states_in_empty_tiles():
    assert all(limit.skips for limit in placed(CAUSAL, M=8, P=8, E=2, F=2).filters.limits)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # The maximum grows with every tile.
        ("max(RM[m1,p], LM[m1,p])", "max(RM[m1,p], LM[m1,p]) + 1"),
        # The sum halves with every tile.
        ("RD[m1,p]*PRM[m1,p]", "RD[m1,p]*PRM[m1,p]*0.5"),
        # The start value is no fixed point, though every other value is.
        ("RD[0,p] = 0", "RD[0,p] = inf"),
        # Each tile's maximum is looked at from outside.
        ("AV[f,p] =", "output LM, AV\nAV[f,p] ="),
    ],
    ids=["maximum", "sum", "start", "output"],
)
def test_every_tile_is_visited_where_an_empty_one_changes_something(old, new):
    assert old in CAUSAL
    text = CAUSAL.replace(old, new)
    found = placed(text, M=8, P=8, E=2, F=2).filters
    assert not any(limit.skips for limit in found.limits)
    assert len(found.nest.tiles()) == 4


def test_queries_without_keys_give_zero():
    """Nine keys, fourteen queries: the first five see none, and their tile is visited anyway."""
    program = lower("causal-1pass", ec.workload(M=9, P=14, E=3, F=2), CHIP, "fusemax-serial")
    inputs = random_inputs(program)
    expected = ec.evaluate(program.cascade, sizes={"M0": 4}, **inputs)["AV"]
    assert np.array_equal(np.zeros((1, 1, 2, 5)), expected[..., :5])
    assert np.allclose(compute(program, inputs, "float64")["AV"], expected, atol=1e-13)
    assert np.allclose(simulate_pe(program, inputs).outputs["AV"], expected, atol=1e-13)


def test_a_cascade_that_counts_its_tiles_gets_every_tile():
    """RC counts tiles: leaving some out would change it, and the engines count all of them."""
    text = CAUSAL.replace(
        "RD[m1+1,p] = SPD[m1,p] + SLD[m1,p]", "RD[m1+1,p] = SPD[m1,p] + SLD[m1,p] + 1"
    )
    cascade = ec.parse(text, "mine")
    serial = load_mapping("fusemax-serial")
    program = lower(cascade, ec.workload(M=8, P=8, E=2, F=2), CHIP, serial)
    assert len(program.tiles) == 4
    inputs = random_inputs(program)
    expected = ec.evaluate(cascade, sizes={"M0": 4}, **inputs)["AV"]
    assert np.allclose(compute(program, inputs, "float64")["AV"], expected, atol=1e-13)


# ---- what can't be placed ----


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ("m0 <= p or m1 < 1", "m0 <= p or m1 < 1 joins comparisons with 'or'"),
        ("not (m0 <= p)", "joins comparisons with 'not'"),
        ("m0 != p", "m0 != p keeps what lies on both sides of a line"),
        ("m0 <= p - I[p]", "I[p] reads a tensor"),
        ("m0*m0 <= p", "m0*m0 is no sum of constants times index variables"),
        ("m0 % 2 < p", "m0%2 is no sum of constants times index variables"),
        ("m1*M0 + m0 <= p/3", "is no sum of constants times index variables"),
        ("m1*M0 + m0 <= 0.5*p", "has a coefficient that is no integer: 1/2"),
        ("m0 <= p", "it speaks of more than the ranks of m0 and p0, each of them whole"),
        ("e <= p", "LM is not filtered as the others on the array are"),
        ("m1*M0 + m0 <= 2*(p//2)", "is more than one sum divided by a whole number"),
    ],
)
def test_other_filters_are_refused_with_place_and_reason(condition, reason):
    text = CAUSAL.replace(FILTER, condition)
    with pytest.raises(ArchError) as caught:
        placed(text, M=8, P=8, E=2, F=2)
    assert "mine.yaml:3:1: QK has a filter that can't be placed: " in str(caught.value)
    assert reason in str(caught.value)
    assert "comparisons of sums of index variables" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (
            "exp(QK[m1,m0,p] - RM[m1+1,p])",
            "exp(QK[m1,m0,p] - RM[m1+1,p]) where m1*M0 + m0 > 2",
            "QK is empty at other points than others are",
        ),
        (
            "max(RM[m1,p], LM[m1,p])",
            "max(RM[m1,p], LM[m1,p]) where p > 2",
            "SLN reads RM[m1+1,p] at other indices",
        ),
        ("AV[f,p] =", "output QK, AV\nAV[f,p] =", "QK is an output of which elements are empty"),
    ],
)
def test_filters_that_do_not_hold_for_the_whole_array_are_refused(old, new, reason):
    assert old in CAUSAL
    with pytest.raises(ArchError) as caught:
        placed(CAUSAL.replace(old, new), M=8, P=8, E=2, F=2)
    assert reason in str(caught.value)


def test_a_filter_that_leaves_the_array_is_refused():
    text = str(ec.load("softmax-3pass")).replace("K[e,m]", "K[e,m] where m <= p")
    with pytest.raises(ArchError, match="GM is filtered, but only all Einsums of the 2D array can"):
        place(
            ec.parse(text, "mine"),
            ec.workload(M=512, P=512, E=64, F=64),
            archsim.load_architecture("flat"),
            load_mapping("flat"),
        )


@settings(max_examples=60, deadline=None)
@given(
    a=st.sampled_from([-1, 1]),
    group=st.integers(1, 4),
    offset=st.integers(-6, 6),
    symbol=st.sampled_from(["<=", "<", ">=", ">", "=="]),
)
def test_sums_divided_and_rounded_down_become_straight_limits(a, group, offset, symbol):
    condition = f"m1*M0 + m0 {symbol} {a}*((p + 1)//{group}) + {offset}"
    found = placed(CAUSAL.replace(FILTER, condition), M=9, P=7, E=2, F=2)
    m, p = np.arange(9)[:, None], np.arange(7)[None, :]
    compare = {"<=": np.less_equal, "<": np.less, ">=": np.greater_equal, ">": np.greater}
    expected = compare.get(symbol, np.equal)(m, a * ((p + 1) // group) + offset)
    work = next(work for work in found.work if work.einsum == "QK")
    assert work.points == 2 * int(expected.sum())
    limits = tuple(replace(limit, skips=True) for limit in found.filters.limits)
    nest = replace(found.filters.nest, limits=limits)
    mask = np.zeros((12, 8), bool)
    for tile in nest.tiles():
        at = dict(tile.at)
        column = 4 * (at.get("p2", 0) * dict(found.tiling.extents).get("P1", 1) + at["p1"])
        mask[4 * at["m1"] : 4 * at["m1"] + 4, column : column + 4] = nest.mask(tile, (4, 4))
    assert np.array_equal(expected, mask[:9, :7])
