"""The tiles of a nest in order: which there are, how far each fills the array, what comes before.

A filter such as `m <= p` is a limit: a sum of coefficients times variables that may not fall below
zero. Tiles in which it keeps no point are left out, if leaving them out changes nothing; a tile in
which it keeps some is partial. Along a loop the tiles that are left form one stretch, because
limits are straight. A value that an earlier tile made is that of the nearest one that is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, product
from typing import TYPE_CHECKING

from archsim.blocks import FULL, Blocks

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Loop:
    """One loop of the nest over tiles, the outermost first."""

    variable: str
    count: int


@dataclass(frozen=True, slots=True)
class Limit:
    """A point is kept if the sum of coefficient * variable, and the constant, is not negative.

    Variables are loops of the nest and those on rows and columns: for `m <= p` with m split into
    m1, m0 and p into p1, p0 that is P0 p1 + p0 - M0 m1 - m0 >= 0. If it `skips`, a tile in which it
    keeps no point is left out; else such a tile is there, with every PE masked.
    """

    terms: tuple[tuple[str, int], ...]
    constant: int = 0
    skips: bool = True

    def of(self, variable: str) -> int:
        """Coefficient of a variable."""
        return dict(self.terms).get(variable, 0)


@dataclass(frozen=True, slots=True)
class Tile:
    """A point of the nest: its linear index and coordinates, and how much of the array it fills.

    `offsets` has an entry for each limit: its value at the first row and column if some points of
    the tile fail it, None if none does; `mask` is the number of its mask in a table of blocks.
    """

    index: int
    at: tuple[tuple[str, int], ...]
    rows: int
    cols: int
    offsets: tuple[int | None, ...] = ()
    mask: int = FULL

    @property
    def is_partial(self) -> bool:
        """True if a limit, or a table of blocks, leaves out some of its points."""
        return self.mask != FULL or any(offset is not None for offset in self.offsets)


@dataclass(frozen=True, slots=True)
class Span:
    """A variable along an axis of the array: PEs that it may fill, and elements there are in all.

    `steps` has, for each loop over its tiles, the elements from one coordinate to the next.
    """

    variable: str
    room: int
    elements: int
    steps: tuple[tuple[str, int], ...]

    def filled(self, at: dict[str, int]) -> int:
        """Rows or columns that hold elements in a tile; negative behind the end of the rank."""
        return min(self.room, self.elements - sum(step * at.get(v, 0) for v, step in self.steps))


@dataclass(frozen=True)
class Nest:
    """Loops, the variables that fill the array, and what cuts tiles off.

    `spans` says for each of rows and cols: the variable, PEs along it, and the elements of its rank
    with the loops over its tiles, each with the elements from one coordinate to the next.
    """

    loops: tuple[Loop, ...]
    rows: Span
    cols: Span
    limits: tuple[Limit, ...] = ()
    blocks: Blocks | None = None

    def tile(self, index: int, at: dict[str, int]) -> Tile | None:
        """The tile at a point; None if it holds nothing."""
        rows, cols = self.rows.filled(at), self.cols.filled(at)
        if rows <= 0 or cols <= 0 or (self.blocks is not None and not self.blocks.has(at)):
            return None
        offsets: list[int | None] = []
        for limit in self.limits:
            first = limit.constant + sum(c * at.get(v, 0) for v, c in limit.terms)
            ends = [limit.of(self.rows.variable) * (rows - 1)]
            ends.append(limit.of(self.cols.variable) * (cols - 1))
            if limit.skips and first + sum(max(0, end) for end in ends) < 0:
                return None
            whole = first + sum(min(0, end) for end in ends) >= 0
            offsets.append(None if whole else first)
        mask = FULL if self.blocks is None else self.blocks.of(at, self.blocks.masks)
        return Tile(index, tuple(at.items()), rows, cols, tuple(offsets), mask)

    def tiles(self, most: int | None = None) -> tuple[Tile, ...]:
        """Every tile in order, or at most so many."""
        return tuple(islice(self._tiles(), most))

    def _tiles(self) -> Iterator[Tile]:
        names = [loop.variable for loop in self.loops]
        found = 0
        for point in product(*(range(loop.count) for loop in self.loops)):
            tile = self.tile(found, dict(zip(names, point, strict=True)))
            if tile is not None:
                found += 1
                yield tile

    def mask(self, tile: Tile, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Which PEs of an array of that many rows and columns hold points that are kept."""
        import numpy as np

        r, c = np.arange(shape[0])[:, None], np.arange(shape[1])[None, :]
        kept = (r < tile.rows) & (c < tile.cols)
        for limit, offset in zip(self.limits, tile.offsets, strict=True):
            if offset is not None:
                along = limit.of(self.rows.variable) * r + limit.of(self.cols.variable) * c
                kept = kept & (offset + along >= 0)
        if self.blocks is not None and tile.mask != FULL:
            block = self.blocks.mask(tile.mask)[: shape[0], : shape[1]]
            kept[: block.shape[0], : block.shape[1]] &= block
        return kept


