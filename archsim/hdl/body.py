"""The loop body of a unit as instructions: what each micro-op of each item computes and reads.

Register indices are a base, a place that rotates with the tiles, and the word; everything else is
fixed. What differs between classes of tiles is only which register, or which constant, is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from archsim.arch import Array
from archsim.arithmetic import exp_unit
from archsim.errors import ArchError
from archsim.hdl.instruction import (
    CODES,
    LAGS,
    LATENCIES,
    MICRO_OPS,
    OUTPUTS,
    POOL,
    QUEUES,
    REGISTERS,
    WORDS,
    bits_of,
)
from archsim.hdl.tiles import Class, Walk
from archsim.program import Operand, Program, Register, Step, Task
from einsum_cascade.errors import Problem, Source, legal_words
from einsum_cascade.exp_units import coefficients


@dataclass(frozen=True, slots=True)
class Place:
    """A register; `ring` is the tensor whose registers rotate, `turns` how far back it lies."""

    base: int
    ring: str = ""
    turns: int = 0
    by_word: bool = False


@dataclass(frozen=True, slots=True)
class Read:
    """An operand: `constant` is a place in the pool, `register` where it comes from registers."""

    source: str = "constant"
    constant: int = 0
    register: Place | None = None


@dataclass(frozen=True)
class MicroOp:
    """One micro-op of an item. Operands are listed by class of tile, for those it acts in."""

    text: str
    fn: str
    operands: tuple[dict[int, Read], ...]
    latency: int
    dest: Place | None = None
    # What a first word reads in place of the sum that it starts: operand number -> constant.
    starts: tuple[tuple[int, int], ...] = ()
    flags: tuple[str, ...] = ()
    mask: str = "plain"
    # A register that keeps the argument of a polynomial.
    keeps: int = 0
    # Queue at the other unit that gets the result, output of the lanes, queue whose word goes in.
    push: int | None = None
    give: int | None = None
    take: int | None = None
    # Word at the top if it comes from neither: a place in the pool.
    pool: int = 0
    coefficient: int | None = None

    @property
    def edges(self) -> set[str]:
        """Edges of which it takes a word, not counting coefficients, queues and what falls."""
        sources = {read.source for operand in self.operands for read in operand.values()}
        found = {"left"} & sources if self.coefficient is None else set()
        if self.take is None and "down" not in self.flags:
            found |= {"top"} & sources
        return found


@dataclass(frozen=True)
class ItemRows:
    """An item of the body: the micro-ops of one of its words, and how many words it has."""

    task: Task
    lag: int
    entry: int
    words: int
    rows: tuple[MicroOp, ...]


@dataclass(frozen=True)
class UnitBody:
    """A unit as hardware needs it."""

    array: Array
    items: tuple[ItemRows, ...]
    registers: int
    rings: tuple[Register, ...]
    pool: tuple[int, ...]
    # Tensors that wait in queues at the top of its columns, and those it gives out.
    queues: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def edges(self) -> set[str]:
        """Edges of which its instructions take words."""
        return {edge for item in self.items for row in item.rows for edge in row.edges}

    @cached_property
    def functions(self) -> set[str]:
        """What its ALUs compute."""
        return {row.fn for item in self.items for row in item.rows}

    @cached_property
    def adds(self) -> bool:
        """True if it has accumulators."""
        return any("adds" in row.flags for item in self.items for row in item.rows)

    @cached_property
    def latency(self) -> int:
        """The longest latency of its instructions."""
        return max(row.latency for item in self.items for row in item.rows)


def queue_names(program: Program) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Tensors that lanes return, those that land in lanes, and those that lanes give out."""
    returned = dict.fromkeys(t.tensor for t in program.tasks if t.is_returned)
    landing = dict.fromkeys(t.tensor for t in program.tasks if t.goes == "landing")
    outputs = dict.fromkeys(t.tensor for t in program.tasks if t.goes == "output")
    return tuple(returned), tuple(landing), tuple(outputs)


def unit_body(program: Program, unit: str, found: Walk) -> UnitBody:
    """Write the loop body of a unit as instructions.

    Raises:
        ArchError: a function without a unit in rtl/, or more registers or queues than a word names.
    """
    return _Writer(program, unit, found).write()


