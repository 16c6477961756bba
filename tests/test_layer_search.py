"""What a layer costs before it runs, and the search that uses it: against runs of every choice."""

from dataclasses import replace
from functools import cache
from itertools import permutations, product
from math import inf, prod

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

import archsim
import einsum_cascade as ec
from archsim.arch import load_architecture, with_shape
from archsim.kv_residency import residencies
from archsim.layer_costs import Visits, count, layer_costs
from archsim.layer_search import search_layers
from archsim.neighborhood_blocks import lines_of
from archsim.neighborhood_run import lower_neighborhood, run_neighborhood
from archsim.simulation import simulate
from archsim.tile_search import tile_shapes
from einsum_cascade.neighborhood import Neighborhood


def machine(slower=1, rows=4, cols=8):
    """A small machine, and one whose memory limits everything."""
    chip = with_shape(load_architecture("fusemax"), rows, cols)
    memories = tuple(
        replace(m, bandwidth_bytes_per_s=m.bandwidth_bytes_per_s // slower) if not m.parent else m
        for m in chip.memories
    )
    return replace(chip, memories=memories)


SIZES = ec.workload(H=1, E=3, F=5)


@st.composite
def layers(draw):
    """Neighbourhoods in one or two dimensions with tiles of 8 queries by 4 keys."""
    dims = draw(st.integers(1, 2))
    shape = tuple(draw(st.integers(2, 9)) for _ in range(dims))
    dilation = tuple(draw(st.integers(1, max(1, size // 4))) for size in shape)
    window = tuple(
        draw(st.integers(2, size // step)) for size, step in zip(shape, dilation, strict=True)
    )
    stride = tuple(draw(st.integers(1, size)) for size in window)
    causal = tuple(draw(st.booleans()) for _ in range(dims))
    tiles = [draw(st.sampled_from(tile_shapes(tokens, dims))) for tokens in (8, 4)]
    tiling = draw(st.sampled_from(["static", "dynamic"]))
    one = Neighborhood(shape, window, stride, dilation, causal)
    return one, one.tiles(*tiles, tiling), draw(st.integers(2, 9)), draw(st.booleans())


@settings(deadline=None, max_examples=25, phases=(Phase.explicit, Phase.generate))
@given(layers())
@example((Neighborhood((2,), (2,)), Neighborhood((2,), (2,)).tiles((8,), (4,)), 2, False))
def test_costs_are_those_of_the_run(given_layer):
    """From a Program of another layer: slots, bytes and the bound to the digit, and energy."""
    one, tiles, entries, gated = given_layer
    sample = Neighborhood((8,), (8,))
    costs = layer_costs(lower_neighborhood(sample, sample.tiles((8,), (4,)), SIZES, machine()))
    lines = lines_of(one, tiles, entries=entries, gated=gated)
    program = lower_neighborhood(one, tiles, SIZES, machine(), lines=lines)
    blocks = lines.blocks
    visits = Visits(blocks.tiles, len(blocks.lengths), int(blocks.kept.sum()), blocks.loads)
    timeline, counted = simulate(program), count(program, visits)
    assert counted.slots == timeline.totals.slots
    assert counted.active == timeline.totals.active
    assert counted.moved == timeline.totals.moved
    report = run_neighborhood(program)
    assert costs.cycles(visits) == report.lower_bound_cycles <= report.cycles
    assert costs.energy_pj(visits) == pytest.approx(report.energy_pj["total"], rel=1e-12)


@cache
def every_run(name, slower, room):
    """Simulate every stride, shape, tiling, order and policy; nothing here is bounded or cut."""
    return list(_every_run(LAYERS[name], machine(slower), room))


def _every_run(strides, chip, room):
    for one, tiling in product(strides, ("static", "dynamic")):
        dims = one.dimensions
        for q, kv in product(tile_shapes(8, dims), tile_shapes(4, dims)):
            tiles = one.tiles(q, kv, tiling)
            for order in permutations(range(dims)):
                policies = residencies(one, q, kv, tiling, order)
                held = {max(2, -(-policy.held_keys // prod(kv))) for policy in policies} | {room}
                for entries in sorted(held):
                    keys = order if entries == 2 else order[::-1]
                    lines = lines_of(one, tiles, entries=entries, q_order=order, kv_order=keys)
                    if entries <= room:
                        program = lower_neighborhood(one, tiles, SIZES, chip, lines=lines)
                        yield run_neighborhood(program)


LAYERS = {
    "line": [Neighborhood((23,), (9,), (s,)) for s in (1, 3)],
    "plane": [Neighborhood((3, 7), (2, 4), (1, 1)), Neighborhood((3, 7), (2, 4), (1, 3))],
    "dilated": [Neighborhood((6, 4), (3, 3), (2, 1), (2, 1), (False, True))],
}
# Bytes of two key tiles and what queries need, and of key tiles: room for as many.
BASE, TILE = 336, 4 * (3 + 5) * 2


@pytest.mark.parametrize("objective", ["cycles", "energy"])
@pytest.mark.parametrize("slower", [1, 200], ids=["compute-bound", "memory-bound"])
@pytest.mark.parametrize(
    ("name", "room"),
    [("line", 3), ("plane", 4), pytest.param("dilated", 4, marks=pytest.mark.slow)],
)
def test_the_winner_is_that_of_all_runs(name, room, slower, objective):
    chip, strides = machine(slower), LAYERS[name]
    dims = strides[0].dimensions
    found = search_layers(
        strides,
        tile_shapes(8, dims),
        tile_shapes(4, dims),
        SIZES,
        chip,
        objective=objective,
        buffer_bytes=BASE + (room - 2) * TILE,
        most_runs=None,
    )
    runs = every_run(name, slower, room)
    values = [run.cycles if objective == "cycles" else run.energy_pj["total"] for run in runs]
    assert found.best.value(objective) == pytest.approx(min(values), rel=1e-12)
    assert found.rest == inf
    assert found.gain == 0
    assert len(found.tried) < len(runs)
    assert found.best.report.buffer_bytes["needed"] <= BASE + (room - 2) * TILE


def test_a_budget_of_runs_says_what_it_missed():
    """One run: whatever the full search finds beyond it lies within what is said."""
    strides, shapes = LAYERS["plane"], (tile_shapes(8, 2), tile_shapes(4, 2))
    limit = BASE + TILE
    full = search_layers(strides, *shapes, SIZES, machine(200), buffer_bytes=limit, most_runs=None)
    for runs in (1, 2, 5):
        short = search_layers(
            strides, *shapes, SIZES, machine(200), buffer_bytes=limit, most_runs=runs
        )
        assert len(short.tried) <= runs
        assert short.tables <= 8 * runs
        best, right = short.best.report.cycles, full.best.report.cycles
        assert right >= min(short.rest, best) >= best * (1 - short.gain) - 1e-6


def test_allowed_strides_and_tilings_are_all_that_is_tried():
    one = Neighborhood((12,), (6,), (1,))
    found = search_layers(
        one, [(8,)], [(4,)], SIZES, machine(), kv_tilings=("dynamic",), most_runs=None
    )
    assert {t.choice.neighborhood for t in found.tried} == {one}
    assert {t.choice.kv_tiling for t in found.tried} == {"dynamic"}
    assert found.shapes == 1


def test_what_can_not_be_searched_is_refused():
    one = Neighborhood((12,), (6,))
    with pytest.raises(archsim.ArchError, match="unknown objective 'cycle'"):
        search_layers(one, [(8,)], [(4,)], SIZES, machine(), objective="cycle")
    with pytest.raises(archsim.ArchError, match=r"two key tiles need 336 B"):
        search_layers(one, [(8,)], [(4,)], SIZES, machine(), buffer_bytes=335)
    with pytest.raises(ValueError, match="tiles of one size are due"):
        search_layers(one, [(8,)], [(4,), (2,)], SIZES, machine())
    with pytest.raises(ValueError, match="no tiles to choose from"):
        search_layers([], [(8,)], [(4,)], SIZES, machine())
