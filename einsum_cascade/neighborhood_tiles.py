"""Tiles of neighbourhood attention: how many key tiles each query tile must visit.

Tokens are permuted so that a tile of several dimensions is one piece of memory; a query tile
visits a box of key tiles. In each dimension, and each dilation group, that is an interval, so
counts of boxes are products of counts of intervals, and their sums products of sums.

*Static* key tiles are cut from the layout's origin (bulk copies need that), *dynamic* ones from
the first key that the query tile needs.

Source: the tile model of Generalized Neighborhood Attention (arXiv 2504.16922), whose simulator was
never released: rebuilt from its definitions, and compared with NATTEN's masks pair by pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np
from numpy.typing import NDArray

from einsum_cascade.errors import CascadeError, Problem, Source, legal_words
from einsum_cascade.neighborhood_lines import Ints, Line, pairs_seen, windows_of

KV_TILINGS = ("static", "dynamic")
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Tiles:
    """Key tiles that query tiles visit. Sums run over all query tiles of all dilation groups."""

    q_tile: Shape
    kv_tile: Shape
    kv_tiling: str
    # Query tiles that hold a query, and key tiles of one dilation group without a mask.
    q_tiles: int
    kv_tiles_dense: int
    # Key tiles of all query tiles, and of the one that visits most.
    visited_sum: int
    visited_max: int
    # Of the static key tiles, those of which every query of the tile sees every key.
    full_sum: int
    # Of the visited ones, those that need a mask.
    partial_sum: int
    visible_pairs: int
    tokens: int

    @property
    def issued_pairs(self) -> int:
        """Pairs of a query and a key that are computed, masked ones and padding included."""
        return self.visited_sum * prod(self.q_tile) * prod(self.kv_tile)

    @property
    def block_sparse(self) -> bool:
        """True if every visited tile is full: no mask at all."""
        return self.partial_sum == 0

    @property
    def speedup_bound(self) -> float:
        """Over dense attention, if all query tiles take as long as the one that visits most."""
        return self.kv_tiles_dense / self.visited_max

    @property
    def speedup_mean(self) -> float:
        """Over dense attention without padding, if query tiles follow each other."""
        return self.tokens**2 / self.issued_pairs

    @property
    def utilization(self) -> float:
        """Visible pairs over those that are computed."""
        return self.visible_pairs / self.issued_pairs


def count_tiles(
    lines: Sequence[Line],
    q_tile: Sequence[int] | int,
    kv_tile: Sequence[int] | int,
    kv_tiling: str = "static",
) -> Tiles:
    """Count the key tiles that query tiles visit.

    Args:
        lines: the dimensions of a neighbourhood.
        q_tile: queries of a tile in each dimension.
        kv_tile: keys of a tile in each dimension.
        kv_tiling: "static" or "dynamic".

    Raises:
        CascadeError: with everything that is wrong with the tiles; it is a ValueError.
    """
    q_tile, kv_tile = checked_tiles(len(lines), q_tile, kv_tile, kv_tiling)
    counts = [
        count_line(line, *shape, kv_tiling)
        for line, *shape in zip(lines, q_tile, kv_tile, strict=True)
    ]
    visited = prod(count.visited for count in counts)
    return Tiles(
        q_tile,
        kv_tile,
        kv_tiling,
        q_tiles=prod(count.q_tiles for count in counts),
        kv_tiles_dense=prod(count.dense for count in counts),
        visited_sum=visited,
        visited_max=prod(count.most for count in counts),
        full_sum=prod(count.full_static for count in counts),
        partial_sum=visited - prod(count.full for count in counts),
        visible_pairs=prod(count.pairs for count in counts),
        tokens=prod(line.size for line in lines),
    )


def checked_tiles(
    dimensions: int,
    q_tile: Sequence[int] | int,
    kv_tile: Sequence[int] | int,
    kv_tiling: str = "static",
) -> tuple[Shape, Shape]:
    """Return both tiles as tuples; one number is a tile of one dimension.

    Raises:
        CascadeError: with everything that is wrong with the tiles; it is a ValueError.
    """
    shapes = [(t,) if isinstance(t, int | np.integer) else tuple(t) for t in (q_tile, kv_tile)]
    problems = []
    for name, shape in zip(("q_tile", "kv_tile"), shapes, strict=True):
        if len(shape) != dimensions:
            message, hint = f"{shape} has {len(shape)} dimensions", f"shape has {dimensions}"
            problems.append(Problem(Source(name), message, hint=hint))
        if not all(isinstance(n, int | np.integer) and n >= 1 for n in shape):
            hint = "tiles have whole numbers of tokens, at least 1 in each dimension"
            problems.append(Problem(Source(name), f"{shape} is no tile", hint=hint))
    if kv_tiling not in KV_TILINGS:
        hint = legal_words(kv_tiling, KV_TILINGS, "tilings of keys")
        problems.append(Problem(Source("kv_tiling"), f"unknown tiling '{kv_tiling}'", hint=hint))
    if problems:
        raise CascadeError(problems)
    q_shape, kv_shape = (tuple(int(n) for n in shape) for shape in shapes)
    return q_shape, kv_shape


@dataclass(frozen=True, slots=True)
class LineCount:
    """Tiles along one dimension, over all dilation groups; `Tiles` has products of these."""

    q_tiles: int
    dense: int
    visited: int
    most: int
    # Full tiles of the tiling at hand, and of the static one.
    full: int
    full_static: int
    pairs: int


@lru_cache(maxsize=65536)
def count_line(line: Line, q_tile: int, kv_tile: int, kv_tiling: str) -> LineCount:
    """Count along one dimension, over all dilation groups."""
    groups = line.groups()
    q_tiles = visited = most = full = full_static = pairs = 0
    # Groups have one of two lengths.
    for length in dict.fromkeys(groups):
        times = groups.count(length)
        one = boxes(length, line, q_tile, kv_tile, kv_tiling)
        count = (one.end - one.begin) // kv_tile
        q_tiles += times * len(count)
        visited += times * int(count.sum())
        most = max(most, int(count.max()))
        full += times * one.full
        if kv_tiling != "static":
            one = boxes(length, line, q_tile, kv_tile, "static")
        full_static += times * one.full
        pairs += times * pairs_seen(length, line.window, line.stride, line.causal)
    return LineCount(q_tiles, -(-groups[0] // kv_tile), visited, most, full, full_static, pairs)


@dataclass(frozen=True, slots=True)
class Boxes:
    """Keys that each query tile of a dilation group visits along a dimension, in whole tiles."""

    begin: Ints
    end: Ints
    # Tiles of all query tiles that need no mask.
    full: int


def boxes(length: int, line: Line, q_tile: int, kv_tile: int, kv_tiling: str) -> Boxes:
    """The keys of every query tile of a group of `length` tokens; they grow with the tile."""
    first, last = tile_ends(length, q_tile)
    windows = (length, line.window, line.stride, line.causal)
    # Starts and ends grow with the query: the first decides where the box begins, the last where it
    # ends, and the other way round what every query of the tile sees.
    low, inner_high = windows_of(first, *windows)
    inner_low, high = windows_of(last, *windows)
    origin = low if kv_tiling == "dynamic" else np.zeros_like(low)
    begin = origin + (low - origin) // kv_tile * kv_tile
    end = origin - (origin - high) // kv_tile * kv_tile
    inner_begin = origin - (origin - inner_low) // kv_tile * kv_tile
    inner_end = origin + (inner_high - origin) // kv_tile * kv_tile
    # The last tile of the layout, or of a dynamic box, is full without the keys it lacks.
    real_end = np.minimum(end, high if kv_tiling == "dynamic" else length)
    inner_end = np.where(inner_high >= real_end, end, inner_end)
    full = np.maximum(0, inner_end - inner_begin) // kv_tile
    return Boxes(begin, end, int(full.sum()))


def show_shape(shape: Sequence[int]) -> str:
    """Write a shape as people do: `4x8x8`."""
    return "x".join(str(size) for size in shape)


def read_shape(text: str) -> Shape:
    """Read a shape that is written `4x8x8`.

    Raises:
        ValueError: there is something else than whole numbers and x between them.

    Example:
        >>> read_shape("4x8x8")
        (4, 8, 8)
    """
    parts = text.strip().split("x")
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise ValueError(f"'{text}' is no shape")
    return tuple(int(part) for part in parts)


def tile_ends(length: int, tile: int) -> tuple[Ints, Ints]:
    """First and last token of every tile of a line; the last one may be ragged."""
    first = np.arange(0, length, tile, dtype=np.int64)
    return first, np.minimum(first + tile, length) - 1


def count_flat_tiles(lines: Sequence[Line], q_tile: int, kv_tile: int) -> Tiles:
    """Count tiles of tokens in row-major order: what a kernel for sequences would visit.

    A query tile visits each key tile with a visible pair; tiles are full as in `Tiles`. Takes
    O(query tiles x tokens).
    """
    checked_tiles(1, q_tile, kv_tile)
    shape = tuple(line.size for line in lines)
    tokens = prod(shape)
    visible = [line.visible() for line in lines]
    kv_starts = np.arange(0, tokens, kv_tile)
    visited_sum = visited_max = full_sum = 0
    for first in range(0, tokens, q_tile):
        seen = np.zeros(tokens, np.bool_)
        common = np.ones(tokens, np.bool_)
        for outer, queries in _rows(shape, first, min(first + q_tile, tokens)):
            rows: NDArray[np.bool_] = np.ones(1, np.bool_)
            for sees, coordinate in zip(visible, outer, strict=False):
                rows = np.kron(rows, sees[coordinate])
            last = visible[-1][queries]
            seen |= np.kron(rows, last.any(axis=0))
            common &= np.kron(rows, last.all(axis=0))
        visited = int(np.logical_or.reduceat(seen, kv_starts).sum())
        full_sum += int(np.logical_and.reduceat(common, kv_starts).sum())
        visited_sum += visited
        visited_max = max(visited_max, visited)
    return Tiles(
        (q_tile,),
        (kv_tile,),
        "static",
        q_tiles=-(-tokens // q_tile),
        kv_tiles_dense=len(kv_starts),
        visited_sum=visited_sum,
        visited_max=visited_max,
        full_sum=full_sum,
        partial_sum=visited_sum - full_sum,
        visible_pairs=prod(line.keys_seen()[0] for line in lines),
        tokens=tokens,
    )


def _rows(shape: Shape, first: int, end: int) -> list[tuple[Shape, slice]]:
    """Stretches of row-major tokens: coordinates of all dimensions but the last, and a slice."""
    width = shape[-1]
    found = []
    for row in range(first // width, -(-end // width)):
        at = tuple(int(i) for i in np.unravel_index(row, shape[:-1])) if len(shape) > 1 else ()
        found.append((at, slice(max(0, first - row * width), min(width, end - row * width))))
    return found


__all__ = [
    "KV_TILINGS",
    "Boxes",
    "LineCount",
    "Shape",
    "Tiles",
    "boxes",
    "checked_tiles",
    "count_flat_tiles",
    "count_line",
    "count_tiles",
    "read_shape",
    "show_shape",
    "tile_ends",
]
