"""Granules that move between memory and buffer, one by one, in the order of the channel.

One channel serves both directions, in order: half-duplex, as the pins of a DRAM are. Time on it
runs in ticks of 1/256 cycle, so that bandwidths need no rounding to speak of.
"""

from __future__ import annotations

from dataclasses import dataclass

from archsim.arch import Architecture
from archsim.program import Move, Program
from archsim.sequence import runs_of

TICKS = 256


@dataclass(frozen=True, slots=True)
class Granule:
    """One move of one granule: the tiles that share it, in order, and its size."""

    move: Move
    # How many granules of this move come before it.
    number: int
    tiles: tuple[int, ...]
    ticks: int
    bytes: int

    @property
    def tile(self) -> int:
        """The tile that it is moved for: the first that reads it, the last that makes it."""
        return self.tiles[0] if self.move.kind == "fetch" else self.tiles[-1]


def ticks_of(architecture: Architecture, size: int) -> int:
    """Ticks that some bytes occupy the channel, rounded up."""
    rate = architecture.outer.bandwidth_bytes_per_s
    assert rate is not None
    return -(-TICKS * size * architecture.clock_hz // rate)


def latency_of(architecture: Architecture) -> int:
    """Cycles from the last tick of a fetch to its words in the buffer, rounded up."""
    return -(-architecture.outer.latency_ns * architecture.clock_hz // 10**9)


def granules(program: Program) -> list[Granule]:
    """Every move of a Program in the order of the channel."""
    place: dict[int, tuple[int, int]] = {}
    for run, tiles in enumerate(runs_of(program)):
        place |= {tile.index: (run, position) for position, tile in enumerate(tiles)}
    ordered: list[tuple[tuple[int, int, int], Granule]] = []
    for rank, move in enumerate(program.moves):
        groups: dict[tuple[int, ...], list[int]] = {}
        acting = set(program.acting[move.tasks[0]]) if move.kind == "store" else None
        for tile in program.tiles:
            if acting is None or tile.index in acting:
                at = dict(tile.at)
                groups.setdefault(tuple(at[loop] for loop in move.loops), []).append(tile.index)
        found = [tuple(tiles) for tiles in groups.values()]
        if program.by_table(move):
            found = [tuple(tiles) for tiles in _by_table(program, move)]
        found.sort(key=lambda tiles: tiles[0 if move.kind == "fetch" else -1])
        for number, shared in enumerate(found):
            first = program.tiles[shared[0]]
            size = program.granule_bytes(move, first)
            granule = Granule(move, number, shared, ticks_of(program.architecture, size), size)
            run, position = place[granule.tile]
            ordered.append(((run, position + move.lag, rank), granule))
    ordered.sort(key=lambda item: item[0])
    return [granule for _, granule in ordered]


def _by_table(program: Program, move: Move) -> list[list[int]]:
    """Tiles that share each block that is fetched: all that read it before it comes again."""
    blocks = program.blocks
    assert blocks is not None
    found: list[list[int]] = []
    latest: dict[tuple[int, ...], int] = {}
    for tile in program.tiles:
        at = dict(tile.at)
        outside = (at[loop] for loop in move.loops if loop not in (blocks.outer, blocks.inner))
        key = (*outside, blocks.of(at, blocks.keys))
        if blocks.of(at, blocks.fetched):
            latest[key] = len(found)
            found.append([])
        found[latest[key]].append(tile.index)
    return found


__all__ = ["TICKS", "Granule", "granules", "latency_of", "ticks_of"]
