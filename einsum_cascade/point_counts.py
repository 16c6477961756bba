"""How many points or elements there are, as formulas: filters, windows and ragged tiles included.

A limit on one variable is an interval. A limit on the difference (or sum) of two variables cuts a
staircase out of their rectangle; with C(n) = sum of clamp(x, 0, A) for x <= n,

    #{0 <= a < A, 0 <= b < B : a - b <= h} = C(h + B) - C(h).

Limits of other forms are left out: the number is then an upper bound, and is marked as such.
"""

from __future__ import annotations

from collections.abc import Mapping

from einsum_cascade.cascade import Cascade, Einsum
from einsum_cascade.index_limits import Linear, Region, domains_of, extent
from einsum_cascade.rank_symbols import Size, positive_part, size_of, symbol


def elements(cascade: Cascade, tensor: str) -> tuple[Size, bool]:
    """Count the elements of a tensor that are not empty; False beside an upper bound."""
    domain = domains_of(cascade).get(tensor, Region())
    dims = cascade.tensor(tensor).dims
    sizes = {str(axis): extent(dim.rank, dim.extra) for axis, dim in enumerate(dims)}
    ranks = {str(axis): dim.rank or "" for axis, dim in enumerate(dims) if not dim.extra}
    return count_points(cascade, sizes, ranks, domain)


def points(cascade: Cascade, einsum: Einsum, region: Region) -> tuple[Size, bool]:
    """Count the points of an Einsum in a region; False beside an upper bound.

    A populated variable, such as k in `I[p,k] = argtopk[m](S[p,m])`, is filled, not walked.
    """
    walked = einsum.variables
    if einsum.op in ("topk", "argtopk"):
        walked = tuple(v for v in walked if v != einsum.filled)
    ranks = {v: cascade.rank_of(v) for v in walked}
    return count_points(cascade, {v: symbol(r) for v, r in ranks.items()}, ranks, region)


def count_points(
    cascade: Cascade, sizes: Mapping[str, Size], ranks: Mapping[str, str], region: Region
) -> tuple[Size, bool]:
    """Count the points of a box that a region holds.

    Args:
        cascade: says which ranks are parts of which.
        sizes: extent of each axis; axes start at 0.
        ranks: rank of an axis, for axes that may be parts of a split.
        region: limits over the axes.

    Returns:
        The number as a formula, and True if it is exact, False if it is an upper bound.
    """
    import sympy

    box = dict(sizes)
    limits = list(region.limits)
    # What holds in every point of the box: 0 >= 0, and m1*M0 + m0 <= M - 1.
    always = [Linear((), 0)]
    for whole, parts in cascade.splits:
        at = [next((a for a in box if ranks.get(a) == part), None) for part in parts]
        merged = [axis for axis in at if axis is not None]
        if len(merged) == len(parts):
            for axis in merged:
                del box[axis]
            name = "*".join(merged)
            box[name] = symbol(whole)
            weights = [-size_of(cascade, parts[i + 1 :]) for i in range(len(parts))]
            always.append(Linear(tuple(zip(merged, weights, strict=True)), symbol(whole) - 1))
            limits = [
                limit
                if any(_holds(limit.plus(bound, -1)) for bound in always)
                else _merge(cascade, limit, merged, parts, name)
                for limit in limits
            ]
    is_exact = region.is_exact
    low: dict[str, list[Size]] = {axis: [sympy.Integer(0)] for axis in box}
    stop: dict[str, list[Size]] = {axis: [size] for axis, size in box.items()}
    total = sympy.Integer(1)
    pairs: dict[tuple[str, str], list[Linear]] = {}
    for limit in limits:
        if any(_holds(limit.plus(bound, -1)) for bound in always):
            continue
        known = limit.names <= box.keys()
        unit = known and all(abs(c) == 1 for _, c in limit.terms)
        if known and len(limit.terms) == 1 and _has_sign(limit.terms[0][1]):
            ((axis, weight),) = limit.terms
            if sympy.sympify(weight).is_positive:
                low[axis].append(sympy.ceiling(-limit.constant / sympy.sympify(weight)))
            else:
                last = sympy.floor(limit.constant / sympy.sympify(-weight))
                stop[axis].append(last + 1)
        elif not limit.terms:
            # A coordinate written as a number, X[2,e], exists or does not.
            total *= positive_part(sympy.Min(1, limit.constant + 1))
        elif unit and len(limit.terms) == 2:
            first, second = sorted(limit.names)
            pairs.setdefault((first, second), []).append(limit)
        else:
            is_exact = False
    starts = {axis: sympy.Max(*bounds) for axis, bounds in low.items()}
    counts = {axis: positive_part(sympy.Min(*stop[axis]) - starts[axis]) for axis in box}
    paired: set[str] = set()
    for pair, own in pairs.items():
        number = None if paired & set(pair) else _staircase(pair, own, starts, counts)
        if number is None:
            is_exact = False
        else:
            total *= number
            paired |= set(pair)
    return total * sympy.Mul(*(counts[axis] for axis in box if axis not in paired)), is_exact


