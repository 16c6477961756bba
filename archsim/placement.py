"""A cascade placed on an architecture: slots, operations and traffic of every Einsum.

This is arithmetic on the text of the cascade and the mapping, without time. An Einsum has a map
operator count per point of its iteration space; the array's operator table turns operators into
issue slots; variables unrolled over an axis of the array run side by side, all others one after
the other. Traffic over the outer memory follows from what the buffer holds under the loop order:
a tensor is read again for every loop outside its tile that does not index it, unless that loop
lies inside all loops that do.

Numbers are for one head (one point of the batch ranks B and H); `batch` says how many there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import lru_cache
from math import prod
from typing import Any

from archsim.arch import Architecture, Array
from archsim.block_filters import BlockFilters
from archsim.errors import ArchError
from archsim.filters import HINT, Filters, filters_of, refusal
from archsim.formulas import ceil_div, compute
from archsim.mapping import Mapping, Placement
from archsim.operator_counts import operators, slots_of_point
from archsim.packing import KEY_HEADS, packed
from archsim.phases import phase_of
from archsim.recognition import recognised
from archsim.residency import granule_loops
from archsim.tiling import Tiling, tile
from einsum_cascade.cascade import Cascade, Einsum, Workload, variables_in
from einsum_cascade.errors import Problem, legal_words
from einsum_cascade.expressions import Apply, Select, accesses, to_text, walk

# Ranks over which heads are independent; a cascade that names one has it as a rank of its own.
BATCH_RANKS = ("B", "H")
# Operators of indices whose reads of a tile lie side by side, or evenly spaced.
AFFINE = ("add", "sub", "mul", "neg")


@dataclass(frozen=True, slots=True)
class Work:
    """What one Einsum costs on its array, for one head."""

    einsum: str
    # None: at load, for no slots.
    array: str | None
    # Points of the iteration space, issue slots of the array, and busy PE-slots.
    points: int
    slots: int
    busy: int
    # Applications of each operator of the array's table, over all points.
    operations: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Phase:
    """A group of fused Einsums, and the words that cross the outer memory's boundary in it."""

    work: tuple[Work, ...]
    read: tuple[tuple[str, Fraction], ...]
    write: tuple[tuple[str, Fraction], ...]

    def slots_on(self, array: str) -> int:
        """Issue slots that this phase needs of an array."""
        return sum(work.slots for work in self.work if work.array == array)

    @property
    def words(self) -> Fraction:
        """Words read and written."""
        return sum((words for _, words in (*self.read, *self.write)), Fraction(0))


@dataclass(frozen=True, slots=True)
class Placed:
    """A cascade with a workload on an architecture through a mapping: no times yet."""

    cascade: Cascade
    workload: Workload
    architecture: Architecture
    mapping: Mapping
    tiling: Tiling
    batch: int
    phases: tuple[Phase, ...]
    # What filters leave of the tiles; None without filters.
    filters: Filters | BlockFilters | None = None
    # Each phase placed on its own, if some are laid out in their own way; `tiling` is then that of
    # the phase that holds most in the buffer.
    stages: tuple[Placed, ...] = ()
    # What a phase that is placed on its own is a part of.
    whole: Placed | None = field(default=None, compare=False, repr=False)

    @property
    def work(self) -> tuple[Work, ...]:
        """The work of all phases in order."""
        return tuple(work for phase in self.phases for work in phase.work)


def place(
    cascade: Cascade,
    workload: Workload,
    architecture: Architecture,
    mapping: Mapping,
    *,
    double_buffer: bool = True,
    blocks: BlockFilters | None = None,
) -> Placed:
    """Put a cascade on an architecture; `double_buffer` as in `tiling.tile`.

    `blocks` leaves of the tiles what a table says, on a cascade without filters.

    A cascade that equals the mapping's up to names is placed as that one, in its words. Query heads
    that share keys are packed (`packing`).

    Raises:
        ArchError: every Einsum that the mapping does not place, every name it uses that does not
            exist, every operator that an array lacks; or a tile that does not fit.
        CascadeError: the workload lacks the size of a rank.
    """
    cascade, workload = packed(recognised(cascade, mapping), workload)
    if not _fits(cascade, mapping, architecture.name, architecture.arrays):
        raise ArchError(_check(cascade, architecture.name, architecture.arrays, mapping))
    batch = prod(workload.size(rank, 1) for rank in BATCH_RANKS if rank not in cascade.ranks)
    if mapping.layouts:
        placed = Placed(cascade, workload, architecture, mapping, _NO_TILING, batch, ())
        stages = placed_alone(placed, double_buffer=double_buffer)
        widest = max(stages, key=lambda stage: stage.tiling.held_bytes)
        parts = tuple(stage.phases[0] for stage in stages)
        return replace(placed, tiling=widest.tiling, phases=parts, stages=stages)
    tiling = tile(cascade, workload, architecture, mapping, double_buffer=double_buffer)
    filters = blocks or filters_of(cascade, architecture, mapping, tiling)
    where = dict(mapping.placements)
    work: dict[str, list[Work]] = {}
    shapes: dict[Any, tuple[int, int]] = {}
    for einsum in cascade.einsums:
        if not einsum.is_initial:
            at = where[einsum.name]
            one = _work(cascade, einsum, at, architecture, tiling, filters, shapes)
            work.setdefault(einsum.name, []).append(one)
    groups = mapping.phases or (tuple(work),)
    phases = tuple(
        _phase(cascade, mapping, tiling, groups, i, work, filters) for i in range(len(groups))
    )
    return Placed(cascade, workload, architecture, mapping, tiling, batch, phases, filters)


