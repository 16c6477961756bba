"""How pieces of a pass analysis flow through Einsums: read, map, reduce, and repeat in loops.

`follow` walks the plan of a cascade for one root fiber and keeps, for every tensor, its pieces
(`pass_status`); visits of the fiber and the sweep they fall into collect in `Found`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from einsum_cascade.cascade import Cascade, Einsum, affine, variables_in
from einsum_cascade.errors import CascadeError, Problem
from einsum_cascade.expressions import Access, Apply, Expr, Number, accesses, walk
from einsum_cascade.ordering import Loop, Plan
from einsum_cascade.pass_status import (
    CENTRE,
    EVERYWHERE,
    INFINITE,
    Component,
    Interval,
    Piece,
    after_sweep,
    merge,
    next_visit,
    prune,
    rename,
)

# Fixpoints settle after a few rounds; one that does not is beyond this analysis.
MAX_ROUNDS = 60
MAX_PIECES = 64


@dataclass(frozen=True, slots=True)
class Fiber:
    """One root fiber under analysis. `fixed` are the root's other ranks, `steps` unrolled ones."""

    cascade: Cascade
    root: str
    rank: str
    parts: tuple[str, ...]
    fixed: frozenset[str]
    steps: Mapping[str, int]


@dataclass(slots=True)
class Found:
    """Results of one analysis while it runs."""

    pieces: dict[str, tuple[Piece, ...]]
    level: int = 0
    trace: tuple[str, ...] = ()
    is_tight: bool = True
    widths: dict[int, str] | None = None


def follow(
    fiber: Fiber,
    steps: Plan,
    found: Found,
    at: Mapping[str, int],
    direction: int,
    widened: frozenset[tuple[str, int]],
) -> None:
    """Follow a plan; `at` are steps of unrolled loops, `direction` is of one along the rank."""
    for step in steps:
        if not isinstance(step, Loop):
            _einsum(fiber, step, found, at, direction, widened)
        elif step.rank in fiber.steps:
            coordinates = range(fiber.steps[step.rank])
            for i in reversed(coordinates) if step.is_descending else coordinates:
                follow(fiber, step.body, found, {**at, step.rank: i}, direction, widened)
        else:
            along = step.rank in (*fiber.parts, fiber.rank)
            way = -1 if step.is_descending else 1
            inner = widened if along else widened | {(step.rank, way)}
            for _ in range(MAX_ROUNDS):
                before = dict(found.pieces)
                follow(fiber, step.body, found, at, way if along else direction, inner)
                if before == found.pieces:
                    break
            else:
                raise _beyond(step.einsums[0], "a recurrence whose passes grow with its length")


def _beyond(einsum: Einsum, what: str) -> CascadeError:
    line = einsum.line
    return CascadeError(
        Problem(
            einsum.source,
            f"the pass analysis does not cover {what}",
            " " * line.indent + line.text,
            len(line.text),
        )
    )


@dataclass(frozen=True, slots=True)
class _Operand:
    """One access with one of its pieces, in terms of the Einsum's variables.

    `gathers` marks a read of the root fiber at computed positions.
    """

    access: Access
    level: int
    components: tuple[Component, ...]
    region: Mapping[tuple[str, str], Interval]
    gathers: bool
    # Fixed ranks along which the access reads another step of a recurrence than it writes.
    carried: frozenset[str]
    is_tight: bool
    trace: tuple[str, ...]


def _einsum(
    fiber: Fiber,
    einsum: Einsum,
    found: Found,
    at: Mapping[str, int],
    direction: int,
    widened: frozenset[tuple[str, int]],
) -> None:
    """Derive the pieces of an Einsum's tensor from those of its operands."""
    choices: list[list[_Operand | None]] = []
    for access in einsum.reads:
        pieces = found.pieces.get(access.tensor, ())
        operands = [o for piece in pieces if (o := _read(fiber, access, piece, at)) is not None]
        # Outside the regions of all its pieces the access does not depend on the fiber.
        options: list[_Operand | None] = [*operands]
        if not operands or all(operand.region for operand in operands):
            options.append(None)
        choices.append(options)
    results = list(found.pieces.get(einsum.name, ())) if einsum.name != fiber.root else []
    for combination in itertools.product(*choices):
        chosen = [operand for operand in combination if operand is not None]
        if chosen:
            piece = _combine(fiber, einsum, chosen, found, at, direction, widened)
            if piece is not None and (piece.level or piece.components):
                results.append(piece)
    if einsum.name == fiber.root:
        results += found.pieces[fiber.root]
    if results:
        found.pieces[einsum.name] = prune(results)
        if len(found.pieces[einsum.name]) > MAX_PIECES:
            raise _beyond(einsum, "so many different cases of one tensor")


