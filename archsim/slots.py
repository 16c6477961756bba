"""The reference engine: every micro-op of every tile, one by one, as early as the rules allow.

Units issue in order; a micro-op is issued in the earliest slot that its producers, the registers
it overwrites and the micro-op before it allow (docs/schedule.md, "Rules"). Everything is a maximum
of sums, so this is the one least solution. Slow and obviously right: faster engines are tested
against it. A program whose units wait for each other in a circle is refused, as is one that
overfills a FIFO.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from archsim.channel import Channel
from archsim.errors import ArchError
from archsim.program import Operand, Program, Register, Step, Task
from archsim.sequence import MicroOp, sequence
from archsim.timeline import CAUSES, Fact, Timeline, count, merge
from einsum_cascade.errors import Problem, Source

# More micro-ops than this take minutes here.
LIMIT = 20_000_000


@dataclass(frozen=True, slots=True)
class Rule:
    """A reason to wait that holds in every tile: some slot of another task, or of the same one.

    `operand` says of which tile: None is the same; else the one that made what the operand reads,
    or, for `reuse`, the one in which that task reads what is to be overwritten.
    """

    cause: str
    task: str
    operand: Operand | None
    slot: int
    delay: int


@dataclass(frozen=True, slots=True)
class Wait:
    """One thing that a micro-op waits for: it may issue `delay` slots after another micro-op."""

    cause: str
    task: str
    tile: int
    slot: int
    delay: int


@dataclass(frozen=True, slots=True)
class Issue:
    """A micro-op that has been issued: when, and what it waited for longest."""

    op: MicroOp
    at: int
    idle: int
    # None: only for the one before it in its unit.
    wait: Wait | None


def simulate(program: Program) -> Timeline:
    """Execute a Program slot by slot.

    Raises:
        ArchError: a deadlock, an overflow, or more micro-ops than can be enumerated.
    """
    return timeline_of(execute(program))


def timeline_of(run: Run) -> Timeline:
    """The facts of an execution; ArchError if a FIFO overflowed on the way."""
    facts = [fact for unit, issues in run.issued.items() for fact in facts_of(unit, issues)]
    moved: dict[str, int] = {}
    for granule, _, _ in run.channel.done:
        name = granule.move.name
        moved[name] = moved.get(name, 0) + granule.bytes
    totals = count(run.program, tuple(facts), moved, run.channel.busy)
    return Timeline(run.program, tuple(facts), run.cycles, tuple(run.occupancy().items()), totals)


def facts_of(unit: str, issues: Iterable[Issue]) -> Iterator[Fact]:
    """What a unit did, from its micro-ops in order."""
    return merge(
        unit,
        (
            (i.op.task.name, i.op.tile.index, i.at, i.wait.cause if i.wait else "", i.idle)
            for i in issues
        ),
    )


@dataclass
class Run:
    """The state of an execution: what was issued when, and the rules of this Program."""

    program: Program
    issued: dict[str, list[Issue]] = field(default_factory=dict)
    # Issue slots by task and tile.
    at: dict[tuple[str, int], list[int]] = field(default_factory=dict)
    reading: dict[tuple[str, Operand], dict[int, list[int]]] = field(default_factory=dict)
    # For each run between which the pipeline is empty: its last result, and who made it.
    last: dict[int, tuple[int, Issue]] = field(default_factory=dict)

    @cached_property
    def channel(self) -> Channel:
        """The memory channel."""
        return Channel(self.program)

    @cached_property
    def down(self) -> int:
        """Slots from the top row to the bottom one."""
        return self.program.architecture.latency.row_hop * (self.program.shape[0] - 1)

    @cached_property
    def registers(self) -> dict[tuple[str, str], Register]:
        """Registers by tensor and unit."""
        return {(r.tensor, r.unit): r for r in self.program.registers}

    @cached_property
    def readers(self) -> dict[tuple[str, str], list[tuple[Task, Operand]]]:
        """Who reads a tensor from registers, by tensor and unit."""
        found: dict[tuple[str, str], list[tuple[Task, Operand]]] = {}
        for task in self.program.tasks:
            for operand in (o for step in task.steps for o in step.operands):
                if operand.source == "register":
                    found.setdefault((operand.name, task.unit), []).append((task, operand))
        return found

    @property
    def cycles(self) -> int:
        """Clock edges from the first issue to the last result, in the last column, or store."""
        finishes = (self.finish(issue) for issues in self.issued.values() for issue in issues)
        stored = (over for granule, _, over in self.channel.done if granule.move.kind == "store")
        return max(max(finishes, default=0), max(stored, default=0))

    def finish(self, issue: Issue) -> int:
        """The cycle in which the last PE or lane has the result of a micro-op."""
        task = issue.op.task
        _, step, _ = self.program.locate(task, issue.op.slot)
        return self.finish_of(task, task.steps[step], issue.at)

    def made(self, task: Task, slot: int) -> int:
        """The cycle in which the last lane has the last word of a task."""
        return self.finish_of(task, task.steps[-1], slot)

    def finish_of(self, task: Task, step: Step, slot: int) -> int:
        """The cycle in which the last PE or lane has the result of a step issued in a slot."""
        program = self.program
        skew = program.shape[1] - 1 + (self.down if task.unit == program.array.name else 0)
        return slot + skew + program.cost(task, step)[1] - 1

    def rules(self, task: Task, slot: int) -> Iterator[Rule]:
        """What a micro-op waits for in every tile, besides memory and the one before it."""
        program = self.program
        word, number, part = program.locate(task, slot)
        step = task.steps[number]
        same = "register" if task.unit == program.array.name else "lane"
        if part:
            # The slots of one operator follow from each other.
            yield Rule(same, task.name, None, slot - 1, program.cost(task, step)[1])
        for operand in () if part else step.operands:
            if operand.source == "accumulator" and word:
                before = word * program.slots_of_word(task) - 1
                delay = program.architecture.latency.accumulate
                yield Rule("accumulator", task.name, None, before, delay)
            elif operand.source == "accumulator" and operand.back:
                # The sum goes on from the tile before.
                delay = program.architecture.latency.accumulate
                yield Rule("accumulator", task.name, operand, program.slots(task) - 1, delay)
            elif operand.source == "temporary":
                made = task.steps[int(operand.number)]
                before = sum(
                    program.cost(task, s)[0] for s in task.steps[: int(operand.number) + 1]
                )
                at = word * program.slots_of_word(task) + before - 1
                yield Rule(same, task.name, None, at, program.cost(task, made)[1])
            elif operand.source in ("register", "landing", "returned"):
                maker = program.source(task, operand)
                cause = {"register": same, "landing": "landing", "returned": "return"}
                at, delay = self.made_in(maker, task, word), self.way(maker, operand)
                yield Rule(cause[operand.source], maker.name, operand, at, delay)
        is_last = number == len(task.steps) - 1
        is_first = not word or task.kind not in ("accumulate", "load")
        key = (task.tensor, task.unit)
        if is_last and is_first and task.goes != "landing" and key in self.registers:
            # A register is written again only after everybody has read its old value.
            for reader, operand in self.readers.get(key, []):
                for at in self._reads_in(reader, operand, task, word):
                    yield Rule("reuse", reader.name, operand, at, 1)

    def waits(self, op: MicroOp) -> Iterator[Wait]:
        """Everything that a micro-op waits for, besides the one before it in its unit."""
        program, task, own = self.program, op.task, op.tile.index
        if op.run:
            finished, issue = self.last[op.run - 1]
            late = issue.op
            delay = finished + 1 - issue.at
            yield Wait("drain", late.task.name, late.tile.index, late.slot, delay)
        for rule in self.rules(task, op.slot):
            other = program.task(rule.task)
            if rule.operand is None:
                yield Wait(rule.cause, rule.task, own, rule.slot, rule.delay)
            elif rule.cause == "reuse":
                for tile in self._last_readers(op, other, rule.operand):
                    if other.name != task.name or tile != own or rule.slot < op.slot:
                        # Else it reads the old value while it writes the new one.
                        yield Wait("reuse", rule.task, tile, rule.slot, rule.delay)
            else:
                made = program.source_tile(task, op.tile, rule.operand)
                if made is not None:
                    yield Wait(rule.cause, rule.task, made, rule.slot, rule.delay)
        if not op.slot:
            for granule in self.channel.needed(task, own):
                yield Wait("memory", granule.move.name, granule.tile, 0, 0)
            for granule in self.channel.in_the_way(task, own):
                yield Wait("store", granule.move.name, granule.tile, 0, 1)

    def made_in(self, maker: Task, reader: Task, word: int) -> int:
        """The slot of a task that finishes the word which a reader takes."""
        each = self.program.slots_of_word(maker)
        if maker.kind in ("accumulate", "load"):
            return self.program.slots(maker) - 1
        if not maker.words:
            return each - 1
        assert maker.words == reader.words, (maker.name, reader.name)
        return (word + 1) * each - 1

    def way(self, maker: Task, operand: Operand) -> int:
        """Slots from a maker's last one of a word to the first in which a reader may have it."""
        latency = self.program.cost(maker, maker.steps[-1])[1]
        if operand.source == "landing":
            return latency + self.down
        if operand.source == "returned":
            return latency + self.program.architecture.latency.return_registers
        return latency

    def _last_readers(self, op: MicroOp, reader: Task, operand: Operand) -> list[int]:
        """Tiles in which a reader reads the value that a micro-op is to overwrite."""
        depth = self.registers[op.task.tensor, op.task.unit].depth
        old = self.program.ordinals[op.task.name][op.tile.index] - depth
        if old < 0:
            return []
        tile = self.program.acting[op.task.name][old]
        return self._tiles_that_read(reader, operand).get(tile, [])

    def _tiles_that_read(self, reader: Task, operand: Operand) -> dict[int, list[int]]:
        """For each tile whose value a reader takes, the tiles in which it does."""
        key = (reader.name, operand)
        if key not in self.reading:
            found = self.reading.setdefault(key, {})
            for tile in self.program.acting[reader.name]:
                made = self.program.source_tile(reader, self.program.tiles[tile], operand)
                if made is not None:
                    found.setdefault(made, []).append(tile)
        return self.reading[key]

    def _reads_in(self, reader: Task, operand: Operand, maker: Task, word: int) -> Iterator[int]:
        """The last slot of a reader that reads a word: the same word, or any where there is one."""
        each = self.program.slots_of_word(reader)
        offset = 0
        for step in reader.steps:
            if operand in step.operands:
                break
            offset += self.program.cost(reader, step)[0]
        by_word = maker.words == reader.words and maker.kind not in ("accumulate", "load")
        yield (word if by_word else self.program.word_count(reader) - 1) * each + offset

    def occupancy(self) -> dict[str, int]:
        """Most words that wait in each FIFO at a time; ArchError if that is more than fit."""
        found = {}
        for task, operand, changes in self.fifos():
            most, slot = _most(changes)
            found[f"{operand.name}@{operand.source}"] = most
            self._check_room(task, operand, most, slot)
        return found

    def fifos(self) -> Iterator[tuple[Task, Operand, list[tuple[int, int]]]]:
        """Each FIFO: who takes its words, as which operand, and the slots in which +-1 are there.

        A word waits from the slot in which it arrives to the one that takes it, both included; so
        it comes in that slot, and has gone in the slot after.
        """
        for task in self.program.tasks:
            for number, step in enumerate(task.steps):
                for operand in step.operands:
                    if operand.source in ("landing", "returned"):
                        yield task, operand, self._changes(task, number, operand)

    def _changes(self, task: Task, number: int, operand: Operand) -> list[tuple[int, int]]:
        """Slots in which words of one FIFO come (+1) and have gone (-1), in order."""
        program = self.program
        maker = program.source(task, operand)
        each = program.slots_of_word(task)
        offset = sum(program.cost(task, s)[0] for s in task.steps[:number])
        delay = self.way(maker, operand)
        changes: list[tuple[int, int]] = []
        for tile in self.program.acting[task.name]:
            taken = self.at[task.name, tile]
            made = program.source_tile(task, program.tiles[tile], operand)
            assert made is not None
            for word in range(program.word_count(maker)):
                slot = self.at[maker.name, made][self.made_in(maker, task, word)] + delay
                changes += [(slot, 1), (taken[word * each + offset] + 1, -1)]
        return sorted(changes)

    def _check_room(self, task: Task, operand: Operand, most: int, slot: int) -> None:
        program = self.program
        returned = operand.source == "returned"
        room = program.return_entries if returned else program.landing_entries
        if most > room:
            key = "returns" if returned else "landing"
            lanes = program.lanes.name
            what = (
                f"overflow: {most} words of {operand.name} wait in slot {slot} until {task.name} "
                f"takes them, the {key} FIFO has {room} entries"
            )
            hint = f"let {task.name} come earlier in its order, or give {key} more entries"
            if program.document:
                raise ArchError(program.document.problem((key,), what, hint))
            at = program.architecture.place("arrays", lanes, key)
            raise ArchError(Problem(at, what, hint=hint))


