"""Verifying certificates, with nothing of the code that finds them.

SymPy must show every claim as an identity, and what a certificate calls the map must be the map of
the source cascade. Maps of the source are written out to the end on both sides.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

import sympy

from einsum_cascade.cascade import Cascade, variables_in
from einsum_cascade.derivation.certificate import Certificate
from einsum_cascade.errors import CascadeError
from einsum_cascade.expressions import Access, Apply, Expr, Name, Number, Select, accesses, rewrite
from einsum_cascade.language import parse_expression

_KNOWN: dict[str, Any] = {
    **{name: getattr(sympy, name) for name in ("exp", "log", "sqrt", "tanh")},
    **{name: getattr(operator, name) for name in ("add", "sub", "mul", "pow", "neg")},
    **{"div": operator.truediv, "min": sympy.Min, "max": sympy.Max},
}


def check(source: Cascade, certificates: Iterable[Certificate]) -> tuple[str, ...]:
    """Return what is wrong with certificates about a cascade: nothing if all of them hold."""
    wrong: list[str] = []
    left: dict[str, str] = {}
    for one in certificates:
        try:
            wrong += [f"{one.rule} of {one.einsum}: {p}" for p in _check(source, one, left)]
        except (CascadeError, ValueError) as error:
            wrong.append(f"{one.rule} of {one.einsum} can't be read: {error}")
    return tuple(wrong)


def _check(source: Cascade, one: Certificate, left: dict[str, str]) -> Iterable[str]:
    (einsum,) = source.defining(one.einsum)
    basis = [_read(source, text) for text in one.basis]
    outside = [_read(source, text) for text in one.coefficients]
    action = [[_read(source, text) for text in row] for row in one.action]
    begin = _read(source, left[one.einsum]) if one.einsum in left else _whole(source, einsum.map)
    left[one.einsum] = one.basis[0]
    old = [_term(f) for f in basis]
    if einsum.op != one.reduction or _term(begin) - _term(_read(source, one.map)) != 0:
        yield f"{one.map} is not what {one.einsum} reduces"
    is_hoist = one.rule == "hoist"
    sizes = {len(outside), *(len(row) for row in action), len(basis) if is_hoist else len(action)}
    if sizes != {len(basis)} or (len(basis) > 1 and (one.reduction != "sum" or is_hoist)):
        yield "basis, coefficients and action do not fit each other"
        return
    for part in (*outside, *(entry for row in action for entry in row)):
        if set(variables_in(part)) & set(einsum.over):
            yield f"{part} changes along the reduction"
    moving = {str(a) for text in one.references for a in accesses(_read(source, text))}
    known = {str(a) for text in one.finished for a in accesses(_read(source, text))} | moving
    over = set(einsum.over)
    for read in {} if is_hoist else {a for f in basis for a in accesses(f)}:
        is_result = any(e.op and set(e.over) & over for e in source.defining(read.tensor))
        if is_result and not set(variables_in(read)) & over and str(read) not in known:
            yield f"{read} is neither a reference nor finished"
    new = [_term(rewrite(f, lambda e: _renewed(e) if str(e) in moving else e)) for f in basis]
    claims = [(f"map {one.map}", _term(begin), outside)]
    claims += [
        (f"action on {t}", f, row) for t, f, row in zip(one.basis, new, action, strict=False)
    ]
    join = operator.mul if one.reduction == "sum" else operator.add
    for what, value, factors in claims:
        gap = value - sum(join(_term(c), f) for c, f in zip(factors, old, strict=True))
        if sympy.expand(gap) != 0 and sympy.simplify(gap) != 0:
            yield f"the {what} does not hold"


def _renewed(expr: Expr) -> Expr:
    return Access(f"{expr.tensor}_new", expr.indices) if isinstance(expr, Access) else expr


def _read(source: Cascade, text: str) -> Expr:
    names = {name for tensor in source.tensors for name in (tensor.name, tensor.name + "_new")}
    bare = lambda e: Access(e.name, ()) if isinstance(e, Name) and e.name in names else e  # noqa: E731
    return _whole(source, rewrite(parse_expression(text), bare))


def _whole(source: Cascade, expr: Expr) -> Expr:
    """Replace every tensor that one map defines by that map, to the end."""

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
            holds = sympy.Symbol(f"({condition})", real=True)
            return holds * _term(then) + (1 - holds) * _term(otherwise)
    return sympy.Symbol(str(expr), real=True)