def _read(fiber: Fiber, access: Access, piece: Piece, at: Mapping[str, int]) -> _Operand | None:
    """Carry a piece through an access; None if the access reads outside of its region."""
    region: dict[tuple[str, str], Interval] = {}
    carried: set[str] = set()
    for (rank, axis), (low, high) in piece.region:
        if axis == CENTRE:
            region[rank, CENTRE] = (low, high)
            continue
        index = access.indices[int(axis)]
        form = affine(index)
        if form.is_plain and form.step is not None:
            variable = form.variables[0]
            moved = (low - form.step, high - form.step)
            if rank in at:
                if not moved[0] <= at[rank] <= moved[1]:
                    return None
                continue
            key = (rank, variable)
            both = _meet(region.get(key, EVERYWHERE), moved)
            if both is None:
                return None
            region[key] = both
            written = [
                affine(einsum.target.indices[int(axis)])
                for einsum in fiber.cascade.defining(access.tensor)
            ]
            if any(left.is_plain and left.step != form.step for left in written):
                carried.add(rank)
        elif rank in fiber.steps and not form.variables:
            # An unrolled coordinate is known: X[2,e], or X[T,e] for the last.
            value = form.step if form.step is not None else fiber.steps[rank]
            if not low <= value <= high:
                return None
        elif form.step is not None:
            # A fixed coordinate of a fixed rank says which fibers the read depends on.
            centre = _meet(
                region.get((rank, CENTRE), EVERYWHERE), (form.step - high, form.step - low)
            )
            if centre is None:
                return None
            region[rank, CENTRE] = centre
    level, gathers, tight = piece.level, False, piece.is_tight
    components = []
    trace = piece.trace
    for component in piece.components:
        home = []
        ended = False
        for part, axes in component.home:
            following: set[str] = set()
            for axis in axes:
                index = access.indices[int(axis)]
                if any(isinstance(node, Access) for node in walk(index)):
                    gathers = True
                    continue
                names = _following(fiber, index, part)
                following |= names
                if not names:
                    ended = True
                    if component.direction and _is_final(index, component.direction):
                        level = max(level, after_sweep(component.level))
            if following:
                home.append((part, frozenset(following)))
        if home and not ended:
            components.append(Component(tuple(home), component.level, component.direction))
    if level > piece.level:
        trace = (*trace, f"barrier: {access} needs all of {fiber.rank}")
    return _Operand(
        access, level, tuple(components), region, gathers, frozenset(carried), tight, trace
    )


def _is_final(index: Expr, direction: int) -> bool:
    """True if a fixed index reads the end of a recurrence: RM[M1,p] upwards, S[0,p] downwards."""
    if isinstance(index, Number):
        return direction < 0 and index.value == 0
    return direction > 0


def _following(fiber: Fiber, index: Expr, part: str) -> set[str]:
    """Variables of an index that move along a part of the analysed rank.

    In a window p+w-W//2 only p does (w stays near); in m1*M0+m0 each follows its own part.
    """
    names = variables_in(index)
    if len(names) <= 1:
        return set(names)
    cascade = fiber.cascade
    ranks = {name: cascade.rank_of(name) for name in names}
    own = {name for name in names if ranks[name] == part}
    along = {name for name in names if cascade.whole_of(ranks[name]) == fiber.rank}
    if own and len(along) > 1:
        return own
    if along:
        return along
    scaled = {
        variable
        for node in walk(index)
        if isinstance(node, Apply) and node.operator == "mul"
        for variable in variables_in(node)
    }
    return scaled or set(names[:1])


def _meet(a: Interval, b: Interval) -> Interval | None:
    low, high = max(a[0], b[0]), min(a[1], b[1])
    return (low, high) if low <= high else None


