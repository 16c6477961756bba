"""Do the units ask the buffer for more in one slot than its ports give?

A port gives or takes one row vector a cycle. What a task asks for in each of its slots is static,
so the largest demand of the array and that of the lanes, together, are what a run can ask for at
most; where that is too much, its slots are compared one by one. Vectors for a slot leave the buffer
together, whatever their skew behind it: PE rows and columns that work later have registers before
them. Fetches and stores use the other half of what is double-buffered and are not counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from archsim.actions import Row, actions_of
from archsim.arch import Memory
from archsim.errors import ArchError
from archsim.program import Program
from archsim.timeline import Timeline
from einsum_cascade.errors import Problem


@dataclass(frozen=True, slots=True)
class _Asked:
    """What one slot of a task asks of the buffer; the tile is -1 where any may be meant."""

    task: str
    tile: int
    rows: tuple[Row, ...]


def ports_asked(timeline: Timeline) -> int:
    """Return the most row vectors that the units ask the buffer for in one slot.

    Where the units' largest demands fit the ports together, that is their sum, whether or not the
    two ever meet; else the most that this run asks for, which takes its facts.

    Raises:
        ArchError: a slot asks for more than the buffer has ports, with who meets there; or, without
            facts, two tasks that might.
    """
    program = timeline.program
    buffer = program.architecture.buffer
    if buffer is None or buffer.capacity_bytes is None:
        return 0
    demands = {
        task.name: [slot.rows for slot in actions_of(program, task).slots] for task in program.tasks
    }
    slot, asked = None, list(_largest(program, demands))
    most = _count(asked)
    if most > buffer.ports and timeline.facts:
        slot, asked = _busiest(timeline, demands)
        most = _count(asked)
    if most > buffer.ports:
        raise ArchError(_overflow(program, buffer, slot, asked))
    return most


def _count(asked: list[_Asked]) -> int:
    return sum(len(one.rows) for one in asked)


def _largest(program: Program, demands: dict[str, list[tuple[Row, ...]]]) -> Iterator[_Asked]:
    """The slot of each unit that asks for most."""
    for body in program.bodies:
        slots = [_Asked(i.task, -1, rows) for i in body.items for rows in demands[i.task]]
        if slots:
            yield max(slots, key=lambda one: len(one.rows))


def _busiest(
    timeline: Timeline, demands: dict[str, list[tuple[Row, ...]]]
) -> tuple[int, list[_Asked]]:
    """The first slot that asks for most, and who asks in it."""
    found: dict[int, list[_Asked]] = {}
    # Micro-ops of a task in a tile come in one or more facts.
    done: Counter[tuple[str, int]] = Counter()
    for fact in timeline.facts:
        rows = demands[fact.task]
        first = done[fact.task, fact.tile]
        done[fact.task, fact.tile] += fact.count
        if not any(rows):
            continue
        for number, slot in enumerate(fact.slots, first):
            here = rows[number % len(rows)]
            if here:
                found.setdefault(slot, []).append(_Asked(fact.task, fact.tile, here))
    return max(found.items(), key=lambda item: (_count(item[1]), -item[0]))


def _overflow(program: Program, buffer: Memory, slot: int | None, asked: list[_Asked]) -> Problem:
    who = []
    for one in asked:
        ways = ", ".join(f"{row.way} {row.tensor}" for row in one.rows)
        who.append(f"{one.task}{f' of tile {one.tile}' if slot else ''} ({ways})")
    where = f"in slot {slot}" if slot else "in one slot, if they meet"
    most = _count(asked)
    what = (
        f"{' and '.join(who)} {'ask' if len(who) > 1 else 'asks'} {buffer.name} for {most} row "
        f"vectors {where}; "
        f"it has {buffer.ports} port{'s' if buffer.ports > 1 else ''}"
    )
    hint = f"give it {most} ports"
    if len(asked) > 1:
        hint += f", or another order or lag to {asked[-1].task} so that the two don't meet"
    at = program.architecture.place("memories", buffer.name, "ports")
    return Problem(at, what, hint=hint)
