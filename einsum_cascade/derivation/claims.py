"""Reading the claims of a certificate: text of the language to SymPy, maps written out."""

from __future__ import annotations

import operator
from typing import Any

import sympy

from einsum_cascade.cascade import Cascade
from einsum_cascade.expressions import (
    VARIABLE,
    Access,
    Apply,
    Expr,
    Name,
    Number,
    Select,
    accesses,
    rewrite,
    substitute,
)
from einsum_cascade.language import parse_expression

_KNOWN: dict[str, Any] = {n: getattr(operator, n) for n in ("add", "sub", "mul", "pow", "neg")}
_KNOWN |= {n: getattr(sympy, n) for n in ("exp", "log", "sqrt", "tanh")}
_KNOWN |= {"div": operator.truediv, "min": sympy.Min, "max": sympy.Max}
# What marks the new value of a result that grows: GM_new[p].
NEW = "_new"


def renewed(expr: Expr) -> Expr:
    """The new value of a result."""
    return Access(f"{expr.tensor}{NEW}", expr.indices) if isinstance(expr, Access) else expr


def read(source: Cascade, text: str) -> Expr:
    """Read a text and write its maps out; ValueError if it names what the source lacks."""
    names = {f"{tensor.name}{end}" for tensor in source.tensors for end in ("", NEW)}

    def scalar(expr: Expr) -> Expr:
        is_scalar = isinstance(expr, Name) and expr.name in names
        return Access(expr.name, ()) if isinstance(expr, Name) and is_scalar else expr

    found = rewrite(parse_expression(text), scalar)
    unknown = {access.tensor for access in accesses(found)} - names
    if unknown:
        raise ValueError(f"there is no {', '.join(sorted(unknown))}")
    return written_out(source, found)


def written_out(source: Cascade, expr: Expr) -> Expr:
    """Replace every tensor that one map defines by that map, to the end."""

    def one(node: Expr) -> Expr:
        name = node.tensor.removesuffix(NEW) if isinstance(node, Access) else ""
        found = source.defining(name)
        if not isinstance(node, Access) or len(found) != 1 or found[0].op is not None:
            return node
        at = dict(zip(found[0].left, node.indices, strict=True))
        inner = substitute(found[0].map, at)
        return written_out(source, inner if name == node.tensor else rewrite(inner, renewed))

    return rewrite(expr, one)


def term(expr: Expr) -> Any:
    """A SymPy term: sizes and parameters are positive, everything else is real."""
    match expr:
        case Number(value=value) if abs(value) < float("inf"):
            return sympy.Rational(repr(value))
        case Apply(operator=name, arguments=arguments):
            return _KNOWN.get(name, sympy.Function(name))(*(term(a) for a in arguments))
        case Select(condition=condition, then=then, otherwise=otherwise):
            chosen = sympy.Symbol(f"({condition})", real=True)
            return chosen * term(then) + (1 - chosen) * term(otherwise)
        case Name(name=name) if not VARIABLE.match(name):
            return sympy.Symbol(name, positive=True)
    return sympy.Symbol(str(expr), real=True)
