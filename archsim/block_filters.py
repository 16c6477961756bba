"""What a table of blocks leaves of the tiles: points, steps and words, counted as in `filters`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

from archsim.blocks import Blocks
from archsim.nest import Limit


@dataclass(frozen=True, eq=False)
class BlockFilters:
    """A table of blocks, and the variables on rows and columns, which every tile fills."""

    blocks: Blocks
    rows: str
    cols: str

    @property
    def limits(self) -> tuple[Limit, ...]:
        """A table has no straight limits."""
        return ()

    def work(
        self, einsum: str, leaves: Sequence[str], extents: Mapping[str, int]
    ) -> tuple[int, int]:
        """Points of an Einsum, and steps; see `Filters.work`."""
        loops, filled, words = self._parts(leaves, extents)
        steps = words * self._tiles(loops)
        if {self.rows, self.cols} <= set(filled) and len(loops) == 2:
            return words * int(self.blocks.kept.sum()), steps
        return steps * prod(extents[v.upper()] for v in filled), steps

    def words(self, loops: Sequence[str], leaves: Sequence[str], extents: Mapping[str, int]) -> int:
        """Words of a tensor, once for each coordinate of some loops; blocks, where fetched."""
        _, filled, words = self._parts(leaves, extents)
        both = {self.blocks.outer, self.blocks.inner} <= set(loops)
        tiles = self.blocks.loads if both else self._tiles(tuple(loops))
        return words * tiles * prod(extents[v.upper()] for v in filled)

    def streamed(
        self, loops: Sequence[str], leaves: Sequence[str], extents: Mapping[str, int]
    ) -> int:
        """Words of a tensor, once for each tile at some loops, wherever it was fetched."""
        _, filled, words = self._parts(leaves, extents)
        return words * self._tiles(loops) * prod(extents[v.upper()] for v in filled)

    def steps(self, rank: str) -> int:
        """The most tiles that there are along a rank of the nest."""
        return self._tiles((rank.lower(),))

    def _tiles(self, loops: Sequence[str]) -> int:
        """Different coordinates of some loops at which there is a tile."""
        blocks = self.blocks
        own = {loop for loop in loops if loop in (blocks.outer, blocks.inner)}
        if own == {blocks.outer, blocks.inner}:
            return blocks.tiles
        if own == {blocks.outer}:
            return len(blocks.lengths)
        return int(blocks.lengths.max()) if own else 1

    def _parts(
        self, leaves: Sequence[str], extents: Mapping[str, int]
    ) -> tuple[tuple[str, ...], tuple[str, ...], int]:
        """Leaves as loops, as variables that fill the array, and points of the rest."""
        own = [leaf.lower() for leaf in leaves]
        loops = tuple(v for v in own if v in (self.blocks.outer, self.blocks.inner))
        filled = tuple(v for v in own if v in (self.rows, self.cols))
        rest = (v for v in own if v not in loops and v not in filled)
        return loops, filled, prod(extents[v.upper()] for v in rest)


__all__ = ["BlockFilters"]
