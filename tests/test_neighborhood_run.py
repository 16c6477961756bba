"""Neighbourhood attention on an array: every engine agrees, and the values are those of a mask."""

from math import prod
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import archsim
import einsum_cascade as ec
from archsim import engine, slots
from archsim.blocks import fetches
from archsim.hdl.simulator import run_machine
from archsim.hdl.top import generate
from archsim.neighborhood_blocks import best_lines, lines_of
from archsim.neighborhood_run import lower_neighborhood, run_neighborhood
from archsim.pe import simulate_pe
from archsim.wave import simulate_waves
from einsum_cascade.neighborhood import Neighborhood


@st.composite
def layers(draw):
    """Small layers of one to three dimensions, with tiles for an array of 4 x 4."""
    dims = draw(st.integers(1, 3))
    columns = []
    for _ in range(dims):
        size = draw(st.integers(2, 9 if dims < 3 else 4))
        dilation = draw(st.sampled_from([1, 1, 2])) if size >= 4 else 1
        window = draw(st.integers(2, size // dilation))
        stride = draw(st.integers(1, window))
        columns.append((size, window, stride, dilation, draw(st.booleans())))
    shapes = [t for t in np.ndindex(*(3,) * dims) if prod(n + 1 for n in t) <= 4]
    q_tile, kv_tile = (tuple(n + 1 for n in draw(st.sampled_from(shapes))) for _ in range(2))
    neighborhood = Neighborhood(*zip(*columns, strict=True))
    tiles = neighborhood.tiles(q_tile, kv_tile, draw(st.sampled_from(["static", "dynamic"])))
    orders = [draw(st.permutations(range(dims))) for _ in range(2)]
    entries = draw(st.integers(2, 12))
    lines = lines_of(neighborhood, tiles, entries=entries, q_order=orders[0], kv_order=orders[1])
    return neighborhood, tiles, lines


def dense(neighborhood, q, k, v):
    """Attention under the mask of all pairs, [head, feature, token]."""
    logits = np.einsum("hep,hem->hpm", q, k) / np.sqrt(q.shape[1])
    logits = np.where(neighborhood.mask(), logits, -np.inf)
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.einsum("hpm,hfm->hfp", weights / weights.sum(axis=-1, keepdims=True), v)


@pytest.mark.parametrize("count", [12, pytest.param(300, marks=pytest.mark.slow)])
def test_every_rung_agrees_and_computes_masked_attention(count):
    @settings(max_examples=count, suppress_health_check=list(HealthCheck), deadline=None)
    @given(layers(), st.integers(1, 4), st.integers(1, 3), st.integers(1, 2))
    def agree(layer, E, F, H):
        neighborhood, tiles, lines = layer
        sizes = ec.workload(E=E, F=F, H=H)
        program = lower_neighborhood(neighborhood, tiles, sizes, "fusemax-4x4", lines=lines)
        reference, fast = slots.simulate(program), engine.run_program(program)
        assert (fast.cycles, fast.totals) == (reference.cycles, reference.totals)
        assert dict(fast.occupancy) == dict(reference.occupancy)
        report = archsim.report(fast)
        assert report.lower_bound_cycles <= report.cycles
        assert archsim.simulate(program, level="pe").cycles == reference.cycles
        rng, tokens = np.random.default_rng(E + F), neighborhood.tokens
        q, k = rng.normal(size=(2, H, E, tokens))
        v = rng.normal(size=(H, F, tokens))
        given = {
            "Q": lines.permuted(q, blocks=False)[None],
            "K": lines.permuted(k, blocks=True)[None],
            "V": lines.permuted(v, blocks=True)[None],
        }
        plain, waves = simulate_pe(program, given), simulate_waves(program, given)
        assert waves.timeline.cycles == plain.timeline.cycles == reference.cycles
        assert waves.timeline.facts == plain.timeline.facts
        assert waves.timeline.totals == plain.timeline.totals
        np.testing.assert_array_equal(waves.outputs["AV"], plain.outputs["AV"])
        busy = waves.timeline.totals.active.values()
        assert waves.executed == {task: n for tasks in busy for task, n in tasks.items()}
        found = lines.restored(plain.outputs["AV"][0], tokens)
        np.testing.assert_allclose(found, dense(neighborhood, q, k, v), rtol=0, atol=1e-12)

    agree()


@pytest.mark.parametrize(
    ("shape", "window", "stride", "q_tile", "kv_tile", "tiling"),
    [((9,), (4,), (2,), (4,), (3,), "static"), ((4, 5), (3, 4), (2, 2), (2, 2), (1, 4), "dynamic")],
    ids=["1d-static", "2d-dynamic"],
)
def test_hardware_takes_the_cycles_and_gives_the_bits(
    tmp_path, shape, window, stride, q_tile, kv_tile, tiling
):
    """Mask bits reach the PEs as those of any mask do: nothing in hardware knows of windows."""
    neighborhood = Neighborhood(shape, window, stride)
    tiles = neighborhood.tiles(q_tile, kv_tile, tiling)
    lines = lines_of(neighborhood, tiles, entries=3)
    sizes = ec.workload(E=2, F=2)
    program = lower_neighborhood(neighborhood, tiles, sizes, "fusemax-4x4", lines=lines)
    outcome = run_machine(program.compute_only(), generate(program.compute_only()), tmp_path)
    assert outcome.cycles == outcome.simulated
    assert outcome.cycles_hold, outcome
    assert outcome.values_hold, outcome


@settings(max_examples=60, suppress_health_check=list(HealthCheck), deadline=None)
@given(layers())
def test_the_table_is_the_mask_block_by_block(layer):
    neighborhood, tiles, lines = layer
    blocks, mask = lines.blocks, neighborhood.mask()
    assert blocks.tiles == tiles.visited_sum
    assert blocks.lengths.max() == tiles.visited_max
    assert blocks.kept.sum() == neighborhood.visible_pairs == mask.sum()
    seen = np.zeros(mask.shape, int)
    for line, queries in enumerate(lines.queries):
        for position in range(blocks.lengths[line]):
            keys = lines.keys[blocks.keys[line, position]]
            number = blocks.masks[line, position]
            kept = blocks.mask(number) if number >= 0 else np.ones((len(keys), len(queries)), bool)
            assert kept.sum() == blocks.kept[line, position]
            assert not kept[keys < 0].any()
            assert not kept[:, queries < 0].any()
            inside = np.ix_(queries[queries >= 0], keys[keys >= 0])
            seen[inside] += kept.T[np.ix_(queries >= 0, keys >= 0)]
    assert (seen == mask).all()


def test_the_oldest_block_makes_room():
    """Two blocks are held: 1 pushes nothing out, 2 pushes out 0, which comes back for 1."""
    lines = [[0, 1], [1, 2], [2, 0], [0, 1]]
    assert fetches(lines, 2) == [[True, True], [False, True], [False, True], [False, True]]
    assert fetches(lines, 3) == [[True, True], [False, True], [False, False], [False, False]]


def test_a_buffer_for_the_window_makes_a_layer_compute_bound():
    """FLUX: a row of windows slides by one query tile at a time, so most key tiles are there."""
    neighborhood = Neighborhood((256, 256), (80, 80), (16, 16))
    tiles = neighborhood.tiles((16, 16), (16, 16))
    sizes = ec.workload(E=128, F=128, H=2)
    reports = {}
    for entries in (2, 30):
        program = lower_neighborhood(
            neighborhood, tiles, sizes, "fusemax", entries=entries, kv_order=(1, 0)
        )
        reports[entries] = run_neighborhood(program)
    streamed, kept = reports[2], reports[30]
    dense_bytes = 2 * 2 * neighborhood.tokens * 128 * 2
    assert streamed.traffic_bytes["by_tensor"]["K"] == 25 * dense_bytes // 2
    assert kept.traffic_bytes["by_tensor"]["K"] == 5 * dense_bytes // 2
    assert kept.cycles < streamed.cycles
    assert kept.bottleneck != "dram"
    assert kept.cycles <= 1.02 * kept.lower_bound_cycles


def test_the_best_orders_keep_windows_that_query_tiles_share():
    """Cosmos: all times see all times, so query tiles of one place come one after the other.

    Then rows of 5 places follow each other slowly enough for 48 tiles, two windows of 24, to hold
    whatever comes back: every key is fetched once.
    """
    neighborhood = Neighborhood((16, 44, 80), (16, 24, 16), (1, 8, 16))
    tiles = neighborhood.tiles((4, 4, 16), (4, 4, 16))
    first = lines_of(neighborhood, tiles, entries=48).blocks.loads
    best = best_lines(neighborhood, tiles, entries=48).blocks.loads
    every = neighborhood.tokens // 256
    assert first == 24 * every
    assert best == every


LAYOUTS = {
    "FLUX.1-dev 4K": (256, 256),
    "Cosmos-7B": (16, 44, 80),
    "HunyuanVideo": (30, 48, 80),
}
TILES = {"FLUX.1-dev 4K": (16, 16), "Cosmos-7B": (4, 4, 16), "HunyuanVideo": (4, 8, 8)}
PAGE = (Path(__file__).parents[1] / "docs" / "neighborhoods.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|\n").split("|")]
    for line in PAGE.partition("### Simulated")[2].splitlines()
    if line.startswith("| ") and line.count("|") == 13 and "window" not in line
]