def _most(changes: list[tuple[int, int]]) -> tuple[int, int]:
    """Most words at a time, and the slot in which they first wait."""
    waiting, most, where = 0, 0, 0
    for slot, change in changes:
        waiting += change
        if waiting > most:
            most, where = waiting, slot
    return most, where


def execute(program: Program) -> Run:
    """Issue every micro-op; ArchError if the units wait for each other in a circle."""
    run = Run(program)
    total = sum(program.slots(task) for task in program.tasks) * len(program.tiles)
    if total > LIMIT:
        raise ArchError(
            Problem(
                Source(program.name),
                f"{total:,} micro-ops in {len(program.tiles):,} tiles; this engine enumerates them",
                hint="take shorter ranks or fewer heads, or a bound instead: --level bound",
            )
        )
    queues = {body.unit: sequence(program, body) for body in program.bodies}
    heads = {unit: next(queue, None) for unit, queue in queues.items()}
    clock = dict.fromkeys(queues, 0)
    run.issued = {unit: [] for unit in queues}
    while any(op is not None for op in heads.values()):
        moved = run.channel.advance(run.at, run.made)
        for unit, queue in queues.items():
            while (op := heads[unit]) is not None:
                if any(other is not None and other.run < op.run for other in heads.values()):
                    break
                found = _earliest(run, op, clock[unit] + 1)
                if found is None:
                    break
                at, wait = found
                issue = Issue(op, at, at - clock[unit] - 1, wait)
                run.issued[unit].append(issue)
                finished = run.finish(issue)
                if finished > run.last.get(op.run, (0,))[0]:
                    run.last[op.run] = (finished, issue)
                run.at.setdefault((op.task.name, op.tile.index), []).append(at)
                clock[unit] = at
                heads[unit] = next(queue, None)
                moved = True
        if not moved:
            raise ArchError(_deadlock(run, {u: op for u, op in heads.items() if op is not None}))
    run.channel.advance(run.at, run.made)
    return run


