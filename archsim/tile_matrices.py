"""The cycles of a run as a product of max-plus matrices: a third witness beside `slots`, `engine`.

**The state.** Let the tiles of a Program come one by one. When one has come, each unit issues as far
as it can without the next: it stops in front of a micro-op of a tile to come, or one that waits for
such a micro-op of the other unit. Where that is depends on order and dependencies alone, never on
times. The state vector of this `Cut` is

    x = (last result, last slot of each unit, slots that a later micro-op may still wait for).

**Why it is linear.** A micro-op's slot is the maximum of the slot before it in its unit plus 1 and of
the slots that it waits for plus delays (`Run.rules`). Each of these is in x or was issued since, so by
induction it is a maximum of components of x plus constants: a row of a matrix. The rows of the next
state make the matrix A of this cut and this class of tiles (which tasks act, how many acts ago what
they read was made), and x after the tile = A x, in (max, +): exactly, for nothing was rounded,
assumed to repeat, or measured.

**What is left out.** If a unit has issued k micro-ops after a slot, its next one is k + 1 slots later
or more; so a slot is of no use to readers in its own unit with a delay of up to k + 1. Only that, and
what no tile in flight or to come points to, leaves the vector. It has a few dozen components.

**Powers.** Cuts, made of distances, are finitely many: repeating a class, or a subtree of the tree of
repetitions (`tile_walk`), a cut comes back after a few times. The matrices in between multiply to a
square one, whose power by repeated squaring is all the repetitions that are left; loops around it do
the same with the product. No state has to come back, unlike in `engine`; times are never compared.

Classes and tree are those of `engine`, the rules those of `slots`; how slots follow from them is
written here once more. FIFOs are not looked at: they are checked elsewhere, and delay nothing.
Refused: a memory that may be late, since a fetch is over in a whole cycle and rounding up is not
linear; Programs whose tiles are no tree; waits for the other unit from very long ago.

Source: Baccelli, Cohen, Olsder, Quadrat, "Synchronization and Linearity" (1992).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import reduce
from typing import NamedTuple

import numpy as np

from archsim.errors import ArchError
from archsim.max_plus import NEVER, Matrix, eigenvalue, identity, power, product
from archsim.program import Program, Task
from archsim.slots import Rule, Run
from archsim.tile_kernel import FAR, NONE
from archsim.tile_tables import NotCountableError, Tables, tables_of
from archsim.tile_walk import FLUSH, Stream, class_counts, walk
from einsum_cascade.errors import Problem, Source

# How many acts back a unit may wait for the other one.
NEAR = 64


@dataclass(frozen=True)
class Solution:
    """What a run takes."""

    # Clock edges from the first issue to the last result.
    cycles: int
    # Issue slots by unit, in use and not; each unit's add up to the cycles.
    busy: dict[str, int]
    idle: dict[str, int]


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
    flight: tuple[int, ...] = ()
    # For each task, micro-ops issued.
    issued: tuple[int, ...] = ()
    kept: tuple[Kept, ...] = ()


class Wait(NamedTuple):
    """A micro-op may issue `delay` slots after a slot of an act of `maker`.

    `column` of the class of the tile says how many acts ago that was; OWN is its own act.
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


OWN = -1


def solve(program: Program) -> Solution:
    """Multiply the matrices of a run.

    Raises:
        ArchError: units that wait for each other, or a Program that is not linear; see above.
    """
    system = _system(program)
    cut, matrix = system.node(system.stream.root, system.start)
    # What is still in the pipeline comes out; the first row is the last result. Before the first
    # tile all is 0: nothing was issued.
    _, end = system.tile(FLUSH, cut)
    cycles = int(product(end, matrix)[0].max())
    counts = class_counts(system.stream)
    busy = {body.unit: 0 for body in program.bodies}
    for number, row in enumerate(system.stream.classes):
        for t, task in enumerate(program.tasks):
            busy[task.unit] += counts[number] * int(row[t]) * system.slots[t]
    return Solution(cycles, busy, {unit: cycles - slots for unit, slots in busy.items()})


