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

from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import prod

import numpy as np
from numpy.typing import NDArray

from einsum_cascade.errors import legal_words
from einsum_cascade.neighborhood import Neighborhood, intervals

KV_TILINGS = ("static", "dynamic")


@dataclass(frozen=True, slots=True)
class Tiles:
    """Key tiles that query tiles visit. Sums run over all query tiles of all dilation groups."""

    q_tile: tuple[int, ...]
    kv_tile: tuple[int, ...]
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
    # Pairs of tokens that are computed, padding included, and those that are visible.
    issued_pairs: int
    visible_pairs: int
    tokens: int

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
    neighborhood: Neighborhood,
    q_tile: tuple[int, ...] | int,
    kv_tile: tuple[int, ...] | int,
    kv_tiling: str = "static",
) -> Tiles:
    """Count the key tiles that query tiles visit.

    Args:
        neighborhood: the windows.
        q_tile: queries of a tile in each dimension.
        kv_tile: keys of a tile in each dimension.
        kv_tiling: "static" or "dynamic".

    Raises:
        ValueError: tiles that do not fit the layout's dimensions, or an unknown tiling.
    """
    q_tile = _shape("q_tile", q_tile, neighborhood)
    kv_tile = _shape("kv_tile", kv_tile, neighborhood)
    if kv_tiling not in KV_TILINGS:
        hint = legal_words(kv_tiling, KV_TILINGS, "tilings of keys")
        raise ValueError(f"unknown kv_tiling '{kv_tiling}'; {hint}")
    lines = [
        _line(
            neighborhood.shape[dim],
            neighborhood.window[dim],
            neighborhood.stride[dim],
            neighborhood.dilation[dim],
            neighborhood.causal[dim],
            q_tile[dim],
            kv_tile[dim],
        )
        for dim in range(neighborhood.dimensions)
    ]
    here = [line.static if kv_tiling == "static" else line.dynamic for line in lines]
    visited = prod(count.visited for count in here)
    return Tiles(
        q_tile,
        kv_tile,
        kv_tiling,
        prod(line.q_tiles for line in lines),
        prod(line.dense for line in lines),
        visited,
        prod(count.most for count in here),
        prod(line.static.full for line in lines),
        visited - prod(count.full for count in here),
        visited * prod(q_tile) * prod(kv_tile),
        neighborhood.visible_pairs,
        neighborhood.tokens,
    )


@dataclass(frozen=True, slots=True)
class _Count:
    """Key tiles of all query tiles along a dimension, of the one with most, and full ones."""

    visited: int
    most: int
    full: int


@dataclass(frozen=True, slots=True)
class _Line:
    """One dimension: query tiles, key tiles without a mask, and what is visited."""

    q_tiles: int
    dense: int
    static: _Count
    dynamic: _Count


