"""Which points and elements are empty, where that can be told from linear limits alone.

The tiled scheme leaves out what is empty by bounds of loops, so it needs every cause of emptiness
as a limit `sum of factor * variable + rest >= 0`: filters, and the ragged last tile of an input. A
limit travels with the tensor. It empties elements if it is about kept variables only; with a
reduced variable in it, it only leaves out points. Where a tensor's limits are of both kinds for one
reader, the language decides by what is empty at run time, and the tiled scheme is not for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from einsum_cascade.array_shapes import array_groups
from einsum_cascade.cascade import Cascade, affine
from einsum_cascade.compiled_text import integer, is_fixed
from einsum_cascade.expressions import (
    VARIABLE,
    Access,
    Apply,
    Compare,
    Condition,
    Expr,
    Logic,
    Name,
    Select,
    walk,
)
from einsum_cascade.ordering import flatten, plan


class NotTiledError(Exception):
    """The tiled scheme does not cover a cascade; its message says why."""


@dataclass(frozen=True, slots=True)
class Limit:
    """sum of factor * name + rest >= 0, as text; names are variables, or axes of a tensor."""

    factors: tuple[tuple[str, str], ...]
    rest: str

    @property
    def names(self) -> frozenset[str]:
        """The variables or axes it is about."""
        return frozenset(name for name, _ in self.factors)

    def renamed(self, names: Mapping[str, str]) -> Limit:
        """The same limit on other names, of which two may be the same on a diagonal."""
        factors: dict[str, str] = {}
        for name, factor in self.factors:
            old = factors.get(names[name])
            factors[names[name]] = f"({old} + {factor})" if old else factor
        return Limit(tuple(factors.items()), self.rest)


@dataclass(frozen=True, slots=True)
class Presence:
    """Limits of every Einsum's points, those that a tensor read brings apart; and of tensors."""

    # By Einsum (its position): limits on its variables.
    points: tuple[tuple[Limit, ...], ...]
    # By tensor: limits on its axes, written as numbers.
    elements: Mapping[str, tuple[Limit, ...]]


def presence(cascade: Cascade) -> Presence:
    """Find all limits; NotTiledError if something else may be empty."""
    points: dict[int, tuple[Limit, ...]] = {}
    elements: dict[str, tuple[Limit, ...]] = {}
    position = {id(einsum): i for i, einsum in enumerate(cascade.einsums)}
    for einsum in flatten(plan(cascade.einsums, dict(cascade.variables))):
        limits = _of_filter(einsum.where)
        if any(isinstance(node, Select) for node in walk(einsum.map)):
            guarded = {a for a in einsum.reads if _read_limits(cascade, elements, a)}
            if guarded:
                raise NotTiledError("a selection reads what may be empty")
        for access in einsum.reads:
            own = _read_limits(cascade, elements, access)
            kinds = {bool(limit.names & set(einsum.over)) for limit in own}
            if len(kinds) > 1:
                raise NotTiledError(f"what is empty in {access.tensor} has several causes")
            limits += [limit for limit in own if limit not in limits]
        points[position[id(einsum)]] = tuple(limits)
        lasting = [limit for limit in limits if not limit.names & set(einsum.over)]
        axes = {
            affine(index).variables[0]: str(axis)
            for axis, index in enumerate(einsum.target.indices)
            if affine(index).variables
        }
        if lasting and len(cascade.defining(einsum.name)) > 1:
            raise NotTiledError(f"{einsum.name} has several definitions and empty elements")
        elements[einsum.name] = tuple(limit.renamed(axes) for limit in lasting)
    return Presence(tuple(points[i] for i in range(len(cascade.einsums))), elements)


