"""The micro-ops of one Einsum: its map, operator by operator, and how it is combined."""

from __future__ import annotations

from dataclasses import dataclass, field

from archsim.arch import Array
from archsim.operands import RefusalError, Spread
from archsim.operator_counts import SAME_UNIT
from archsim.program import Operand, Step, Task
from einsum_cascade.cascade import Einsum, affine
from einsum_cascade.expressions import Access, Apply, Expr


@dataclass(slots=True)
class Code:
    """Steps of one task while they are being written."""

    spread: Spread
    einsum: Einsum
    array: Array
    fuse: bool = False
    # Variables that the task runs through inside a tile.
    words: tuple[str, ...] = ()
    steps: list[Step] = field(default_factory=list)
    loads: list[Task] = field(default_factory=list)

    def compile(self, expr: Expr) -> tuple[Step, ...]:
        """Write the steps of a map; the last one makes the result."""
        value = self._value(expr)
        if value.source != "temporary":
            self.steps.append(Step("move", "copy", (value,)))
        return tuple(self.steps)

    def combine(self, expr: Expr, operator: str, into: Operand) -> tuple[Step, ...]:
        """Write the steps of a map and of combining it with what is there."""
        self._combine(expr, operator, into)
        cost = self.array.cost(self.steps[-1].operator)
        if into.source == "flow" and cost is not None and cost.slots > 1:
            raise RefusalError(
                f"{self.steps[-1].operator} takes {cost.slots} slots, and a value comes down one "
                "row at a time"
            )
        return tuple(self.steps)

    def _combine(self, expr: Expr, operator: str, into: Operand) -> None:
        match expr:
            case Apply(operator="mul", arguments=(left, right)) if (
                operator == "add" and self.array.cost("mac")
            ):
                self.add("mac", "mac", (self._value(left), self._value(right), into))
            case _:
                self.add(operator, operator, (into, self._value(expr)))

    def _value(self, expr: Expr) -> Operand:
        number = self.spread.number(expr)
        if number is not None:
            return Operand("constant", number=number)
        if isinstance(expr, Access):
            found = self.spread.operand(self.einsum, expr, self.array)
            if found.access is not None and found.source == "register":
                return self._held(expr)
            if found.source == "top" and self.array is self.spread.lanes and self._stays(expr):
                return self._kept(expr)
            return found
        if not isinstance(expr, Apply):
            raise RefusalError(f"{expr} is used as a number, which no PE knows")
        if self.fuse and expr.operator == "add" and self.array.cost("mac"):
            for product, other in (expr.arguments, expr.arguments[::-1]):
                if isinstance(product, Apply) and product.operator == "mul":
                    left, right = (self._value(argument) for argument in product.arguments)
                    return self.add("mac", "mac", (left, right, self._value(other)))
        operands = tuple(self._value(argument) for argument in expr.arguments)
        return self.add(expr.operator, expr.operator, operands)

    def add(self, operator: str, function: str, operands: tuple[Operand, ...]) -> Operand:
        """Write one step; the table of the array says which unit executes it."""
        row = operator if self.array.cost(operator) else SAME_UNIT.get(operator, operator)
        cost = self.array.cost(row)
        if cost is None:
            raise RefusalError(f"{self.array.name} cannot compute {operator}")
        if cost.latency_cycles % cost.slots:
            raise RefusalError(
                f"{row} takes {cost.slots} slots and {cost.latency_cycles} cycles; slots that "
                "follow from each other need a latency that is a multiple of them"
            )
        if self.array is self.spread.lanes:
            operands = self._one_from_the_top(operands)
        for source in ("left", "top", "landing", "returned"):
            if sum(operand.source == source for operand in operands) > 1:
                raise RefusalError(f"two operands of {function} come from the {source} at once")
        if {"top", "returned"} & {o.source for o in operands} and any(
            o.source == "flow" for o in operands
        ):
            raise RefusalError("the column is taken by what comes down")
        self.steps.append(Step(row, function, operands))
        return Operand("temporary", number=len(self.steps) - 1)

    def _own(self, read: Access) -> tuple[str, ...]:
        """Variables that an access runs through."""
        return self.spread.leaves(tuple(affine(i).variables[0] for i in read.indices))

    def _held(self, read: Access) -> Operand:
        """An operand of which each PE has a word: loaded from the top, one row a slot.

        Words of a tile that PEs would have to hold several of come anew for each word of the task.
        """
        spread = self.spread
        held = (*spread.loops, spread.rows, spread.cols)
        within = [v for v in self._own(read) if v not in held]
        source = Operand("top", read.tensor, access=read)
        if not within:
            rows = (spread.rows,)
            self._load(read, "load", f"{read} into the PEs", rows, Step("move", "load", (source,)))
            return Operand("register", read.tensor)
        if not set(within) <= set(self.words):
            raise RefusalError(
                f"PEs hold one word of {read.tensor}, and {within[0]} makes it several"
            )
        self.steps.append(Step("load", "load", (source,)))
        return Operand("temporary", number=len(self.steps) - 1)

    def _stays(self, read: Access) -> bool:
        """True if one word of an operand serves for all words of a lane task."""
        return bool(self.words) and not set(self.words) & set(self._own(read))

    def _kept(self, read: Access) -> Operand:
        """An operand that a lane takes from the top once and keeps."""
        step = Step("move", "copy", (Operand("top", read.tensor, access=read),))
        self._load(read, "lane", f"{read} into the lanes", (), step)
        return Operand("register", read.tensor)

    def _one_from_the_top(self, operands: tuple[Operand, ...]) -> tuple[Operand, ...]:
        """A lane gets one word from the top in a slot: others are kept, or moved before."""
        found: list[Operand] = []
        for operand in operands:
            is_second = operand.source == "top" and any(o.source == "top" for o in found)
            if not is_second or operand.access is None:
                found.append(operand)
            elif set(self.words) & set(self._own(operand.access)):
                self.steps.append(Step("move", "copy", (operand,)))
                found.append(Operand("temporary", number=len(self.steps) - 1))
            else:
                found.append(self._kept(operand.access))
        return tuple(found)

    def _load(self, read: Access, kind: str, text: str, words: tuple[str, ...], step: Step) -> None:
        """A task that loads an operand; it stays while inner loops go by that it does not have."""
        own, staying = self._own(read), []
        for loop in reversed(self.spread.placed.mapping.loops):
            if loop in own:
                break
            staying.append(loop)
        when = tuple((loop, "first") for loop in reversed(staying))
        task = Task(
            f"{read.tensor}.load",
            self.array.name,
            kind,
            text,
            words,
            (step,),
            read.tensor,
            "register",
            when=when,
        )
        if task not in self.loads:
            self.loads.append(task)
