"""At which points of an expression nothing is empty, as conditions of the language.

Points that read outside a tensor, or an element that a filter left empty, are skipped by
reductions. A rewrite that drops a read, or that steps through points one by one, has to say which
points count.
"""

from __future__ import annotations

from collections.abc import Iterable

from einsum_cascade.cascade import Cascade, Einsum, affine, variables_in
from einsum_cascade.expressions import (
    Access,
    Apply,
    Compare,
    Condition,
    Expr,
    Logic,
    Name,
    Number,
    Select,
    accesses,
    substitute_condition,
)


def presence(cascade: Cascade, expr: Expr) -> tuple[Condition, ...] | None:
    """Conditions under which no read of an expression is empty; None if they can't be written."""
    found: list[Condition] = []
    for read in certain_reads(expr):
        conditions = _of_read(cascade, read)
        if conditions is None:
            return None
        found += conditions
    return tuple(dict.fromkeys(found))


def requirements(cascade: Cascade, expr: Expr) -> frozenset[Condition | Access]:
    """What must hold for a point of an expression to count; a read stands for itself if need be."""
    found: set[Condition | Access] = set()
    for read in certain_reads(expr):
        conditions = _of_read(cascade, read)
        found |= {read} if conditions is None else set(conditions)
    return frozenset(found)


def joined(conditions: Iterable[Condition]) -> Condition | None:
    """All of several conditions as one; None if there are none."""
    unique = tuple(dict.fromkeys(conditions))
    if len(unique) < 2:
        return unique[0] if unique else None
    return Logic("and", unique)


def chosen(conditions: Iterable[Condition], value: Expr, otherwise: Expr) -> Expr:
    """The value where all conditions hold.

    Those about coordinates come first: the others may read tensors, which end where they end.
    """
    unique = tuple(dict.fromkeys(conditions))
    for is_outer in (False, True):
        mask = joined(c for c in unique if is_outer is not bool(accesses(c)))
        if mask is not None:
            value = Select(mask, value, otherwise)
    return value


def certain_reads(expr: Expr) -> list[Access]:
    """Reads that always happen: those of a branch may not."""
    match expr:
        case Access():
            return [expr]
        case Apply(arguments=arguments):
            return [read for argument in arguments for read in certain_reads(argument)]
        case Select(condition=condition):
            return list(accesses(condition))
    return []


def _of_read(cascade: Cascade, read: Access) -> list[Condition] | None:
    found: list[Condition] = []
    tensor = cascade.tensor(read.tensor)
    plain: list[str] = []
    for dim, index in zip(tensor.dims, read.indices, strict=True):
        form = affine(index)
        if form.is_gather or (dim.rank is None and form.variables):
            return None
        if form.is_plain and form.step == 0:
            plain.append(form.variables[0])
        elif form.variables:
            assert dim.rank is not None
            size: Expr = Name(dim.rank)
            if dim.extra:
                size = Apply("add", (size, Number(dim.extra)))
            found += [Compare(">=", index, Number(0)), Compare("<", index, size)]
    definitions = cascade.defining(read.tensor)
    if not definitions:
        return found + _inside(cascade, plain)
    if len(definitions) > 1:
        # What a recurrence fills is present. Pieces of a concatenated rank may leave gaps.
        is_full = not _pieces(cascade, definitions) or _is_full(cascade, definitions)
        return found if is_full else None
    (einsum,) = definitions
    inner = [] if einsum.where is None else _terms(einsum.where)
    more = presence(cascade, einsum.map)
    if more is None:
        return None
    # Where a reduced variable decides, the reduction skips the point and the element is there.
    values = dict(zip(einsum.left, read.indices, strict=False))
    for condition in (*inner, *more):
        if not set(variables_in(condition)) & set(einsum.over):
            found.append(substitute_condition(condition, values))
    return found


def _pieces(cascade: Cascade, definitions: tuple[Einsum, ...]) -> tuple[str, ...]:
    """The ranks that the pieces of a concatenated rank range over; none for a recurrence."""
    dims = cascade.tensor(definitions[0].name).dims
    return tuple(
        cascade.rank_of(affine(index).variables[0])
        for einsum in definitions
        for dim, index in zip(dims, einsum.target.indices, strict=True)
        if dim.rank and cascade.concatenated(dim.rank) and affine(index).variables
    )


def _is_full(cascade: Cascade, definitions: tuple[Einsum, ...]) -> bool:
    """True if pieces cover the whole rank, and nothing empties them."""
    dims = cascade.tensor(definitions[0].name).dims
    parts = {p for dim in dims if dim.rank for p in cascade.concatenated(dim.rank)}
    is_plain = all(e.where is None and presence(cascade, e.map) == () for e in definitions)
    return is_plain and parts <= set(_pieces(cascade, definitions))


def _terms(condition: Condition) -> list[Condition]:
    if isinstance(condition, Logic) and condition.word == "and":
        return [term for inner in condition.terms for term in _terms(inner)]
    return [condition]


def _inside(cascade: Cascade, variables: list[str]) -> list[Condition]:
    """The last tile of a split rank may be ragged."""
    found: list[Condition] = []
    ranks = {cascade.rank_of(v): v for v in variables}
    for whole, parts in cascade.splits:
        if all(part in ranks for part in parts):
            found.append(Compare("<", flat([ranks[p] for p in parts], parts), Name(whole)))
    return found


def flat(variables: list[str], parts: tuple[str, ...]) -> Expr:
    """The position in a whole rank of coordinates in its parts: m1*M0+m0."""
    position: Expr = Name(variables[0])
    for variable, part in zip(variables[1:], parts[1:], strict=True):
        position = Apply("add", (Apply("mul", (position, Name(part))), Name(variable)))
    return position
