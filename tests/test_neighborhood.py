"""Windows and tiles of neighbourhood attention: NATTEN's masks, brute force, and its hazards."""

import csv
import gzip
import hashlib
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import einsum_cascade as ec
from einsum_cascade.neighborhood_lines import Line, pairs_seen
from einsum_cascade.neighborhood_tiles import count_flat_tiles

GOLDEN = Path(__file__).parent / "golden" / "gna"
with gzip.open(GOLDEN / "window_vectors.json.gz") as file:
    VECTORS = json.load(file)
FIELDS = {"input": "shape", "window": "window", "stride": "stride", "dilation": "dilation"}


def of(vector) -> ec.Neighborhood:
    fields = {ours: tuple(vector[theirs]) for theirs, ours in FIELDS.items()}
    return ec.Neighborhood(**fields, causal=tuple(vector["causal"]))


# ---- NATTEN's own masks ----


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["id"])
def test_windows_are_nattens(vector):
    one = of(vector)
    mask = one.mask()
    assert vector["n_tokens"] == one.tokens
    assert vector["mask_sha256"] == hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()
    assert vector["mask_nnz"] == one.visible_pairs == mask.sum()
    per_dim = [one.keys_seen(dim) for dim in range(one.dimensions)]
    rows = mask.sum(axis=1)
    assert vector["row_nnz_min"] == np.prod([least for _, least, _ in per_dim]) == rows.min()
    assert vector["row_nnz_max"] == np.prod([most for _, _, most in per_dim]) == rows.max()
    assert vector["first_last_kv_coord"] == [one.first_last(dim) for dim in range(one.dimensions)]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["id"])
def test_tiles_are_those_of_nattens_masks(vector):
    one = of(vector)
    for expected in vector["tiles"]:
        static = one.tiles(expected["q_tile"], expected["kv_tile"])
        dynamic = one.tiles(expected["q_tile"], expected["kv_tile"], kv_tiling="dynamic")
        assert expected["kv_tiles_dense_per_group"] == static.kv_tiles_dense
        assert expected["n_q_tiles"] == static.q_tiles == dynamic.q_tiles
        for kind in ("static_range", "static_natten_literal", "exact_nonempty"):
            assert expected[f"{kind}_sum"] == static.visited_sum
            assert expected[f"{kind}_max"] == static.visited_max
        assert expected["dynamic_sum"] == dynamic.visited_sum
        assert expected["dynamic_max"] == dynamic.visited_max
        # `full_sum` speaks of static tiles whatever the tiling.
        assert expected["exact_full_sum"] == static.full_sum == dynamic.full_sum
        is_sparse = expected["exact_full_sum"] == expected["exact_nonempty_sum"]
        assert is_sparse == static.block_sparse
        # Here, and not everywhere, NATTEN's predicate says the same: see below.
        assert static.block_sparse == expected["natten_fully_block_sparse"]
        assert static.block_sparse == natten_predicate(one, static.q_tile, static.kv_tile)
    for expected in vector["flat_1d_tiling"]:
        flat = count_flat_tiles(one.lines, expected["tq"], expected["tkv"])
        assert expected["n_q_tiles"] == flat.q_tiles
        assert expected["kv_tiles_dense"] == flat.kv_tiles_dense
        assert expected["exact_nonempty_sum"] == flat.visited_sum
        assert expected["exact_nonempty_max"] == flat.visited_max


def test_every_vector_and_pair_is_there():
    """The two tests above run over all of them."""
    assert len(VECTORS) == 174
    pairs = [tiles for vector in VECTORS for tiles in vector["tiles"]]
    flat = [tiles for vector in VECTORS for tiles in vector["flat_1d_tiling"]]
    assert len(pairs) == 753
    assert {1, 2, 3} == {len(vector["input"]) for vector in VECTORS}
    assert any(vector["stride"][0] % 2 == 0 and vector["stride"][0] > 1 for vector in VECTORS)
    assert flat


# ---- worked examples ----