def period(program: Program) -> Fraction:
    """Cycles for a tile if all tiles were of the class that most are of: an eigenvalue.

    Raises:
        ArchError: as `solve`.
    """
    system = _system(program)
    counts = class_counts(system.stream)
    number = counts.index(max(counts))
    # The run itself makes whatever those tiles look back to.
    cut, _ = system.node(system.stream.root, system.start)
    cut, _ = system.tile(FLUSH, cut)
    seen: dict[Cut, int] = {}
    matrices: list[Matrix] = []
    while cut not in seen:
        seen[cut] = len(matrices)
        cut, matrix = system.tile(number, cut)
        matrices.append(matrix)
    circuit = matrices[seen[cut] :]
    found = eigenvalue(_chain(circuit))
    assert found is not None, "slots of a unit follow each other"
    return found / len(circuit)


def _system(program: Program) -> _System:
    """Everything about a Program that its matrices follow from; ArchError if it is not linear."""
    if program.moves:
        what = "its memory may be late, and whole cycles of a channel are not linear in (max, +)"
        hint = "take Program.compute_only(), whose memory is never late"
        raise ArchError(Problem(Source(program.name), what, hint=hint))
    try:
        tables = tables_of(program)
    except NotCountableError as error:
        what = f"its tiles are no tree of repetitions: {error}"
        raise ArchError(Problem(Source(program.name), what)) from None
    waits = _waits(tables)
    longest = max((wait.delay for row in waits for each in row for wait in each), default=0)
    # A unit that has acted as often as that since has issued as many micro-ops: no delay is longer.
    near = max(NEAR, longest, tables.lag + 2)
    system = _System(tables, walk(tables, near), waits)
    for use in (use for uses in system.uses.values() for use in uses):
        if not use.is_near and FAR in [row[use.wait.column] for row in system.stream.classes]:
            reader, maker = (program.tasks[t].name for t in (use.reader, use.wait.maker))
            what = f"{reader} waits for {maker}, of another unit, of more than {near} acts ago"
            raise ArchError(Problem(Source(program.name), what))
    return system


def _waits(tables: Tables) -> list[list[list[Wait]]]:
    """The waits of every slot of every task: `Run.rules`, with columns of classes for operands."""
    program = tables.program
    run = Run(program)
    index = {task.name: t for t, task in enumerate(program.tasks)}
    pointers = len(tables.actors)
    reuses = pointers + len(tables.pointers)

    def column(task: Task, rule: Rule) -> int:
        if rule.operand is None:
            return OWN
        if rule.cause == "reuse":
            return reuses + tables.reuse_of[task.name, rule.task, rule.operand]
        return pointers + tables.pointer_of[task.name, rule.operand]

    return [
        [
            [
                Wait(index[rule.task], rule.slot, rule.delay, column(task, rule))
                for rule in run.rules(task, slot)
            ]
            for slot in range(program.slots(task))
        ]
        for task in program.tasks
    ]


def _chain(matrices: list[Matrix]) -> Matrix:
    """The product of matrices, the first of them first."""
    return reduce(lambda done, matrix: product(matrix, done), matrices)