_NO_TILING = Tiling((), (), (), 0, None, "")


def placed_alone(placed: Placed, *, double_buffer: bool = True) -> tuple[Placed, ...]:
    """Place each phase as a cascade of its own; see `phases.phase_of`."""
    stages = []
    for number in range(len(placed.mapping.phases)):
        part, layout = phase_of(placed.cascade, placed.mapping, number)
        stage = place(
            part, placed.workload, placed.architecture, layout, double_buffer=double_buffer
        )
        stages.append(replace(stage, whole=placed))
    return tuple(stages)


@lru_cache(maxsize=256)
def _fits(cascade: Cascade, mapping: Mapping, name: str, arrays: tuple[Array, ...]) -> bool:
    """True if `_check` finds nothing; the answer is the same for many design points."""
    return next(_check(cascade, name, arrays, mapping), None) is None


def _check(
    cascade: Cascade, chip: str, arrays: tuple[Array, ...], mapping: Mapping
) -> Iterator[Problem]:
    """Everything about the names in a mapping that does not fit cascade and architecture."""
    by_name = {array.name: array for array in reversed(arrays)}
    defined = [einsum.name for einsum in cascade.einsums if not einsum.is_initial]
    placed = dict(mapping.placements)
    variables = {v for v, _ in cascade.variables} | {part.lower() for part in mapping.parts}
    yield from _refusals(cascade)
    missing = [name for name in dict.fromkeys(defined) if name not in placed]
    if missing:
        yield mapping.problem(
            ("placement",),
            f"{mapping.name} does not place {', '.join(missing)} of {cascade.name}",
            f"add to placement: {missing[0]}: {{array: {arrays[0].name}, ...}}",
        )
    for name, where in mapping.placements:
        at = ("placement", name)
        if name not in defined:
            hint = legal_words(name, defined, f"Einsums of {cascade.name}")
            yield mapping.problem(at, f"{cascade.name} has no Einsum {name} to place", hint)
            continue
        if where.array is None:
            continue
        array = by_name.get(where.array)
        if array is None:
            known = [array.name for array in arrays]
            hint = legal_words(where.array, known, f"arrays of {chip}")
            yield mapping.problem((*at, "array"), f"unknown array '{where.array}'", hint)
            continue
        if array.count != 1:
            what = f"{chip} has {array.count} of {array.name}; only one can be used"
            yield mapping.problem((*at, "array"), what, "set its count to 1")
        for axis, names in where.axes:
            if axis not in dict(array.axes):
                hint = legal_words(axis, dict(array.axes), f"axes of {array.name}")
                yield mapping.problem((*at, axis), f"{array.name} has no {axis}", hint)
            for variable in names:
                if variable not in variables:
                    hint = legal_words(variable, sorted(variables), "variables")
                    yield mapping.problem((*at, axis), f"unknown variable '{variable}'", hint)
        for einsum in cascade.defining(name):
            for operator in operators(einsum, array):
                if array.cost(operator) is None:
                    known = [row.operator for row in array.operators]
                    hint = legal_words(operator, known, f"operators of {array.name}")
                    what = f"{array.name} of {chip} cannot compute {operator}, "
                    yield mapping.problem(at, what + f"which {einsum} needs", hint)
    listed = [name for phase in mapping.phases for name in phase]
    for name in (*defined, *listed) if mapping.phases else ():
        if listed.count(name) != 1 or name not in defined:
            yield mapping.problem(("phases",), f"every Einsum is in one phase, not so {name}")
    for loop in mapping.loops:
        if loop not in variables:
            hint = legal_words(loop, sorted(variables), "variables")
            yield mapping.problem(("loops",), f"unknown variable '{loop}' in the loops", hint)
    tensors = [tensor.name for tensor in cascade.tensors]
    listed_tensors = [("passing", name) for name in mapping.passing]
    listed_tensors += [("double_buffered", name) for name in mapping.double_buffered]
    for key, entries in (
        ("buffer", mapping.held),
        ("spilled", mapping.spilled),
        ("forwarded", mapping.forwarded),
    ):
        listed_tensors += [(key, tensor) for tensor, _ in entries]
    for key, tensor in listed_tensors:
        if tensor not in tensors:
            hint = legal_words(tensor, tensors, f"tensors of {cascade.name}")
            yield mapping.problem((key, tensor), f"unknown tensor '{tensor}'", hint)
    for tensor, readers in mapping.forwarded:
        for reader in readers:
            if reader not in defined:
                hint = legal_words(reader, defined, f"Einsums of {cascade.name}")
                at = ("forwarded", tensor)
                yield mapping.problem(at, f"no Einsum '{reader}' to forward {tensor} to", hint)


