"""The memory channel of the reference engine: granules one after the other, as early as may be.

A fetch starts when the channel is free and the oldest granule of its tensor has been read; its
words can be used when its last tick and the memory's latency are over. A store ends when
it has had the channel for its ticks, and not before its last word is made. Slot s is cycle s, which
ends with tick 256 s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from archsim.granules import TICKS, Granule, granules, latency_of
from archsim.program import Program, Task

# Issue slots by task, or move, and tile; those of a move are the cycle in which it is over.
Slots = dict[tuple[str, int], list[int]]


class Moved(NamedTuple):
    """A granule that has been moved: the tick that ends it, and the cycle in which it is over."""

    granule: Granule
    end: int
    over: int


@dataclass
class Channel:
    """Granules in order, how many have been moved, and the tick at which the channel is free."""

    program: Program
    moved: int = 0
    free: int = 0
    busy: int = 0
    done: list[Moved] = field(default_factory=list)

    @cached_property
    def order(self) -> list[Granule]:
        """Everything to be moved."""
        return granules(self.program)

    @cached_property
    def _numbered(self) -> dict[tuple[str, int], Granule]:
        return {(g.move.name, g.number): g for g in self.order}

    @cached_property
    def _of_tile(self) -> dict[tuple[str, int], Granule]:
        return {(g.move.name, tile): g for g in self.order for tile in g.tiles}

    def needed(self, task: Task, tile: int) -> Iterator[Granule]:
        """Granules that the first slot of a task waits for."""
        for move in self.program.moves:
            if move.kind == "fetch" and task.name in move.tasks:
                yield self._of_tile[move.name, tile]

    def in_the_way(self, task: Task, tile: int) -> Iterator[Granule]:
        """Stored granules whose room the first slot of a task waits for."""
        for move in self.program.moves:
            if move.kind == "store" and move.gate == task.name:
                own = self._of_tile.get((move.name, tile))
                if own is not None and own.tile == tile and own.number >= move.entries:
                    yield self._numbered[move.name, own.number - move.entries]

    def before(self, granule: Granule) -> Iterator[tuple[Task, int]]:
        """Tasks and tiles that must have issued everything before a granule can be moved."""
        program, move = self.program, granule.move
        if move.kind == "store":
            yield program.task(move.tasks[0]), granule.tile
        elif granule.number >= move.entries:
            oldest = self._numbered[move.name, granule.number - move.entries]
            for name in move.tasks:
                for tile in oldest.tiles:
                    if tile in program.ordinals[name]:
                        yield program.task(name), tile

    def waiting(self, at: Slots) -> tuple[Granule, Task, int] | None:
        """The next granule, and a task and tile that it waits for; None if it waits for nothing."""
        if self.moved < len(self.order):
            granule = self.order[self.moved]
            for task, tile in self.before(granule):
                if len(at.get((task.name, tile), ())) < self.program.slots(task):
                    return granule, task, tile
        return None

    def advance(self, at: Slots, finish: Callable[[Task, int], int]) -> bool:
        """Move what can be moved; `finish` says when the last lane has the result of a slot."""
        start = self.moved
        while self.moved < len(self.order) and self.waiting(at) is None:
            granule = self.order[self.moved]
            last = [(task, at[task.name, tile][-1]) for task, tile in self.before(granule)]
            if granule.move.kind == "fetch":
                read = max((slot for _, slot in last), default=0)
                self.free = max(self.free, TICKS * read) + granule.ticks
                over = -(-self.free // TICKS) + latency_of(self.program.architecture)
            else:
                task, slot = last[0]
                self.free = max(self.free + granule.ticks, TICKS * finish(task, slot))
                over = -(-self.free // TICKS)
            self.busy += granule.ticks
            at[granule.move.name, granule.tile] = [over]
            self.done.append(Moved(granule, self.free, over))
            self.moved += 1
        return self.moved > start