@dataclass
class _System:
    """The matrices of a Program: of tiles, from the rules, and of subtrees, by multiplication."""

    tables: Tables
    stream: Stream
    # For each task and slot of it.
    waits: list[list[list[Wait]]]
    known: dict[tuple[str, int, Cut], tuple[Cut, Matrix]] = field(default_factory=dict)
    reaches: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        program = self.tables.program
        tasks = program.tasks
        index = {task.name: t for t, task in enumerate(tasks)}
        self.slots = [program.slots(task) for task in tasks]
        self.bodies = [
            [[(index[item.task], item.lag) for item in entry] for entry in body.entries]
            for body in program.bodies
        ]
        units = {body.unit: u for u, body in enumerate(program.bodies)}
        self.unit_of = [units[task.unit] for task in tasks]
        run = Run(program)
        # From the slot of a micro-op to its result in the last PE or lane.
        self.finish = [
            [
                run.finish_of(task, task.steps[program.locate(task, slot)[1]], 0)
                for slot in range(program.slots(task))
            ]
            for task in tasks
        ]
        self.uses: dict[tuple[int, int], set[Use]] = {}
        for reader, slots in enumerate(self.waits):
            for wait in (wait for waits in slots for wait in waits):
                is_near = self.unit_of[reader] == self.unit_of[wait.maker]
                self.uses.setdefault((wait.maker, wait.slot), set()).add(Use(reader, wait, is_near))
        self.start = Cut(((0, 0),) * len(units), issued=(0,) * len(tasks))

    # ---- subtrees ----

    def node(self, node: int, cut: Cut) -> tuple[Cut, Matrix]:
        """The matrix of a node of the tree that starts at a cut, and the cut behind it."""
        if node == FLUSH:
            return self.tile(FLUSH, cut)
        key = "node", node, cut
        if key not in self.known:
            kind, items = self.stream.nodes[node]
            step = self.tile if kind == "runs" else self.node
            total = identity(self.size(cut))
            for item, times in items:
                cut, matrix = self.repeat(step, item, cut, times)
                total = product(matrix, total)
            self.known[key] = cut, total
        return self.known[key]

    def repeat(
        self, step: Callable[[int, Cut], tuple[Cut, Matrix]], item: int, cut: Cut, times: int
    ) -> tuple[Cut, Matrix]:
        """Take a step several times: once a cut comes back, by a power."""
        cuts, matrices = [cut], [identity(self.size(cut))]
        while len(cuts) <= times:
            cut, matrix = step(item, cut)
            matrices.append(matrix)
            if cut in cuts:
                first = cuts.index(cut)
                circuit = matrices[first + 1 :]
                rounds, rest = divmod(times - len(cuts), len(circuit))
                if rounds:
                    matrices.append(power(_chain(circuit), rounds))
                return cuts[first + rest], _chain(matrices + circuit[:rest])
            cuts.append(cut)
        return cut, _chain(matrices)

    def size(self, cut: Cut) -> int:
        """Components of the state vector at a cut."""
        return 1 + len(cut.cursors) + len(cut.kept)

    # ---- tiles ----

    def reach(self, use: Use) -> int:
        """How many acts before the next one a tile to come may look back to."""
        if use.wait.column == OWN:
            return 0
        if use.wait.column not in self.reaches:
            ages = [
                int(row[use.wait.column]) + 1 - int(row[use.wait.maker])
                for row in self.stream.classes
                if row[use.wait.column] not in (NONE, FAR)
            ]
            self.reaches[use.wait.column] = max(ages, default=0)
        return self.reaches[use.wait.column]

    def tile(self, number: int, cut: Cut) -> tuple[Cut, Matrix]:
        """The matrix of one tile of a class, or of letting the pipeline run empty (FLUSH)."""
        key = "tile", number, cut
        if key not in self.known:
            self.known[key] = _Stretch(self, cut, number).run()
        return self.known[key]


