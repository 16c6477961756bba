"""Parts of a map that take long and depend on few variables: tables of them, written before loops.

`gamma**(p - m)` is the same for all features, so it is computed for p and m once. What does not
depend on the lane is found once a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from einsum_cascade.cascade import variables_in
from einsum_cascade.compiled_checks import Checks, Elements
from einsum_cascade.compiled_text import Arithmetic, value
from einsum_cascade.expressions import Apply, Expr, accesses, walk

# Operators that take as long as a read and a write or less.
CHEAP = frozenset({"add", "sub", "mul", "div", "neg", "min", "max", "clamp", "abs", "relu", "step"})


@dataclass(frozen=True, slots=True)
class Hoist:
    """A table, and the variables of the loops around the lane that it is about; or one number."""

    name: str = ""
    variables: tuple[str, ...] = ()


def hoists(
    checks: Checks, kept: Sequence[str], over: Sequence[str], how: Arithmetic
) -> dict[Expr, Hoist]:
    """Write the tables of a map.

    Args:
        checks: the Einsum.
        kept: variables of the loops around the lane that are kept.
        over: those that are reduced.
        how: the arithmetic of the map.
    """
    found: dict[Expr, Hoist] = {}

    def visit(expr: Expr) -> None:
        if not isinstance(expr, Apply) or expr in found:
            return
        operators = {node.operator for node in walk(expr) if isinstance(node, Apply)}
        variables = set(variables_in(expr))
        if not variables or operators <= CHEAP:
            return
        own = tuple(v for v in (*kept, *over) if v in variables)
        if not accesses(expr):
            if checks.lane not in variables:
                found[expr] = Hoist()
                return
            if len(own) < len(kept) + len(over) and not set(own) & set(over):
                found[expr] = _table(checks, expr, own, how)
                return
        for argument in expr.arguments:
            visit(argument)

    visit(checks.einsum.map)
    return found


def _table(checks: Checks, expr: Expr, own: tuple[str, ...], how: Arithmetic) -> Hoist:
    """Write the table of a part of a map."""
    text, chunk, depth = checks.text, checks.chunk, checks.text.depth
    name, inner = text.fresh("u"), text.apart()
    result = value(expr, inner, Elements(checks), how)
    ranks = [checks.cascade.rank_of(v) for v in own]
    counts = [chunk.count(v, rank) for v, rank in zip(own, ranks, strict=True)]
    text.line(f"{name} = np.empty(({', '.join([*counts, 'lanes'])},), {how.kind})")
    for variable, rank in zip(own, ranks, strict=True):
        text.line(f"for v_{variable} in range({chunk.range(variable, rank)}):")
        text.depth += 1
    for line in (*checks.lanes(), *(f"    {line}" for line in inner.lines)):
        text.line(line)
    place = ", ".join([*(chunk.inside(v) for v in own), "i"])
    text.line(f"    {name}[{place}] = {result}")
    text.depth = depth
    return Hoist(name, own)