# First and last key of every query, in query order; `xN`: N queries in a row.
EXAMPLES = """
X=10 W=5                 0-4 x3, 1-5, 2-6, 3-7, 4-8, 5-9 x3
X=9  W=4                 0-3 x3, 1-4, 2-5, 3-6, 4-7, 5-8 x2
X=12 W=6 S=2             0-5 x4, 2-7 x2, 4-9 x2, 6-11 x4
X=12 W=6 S=3             0-5 x3, 1-6 x3, 4-9 x3, 6-11 x3
X=12 W=4 S=4             0-3 x4, 4-7 x4, 8-11 x4
X=10 W=4 S=4             0-3 x4, 4-7 x4, 6-9 x2
X=8  W=5 S=2             0-4 x2, 1-5 x2, 3-7 x4
X=9  W=5 S=4             0-4 x4, 4-8 x5
X=15 W=9 S=6             0-8 x6, 5-13 x6, 6-14 x3
X=10 W=4 causal          0-0, 0-1, 0-2, 0-3, 1-4, 2-5, 3-6, 4-7, 5-8, 6-9
X=10 W=4 S=2 causal      0-0, 0-1, 0-2, 0-3, 2-4, 2-5, 4-6, 4-7, 6-8, 6-9
X=8  W=3 S=3 causal      0-0, 0-1, 0-2, 3-3, 3-4, 3-5, 5-6, 5-7
X=7  W=2 d=3             0-3, 1-4, 2-5, 0-3, 1-4, 2-5, 3-6
X=11 W=5 d=2             0-8, 1-9, 0-8, 1-9, 0-8, 1-9, 2-10, 1-9, 2-10, 1-9, 2-10
X=14 W=3 S=3 d=3         0-6, 1-7, 2-8, 0-6, 1-7, 2-8, 0-6, 1-7, 2-8, 6-12, 7-13, 5-11, 6-12, 7-13
X=9  W=3 S=2 d=3 causal  0-0, 1-1, 2-2, 0-3, 1-4, 2-5, 0-6, 1-7, 2-8
X=10 W=2 S=2 d=4 causal  0-0, 1-1, 2-2, 3-3, 0-4, 1-5, 2-6, 3-7, 4-8, 5-9
"""


def shown(pairs: list[list[int]]) -> str:
    """Write intervals as EXAMPLES do."""
    runs = [(pair, len(list(run))) for pair, run in itertools.groupby(pairs)]
    return ", ".join(f"{a}-{b}" + (f" x{count}" if count > 1 else "") for (a, b), count in runs)


@pytest.mark.parametrize("example", EXAMPLES.strip().splitlines())
def test_examples(example):
    case, expected = re.split(r"\s{2,}(?=\d)", example, maxsplit=1)
    sizes = {key: int(size) for key, size in re.findall(r"(\w)=(\d+)", case)}
    one = Line(
        sizes["X"], sizes["W"], sizes.get("S", 1), sizes.get("d", 1), causal="causal" in case
    )
    assert expected == shown(one.first_last())


def test_window_over_everything_is_dense():
    one = ec.Neighborhood((4, 6), (4, 6))
    assert one.mask().all()
    assert (one.sparsity, one.flopwise_speedup) == (0.0, 1.0)
    assert one.tiles((2, 2), (2, 3)).block_sparse


def test_blocked_windows_shift_back_at_the_end():
    """Ten tokens in blocks of four: the last block has four keys, too, where Swin would pad."""
    mask = ec.Neighborhood(10, 4, 4).mask()
    assert mask.sum(axis=1).tolist() == [4] * 10
    assert mask[8].nonzero()[0].tolist() == [6, 7, 8, 9]


def test_seeing_is_not_mutual():
    mask = ec.Neighborhood(10, 5).mask()
    assert mask[0, 4]
    assert not mask[4, 0]