class _Stretch:
    """What units issue from one cut to the next, each slot as a row over the state at the first.

    Tiles, epochs and acts are counted from the first cut: what comes next there is 0.
    """

    def __init__(self, system: _System, cut: Cut, number: int) -> None:
        self.system, self.is_flush = system, number == FLUSH
        flight = cut.flight if self.is_flush else (*cut.flight, number)
        self.newest = -1 if self.is_flush else 0
        self.rows = dict(
            zip(range(self.newest + 1 - len(flight), self.newest + 1), flight, strict=True)
        )
        self.cursors, self.issued = [list(cursor) for cursor in cut.cursors], list(cut.issued)
        one = identity(system.size(cut))
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
            self.acts[0] = [int(system.stream.classes[number][t]) for t in tasks]
        for tile in sorted(self.rows, reverse=True)[1:]:
            after = system.stream.classes[self.rows[tile + 1]]
            self.acts[tile] = [self.acts[tile + 1][t] - int(after[t]) for t in tasks]

    def run(self) -> tuple[Cut, Matrix]:
        """Issue all that can be issued; the cut behind it, and the matrix."""
        lag = self.system.tables.lag
        until = self.newest + 1 + (lag if self.is_flush else 0)
        going = True
        while going:
            going = any([self.issue_all(unit, until) for unit in range(len(self.cursors))])
        # A unit that waits only for tiles to come is no further behind than the lags reach.
        behind = 0 if self.is_flush else lag + 1
        if any(epoch < until - behind for epoch, _ in self.cursors):
            what = "deadlock: the units wait for each other"
            hint = "the reference engine (`slots`) tells in detail who waits for whom"
            raise ArchError(Problem(Source(self.system.tables.program.name), what, hint=hint))
        if self.is_flush:
            # Whoever comes next waits for the last result.
            self.clocks = [np.maximum(clock, self.last) for clock in self.clocks]
            self.cursors = [[self.newest + 1, 0] for _ in self.cursors]
            self.rows = {}
        return self.cut()

    def micro_ops(self, unit: int) -> list[tuple[int, int, int]]:
        """What a unit issues in its epoch, in order: (task, tile, slot)."""
        epoch, slots = self.cursors[unit][0], self.system.slots
        found = []
        for entry in self.system.bodies[unit]:
            acting = [(task, epoch - lag) for task, lag in entry if self.acts_on(task, epoch - lag)]
            for slot in range(max((slots[task] for task, _ in acting), default=0)):
                found += [(task, tile, slot) for task, tile in acting if slot < slots[task]]
        return found

    def acts_on(self, task: int, tile: int) -> bool:
        """True if a task acts on a tile; False where there is none."""
        return tile in self.rows and bool(self.system.stream.classes[self.rows[tile]][task])

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
        system = self.system
        at = self.clocks[unit] + 1
        for wait in system.waits[task][slot]:
            act = self.act(tile, wait)
            if act is None:
                continue
            if (wait.maker, act) == (task, self.own(tile, task)) and wait.slot >= slot:
                continue  # It reads the old value of a register while it writes the new one.
            if act * system.slots[wait.maker] + wait.slot >= self.issued[wait.maker]:
                return False
            # What is not kept is so old that the order of the unit says as much.
            if (wait.maker, act, wait.slot) in self.at:
                row, _ = self.at[wait.maker, act, wait.slot]
                at = np.maximum(at, row + wait.delay)
        self.count[unit] += 1
        self.issued[task] += 1
        self.clocks[unit] = at
        self.at[task, self.own(tile, task), slot] = at, self.count[unit]
        self.last = np.maximum(self.last, at + system.finish[task][slot])
        return True

    def own(self, tile: int, task: int) -> int:
        """The act of a task on a tile."""
        return self.acts[tile][task] - 1

    def act(self, tile: int, wait: Wait) -> int | None:
        """The act that a wait of a micro-op of a tile means; None if there is none, or long ago."""
        age = 0
        if wait.column != OWN:
            age = int(self.system.stream.classes[self.rows[tile]][wait.column])
        return None if age in (NONE, FAR) else self.acts[tile][wait.maker] - 1 - age

    def cut(self) -> tuple[Cut, Matrix]:
        """Where the units stand now, counted from what comes next, and the state there as rows."""
        system, now = self.system, self.acts[self.newest]
        oldest = min(epoch for epoch, _ in self.cursors) - system.tables.lag
        self.rows = {tile: row for tile, row in self.rows.items() if tile >= oldest}
        wanted = {use: self.wanted(use) for uses in system.uses.values() for use in uses}
        kept = []
        for (task, act, slot), (row, number) in self.at.items():
            since = self.count[system.unit_of[task]] - number
            uses = [use for use in system.uses.get((task, slot), ()) if act >= wanted[use]]
            # The next micro-op of the unit comes after since + 1 slots or more.
            near = max((use.wait.delay for use in uses if use.is_near), default=0) > since + 1
            if near or not all(use.is_near for use in uses):
                most = max(use.wait.delay for use in system.uses[task, slot])
                kept.append((Kept(task, act - now[task], slot, min(since, most)), row))
        kept.sort(key=lambda pair: pair[0])
        cut = Cut(
            tuple((epoch - self.newest - 1, count) for epoch, count in self.cursors),
            tuple(self.rows[tile] for tile in sorted(self.rows)),
            tuple(
                issued - acts * slots
                for issued, acts, slots in zip(self.issued, now, system.slots, strict=True)
            ),
            tuple(slot for slot, _ in kept),
        )
        matrix = np.array([self.last, *self.clocks, *(row for _, row in kept)])
        matrix[matrix < NEVER // 2] = NEVER
        return cut, matrix

    def wanted(self, use: Use) -> int:
        """The first act that such a wait may still mean, of tiles in flight and of those to come."""
        system, reader = self.system, use.reader
        found = [self.acts[self.newest][use.wait.maker] - system.reach(use)]
        for tile in self.rows:
            left = self.acts[tile][reader] * system.slots[reader] > self.issued[reader]
            if left and self.acts_on(reader, tile):
                act = self.act(tile, use.wait)
                found += [] if act is None else [act]
        return min(found)
