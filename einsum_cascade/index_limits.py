"""Which points of an Einsum are empty, as linear limits on its variables.

A point is one assignment of an Einsum's variables. It is empty, and costs nothing, if the filter
excludes it, or if a read lies outside its tensor or meets an empty element. All of these that are
affine become limits (terms + constant >= 0). They travel through tensors: what empties
`QK[m,p]` empties every point that reads it.

Decision: what is not affine (conditions on data, `or`, `!=`) is left out and the region is marked,
so that what is counted in it is an upper bound.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from einsum_cascade.cascade import Cascade, Einsum, affine, part_at
from einsum_cascade.expressions import (
    VARIABLE,
    Access,
    Apply,
    Compare,
    Condition,
    Expr,
    Logic,
    Name,
    Number,
)
from einsum_cascade.ordering import Loop, Plan, plan
from einsum_cascade.rank_symbols import Size, symbol


@dataclass(frozen=True, slots=True)
class Linear:
    """Sum of coefficient times variable, plus a constant; both may be formulas in sizes."""

    terms: tuple[tuple[str, Size], ...]
    constant: Size

    def plus(self, other: Linear, factor: Size = 1) -> Linear:
        """Add `factor` times another form."""
        terms = dict(self.terms)
        for name, coefficient in other.terms:
            terms[name] = terms.get(name, 0) + factor * coefficient
        kept = tuple((name, c) for name, c in terms.items() if c != 0)
        return Linear(kept, self.constant + factor * other.constant)

    @property
    def names(self) -> set[str]:
        """The variables in it."""
        return {name for name, _ in self.terms}


@dataclass(frozen=True, slots=True)
class Region:
    """Points at which every limit is at least 0; `is_exact` is False if there are more limits."""

    limits: tuple[Linear, ...] = ()
    is_exact: bool = True


def regions(cascade: Cascade) -> tuple[tuple[Einsum, Region], ...]:
    """Return the Einsums in order of evaluation, each with the points that are not empty."""
    found: list[tuple[Einsum, Region]] = []
    _follow(cascade, plan(cascade.einsums, dict(cascade.variables)), {}, found)
    return tuple(found)


def domains_of(cascade: Cascade) -> dict[str, Region]:
    """Return for each tensor which of its elements are not empty, as limits on its axes."""
    domains: dict[str, Region] = {}
    _follow(cascade, plan(cascade.einsums, dict(cascade.variables)), domains, [])
    return domains


def _follow(
    cascade: Cascade,
    steps: Plan,
    domains: dict[str, Region],
    found: list[tuple[Einsum, Region]],
) -> None:
    """Collect the region of every Einsum; `domains` are those of tensors, on their axes."""
    for step in steps:
        if not isinstance(step, Loop):
            region = _region(cascade, step, domains)
            found.append((step, region))
            own = _domain(step, region)
            if len(cascade.defining(step.name)) > 1 and own.limits:
                # Each definition fills another part of the tensor.
                own = Region((), False)
            domains[step.name] = own
            continue
        inside: list[tuple[Einsum, Region]] = []
        _follow(cascade, step.body, domains, inside)
        # A step that is empty leaves the next one without its operand, and so on.
        lasting = any(domains[einsum.name] != Region() for einsum, _ in inside)
        for einsum, region in inside:
            found.append((einsum, Region(region.limits, False) if lasting else region))
            if lasting:
                domains[einsum.name] = Region((), False)


def _region(cascade: Cascade, einsum: Einsum, domains: Mapping[str, Region]) -> Region:
    limits: list[Linear] = []
    is_exact = True
    if einsum.where is not None:
        is_exact = _filter(cascade, einsum.where, limits)
    always = set(always_read(einsum.map))
    for access in einsum.reads:
        own, exact = _reading(cascade, access, domains.get(access.tensor, Region()))
        if own and access not in always:
            # Read by a filter, or by a branch that is not always chosen.
            own, exact = [], False
        limits += own
        is_exact = is_exact and exact
    return Region(tuple(dict.fromkeys(limits)), is_exact)


def always_read(expr: Expr) -> Iterator[Access]:
    """Yield the accesses of a map that every point reads; branches are read where chosen."""
    match expr:
        case Access():
            yield expr
        case Apply():
            for argument in expr.arguments:
                yield from always_read(argument)


def _filter(cascade: Cascade, condition: Condition, limits: list[Linear]) -> bool:
    """Add the limits of a condition; False if some part of it is not affine."""
    match condition:
        case Logic(word="and", terms=terms):
            # Every term counts, also after one that is not affine.
            affine_terms = [_filter(cascade, term, limits) for term in terms]
            return all(affine_terms)
        case Compare(symbol=sign, left=left, right=right) if sign != "!=":
            first, second = linear(cascade, left), linear(cascade, right)
            if first is None or second is None:
                return False
            above, below = first.plus(second, -1), second.plus(first, -1)
            strict = Linear((), -1)
            limits += {
                "<": [below.plus(strict)],
                "<=": [below],
                ">": [above.plus(strict)],
                ">=": [above],
                "==": [above, below],
            }[sign]
            return True
    return False


def _reading(cascade: Cascade, access: Access, domain: Region) -> tuple[list[Linear], bool]:
    """Limits that a read puts on a point: inside the tensor, and at an element."""
    limits: list[Linear] = []
    is_exact = domain.is_exact
    forms = [linear(cascade, index) for index in access.indices]
    for form, index, dim in zip(
        forms, access.indices, cascade.tensor(access.tensor).dims, strict=True
    ):
        # A tensor that is only gathered from is as long as the rank it is gathered along.
        chosen = chosen_rank(cascade, index)
        if chosen is not None and dim.rank in (None, chosen):
            continue
        if form is None or (dim.rank is None and form.names):
            is_exact = False
            continue
        plain = affine(index)
        parts = cascade.concatenated(dim.rank or "")
        if plain.is_plain and cascade.rank_of(plain.variables[0]) == dim.rank:
            step = plain.step or 0
            if step < 0:
                limits.append(form)
            if step > dim.extra:
                limits.append(Linear((), extent(dim.rank, dim.extra) - 1).plus(form, -1))
        elif dim.rank and part_at(plain, parts, dict(cascade.variables)) is None:
            limits += [form, Linear((), extent(dim.rank, dim.extra) - 1).plus(form, -1)]
    for limit in domain.limits:
        moved = Linear((), limit.constant)
        for axis, coefficient in limit.terms:
            form = forms[int(axis)]
            if form is None:
                return [], False
            moved = moved.plus(form, coefficient)
        limits.append(moved)
    return limits, is_exact


def chosen_rank(cascade: Cascade, index: Expr) -> str | None:
    """Return the rank whose coordinates an index of top-k positions holds: M for I[p,k].

    These lie inside the rank and are distinct along k, if k picks no more than there are.
    """
    if not isinstance(index, Access):
        return None
    found = [e for e in cascade.defining(index.tensor) if e.op == "argtopk" and e.where is None]
    return cascade.rank_of(found[0].over[0]) if found else None


def _domain(einsum: Einsum, region: Region) -> Region:
    """What the kept variables alone say about the elements of the left side, on its axes."""
    axes: dict[str, Linear] = {}
    for axis, index in enumerate(einsum.target.indices):
        form = affine(index)
        if form.variables:
            axes[form.variables[0]] = Linear(((str(axis), 1),), -(form.step or 0))
    limits = []
    for limit in region.limits:
        if limit.names <= axes.keys():
            moved = Linear((), limit.constant)
            for name, coefficient in limit.terms:
                moved = moved.plus(axes[name], coefficient)
            limits.append(moved)
    return Region(tuple(limits), region.is_exact)


def linear(cascade: Cascade, expr: Expr) -> Linear | None:
    """Read an expression as a linear form over variables; None if it is not one."""
    match expr:
        case Name(name=name) if VARIABLE.match(name):
            return Linear(((name, 1),), 0)
        case Name(name=name) if name in cascade.ranks:
            return Linear((), symbol(name))
        case Number(value=int() as value):
            return Linear((), value)
        case Apply(operator=operator, arguments=arguments):
            forms = [linear(cascade, argument) for argument in arguments]
            if any(form is None for form in forms):
                return None
            return _apply(operator, [form for form in forms if form is not None])
    return None


def _apply(operator: str, forms: list[Linear]) -> Linear | None:
    import sympy

    nothing = Linear((), 0)
    match operator, forms:
        case "add", [a, b]:
            return a.plus(b)
        case "sub", [a, b]:
            return a.plus(b, -1)
        case "neg", [a]:
            return nothing.plus(a, -1)
        case "mul", [a, b] if not a.terms:
            return nothing.plus(b, a.constant)
        case "mul", [a, b] if not b.terms:
            return nothing.plus(a, b.constant)
        case "floordiv", [a, b] if not a.terms and not b.terms:
            return Linear((), sympy.floor(sympy.sympify(a.constant) / b.constant))
    return None


def extent(rank: str | None, extra: int = 0) -> Size:
    """Return the coordinates of a dimension; one that has no rank holds a single one."""
    return (symbol(rank) if rank else 1) + extra