def test_numbers_of_hunyuan_video():
    """30 x 48 x 80 tokens in 18 x 24 x 24 windows, query tiles 4 x 8 x 8, key tiles 2 x 8 x 8.

    Dense: 15 * 6 * 10 = 900 key tiles. With strides 16 x 8 x 8 a query tile lies in one stride
    group and its window starts at a tile: 9 * 3 * 3 = 81, for each of the 8 * 6 * 10 query tiles.
    """
    one = ec.Neighborhood((30, 48, 80), (18, 24, 24), (16, 8, 8))
    tiles = one.tiles((4, 8, 8), (2, 8, 8))
    assert (900, 81, 480, 81 * 480) == (
        tiles.kv_tiles_dense,
        tiles.visited_max,
        tiles.q_tiles,
        tiles.visited_sum,
    )
    assert tiles.block_sparse
    assert tiles.full_sum == tiles.visited_sum
    assert tiles.speedup_bound == 900 / 81
    # 30 tokens are 7.5 query tiles: the mean pays for the padding.
    assert tiles.speedup_mean == pytest.approx(900 / 81 * 30 / 32)
    assert tiles.utilization == 30 / 32


@pytest.mark.parametrize(("q_tile", "at_one"), [(256, 18), (128, 17)])
def test_smallest_block_sparse_stride_of_the_documented_sequence(q_tile, at_one):
    """32768 tokens, window 2048: NATTEN's documentation names stride 256."""

    def tiles(stride: int):
        return ec.Neighborhood(32768, 2048, stride).tiles(q_tile, 128)

    assert (at_one, at_one, 16) == tuple(tiles(s).visited_max for s in (1, 128, 256))
    # Much smaller strides are sparse in nothing: powers of two are what one would choose.
    assert [False] * 8 + [True] * 4 == [tiles(2**n).block_sparse for n in range(12)]


# ---- brute force ----


