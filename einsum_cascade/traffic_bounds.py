"""What must cross the boundary of a buffer of S words, whatever the schedule.

Every element of an input that some point reads is loaded at least once, every output is written
once. Beyond that, let a fiber (one rank of one tensor, n elements) be visited in levels 1..k
(`pass_analysis`), and let w_l be the positions that level l visits. Then the loads of its elements,
or of spilled values computed from one of them each, are at least

    n + sum over l = 2..k of max(0, w_l - S).

Proof. Level l+1 needs values that depend on every position of level l, so it begins only after
level l has visited them all. Between the end of level l-1 and the end of level l, each of the w_l
positions is visited, along operands of that position alone. Follow one such chain back: it meets a
value that was on chip at the beginning, of which there are at most S for all positions together,
or a load within this time. These times do not overlap, and up to the end of level 1 every element
is loaded once. Recomputing values does not help: the argument counts loads.

Decision: the bound is one fiber's. Fibers of different rows share loads and may be kept as their
images (M words of QK instead of E*M of K), so neither E nor the number of row blocks multiplies
it. Over several ranks of a tensor, and over tensors, the largest surplus counts.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from einsum_cascade.cascade import Cascade, Einsum, affine
from einsum_cascade.errors import CascadeError
from einsum_cascade.expressions import Access, Expr
from einsum_cascade.index_limits import (
    Linear,
    Region,
    always_read,
    chosen_rank,
    linear,
    regions,
)
from einsum_cascade.pass_analysis import PassReport, passes
from einsum_cascade.point_counts import count_points, elements
from einsum_cascade.rank_symbols import Size, exact, names_in, size_of, symbol

# Of several lower bounds the largest at these sizes is taken: primes, longer for later names.
_SAMPLES = (37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97)
MAX_CHOICES = 200


@dataclass(frozen=True, slots=True)
class FiberBound:
    """One rank of one input: the widths of its levels after the first."""

    rank: str
    widths: tuple[Size, ...]

    def surplus(self, buffer: Size) -> Size:
        """Words loaded beyond once."""
        import sympy

        return sympy.Add(*(sympy.Max(0, width - buffer) for width in self.widths))


def fiber_bounds(
    cascade: Cascade, rank: str, sizes: Mapping[str, int]
) -> dict[str, tuple[FiberBound, ...]]:
    """Analyse every input along every rank it carries.

    A rank that the pass analysis does not cover gives no bound, unless it is `rank`.
    """
    found: dict[str, list[FiberBound]] = {name: [] for name in cascade.inputs}
    filtered = regions(cascade)
    for other in _carried(cascade):
        try:
            report = passes(cascade, other, sizes=sizes)
        except CascadeError:
            if other == rank:
                raise
            continue
        length = _row_length(cascade, other, filtered)
        for name in found:
            number = report.tensors.get(name, 1)
            if number > 1 and length is not None:
                found[name] += _fibers(cascade, report, name, length)
    return {name: tuple(bounds) for name, bounds in found.items()}


def _carried(cascade: Cascade) -> list[str]:
    """Ranks of inputs, and the ranks that these are parts of."""
    found: list[str] = []
    for name in cascade.inputs:
        ranks = [rank for rank in cascade.tensor(name).ranks if rank]
        wholes = [whole for whole, parts in cascade.splits if set(parts) <= set(ranks)]
        joined = [whole for whole, parts in cascade.concatenations if set(parts) & set(ranks)]
        found += [*joined, *wholes, *ranks]
    return list(dict.fromkeys(found))


def _fibers(cascade: Cascade, report: PassReport, name: str, length: Size) -> Iterator[FiberBound]:
    """The fibers of one tensor: a level that visits all has the length of the longest row."""
    ranks = set(cascade.tensor(name).ranks)
    # A part of a concatenated rank has its own length.
    parts = [part for part in cascade.concatenated(report.rank) if part in ranks]
    known = report.widths_of[name]
    levels = range(2, report.tensors[name] + 1)
    for rank in parts if parts and report.rank not in ranks else [report.rank]:
        full = symbol(rank) if rank in parts else length
        names = [known.get(level, report.rank) for level in levels]
        widths = (full if width == report.rank else symbol(width) for width in names)
        yield FiberBound(rank, tuple(widths))


def _row_length(
    cascade: Cascade, rank: str, filtered: tuple[tuple[Einsum, Region], ...]
) -> Size | None:
    """Positions along a rank that every Einsum visits in its longest row; None if unknown.

    Without filters these are all of them. A causal filter m <= p leaves min(M, P) in the last row.
    """
    joined = set(cascade.concatenated(rank))
    ranks = {rank, *cascade.parts_of(rank), *joined}
    lengths = {size_of(cascade, [rank])}
    for einsum, region in filtered:
        if not region.is_exact:
            return None
        along = [v for v in einsum.variables if cascade.rank_of(v) in ranks]
        limits = [limit for limit in region.limits if limit.names & set(along)]
        if not limits:
            continue
        if joined:
            return None
        last = {
            v: Linear((), symbol(cascade.rank_of(v)) - 1)
            for v in einsum.variables
            if v not in along
        }
        if any(c > 0 for limit in limits for v, c in limit.terms if v in along):
            return None
        own = Region(tuple(_substitute(limit, last) for limit in limits))
        own_ranks = {v: cascade.rank_of(v) for v in along}
        sizes = {v: symbol(r) for v, r in own_ranks.items()}
        number, is_exact = count_points(cascade, sizes, own_ranks, own)
        if not is_exact or len(set(own_ranks.values())) < len(along):
            return None
        lengths.add(number)
    # Prefixes of one rank are nested, so the shortest is in all of them; with two it is unknown.
    return min(lengths, key=lambda size: size == symbol(rank)) if len(lengths) <= 2 else None


def _substitute(limit: Linear, values: Mapping[str, Linear]) -> Linear:
    moved = Linear((), limit.constant)
    for name, coefficient in limit.terms:
        moved = moved.plus(values.get(name, Linear(((name, 1),), 0)), coefficient)
    return moved


def compulsory(cascade: Cascade, name: str) -> Size:
    """Words of an input that some point reads, or of an output that is not empty.

    Where filters and windows leave this open, a lower bound; 0 where data decide.
    """
    import sympy

    if cascade.tensor(name).role == "output":
        number, is_exact = elements(cascade, name)
        return number if is_exact else sympy.Integer(0)
    found = [sympy.Integer(0)]
    for einsum, region in regions(cascade):
        if region.is_exact:
            for access in always_read(einsum.map):
                if access.tensor == name:
                    found += _touched(cascade, einsum, region, access)
    return max(found, key=_at_samples(found))


def _at_samples(formulas: list[Size]) -> Callable[[Size], float]:
    names = names_in(*formulas)
    values = {name: _SAMPLES[i % len(_SAMPLES)] for i, name in enumerate(names)}
    return lambda formula: float(exact(formula, values))


def _touched(cascade: Cascade, einsum: Einsum, region: Region, access: Access) -> Iterator[Size]:
    """Lower bounds on the distinct elements that an access reads.

    Variables that tell elements apart are walked. Others that the access does not read are
    eliminated, which leaves what any of their values lets through, or they stand at one place:
    first, last or middle. What is read with w = W//2 in K[p+w-W//2] alone is every K[p].
    """
    options: list[list[tuple[str, ...]]] = []
    factor: Size = 1
    for index in access.indices:
        chosen = chosen_rank(cascade, index)
        if chosen is not None:
            factor *= _chosen(cascade, index, chosen)
            continue
        form = linear(cascade, index)
        if form is None:
            return
        whole = _mixed_radix(cascade, form)
        options.append([whole] if whole else [(name,) for name, _ in form.terms] or [()])
    for choice in itertools.islice(itertools.product(*options), MAX_CHOICES):
        walked = tuple(dict.fromkeys(v for names in choice for v in names))
        limited = {name for limit in region.limits for name in limit.names}
        fixed = [v for v in einsum.variables if v not in walked and v in limited]
        ranks = {v: cascade.rank_of(v) for v in walked}
        sizes = {v: symbol(r) for v, r in ranks.items()}
        apart = not {*fixed} & _names_read(access)
        shadow = _shadow(cascade, region.limits, {v: cascade.rank_of(v) for v in fixed})
        if apart and shadow is not None:
            number, is_exact = count_points(cascade, sizes, ranks, Region(shadow))
            if is_exact:
                yield number * factor
                continue
        for places in itertools.islice(itertools.product(range(3), repeat=len(fixed)), MAX_CHOICES):
            at = {
                v: Linear((), _places(symbol(cascade.rank_of(v)))[place])
                for v, place in zip(fixed, places, strict=True)
            }
            limits = tuple(_substitute(limit, at) for limit in region.limits)
            number, is_exact = count_points(cascade, sizes, ranks, Region(limits))
            if is_exact:
                yield number * factor


def _shadow(
    cascade: Cascade, limits: tuple[Linear, ...], fixed: Mapping[str, str]
) -> tuple[Linear, ...] | None:
    """Limits on the other variables under which some value of each fixed one is within all limits.

    Between v >= a and v <= b there is a whole number if a <= b. That wants coefficients of 1, and
    ranks that are no tiles, since the last tile may be ragged; None otherwise.
    """
    for name, rank in fixed.items():
        if cascade.whole_of(rank) != rank:
            return None
        box = (Linear(((name, 1),), 0), Linear(((name, -1),), symbol(rank) - 1))
        weighted = [(limit, dict(limit.terms).get(name, 0)) for limit in (*limits, *box)]
        if any(weight not in (-1, 0, 1) for _, weight in weighted):
            return None
        lows, highs = ([one for one, weight in weighted if weight == sign] for sign in (1, -1))
        free = [limit for limit, weight in weighted if weight == 0]
        pairs = (low.plus(high) for low, high in itertools.product(lows, highs))
        limits = tuple(dict.fromkeys((*free, *pairs)))
    return limits


def _places(size: Size) -> tuple[Size, Size, Size]:
    import sympy

    return (sympy.Integer(0), size - 1, sympy.floor(size / 2))


def _mixed_radix(cascade: Cascade, form: Linear) -> tuple[str, ...]:
    """The variables of m1*M0 + m0, which tell all positions apart; () for another form."""
    terms = dict(form.terms)
    ranks = {cascade.rank_of(name): name for name in terms}
    for _, parts in cascade.splits:
        if set(parts) == set(ranks) and len(ranks) == len(terms):
            weights = [size_of(cascade, parts[i + 1 :]) for i in range(len(parts))]
            if all(terms[ranks[p]] == weight for p, weight in zip(parts, weights, strict=True)):
                return tuple(ranks[part] for part in parts)
    return ()


def _chosen(cascade: Cascade, index: Expr, rank: str) -> Size:
    """Distinct positions that one list of top-k coordinates gathers."""
    import sympy

    assert isinstance(index, Access)
    (einsum,) = cascade.defining(index.tensor)
    filled = [v for i in einsum.target.indices for v in affine(i).variables]
    new = next(v for v in filled if all(v not in _names_read(r) for r in einsum.reads))
    return sympy.Min(symbol(cascade.rank_of(new)), symbol(rank))


def _names_read(access: Access) -> set[str]:
    """Variables in the indices of an access."""
    return {v for index in access.indices for v in affine(index).variables}
