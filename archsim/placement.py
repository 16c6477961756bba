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

from dataclasses import dataclass, field, replace
from functools import partial
from math import prod

from archsim.arch import Architecture
from archsim.block_filters import BlockFilters
from archsim.compatibility import misfits
from archsim.errors import ArchError
from archsim.filters import Filters, filters_of
from archsim.formulas import Exact, compute
from archsim.mapping import Mapping
from archsim.outline import Job, Outline, Part, outlined, size
from archsim.packing import KEY_HEADS, packed
from archsim.phases import phase_of
from archsim.recognition import recognised
from archsim.tiling import Tiling, tile
from einsum_cascade.cascade import Cascade, Workload

# Ranks over which heads are independent; a cascade that names one has it as a rank of its own.
BATCH_RANKS = ("B", "H")
# Numbers of words by tensor; a share of a tensor may be a fraction.
Words = tuple[tuple[str, Exact], ...]


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
    read: Words
    write: Words

    def slots_on(self, array: str) -> int:
        """Issue slots that this phase needs of an array."""
        return sum(work.slots for work in self.work if work.array == array)

    @property
    def words(self) -> Exact:
        """Words read and written."""
        return sum(words for _, words in (*self.read, *self.write))


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
    # What of it does not depend on sizes.
    outline: Outline = field(compare=False, repr=False)
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
    plan = outlined(cascade, mapping, architecture.arrays_of_any_size)
    if plan is None:
        raise ArchError(misfits(cascade, architecture.name, architecture.arrays, mapping))
    batch = prod(workload.size(rank, 1) for rank in BATCH_RANKS if rank not in cascade.ranks)
    if mapping.layouts:
        placed = Placed(cascade, workload, architecture, mapping, _NO_TILING, batch, (), plan)
        stages = placed_alone(placed, double_buffer=double_buffer)
        widest = max(stages, key=lambda stage: stage.tiling.held_bytes)
        parts = tuple(stage.phases[0] for stage in stages)
        return replace(placed, tiling=widest.tiling, phases=parts, stages=stages)
    tiling = tile(cascade, workload, architecture, mapping, double_buffer=double_buffer)
    filters = blocks or filters_of(cascade, architecture, mapping, tiling)
    extents = dict(tiling.extents)
    sizes = {(array.name, axis): n for array in architecture.arrays for axis, n in array.axes}
    points = [size(shape.points, extents) for shape in plan.shapes]
    steps = [] if filters else [shape.steps(extents, sizes) for shape in plan.shapes]
    phases = tuple(
        Phase(
            tuple(_work(job, points, steps, extents, filters) for job in part.jobs),
            *_moved(part, mapping, tiling, extents, filters),
        )
        for part in plan.parts
    )
    return Placed(cascade, workload, architecture, mapping, tiling, batch, phases, plan, filters)


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


def placed_on(placed: Placed, architecture: Architecture) -> Placed:
    """The same on an architecture that differs in the speed of its outer memory and clock only."""
    if placed.architecture is architecture:
        return placed
    whole = placed.whole and replace(placed.whole, architecture=architecture)
    stages = tuple(placed_on(stage, architecture) for stage in placed.stages)
    return replace(placed, architecture=architecture, stages=stages, whole=whole)


def _work(
    job: Job,
    points: list[int],
    steps: list[int],
    extents: dict[str, int],
    filters: Filters | BlockFilters | None,
) -> Work:
    """What an Einsum costs, given points and steps of all shapes."""
    if job.shape is None:
        return Work(job.einsum, None, size(job.points, extents), 0, 0, ())
    if filters is not None:
        number, serial = filters.work(job.einsum, job.leaves, extents)
    else:
        number, serial = points[job.shape], steps[job.shape]
    operations = tuple([(operator, count * number) for operator, count in job.operators])
    return Work(job.einsum, job.array, number, job.slots * serial, job.slots * number, operations)


def _moved(
    part: Part,
    mapping: Mapping,
    tiling: Tiling,
    extents: dict[str, int],
    filters: Filters | BlockFilters | None,
) -> tuple[Words, Words]:
    """Words that a phase reads and writes, each as often as the buffer does not hold it."""
    names = dict(tiling.names)
    read: dict[str, Exact] = {}
    for one in part.reads:
        words: Exact = (
            size(one.words, extents)
            if filters is None
            else filters.words(one.loops, one.leaves, extents)
        )
        if one.refetch is not None:
            words *= compute(one.refetch, names, partial(mapping.place, "refetch", one.tensor))
        read[one.tensor] = words
    write: dict[str, Exact] = {tensor: size(words, extents) for tensor, words in part.writes}
    for tensor, share, whole in part.spilled:
        words = compute(share, names, partial(mapping.place, "spilled", tensor)) * size(
            whole, extents
        )
        read[tensor] = read.get(tensor, 0) + words
        write[tensor] = write.get(tensor, 0) + words
    return tuple(read.items()), tuple((name, words) for name, words in write.items() if words)


def known_ranks(cascade: Cascade, mapping: Mapping) -> set[str]:
    """Ranks that a size may be given for: of the cascade, of the mapping's splits, of the batch."""
    return {*cascade.ranks, *mapping.parts, *BATCH_RANKS, KEY_HEADS}
