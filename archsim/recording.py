"""What a run did from its first cycle on, micro-op by micro-op: what traces and pictures show.

The slot engine enumerates a run again. A short one is recorded whole. Of a long one it executes
the first tiles, and what is kept is the longest stretch of cycles in which that cannot be told
from the whole run: up to the first micro-op, or move, that tiles behind the last one could have
delayed. A micro-op never waits for one that comes later in the order of epochs, except by as many
epochs as lags differ; leaving tiles out takes waits away, so what might be late is never early.

Times are cycles from the start of a phase: slot s is the cycle from s - 1 to s.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf

from archsim.chain import Chain
from archsim.granules import TICKS, Granule, ticks_of
from archsim.nest import acting
from archsim.program import Move, Program
from archsim.sequence import runs_of
from archsim.slots import Run, execute, facts_of
from archsim.timeline import ChainTimeline, Fact, Timeline

# Micro-ops that are executed again, over all phases: some seconds.
LIMIT = 60_000
# Times, and what is there from then on.
Levels = tuple[tuple[float, float], ...]
# Tiles behind the last one that is recorded, besides those by which tasks and moves lag.
BEHIND = 4


@dataclass(frozen=True, slots=True)
class Gap:
    """Idle slots of a unit, one after the other, and the cause."""

    unit: str
    first: int
    count: int
    cause: str


@dataclass(frozen=True, slots=True)
class Flow:
    """A value on its way, from a task or fetch to a task or store: when it is made, when read."""

    maker: str
    made: float
    reader: str
    read: float


@dataclass(frozen=True, slots=True)
class Transfer:
    """A granule on the memory channel, in cycles; `bytes` are those moved until the end."""

    granule: Granule
    start: float
    end: float
    bytes: float


@dataclass(frozen=True)
class Part:
    """One phase: what is known of its first `cycles`, which start at `offset` of the run."""

    run: Run
    timeline: Timeline
    offset: int
    cycles: int
    facts: tuple[Fact, ...]
    gaps: tuple[Gap, ...]
    flows: tuple[Flow, ...]
    transfers: tuple[Transfer, ...]
    # By FIFO, and by tensor in the buffer: times from which as many words, or bytes, are there.
    fifos: dict[str, Levels]
    buffer: dict[str, Levels]

    @property
    def program(self) -> Program:
        """What ran."""
        return self.timeline.program

    @property
    def is_whole(self) -> bool:
        """True if that is all of it."""
        return self.cycles == self.timeline.cycles

    @cached_property
    def whole_tiles(self) -> tuple[int, ...]:
        """Tiles of which everything is recorded."""
        program = self.run.program
        left = dict.fromkeys(range(len(program.tiles)), 0)
        for task in program.tasks:
            for tile in program.acting[task.name]:
                left[tile] += program.slots(task)
        for fact in self.facts:
            left[fact.tile] -= fact.count
        return tuple(tile for tile, slots in left.items() if not slots)


@dataclass(frozen=True)
class Recording:
    """A run, its phases one after the other."""

    name: str
    parts: tuple[Part, ...]

    @property
    def cycles(self) -> int:
        """Cycles of the run, whether recorded or not."""
        return sum(part.timeline.cycles for part in self.parts)

    def __str__(self) -> str:
        """Say how much of the run is recorded."""
        shown = sum(part.cycles for part in self.parts)
        tiles = sum(len(part.whole_tiles) for part in self.parts)
        if shown == self.cycles:
            return f"all {self.cycles:,} cycles, {tiles:,} tiles"
        start = "of each phase " if len(self.parts) > 1 else ""
        return (
            f"the beginning {start}only: {shown:,} of {self.cycles:,} cycles, {tiles:,} whole tiles"
        )


def record(timeline: Timeline | ChainTimeline, limit: int = LIMIT) -> Recording:
    """Record a run that has been simulated, or its beginning.

    Args:
        timeline: the run.
        limit: micro-ops that are executed again, over all phases; a few tiles are in any case.
    """
    if isinstance(timeline, Timeline):
        return Recording(timeline.program.name, (_record(timeline, 0, limit),))
    chain: Chain = timeline.chain
    parts: list[Part] = []
    offset = 0
    for number, phase in enumerate(timeline.phases):
        # What a short phase leaves is there for those after it.
        part = _record(phase, offset, limit // (len(timeline.phases) - number))
        limit -= sum(len(issues) for issues in part.run.issued.values())
        offset += phase.cycles
        parts.append(part)
    return Recording(chain.name, tuple(parts))


def _record(timeline: Timeline, offset: int, limit: int) -> Part:
    program = timeline.program
    micro_ops = sum(sum(tasks.values()) for tasks in timeline.totals.slots.values())
    if micro_ops <= limit:
        run = execute(program)
        assert run.cycles == timeline.cycles
        return _part(run, timeline, offset, run.cycles)
    margin = _margin(program)
    each = sum(program.slots(task) for task in program.tasks)
    run = execute(replace(program, only=max(2 * margin, limit // each)))
    if sum(len(issues) for issues in run.issued.values()) == micro_ops:
        return _part(run, timeline, offset, run.cycles)
    return _part(run, timeline, offset, _certain(run, margin))


def _margin(program: Program) -> int:
    """Epochs at the end of a beginning that tiles behind it may change."""
    lags = [item.lag for body in program.bodies for item in body.items]
    return max([*lags, *(move.lag for move in program.moves)]) + BEHIND


def _certain(run: Run, margin: int) -> int:
    """Cycles in which a beginning does the same as the whole run."""
    program = run.program
    *before, last = runs_of(program)
    sure = {tile.index for tiles in before for tile in tiles}
    place = {tile.index: position for position, tile in enumerate(last)}
    end = len(last) - margin
    lags = {item.task: item.lag for body in program.bodies for item in body.items}

    def is_sure(tile: int, lag: int) -> bool:
        return tile in sure or place[tile] + lag < end

    slots = min(
        issue.at - 1
        for issues in run.issued.values()
        for issue in issues
        if not is_sure(issue.op.tile.index, lags[issue.op.task.name])
    )
    starts = [
        (moved.end - moved.granule.ticks) // TICKS
        for moved in run.channel.done
        if not is_sure(moved.granule.tile, moved.granule.move.lag)
    ]
    return max(0, min([slots, *starts, *(_next_move(run, move, slots) for move in program.moves)]))


def _next_move(run: Run, move: Move, slots: int) -> int:
    """The cycle before which the first granule of a move that is left out can't start.

    Fetches run ahead of the tasks that read them, as far as the buffer has room.
    """
    program = run.program
    if move.kind == "store":
        # Its last word is made behind all slots that are certain.
        size = program.granule_bytes(move, program.tiles[0])
        return slots - -(-ticks_of(program.architecture, size) // TICKS)
    free = run.channel.free // TICKS
    granules = [moved.granule for moved in run.channel.done if moved.granule.move == move]
    if len(granules) < move.entries:
        return free
    oldest = granules[-move.entries]
    if oldest.number not in _closed(run, move):
        # Tiles that are left out read it.
        return slots
    return max(free, _last_read(run, oldest))


def _last_read(run: Run, granule: Granule) -> int:
    """The last slot of the tasks that read a granule."""
    return max(
        run.at[name, tile][-1]
        for name in granule.move.tasks
        for tile in granule.tiles
        if tile in run.program.ordinals[name]
    )


def _part(run: Run, timeline: Timeline, offset: int, cycles: int) -> Part:
    facts: list[Fact] = []
    gaps: list[Gap] = []
    for unit, issues in run.issued.items():
        shown = [issue for issue in issues if issue.at <= cycles]
        facts += facts_of(unit, shown)
        for issue in shown:
            if issue.idle:
                assert issue.wait is not None
                gaps.append(Gap(unit, issue.at - issue.idle, issue.idle, issue.wait.cause))
    fifos = {
        f"{operand.name}@{operand.source}": _levels(
            ((slot - 1, change) for slot, change in changes), cycles
        )
        for _, operand, changes in run.fifos()
    }
    return Part(
        run,
        timeline,
        offset,
        cycles,
        tuple(facts),
        tuple(gaps),
        (*_read(run, cycles), *_moved(run, cycles)),
        tuple(_transfers(run, cycles)),
        fifos,
        {tensor: _levels(changes, cycles) for tensor, changes in _held(run).items()},
    )


def _levels(changes: Iterable[tuple[float, int]], until: int) -> Levels:
    """What is there from when on, from what comes and goes."""
    found: dict[float, int] = {0: 0}
    level = 0
    for time, change in sorted(changes):
        if time > until:
            break
        level += change
        found[time] = level
    levels: list[tuple[float, int]] = []
    for time, level in found.items():
        if not levels or level != levels[-1][1]:
            levels.append((time, level))
    return tuple(levels)


def _transfers(run: Run, until: int) -> Iterator[Transfer]:
    for granule, tick, _ in run.channel.done:
        start, end = (tick - granule.ticks) / TICKS, tick / TICKS
        stop = min(end, until)
        if start < stop:
            yield Transfer(granule, start, stop, granule.bytes * (stop - start) / (end - start))


def _held(run: Run) -> dict[str, list[tuple[float, int]]]:
    """Bytes in the buffer of each tensor that is moved: when they come and go.

    A fetched granule has its room from the start of its transfer until the last task that reads it
    has issued everything; one to be stored from the first slot of its maker until it is stored.
    """
    program = run.program
    found: dict[str, list[tuple[float, int]]] = {move.tensor: [] for move in program.moves}
    closed = {move.name: _closed(run, move) for move in program.moves}
    for granule, tick, _ in run.channel.done:
        move = granule.move
        if move.kind == "store":
            come = float(run.at[move.tasks[0], granule.tile][0] - 1)
            gone = tick / TICKS
        else:
            come, gone = (tick - granule.ticks) / TICKS, inf
            if granule.number in closed[move.name]:
                gone = _last_read(run, granule)
        found[move.tensor] += [(come, granule.bytes), (gone, -granule.bytes)]
    return found


def _closed(run: Run, move: Move) -> set[int]:
    """Numbers of granules that nobody reads behind the end of a beginning."""
    program = run.program
    granules = [moved.granule for moved in run.channel.done if moved.granule.move == move]
    if program.only is None:
        return {granule.number for granule in granules}
    if program.by_table(move):
        blocks = program.blocks
        assert blocks is not None
        return {g.number for g in granules if blocks.is_last(dict(program.tiles[g.tiles[-1]].at))}
    others = {loop.variable: "last" for loop in program.nest if loop.variable not in move.loops}
    ends = set(acting(program.space, program.tiles, others, whole=False))
    return {granule.number for granule in granules if granule.tiles[-1] in ends}


def _read(run: Run, until: int) -> Iterator[Flow]:
    """Every value that a task reads from another one: the first word of it."""
    program = run.program
    for task in program.tasks:
        rules = [
            (slot, rule)
            for slot in range(program.slots_of_word(task))
            for rule in run.rules(task, slot)
            if rule.operand is not None and rule.cause != "reuse"
        ]
        for tile in program.acting[task.name]:
            seen = set()
            for slot, rule in rules:
                assert rule.operand is not None
                made = program.source_tile(task, program.tiles[tile], rule.operand)
                read = run.at[task.name, tile][slot]
                if made is not None and (rule.task, made) not in seen and read <= until:
                    seen.add((rule.task, made))
                    yield Flow(
                        rule.task, run.at[rule.task, made][rule.slot] - 1, task.name, read - 1
                    )


def _moved(run: Run, until: int) -> Iterator[Flow]:
    """Every granule from its transfer to the tasks that read it first, or from its maker."""
    program = run.program
    for granule, tick, _ in run.channel.done:
        move, start = granule.move, (tick - granule.ticks) / TICKS
        for name in move.tasks:
            tiles = [tile for tile in granule.tiles if tile in program.ordinals[name]]
            if move.kind == "store":
                made = run.at[name, granule.tile][-1] - 1
                # Words are moved while the last of them are made.
                if max(made, start) < until:
                    yield Flow(name, made, move.name, max(made, start))
            elif tiles and run.at[name, tiles[0]][0] <= until:
                # A fetch of less than a cycle may end in the slot that reads it.
                read = max(run.at[name, tiles[0]][0] - 1, start)
                yield Flow(move.name, start, name, read)


__all__ = ["Flow", "Gap", "Part", "Recording", "Transfer", "record"]