def _earliest(run: Run, op: MicroOp, at: int) -> tuple[int, Wait | None] | None:
    """The earliest slot of a micro-op and what it waited for; None while that is not known."""
    binding = None
    for wait in run.waits(op):
        slots = run.at.get((wait.task, wait.tile), ())
        if wait.slot >= len(slots):
            return None
        ready = slots[wait.slot] + wait.delay
        # Ties in the order of the rules.
        if ready > at or (
            binding and ready == at and CAUSES.index(wait.cause) < CAUSES.index(binding.cause)
        ):
            at, binding = ready, wait
    return at, binding


def _deadlock(run: Run, heads: dict[str, MicroOp]) -> Problem:
    """Follow what waits for what until it closes, and say it."""
    memory = run.program.architecture.outer.name
    moves = {move.name for move in run.program.moves}
    chain: list[tuple[str, str, tuple[str, int], str]] = []
    # Where the pipeline has to run empty, whoever is ahead only waits for the others to be done.
    unit = min(heads, key=lambda unit: heads[unit].run)
    while unit not in [where for where, _, _, _ in chain]:
        if unit == memory:
            stuck = run.channel.waiting(run.at)
            assert stuck is not None
            granule, task, tile = stuck
            who, target = f"{granule.move.name} of tile {granule.tile}", (task.name, tile)
            why = "" if granule.move.kind == "store" else f" to have read {granule.move.tensor}"
        else:
            op = heads[unit]
            wait = next(w for w in run.waits(op) if w.slot >= len(run.at.get((w.task, w.tile), ())))
            who, target = f"{op.task.name} of tile {op.tile.index}", (wait.task, wait.tile)
            is_reuse = wait.cause == "reuse"
            why = f" to have read the register of {op.task.tensor}" if is_reuse else ""
        chain.append((unit, who, target, why))
        unit = memory if target[0] in moves else run.program.task(target[0]).unit
    chain = chain[[where for where, _, _, _ in chain].index(unit) :]
    texts = []
    for where, who, target, why in chain:
        what = f"{who} waits for {target[0]} of tile {target[1]}{why}"
        behind = memory if target[0] in moves else run.program.task(target[0]).unit
        blocker = heads.get(behind)
        if blocker and (blocker.task.name, blocker.tile.index) != target:
            what += f", which stands behind {blocker.task.name} of tile {blocker.tile.index}"
            what += "" if behind != where else " itself"
        texts.append(f"{where}: {what}")
    return Problem(
        Source(run.program.name),
        "deadlock: " + "; ".join(texts),
        hint="move the task that is waited for forward in its order, or give it a smaller lag",
    )
