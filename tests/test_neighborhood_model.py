"""Strides, tile shapes, residency of keys and permutation: worked examples and brute force."""

import csv
import itertools
import re
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import einsum_cascade as ec
from archsim.kv_residency import residencies
from archsim.stride_sweep import end_to_end, sweep_strides
from archsim.tile_search import fitting_tokens, search_tiles, tile_shapes
from archsim.token_permutation import padded_tokens, permutation_cost, permuted_tokens

GOLDEN = Path(__file__).parent / "golden" / "gna"
SPATIAL = yaml.safe_load((GOLDEN / "spatial_arrays.yaml").read_text(encoding="utf-8"))


def shape(text: str) -> tuple[int, ...]:
    return tuple(int(n) for n in text.split("x"))


def decimals(text) -> float:
    """Half of the last digit that is written, and a little more for floats."""
    _, _, fraction = str(text).partition(".")
    return 0.5001 * 10.0 ** -len(fraction)


@st.composite
def neighborhoods(draw, most=(24, 12, 7), is_strided=True):
    n = draw(st.sampled_from([1, 2, 2, 3]))
    fields = []
    for _ in range(n):
        dilation = draw(st.integers(1, 3))
        size = draw(st.integers(max(2, 2 * dilation), max(most[n - 1], 2 * dilation)))
        window = draw(st.integers(2, size // dilation))
        stride = draw(st.integers(1, window)) if is_strided else 1
        fields.append((size, window, stride, dilation, draw(st.booleans())))
    one = ec.Neighborhood(*zip(*fields, strict=True))
    tiles = [tuple(draw(st.integers(1, 5)) for _ in range(n)) for _ in range(2)]
    return one, *tiles, draw(st.sampled_from(["static", "dynamic"]))


# ---- speedups ----


def test_amdahl_with_dense_steps():
    """60 % attention, four times as fast in 3 of 4 steps: 1 / (0.55 + 0.45 / 4) = 1.509..."""
    assert 1 / (0.55 + 0.1125) == end_to_end(0.6, 4.0, dense_steps=1, steps=4)
    assert 1.0 == end_to_end(0.6, 1.0)
    assert 1 / 0.4 == pytest.approx(end_to_end(0.6, 1e12))


def test_the_tile_model_of_the_33_cases():
    """All columns of the golden table, which another program made."""
    with (GOLDEN / "derived_tile_model.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 33
    for row in rows:
        one = ec.Neighborhood(*(shape(row[key]) for key in ("input_shape", "window", "stride")))
        q, kv = shape(row["q_tile"]), shape(row["kv_tile"])
        static, dynamic = one.tiles(q, kv), one.tiles(q, kv, kv_tiling="dynamic")
        assert int(row["kv_tiles_dense"]) == static.kv_tiles_dense
        assert int(row["n_q_tiles"]) == static.q_tiles
        assert int(row["static_max_visited"]) == static.visited_max
        assert int(row["static_sum_visited"]) == static.visited_sum
        assert int(row["dynamic_max_visited"]) == dynamic.visited_max
        assert int(row["dynamic_sum_visited"]) == dynamic.visited_sum
        for column, ours in (
            ("op_speedup_worst_tile", static.speedup_bound),
            ("op_speedup_mean_with_q_padding", static.speedup_mean),
            ("op_speedup_flopwise", one.flopwise_speedup),
        ):
            assert float(row[column]) == pytest.approx(ours, abs=5.1e-5)
        reads = residencies(one, q, kv)
        for column, residency in zip(
            ("stream", "group_stationary", "slide_last"), reads, strict=False
        ):
            published = float(row[f"kv_read_multiple_{column}"])
            assert published == pytest.approx(residency.reads, abs=5.1e-3)


def all_strides(one, q_tile, kv_tile, kv_tiling):
    """The rule by its words: every stride, and a point stays if it beats all that are no larger."""
    points = []
    for stride in itertools.product(*(range(1, w + 1) for w in one.window)):
        tiles = replace(one, stride=stride).tiles(q_tile, kv_tile, kv_tiling)
        points.append((prod(stride), tiles.visited_max, stride))
    points.sort()
    kept = []
    for queries, most, stride in points:
        if all(most < other for n, other, s in points if n <= queries and s != stride):
            kept.append(stride)
    return kept, points


@given(neighborhoods(most=(24, 8, 4)))
@settings(max_examples=60)
def test_sweep_keeps_what_beats_every_smaller_stride(case):
    """Where two strides of one product do as well, the sweep keeps one and the words none."""
    one, q_tile, kv_tile, kv_tiling = case
    swept = sweep_strides(one, q_tile, kv_tile, kv_tiling)
    kept, points = all_strides(one, q_tile, kv_tile, kv_tiling)
    found = [point.stride for point in swept]
    assert set(kept) <= set(found)
    for point in swept:
        assert point.queries == prod(point.stride)
        most = point.tiles.visited_max
        assert all(most <= m for n, m, _ in points if n <= point.queries)
        if point.stride not in kept:
            assert any((n, m) == (point.queries, most) for n, m, s in points if s != point.stride)
    assert found[0] == (1,) * one.dimensions
    assert swept[-1].tiles.visited_max == min(most for _, most, _ in points)


def test_strides_of_a_line_by_hand():
    """Twelve tokens, window 4, tiles of 4: a stride of 4 is blocked and visits one tile.

    Stride 1: queries 4 to 7 see 2 to 8, three tiles. Strides 2 and 3: leaders 5 and 7, or 4 and 7,
    see 3 to 8, or 2 to 8: three tiles still.
    """
    one = ec.Neighborhood(12, 4)
    assert [((1,), 3), ((4,), 1)] == [
        (point.stride, point.tiles.visited_max) for point in sweep_strides(one, 4, 4)
    ]


# ---- shapes of tiles ----


@pytest.mark.parametrize("row", SPATIAL["utilization"], ids=lambda r: " ".join(r[:3]))
def test_best_shapes_on_spatial_arrays(row):
    one = ec.Neighborhood(*(shape(text) for text in row[:3]))
    n = one.dimensions
    for (rows, keys, tiling), expected in zip(SPATIAL["arrays"], row[3:], strict=True):
        utilization, reads, q_tile, kv_tile = expected
        best = search_tiles(one, tile_shapes(rows, n), tile_shapes(keys, n), (tiling,)).tiles
        assert utilization == pytest.approx(best.utilization, abs=decimals("0.000"))
        assert reads == pytest.approx(best.visited_sum * keys / one.tokens, abs=decimals("0.0"))
        assert (shape(q_tile), shape(kv_tile)) == (best.q_tile, best.kv_tile)


@given(neighborhoods(), st.sampled_from([4, 6, 12]), st.sampled_from([2, 6, 8]))
@settings(max_examples=40)
def test_search_finds_the_least(case, q_tokens, kv_tokens):
    one, *_ = case
    q_shapes, kv_shapes = (tile_shapes(tokens, one.dimensions) for tokens in (q_tokens, kv_tokens))
    strides = [one, replace(one, stride=(1,) * one.dimensions)]
    found = search_tiles(strides, q_shapes, kv_shapes, ("static", "dynamic"))
    every = [
        (choice.tiles(q, kv, tiling).issued_pairs, choice, q, kv, tiling)
        for choice, tiling in itertools.product(strides, ("static", "dynamic"))
        for q, kv in itertools.product(q_shapes, kv_shapes)
    ]
    best = min(every, key=lambda entry: entry[0])
    tiles = found.tiles
    assert best == (
        tiles.issued_pairs,
        found.neighborhood,
        tiles.q_tile,
        tiles.kv_tile,
        tiles.kv_tiling,
    )
    assert found.evaluated == len(every)


def test_shapes_of_twelve_tokens():
    assert [(1, 12), (2, 6), (3, 4), (4, 3), (6, 2), (12, 1)] == tile_shapes(12, 2)
    assert [(7,)] == tile_shapes(7, 1)
    # A choice for each of the eight factors 2.
    assert 45 == len(tile_shapes(256, 3))


def test_nothing_to_search():
    with pytest.raises(ValueError, match="no tiles to choose from"):
        search_tiles(ec.Neighborhood(8, 4), [], [(2,)])


def test_tiles_shrink_to_small_layouts():
    assert 256 == fitting_tokens(ec.Neighborhood((30, 48, 80), (18, 24, 24)), 256)
    assert 32 == fitting_tokens(ec.Neighborhood((6, 7), (2, 2)), 256)
    assert 2 == fitting_tokens(ec.Neighborhood(7, 2, 1, 3), 256)


# ---- where keys stay ----


@pytest.mark.parametrize("row", SPATIAL["residency"], ids=lambda r: " ".join(r[:3]))
def test_residency_table(row):
    one = ec.Neighborhood(*(shape(text) for text in row[:3]))
    found = residencies(one, *(shape(text) for text in row[3:5]))
    assert len(found) == len(row[5:]) == one.dimensions + 2
    for (megabytes, reads), residency in zip(row[5:], found, strict=True):
        assert megabytes == pytest.approx(residency.rule_keys * 512 / 1e6, abs=decimals(megabytes))
        assert reads == pytest.approx(residency.reads, abs=decimals(reads))


def test_where_the_rule_is_wrong():
    """Cosmos, stride 1 x 8 x 16, query tiles 8 x 4 x 8: windows move by 16, not by 8.

    Along the last dimension two neighbouring windows cover 32 keys where the rule has 16 + 8; along
    all, the first dimension's window is all there is, where the rule adds a query tile to it.
    """
    one = ec.Neighborhood((16, 44, 80), (16, 24, 16), (1, 8, 16))
    *_, last, last_two, every = residencies(one, (8, 4, 8), (4, 4, 8))
    assert (16 * 24 * 32, 16 * 24 * 24) == (last.held_keys, last.rule_keys)
    assert (16 * 32 * 80, 16 * 28 * 80) == (last_two.held_keys, last_two.rule_keys)
    assert one.tokens == every.held_keys < every.rule_keys
    hunyuan = ec.Neighborhood((30, 48, 80), (18, 24, 24), (16, 8, 8))
    every = residencies(hunyuan, (4, 8, 8), (2, 8, 8))[-1]
    # Two windows from both ends: all 30 frames.
    assert (30 * 48 * 80, 22 * 48 * 80) == (every.held_keys, every.rule_keys)


def walk(one, q_tile, kv_tile, kv_tiling):
    """Key sets of query tiles, from the mask, per dilation group, in row-major order."""
    mask = one.mask().reshape(*one.shape, *one.shape)
    n = one.dimensions
    for group in itertools.product(*(range(d) for d in one.dilation)):
        steps = tuple(slice(g, None, d) for g, d in zip(group, one.dilation, strict=True))
        part = mask[steps + steps]
        tiles = {}
        corners = itertools.product(
            *(range(-(-size // t)) for size, t in zip(part.shape[:n], q_tile, strict=True))
        )
        for at in corners:
            rows = tuple(slice(i * t, (i + 1) * t) for i, t in zip(at, q_tile, strict=True))
            seen = part[rows].any(axis=tuple(range(n)))
            # The box around what is seen, in whole tiles if they are static.
            axes = [sorted(set(axis.tolist())) for axis in seen.nonzero()]
            grain = kv_tile if kv_tiling == "static" else (1,) * n
            tiles[at] = [
                set(range(axis[0] // t * t, (axis[-1] // t + 1) * t))
                for axis, t in zip(axes, grain, strict=True)
            ]
        yield tiles


@given(neighborhoods(most=(20, 9, 6)))
@settings(max_examples=100)
def test_residency_by_walking(case):
    """Execute each policy: hold what it says it holds, and count what is loaded."""
    one, q_tile, kv_tile, kv_tiling = case
    n = one.dimensions
    stream = kept = kept_room = 0
    sliding = [0] * n
    room = [0] * n
    for tiles in walk(one, q_tile, kv_tile, kv_tiling):
        boxes = {at: frozenset(itertools.product(*axes)) for at, axes in tiles.items()}
        stream += sum(map(len, boxes.values()))
        kept += sum(map(len, set(boxes.values())))
        kept_room = max(kept_room, *map(len, boxes.values()))
        for edge in range(n):
            # Outside `edge` one row of query tiles after the other; inside it all tiles at once.
            held, row = set(), None
            groups = {}
            for at, box in boxes.items():
                groups.setdefault(at[: edge + 1], set()).update(box)
            previous = None
            for at, keys in groups.items():
                if at[:edge] != row:
                    held, row, previous = set(), at[:edge], None
                sliding[edge] += len(keys - held)
                # While one box is in use, what the next one adds arrives.
                room[edge] = max(room[edge], len(keys | (previous or set())))
                held = previous = keys
    first, second, *slides = residencies(one, q_tile, kv_tile, kv_tiling)
    assert stream == first.read_keys
    assert (kept, kept_room) == (second.read_keys, second.held_keys)
    assert sliding[::-1] == [slide.read_keys for slide in slides]
    # Two boxes that do not touch (static tiles skip none) cannot be: the hull is the union.
    assert room[::-1] == [slide.held_keys for slide in slides]


# ---- permutation ----


def test_permutation_by_hand():
    """Five tokens in tiles of two with dilation two: groups 0 2 4 and 1 3, padded to four each."""
    one = ec.Neighborhood(5, 2, 1, 2)
    assert [[[0, 2], [4, -1]], [[1, 3], [-1, -1]]] == permuted_tokens(one, 2).tolist()
    assert 8 == padded_tokens(one, (2,))


@given(neighborhoods())
def test_every_token_is_once_in_the_permutation(case):
    one, tile, _, _ = case
    found = permuted_tokens(one, tile)
    assert (prod(one.dilation), prod(tile)) == (found.shape[0], found.shape[2])
    assert padded_tokens(one, tile) == found.size
    real = found[found >= 0]
    assert list(range(one.tokens)) == sorted(real.tolist())
    # A tile holds neighbours: coordinates of one group, within the tile's extents.
    for group in found:
        for tokens in group:
            inside = tokens[tokens >= 0]
            if inside.size:
                for axis, extent, step in zip(
                    np.unravel_index(inside, one.shape), tile, one.dilation, strict=True
                ):
                    assert len(set((axis % step).tolist())) == 1
                    blocks = axis // step // extent
                    assert len(set(blocks.tolist())) == 1


@given(neighborhoods())
@settings(max_examples=60)
def test_tiles_of_the_permuted_mask_are_those_counted(case):
    """Permute the mask into tiles: blocks with a visible pair, of each query tile."""
    one, q_tile, kv_tile, _ = case
    queries, keys = permuted_tokens(one, q_tile), permuted_tokens(one, kv_tile)
    # One more row and column, of nothing, for padding.
    mask = np.pad(one.mask(), (0, 1))
    visited = []
    for q_group, kv_group in zip(queries, keys, strict=True):
        for q_tokens in q_group:
            if (q_tokens >= 0).any():
                blocks = mask[q_tokens][:, kv_group].any(axis=(0, 2))
                visited.append(int(blocks.sum()))
    tiles = one.tiles(q_tile, kv_tile)
    assert (sum(visited), max(visited)) == (tiles.visited_sum, tiles.visited_max)
    assert len(visited) == tiles.q_tiles
    # Every group, whatever its length, has as many key tiles as the longest.
    assert keys.shape[1] == tiles.kv_tiles_dense


def test_offsets_in_key_tiles_need_the_size_of_key_tiles():
    """A permuted key index is split by the size of its own tile; NATTEN's flex mask takes the
    query tile's. That is harmless only as long as both tiles hold as many tokens.
    """
    one = ec.Neighborhood((8, 8), (4, 4))
    keys = permuted_tokens(one, (2, 4)).ravel()

    def token(index: int, size: int) -> int:
        """The token at an index, with offsets in tiles of 2 x 4 taken modulo `size`."""
        (row, column), (i, j) = divmod(index // 8, 2), divmod(index % size, 4)
        return (row * 2 + i) * 8 + column * 4 + j

    assert keys.tolist() == [token(index, 8) for index in range(64)]
    assert keys.tolist() != [token(index, 16) for index in range(64)]


def test_cost_of_a_permutation():
    """Hunyuan: 30 frames in query tiles of 4 are padded to 32, in key tiles of 2 they are not."""
    one = ec.Neighborhood((30, 48, 80), (18, 24, 24))
    cost = permutation_cost(one, (4, 8, 8), (2, 8, 8), heads=24, head_dim=128)
    tensor = 30 * 48 * 80 * 24 * 128 * 2
    assert (8 * tensor, 4 * tensor) == (cost.unpadded_bytes, cost.read_bytes)
    assert 3 * tensor + tensor * 32 // 30 == cost.written_bytes
    grouped = permutation_cost(one, (2, 8, 8), (2, 8, 8), heads=24, head_dim=128, kv_heads=8)
    assert 4 * tensor + 4 * tensor // 3 == grouped.total_bytes == grouped.unpadded_bytes
    # One dimension without dilation is in order already.
    line = ec.Neighborhood(100, 10)
    assert 0 == permutation_cost(line, 16, 16, heads=1, head_dim=64).total_bytes
    dilated = ec.Neighborhood(100, 10, 1, 3)
    cost = permutation_cost(dilated, 16, 16, heads=1, head_dim=64, word_bytes=4)
    assert (144 - 100) * 3 * 64 * 4 == cost.total_bytes - cost.unpadded_bytes


@pytest.mark.parametrize("function", [residencies, sweep_strides])
def test_tiles_that_cannot_be(function):
    with pytest.raises(ec.CascadeError, match=re.escape("kv_tile: (2,) has 1 dimensions")):
        function(ec.Neighborhood((8, 8), (4, 4)), (2, 2), (2,))