@st.composite
def line_fields(draw, most: int = 24):
    dilation = draw(st.integers(1, 4))
    size = draw(st.integers(max(2, 2 * dilation), max(most, 2 * dilation)))
    window = draw(st.integers(2, size // dilation))
    stride = draw(st.integers(1, window))
    return size, window, stride, dilation, draw(st.booleans())


def seen_by(x: int, size: int, window: int, stride: int, dilation: int, causal: bool) -> set[int]:
    """The keys of one query, from the definition and nothing else."""
    mine = [k for k in range(size) if k % dilation == x % dilation]
    u = mine.index(x)
    group = [v for v in range(len(mine)) if v // stride == u // stride]
    if causal:
        leader = group[-1]
        return {mine[v] for v in range(max(0, leader - window + 1), u + 1)}
    # A whole group's centre, to the right if it is even, unless the line ends before.
    leader = min(group[0] + stride // 2, len(mine) - 1)
    # As many keys as the window: nearest to the leader, the left one first where two are as near.
    order = sorted(range(len(mine)), key=lambda v: (abs(v - leader), v))
    return {mine[v] for v in order[:window]}


@given(line_fields())
def test_windows_are_the_nearest_keys(fields):
    line = Line(*fields)
    visible = line.visible()
    for x in range(line.size):
        assert seen_by(x, *fields) == set(visible[x].nonzero()[0].tolist())
    total, least, most = line.keys_seen()
    rows = visible.sum(axis=1)
    assert (rows.sum(), rows.min(), rows.max()) == (total, least, most)
    assert total == sum(
        pairs_seen(length, line.window, line.stride, line.causal) for length in line.groups()
    )


def brute_force_tiles(one: ec.Neighborhood, q_tile, kv_tile, kv_tiling):
    """Visited and full tiles of every query tile, from the mask."""
    mask = one.mask().reshape(*one.shape, *one.shape)
    n = one.dimensions
    visited, full = [], []
    for group in itertools.product(*(range(d) for d in one.dilation)):
        # Tokens of the group in every dimension, on both sides.
        steps = tuple(slice(g, None, d) for g, d in zip(group, one.dilation, strict=True))
        part = mask[steps + steps]
        lengths = part.shape[:n]
        for first in itertools.product(
            *(range(0, size, t) for size, t in zip(lengths, q_tile, strict=True))
        ):
            rows = part[tuple(slice(f, f + t) for f, t in zip(first, q_tile, strict=True))]
            any_row = rows.any(axis=tuple(range(n)))
            every_row = rows.all(axis=tuple(range(n)))
            origin = (0,) * n
            if kv_tiling == "dynamic":
                origin = tuple(int(axis.min()) for axis in any_row.nonzero())
            ends = tuple(int(axis.max()) + 1 for axis in any_row.nonzero())
            stops = ends if kv_tiling == "dynamic" else lengths
            count = whole = 0
            corners = zip(origin, stops, kv_tile, strict=True)
            for corner in itertools.product(*(range(o, s, t) for o, s, t in corners)):
                box = tuple(
                    slice(c, min(c + t, s)) for c, t, s in zip(corner, kv_tile, stops, strict=True)
                )
                count += bool(any_row[box].any())
                whole += bool(every_row[box].all())
            visited.append(count)
            full.append(whole)
    return visited, full


@st.composite
def tiled(draw):
    n = draw(st.sampled_from([1, 2, 2, 3]))
    fields = [draw(line_fields({1: 24, 2: 11, 3: 6}[n])) for _ in range(n)]
    one = ec.Neighborhood(*zip(*fields, strict=True))
    tiles = [tuple(draw(st.integers(1, 7)) for _ in range(n)) for _ in range(2)]
    return one, *tiles, draw(st.sampled_from(["static", "dynamic"]))


@given(tiled())
@settings(max_examples=150)
def test_tiles_by_brute_force(case):
    one, q_tile, kv_tile, kv_tiling = case
    visited, full = brute_force_tiles(one, q_tile, kv_tile, kv_tiling)
    tiles = one.tiles(q_tile, kv_tile, kv_tiling=kv_tiling)
    assert len(visited) == tiles.q_tiles
    assert sum(visited) == tiles.visited_sum
    assert max(visited) == tiles.visited_max
    assert sum(visited) - sum(full) == tiles.partial_sum
    assert (visited == full) == tiles.block_sparse
    if kv_tiling == "static":
        assert sum(full) == tiles.full_sum


@given(tiled())
@settings(max_examples=40)
def test_flat_tiles_by_brute_force(case):
    one, (q_tile, *_), (kv_tile, *_), _ = case
    mask = one.mask()
    starts = range(0, one.tokens, q_tile)
    blocks = [
        [mask[a : a + q_tile, b : b + kv_tile] for b in range(0, one.tokens, kv_tile)]
        for a in starts
    ]
    flat = count_flat_tiles(one.lines, q_tile, kv_tile)
    visited = [sum(bool(block.any()) for block in row) for row in blocks]
    assert (sum(visited), max(visited)) == (flat.visited_sum, flat.visited_max)
    assert sum(bool(block.all()) for row in blocks for block in row) == flat.full_sum
    assert one.visible_pairs == flat.visible_pairs


@given(line_fields(64), st.integers(1, 9), st.integers(1, 9))
def test_a_window_of_whole_tiles_is_sparse_in_dynamic_tiles(fields, q, kv):
    """The paper's rule: stride a multiple of the query tile, window one of the key tile."""
    size, window, stride, dilation, _ = fields
    window, stride = max(1, window // kv) * kv, max(1, stride // q) * q
    if not (2 <= window <= size // dilation and stride <= window):
        return
    tiles = ec.Neighborhood(size, window, stride, dilation).tiles(q, kv, kv_tiling="dynamic")
    assert tiles.block_sparse
    assert tiles.visited_sum == tiles.q_tiles * window // kv


# ---- what is refused ----


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((4, 4), (2,)), "window: (2,) has 1 dimensions\n  shape has 2"),
        (((4,) * 4, (2,) * 4), "shape: (4, 4, 4, 4) has 4 dimensions\n  1, 2 or 3 are possible"),
        (((), ()), "shape: () has 0 dimensions\n  1, 2 or 3 are possible"),
        ((1, 2), "shape: 1 in dimension 0 is too small\n  at least 2 is needed"),
        (((8, 8), (2, 1)), "window: 1 in dimension 1 is too small\n  at least 2 is needed"),
        ((8, 9), "window: 9 in dimension 0 is more than its 8 tokens\n  at most 8 is possible"),
        (
            (8, 4, 1, 3),
            "window: 4 x dilation 3 in dimension 0 is more than its 8 tokens\n  at most 2",
        ),
        ((8, 4, 5), "stride: 5 in dimension 0 is more than the window, 4\n  keys between windows"),
        ((8, 4, 0), "stride: 0 in dimension 0 is too small\n  at least 1 is needed"),
        ((8, 4, 1, 0), "dilation: 0 in dimension 0 is too small\n  at least 1 is needed"),
        ((8, 4.0), "window: 4.0 is not possible\n  window holds whole numbers"),
        ((8, True), "window: True is not possible\n  window holds whole numbers"),
        ((8, 4, 1, 1, (2,)), "causal: 2 is not possible\n  causal holds True and False"),
    ],
)
def test_windows_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        ec.Neighborhood(*arguments)


def test_every_mistake_is_named_at_once():
    with pytest.raises(ec.CascadeError) as error:
        ec.Neighborhood((8, 4), (9, 1), (1, 2), (1, 0))
    places = [problem.source.file for problem in error.value.problems]
    assert ["window", "window", "dilation", "stride"] == places


def test_one_number_is_one_dimension():
    assert ec.Neighborhood(np.int64(8), 4, 2, 1, True) == ec.Neighborhood(
        (8,), (4,), (2,), (1,), (1,)
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((2,), (2, 2)), "q_tile: (2,) has 1 dimensions\n  shape has 2"),
        (((0, 2), (2, 2)), "q_tile: (0, 2) is no tile\n  tiles have whole numbers of tokens"),
        (((2, 2), (2, 1.5)), "kv_tile: (2, 1.5) is no tile"),
        ((2, 2), "kv_tile: (2,) has 1 dimensions"),
        (
            ((2, 2), (2, 2), "dynamo"),
            "kv_tiling: unknown tiling 'dynamo'\n  tilings of keys: static",
        ),
    ],
)
def test_tiles_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        ec.Neighborhood((8, 8), (4, 4)).tiles(*arguments)


def test_large_masks_are_refused():
    one = ec.Neighborhood((256, 256), (80, 80))
    with pytest.raises(ValueError, match="65536 x 65536 tokens is too large to write out"):
        one.mask()
    assert one.visible_pairs == 65536 * 6400


# ---- what went wrong elsewhere: written down here, so that it cannot come in ----


def natten_predicate(one: ec.Neighborhood, q_tile, kv_tile) -> bool:
    """NATTEN 0.21's test for masks that may be skipped; it is not the definition."""

    def holds(line: Line, q: int, kv: int, length: int) -> bool:
        if line.causal:
            return False
        if length == line.window:
            return True
        middle = line.window // 2 - line.stride // 2
        last = (length - 1) // line.stride * line.stride
        leader = min(last + line.stride // 2, length - 1)
        start = min(max(leader - line.window // 2, 0), length - line.window)
        two_at_the_ends = (
            length % kv == 0
            and -(-length // line.stride) == 2
            and line.stride + line.stride // 2 >= length - line.window
        )
        return (
            line.stride % q == 0
            and line.window % kv == 0
            and (length % line.stride == 0 or start % kv == 0)
            and (middle % kv == 0 or two_at_the_ends)
        )

    rows = zip(one.lines, q_tile, kv_tile, strict=True)
    return all(holds(line, q, kv, n) for line, q, kv in rows for n in set(line.groups()))


def test_nattens_predicate_is_wrong_for_odd_strides():
    """Eight tokens, window 4, stride 1, one query a tile: query 3 sees 1 to 4, so tiles of two
    keys are cut; the predicate only asks whether 4 // 2 - 1 // 2 is even.
    """
    one = ec.Neighborhood(8, 4)
    assert natten_predicate(one, (1,), (2,))
    tiles = one.tiles(1, 2)
    assert not tiles.block_sparse
    assert one.first_last(0)[3] == [1, 4]
    assert tiles.partial_sum == 4


def predicate_against_definition(size: int, q: int, kv: int) -> tuple[int, int]:
    """How often the predicate holds below a size, and how often wrongly."""
    every = (
        (x, window, stride)
        for x in range(2, size)
        for window in range(2, x + 1)
        for stride in range(1, window + 1)
    )
    flagged = [one for one in every if natten_predicate(ec.Neighborhood(*one), (q,), (kv,))]
    wrong = [one for one in flagged if not ec.Neighborhood(*one).tiles(q, kv).block_sparse]
    return len(flagged), len(wrong)


def test_where_nattens_predicate_differs():
    """With one query a tile it is wrong for some odd strides; with two or more it is only timid."""
    assert (261, 42) == predicate_against_definition(17, 1, 2)
    for q, kv in ((2, 2), (2, 4), (4, 2)):
        assert predicate_against_definition(17, q, kv)[1] == 0
    # Every window here starts at an aligned edge, though the predicate sees a leader off the grid.
    timid = ec.Neighborhood(56, 48, 24)
    assert timid.tiles(8, 8).block_sparse
    assert not natten_predicate(timid, (8,), (8,))


def test_tile_shapes_that_natten_ships_with_a_single_query():
    """Where the predicate can be wrong: all of them are backward and three-dimensional."""
    with (GOLDEN / "natten_tile_shapes.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["kv_tiling"] == "static"]
    pairs = [(row, *(row[key].split("x") for key in ("q_tile", "kv_tile"))) for row in rows]
    exposed = {
        (row["q_tile"], row["kv_tile"], row["direction"])
        for row, q_tile, kv_tile in pairs
        if any(q == "1" != kv for q, kv in zip(q_tile, kv_tile, strict=True))
    }
    assert exposed == {
        ("1x8x16", "4x4x8", "backward"),
        ("1x8x16", "2x8x8", "backward"),
        ("1x8x8", "2x8x8", "backward"),
    }


@pytest.mark.slow
@pytest.mark.parametrize(("kv", "expected"), [(2, (28997, 6468)), (4, (9268, 1311))])
def test_how_often_nattens_predicate_is_wrong(kv, expected):
    """All sizes below 97, one query a tile."""
    assert expected == predicate_against_definition(97, 1, kv)


def test_block_list_of_the_first_group_misses_tiles_of_shorter_ones():
    """255 tokens of dilation 2 are groups of 128 and 127, in windows and strides of 64.

    The second window starts at 64 in the first group, and at 63 = 127 - 64 in the other, whose
    second query tile therefore needs the first key tile, too. A list made from group 0 lacks it.
    """
    one = ec.Neighborhood(255, 64, 64, 2)
    assert one.groups(0) == (128, 127)
    starts = [one.intervals(0, group)[0][64] for group in (0, 1)]
    assert starts == [64, 63]
    tiles = one.tiles(64, 64)
    group0 = ec.Neighborhood(128, 64, 64).tiles(64, 64)
    assert (group0.visited_sum, group0.block_sparse) == (2, True)
    assert tiles.visited_sum == 2 + 3
    assert not tiles.block_sparse


def test_even_strides_take_the_leader_right_of_the_centre():
    """Stride 1 cannot tell left from right; twelve tokens in strides of 2 can."""

    def starts(stride: int, shift: int) -> list[int]:
        leaders = [min(u // stride * stride + shift, 11) for u in range(12)]
        return [min(max(leader - 3, 0), 6) for leader in leaders]

    for stride, differs in ((1, False), (2, True), (3, False), (4, True)):
        right = ec.Neighborhood(12, 6, stride).intervals(0)[0].tolist()
        assert right == starts(stride, stride // 2)
        assert differs == (right != starts(stride, (stride - 1) // 2))
    # NATTEN's own masks have enough even strides to tell.
    even = [v for v in VECTORS if any(s % 2 == 0 for s in v["stride"]) and not any(v["causal"])]
    assert len(even) >= 30
