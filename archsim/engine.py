"""The tile-level engine: what `slots` finds, for runs of any length.

The tiles of a Program come as a tree of repetitions (`tile_walk`); micro-ops are issued in numba
(`engine_kernel`); when the state of the units comes back, the repetitions in between are skipped
(`engine_settle`). All of it is exact: cycles, idle slots by cause and the fill of FIFOs are those
of the reference engine, which the tests compare on random programs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from archsim import engine_code as kernel
from archsim import engine_settle as settle
from archsim.engine_kernel import flush
from archsim.engine_layout import layout, timed
from archsim.errors import ArchError
from archsim.program import Program
from archsim.tile_kernel import NONE
from archsim.tile_tables import Tables, tables_of
from archsim.tile_walk import FLUSH, Stream, class_counts, walk
from archsim.timeline import CAUSES, Timeline, Totals
from einsum_cascade.errors import Problem, Source

Ints = NDArray[np.int64]
# How far back, in acts, waits are followed at first; more if something that old is waited for.
NEAR = 4
# States that are kept for each node of the tree, with what became of them.
KNOWN = 6


class FailedError(Exception):
    """A run that can't be: what the kernel said."""

    def __init__(self, status: int, fifo: int) -> None:
        """Keep the status and the FIFO that overflowed."""
        super().__init__(status)
        self.status, self.fifo = status, fifo


@dataclass(frozen=True)
class Prepared:
    """A Program as the engine runs it, but for how fast its outer memory is."""

    tables: Tables
    stream: Stream
    near: int
    # Classes of tiles, with words for moves, and how many tiles there are of each.
    rows: Ints
    counts: tuple[int, ...]
    code: Ints
    state: Ints


def prepare(program: Program, near: int = NEAR) -> Prepared:
    """Walk through a Program's nest and lay it out, following waits some acts back.

    Raises:
        NotCountableError: counters can't tell where a value comes from.
    """
    tables = tables_of(program)
    stream = walk(tables, near)
    rows = np.array(stream.classes, np.int64)
    # The oldest act that a fetch waits for.
    first = len(tables.actors) + len(tables.pointers)
    exact = [first + u for u, r in enumerate(tables.reuses) if r.writer >= len(program.tasks)]
    code, state = layout(tables, near, int(rows[:, exact].max(initial=0)))
    return Prepared(tables, stream, near, rows, tuple(class_counts(stream)), code, state)


def run_program(program: Program, known: dict[int, Prepared] | None = None) -> Timeline:
    """Execute a Program.

    Args:
        program: what to run.
        known: what was prepared for this Program, or for one that differs in its outer memory's
            speed only; what is missing is added.

    Raises:
        FailedError: the units wait for each other, or a FIFO overflows.
        NotCountableError: counters can't tell where a value comes from.
    """
    return run_counted(program, known)[0]


def run_counted(
    program: Program, known: dict[int, Prepared] | None = None, *, enumerate_all: bool = False
) -> tuple[Timeline, int]:
    """Execute a Program as `run_program` does; also return how many tiles were looked at.

    `enumerate_all` looks at every tile instead of skipping repetitions.
    """
    known = {} if known is None else known
    near = max(known, default=NEAR)
    while True:
        if near not in known:
            known[near] = prepare(program, near)
        engine = _Engine(program, known[near], enumerate_all)
        try:
            return engine.timeline(), engine.walked
        except FailedError as failed:
            if failed.status != kernel.TOO_OLD or near > 1 << 16:
                raise
            near *= 4


def every_slot(program: Program) -> dict[tuple[str, int], tuple[int, ...]]:
    """Issue slots of every micro-op, by task and its act in order; nothing is skipped.

    Raises:
        FailedError: the units wait for each other, or a FIFO overflows.
        NotCountableError: counters can't tell where a value comes from.
    """
    prepared = prepare(program, 1 << 12)
    engine = _Engine(program, prepared, enumerate_all=True)
    found: dict[tuple[str, int], tuple[int, ...]] = {}
    for number in prepared.stream.expand():
        engine.run_class(number)
        engine.harvest(found)
    if program.drain != "head":
        engine.run_class(FLUSH)
        engine.harvest(found)
    return found


