"""Are two cascades the same up to names, inlined maps and rank order?

Both are brought to a normal form in which maps are inlined and products and sums have no order.
Tensors then get a colour that is made from their definitions and the colours of what these read,
starting from the names of inputs and outputs, and refined until each colour tells everything that
a tensor depends on. Two tensors of one colour compute the same; cascades whose outputs have the
same colours do, too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from einsum_cascade.cascade import Cascade, Einsum, affine
from einsum_cascade.expressions import (
    VARIABLE,
    Access,
    Apply,
    Compare,
    Condition,
    Expr,
    Name,
    Number,
    Select,
    rewrite,
    substitute,
)

Labels = Mapping[str, str]


def correspondence(one: Cascade, other: Cascade) -> dict[str, str] | None:
    """Return which tensor of `other` each tensor of `one` is; None if the cascades differ.

    Inputs, outputs and parameters without a value go by name. A map that only one of the two
    spells out has no counterpart and is missing from the result.
    """
    if set(one.inputs) != set(other.inputs) or set(one.outputs) != set(other.outputs):
        return None
    free = [{n for n, value in c.parameters if value is None} for c in (one, other)]
    if free[0] != free[1]:
        return None
    rounds = len(one.tensors) + len(other.tensors)
    left, right = _colours(one, rounds), _colours(other, rounds)
    if any(left[name] != right[name] for name in one.outputs):
        return None
    by_colour = {colour: name for name, colour in right.items()}
    return {name: by_colour[colour] for name, colour in left.items() if colour in by_colour}


def _colours(cascade: Cascade, rounds: int) -> dict[str, str]:
    """Colours of inputs, and of every tensor that is no inlined map."""
    kept = {t.name for t in cascade.tensors if not _is_inlined(cascade, t.name)}
    start = {t.name: f"{t.role} {t.name}" for t in cascade.tensors if t.role != "intermediate"}
    colours = {name: start.get(name, "") for name in kept}
    definitions = {name: cascade.defining(name) for name in kept}
    maps = {e.line: _inlined(cascade, e.map) for own in definitions.values() for e in own}
    for _ in range(rounds):
        fresh = {}
        for name, own in definitions.items():
            texts = sorted(_definition(cascade, e, maps[e.line], colours) for e in own)
            whole = "\n".join([start.get(name, ""), *texts])
            fresh[name] = hashlib.sha256(whole.encode()).hexdigest()
        colours = fresh
    return colours


def _is_inlined(cascade: Cascade, name: str) -> bool:
    einsums = cascade.defining(name)
    return (
        len(einsums) == 1
        and einsums[0].op is None
        and einsums[0].where is None
        and cascade.tensor(name).role == "intermediate"
        and all(_is_at_place(access) for access in (einsums[0].target, *_reads(cascade, name)))
    )


def _reads(cascade: Cascade, name: str) -> list[Access]:
    return [read for e in cascade.einsums for read in e.reads if read.tensor == name]


def _is_at_place(access: Access) -> bool:
    """True for plain indices: beyond its end a map is empty, even if what it reads is not."""
    return all(affine(i).is_plain and affine(i).step == 0 for i in access.indices)


def _inlined(cascade: Cascade, expr: Expr) -> Expr:
    def one(node: Expr) -> Expr:
        if not isinstance(node, Access) or not _is_inlined(cascade, node.tensor):
            return node
        (einsum,) = cascade.defining(node.tensor)
        at = dict(zip(einsum.left, node.indices, strict=True))
        return _inlined(cascade, substitute(einsum.map, at))

    return rewrite(expr, one)


def _definition(cascade: Cascade, einsum: Einsum, map_: Expr, colours: Labels) -> str:
    """One definition as text without names of variables or intermediate tensors."""
    count: dict[str, int] = {}
    labels: dict[str, str] = {}
    for variable in einsum.variables:
        rank = _rank(cascade, cascade.rank_of(variable))
        kind = "left" if variable in einsum.left else "reduced"
        # Two variables of a kind over one rank are told apart by their order of appearance.
        number = count[f"{kind} {rank}"] = count.get(f"{kind} {rank}", 0) + 1
        labels[variable] = f"<{kind} {rank} {number}>"
    form = _Form(cascade, labels, colours)
    over = sorted(labels[v] for v in einsum.over)
    where = "" if einsum.where is None else form.condition(einsum.where)
    return f"{form.indices(einsum.target)} = {einsum.op} {over} {form.text(map_)} where {where}"


def _rank(cascade: Cascade, rank: str) -> str:
    """A rank by its own name, or as a part of the rank that is split."""
    whole = cascade.whole_of(rank)
    return rank if whole == rank else f"{whole}.{cascade.parts_of(whole).index(rank)}"


class _Form:
    """Printing in which products and sums have no order, and accesses no rank order."""

    def __init__(self, cascade: Cascade, labels: Labels, colours: Labels) -> None:
        self.cascade = cascade
        self.labels = labels
        self.colours = colours
        self.parameters = dict(cascade.parameters)

    def text(self, expr: Expr) -> str:
        match expr:
            case Number(value=value):
                return repr(float(value))
            case Name(name=name) if VARIABLE.match(name):
                return self.labels[name]
            case Name(name=name) if (known := self.parameters.get(name)) is not None:
                return repr(float(known))
            case Name(name=name):
                return f"size {_rank(self.cascade, name)}"
            case Access():
                return f"({self.colours.get(expr.tensor, expr.tensor)} {self.indices(expr)})"
            case Select(condition=condition, then=then, otherwise=otherwise):
                branches = f"{self.text(then)}, {self.text(otherwise)}"
                return f"where({self.condition(condition)}, {branches})"
            case Apply(operator="add" | "sub" | "neg"):
                terms = self.terms(expr, 1)
                return terms[0] if len(terms) == 1 else f"(+ {' '.join(sorted(terms))})"
            case Apply(operator="mul" | "div"):
                return self.product(expr)
            case Apply(operator="pow", arguments=(base, Number(value=2))):
                return self.product(Apply("mul", (base, base)))
            case Apply(operator="max" | "min" as name):
                return f"{name}({', '.join(sorted(self.flat(expr, name)))})"
            case Apply(operator=name, arguments=arguments):
                return f"{name}({', '.join(self.text(a) for a in arguments)})"
        raise AssertionError(expr)

    def indices(self, access: Access) -> str:
        dims = self.cascade.tensor(access.tensor).dims
        ranks = [_rank(self.cascade, dim.rank) if dim.rank else "" for dim in dims]
        texts = [f"{r}:{self.text(i)}" for r, i in zip(ranks, access.indices, strict=True)]
        # The written order means something only where ranks don't tell axes apart.
        return str(sorted(texts) if len(set(ranks)) == len(ranks) else texts)

    def terms(self, expr: Expr, sign: int) -> list[str]:
        match expr:
            case Apply(operator="add", arguments=(a, b)):
                return [*self.terms(a, sign), *self.terms(b, sign)]
            case Apply(operator="sub", arguments=(a, b)):
                return [*self.terms(a, sign), *self.terms(b, -sign)]
            case Apply(operator="neg", arguments=(a,)):
                return self.terms(a, -sign)
        text = self.text(expr)
        if sign < 0:
            return [text.removeprefix("-") if text.startswith("-") else f"-{text}"]
        return [text]

    def product(self, expr: Expr) -> str:
        over, under, sign = self.factors(expr)
        texts = sorted([*(f"*{f}" for f in over), *(f"/{f}" for f in under)])
        body = over[0] if len(over) == 1 and not under else f"({' '.join(texts)})"
        return body if sign > 0 else f"-{body}"

    def factors(self, expr: Expr) -> tuple[list[str], list[str], int]:
        match expr:
            case Apply(operator="mul" | "div" as name, arguments=(a, b)):
                over, under, sign = self.factors(a)
                more, less, other = self.factors(b)
                if name == "div":
                    more, less = less, more
                return [*over, *more], [*under, *less], sign * other
            case Apply(operator="neg", arguments=(a,)):
                over, under, sign = self.factors(a)
                return over, under, -sign
            case Apply(operator="pow", arguments=(a, Number(value=2))):
                over, under, _ = self.factors(a)
                return [*over, *over], [*under, *under], 1
            case Number(value=1):
                return [], [], 1
        return [self.text(expr)], [], 1

    def flat(self, expr: Expr, name: str) -> list[str]:
        if isinstance(expr, Apply) and expr.operator == name:
            return [text for argument in expr.arguments for text in self.flat(argument, name)]
        return [self.text(expr)]

    def condition(self, condition: Condition) -> str:
        if isinstance(condition, Compare):
            sides = [self.text(condition.left), self.text(condition.right)]
            # m <= p is p >= m.
            symbol = {">": "<", ">=": "<="}.get(condition.symbol, condition.symbol)
            if symbol != condition.symbol:
                sides.reverse()
            return f" {symbol} ".join(sorted(sides) if symbol in ("==", "!=") else sides)
        return f"{condition.word}({', '.join(sorted(self.condition(t) for t in condition.terms))})"
