"""Verifying certificates, with nothing of the code that finds them: SymPy must show every claim."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from typing import Any

import sympy

from einsum_cascade.cascade import Cascade, variables_in
from einsum_cascade.derivation.certificate import Certificate
from einsum_cascade.expressions import Access, Apply, Expr, Name, Number, Select, accesses, rewrite
from einsum_cascade.language import parse_expression

_KNOWN: dict[str, Any] = {n: getattr(operator, n) for n in ("add", "sub", "mul", "pow", "neg")}
_KNOWN |= {n: getattr(sympy, n) for n in ("exp", "log", "sqrt", "tanh")}
_KNOWN |= {"div": operator.truediv, "min": sympy.Min, "max": sympy.Max}


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
        wrong += [f"{name} still depends on {read}" for read in left]
    return tuple(wrong)


def _check(source: Cascade, one: Certificate, last: dict[str, Certificate]) -> Iterator[str]:
    (einsum,) = source.defining(one.einsum)
    over, before = {*einsum.over}, last.get(one.einsum)
    basis, outside = ([_read(source, t) for t in own] for own in (one.basis, one.coefficients))
    action = [[_read(source, text) for text in row] for row in one.action]
    begin = _read(source, before.basis[0]) if before else _whole(source, einsum.map)
    if einsum.op != one.reduction or _term(begin) - _term(_read(source, one.map)) != 0:
        yield f"{one.map} is not what {one.einsum} reduces"
    most = len(basis) if one.reduction == "sum" and action else 1
    if {len(outside), *map(len, action), len(action or basis), most} != {len(basis)}:
        raise ValueError("basis, coefficients and action do not fit each other")
    for part in (*outside, *(entry for row in action for entry in row)):
        if over & {*variables_in(part)}:
            yield f"{part} changes along the reduction"
    moving, done = (_reads(source, texts) for texts in (one.references, one.finished))
    for read in _reads(source, one.basis) - moving - done:
        reductions = [e for e in source.defining(read.tensor) if e.op and over & {*e.over}]
        if reductions and not over & {*variables_in(read)}:
            yield f"{read} is neither a reference nor finished"
    new = [rewrite(f, lambda e: _renewed(e) if e in moving else e) for f in basis]
    for what, f, row in [("map", begin, outside), *zip(one.basis, new, action, strict=False)]:
        pairs = [(_term(c), _term(g)) for c, g in zip(row, basis, strict=True)]
        gap = _term(f) - sum(c * g if one.reduction == "sum" else c + g for c, g in pairs)
        if sympy.expand(gap) != 0 and sympy.simplify(gap) != 0:
            yield f"the claim about {what} does not hold"


def _reads(source: Cascade, texts: Iterable[str]) -> set[Access]:
    return {access for text in texts for access in accesses(_read(source, text))}


def _renewed(expr: Expr) -> Expr:
    return Access(f"{expr.tensor}_new", expr.indices) if isinstance(expr, Access) else expr


def _read(source: Cascade, text: str) -> Expr:
    scalars = {f"{tensor.name}{end}" for tensor in source.tensors for end in ("", "_new")}
    bare = lambda e: Access(e.name, ()) if isinstance(e, Name) and e.name in scalars else e  # noqa: E731
    return _whole(source, rewrite(parse_expression(text), bare))


def _whole(source: Cascade, expr: Expr) -> Expr:
    # Every tensor that one map defines is replaced by that map, to the end.
    def one(node: Expr) -> Expr:
        name = node.tensor.removesuffix("_new") if isinstance(node, Access) else ""
        found = source.defining(name)
        if not isinstance(node, Access) or len(found) != 1 or found[0].op:
            return node
        at = dict(zip(found[0].left, node.indices, strict=True))
        inner = rewrite(found[0].map, lambda e: at.get(e.name, e) if isinstance(e, Name) else e)
        return _whole(source, inner if name == node.tensor else rewrite(inner, _renewed))

    return rewrite(expr, one)


def _term(expr: Expr) -> Any:
    match expr:
        case Number(value=value) if abs(value) < float("inf"):
            return sympy.Rational(repr(value))
        case Apply(operator=name, arguments=arguments):
            return _KNOWN.get(name, sympy.Function(name))(*(_term(a) for a in arguments))
        case Select(condition=condition, then=then, otherwise=otherwise):
            chosen = sympy.Symbol(f"({condition})", real=True)
            return chosen * _term(then) + (1 - chosen) * _term(otherwise)
    return sympy.Symbol(str(expr), real=True)