@lru_cache(maxsize=65536)
def _line(
    size: int, window: int, stride: int, dilation: int, causal: bool, q_tile: int, kv_tile: int
) -> _Line:
    """Count along one dimension, over all dilation groups."""
    q_tiles = 0
    sums = np.zeros((2, 3), np.int64)
    # Groups have one of two lengths.
    lengths = [-(-(size - group) // dilation) for group in range(dilation)]
    for length in dict.fromkeys(lengths):
        first, last = tile_ends(length, q_tile)
        q_tiles += lengths.count(length) * len(first)
        starts, ends = intervals(length, window, stride, causal)
        low, high = starts[first], ends[last]
        # What every query of the tile sees: starts and ends grow with the query.
        inner_low, inner_high = starts[last], ends[first]
        for row, origin in enumerate((0, low)):
            begin = (low - origin) // kv_tile
            end = -(-(high - origin) // kv_tile)
            begin_full = -(-(inner_low - origin) // kv_tile)
            # The last tile of the layout, or of the box, is full without the keys it lacks.
            whole = length - origin if row == 0 else high - origin
            end_full = np.where(
                inner_high - origin >= whole, -(-whole // kv_tile), (inner_high - origin) // kv_tile
            )
            visited, full = end - begin, np.maximum(0, end_full - begin_full)
            sums[row, 0] += lengths.count(length) * int(visited.sum())
            sums[row, 1] = max(sums[row, 1], int(visited.max()))
            sums[row, 2] += lengths.count(length) * int(full.sum())
    dense = -(-lengths[0] // kv_tile)
    static, dynamic = (_Count(*(int(number) for number in row)) for row in sums)
    return _Line(q_tiles, dense, static, dynamic)


def tile_ends(length: int, tile: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last token of every tile of a line; the last one may be ragged."""
    first = np.arange(0, length, tile, dtype=np.int64)
    return first, np.minimum(first + tile, length) - 1


def count_flat_tiles(neighborhood: Neighborhood, q_tile: int, kv_tile: int) -> Tiles:
    """Count tiles of tokens in row-major order: what a kernel for sequences would visit.

    A query tile visits each key tile with a visible pair; tiles are full as in `Tiles`. Takes
    O(query tiles x tokens).
    """
    neighborhood = Neighborhood(**{f: getattr(neighborhood, f) for f in _FIELDS})
    tokens = neighborhood.tokens
    lines = [neighborhood.visible(dim) for dim in range(neighborhood.dimensions)]
    kv_starts = np.arange(0, tokens, kv_tile)
    visited_sum = visited_max = full_sum = 0
    for first in range(0, tokens, q_tile):
        seen = np.zeros(tokens, np.bool_)
        common = np.ones(tokens, np.bool_)
        for outer, queries in _rows(neighborhood.shape, first, min(first + q_tile, tokens)):
            rows = np.ones(1, np.bool_)
            for line, coordinate in zip(lines, outer, strict=False):
                rows = np.kron(rows, line[coordinate])
            last = lines[-1][queries]
            seen |= np.kron(rows, last.any(axis=0))
            common &= np.kron(rows, last.all(axis=0))
        visited = np.logical_or.reduceat(seen, kv_starts)
        full_sum += int(np.logical_and.reduceat(common, kv_starts).sum())
        visited_sum += int(visited.sum())
        visited_max = max(visited_max, int(visited.sum()))
    return Tiles(
        (q_tile,), (kv_tile,), "static", -(-tokens // q_tile), len(kv_starts), visited_sum,
        visited_max, full_sum, visited_sum - full_sum, visited_sum * q_tile * kv_tile,
        neighborhood.visible_pairs, tokens,
    )  # fmt: skip


_FIELDS = ("shape", "window", "stride", "dilation", "causal")


def _rows(shape: tuple[int, ...], first: int, end: int) -> list[tuple[tuple[int, ...], slice]]:
    """Stretches of row-major tokens: coordinates of all dimensions but the last, and a slice."""
    width = shape[-1]
    found = []
    for row in range(first // width, -(-end // width)):
        at = tuple(int(i) for i in np.unravel_index(row, shape[:-1])) if len(shape) > 1 else ()
        found.append((at, slice(max(0, first - row * width), min(width, end - row * width))))
    return found


def _shape(
    name: str, tile: tuple[int, ...] | int, neighborhood: Neighborhood
) -> tuple[int, ...]:
    found = (tile,) if isinstance(tile, int) else tuple(tile)
    if len(found) != neighborhood.dimensions or any(size < 1 for size in found):
        dims = neighborhood.dimensions
        raise ValueError(f"{name} {found} is no tile of {dims} dimension{'s' if dims > 1 else ''}")
    return found


def tile_shapes(size: int, dimensions: int) -> list[tuple[int, ...]]:
    """Every shape of tiles of `size` tokens in some dimensions, powers of two or not."""
    divisors = [n for n in range(1, size + 1) if size % n == 0]
    found = product(divisors, repeat=dimensions - 1)
    return [
        (*shape, size // prod(shape)) for shape in found if size % prod(shape) == 0
    ]


__all__ = ["KV_TILINGS", "Tiles", "count_flat_tiles", "count_tiles", "tile_ends", "tile_shapes"]
