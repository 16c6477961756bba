"""Exponentials to base 2: the factor log2(e) goes into what is scaled on its way in anyway.

exp(x) is 2**(x log2(e)). If every argument of exp is proportional to a tensor that is computed at
load, or to several, these take the factor and the units compute 2**x; nothing else changes.
"""

from __future__ import annotations

from archsim.placement import Placed
from einsum_cascade.cascade import Einsum
from einsum_cascade.expressions import Access, Apply, Expr, Number

# Operators that scale if all their arguments do.
_ALIKE = ("add", "sub", "max", "min")


def scaled_at_load(placed: Placed) -> tuple[str, ...] | None:
    """The tensors that take the factor, none if there is no exp; None if no tensor can."""
    einsums = list(placed.cascade.einsums)
    if not any(_exps(einsum.map) for einsum in einsums):
        return ()
    where = dict(placed.mapping.placements)
    loaded = [e.name for e in einsums if not e.is_initial and where[e.name].array is None]
    for names in (*((name,) for name in loaded), tuple(loaded)):
        if _carries(einsums, names):
            return names
    return None


def _exps(expr: Expr) -> list[Expr]:
    """Arguments of exp in an expression."""
    if not isinstance(expr, Apply):
        return []
    inner = [found for argument in expr.arguments for found in _exps(argument)]
    return [*([expr.arguments[0]] if expr.operator == "exp" else []), *inner]


def _carries(einsums: list[Einsum], start: tuple[str, ...]) -> bool:
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
        if any(_degree(argument, scales) != 1 for argument in _exps(einsum.map)):
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