def acting(
    nest: Nest, tiles: Iterable[Tile], when: dict[str, str], *, whole: bool
) -> tuple[int, ...]:
    """Tiles on which a task acts that does so on the first or last tile of some loops.

    Args:
        nest: where they come from.
        tiles: all of its tiles, or those of its beginning.
        when: "first" or "last" by loop variable.
        whole: False if `tiles` are the beginning only: a last tile may lie behind it.
    """
    if not when:
        return tuple(tile.index for tile in tiles)
    found: dict[tuple[int, ...], tuple[tuple[int, ...], Tile]] = {}
    for tile in tiles:
        group = tuple(c for loop, c in tile.at if loop not in when)
        # The earliest in loops of which the first is wanted, the latest in the others.
        late = tuple(c if when[v] == "last" else -c for v, c in tile.at if v in when)
        if group not in found or late > found[group][0]:
            found[group] = late, tile
    chosen = (tile for _, tile in found.values())
    return tuple(sorted(t.index for t in chosen if whole or not _is_followed(nest, t, when)))


def _is_followed(nest: Nest, tile: Tile, when: dict[str, str]) -> bool:
    """True if some tile of the nest is a better first or last one, in those loops."""
    counts = {loop.variable: loop.count for loop in nest.loops if loop.variable in when}
    at = dict(tile.at)
    names = list(counts)
    for i, name in enumerate(names):
        better = range(at[name] + 1, counts[name]) if when[name] == "last" else range(at[name])
        outside = ((at[other],) for other in names[:i])
        inside = (range(counts[other]) for other in names[i + 1 :])
        for point in product(*outside, better, *inside):
            if nest.tile(0, {**at, **dict(zip(names, point, strict=True))}) is not None:
                return True
    return False


def mask_table(
    nest: Nest, tiles: Iterable[Tile], shape: tuple[int, int]
) -> tuple[NDArray[np.bool_], tuple[int, ...]]:
    """The different masks of tiles, [mask, row, column], and which one each tile has.

    Most tiles share a few: the full one, ragged ends, and those along the edge of a filter.
    """
    import numpy as np

    numbers: dict[tuple[object, ...], int] = {}
    masks: dict[bytes, int] = {}
    table: list[NDArray[np.bool_]] = []
    found = []
    for tile in tiles:
        key = (tile.rows, tile.cols, tile.offsets, tile.mask)
        if key not in numbers:
            mask = nest.mask(tile, shape)
            numbers[key] = masks.setdefault(mask.tobytes(), len(table))
            if numbers[key] == len(table):
                table.append(mask)
        found.append(numbers[key])
    return np.array(table, dtype=np.bool_).reshape(-1, *shape), tuple(found)


def span(
    variable: str,
    sizes: dict[str, int],
    partitions: Iterable[tuple[str, tuple[str, ...]]],
) -> Span:
    """The span of a variable: a whole rank, or a part of a split one; "" is one place.

    Only the last part of a split has a ragged end; any other is there in full in every tile.
    """
    room = sizes.get(variable.upper(), 1)
    for whole, parts in partitions:
        if variable.upper() == parts[-1]:
            step, steps = room, []
            for part in reversed(parts[:-1]):
                steps.append((part.lower(), step))
                step *= sizes[part]
            return Span(variable, room, sizes[whole], tuple(reversed(steps)))
    return Span(variable, room, room, ())
