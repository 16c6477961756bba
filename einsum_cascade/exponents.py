"""Exponentials to base 2: which tensors can take the factor log2(e).

exp(x) is 2**(x log2(e)). If every argument of exp is proportional to one tensor, or to several,
these take the factor and nothing else changes.
"""

from __future__ import annotations

from collections.abc import Sequence

from einsum_cascade.cascade import Einsum
from einsum_cascade.expressions import Access, Apply, Expr, Number

# Operators that scale if all their arguments do.
_ALIKE = ("add", "sub", "max", "min")


def exponents(expr: Expr) -> list[Expr]:
    """Arguments of exp in an expression."""
    if not isinstance(expr, Apply):
        return []
    inner = [found for argument in expr.arguments for found in exponents(argument)]
    return [*([expr.arguments[0]] if expr.operator == "exp" else []), *inner]


def carries(einsums: Sequence[Einsum], start: tuple[str, ...]) -> bool:
    """True if exactly the arguments of exp, and nothing that is given out, scale with tensors."""
    scales = set(start)
    while True:
        before = len(scales)
        for einsum in einsums:
            if einsum.name in start or einsum.is_initial:
                continue
            # A recurrence such as a running maximum scales if the rest of it does.
            if _degree(einsum.map, scales) == 1 or (
                _degree(einsum.map, scales) is None
                and _degree(einsum.map, scales | {einsum.name}) == 1
            ):
                scales.add(einsum.name)
        if len(scales) == before:
            break
    for einsum in einsums:
        if einsum.name in start:
            continue
        if einsum.is_initial and einsum.name in scales:
            # A start value scales with the rest only if a factor leaves it as it is.
            value = einsum.map
            if not _is_fixed(value):
                return False
            continue
        degree = _degree(einsum.map, scales)
        if degree is None or (degree == 1) != (einsum.name in scales):
            return False
        if any(_degree(argument, scales) != 1 for argument in exponents(einsum.map)):
            return False
    read = {access.tensor for einsum in einsums for access in einsum.reads}
    return all(name in read for name in scales)


def _is_fixed(value: Expr) -> bool:
    match value:
        case Number(value=number):
            return number == 0 or abs(number) == float("inf")
        case Apply(operator="neg", arguments=(inner,)):
            return _is_fixed(inner)
    return False


def _degree(expr: Expr, scales: set[str]) -> int | None:
    """0: does not depend on the factor; 1: proportional to it; None: neither."""
    if isinstance(expr, Access):
        return int(expr.tensor in scales)
    if not isinstance(expr, Apply):
        return 0
    # Zero and infinity scale with anything.
    arguments = [a for a in expr.arguments if expr.operator not in _ALIKE or not _is_fixed(a)]
    degrees = [_degree(argument, scales) for argument in arguments]
    if None in degrees:
        return None
    known = [degree for degree in degrees if degree is not None]
    match expr.operator:
        case "exp":
            return 0
        case "add" | "sub" | "max" | "min":
            return max(known, default=0) if len(set(known)) <= 1 else None
        case "mul":
            return sum(known) if sum(known) <= 1 else None
        case "div":
            return known[0] if known[1] == 0 else None
        case "neg" | "relu" | "abs":
            return known[0]
    return 0 if not any(known) else None