@lru_cache(maxsize=64)
def _refusals(cascade: Cascade) -> tuple[Problem, ...]:
    """What in a cascade has no model of its cost; one cascade is usually placed many times."""
    problems = []
    for einsum in cascade.einsums:
        refused = _refused(cascade, einsum)
        if refused:
            text = einsum.line.text
            what, hint = refused
            message = f"{einsum.name} {what}"
            shown = " " * einsum.line.indent + text
            problems.append(Problem(einsum.source, message, shown, len(text), hint))
    return tuple(problems)


def _refused(cascade: Cascade, einsum: Einsum) -> tuple[str, str] | None:
    """What in an Einsum has no model of its cost, and what to do about it; None if all has."""
    indices = [index for read in einsum.reads for index in read.indices]
    visits = "how many of its points a mapping visits is not modelled"
    reason = refusal(einsum)
    if reason is not None:
        return f"has a filter that can't be placed: {reason}", HINT
    if any(accesses(index) for index in indices):
        return f"gathers: {visits}", "place a cascade without filters and gathers"
    if any(isinstance(node, Select) for node in walk(einsum.map)):
        what = "chooses with where(...), which no array has an operator for"
        return what, "place a cascade without where(...)"
    for whole, parts in cascade.concatenations:
        if {cascade.rank_of(variable) for variable in einsum.variables} & {whole, *parts}:
            what = f"ranges over {whole} = {' + '.join(parts)}: tiles of such a rank have no model"
            return what, "place a cascade without concatenated ranks"
    for index in indices:
        steps = (n for n in walk(index) if isinstance(n, Apply) and n.operator not in AFFINE)
        if any(variables_in(step) for step in steps):
            what = f"reads at {to_text(index)}: which words a tile needs of it is not modelled"
            return what, "place a cascade whose indices only add, subtract and multiply"
    return None


def _work(
    cascade: Cascade,
    einsum: Einsum,
    where: Placement,
    architecture: Architecture,
    tiling: Tiling,
    filters: Filters | BlockFilters | None,
    shapes: dict[Any, tuple[int, int]],
) -> Work:
    """What an Einsum costs; `shapes` are points and steps of Einsums over the same ranks."""
    ranks = [cascade.rank_of(variable) for variable in einsum.variables]
    leaves = tuple(leaf for rank in ranks for leaf in tiling.leaves(rank))
    array = architecture.array(where.array) if where.array else None
    if array is None:
        return Work(einsum.name, None, _points(leaves, tiling), 0, 0, ())
    axes = [
        (dict(array.axes)[axis], [cascade.rank_of(variable) for variable in variables])
        for axis, variables in where.axes
    ]
    if filters is not None:
        points, steps = filters.work(einsum.name, leaves, dict(tiling.extents))
    else:
        key = leaves, tuple((size, *own) for size, own in axes)
        if key not in shapes:
            shapes[key] = _points(leaves, tiling), _steps(leaves, axes, tiling)
        points, steps = shapes[key]
    counts = operators(einsum, array)
    each = slots_of_point(counts, array, where)
    return Work(
        einsum.name,
        array.name,
        points,
        each * steps,
        each * points,
        tuple((operator, number * points) for operator, number in counts.items()),
    )


def _steps(leaves: tuple[str, ...], axes: list[tuple[int, list[str]]], tiling: Tiling) -> int:
    """Points that an array takes one after the other, the others side by side on its axes."""
    spatial = {rank for _, ranks in axes for rank in ranks}
    steps = 0
    for number, extents in _tiles(leaves, tiling, spatial):
        folds = prod(
            ceil_div(prod(extents[rank] for rank in ranks if rank in extents), size)
            for size, ranks in axes
        )
        steps += number * folds * prod(e for leaf, e in extents.items() if leaf not in spatial)
    return steps


