"""Filters of a cascade as limits on the tiles of a mapping; whether empty tiles are left out.

What can be placed is a filter on the logits: comparisons of sums of index variables, joined with
`and`, for which every Einsum of the 2D array is empty at the same points, because it reads what the
filter emptied. PEs at such points are masked. Everything else is refused with its reason.

A tile in which no point is kept is left out if that changes nothing (`empty_tiles`), and if each
column still has a tile that makes its results; otherwise every tile is visited.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Mapping as Lookup
from dataclasses import dataclass, replace
from fractions import Fraction
from math import prod

from archsim import coverage
from archsim.arch import Architecture
from archsim.empty_tiles import UnknownError, changes_nothing, constant
from archsim.errors import ArchError
from archsim.mapping import Mapping
from archsim.nest import Limit, Loop, Nest, span
from archsim.tiling import Tiling
from einsum_cascade.cascade import Cascade, Einsum, variables_in
from einsum_cascade.errors import Problem
from einsum_cascade.expressions import (
    Apply,
    Compare,
    Condition,
    Expr,
    Logic,
    Name,
    accesses,
    to_text,
)

HINT = "place a filter of comparisons of sums of index variables, joined with `and`"
# A sum of coefficients times variables, or times sums divided and rounded down; "" is the constant.
Sum = dict[str | Apply, Fraction]


@dataclass(frozen=True, slots=True)
class Filters:
    """Limits on the tiles of a mapping, the Einsums that they cut, and the nest of those tiles."""

    limits: tuple[Limit, ...]
    cut: frozenset[str]
    nest: Nest

    def work(
        self, einsum: str, leaves: Sequence[str], extents: Lookup[str, int]
    ) -> tuple[int, int]:
        """Points of an Einsum, and steps: points of it that follow each other.

        Args:
            einsum: the tensor it defines.
            leaves: its ranks, split ones by their parts.
            extents: sizes by rank or part.
        """
        loops, filled, words = self._parts(leaves, extents)
        steps = words * coverage.tile_count(self.nest, loops)
        if einsum in self.cut:
            return words * coverage.point_count(self.nest, loops), steps
        return words * coverage.tile_count(self.nest, loops, filled), steps

    def words(self, loops: Sequence[str], leaves: Sequence[str], extents: Lookup[str, int]) -> int:
        """Words of a tensor, once for each coordinate of some loops at which there is a tile."""
        _, filled, words = self._parts(leaves, extents)
        return words * coverage.tile_count(self.nest, loops, filled)

    # A held tensor streams by once in each tile; it is fetched no less often.
    streamed = words

    def _parts(
        self, leaves: Sequence[str], extents: Lookup[str, int]
    ) -> tuple[tuple[str, ...], tuple[str, ...], int]:
        """Leaves as loops of the nest, variables that fill the array, and points of the rest."""
        own = {leaf.lower() for leaf in leaves}
        loops = tuple(loop.variable for loop in self.nest.loops if loop.variable in own)
        filled = tuple(v for v in (self.nest.rows.variable, self.nest.cols.variable) if v in own)
        words = prod(extents[leaf] for leaf in leaves if leaf.lower() not in (*loops, *filled))
        return loops, filled, words

    def steps(self, rank: str) -> int:
        """The most tiles that there are along a rank of the nest."""
        return coverage.longest(self.nest, rank.lower())


class _RefusalError(Exception):
    """Why a filter can't be placed; the caller adds the place."""


def comparisons(condition: Condition) -> Iterator[Compare]:
    """The comparisons that all must hold; _RefusalError if a condition is anything else."""
    match condition:
        case Compare(symbol="!="):
            raise _RefusalError(f"{condition} keeps what lies on both sides of a line")
        case Compare():
            yield condition
        case Logic(word="and", terms=terms):
            for term in terms:
                yield from comparisons(term)
        case Logic(word=word):
            raise _RefusalError(f"{condition} joins comparisons with '{word}'")


def affine_sum(expr: Expr, known: Lookup[str, float | None] | None) -> Sum:
    """An expression as coefficients of its variables; None: any constant will do.

    Raises:
        _RefusalError: it reads a tensor, or is no sum of constants times variables.
    """
    if accesses(expr):
        raise _RefusalError(f"{to_text(expr)} reads a tensor")
    if not variables_in(expr):
        return {"": Fraction(1) if known is None else _constant(expr, known)}
    match expr:
        case Name(name=name):
            return {name: Fraction(1)}
        case Apply(operator="neg", arguments=(inner,)):
            return _scaled(affine_sum(inner, known), Fraction(-1))
        case Apply(operator="add" | "sub" as operator, arguments=(left, right)):
            sign = Fraction(1 if operator == "add" else -1)
            total = dict(affine_sum(left, known))
            for key, value in affine_sum(right, known).items():
                total[key] = total.get(key, Fraction(0)) + sign * value
            return total
        case Apply(operator="mul", arguments=(left, right)):
            for factor, other in ((left, right), (right, left)):
                if not variables_in(factor):
                    return _scaled(affine_sum(other, known), affine_sum(factor, known)[""])
        case Apply(operator="floordiv", arguments=(left, right)) if not variables_in(right):
            affine_sum(left, known)
            return {expr: Fraction(1)}
    raise _RefusalError(f"{to_text(expr)} is no sum of constants times index variables")