def _has_sign(weight: Size) -> bool:
    import sympy

    return bool(sympy.sympify(weight).is_positive or sympy.sympify(weight).is_negative)


def _holds(limit: Linear) -> bool:
    """True if a limit holds wherever its variables are not negative."""
    import sympy

    values = [sympy.sympify(c) for c in (limit.constant, *(c for _, c in limit.terms))]
    return all(value.is_nonnegative for value in values)


def _merge(
    cascade: Cascade, limit: Linear, axes: list[str], parts: tuple[str, ...], name: str
) -> Linear:
    """Write m1*M0 + m0 as one axis over M; a limit on the parts in another form stays as it is."""
    terms = dict(limit.terms)
    unit = terms.get(axes[-1], 0)
    weights = [size_of(cascade, parts[i + 1 :]) for i in range(len(parts))]
    if unit == 0 or any(
        terms.get(axis, 0) != unit * weight for axis, weight in zip(axes, weights, strict=True)
    ):
        return limit
    kept = tuple((axis, c) for axis, c in limit.terms if axis not in axes)
    return Linear((*kept, (name, unit)), limit.constant)


def _staircase(
    pair: tuple[str, str],
    limits: list[Linear],
    starts: Mapping[str, Size],
    counts: Mapping[str, Size],
) -> Size | None:
    """Count the pairs with low <= a - b <= high; None if limits are on sums and differences."""
    import sympy

    first, second = pair
    flips = {dict(limit.terms)[first] == dict(limit.terms)[second] for limit in limits}
    if len(flips) == 2:
        return None
    (flip,) = flips
    lows: list[Size] = []
    highs: list[Size] = []
    for limit in limits:
        sign = dict(limit.terms)[first]
        # From coordinates to places in the box; a sum becomes a difference by counting b down.
        shift = limit.constant + sum(c * starts[axis] for axis, c in limit.terms)
        if flip:
            shift += sign * (counts[second] - 1)
        (lows if sign == 1 else highs).append(-sign * shift)
    a, b = counts[first], counts[second]
    if highs:
        found = _at_most(a, b, sympy.Min(*highs))
        return sympy.Max(0, found - _at_most(a, b, sympy.Max(*lows) - 1)) if lows else found
    # a - b >= low is b - a <= -low, whose formula is the shorter one.
    return _at_most(b, a, -sympy.Max(*lows))


def _at_most(a: Size, b: Size, h: Size) -> Size:
    """#{0 <= x < a, 0 <= y < b : x - y <= h}."""
    import sympy

    def total(n: Size) -> Size:
        # Sum of clamp(x, 0, a) over all x <= n.
        inside = sympy.Min(positive_part(n), a)
        return inside * (inside + 1) / 2 + a * positive_part(n - a)

    return total(h + b) - total(h)
