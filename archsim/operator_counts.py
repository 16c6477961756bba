"""Operators that a point of an Einsum applies: their issue slots, actions and registers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from archsim.arch import Array
from archsim.mapping import Placement
from einsum_cascade.cascade import Einsum, variables_in
from einsum_cascade.expressions import Access, Apply, Expr, walk
from einsum_cascade.operators import REDUCTIONS

# Operators that a PE executes with the unit of another: a minimum is a maximum of negations.
SAME_UNIT = {"neg": "sub", "relu": "max", "min": "max", "mul": "mac"}


def operators(einsum: Einsum, array: Array) -> dict[str, int]:
    """Operators that one point of an Einsum applies, by the names of the array's table.

    Arithmetic on constants is free. A sum of products is multiply-accumulate where the array has
    it; otherwise the reduction counts as its own operator.
    """
    return dict(_counted(einsum, frozenset(row.operator for row in array.operators)))


@lru_cache(maxsize=1024)
def _counted(einsum: Einsum, known: frozenset[str]) -> tuple[tuple[str, int], ...]:
    # Many design points place the same Einsum on arrays with the same operators.
    found: dict[str, int] = {}

    def count(operator: str) -> None:
        if operator not in known and operator in SAME_UNIT:
            operator = SAME_UNIT[operator]
        found[operator] = found.get(operator, 0) + 1

    def visit(expr: Expr, fused: bool) -> None:
        if not isinstance(expr, Apply) or not _varies(expr):
            return
        if not fused:
            count(expr.operator)
        for argument in expr.arguments:
            visit(argument, False)

    product = isinstance(einsum.map, Apply) and einsum.map.operator == "mul"
    fused = einsum.op == "sum" and product and _varies(einsum.map) and "mac" in known
    visit(einsum.map, fused)
    if fused:
        count("mac")
    elif einsum.op is not None:
        row = REDUCTIONS[einsum.op]
        count(einsum.op if row.selects else row.combine)
    return tuple(found.items())


def _varies(expr: Expr) -> bool:
    """True if an expression depends on the point: it reads a tensor or an index variable."""
    return any(isinstance(node, Access) for node in walk(expr)) or bool(variables_in(expr))


def slots_of_point(counts: dict[str, int], array: Array, where: Placement) -> int:
    """Issue slots of one point: operators one after the other, pipelined groups as one."""
    each = {}
    for operator, number in counts.items():
        row = array.cost(operator)
        assert row is not None
        each[operator] = number * row.slots
    total = sum(each.values())
    for group in where.pipelined:
        here = [each[operator] for operator in group if operator in each]
        if len(here) == len(group):
            total += max(here) - sum(here)
    return total


def actions_of_point(counts: dict[str, int], array: Array) -> Iterator[tuple[str, str, int]]:
    """Component, action and number of the actions that the operators of one point cause."""
    for operator, count in counts.items():
        row = array.cost(operator)
        for action, number in row.actions if row else ():
            yield f"{array.name}.{kind_of(operator, action)}", action, count * number


def kind_of(operator: str, action: str) -> str:
    """For what an action is spent: an exp made of multiply-accumulates is still an exp."""
    return operator if operator == "exp" else action


def registers_of_point(counts: dict[str, int], array: Array, passes_on: bool) -> tuple[int, int]:
    """Register reads and writes of the operators of one point.

    An operator of one slot reads one register operand (the other streams by) and writes its
    result; each slot of a longer one reads two and writes one, and its range split writes once
    more. A reduction across PEs passes its result on instead of writing it.
    """
    reads = writes = 0
    for operator, count in counts.items():
        row = array.cost(operator)
        slots = row.slots if row else 1
        reads += count * (2 * slots if slots > 1 else 1)
        writes += count * (slots + 1 if slots > 1 else 0 if passes_on else 1)
    return reads, writes