def _scaled(total: Sum, factor: Fraction) -> Sum:
    return {key: value * factor for key, value in total.items()}


def _constant(expr: Expr, known: Lookup[str, float | None]) -> Fraction:
    """A number over shapes and parameters."""
    try:
        return Fraction(constant(expr, known))
    except (UnknownError, OverflowError, ValueError) as error:
        raise _RefusalError(f"{to_text(expr)} is no number: {error}") from None


def refusal(einsum: Einsum) -> str | None:
    """Why a filter can't be placed, judged by its text alone; None if it can, or there is none."""
    if einsum.where is None:
        return None
    try:
        for comparison in comparisons(einsum.where):
            affine_sum(comparison.left, None)
            affine_sum(comparison.right, None)
    except _RefusalError as refused:
        return str(refused)
    return None


def filters_of(
    cascade: Cascade, architecture: Architecture, mapping: Mapping, tiling: Tiling
) -> Filters | None:
    """The filters of a cascade that a mapping places; None if it has none.

    Raises:
        ArchError: with the place of the filter, and why it can't be placed.
    """
    makers = [einsum for einsum in cascade.einsums if einsum.where is not None]
    if not makers:
        return None
    try:
        return _filters(cascade, architecture, mapping, tiling, makers)
    except _RefusalError as refused:
        line = makers[0].line
        raise ArchError(
            Problem(
                makers[0].source,
                f"{makers[0].name} has a filter that can't be placed: {refused}",
                " " * line.indent + line.text,
                len(line.text),
                HINT,
            )
        ) from None


def _filters(
    cascade: Cascade,
    architecture: Architecture,
    mapping: Mapping,
    tiling: Tiling,
    makers: list[Einsum],
) -> Filters:
    if len(mapping.phases) > 1:
        raise _RefusalError("what it leaves out between phases has no model")
    cut = _cut(cascade)
    rows, cols = _axes(cascade, architecture, mapping, tiling, cut)
    extents = dict(tiling.extents)
    axes = [span(variable, extents, tiling.partitions) for variable in (rows, cols)]
    loops = tuple(Loop(loop, extents[cascade.rank_of(loop)]) for loop in mapping.loops)
    known = {**extents, **dict(cascade.parameters)}
    limits: list[Limit] = []
    for maker in makers:
        assert maker.where is not None
        for comparison in comparisons(maker.where):
            limits += _limits(cascade, tiling, comparison, known)
    nest = Nest(loops, axes[0], axes[1], tuple(limits))
    if not coverage.sees_whole_ranks(nest):
        raise _RefusalError(
            f"it speaks of more than the ranks of {rows} and {cols}, each of them whole"
        )
    skips = changes_nothing(cascade, mapping, nest, cut, known) and _reaches_all(nest)
    limits = [replace(limit, skips=skips) for limit in limits]
    return Filters(tuple(limits), cut, replace(nest, limits=tuple(limits)))


def _limits(
    cascade: Cascade, tiling: Tiling, comparison: Compare, known: Lookup[str, float | None]
) -> Iterator[Limit]:
    """A comparison as sums that may not fall below zero, in variables of tiles."""
    total = affine_sum(Apply("sub", (comparison.right, comparison.left)), known)
    signs = {"<=": ((1, 0),), "<": ((1, -1),), ">=": ((-1, 0),), ">": ((-1, -1),)}
    for sign, more in signs.get(comparison.symbol, ((1, 0), (-1, 0))):
        least = _scaled(total, Fraction(sign))
        least[""] = least.get("", Fraction(0)) + more
        whole = _undivided(comparison, least, known)
        terms: dict[str, int] = {}
        for name, step in whole.items():
            rank = cascade.rank_of(name) if name else ""
            parts = dict(tiling.partitions).get(rank, ())
            if not parts:
                terms[name] = terms.get(name, 0) + step
            for part in reversed(parts):
                terms[part.lower()] = terms.get(part.lower(), 0) + step
                step *= dict(tiling.extents)[part]
        constant = terms.pop("", 0)
        yield Limit(tuple((v, c) for v, c in terms.items() if c), constant)


