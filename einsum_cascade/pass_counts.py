"""Counting the passes of one root tensor, from below and from above.

From below, one run of `pass_flow` finds what every schedule needs. From above, runs with the
directions of sweeps given look for a schedule; the directions are tried until one needs no more
sweeps than are certain, or a few more have been tried in vain.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from einsum_cascade.cascade import Cascade, Tensor, affine, variables_in
from einsum_cascade.errors import CascadeError, Problem
from einsum_cascade.expressions import Number
from einsum_cascade.ordering import Loop, Plan
from einsum_cascade.pass_flow import Found, UnsettledError, follow
from einsum_cascade.pass_presence import STRICT, Gaps
from einsum_cascade.pass_reads import Fiber
from einsum_cascade.pass_reduce import Where
from einsum_cascade.pass_status import Component, Home, Piece

# A recurrence over another rank with so few steps is followed step by step. Others are followed
# until nothing changes, and step by step only if that never comes.
FEW_STEPS = 8
# How many sweeps beyond the least ones are tried.
MORE_SWEEPS = 4


def homes(cascade: Cascade, tensor: Tensor, rank: str) -> list[Home]:
    """The axes along which a tensor has fibers of a rank: whole, split, or a concatenated part."""
    joined = (rank, *cascade.concatenated(rank))
    parts = cascade.parts_of(rank)
    homes: list[Home] = [
        tuple((part, frozenset((str(axis),))) for part in parts)
        for axis, name in enumerate(tensor.ranks)
        if name in joined
    ]
    if len(parts) > 1 and set(parts) <= set(tensor.ranks):
        homes.append(tuple((part, frozenset((str(tensor.ranks.index(part)),))) for part in parts))
    return homes


@dataclass(frozen=True, slots=True)
class Counted:
    """Passes of one root: at least `lower`, shown by `found`, at most `upper`, by `schedule`."""

    home: Home
    lower: int
    upper: int
    found: Found
    schedule: Found
    # With the directions of the schedule.
    fiber: Fiber

    @property
    def widths(self) -> dict[int, str]:
        """Positions visited in each pass, as a size."""
        widths = self.found.widths
        return {level: widths.get(level, self.fiber.rank) for level in range(1, self.lower + 1)}


def is_pointwise(cascade: Cascade, rank: str) -> bool:
    """True if no Einsum connects positions of a rank: nothing then needs a second pass.

    Every index along the rank is the same plain variable all through an Einsum, and never reduced.
    """
    along = {rank, *cascade.parts_of(rank)}
    for einsum in cascade.einsums:
        here = [v for v in einsum.variables if cascade.rank_of(v) in along]
        if {*here} & {*einsum.over} or len(here) > len({cascade.rank_of(v) for v in here}):
            return False
        for access in (einsum.target, *einsum.reads):
            dims = cascade.tensor(access.tensor).dims
            for dim, index in zip(dims, access.indices, strict=True):
                form = affine(index)
                met = dim.rank in along or not along.isdisjoint(
                    map(cascade.rank_of, form.variables)
                )
                if met and not (form.is_plain and form.step == 0):
                    return False
    return not cascade.concatenations


def count_root(
    cascade: Cascade,
    root: Tensor,
    rank: str,
    steps: Plan,
    missing: Mapping[int, Gaps],
    sizes: Mapping[str, int],
) -> Counted:
    """Count one root from below and from above, for the axis that needs most."""
    counted: list[Counted] = []
    for home in homes(cascade, root, rank):
        unrolled: frozenset[str] = frozenset()
        while len(counted) == 0 or counted[-1].home != home:
            try:
                counted.append(_count(cascade, root, rank, home, steps, missing, sizes, unrolled))
            except UnsettledError as error:
                if error.rank in unrolled or not _length(cascade, error.rank, sizes):
                    raise _beyond(error) from None
                # Each step adds passes: they are followed one by one.
                unrolled |= {error.rank}
    worst = max(counted, key=lambda one: (one.lower, one.upper))
    return replace(worst, upper=max(one.upper for one in counted))


def _count(
    cascade: Cascade,
    root: Tensor,
    rank: str,
    home: Home,
    steps: Plan,
    missing: Mapping[int, Gaps],
    sizes: Mapping[str, int],
    unroll: frozenset[str],
) -> Counted:
    own = {int(axis) for _, axes in home for axis in axes}
    parts = tuple(part for part, _ in home)
    fixed = {
        name: str(axis)
        for axis, name in enumerate(root.ranks)
        if name is not None and axis not in own
    }
    lengths = {loop.rank: _length(cascade, loop.rank, sizes) for loop in _loops(steps)}
    known = {
        name: length
        for name, length in lengths.items()
        if name in unroll or (name not in fixed and 0 < length <= FEW_STEPS)
    }
    # Of a rank that is unrolled the first coordinate, of any other one at any distance from it.
    first = {r: known[r] - 1 if _is_down(steps, r) else 0 for r in unroll}
    start = Piece(
        2,
        (Component(home, 2),),
        tuple(((r, axis), (first.get(r, 0), first.get(r, 0))) for r, axis in fixed.items()),
    )
    ranks = {rank, *parts, *(root.ranks[axis] or rank for axis in own)}
    ranks |= {w for w, joined in cascade.concatenations if ranks & {*joined}}
    # Beside a fiber of queries, the tiles of keys over the same rank are fixed.
    along = frozenset(ranks - (fixed.keys() - {rank}))
    known = {name: length for name, length in known.items() if name not in along}
    strict = _is_strict(cascade, root, own, missing)
    fiber = Fiber(cascade, root.name, rank, parts, along, known, missing, strict)

    def run(sweeps: tuple[int, ...]) -> Found:
        found = Found({root.name: (start,)})
        follow(replace(fiber, sweeps=sweeps), steps, found, Where())
        return found

    found = run(())
    lower = max(1, found.level // 2)
    best: tuple[Found, tuple[int, ...]] | None = None
    failure: UnsettledError | None = None
    ways = {-1 if loop.is_descending else 1 for loop in _loops(steps) if loop.rank in along}
    for length in range(lower, lower + MORE_SWEEPS):
        strings: list[tuple[int, ...]] = [(way,) for way in ways or (1,)]
        if len(ways) > 1:
            strings = list(itertools.product((1, -1), repeat=length))
        for sweeps in strings:
            try:
                schedule = run(sweeps)
            except UnsettledError as error:
                failure = error
                continue
            if best is None or schedule.level < best[0].level:
                best = schedule, sweeps
        if best is not None and best[0].level // 2 <= length:
            break
    if best is None:
        assert failure is not None
        raise failure
    upper = max(1, best[0].level // 2)
    return Counted(home, lower, upper, found, best[0], replace(fiber, sweeps=best[1]))


def _is_strict(cascade: Cascade, root: Tensor, axes: set[int], missing: Mapping[int, Gaps]) -> bool:
    """True if no read of a tensor goes beyond what a filter such as `m < p` lets through."""
    return all(
        missing[id(einsum)].get(name, 0) >= STRICT
        for einsum in cascade.einsums
        for read in einsum.reads
        if read.tensor == root.name
        for axis in axes
        for name in variables_in(read.indices[axis])
    )


def _beyond(error: UnsettledError) -> CascadeError:
    line = error.einsum.line
    message, hint = f"the pass analysis does not cover {error}", ""
    if error.rank:
        message = f"how many steps the recurrence over {error.rank} makes decides the passes"
        hint = f"say it: sizes={{'{error.rank}': 2}}, or --set {error.rank}=2"
    text = " " * line.indent + line.text
    return CascadeError(Problem(error.einsum.source, message, text, len(line.text), hint))


def _is_down(steps: Plan, rank: str) -> bool:
    return any(loop.is_descending for loop in _loops(steps) if loop.rank == rank)


def _loops(steps: Plan) -> Iterator[Loop]:
    for step in steps:
        if isinstance(step, Loop):
            yield step
            yield from _loops(step.body)


def _length(cascade: Cascade, rank: str, sizes: Mapping[str, int]) -> int:
    """Steps of a recurrence: as given, or the last coordinate of its state that is read, or 0."""
    last = 0
    for einsum in cascade.einsums:
        for read in einsum.reads:
            dims = cascade.tensor(read.tensor).dims
            for dim, index in zip(dims, read.indices, strict=True):
                if dim.rank == rank and isinstance(index, Number):
                    last = max(last, int(index.value) + (0 if dim.extra else 1))
    return sizes.get(rank) or last