class _Writer:
    """Collects registers and constants while the rows of a body are written."""

    def __init__(self, program: Program, unit: str, found: Walk) -> None:
        self.program, self.walk = program, found
        self.array = next(a for a in (program.array, program.lanes) if a.name == unit)
        self.is_array = self.array is program.array
        self.pool: list[int] = [0]
        self.rings = [register for register in program.registers if register.unit == unit]
        self.base: dict[tuple[str, int], int] = {}
        self.count = 0
        for register in self.rings:
            self._claim((register.tensor, -1), register.words * register.depth)
        returned, landing, self.outputs = queue_names(program)
        self.taken, self.pushed = (returned, landing) if self.is_array else (landing, returned)

    def _claim(self, key: tuple[str, int], count: int = 1) -> int:
        self.base[key] = self.count
        self.count += count
        return self.base[key]

    def _constant(self, number: float) -> int:
        bits = bits_of(number)
        if bits not in self.pool:
            self.pool.append(bits)
        return self.pool.index(bits)

    def _refuse(self, task: Task, what: str, hint: str = "") -> ArchError:
        at = Source(self.program.name)
        return ArchError(Problem(at, f"{task.name} has no hardware: {what}", hint=hint))

    def _check(self, task: Task) -> None:
        """Refuse what only models execute."""
        if task.kind == "accumulate" and not self.is_array:
            raise self._refuse(task, "lanes sum from tile to tile, not word by word")
        for step in task.steps:
            if step.operator == "load":
                raise self._refuse(task, "rows take words one after the other only in X.load")
            if any(operand.source == "accumulator" and operand.back for operand in step.operands):
                raise self._refuse(task, "a sum in a PE ends with its tile")

    def write(self) -> UnitBody:
        program = self.program
        body = next(body for body in program.bodies if body.unit == self.array.name)
        if not body.items:
            what = f"{self.array.name} has nothing to do, and hardware is written for both units"
            raise ArchError(Problem(Source(program.name), what))
        for task in program.tasks:
            if task.unit == self.array.name:
                self._check(task)
        items = tuple(
            ItemRows(
                program.task(item.task),
                item.lag,
                number,
                program.word_count(program.task(item.task)),
                tuple(self._rows(program.task(item.task))),
            )
            for number, entry in enumerate(body.entries)
            for item in entry
        )
        outputs = () if self.is_array else self.outputs
        made = UnitBody(
            self.array,
            items,
            max(1, self.count),
            tuple(self.rings),
            tuple(self.pool),
            tuple(self.taken),
            outputs,
        )
        for count, room, what in (
            (made.registers, REGISTERS, "registers"),
            (len(made.pool), POOL, "constants"),
            (len(made.queues), QUEUES, "queues"),
            (len(made.outputs), OUTPUTS, "outputs"),
            (made.latency, LATENCIES, "cycles of latency"),
            (max(item.words for item in items), WORDS, "words of a task in a tile"),
            (max(len(item.rows) for item in items), MICRO_OPS, "micro-ops of a word"),
            (max(item.lag for item in items), LAGS, "tiles of lag"),
        ):
            if count > room:
                text = f"{self.array.name} needs {count} {what}, instructions can name {room}"
                raise ArchError(Problem(Source(program.name), text))
        return made

    def _rows(self, task: Task) -> Iterator[MicroOp]:
        for number, step in enumerate(task.steps):
            slots, latency = self.program.cost(task, step)
            is_last = number == len(task.steps) - 1
            if not is_last or slots > 1:
                self._claim((task.name, number))
            coding = self._polynomial(task, step, slots) if step.function == "exp" else None
            for part in range(slots):
                yield self._row(task, number, part, slots, latency, coding)

    def _polynomial(self, task: Task, step: Step, slots: int) -> list[float] | None:
        """Coefficients if a step goes through a polynomial slot by slot; None for a whole unit."""
        unit = exp_unit(self.array)
        if unit.method != "poly":
            hint = "give the operator exp a polynomial: method: poly3 ... poly7"
            raise self._refuse(task, f"exp unit {unit.name} is a model only", hint)
        if slots != unit.size:
            return None
        if self.is_array and step.operands[0].source == "left":
            raise self._refuse(task, "argument and coefficients both come from the left")
        self._claim((f"{task.name} argument", 0))
        return [float(c) for c in coefficients(unit.size)]

    def _row(
        self,
        task: Task,
        number: int,
        part: int,
        slots: int,
        latency: int,
        coding: list[float] | None,
    ) -> MicroOp:
        step = task.steps[number]
        own = self.base.get((task.name, number), 0)
        flags: list[str] = []
        starts: list[tuple[int, int]] = []
        operands: list[dict[int, Read]] = []
        keeps, coefficient, fn = 0, None, step.function
        take, pool = None, 0
        if part == 0:
            for j, operand in enumerate(step.operands):
                operands.append(self._read(task, operand))
                if operand.source == "accumulator":
                    if slots > 1:
                        what = (
                            f"{step.operator} takes {slots} slots, accumulators are added to in one"
                        )
                        raise self._refuse(task, what)
                    starts.append((j, self._constant(task.identity or 0.0)))
                if operand.source in ("landing", "returned"):
                    take = self.taken.index(operand.name)
                if operand.source == "flow":
                    pool = self._constant(task.identity or 0.0)
            self._check_top(task, step)
        if coding is not None:
            fn = "poly"
            argument = self.base[f"{task.name} argument", 0]
            left = self._always(task, Read("left"))
            if part == 0:
                flags.append("first")
                first = self._always(task, Read(constant=self._constant(coding[-1])))
                operands = [first, operands[0], left]
                keeps = argument
            else:
                so_far = self._always(task, Read("register", register=Place(own)))
                kept = self._always(task, Read("register", register=Place(argument)))
                operands = [so_far, kept, left]
            coefficient = bits_of(coding[len(coding) - 2 - part])
            if part == slots - 1:
                flags.append("last")
        elif part > 0:
            fn = "copy"
            operands = [self._always(task, Read("register", register=Place(own)))]
        if fn not in CODES:
            hint = legal_words(fn, sorted(set(CODES) - {"poly"}), "functions in hardware")
            raise self._refuse(task, f"no unit in rtl/ computes {fn}", hint)
        text = f"{step.function} {', '.join(map(str, step.operands))}"
        text += f" ({part + 1} of {slots})" if slots > 1 else ""
        row = MicroOp(
            text,
            fn,
            tuple(operands),
            latency,
            starts=tuple(starts),
            flags=tuple(flags),
            keeps=keeps,
            take=take,
            pool=pool,
            coefficient=coefficient,
        )
        if number < len(task.steps) - 1 or part < slots - 1:
            return replace(row, dest=Place(own))
        return self._finish(row, task)

    def _finish(self, row: MicroOp, task: Task) -> MicroOp:
        """The micro-op that makes a word: where the word goes."""
        flags = list(row.flags)
        mask = {"reduce": "pass", "map": "zero"}.get(task.kind, "plain")
        dest = push = give = None
        if task.kind == "map":
            flags.append("narrow")
        if task.kind == "accumulate":
            flags.append("adds")
        if task.kind in ("drain", "load"):
            flags.append("only")
        if task.goes == "landing":
            flags.append("down")
            push = self.pushed.index(task.tensor)
        elif (task.tensor, -1) in self.base:
            dest = self._place(task, 0, by_word=True)
        if task.goes == "output":
            give = self.outputs.index(task.tensor)
        if task.is_returned:
            push = self.pushed.index(task.tensor)
        return replace(row, dest=dest, push=push, give=give, mask=mask, flags=tuple(flags))

    def _check_top(self, task: Task, step: Step) -> None:
        sources = [operand.source for operand in step.operands]
        wanted = ("top", "landing") if not self.is_array else ("top", "returned")
        if all(source in sources for source in wanted):
            raise self._refuse(task, f"{step.function} takes two words from the top at once")

    def _always(self, task: Task, read: Read) -> dict[int, Read]:
        return {number: read for number, _ in self._acting(task)}

    def _acting(self, task: Task) -> Iterator[tuple[int, Class]]:
        for number, found in enumerate(self.walk.classes):
            if task.name in found.acts:
                yield number, found

    def _place(self, maker: Task, turns: int, *, by_word: bool) -> Place:
        register = next(r for r in self.rings if r.tensor == maker.tensor)
        ring = maker.tensor if register.depth > 1 else ""
        base = self.base[maker.tensor, -1]
        return Place(base, ring, turns, by_word and register.words > 1)

    def _read(self, task: Task, operand: Operand) -> dict[int, Read]:
        """An operand, by class of tile."""
        match operand.source:
            case "constant":
                return self._always(task, Read(constant=self._constant(operand.number)))
            case "temporary":
                place = Place(self.base[task.name, int(operand.number)])
                return self._always(task, Read("register", register=place))
            case "accumulator":
                place = self._place(task, 0, by_word=False)
                return self._always(task, Read("register", register=place))
            case "left":
                return self._always(task, Read("left"))
            case "flow" | "top" | "landing" | "returned":
                return self._always(task, Read("top"))
        maker = self.program.source(task, operand)
        by_word = maker.words == task.words and maker.kind == task.kind
        by_word = by_word or maker.kind in ("map", "lane")
        found = {}
        for number, tile in self._acting(task):
            turns = tile.turns(task, operand)
            if turns is None:
                found[number] = Read(constant=self._constant(operand.initial or 0.0))
            else:
                place = self._place(maker, turns, by_word=by_word)
                found[number] = Read("register", register=place)
        return found


def polynomial(array: Array) -> tuple[int, list[float]]:
    """Degree and coefficients of an array's exp unit, the constant first."""
    unit = exp_unit(array)
    return unit.size, [float(c) for c in coefficients(unit.size)]
