"""What each unit issues, micro-op by micro-op, in the order of a Program; still without times."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from archsim.issue import Body
from archsim.program import Program, Task, Tile


class MicroOp(NamedTuple):
    """One issue slot of a unit: a task, the tile it acts on, and the slot within the task.

    `run` counts how often the pipeline has run empty before: nothing of a run is issued before
    everything of the run before has come out.
    """

    task: Task
    tile: Tile
    slot: int
    run: int = 0


def sequence(program: Program, body: Body) -> Iterator[MicroOp]:
    """Yield the micro-ops of a unit in order."""
    longest = max((item.lag for body in program.bodies for item in body.items), default=0)
    for run, tiles in enumerate(runs_of(program)):
        for epoch in range(len(tiles) + longest):
            for entry in body.entries:
                blocks = []
                for item in entry:
                    task = program.task(item.task)
                    at = epoch - item.lag
                    if 0 <= at < len(tiles) and tiles[at].index in program.ordinals[item.task]:
                        blocks.append((task, tiles[at], program.slots(task)))
                most = max((count for _, _, count in blocks), default=0)
                for slot in range(most):
                    for task, tile, count in blocks:
                        if slot < count:
                            yield MicroOp(task, tile, slot, run)


def runs_of(program: Program) -> list[tuple[Tile, ...]]:
    """Tiles between which the pipeline stays full: all of them, or those of each head."""
    if program.drain != "head":
        return [program.tiles]
    heads: dict[tuple[int, ...], list[Tile]] = {}
    for tile in program.tiles:
        at = dict(tile.at)
        heads.setdefault(tuple(at[b] for b in ("b", "h") if b in at), []).append(tile)
    return [tuple(tiles) for tiles in heads.values()]
