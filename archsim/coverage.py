"""How many tiles of a nest are there, and how many points they keep, without visiting each.

Limits are straight, so along any one loop the tiles that are there form a stretch, whose ends are
computed for all points of the other loops at once. Tests compare with `Nest.tiles`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from archsim.errors import ArchError
from archsim.nest import Limit, Loop, Nest
from einsum_cascade.errors import Problem, Source

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Bits = NDArray[np.bool_]

# Points at which stretches are computed: seconds, and half a GiB an array.
LIMIT = 2**26


@dataclass(frozen=True)
class _Stretches:
    """Along one loop, at each point of the others: tiles `first` to `last` that are full along it.

    One more tile at `ragged` may fill fewer rows or columns, if `is_ragged`.
    """

    axes: tuple[str, ...]
    first: Ints
    last: Ints
    is_ragged: Bits
    # Rows and columns that are filled, in the stretch and in the ragged tile.
    full: dict[str, Ints]
    rest: dict[str, Ints]

    @property
    def length(self) -> Ints:
        """Tiles of the stretch."""
        import numpy as np

        length: Ints = np.maximum(self.last - self.first + 1, 0)
        return length


def tile_count(nest: Nest, over: Sequence[str], filled: Sequence[str] = ()) -> int:
    """Count the coordinates in some loops at which there is a tile.

    Args:
        nest: loops, what they fill and limits.
        over: variables of loops; what lies in the others counts once.
        filled: variables of rows or columns: each coordinate counts for as many elements as a tile
            there fills along them.
    """
    import numpy as np

    counts = {loop.variable: loop.count for loop in nest.loops}
    dropped = [v for v in counts if v not in over]
    if not counts:
        nest = Nest((Loop("", 1),), nest.rows, nest.cols, nest.limits)
        counts, dropped = {"": 1}, []
    along = max(dropped or counts, key=lambda v: counts[v])
    found = _stretches(nest, along)
    gone = tuple(i for i, v in enumerate(found.axes) if v in dropped)
    length, ragged = found.length, found.is_ragged.astype(np.int64)
    if dropped:
        length = np.minimum(length, 1)
    for variable in filled:
        length, ragged = length * found.full[variable], ragged * found.rest[variable]
    if not dropped:
        return int((length + ragged).sum())
    return int(np.maximum(length, ragged).max(axis=gone, initial=0).sum())


def longest(nest: Nest, loop: str) -> int:
    """The most tiles that there are along one loop."""
    found = _stretches(nest, loop)
    return int((found.length + found.is_ragged).max(initial=0))


def _stretches(nest: Nest, along: str) -> _Stretches:
    import numpy as np

    others = [loop for loop in nest.loops if loop.variable != along]
    shape = tuple(loop.count for loop in others)
    if prod(shape) > LIMIT:
        what = f"{prod(shape):,} stretches of tiles are more than can be counted"
        raise ArchError(Problem(Source("filter"), what, hint="take larger tiles or shorter ranks"))
    grid = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij", sparse=True)
    at = dict(zip((loop.variable for loop in others), grid, strict=True))
    count = next(loop.count for loop in nest.loops if loop.variable == along)
    zero = np.zeros(shape, np.int64)
    first, last = zero.copy(), zero + (count - 1)
    ragged, is_ragged = zero.copy(), np.zeros(shape, np.bool_)
    full: dict[str, Ints] = {}
    rest: dict[str, Ints] = {}
    for span in (nest.rows, nest.cols):
        left = zero + span.elements
        for variable, step in span.steps:
            if variable != along:
                left = left - step * at[variable]
        step = dict(span.steps).get(along, 0)
        if not step:
            full[span.variable] = rest[span.variable] = np.minimum(span.room, left)
            last = np.where(left > 0, last, -1)
            continue
        whole = np.where(left >= span.room, (left - span.room) // step, -1)
        ragged = whole + 1
        full[span.variable] = zero + span.room
        rest[span.variable] = left - step * ragged
        is_ragged = (rest[span.variable] > 0) & (ragged < count)
        last = np.minimum(last, whole)
    # A dimension along the loop that nothing fills: there is no tile.
    is_ragged = is_ragged & (np.minimum(full[nest.cols.variable], full[nest.rows.variable]) > 0)
    for limit in nest.limits:
        if not limit.skips:
            continue
        start = zero + limit.constant + sum(c * at[v] for v, c in limit.terms if v in at)
        most = start + _most(limit, nest, full)
        slope = limit.of(along)
        if slope > 0:
            first = np.maximum(first, -(most // slope))
        elif slope < 0:
            last = np.minimum(last, most // -slope)
        else:
            last = np.where(most >= 0, last, -1)
        is_ragged = is_ragged & (start + slope * ragged + _most(limit, nest, rest) >= 0)
    names = tuple(loop.variable for loop in others)
    return _Stretches(names, first, last, is_ragged, full, rest)


def _most(limit: Limit, nest: Nest, filled: dict[str, Ints]) -> Ints:
    """What rows and columns of a tile add to a limit at most."""
    import numpy as np

    rows, cols = (
        np.maximum(limit.of(span.variable) * (filled[span.variable] - 1), 0)
        for span in (nest.rows, nest.cols)
    )
    total: Ints = rows + cols
    return total


def point_count(nest: Nest, over: Sequence[str]) -> int:
    """Count the points of rows and columns that all limits keep, in tiles of some loops.

    Limits may not speak of other loops than those, and see each rank whole: with m split into m1
    and m0, both at once.
    """
    import numpy as np

    spanned = [v for span in (nest.rows, nest.cols) for v, _ in span.steps]
    free = prod(loop.count for loop in nest.loops if loop.variable in {*over} - {*spanned})
    a, b = sorted((nest.rows, nest.cols), key=lambda span: span.elements)
    total = 0
    for start in range(0, a.elements, LIMIT):
        here = np.arange(start, min(a.elements, start + LIMIT))
        first, last = np.zeros(len(here), np.int64), np.full(len(here), b.elements - 1)
        for limit in nest.limits:
            value, slope = limit.constant + limit.of(a.variable) * here, limit.of(b.variable)
            if slope > 0:
                first = np.maximum(first, -(value // slope))
            elif slope < 0:
                last = np.minimum(last, value // -slope)
            else:
                last = np.where(value >= 0, last, -1)
        total += int(np.maximum(last - first + 1, 0).sum())
    return total * free


def sees_whole_ranks(nest: Nest) -> bool:
    """True if limits are of the elements of the two ranks, whatever tile they lie in."""
    inner = {v: (span.variable, step) for span in (nest.rows, nest.cols) for v, step in span.steps}
    return all(
        set(dict(limit.terms)) <= {*inner, nest.rows.variable, nest.cols.variable}
        and all(limit.of(v) == limit.of(axis) * step for v, (axis, step) in inner.items())
        for limit in nest.limits
    )
