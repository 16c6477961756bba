"""The tile-level engine: what `slots` finds, for runs of any length.

The tiles of a Program come as a tree of repetitions (`tile_walk`); micro-ops are issued in numba
(`engine_kernel`); when the state of the units comes back, the repetitions in between are skipped
(`engine_settle`). All of it is exact: cycles, idle slots by cause and the fill of FIFOs are those of
the reference engine, which the tests compare on random programs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from archsim import engine_kernel as kernel
from archsim import engine_settle as settle
from archsim.errors import ArchError
from archsim.granules import latency_of, ticks_of
from archsim.program import Program, Task
from archsim.slots import Run
from archsim.tile_kernel import NONE
from archsim.tile_tables import Tables, tables_of
from archsim.tile_walk import FLUSH, Stream, walk
from archsim.timeline import CAUSES, Timeline, Totals
from einsum_cascade.errors import Problem, Source

Ints = NDArray[np.int64]
# How far back, in acts, waits are followed at first; more if something that old is waited for.
NEAR = 12


class FailedError(Exception):
    """A run that can't be: what the kernel said."""

    def __init__(self, status: int, fifo: int) -> None:
        """Keep the status and the FIFO that overflowed."""
        super().__init__(status)
        self.status, self.fifo = status, fifo


def run_program(program: Program, *, enumerate_all: bool = False) -> Timeline:
    """Execute a Program; `enumerate_all` looks at every tile instead of skipping repetitions.

    Raises:
        FailedError: the units wait for each other, or a FIFO overflows.
        NotCountableError: counters can't tell where a value comes from.
    """
    tables = tables_of(program)
    near = NEAR
    while True:
        stream = walk(tables, near)
        engine = _Engine(tables, stream, near, enumerate_all)
        try:
            return engine.timeline()
        except FailedError as failed:
            if failed.status != kernel.TOO_OLD or near > 1 << 16:
                raise
            near *= 4


