"""Neighbourhood attention as lines of blocks: query tiles on columns, key tiles on rows.

Tokens are permuted so that a tile of several dimensions is one piece; what a query tile visits is a
box of key tiles, and its masks are products of one small mask per dimension. So a table of a whole
layer is put together from a few rows per dimension, and no mask of tokens times tokens is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations, product
from math import prod
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from archsim.blocks import FULL, Blocks, fetches
from einsum_cascade.neighborhood import Neighborhood
from einsum_cascade.neighborhood_tiles import Tiles, tile_ends

if TYPE_CHECKING:
    from archsim.blocks import Bools, Ints

# The smallest buffer of key blocks: one that is read and one that is on its way.
STREAM = 2


@dataclass(frozen=True)
class Lines:
    """A table of blocks, with the tokens behind it; -1 is padding.

    `queries` is [line, place in the tile], `keys` [block, place in the tile].
    """

    blocks: Blocks
    queries: Ints
    keys: Ints

    def permuted(self, array: NDArray[np.float64], blocks: bool) -> NDArray[np.float64]:
        """Tokens on the last axis brought to the order of lines, or of blocks; padding is 0."""
        order = (self.keys if blocks else self.queries).reshape(-1)
        return np.where(order >= 0, array[..., order], 0.0)

    def restored(self, array: NDArray[np.float64], tokens: int) -> NDArray[np.float64]:
        """Results in the order of lines brought back to that of tokens."""
        order = self.queries.reshape(-1)
        found = np.zeros((*array.shape[:-1], tokens))
        found[..., order[order >= 0]] = array[..., order >= 0]
        return found


def lines_of(
    neighborhood: Neighborhood,
    tiles: Tiles,
    *,
    entries: int = STREAM,
    q_order: Sequence[int] | None = None,
    kv_order: Sequence[int] | None = None,
    gated: bool = True,
) -> Lines:
    """Write the table of a layer.

    Args:
        neighborhood: the windows.
        tiles: what `Neighborhood.tiles` counts: tile shapes, and static or dynamic key tiles.
        entries: blocks of keys that the buffer holds; the oldest makes room.
        q_order: dimensions in the order in which query tiles are visited, the slowest first.
        kv_order: the same for the key tiles of one query tile.
        gated: PEs without a visible pair spend no energy; else all of a tile do.

    Raises:
        ValueError: an order that does not name every dimension once, or a buffer without room.
    """
    dims = range(neighborhood.dimensions)
    orders = [tuple(order) if order is not None else tuple(dims) for order in (q_order, kv_order)]
    for order in orders:
        if sorted(order) != list(dims):
            raise ValueError(f"{order} does not name each of {len(dims)} dimensions once")
    if entries < STREAM:
        raise ValueError(f"a buffer of {entries} blocks can't read one and fetch the next")
    axes = [_axis(neighborhood, tiles, dim) for dim in dims]
    lines: list[tuple[_Line, ...]] = []
    for group in product(*(range(neighborhood.dilation[dim]) for dim in dims)):
        along = [axes[dim].lines[group[dim]] for dim in orders[0]]
        for chosen in product(*along):
            lines.append(tuple(chosen[orders[0].index(dim)] for dim in dims))
    most = max(prod(len(one.keys) for one in line) for line in lines)
    shape = (len(lines), most)
    keys, kept = np.full(shape, -1, np.int64), np.zeros(shape, np.int64)
    masks, lengths = np.full(shape, FULL, np.int64), np.zeros(len(lines), np.int64)
    sizes = [axis.blocks for axis in axes]
    patterns = [len(axis.patterns) for axis in axes]
    pairs = prod(tiles.q_tile) * prod(tiles.kv_tile)
    for n, line in enumerate(lines):
        block, pattern = np.zeros(1, np.int64), np.zeros(1, np.int64)
        count = np.ones(1, np.int64)
        for dim in orders[1]:
            after = prod(sizes[dim + 1 :]), prod(patterns[dim + 1 :])
            block = np.add.outer(block, line[dim].keys * after[0]).ravel()
            pattern = np.add.outer(pattern, line[dim].patterns * after[1]).ravel()
            count = np.multiply.outer(count, axes[dim].kept[line[dim].patterns]).ravel()
        lengths[n] = len(block)
        keys[n, : len(block)], kept[n, : len(block)] = block, count
        masks[n, : len(block)] = np.where(count == pairs, FULL, pattern)
    # Only blocks that somebody visits have a number.
    known, numbers = np.unique(keys[keys >= 0], return_inverse=True)
    keys[keys >= 0] = numbers.reshape(-1)
    visits = [row[:length].tolist() for row, length in zip(keys, lengths.tolist(), strict=True)]
    fetched = np.zeros(shape, np.bool_)
    for n, row in enumerate(fetches(visits, entries)):
        fetched[n, : len(row)] = row
    if not gated:
        kept = np.where(keys >= 0, pairs, 0)

    def mask(number: int) -> Bools:
        found = np.ones((1, 1), np.bool_)
        for dim in dims:
            after = prod(patterns[dim + 1 :])
            found = np.kron(found, axes[dim].patterns[number // after % patterns[dim]])
        return found

    blocks = Blocks("p1", "m1", lengths, keys, kept, masks, fetched, entries, mask)
    queries = np.array([_tokens(neighborhood, [one.queries for one in line]) for line in lines])
    places = [_places(axis, int(n), sizes, dim) for n in known for dim, axis in enumerate(axes)]
    count_dims = len(axes)
    tokens = [
        _tokens(neighborhood, places[k : k + count_dims]) for k in range(0, len(places), count_dims)
    ]
    return Lines(blocks, queries, np.array(tokens))


def best_lines(
    neighborhood: Neighborhood, tiles: Tiles, *, entries: int = STREAM, gated: bool = True
) -> Lines:
    """The table whose order of query tiles fetches least; of equal ones the first.

    Keys come with the dimension slowest along which query tiles go fastest: then the oldest key
    tile is what a window leaves behind as it slides. A buffer that holds no window gains nothing
    from an order, so row-major ones are kept there.
    """
    found = None
    orders = permutations(range(neighborhood.dimensions)) if entries > STREAM else [None]
    for q_order in orders:
        kv_order = None if q_order is None else tuple(reversed(q_order))
        lines = lines_of(
            neighborhood, tiles, entries=entries, q_order=q_order, kv_order=kv_order, gated=gated
        )
        if found is None or lines.blocks.loads < found.blocks.loads:
            found = lines
    assert found is not None
    return found


@dataclass(frozen=True)
class _Line:
    """A query tile along a dimension: its tokens, the blocks of keys it visits, and their masks."""

    queries: Ints
    keys: Ints
    patterns: Ints


@dataclass(frozen=True)
class _Axis:
    """One dimension: query tiles of each dilation group, tokens of blocks, and the small masks."""

    lines: tuple[tuple[_Line, ...], ...]
    tokens: tuple[Ints, ...]
    # Keys on rows; how many pairs each keeps.
    patterns: tuple[Bools, ...]
    kept: Ints

    @property
    def blocks(self) -> int:
        """Blocks of keys along the dimension."""
        return len(self.tokens)


def _axis(neighborhood: Neighborhood, tiles: Tiles, dim: int) -> _Axis:
    q_tile, kv_tile, step = tiles.q_tile[dim], tiles.kv_tile[dim], neighborhood.dilation[dim]
    blocks: dict[tuple[int, int], int] = {}
    tokens: list[Ints] = []
    patterns: dict[bytes, int] = {}
    masks: list[Bools] = []
    every = []
    for group, length in enumerate(neighborhood.groups(dim)):
        starts, ends = neighborhood.intervals(dim, group)
        found = []
        for first, last in zip(*map(np.ndarray.tolist, tile_ends(length, q_tile)), strict=True):
            low, high = int(starts[first]), int(ends[last])
            origin = low if tiles.kv_tiling == "dynamic" else low // kv_tile * kv_tile
            keys, numbers = [], []
            for begin in range(origin, high, kv_tile):
                place = begin + np.arange(kv_tile)
                where = (group, begin)
                if where not in blocks:
                    blocks[where] = len(tokens)
                    tokens.append(np.where(place < length, place * step + group, -1))
                # A dynamic tile ends where the box does; what lies behind belongs to others.
                seen = (place[:, None] >= starts[None, first : last + 1]) & (
                    place[:, None] < ends[None, first : last + 1]
                )
                mask = np.zeros((kv_tile, q_tile), np.bool_)
                mask[:, : last - first + 1] = seen
                number = patterns.setdefault(mask.tobytes(), len(masks))
                if number == len(masks):
                    masks.append(mask)
                keys.append(blocks[where])
                numbers.append(number)
            place = first + np.arange(q_tile)
            queries = np.where(place < length, place * step + group, -1)
            found.append(_Line(queries, np.array(keys), np.array(numbers)))
        every.append(tuple(found))
    kept = np.array([int(mask.sum()) for mask in masks], np.int64)
    return _Axis(tuple(every), tuple(tokens), tuple(masks), kept)


def _places(axis: _Axis, number: int, sizes: Sequence[int], dim: int) -> Ints:
    """Coordinates along a dimension of a block of keys, by its number in the layout."""
    return axis.tokens[number // prod(sizes[dim + 1 :]) % sizes[dim]]


def _tokens(neighborhood: Neighborhood, places: Sequence[Ints]) -> Ints:
    """Row-major numbers of the tokens of a tile; -1 if any coordinate is padding."""
    found = np.zeros(1, np.int64)
    there = np.ones(1, np.bool_)
    for dim, place in enumerate(places):
        found = np.add.outer(found * neighborhood.shape[dim], place).ravel()
        there = np.logical_and.outer(there, place >= 0).ravel()
    return np.where(there, found, -1)


__all__ = ["STREAM", "Lines", "best_lines", "lines_of"]
