"""How a cascade is cut into stages, and a stage into what runs before, in and after its sweep.

A stage has one *lane* rank: carried by every Einsum in it, reduced by none, so that tiles of it are
independent. What its lanes are computed from without them (the keys' side of linear attention) is a
stage of its own before it, and what reduces the lanes is one after it. A recurrence makes its rank
the *sweep* of the stage: all Einsums along it are fused into one loop, in which tensors live as the
slab of the present step, and states as this step and the next. A stage without a recurrence has no
sweep: its tensors live whole, for the lanes of one tile.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from einsum_cascade.cascade import Affine, Cascade, Einsum, affine
from einsum_cascade.compiled_empty import GAP, INDEX, empty_causes
from einsum_cascade.compiled_presence import NotTiledError, Presence, presence
from einsum_cascade.expressions import Access
from einsum_cascade.operators import REDUCTIONS
from einsum_cascade.ordering import Loop, flatten, plan

# How a tensor lives along the sweep.
SLAB, ROLLING, WHOLE = "slab", "rolling", "whole"


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of a cascade that is computed at once; `lane` is None if it is not tiled."""

    cascade: Cascade
    lane: str | None
    # Why it is not tiled.
    reason: str = ""
    presence: Presence | None = None
    sweep: str | None = None
    is_descending: bool = False
    before: tuple[Einsum, ...] = ()
    body: tuple[Einsum, ...] = ()
    after: tuple[Einsum, ...] = ()
    # How tensors along the sweep are held.
    storage: tuple[tuple[str, str], ...] = ()
    # Whether no input is behind it, and which of its inputs come from such a stage.
    is_sized: bool = False
    given: frozenset[str] = frozenset()


def stages(cascade: Cascade) -> tuple[Stage, ...]:
    """Cut a cascade into stages, in the order in which they run."""
    try:
        found = presence(cascade)
        if cascade.concatenations:
            raise NotTiledError("it has concatenated ranks")
        parts = _stages(cascade, found)
        if len(parts) > 1 and not any(part.sweep for part in parts):
            # What lies on the border of stages is all of it in memory anyway, and rows of it need
            # not be copied to tables.
            raise NotTiledError("no stage of several has a recurrence")
        return parts
    except NotTiledError as error:
        return (Stage(cascade, None, str(error)),)


def _stages(cascade: Cascade, found: Presence) -> tuple[Stage, ...]:
    errors = []
    for lane in _candidates(cascade):
        carrying = [e for e in cascade.einsums if lane in _ranks(cascade, e)]
        names = {e.name for e in carrying}
        later: set[str] = set()
        for einsum in flatten(plan(cascade.einsums, dict(cascade.variables))):
            if einsum.name not in names and any(
                read.tensor in names | later for read in einsum.reads
            ):
                later.add(einsum.name)
        try:
            if any(read.tensor in later for e in carrying for read in e.reads):
                raise NotTiledError(f"what sums over {lane} is read along {lane}")
            everything = {e.name for e in cascade.einsums}
            parts = (everything - names - later, names, later)
            subs = [_part(cascade, part, found) for part in parts if part]
            middle = subs[1 if parts[0] else 0]
            tiled = _stage(middle, lane)
        except NotTiledError as error:
            errors.append(str(error))
            continue
        rest = [_stages(sub, presence(sub)) if sub is not middle else (tiled,) for sub in subs]
        return tuple(stage for part in rest for stage in part)
    return (Stage(cascade, None, "; ".join(dict.fromkeys(errors)) or "no rank is free"),)


def _ranks(cascade: Cascade, einsum: Einsum) -> list[str]:
    """Ranks of the kept variables."""
    return [cascade.rank_of(v) for v in einsum.left]


def _candidates(cascade: Cascade) -> list[str]:
    """Ranks that may be lanes, the best first: those of outputs, on most and largest Einsums."""
    shared: dict[str, int] = {}
    for tensor in (cascade.tensor(name) for name in cascade.outputs):
        for axis, dim in enumerate(tensor.dims):
            if dim.rank and not dim.extra and cascade.whole_of(dim.rank) == dim.rank:
                shared[dim.rank] = max(axis, shared.get(dim.rank, 0))

    def weight(rank: str) -> tuple[int, int]:
        carrying = [e for e in cascade.einsums if rank in _ranks(cascade, e)]
        return sum(len(e.variables) for e in carrying), shared[rank]

    return sorted(shared, key=weight, reverse=True)