def _of_filter(condition: Condition | None) -> list[Limit]:
    """Limits of a filter."""
    if condition is None:
        return []
    if isinstance(condition, Logic) and condition.word == "and":
        return [limit for term in condition.terms for limit in _of_filter(term)]
    if not isinstance(condition, Compare) or condition.symbol == "!=":
        raise NotTiledError("a filter that is no conjunction of linear limits")
    left, right = linear(condition.left), linear(condition.right)
    if left is None or right is None:
        raise NotTiledError("a filter that is not linear")
    above, below = _minus(left, right), _minus(right, left)
    return {
        ">=": [above],
        ">": [Limit(above.factors, minus(above.rest, "1"))],
        "<=": [below],
        "<": [Limit(below.factors, minus(below.rest, "1"))],
        "==": [above, below],
    }[condition.symbol]


def _read_limits(
    cascade: Cascade, elements: Mapping[str, tuple[Limit, ...]], access: Access
) -> list[Limit]:
    """Limits that a read brings, on the variables of its indices."""
    if access.tensor not in cascade.inputs:
        found = elements.get(access.tensor, ())
        if not found:
            return []
        names = {}
        for axis, index in enumerate(access.indices):
            form = affine(index)
            if not form.is_plain or form.step != 0:
                raise NotTiledError(f"{access} shifts what may be empty")
            names[str(axis)] = form.variables[0]
        return [limit.renamed(names) for limit in found]
    tensor = cascade.tensor(access.tensor)
    limits = []
    for rank, axes in array_groups(cascade, tensor):
        if len(axes) == 1:
            continue
        factors, stride = [], ""
        for axis in reversed(axes):
            form, part = affine(access.indices[axis]), tensor.ranks[axis]
            if not form.is_plain or form.step != 0:
                raise NotTiledError(f"{access} shifts a part of {rank}")
            factors.append((form.variables[0], minus("0", stride or "1")))
            stride = f"{stride}*n_{part}" if stride else f"n_{part}"
        limits.append(Limit(tuple(reversed(factors)), f"(n_{rank} - 1)"))
    return limits


def linear(expr: Expr) -> Limit | None:
    """An expression as a linear form in variables, with texts as factors; None if it is none."""
    if is_fixed(expr):
        text = integer(expr)
        return None if text is None else Limit((), text)
    match expr:
        case Name(name=name) if VARIABLE.match(name):
            return Limit(((name, "1"),), "0")
        case Apply(operator="neg", arguments=(argument,)):
            inner = linear(argument)
            return None if inner is None else _minus(Limit((), "0"), inner)
        case Apply(operator="add" | "sub" | "mul" as operator, arguments=(a, b)):
            left, right = linear(a), linear(b)
            if left is None or right is None:
                return None
            if operator == "sub":
                return _minus(left, right)
            if operator == "add":
                return _minus(left, _times(right, "-1"))
            if not left.factors:
                return _times(right, left.rest)
            return None if right.factors else _times(left, right.rest)
    return None


def _times(form: Limit, factor: str) -> Limit:
    factors = tuple((name, times(factor, own)) for name, own in form.factors)
    return Limit(factors, times(factor, form.rest))


def _minus(a: Limit, b: Limit) -> Limit:
    factors = dict(a.factors)
    for name, factor in b.factors:
        factors[name] = minus(factors.get(name, "0"), factor)
    return Limit(tuple(factors.items()), minus(a.rest, b.rest))


def times(a: str, b: str) -> str:
    """Text of a product, without factors of 0 and 1: what is generated is to be read, too."""
    if "0" in (a, b):
        return "0"
    if "1" in (a, b):
        return b if a == "1" else a
    if "-1" in (a, b):
        return minus("0", b if a == "-1" else a)
    return f"{a}*{b}"


def minus(a: str, b: str) -> str:
    """Text of a difference."""
    if b == "0":
        return a
    if a == "0":
        return str(-int(b)) if b.lstrip("-").isdigit() else f"(-{b})"
    return f"({a} - {b})"


def plus(*terms: str) -> str:
    """Text of a sum."""
    return " + ".join(term for term in terms if term != "0") or "0"