def _tiles(
    leaves: tuple[str, ...], tiling: Tiling, spatial: set[str]
) -> list[tuple[int, dict[str, int]]]:
    """Kinds of tiles, each with how many there are and its extents: full ones and ragged ends.

    Only a last part has ragged ends; a rank with another part on an axis is there in full.
    """
    extents = dict(tiling.extents)
    kinds: list[tuple[int, dict[str, int]]] = [(1, {leaf: extents[leaf] for leaf in leaves})]
    for whole, parts in tiling.partitions:
        if set(parts) <= set(leaves) and not spatial & set(parts[:-1]):
            full, rest = divmod(extents[whole], extents[parts[-1]])
            ends = [(full, extents[parts[-1]])] if full else []
            ends += [(1, rest)] if rest else []
            outer = dict.fromkeys(parts[:-1], 1)
            kinds = [
                (number * count, {**kind, **outer, parts[-1]: size})
                for number, kind in kinds
                for count, size in ends
            ]
    return kinds


def _points(leaves: tuple[str, ...], tiling: Tiling) -> int:
    """Points over some ranks: true sizes where a rank is there whole, ragged tiles included."""
    extents = dict(tiling.extents)
    left = set(leaves)
    total = 1
    for whole, parts in tiling.partitions:
        if set(parts) <= left:
            total *= extents[whole]
            left -= set(parts)
    return total * prod(extents[leaf] for leaf in left)


def _phase(
    cascade: Cascade,
    mapping: Mapping,
    tiling: Tiling,
    groups: tuple[tuple[str, ...], ...],
    index: int,
    work: dict[str, list[Work]],
    filters: Filters | BlockFilters | None,
) -> Phase:
    """Collect one phase: its work, and what it reads from and writes to the outer memory."""
    group = groups[index]
    read: dict[str, Fraction] = {}
    write: dict[str, Fraction] = {}
    names = dict(tiling.names)
    refetch = dict(mapping.refetch)
    later = {
        access.tensor
        for other in cascade.einsums
        if other.name not in group
        for access in other.reads
    }
    for einsum in cascade.einsums:
        if einsum.name not in group:
            continue
        for access in einsum.reads:
            tensor = cascade.tensor(access.tensor)
            if tensor.name not in group and tensor.name not in read:
                words = Fraction(_fetched(cascade, mapping, tiling, tensor.name, filters))
                if tensor.name in refetch:
                    at = mapping.place("refetch", tensor.name)
                    words *= compute(refetch[tensor.name], names, at)
                read[tensor.name] = words
        if cascade.tensor(einsum.name).role == "output" or einsum.name in later:
            write[einsum.name] = Fraction(_size(cascade, tiling, einsum.name))
    for name, share in mapping.spilled:
        if name in group:
            part = compute(share, names, mapping.place("spilled", name))
            words = part * _size(cascade, tiling, name)
            read[name] = read.get(name, Fraction(0)) + words
            write[name] = write.get(name, Fraction(0)) + words
    return Phase(
        tuple(one for name in group for one in work[name]),
        tuple(read.items()),
        tuple((name, words) for name, words in write.items() if words),
    )


def _size(cascade: Cascade, tiling: Tiling, name: str) -> int:
    ranks = [rank for rank in cascade.tensor(name).ranks if rank]
    return _points(tuple(leaf for rank in ranks for leaf in tiling.leaves(rank)), tiling)


def _fetched(
    cascade: Cascade,
    mapping: Mapping,
    tiling: Tiling,
    name: str,
    filters: Filters | BlockFilters | None,
) -> int:
    """Words of a tensor that are read, each as often as the buffer does not hold it."""
    extents = dict(tiling.extents)
    own = [leaf for rank in cascade.tensor(name).ranks if rank for leaf in tiling.leaves(rank)]
    mine = tuple(v for v in mapping.loops if cascade.rank_of(v) in own)
    loops = granule_loops(mapping, mine, name)
    if filters is not None:
        return filters.words(loops, tuple(own), extents)
    again = (extents[rank] for rank in map(cascade.rank_of, loops) if rank not in own)
    return _size(cascade, tiling, name) * prod(again)


def known_ranks(cascade: Cascade, mapping: Mapping) -> set[str]:
    """Ranks that a size may be given for: of the cascade, of the mapping's splits, of the batch."""
    return {*cascade.ranks, *mapping.parts, *BATCH_RANKS, KEY_HEADS}