def _combine(
    fiber: Fiber,
    einsum: Einsum,
    chosen: list[_Operand],
    found: Found,
    at: Mapping[str, int],
    direction: int,
    widened: frozenset[tuple[str, int]],
) -> Piece | None:
    """One case of an Einsum: map the chosen operands, then reduce; None if they never meet."""
    region: dict[tuple[str, str], Interval] = {}
    for operand in chosen:
        for key, interval in operand.region.items():
            both = _meet(region.get(key, EVERYWHERE), interval)
            if both is None:
                return None
            region[key] = both
    strongest = max(chosen, key=lambda operand: (operand.level, len(operand.trace)))
    level, trace = strongest.level, strongest.trace
    tight = all(operand.is_tight for operand in chosen)
    components = [c for operand in chosen for c in operand.components]
    full = [c for c in components if len(c.home) == len(fiber.parts)]
    if full:
        level = next_visit(level)
        ways = {c.direction for c in full if next_visit(c.level) == level and c.direction}
        carried = {
            c.direction
            for operand in chosen
            if operand.access.tensor != einsum.name
            for c in operand.components
            if c.level == level and c.direction
        }
        if len(ways) > 1 or (direction and -direction in carried):
            # What is known up to a position and what is known from it on cover everything.
            level += 2
            trace = (*trace, f"barrier: {einsum} combines both directions of {fiber.rank}")
        own = full[0]
        way = direction or next((w for w in ways if w), 0)
        components.append(Component(own.home, level, way if level == next_visit(level) else 0))
        read = next(o for o in chosen if own in o.components)
        trace = _visit(fiber, einsum, read.access, found, level, trace, tight)
    for operand in chosen:
        if operand.gathers:
            inside = _inside(operand.access)
            known = max((o.level for o in chosen if o.access in inside), default=0)
            late = known // 2 * 2 + 2 if known else 2
            level = max(level, late)
            trace = _visit(fiber, einsum, operand.access, found, late, trace, tight)
            if found.widths is None:
                found.widths = {}
            ranks = [fiber.cascade.rank_of(v) for i in inside for v in variables_in(i)]
            found.widths[late // 2] = ranks[-1] if ranks else fiber.rank
    # Only what passes from step to step of a recurrence lasts beyond the step it came in.
    carried_ranks = {rank for operand in chosen for rank in operand.carried}
    lasting = frozenset(pair for pair in widened if pair[0] in carried_ranks)
    piece = Piece(level, merge(components), tuple(region.items()), tight, trace)
    return _reduce(fiber, einsum, piece, at, direction, lasting)


def _inside(access: Access) -> tuple[Access, ...]:
    """Accesses inside the indices of an access."""
    return tuple(inner for index in access.indices for inner in accesses(index))


def _visit(
    fiber: Fiber,
    einsum: Einsum,
    read: Access,
    found: Found,
    level: int,
    trace: tuple[str, ...],
    tight: bool,
) -> tuple[str, ...]:
    """Note that an Einsum visits the fiber in a sweep; return the extended trace."""
    number = level // 2
    prefix = f"pass {number} reads "
    if not any(line.startswith(prefix) for line in trace):
        source = "" if read.tensor == fiber.root else f" (from {fiber.root})"
        trace = (*trace, f"{prefix}{read}{source} in {einsum}")
    if level > found.level:
        found.level, found.trace, found.is_tight = level, trace, tight
    return trace


def _reduce(
    fiber: Fiber,
    einsum: Einsum,
    piece: Piece,
    at: Mapping[str, int],
    direction: int,
    widened: frozenset[tuple[str, int]],
) -> Piece:
    """Reduce, and move from variables to the axes of the left side."""
    axes: dict[str, str] = {}
    steps: dict[str, int] = {}
    for axis, index in enumerate(einsum.target.indices):
        form = affine(index)
        if form.is_plain and form.step is not None:
            axes[form.variables[0]] = str(axis)
            steps[form.variables[0]] = form.step
    level, tight, trace = piece.level, piece.is_tight, piece.trace
    components = []
    for component in piece.components:
        kept = rename(component, axes)
        missing = [part for part, names in component.home if not names & axes.keys()]
        if missing:
            outer_left = kept is not None and missing[0] != component.home[0][0]
            if not outer_left:
                level = max(level, after_sweep(component.level))
                tight = tight and kept is None
        if kept is not None:
            way = kept.direction
            if direction and _steps_along(fiber, einsum, kept):
                way = direction
            components.append(Component(kept.home, kept.level, way))
    if level > piece.level:
        trace = (*trace, f"barrier: {einsum} needs all of {fiber.rank}")
    region: dict[tuple[str, str], Interval] = {}
    for axis, dim in enumerate(fiber.cascade.tensor(einsum.name).dims):
        if dim.rank is not None and dim.rank in fiber.steps:
            form = affine(einsum.target.indices[axis])
            if dim.rank in at or not form.variables:
                here = (at[dim.rank] if form.variables else 0) + (form.step or 0)
                region[dim.rank, str(axis)] = (here, here)
    for (rank, variable), (low, high) in piece.region:
        if variable == CENTRE:
            region[rank, CENTRE] = (low, high)
        elif variable in axes:
            step = steps[variable]
            low, high = max(low + step, -INFINITE), min(high + step, INFINITE)
            if (rank, 1) in widened:
                high = INFINITE
            if (rank, -1) in widened:
                low = -INFINITE
            region[rank, axes[variable]] = (low, high)
    return Piece(level, merge(components), tuple(sorted(region.items())), tight, trace)


def _steps_along(fiber: Fiber, einsum: Einsum, component: Component) -> bool:
    """True if the left side is a state or inner value of the recurrence along the rank."""
    ranks = (*fiber.parts, fiber.rank)
    dims = fiber.cascade.tensor(einsum.name).dims
    return any(dims[int(axis)].rank in ranks for axis in component.names)
