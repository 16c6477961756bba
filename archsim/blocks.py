"""Tiles that a table keeps: for each line of queries, which blocks of keys it visits.

A filter of straight lines cuts a nest with limits; a neighbourhood, or any other block-sparse mask,
says block by block what is there. Lines follow one another; along a line the tiles are numbered
from 0, whatever blocks they are, so that each line is one stretch.

Blocks of keys come into a buffer that holds some of them, and the one that came first makes room.
Which of a line's blocks must be fetched follows from the order of visits alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Bools = NDArray[np.bool_]

# The number of the mask of a block that is kept whole.
FULL = -1


@dataclass(frozen=True, eq=False)
class Blocks:
    """Lines of blocks: arrays [line, position], where `lengths` says how many positions are there.

    `outer` and `inner` are the loops over lines and over positions.
    """

    outer: str
    inner: str
    lengths: Ints
    # Which block of keys, how many PEs are busy, and the number of the mask, or FULL.
    keys: Ints
    kept: Ints
    masks: Ints
    # Whether the block is fetched for this tile; blocks of keys that the buffer holds.
    fetched: Bools
    entries: int
    # The mask of a number: [row, column], keys on rows.
    mask: Callable[[int], Bools]

    @property
    def tiles(self) -> int:
        """Tiles of all lines."""
        return int(self.lengths.sum())

    @property
    def count(self) -> int:
        """Different blocks of keys."""
        return int(self.keys.max()) + 1

    @property
    def loads(self) -> int:
        """Blocks of keys that are fetched."""
        return int(self.fetched.sum())

    def has(self, at: Mapping[str, int]) -> bool:
        """True if there is a tile at these coordinates."""
        return at[self.inner] < int(self.lengths[at[self.outer]])

    def of(self, at: Mapping[str, int], table: NDArray[np.generic]) -> int:
        """The entry of a table at some coordinates."""
        return int(table[at[self.outer], at[self.inner]])

    def is_last(self, at: Mapping[str, int]) -> bool:
        """True if the block of a tile is fetched anew before it is visited again, if it ever is."""
        import numpy as np

        line, position = at[self.outer], at[self.inner]
        same = self.keys[line:] == self.of(at, self.keys)
        same &= np.arange(self.keys.shape[1]) < self.lengths[line:, None]
        same[0, : position + 1] = False
        later = np.flatnonzero(same)
        return not later.size or bool(self.fetched[line:].flat[later[0]])


def fetches(lines: Sequence[Sequence[int]], entries: int) -> list[list[bool]]:
    """Which visits find their block missing, if a buffer of `entries` blocks drops the oldest.

    Args:
        lines: the blocks of each line, in the order of visits.
        entries: blocks that the buffer holds.
    """
    held: dict[int, int] = {}
    count = 0
    found = []
    for line in lines:
        row = []
        for block in line:
            missing = block not in held or count - held[block] > entries
            if missing:
                held[block] = count
                count += 1
            row.append(missing)
        found.append(row)
    return found


__all__ = ["FULL", "Blocks", "fetches"]