@dataclass
class _Engine:
    tables: Tables
    stream: Stream
    near: int
    enumerate_all: bool

    def __post_init__(self) -> None:
        self.classes, exact = self._with_ticks()
        self.code = code_of(self.tables, self.near, self.classes)
        self.state = state_of(self.code, self.tables, exact)
        self.snapshot = state_of(self.code, self.tables, exact)
        # How deep runs of one class look into the ring of last slots; -1 where that is no use.
        self.deep = [self._depth(row) for row in self.classes]

    def _with_ticks(self) -> tuple[Ints, int]:
        """Classes with ticks for sizes, and the oldest act that a fetch waits for."""
        program = self.tables.program
        classes = np.array(self.stream.classes, np.int64)
        column = len(self.tables.actors) + len(self.tables.pointers) + len(self.tables.reuses)
        bits = program.architecture.word_bits
        for m in range(len(program.moves)):
            for row in classes:
                size = -(-int(row[column + m]) * bits // 8)
                row[column + m] = ticks_of(program.architecture, size)
        first = len(self.tables.actors) + len(self.tables.pointers)
        exact = [u for u, r in enumerate(self.tables.reuses) if r.writer >= len(program.tasks)]
        ages = classes[:, [first + u for u in exact]]
        return classes, int(ages.max(initial=0))

    def _depth(self, row: Ints) -> int:
        code = self.code
        count = len(self.tables.program.moves)
        if self.enumerate_all:
            return -1
        if not row[code.ticks : code.ticks + count].any():
            return 0
        ages = [row[code.reuses + u] for _, u, _ in code.frees]
        oldest = max((int(age) for age in ages if age != NONE), default=0)
        return oldest + code.ring if oldest <= 4 * code.ring else -1

    def timeline(self) -> Timeline:
        """Run everything."""
        program = self.tables.program
        self._node(self.stream.root)
        if program.drain != "head":
            self._check(kernel.flush(self.code, self.state, self.classes))
        numbers = self.state.numbers
        cycles = int(max(numbers[kernel.LAST], numbers[kernel.STORED]))
        names = [f"{fifo}@{source}" for fifo, source in _fifos(program)]
        most = self.state.fifo[:, 2].tolist()
        occupancy = tuple(zip(names, most, strict=True))
        return Timeline(program, (), cycles, occupancy, self._totals())

    def _check(self, status: int) -> None:
        if status != kernel.FINE:
            raise FailedError(status, int(self.state.numbers[kernel.FAILED]))

    def _node(self, node: int) -> None:
        if node == FLUSH:
            self._check(kernel.flush(self.code, self.state, self.classes))
            return
        kind, items = self.stream.nodes[node]
        for item, times in items:
            if kind == "runs":
                self._check(
                    settle.run_tiles(
                        self.code, self.state, self.snapshot, self.classes, item, times,
                        self.deep[item],
                    )
                )  # fmt: skip
            else:
                self._repeat(item, times)

    def _repeat(self, node: int, times: int) -> None:
        """Run a node several times, as few of them as it takes to see the state come back."""
        done, power, length = 0, 0, 0
        snapshot = None
        while done < times:
            self._node(node)
            done += 1
            if times - done < 1 or self.enumerate_all:
                continue
            length += 1
            if snapshot is not None:
                how = settle.alike(self.code, snapshot, self.state, 1 << 60)
                left = (times - done) // length
                if how != settle.DIFFERENT:
                    if left:
                        settle.skip(self.code, snapshot, self.state, left, how)
                        done += left * length
                    break
            if length >= power:
                snapshot = kernel.State(*(array.copy() for array in self.state))
                power, length = max(1, 2 * power), 0
        for _ in range(times - done):
            self._node(node)

    def _totals(self) -> Totals:
        program, tables = self.tables.program, self.tables
        counts = class_counts(self.stream)
        slots: dict[str, dict[str, int]] = {body.unit: {} for body in program.bodies}
        active: dict[str, dict[str, int]] = {body.unit: {} for body in program.bodies}
        rows = np.array(self.stream.classes, np.int64)
        for t, task in enumerate(program.tasks):
            acts = int(self.state.busy[t])
            if not acts:
                continue
            slots[task.unit][task.name] = acts
            pes = rows[:, -1] if task.unit == program.array.name else rows[:, -2]
            each = program.slots(task)
            active[task.unit][task.name] = sum(
                times * each * int(pes[n]) for n, times in enumerate(counts) if rows[n, t]
            )
        idle = {
            body.unit: {
                cause: int(amount)
                for cause, amount in zip(CAUSES, self.state.idle[u], strict=False)
                if amount
            }
            for u, body in enumerate(program.bodies)
        }
        column = len(tables.actors) + len(tables.pointers) + len(tables.reuses)
        bits = program.architecture.word_bits
        moved = {
            move.name: sum(
                times * -(-int(rows[n, column + m]) * bits // 8) for n, times in enumerate(counts)
            )
            for m, move in enumerate(program.moves)
        }
        ticks = sum(
            times * int(self.classes[n, self.code.ticks : self.code.ticks + len(moved)].sum())
            for n, times in enumerate(counts)
        )
        return Totals(slots, active, idle, moved, ticks)


def class_counts(stream: Stream) -> list[int]:
    """How many tiles there are of each class."""
    known: dict[int, dict[int, int]] = {FLUSH: {}}

    def count(node: int) -> dict[int, int]:
        if node not in known:
            kind, items = stream.nodes[node]
            found: dict[int, int] = {}
            for item, times in items:
                inner = {item: 1} if kind == "runs" else count(item)
                for number, tiles in inner.items():
                    found[number] = found.get(number, 0) + times * tiles
            known[node] = found
        return known[node]

    found = count(stream.root)
    return [found.get(number, 0) for number in range(len(stream.classes))]


def _fifos(program: Program) -> list[tuple[str, str]]:
    """FIFOs by the tensor that waits in them, and whether that is on its way down or back up."""
    return [
        (operand.name, operand.source)
        for task in program.tasks
        for step in task.steps
        for operand in step.operands
        if operand.source in ("landing", "returned")
    ]


def code_of(tables: Tables, near: int, classes: Ints) -> kernel.Code:
    """A Program in numbers: the rules of `slots.Run` with pointers for tiles."""
    program = tables.program
    run = Run(program)
    index = {actor.name: n for n, actor in enumerate(tables.actors)}
    units = {body.unit: u for u, body in enumerate(program.bodies)}
    firsts, total = [], 0
    for task in program.tasks:
        firsts.append(total)
        total += program.slots(task)
    tasks = np.array(
        [
            (units[t.unit], program.slots(t), firsts[n], run.made(t, 0))
            for n, t in enumerate(program.tasks)
        ],
        np.int64,
    )
    waits: list[tuple[int, ...]] = []
    first, finish = [0], []
    for task in program.tasks:
        for slot in range(program.slots(task)):
            waits += _waits(run, tables, index, task, slot)
            first.append(len(waits))
            _, step, _ = program.locate(task, slot)
            finish.append(run.finish_of(task, task.steps[step], 0))
    items, entries, lengths = [], [], []
    for body in program.bodies:
        row = []
        for entry in body.entries:
            row.append((len(items), len(entry)))
            items += [(index[item.task], item.lag) for item in entry]
        entries.append(row)
        lengths.append(len(row))
    table = np.zeros((len(entries), max(lengths), 2), np.int64)
    for u, row in enumerate(entries):
        table[u, : len(row)] = row
    moves = np.array(
        [
            (
                move.kind == "store",
                move.lag,
                move.entries,
                index[move.tasks[0]] if move.kind == "store" else 0,
            )
            for move in program.moves
        ],
        np.int64,
    ).reshape(-1, 4)
    tasks_count = len(program.tasks)
    frees = np.array(
        [
            (reuse.writer - tasks_count, u, tables.pointers[reuse.pointer].reader)
            for u, reuse in enumerate(tables.reuses)
            if reuse.writer >= tasks_count
        ],
        np.int64,
    ).reshape(-1, 3)
    delays = np.array(waits, np.int64).reshape(-1, 6)
    pointers = len(tables.actors)
    reuses = pointers + len(tables.pointers)
    ticks = reuses + len(tables.reuses)
    longest = int(delays[:, kernel.DELAY].max(initial=0))
    fill = sum(
        move.entries * int(classes[:, ticks + m].max(initial=0))
        for m, move in enumerate(program.moves)
    )
    latency = latency_of(program.architecture)
    refill = fill // kernel.TICKS + latency + longest + 2
    flight = 2 * tables.lag + 6
    ring = 1 << (near + flight + 2).bit_length()
    return kernel.Code(
        tasks, np.array(first, np.int64), delays, np.array(finish, np.int64),
        np.array(items, np.int64), table, np.array(lengths, np.int64), moves, frees,
        pointers, reuses, ticks, _takes(run, tables, index), ring, near, tables.lag,
        longest + 2, refill, latency,
    )  # fmt: skip


def _waits(
    run: Run, tables: Tables, index: dict[str, int], task: Task, slot: int
) -> list[tuple[int, ...]]:
    """The waits of one micro-op: those of `Run.waits`, whatever the tile."""
    found = []
    for rule in run.rules(task, slot):
        cause = CAUSES.index(rule.cause)
        if rule.operand is None:
            found.append((kernel.OWN, 0, index[task.name], rule.slot, rule.delay, cause))
        elif rule.cause == "reuse":
            u = tables.reuse_of[task.name, rule.task, rule.operand]
            found.append((kernel.REUSED, u, index[rule.task], rule.slot, rule.delay, cause))
        else:
            p = tables.pointer_of[task.name, rule.operand]
            found.append((kernel.POINTED, p, index[rule.task], rule.slot, rule.delay, cause))
    if not slot:
        for m, move in enumerate(tables.program.moves):
            if move.kind == "fetch" and task.name in move.tasks:
                p = tables.pointer_of[task.name, move.name]
                found.append((kernel.FETCHED, p, m, 0, 0, CAUSES.index("memory")))
            if move.kind == "store" and move.gate == task.name:
                found.append((kernel.ROOM, m, m, 0, 1, CAUSES.index("store")))
    return found


def _takes(run: Run, tables: Tables, index: dict[str, int]) -> Ints:
    """Who takes words out of FIFOs, and when they arrive there."""
    program = tables.program
    rows = []
    for task in program.tasks:
        for number, step in enumerate(task.steps):
            for operand in step.operands:
                if operand.source in ("landing", "returned"):
                    maker = program.source(task, operand)
                    offset = sum(program.cost(task, s)[0] for s in task.steps[:number])
                    made = [run.made_in(maker, task, word) for word in (0, 1)]
                    several = program.word_count(task) > 1
                    is_back = operand.source == "returned"
                    room = program.return_entries if is_back else program.landing_entries
                    rows.append(
                        (
                            index[task.name],
                            offset,
                            program.slots_of_word(task),
                            room,
                            index[maker.name],
                            run.way(maker, operand),
                            made[1] - made[0] if several else 0,
                            made[0],
                            tables.pointer_of[task.name, operand],
                        )
                    )
    return np.array(rows, np.int64).reshape(-1, 9)


def state_of(code: kernel.Code, tables: Tables, exact: int) -> kernel.State:
    """The state before anything has happened; `exact` is the oldest act that a fetch waits for."""
    program = tables.program
    actors, tasks, moves = len(tables.actors), len(program.tasks), len(program.moves)
    flight = 2 * code.lag + 6
    long_ring = 1 << (exact + flight + code.ring).bit_length()
    entries = [move.entries for move in program.moves if move.kind == "store"]
    moved = 1 << (code.near + flight + max(entries, default=0)).bit_length()
    room = max((int(fifo[3]) for fifo in code.fifos), default=0)

    def zeros(*shape: int) -> Ints:
        return np.zeros(shape, np.int64)

    return kernel.State(
        zeros(code.ring, int(code.tasks[:, kernel.SLOTS].sum())),
        zeros(code.ring, tasks),
        zeros(tasks, long_ring),
        zeros(tasks),
        zeros(flight),
        zeros(flight, actors),
        zeros(flight, actors),
        zeros(actors),
        zeros(actors),
        zeros(max(1, moves), moved),
        zeros(max(1, moves)),
        zeros(len(program.bodies), 5),
        zeros(9),
        zeros(max(1, len(code.fifos)), room + 2),
        zeros(max(1, len(code.fifos)), 3),
        zeros(len(program.bodies), len(CAUSES) - 1),
        zeros(tasks),
    )


def failure(program: Program, failed: FailedError) -> ArchError:
    """Say what went wrong, for a run too long to be told in detail."""
    if failed.status == kernel.OVERFLOW:
        name, source = _fifos(program)[failed.fifo]
        key = "returns" if source == "returned" else "landing"
        what = f"overflow: more words of {name} wait than the {key} FIFO has entries"
        at = program.architecture.place("arrays", program.lanes.name, key)
        hint = f"let its reader come earlier in its order, or give {key} more entries"
        return ArchError(Problem(at, what, hint=hint))
    hint = "shorter ranks show in detail who waits for whom"
    return ArchError(Problem(Source(program.name), "deadlock: the units wait for each other", hint=hint))
