"""The micro-ops of one Einsum: its map, operator by operator, and how it is combined."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from archsim.arch import Array
from archsim.operands import RefusalError, Spread
from archsim.placement import SAME_UNIT
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
                self.loads.append(self._load(expr))
            return replace(found, access=None) if found.source == "register" else found
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
        for source in ("left", "top", "landing", "returned"):
            if sum(operand.source == source for operand in operands) > 1:
                raise RefusalError(f"two operands of {function} come from the {source} at once")
        if {"top", "returned"} & {o.source for o in operands} and any(
            o.source == "flow" for o in operands
        ):
            raise RefusalError("the column is taken by what comes down")
        self.steps.append(Step(row, function, operands))
        return Operand("temporary", number=len(self.steps) - 1)

    def _load(self, read: Access) -> Task:
        """Rows take their words of an operand from the top, one row a slot, and keep them."""
        spread = self.spread
        own = spread.leaves(tuple(affine(index).variables[0] for index in read.indices))
        within = [v for v in own if v not in (*spread.loops, spread.rows, spread.cols)]
        if within:
            raise RefusalError(
                f"PEs hold one word of {read.tensor}, and {within[0]} makes it several"
            )
        # Words stay while the innermost loops go by that the operand does not have.
        staying = []
        for loop in reversed(spread.placed.mapping.loops):
            if loop in own:
                break
            staying.append(loop)
        when = tuple((loop, "first") for loop in reversed(staying))
        step = Step("move", "load", (Operand("top", read.tensor, access=read),))
        name, text = f"{read.tensor}.load", f"{read} into the PEs"
        rows = (spread.rows,)
        return Task(
            name, self.array.name, "load", text, rows, (step,), read.tensor, "register", when=when
        )
