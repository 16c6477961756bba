"""Small sizes at which a cascade shows how it treats a long rank.

The analysed rank is long, tiles and windows have 3 coordinates, everything else 2. What is tied to
the long rank grows with it: a rank that a filter compares with it, that an index leads into or that
a populate selects from.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from einsum_cascade.cascade import Cascade, affine, variables_in
from einsum_cascade.expressions import Access, Apply, Compare, Expr, Name, Number, Select, walk
from einsum_cascade.operators import REDUCTIONS

TILE = 3
SHORT = 2


def small_extents(
    cascade: Cascade, rank: str, length: int, sizes: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Choose the extents for an analysis of `rank` at about `length` positions.

    Args:
        cascade: a legal cascade.
        rank: the rank that is to be long, whole or part of a split.
        length: how many positions it should have at least.
        sizes: extents that are known better, such as steps of a recurrence.
    """
    given = dict(sizes or {})
    parts = cascade.parts_of(rank)
    found = dict.fromkeys(cascade.ranks, SHORT)
    for whole, own in cascade.splits:
        for part in own[1:] if rank != whole else parts[1:]:
            found[part] = TILE
        if rank in own[1:]:
            found[own[0]] = TILE
    for name in _near(cascade):
        found[name] = TILE
    found |= given
    if rank not in given and len(parts) == 1:
        found[rank] = length
    elif len(parts) > 1 and parts[0] not in given:
        found[parts[0]] = -(-length // math.prod(found[part] for part in parts[1:]))
    for part in cascade.concatenated(rank):
        if part not in given:
            found[part] = length
    for whole, own in cascade.splits:
        if whole not in given:
            found[whole] = math.prod(found[part] for part in own)
    for _ in cascade.ranks:
        before = dict(found)
        for whole, own in cascade.concatenations:
            found[whole] = sum(found[part] for part in own)
        for small, large, extra in _ties(cascade, found):
            if large not in given:
                _enlarge(cascade, found, given, large, found[small] + extra)
        if before == found:
            break
    return found


def _enlarge(
    cascade: Cascade, found: dict[str, int], given: Mapping[str, int], rank: str, least: int
) -> None:
    """Make a rank at least so long; a split one by more tiles, a part with its whole."""
    parts = cascade.parts_of(rank)
    if found[rank] >= least:
        return
    if len(parts) == 1:
        found[rank] = least
    elif parts[0] not in given:
        found[parts[0]] = -(-least // math.prod(found[part] for part in parts[1:]))
    whole = cascade.whole_of(rank)
    if whole not in given:
        found[whole] = math.prod(found[part] for part in cascade.parts_of(whole))


def _near(cascade: Cascade) -> Iterator[str]:
    """Ranks of offsets: what is added to a position in an index (w of p+w-W//2)."""
    for einsum in cascade.einsums:
        for read in einsum.reads:
            for dim, index in zip(cascade.tensor(read.tensor).dims, read.indices, strict=True):
                names = variables_in(index)
                if len(names) > 1 and not affine(index).is_gather:
                    ranks = {cascade.rank_of(name) for name in names}
                    yield from (r for r in ranks if r != dim.rank and cascade.whole_of(r) == r)


def _ties(cascade: Cascade, found: Mapping[str, int]) -> Iterator[tuple[str, str, int]]:
    """Pairs of ranks of which the second must be at least as long as the first, plus something."""
    for einsum in cascade.einsums:
        conditions = [] if einsum.where is None else list(_comparisons(einsum.where))
        for node in walk(einsum.map):
            if isinstance(node, Select):
                conditions += _comparisons(node.condition)
        for names in conditions:
            ranks = [cascade.rank_of(name) for name in names]
            yield from ((a, b, 0) for a in ranks for b in ranks if a != b)
        if einsum.op is not None and REDUCTIONS[einsum.op].selects:
            for over in einsum.over:
                yield cascade.rank_of(einsum.filled), cascade.rank_of(over), 4
        for read in einsum.reads:
            for dim, index in zip(cascade.tensor(read.tensor).dims, read.indices, strict=True):
                form = affine(index)
                if dim.rank is None or form.is_plain or form.is_gather or form.offset:
                    continue
                ranks = [cascade.rank_of(name) for name in form.variables]
                for rank in ranks:
                    if rank != dim.rank and cascade.whole_of(rank) != dim.rank:
                        extra = sum(found[r] for r in ranks if r not in (rank, dim.rank))
                        # Wide enough for a whole window, or one of windows, at any stride.
                        depth = 1 if read.tensor in cascade.inputs else 2
                        extra += _stride(index, found) * depth * found[rank]
                        yield rank, dim.rank, extra


def _stride(index: Expr, found: Mapping[str, int]) -> int:
    """The largest factor of a product in an index."""
    factors = [1]
    for node in walk(index):
        if isinstance(node, Apply) and node.operator == "mul":
            for side in node.arguments:
                if isinstance(side, Number):
                    factors.append(int(side.value))
                elif isinstance(side, Name):
                    factors.append(found.get(side.name, 1))
    return max(factors)


def _comparisons(condition: object) -> Iterator[tuple[str, ...]]:
    """Variables of every comparison in a condition that compares variables with each other."""
    if isinstance(condition, Compare):
        names = variables_in(condition)
        if len(names) > 1 and not any(isinstance(n, Access) for n in walk(condition)):
            yield names
    else:
        for term in getattr(condition, "terms", ()):
            yield from _comparisons(term)