def part_of(cascade: Cascade, names: Collection[str]) -> Cascade:
    """Some tensors as a cascade; what the others make and read are its inputs and outputs."""
    einsums = tuple(e for e in cascade.einsums if e.name in names)
    inside = {read.tensor for e in einsums for read in e.reads}
    outside = {r.tensor for e in cascade.einsums if e.name not in names for r in e.reads}
    tensors = []
    for tensor in cascade.tensors:
        if tensor.name in names:
            is_read = tensor.name in outside or tensor.role == "output"
            tensors.append(replace(tensor, role="output" if is_read else "intermediate"))
        elif tensor.name in inside:
            tensors.append(replace(tensor, role="input"))
    return replace(
        cascade, einsums=einsums, tensors=tuple(tensors), declared_inputs=(), declared_outputs=()
    )


def _part(cascade: Cascade, names: set[str], found: Presence) -> Cascade:
    """A part that may be a stage: what goes in and out of it is there whole."""
    part, causes = part_of(cascade, names), empty_causes(cascade)
    outside = {r.tensor for e in cascade.einsums if e.name not in names for r in e.reads}
    passed = (set(part.inputs) - set(cascade.inputs)) | (outside & names)
    for name in sorted(passed):
        # The limits of a stage know nothing of what was selected or fetched in another.
        if (
            found.elements.get(name)
            or causes[name] & {INDEX, GAP}
            or any(
                d.extra or d.rank is None or cascade.whole_of(d.rank) != d.rank
                for d in cascade.tensor(name).dims
            )
        ):
            raise NotTiledError(f"{name} can't pass from stage to stage")
    return part


def _stage(cascade: Cascade, lane: str) -> Stage:
    """Plan one stage; NotTiledError if something in it has a form that tiles don't know."""
    steps = plan(cascade.einsums, dict(cascade.variables))
    loops = [step for step in steps if isinstance(step, Loop)]
    if any(isinstance(step, Loop) for loop in loops for step in loop.body):
        raise NotTiledError("recurrences inside each other")
    if len({(loop.rank, loop.is_descending) for loop in loops}) > 1:
        raise NotTiledError("recurrences along several ranks")
    sweep = loops[0].rank if loops else None
    if sweep == lane:
        raise NotTiledError(f"{lane} is a recurrence")
    order = flatten(steps)
    body = [e for e in order if sweep in _ranks(cascade, e)]
    made = {e.name for e in body}
    before: list[Einsum] = []
    after: list[Einsum] = []
    late: set[str] = set()
    for einsum in order:
        reads = {read.tensor for read in einsum.reads}
        if einsum in body:
            if reads & late:
                raise NotTiledError(f"{einsum.name} needs what another sweep of {sweep} makes")
        elif reads & (made | late):
            after.append(einsum)
            late.add(einsum.name)
        else:
            before.append(einsum)
    stage = Stage(
        cascade,
        lane,
        presence=presence(cascade),
        sweep=sweep,
        is_descending=bool(loops) and loops[0].is_descending,
        before=tuple(before),
        body=tuple(body),
        after=tuple(after),
    )
    for einsum in body:
        if any(cascade.rank_of(v) == sweep for v in einsum.over):
            raise NotTiledError(f"{einsum.name} sums along the recurrence inside of it")
    for einsum in order:
        _check(stage, einsum)
    for einsum in body:
        _check_ends(stage, einsum, made)
    storage = {name: _storage(stage, name) for name in sorted(made)}
    # Inputs are there step by step, unless what is outside of the sweep reads them, too.
    for read in (read for einsum in (*before, *after) for read in einsum.reads):
        ranks = cascade.tensor(read.tensor).ranks
        if read.tensor in cascade.inputs and {sweep, lane} <= set(ranks):
            storage[read.tensor] = WHOLE
    return replace(stage, storage=tuple(storage.items()))