@dataclass
class _Engine:
    program: Program
    prepared: Prepared
    enumerate_all: bool

    def __post_init__(self) -> None:
        prepared = self.prepared
        self.tables = prepared.tables
        self.code, self.classes = timed(
            self.tables, prepared.code, prepared.rows, self.program.architecture
        )
        self.state = prepared.state.copy()
        self.snapshot = prepared.state.copy()
        self.known: dict[int, list[tuple[Ints, Ints]]] = {}
        # How deep runs of one class look into the ring of last slots; see `settle.run_tiles`.
        self.deep = [self._depth(row) for row in self.classes]

    def _depth(self, row: Ints) -> int:
        tasks = len(self.program.tasks)
        if self.enumerate_all:
            return settle.NEVER
        if not row[tasks : len(self.tables.actors)].any():
            return 0
        reuses, ring = int(self.code[kernel.REUSES]), int(self.code[kernel.RING])
        ages = [row[reuses + u] for u, r in enumerate(self.tables.reuses) if r.writer >= tasks]
        oldest = max((int(age) for age in ages if age != NONE), default=0)
        return oldest + ring if oldest <= 2 * ring else settle.FROM_BEFORE

    def timeline(self) -> Timeline:
        """Run everything."""
        program = self.program
        self._node(self.prepared.stream.root)
        if program.drain != "head":
            self._check(flush(self.code, self.state, self.classes))
        cycles = max(self._number(kernel.LAST), self._number(kernel.STORED))
        names = [f"{fifo}@{source}" for fifo, source in _fifos(program)]
        most = self._part(kernel.COUNT)[2::3].tolist()
        occupancy = tuple(zip(names, most, strict=True))
        return Timeline(program, (), cycles, occupancy, self._totals())

    def _check(self, status: int) -> None:
        if status != kernel.FINE:
            raise FailedError(status, self._number(kernel.FAILED))

    @property
    def walked(self) -> int:
        """Tiles that were looked at so far."""
        return self._number(kernel.ENTERED)

    def run_class(self, number: int) -> None:
        """Run one tile of a class, or let the pipeline run empty."""
        if number == FLUSH:
            self._check(flush(self.code, self.state, self.classes))
            return
        run = (self.code, self.state, self.snapshot, self.classes, number, 1, settle.NEVER)
        self._check(settle.run_tiles(*run))

    def harvest(self, found: dict[tuple[str, int], tuple[int, ...]]) -> None:
        """Note the slots of acts that are over and were not noted before."""
        for t, task in enumerate(self.program.tasks):
            act = int(self._part(kernel.OVER)[t]) - 1
            column = int(kernel.task_of(self.code, t, kernel.COLUMN))
            while act >= 0 and (task.name, act) not in found:
                first = int(kernel.slot_at(self.code, self.state, act, column))
                count = self.program.slots(task)
                found[task.name, act] = tuple(self.state[first : first + count].tolist())
                act -= 1

    def _part(self, part: int) -> Ints:
        """A part of the state by its place in the head of the code."""
        return self.state[self.code[part] : self.code[part + 1]]

    def _number(self, number: int) -> int:
        return int(self._part(kernel.NUMBER)[number])

    def _node(self, node: int) -> None:
        """Run a node, or do what it did to a state that was like this one."""
        known = self.known.setdefault(node, [])
        for before, after in known:
            if settle.alike(self.code, before, self.state, settle.WHOLE) == settle.MOVING:
                settle.replay(self.code, before, after, self.state)
                return
        if len(known) == KNOWN or self.enumerate_all:
            self._run_node(node)
            return
        before = self.state.copy()
        self._run_node(node)
        known.append((before, self.state.copy()))

    def _run_node(self, node: int) -> None:
        if node == FLUSH:
            self._check(flush(self.code, self.state, self.classes))
            return
        kind, items = self.prepared.stream.nodes[node]
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
                how = settle.alike(self.code, snapshot, self.state, settle.WHOLE)
                left = (times - done) // length
                if how != settle.DIFFERENT:
                    if left:
                        settle.skip(self.code, snapshot, self.state, left, how)
                        done += left * length
                    break
            if length >= power:
                snapshot = self.state.copy()
                power, length = max(1, 2 * power), 0
        for _ in range(times - done):
            self._node(node)

    def _totals(self) -> Totals:
        program = self.program
        rows, counts = self.prepared.rows, self.prepared.counts
        slots: dict[str, dict[str, int]] = {body.unit: {} for body in program.bodies}
        active: dict[str, dict[str, int]] = {body.unit: {} for body in program.bodies}
        # Sums over tiles pass 64 bit: they are Python's.
        pes = {program.array.name: rows[:, -1].tolist(), program.lanes.name: rows[:, -2].tolist()}
        for t, task in enumerate(program.tasks):
            busy = int(self._part(kernel.BUSY)[t])
            if not busy:
                continue
            slots[task.unit][task.name] = busy
            each, acts = program.slots(task), rows[:, t].tolist()
            filled = zip(counts, acts, pes[task.unit], strict=True)
            active[task.unit][task.name] = each * sum(n * k for n, acting, k in filled if acting)
        stalled = self._part(kernel.IDLE).reshape(len(program.bodies), -1)
        idle = {
            body.unit: {
                cause: int(amount)
                for cause, amount in zip(CAUSES, stalled[u], strict=False)
                if amount
            }
            for u, body in enumerate(program.bodies)
        }
        column = int(self.code[kernel.CLASS_TICKS])
        bits = program.architecture.word_bits
        moved, ticks = {}, 0
        for m, move in enumerate(program.moves):
            words, taken = rows[:, column + m].tolist(), self.classes[:, column + m].tolist()
            moved[move.name] = sum(
                n * -(-k * bits // 8) for n, k in zip(counts, words, strict=True)
            )
            ticks += sum(n * k for n, k in zip(counts, taken, strict=True))
        return Totals(slots, active, idle, moved, ticks)


def _fifos(program: Program) -> list[tuple[str, str]]:
    """FIFOs by the tensor that waits in them, and whether that is on its way down or back up."""
    return [
        (operand.name, operand.source)
        for task in program.tasks
        for step in task.steps
        for operand in step.operands
        if operand.source in ("landing", "returned")
    ]


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
    return ArchError(
        Problem(Source(program.name), "deadlock: the units wait for each other", hint=hint)
    )