@pytest.mark.parametrize("row", ROWS, ids=[" ".join(row[:4]) for row in ROWS])
def test_the_page_shows_what_runs(row):
    model, window, stride, hold, held, reads, cycles, bound, visible, used, limit, energy = row
    shape = LAYOUTS[model]
    sizes = [tuple(map(int, text.split("x"))) for text in (window, stride)]
    neighborhood = Neighborhood(shape, *sizes)
    tiles = neighborhood.tiles(TILES[model], TILES[model])
    lines = best_lines(neighborhood, tiles, entries=int(hold))
    one_head = ec.workload(E=128, F=128)
    report = run_neighborhood(lower_neighborhood(neighborhood, tiles, one_head, lines=lines))
    words = neighborhood.tokens * 128 * 2
    assert held == f"{report.buffer_bytes['needed'] / 2**20:.1f}"
    assert reads == f"{report.traffic_bytes['by_tensor']['K'] / words:.2f}"
    assert (cycles, bound) == (f"{report.cycles:,}", f"{report.lower_bound_cycles:,}")
    assert visible == f"{tiles.utilization:.3f}"
    assert used == f"{report.utilization['array_2d']:.3f}"
    assert limit == report.bottleneck
    assert energy == f"{report.energy_pj['total'] / 1e12:.2f}"


def test_the_page_has_its_rows():
    assert len(ROWS) == 10


def test_what_does_not_fit_is_refused():
    neighborhood = Neighborhood((30, 48, 80), (18, 24, 24))
    sizes = ec.workload(E=128, F=128)
    tiles = neighborhood.tiles((4, 8, 8), (4, 8, 8))
    with pytest.raises(archsim.ArchError, match=r"200 key tiles need a buffer of .* 16 MiB"):
        lower_neighborhood(neighborhood, tiles, sizes, entries=200)
    wide = neighborhood.tiles((8, 8, 8), (4, 8, 8))
    with pytest.raises(archsim.ArchError, match="P0 = 512 does not fit 256 cols"):
        lower_neighborhood(neighborhood, wide, sizes)
    with pytest.raises(archsim.ArchError, match="p1 and m1 innermost"):
        lower_neighborhood(neighborhood, tiles, sizes, mapping="fusemax")
    with pytest.raises(ValueError, match="does not name each of 3 dimensions once"):
        lines_of(neighborhood, tiles, q_order=(0, 0, 1))
    with pytest.raises(ValueError, match="buffer of 1 blocks"):
        lines_of(neighborhood, tiles, entries=1)