def _check(stage: Stage, einsum: Einsum) -> None:
    """Refuse forms that tiles don't know."""
    cascade, lane = stage.cascade, stage.lane
    if einsum.op is not None and REDUCTIONS[einsum.op].selects:
        raise NotTiledError(f"{einsum.op} along another rank")
    lanes = {v for v in einsum.variables if cascade.rank_of(v) == lane}
    if len(lanes) != 1 or lanes & set(einsum.over) or not lanes <= set(einsum.left):
        raise NotTiledError(f"{einsum.name} does not keep one variable over {lane}")
    in_body = einsum in stage.body
    for access in (einsum.target, *einsum.reads):
        dims = cascade.tensor(access.tensor).dims
        ranks = [dim.rank for dim in dims]
        if ranks.count(lane) > 1 or (stage.sweep and ranks.count(stage.sweep) > 1):
            raise NotTiledError(f"{access} has a rank twice")
        for index, dim in zip(access.indices, dims, strict=True):
            form = affine(index)
            if (
                form.is_plain
                and form.step == 0
                and cascade.rank_of(form.variables[0]) == dim.rank
                and not dim.extra
            ):
                continue
            if dim.rank is None or dim.rank != stage.sweep or not dim.extra:
                raise NotTiledError(f"{access} is not indexed by plain variables")
            if form.is_plain and in_body and form.step in (0, 1):
                continue
            if form.variables and not (form.is_plain and form.step in (0, 1)):
                raise NotTiledError(f"{access} is not indexed by plain variables")
    if len(cascade.defining(einsum.name)) > 1 and not cascade.tensor(einsum.name).is_state:
        raise NotTiledError(f"{einsum.name} has several definitions")
    if cascade.tensor(einsum.name).is_state:
        _check_state(stage, einsum.name)


def _check_ends(stage: Stage, einsum: Einsum, made: set[str]) -> None:
    """Inside a sweep, a fixed coordinate along it is known if it is the one to begin with."""
    for read in einsum.reads:
        if read.tensor not in made:
            continue
        dims = stage.cascade.tensor(read.tensor).dims
        for index, dim in zip(read.indices, dims, strict=True):
            form = affine(index)
            if dim.rank != stage.sweep or form.variables:
                continue
            starts = str(index) == stage.sweep if stage.is_descending else form.step == 0
            if not starts:
                raise NotTiledError(f"{einsum.name} needs {read} before the sweep gets there")


def _check_state(stage: Stage, name: str) -> None:
    """A state is complete if it is set at one end and steps on from there."""
    cascade = stage.cascade
    tensor = cascade.tensor(name)
    axis = next(i for i, dim in enumerate(tensor.dims) if dim.extra)
    found = cascade.defining(name)
    forms = [affine(e.target.indices[axis]) for e in found]
    starts = [f for f in forms if not f.variables]
    steps = [f for f in forms if f.variables]
    end_step = 0 if stage.is_descending else 1
    if (
        len(starts) != 1
        or len(steps) != 1
        or steps[0].step != end_step
        or (starts[0].step != 0) != stage.is_descending
        or tensor.dims[axis].extra != 1
    ):
        raise NotTiledError(f"{name} is not set at one end and stepped on")


def _storage(stage: Stage, name: str) -> str:
    """How a tensor along the sweep is held: as little of it as its readers allow."""
    cascade = stage.cascade
    tensor = cascade.tensor(name)
    axis = next(i for i, dim in enumerate(tensor.dims) if dim.rank == stage.sweep)
    if tensor.role == "output":
        return WHOLE
    for einsum in (*stage.before, *stage.after):
        for read in einsum.reads:
            if read.tensor == name and not (
                tensor.is_state and _is_last(stage, affine(read.indices[axis]), read, axis)
            ):
                return WHOLE
    for einsum in stage.body:
        for read in einsum.reads:
            if read.tensor == name and not affine(read.indices[axis]).variables:
                return WHOLE
    return ROLLING if tensor.is_state else SLAB


def _is_last(stage: Stage, form: Affine, read: Access, axis: int) -> bool:
    """True if an index is where the sweep ends."""
    if form.variables:
        return False
    if stage.is_descending:
        return form.step == 0
    return str(read.indices[axis]) == stage.sweep
