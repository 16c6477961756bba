"""How many scalar operations a cascade takes as written, operator by operator, as formulas.

Every operator of a map counts once for each point of its Einsum that is not empty, and a reduction
counts one combination a point: the first one starts from the identity. A sum of products is thus
as many `mul` as `add` (a machine with multiply-accumulate issues one slot for both). Recurrences
count every step. Arithmetic on constants, such as sqrt(E), and on indices is free; so are filters,
which bound loops. `where(c, a, b)` counts one `where`, one `compare` for each comparison in c,
and both branches, as a machine without branches does. A populate counts one `topk` or `argtopk` for
each point it chooses from.

This is the convention of `archsim.placement`, whose arrays may call an operator by another name.
"""

from __future__ import annotations

from collections import Counter

from einsum_cascade.cascade import Cascade, Einsum, variables_in
from einsum_cascade.expressions import (
    Apply,
    Compare,
    Condition,
    Expr,
    Select,
    accesses,
)
from einsum_cascade.index_limits import regions
from einsum_cascade.operators import REDUCTIONS
from einsum_cascade.point_counts import points
from einsum_cascade.rank_symbols import Size


def operations(cascade: Cascade) -> tuple[dict[str, Size], bool]:
    """Count the operations of a cascade by operator; False beside upper bounds."""
    found: dict[str, Size] = {}
    all_exact = True
    for einsum, region in regions(cascade):
        each = per_point(einsum)
        if not each:
            continue
        number, is_exact = points(cascade, einsum, region)
        all_exact = all_exact and is_exact
        for operator, times in each.items():
            found[operator] = found.get(operator, 0) + times * number
    return found, all_exact


def per_point(einsum: Einsum) -> Counter[str]:
    """Count the operators that one point of an Einsum applies."""
    found: Counter[str] = Counter()

    def visit(expr: Expr) -> None:
        match expr:
            case Apply(operator=operator, arguments=arguments) if _varies(expr):
                found[operator] += 1
                for argument in arguments:
                    visit(argument)
            case Select(condition=condition, then=then, otherwise=otherwise):
                found["where"] += 1
                compare(condition)
                visit(then)
                visit(otherwise)

    def compare(condition: Condition) -> None:
        if isinstance(condition, Compare):
            found["compare"] += 1
            visit(condition.left)
            visit(condition.right)
        else:
            for term in condition.terms:
                compare(term)

    visit(einsum.map)
    if einsum.op is not None:
        row = REDUCTIONS[einsum.op]
        found[einsum.op if row.selects else row.combine] += 1
    return found


def _varies(expr: Expr) -> bool:
    """True if an expression depends on the point: it reads a tensor or an index variable."""
    return bool(accesses(expr)) or bool(variables_in(expr))