def _undivided(comparison: Compare, total: Sum, known: Lookup[str, float | None]) -> dict[str, int]:
    """A sum that is not negative where the given one is not, without a division.

    n // G + x >= 0 is n + G x >= 0, and x - n // G >= 0 is G x + G - 1 - n >= 0, for whole n and x.
    """
    divided = [(key, value) for key, value in total.items() if isinstance(key, Apply) and value]
    plain = {key: value for key, value in total.items() if not isinstance(key, Apply)}
    if divided:
        (expr, sign), *more = divided
        divisor = _constant(expr.arguments[1], known)
        if more or abs(sign) != 1 or divisor < 1 or divisor.denominator != 1:
            raise _RefusalError(f"{comparison} is more than one sum divided by a whole number")
        _whole(comparison, plain)
        plain = {key: value * divisor for key, value in plain.items()}
        for key, value in affine_sum(expr.arguments[0], known).items():
            if isinstance(key, Apply):
                raise _RefusalError(f"{comparison} divides twice")
            plain[key] = plain.get(key, Fraction(0)) + sign * value
        if sign < 0:
            plain[""] = plain.get("", Fraction(0)) + divisor - 1
    return _whole(comparison, plain)


def _whole(comparison: Compare, total: dict[str, Fraction]) -> dict[str, int]:
    for value in total.values():
        if value.denominator != 1:
            raise _RefusalError(f"{comparison} has a coefficient that is no integer: {value}")
    return {key: value.numerator for key, value in total.items()}


def _cut(cascade: Cascade) -> frozenset[str]:
    """Einsums whose points a filter empties: their own, or that of something they read."""
    # What is left of each filter in a tensor's elements, and in an Einsum's points.
    elements: dict[str, frozenset[Compare]] = {}
    points: dict[str, frozenset[Compare]] = {}
    for einsum in cascade.einsums:
        found: set[Compare] = set()
        if einsum.where is not None:
            found |= set(comparisons(einsum.where))
        for read in einsum.reads:
            for maker in cascade.defining(read.tensor):
                if elements.get(read.tensor):
                    if read.indices != maker.target.indices:
                        raise _RefusalError(f"{einsum.name} reads {read} at other indices")
                    found |= elements[read.tensor]
        points[einsum.name] = points.get(einsum.name, frozenset()) | found
        kept = {c for c in found if not set(_variables(c)) & set(einsum.over)}
        elements[einsum.name] = elements.get(einsum.name, frozenset()) | kept
    everything = frozenset(c for found in points.values() for c in found)
    for einsum in cascade.einsums:
        if points[einsum.name] not in (frozenset(), everything):
            raise _RefusalError(f"{einsum.name} is empty at other points than others are")
        if elements[einsum.name] and cascade.tensor(einsum.name).role == "output":
            raise _RefusalError(f"{einsum.name} is an output of which elements are empty")
    return frozenset(name for name, found in points.items() if found)


def _variables(comparison: Compare) -> tuple[str, ...]:
    return (*variables_in(comparison.left), *variables_in(comparison.right))


def _axes(
    cascade: Cascade,
    architecture: Architecture,
    mapping: Mapping,
    tiling: Tiling,
    cut: frozenset[str],
) -> tuple[str, str]:
    """Variables on the rows and columns of the array; all it computes is cut, and nothing else."""
    found: dict[tuple[str, str], str] = {}
    for name, where in mapping.placements:
        array = architecture.array(where.array) if where.array else None
        is_square = array is not None and "rows" in dict(array.axes)
        if is_square != (name in cut):
            what = "is not filtered as the others on the array are" if is_square else "is filtered"
            raise _RefusalError(f"{name} {what}, but only all Einsums of the 2D array can be")
        if array is None or not is_square:
            continue
        axes = dict(where.axes)
        names = [axes.get("rows", ()), axes.get("cols", ())]
        if any(len(variables) != 1 for variables in names):
            raise _RefusalError(f"{name} has not one variable on the rows and one on the columns")
        for (variable,), axis in zip(names, ("rows", "cols"), strict=True):
            rank = cascade.rank_of(variable)
            if dict(tiling.extents)[rank] > dict(array.axes)[axis]:
                raise _RefusalError(f"tiles of {rank} are larger than the {axis} of {array.name}")
        found.setdefault((names[0][0], names[1][0]), name)
    if len(found) != 1:
        raise _RefusalError("Einsums have different variables on the rows or columns")
    return next(iter(found))


def _reaches_all(nest: Nest) -> bool:
    """True if every tile of columns is there in some tile, so that each of their results is."""
    over = tuple(v for v, _ in nest.cols.steps)
    own = {v for v, _ in (*nest.rows.steps, *nest.cols.steps)}
    over += tuple(loop.variable for loop in nest.loops if loop.variable not in own)
    skipping = coverage.tile_count(nest, over)
    everything = replace(nest, limits=())
    return skipping == coverage.tile_count(everything, over)
