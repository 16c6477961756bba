"""What one tile does to the slots of a run, as a matrix over (max, +).

**The state.** Let the tiles of a Program come one by one. When one has come, each unit issues as
far as it can without the next: it stops in front of a micro-op of a tile to come, or one that
waits for such a micro-op of the other unit. Where that is depends on order and dependencies alone,
never on times. The state vector at such a `Cut` is

    x = (last result, last slot of each unit, slots that a later micro-op may still wait for)

**Why it is linear.** A micro-op's slot is the maximum of the slot before it in its unit plus 1, and
of the slots that it waits for plus delays (`slots.Run.rules`). Each of these is in x or was issued
since, so by induction it is a maximum of components of x plus constants: a row of a matrix. The
rows of the next state are the matrix A of this cut and this class of tiles (which tasks act, how
many acts ago what they read was made), and x after the tile is A x in (max, +): exactly, for
nothing is rounded, and no time is compared with another.

**What is left out of x.** After k further micro-ops of its unit a slot lies k + 1 or more before
the next one, so it is of no use to readers in that unit with delays of up to k + 1. Only such slots
leave, and those that no tile in flight or to come points to. A few dozen components remain.

Classes of tiles are those of `tile_walk`, rules those of `slots`; how slots follow from them is
written here once more. FIFOs are not looked at: they are checked elsewhere and delay nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from archsim.errors import ArchError
from archsim.max_plus import NEVER, Matrix, identity
from archsim.program import Program, Task
from archsim.slots import Rule, Run
from archsim.tile_kernel import FAR, NONE
from archsim.tile_tables import NotCountableError, Tables, tables_of
from archsim.tile_walk import FLUSH, Stream, walk
from einsum_cascade.errors import Problem, Source

# How many acts back a unit may wait for the other one.
NEAR = 64
# The column of a wait for the act that waits itself.
OWN = -1


class Kept(NamedTuple):
    """A slot that is kept: of which task, act and slot of the act."""

    task: int
    act: int
    slot: int
    # Micro-ops that its unit has issued since; no more than matter.
    since: int


class Cut(NamedTuple):
    """Where the units stand between two tiles, and what is kept: the state without its times.

    Tiles, epochs and acts of each task count from the next one, which is 0.
    """

    # For each unit its epoch, and how many micro-ops of it have been issued.
    cursors: tuple[tuple[int, int], ...]
    # Classes of the latest tiles, those that somebody may still act on.
    flight: tuple[int, ...]
    # For each task, micro-ops issued.
    issued: tuple[int, ...]
    kept: tuple[Kept, ...]

    @property
    def size(self) -> int:
        """Components of the state vector."""
        return 1 + len(self.cursors) + len(self.kept)


class Wait(NamedTuple):
    """A micro-op may issue `delay` slots after a slot of an act of `maker`.

    How many acts ago that was is what `column` of the class of its tile says.
    """

    maker: int
    slot: int
    delay: int
    column: int


class Use(NamedTuple):
    """A wait as the slot sees it that is waited for: which task waits, in the same unit or not."""

    reader: int
    wait: Wait
    is_near: bool


@dataclass(frozen=True)
class Rules:
    """What all matrices of a Program follow from; tasks and units are numbers."""

    program: Program
    stream: Stream
    lag: int
    # Entries of each unit's body, each with (task, lag) that take turns.
    bodies: tuple[tuple[tuple[tuple[int, int], ...], ...], ...]
    # For each task its unit and slots; for each of these, slots until its result is everywhere,
    # and what it waits for.
    unit_of: tuple[int, ...]
    slots: tuple[int, ...]
    finish: tuple[tuple[int, ...], ...]
    waits: tuple[tuple[tuple[Wait, ...], ...], ...]
    # Who waits for a slot of a task.
    uses: dict[tuple[int, int], set[Use]]
    # For each column, how many acts before the next one a tile to come may look back to.
    reach: dict[int, int]

    @property
    def start(self) -> Cut:
        """The cut before the first tile."""
        return Cut(((0, 0),) * len(self.bodies), (), (0,) * len(self.slots), ())


def rules_of(program: Program) -> Rules:
    """Write down the rules of a Program.

    Raises:
        ArchError: the run is not linear, or counters can't tell where values come from.
    """
    if program.moves:
        what = "its memory may be late, and whole cycles of a channel are not linear in (max, +)"
        hint = "take Program.compute_only(), whose memory is never late"
        raise ArchError(Problem(Source(program.name), what, hint=hint))
    try:
        tables = tables_of(program)
    except NotCountableError as error:
        what = f"its tiles are no tree of repetitions: {error}"
        raise ArchError(Problem(Source(program.name), what)) from None
    run = Run(program)
    index = {task.name: t for t, task in enumerate(program.tasks)}
    units = {body.unit: u for u, body in enumerate(program.bodies)}
    unit_of = tuple(units[task.unit] for task in program.tasks)
    waits = tuple(
        tuple(
            tuple(_wait(tables, index, task, rule) for rule in run.rules(task, slot))
            for slot in range(program.slots(task))
        )
        for task in program.tasks
    )
    uses: dict[tuple[int, int], set[Use]] = {}
    for reader, slots in enumerate(waits):
        for wait in (wait for found in slots for wait in found):
            use = Use(reader, wait, unit_of[reader] == unit_of[wait.maker])
            uses.setdefault((wait.maker, wait.slot), set()).add(use)
    longest = max((use.wait.delay for found in uses.values() for use in found), default=0)
    # A unit that has acted more often than that since has issued as many micro-ops or more, so the
    # order of the unit says as much as any delay.
    stream = walk(tables, max(NEAR, longest, tables.lag + 2))
    return Rules(
        program, stream, tables.lag,
        tuple(
            tuple(tuple((index[item.task], item.lag) for item in entry) for entry in body.entries)
            for body in program.bodies
        ),
        unit_of,
        tuple(program.slots(task) for task in program.tasks),
        tuple(
            tuple(
                run.finish_of(task, task.steps[program.locate(task, slot)[1]], 0)
                for slot in range(program.slots(task))
            )
            for task in program.tasks
        ),
        waits, uses, _reach(program, stream, uses),
    )  # fmt: skip


def _wait(tables: Tables, index: dict[str, int], task: Task, rule: Rule) -> Wait:
    column = OWN
    if rule.operand is not None and rule.cause == "reuse":
        column = len(tables.actors) + len(tables.pointers)
        column += tables.reuse_of[task.name, rule.task, rule.operand]
    elif rule.operand is not None:
        column = len(tables.actors) + tables.pointer_of[task.name, rule.operand]
    return Wait(index[rule.task], rule.slot, rule.delay, column)


def _reach(
    program: Program, stream: Stream, uses: dict[tuple[int, int], set[Use]]
) -> dict[int, int]:
    """How far back each column looks; ArchError if that is far, and into another unit."""
    found = {OWN: 0}
    for use in (use for known in uses.values() for use in known):
        column, maker = use.wait.column, use.wait.maker
        if column == OWN:
            continue
        ages = [(int(row[column]), int(row[maker])) for row in stream.classes]
        found[column] = max((a + 1 - acts for a, acts in ages if a not in (NONE, FAR)), default=0)
        if not use.is_near and any(age == FAR for age, _ in ages):
            names = program.tasks[use.reader].name, program.tasks[maker].name
            what = f"{names[0]} waits for what {names[1]} of another unit did long ago"
            raise ArchError(Problem(Source(program.name), what))
    return found


def tile_matrix(rules: Rules, cut: Cut, number: int) -> tuple[Cut, Matrix]:
    """The matrix of one tile of a class, or of letting the pipeline run empty (FLUSH).

    Args:
        rules: those of the Program.
        cut: where the units stand before; the matrix has a column for each component there.
        number: the class, or FLUSH.

    Returns:
        Where they stand behind it, and the matrix, with a row for each component there.

    Raises:
        ArchError: the units wait for each other.
    """
    return _Stretch(rules, cut, number).run()


class _Stretch:
    """What units issue from one cut to the next, each slot as a row over the state at the first.

    Tiles, epochs and acts are counted from the first cut: what comes next there is 0.
    """

    def __init__(self, rules: Rules, cut: Cut, number: int) -> None:
        self.rules, self.is_flush = rules, number == FLUSH
        flight = cut.flight if self.is_flush else (*cut.flight, number)
        self.newest = -1 if self.is_flush else 0
        self.rows = dict(
            zip(range(self.newest + 1 - len(flight), self.newest + 1), flight, strict=True)
        )
        self.cursors, self.issued = [list(cursor) for cursor in cut.cursors], list(cut.issued)
        one = identity(cut.size)
        units = len(self.cursors)
        self.last, self.clocks = one[0], list(one[1 : 1 + units])
        self.count = [0] * units
        # Slots as rows, with the number of the micro-op in its unit.
        self.at = {
            (kept.task, kept.act, kept.slot): (row, -kept.since)
            for kept, row in zip(cut.kept, one[1 + units :], strict=True)
        }
        # For each tile, acts of each task up to it.
        tasks = range(len(self.issued))
        self.acts = {self.newest: [0] * len(tasks)}
        if not self.is_flush:
            self.acts[0] = [int(rules.stream.classes[number][t]) for t in tasks]
        for tile in sorted(self.rows, reverse=True)[1:]:
            after = rules.stream.classes[self.rows[tile + 1]]
            self.acts[tile] = [self.acts[tile + 1][t] - int(after[t]) for t in tasks]

    def run(self) -> tuple[Cut, Matrix]:
        """Issue all that can be issued; the cut behind it, and the matrix."""
        lag = self.rules.lag
        until = self.newest + 1 + (lag if self.is_flush else 0)
        going = True
        while going:
            going = any(self.issue_all(unit, until) for unit in range(len(self.cursors)))
        # A unit that waits only for tiles to come is no further behind than the lags reach.
        behind = 0 if self.is_flush else lag + 1
        if any(epoch < until - behind for epoch, _ in self.cursors):
            what = "deadlock: the units wait for each other"
            hint = "the reference engine (`slots`) tells in detail who waits for whom"
            raise ArchError(Problem(Source(self.rules.program.name), what, hint=hint))
        if self.is_flush:
            # Whoever comes next waits for the last result.
            self.clocks = [np.maximum(clock, self.last) for clock in self.clocks]
            self.cursors = [[self.newest + 1, 0] for _ in self.cursors]
            self.rows = {}
        return self.cut()

    def micro_ops(self, unit: int) -> list[tuple[int, int, int]]:
        """What a unit issues in its epoch, in order: (task, tile, slot)."""
        epoch, slots = self.cursors[unit][0], self.rules.slots
        found = []
        for entry in self.rules.bodies[unit]:
            acting = [(task, epoch - lag) for task, lag in entry if self.acts_on(task, epoch - lag)]
            for slot in range(max((slots[task] for task, _ in acting), default=0)):
                found += [(task, tile, slot) for task, tile in acting if slot < slots[task]]
        return found

    def acts_on(self, task: int, tile: int) -> bool:
        """True if a task acts on a tile; False where there is none."""
        return tile in self.rows and bool(self.rules.stream.classes[self.rows[tile]][task])

    def issue_all(self, unit: int, until: int) -> bool:
        """Issue what a unit can issue in epochs before `until`; True if that is anything."""
        cursor, any_ = self.cursors[unit], False
        while cursor[0] < until:
            for op in self.micro_ops(unit)[cursor[1] :]:
                if not self.issue(unit, *op):
                    return any_
                cursor[1] += 1
                any_ = True
            cursor[:] = cursor[0] + 1, 0
        return any_

    def issue(self, unit: int, task: int, tile: int, slot: int) -> bool:
        """Issue a micro-op; False if it waits for one that has not been issued."""
        rules = self.rules
        at = self.clocks[unit] + 1
        for wait in rules.waits[task][slot]:
            act = self.act(tile, wait)
            if act is None:
                continue
            if (wait.maker, act) == (task, self.own(tile, task)) and wait.slot >= slot:
                continue  # It reads the old value of a register while it writes the new one.
            if act * rules.slots[wait.maker] + wait.slot >= self.issued[wait.maker]:
                return False
            is_near = rules.unit_of[wait.maker] == unit
            row, number = self.at.get((wait.maker, act, wait.slot), (None, NEVER))
            if is_near and self.count[unit] + 1 - number >= wait.delay:
                continue  # So old, kept or not, that the order of the unit says as much.
            assert row is not None, (wait, act)
            at = np.maximum(at, row + wait.delay)
        self.count[unit] += 1
        self.issued[task] += 1
        self.clocks[unit] = at
        self.at[task, self.own(tile, task), slot] = at, self.count[unit]
        self.last = np.maximum(self.last, at + rules.finish[task][slot])
        return True

    def own(self, tile: int, task: int) -> int:
        """The act of a task on a tile."""
        return self.acts[tile][task] - 1

    def act(self, tile: int, wait: Wait) -> int | None:
        """The act that a wait of a micro-op of a tile means; None if there is none, or long ago."""
        age = 0
        if wait.column != OWN:
            age = int(self.rules.stream.classes[self.rows[tile]][wait.column])
        return None if age in (NONE, FAR) else self.acts[tile][wait.maker] - 1 - age

    def cut(self) -> tuple[Cut, Matrix]:
        """Where the units stand now, counted from what comes next, and the state there as rows."""
        rules, now = self.rules, self.acts[self.newest]
        oldest = min(epoch for epoch, _ in self.cursors) - rules.lag
        self.rows = {tile: row for tile, row in self.rows.items() if tile >= oldest}
        wanted = {use: self.wanted(use) for uses in rules.uses.values() for use in uses}
        kept = []
        for (task, act, slot), (row, number) in self.at.items():
            since = self.count[rules.unit_of[task]] - number
            uses = [use for use in rules.uses.get((task, slot), ()) if act >= wanted[use]]
            # The next micro-op of the unit comes after since + 1 slots or more.
            near = max((use.wait.delay for use in uses if use.is_near), default=0) > since + 1
            if near or not all(use.is_near for use in uses):
                most = max(use.wait.delay for use in rules.uses[task, slot])
                kept.append((Kept(task, act - now[task], slot, min(since, most)), row))
        kept.sort(key=lambda pair: pair[0])
        cut = Cut(
            tuple((epoch - self.newest - 1, count) for epoch, count in self.cursors),
            tuple(self.rows[tile] for tile in sorted(self.rows)),
            tuple(
                issued - acts * slots
                for issued, acts, slots in zip(self.issued, now, rules.slots, strict=True)
            ),
            tuple(slot for slot, _ in kept),
        )
        matrix = np.array([self.last, *self.clocks, *(row for _, row in kept)])
        matrix[matrix < NEVER // 2] = NEVER
        return cut, matrix

    def wanted(self, use: Use) -> int:
        """The first act that such a wait may still mean, in tiles in flight and to come."""
        rules, reader = self.rules, use.reader
        found = [self.acts[self.newest][use.wait.maker] - rules.reach[use.wait.column]]
        for tile in self.rows:
            left = self.acts[tile][reader] * rules.slots[reader] > self.issued[reader]
            if left and self.acts_on(reader, tile):
                act = self.act(tile, use.wait)
                found += [] if act is None else [act]
        return min(found)
