"""Verifying certificates, with nothing of the code that finds them: SymPy must show every claim."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import sympy

from einsum_cascade.cascade import Cascade, Einsum, affine, variables_in
from einsum_cascade.derivation.certificate import Certificate
from einsum_cascade.derivation.claims import read, renewed, term, written_out
from einsum_cascade.expressions import Access, accesses, rewrite


def check(source: Cascade, certificates: Iterable[Certificate]) -> tuple[str, ...]:
    """Return what is wrong with certificates about a cascade: nothing if all of them hold."""
    wrong, last = list[str](), dict[str, Certificate]()
    for one in certificates:
        try:
            wrong += [f"{one.rule} of {one.einsum}: {p}" for p in _check(source, one, last)]
        except ValueError as error:
            wrong.append(f"{one.rule} of {one.einsum} can't be read: {error}")
        last[one.einsum] = one
    for name, one in last.items():
        left = _reads(source, () if one.action else one.basis) & _reads(source, one.references)
        wrong += [f"{name} still depends on {reference}" for reference in left]
    return tuple(wrong)


def _check(source: Cascade, one: Certificate, last: dict[str, Certificate]) -> Iterator[str]:
    (einsum,) = source.defining(one.einsum)
    over, before = {*einsum.over}, last.get(one.einsum)
    basis, outside = ([read(source, t) for t in own] for own in (one.basis, one.coefficients))
    action = [[read(source, text) for text in row] for row in one.action]
    begin = read(source, before.basis[0]) if before else written_out(source, einsum.map)
    most = len(basis) if one.reduction == "sum" and action else 1
    if {len(outside), *map(len, action), len(action or basis), most} != {len(basis)}:
        raise ValueError("basis, coefficients and action do not fit each other")
    if einsum.op != one.reduction or term(begin) - term(read(source, one.map)) != 0:
        yield f"{one.map} is not what {one.einsum} reduces"
    if one.reduction not in ("sum", "max", "min") or (one.rule == "hoist") == bool(action):
        yield f"{one.rule} of a {one.reduction} is no rule"
    entries = [entry for row in action for entry in row]
    for part in (*outside, *entries):
        if over & {*variables_in(part)}:
            yield f"{part} changes along the reduction"
    moving, done = (_reads(source, texts) for texts in (one.references, one.finished))
    filters = {r for e in _maps(source, einsum) for r in accesses(e.where)}
    for used in {a for f in (*basis, *entries) for a in accesses(f)} - moving | filters:
        if used not in done and _waits(source, used, over, frozenset()):
            yield f"{used} is neither a reference nor finished"
    new = [rewrite(f, lambda e: renewed(e) if e in moving else e) for f in basis]
    for what, f, row in [("map", begin, outside), *zip(one.basis, new, action, strict=False)]:
        pairs = [(term(c), term(g)) for c, g in zip(row, basis, strict=True)]
        gap = term(f) - sum(c * g if one.reduction == "sum" else c + g for c, g in pairs)
        if sympy.expand(gap) != 0 and sympy.simplify(gap) != 0:
            yield f"the claim about {what} does not hold"


def _waits(source: Cascade, used: Access, over: set[str], seen: frozenset[str]) -> bool:
    """True if a read is, or depends on, a result of reductions or recurrences along `over`."""
    definitions = source.defining(used.tensor)
    steps = {
        v
        for e in definitions
        for i in e.target.indices
        if affine(i).step
        for v in affine(i).variables
    }
    filled = steps.union(*(e.over for e in definitions))
    if over & filled and not over & {*variables_in(used)}:
        return True
    inner = {r for e in definitions for r in e.reads if r.tensor not in seen}
    return any(_waits(source, r, over, seen | {used.tensor}) for r in inner)


def _maps(source: Cascade, einsum: Einsum) -> list[Einsum]:
    """An Einsum and the maps that it reads, directly or through others."""
    found = {einsum.name: einsum}
    for one in source.einsums * len(source.einsums):
        if one.op is None and any(one.name in {r.tensor for r in e.reads} for e in found.values()):
            found.setdefault(one.name, one)
    return list(found.values())


def _reads(source: Cascade, texts: Iterable[str]) -> set[Access]:
    return {access for text in texts for access in accesses(read(source, text))}
