"""What a mapping makes of a cascade whatever the sizes are: worked out once for many design points.

Points of an Einsum and words of a tensor are products of extents; here they are the names of the
factors. What an array does at one point follows from its operators. So a design point is placed by
multiplying numbers, and everything that goes through texts is done here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import prod

from archsim.arch import Array
from archsim.compatibility import misfits
from archsim.formulas import ceil_div
from archsim.mapping import Mapping as TileMapping
from archsim.mapping import Placement
from archsim.operator_counts import (
    actions_of_point,
    operators,
    registers_of_point,
    slots_of_point,
)
from archsim.residency import granule_loops
from archsim.tiling import partitions_of
from einsum_cascade.cascade import Cascade, Einsum
from einsum_cascade.expressions import Expr

Extents = Mapping[str, int]
Partitions = tuple[tuple[str, tuple[str, ...]], ...]
# Names of extents whose product is meant.
Factors = tuple[str, ...]


def size(factors: Factors, extents: Extents) -> int:
    """The product of some extents."""
    return prod([extents[factor] for factor in factors])


def factors_of(leaves: Iterable[str], partitions: Partitions) -> Factors:
    """Points over some ranks, ragged tiles included: a rank that is there whole has its size."""
    left = dict.fromkeys(leaves)
    found = []
    for whole, parts in partitions:
        if left.keys() >= set(parts):
            found.append(whole)
            left = {leaf: None for leaf in left if leaf not in parts}
    return (*found, *left)


def leaves_of(cascade: Cascade, variables: Iterable[str], partitions: Partitions) -> Factors:
    """Ranks of some variables, split ones by their parts."""
    parts = dict(partitions)
    ranks = map(cascade.rank_of, variables)
    return tuple(leaf for rank in ranks for leaf in parts.get(rank, (rank,)))


def leaves_of_tensor(cascade: Cascade, tensor: str, partitions: Partitions) -> Factors:
    """Ranks of a tensor, split ones by their parts."""
    parts = dict(partitions)
    ranks = [rank for rank in cascade.tensor(tensor).ranks if rank]
    return tuple(leaf for rank in ranks for leaf in parts.get(rank, (rank,)))


@dataclass(frozen=True, slots=True)
class Shape:
    """Einsums over the same ranks that are unrolled over the same axes of an array."""

    array: str
    points: Factors
    # Of each axis that is filled: its name, and the leaves that are unrolled over it.
    axes: tuple[tuple[str, Factors], ...]
    # Leaves of which some on an axis are the ragged last part of a whole rank.
    ragged: tuple[tuple[str, str], ...]
    # What is done one after the other.
    serial: Factors

    def steps(self, extents: Extents, sizes: Mapping[tuple[str, str], int]) -> int:
        """Points that an array takes one after the other, the others side by side on its axes.

        Args:
            extents: of ranks and parts.
            sizes: of the axes of arrays.
        """
        total = 0
        for kind in product(*(_ends(extents[whole], extents[part]) for whole, part in self.ragged)):
            ends = {part: end for (_, part), (_, end) in zip(self.ragged, kind, strict=True)}
            folds = prod([count for count, _ in kind])
            for axis, leaves in self.axes:
                filled = prod([ends[leaf] if leaf in ends else extents[leaf] for leaf in leaves])
                folds *= ceil_div(filled, sizes[self.array, axis])
            total += folds
        return total * size(self.serial, extents)


def _ends(whole: int, part: int) -> list[tuple[int, int]]:
    """Kinds of tiles along a rank, how many there are and their extent: full ones, a ragged end."""
    full, rest = divmod(whole, part)
    return [(full, part), (1, rest)] if full and rest else [(full, part)] if full else [(1, rest)]


@dataclass(frozen=True, slots=True)
class Job:
    """An Einsum in its place; what one point of it costs."""

    einsum: str
    # None: at load, for no slots.
    array: str | None
    leaves: Factors
    points: Factors
    # Number of its shape; none if it is on no array.
    shape: int | None
    # Applications of operators of the array, and issue slots.
    operators: tuple[tuple[str, int], ...] = ()
    slots: int = 0
    # Component, action and number of what these operators cause; register reads and writes.
    actions: tuple[tuple[str, str, int], ...] = ()
    registers: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Read:
    """A tensor that a phase reads from the outer memory, and how often."""

    tensor: str
    # Loops for whose coordinates it is read, and its own ranks.
    loops: tuple[str, ...]
    leaves: Factors
    words: Factors
    refetch: Expr | None


@dataclass(frozen=True, slots=True)
class Part:
    """A phase: what it computes, and what crosses the outer memory's boundary in it."""

    jobs: tuple[Job, ...]
    reads: tuple[Read, ...]
    writes: tuple[tuple[str, Factors], ...]
    # Tensors of which a share goes out and comes back.
    spilled: tuple[tuple[str, Expr, Factors], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Outline:
    """A cascade on arrays of any size, through a mapping."""

    cascade: Cascade
    mapping: TileMapping
    arrays: tuple[Array, ...]
    shapes: tuple[Shape, ...] = ()
    parts: tuple[Part, ...] = ()


@lru_cache(maxsize=256)
def outlined(cascade: Cascade, mapping: TileMapping, arrays: tuple[Array, ...]) -> Outline | None:
    """Outline a cascade on arrays whose axes may have any size; None if the three do not fit.

    Phases that are laid out in their own way have outlines of their own.

    Raises:
        ArchError: splits contradict each other.
    """
    if next(misfits(cascade, "", arrays, mapping), None) is not None:
        return None
    if mapping.layouts:
        return Outline(cascade, mapping, arrays)
    partitions = partitions_of(cascade, mapping)
    where = dict(mapping.placements)
    shapes: dict[Shape, int] = {}
    jobs: dict[str, list[Job]] = {}
    for einsum in cascade.einsums:
        if not einsum.is_initial:
            job = _job(cascade, einsum, where[einsum.name], arrays, partitions, shapes)
            jobs.setdefault(einsum.name, []).append(job)
    parts = tuple(
        _part(cascade, mapping, partitions, group, jobs) for group in mapping.phases or (jobs,)
    )
    return Outline(cascade, mapping, arrays, tuple(shapes), parts)


def _job(
    cascade: Cascade,
    einsum: Einsum,
    where: Placement,
    arrays: tuple[Array, ...],
    partitions: Partitions,
    shapes: dict[Shape, int],
) -> Job:
    leaves = leaves_of(cascade, einsum.variables, partitions)
    points = factors_of(leaves, partitions)
    array = next((array for array in arrays if array.name == where.array), None)
    if array is None:
        return Job(einsum.name, None, leaves, points, None)
    axes = [(axis, [cascade.rank_of(v) for v in variables]) for axis, variables in where.axes]
    spatial = {rank for _, ranks in axes for rank in ranks}
    # Only a last part has ragged ends; a rank with another part on an axis is there in full.
    ragged, serial = [], [leaf for leaf in leaves if leaf not in spatial]
    for whole, parts in partitions:
        if set(parts) <= set(leaves) and not spatial & set(parts[:-1]):
            serial = [leaf for leaf in serial if leaf not in parts]
            if parts[-1] in spatial:
                ragged.append((whole, parts[-1]))
            else:
                serial.append(whole)
    shape = Shape(
        array.name,
        points,
        tuple((axis, tuple(rank for rank in ranks if rank in leaves)) for axis, ranks in axes),
        tuple(ragged),
        tuple(serial),
    )
    counts = operators(einsum, array)
    passes_on = not spatial.isdisjoint(leaves_of(cascade, einsum.over, partitions))
    return Job(
        einsum.name,
        array.name,
        leaves,
        points,
        shapes.setdefault(shape, len(shapes)),
        tuple(counts.items()),
        slots_of_point(counts, array, where),
        tuple(actions_of_point(counts, array)),
        registers_of_point(counts, array, passes_on and len(array.axes) > 1),
    )


def _part(
    cascade: Cascade,
    mapping: TileMapping,
    partitions: Partitions,
    group: Iterable[str],
    jobs: dict[str, list[Job]],
) -> Part:
    names = dict.fromkeys(group)
    refetch = dict(mapping.refetch)
    rest = [einsum for einsum in cascade.einsums if einsum.name not in names]
    later = {access.tensor for einsum in rest for access in einsum.reads}

    reads: dict[str, Read] = {}
    writes: dict[str, Factors] = {}
    for einsum in cascade.einsums:
        if einsum.name not in names:
            continue
        for tensor in (access.tensor for access in einsum.reads):
            if tensor in names or tensor in reads:
                continue
            own = leaves_of_tensor(cascade, tensor, partitions)
            mine = tuple(v for v in mapping.loops if cascade.rank_of(v) in own)
            loops = granule_loops(mapping, mine, tensor)
            again = [rank for rank in map(cascade.rank_of, loops) if rank not in own]
            words = (*factors_of(own, partitions), *again)
            reads[tensor] = Read(tensor, loops, own, words, refetch.get(tensor))
        if cascade.tensor(einsum.name).role == "output" or einsum.name in later:
            writes[einsum.name] = factors_of(
                leaves_of_tensor(cascade, einsum.name, partitions), partitions
            )
    return Part(
        tuple(job for name in names for job in jobs[name]),
        tuple(reads.values()),
        tuple(writes.items()),
        tuple(
            (name, share, factors_of(leaves_of_tensor(cascade, name, partitions), partitions))
            for name, share in mapping.spilled
            if name in names
        ),
    )
