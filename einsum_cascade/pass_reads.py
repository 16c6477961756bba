"""Reading in a pass analysis: a piece of a tensor, carried through one access.

The analysis runs in two ways over the same rules (`Fiber.sweeps`). From below it asks what is
certain for every schedule: a coverage that may have a gap is no coverage. From above it follows one
schedule, sweeps in given directions, and asks when everything is there at the latest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from einsum_cascade.cascade import Cascade, Einsum, affine, part_at, variables_in
from einsum_cascade.expressions import Access, Apply, Expr, Name, Number, to_text, walk
from einsum_cascade.pass_presence import Gaps, centre, offsets_reach_zero
from einsum_cascade.pass_status import (
    CENTRE,
    EVERYWHERE,
    Component,
    Interval,
    Piece,
    after_sweep,
)

# Coordinates that stand for a part of a concatenated rank, whatever its size.
BLOCK = 1 << 40


@dataclass(frozen=True, slots=True)
class Fiber:
    """One root fiber under analysis. `steps`: how often others' recurrences are unrolled."""

    cascade: Cascade
    root: str
    rank: str
    parts: tuple[str, ...]
    # All ranks whose coordinates are positions of the fiber.
    along: frozenset[str]
    steps: Mapping[str, int]
    # Gaps of each Einsum, by its identity: expressions are slow to hash.
    gaps: Mapping[int, Gaps]
    # True if every read of the root leaves out the one coordinate that `m < p` does.
    is_strict: bool
    # Directions of the sweeps of a schedule; none: what every schedule needs.
    sweeps: tuple[int, ...] = ()

    def way(self, sweep: int) -> int:
        """Direction of a sweep of the schedule; after the given ones the last repeats."""
        return self.sweeps[min(sweep, len(self.sweeps)) - 1]


@dataclass(frozen=True, slots=True)
class Operand:
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
    trace: tuple[str, ...]


def meet(a: Interval, b: Interval) -> Interval | None:
    """What two intervals have in common."""
    low, high = max(a[0], b[0]), min(a[1], b[1])
    return (low, high) if low <= high else None


def part_of(cascade: Cascade, rank: str, index: Expr) -> Interval | None:
    """Where in a concatenated rank an index of one of its parts lies; None for any other index."""
    if not cascade.concatenations:
        return None
    if not cascade.concatenations:
        return None
    parts = cascade.concatenated(rank)
    part = part_at(affine(index), parts, dict(cascade.variables)) if parts else None
    if part is None:
        return None
    start = parts.index(part) * BLOCK
    return start, start + BLOCK - 1


def read(
    fiber: Fiber, einsum: Einsum, access: Access, piece: Piece, at: Mapping[str, int]
) -> Operand | None:
    """Carry a piece through an access; None if the access reads outside of its region."""
    found = _region(fiber, einsum, access, piece, at)
    if found is None:
        return None
    region, carried = found
    gathers = bool(piece.components) and any(
        isinstance(node, Access) for index in access.indices for node in walk(index)
    )
    level = piece.level
    components = []
    for component in () if gathers else piece.components:
        kept, known = _component(fiber, access, component)
        level = max(level, known)
        if kept is not None:
            components.append(kept)
    trace = piece.trace
    if level > piece.level:
        trace = (*trace, f"barrier: {access} needs all of {fiber.rank}")
    return Operand(access, level, tuple(components), region, gathers, carried, trace)


def _region(
    fiber: Fiber, einsum: Einsum, access: Access, piece: Piece, at: Mapping[str, int]
) -> tuple[dict[tuple[str, str], Interval], frozenset[str]] | None:
    """Where in terms of the Einsum's variables the access meets the region of a piece."""
    region: dict[tuple[str, str], Interval] = {}
    carried: set[str] = set()
    for (rank, axis), (low, high) in piece.region:
        if axis == CENTRE:
            region[rank, CENTRE] = (low, high)
            continue
        form = affine(access.indices[int(axis)])
        part = part_of(fiber.cascade, rank, access.indices[int(axis)])
        if part is not None:
            # Of a concatenated rank one part is read: it has the piece, some of it, or none.
            both = meet(part, (low, high))
            if both is None:
                return None
            if both != part:
                name = form.variables[0]
                key = (fiber.cascade.rank_of(name), name)
                region[key] = (both[0] - part[0], both[1] - part[0])
        elif form.is_plain and form.step is not None:
            variable = form.variables[0]
            moved = (low - form.step, high - form.step)
            if rank in at:
                if not moved[0] <= at[rank] <= moved[1]:
                    return None
                continue
            both = meet(region.get((rank, variable), EVERYWHERE), moved)
            if both is None:
                return None
            region[rank, variable] = both
            written = [
                affine(other.target.indices[int(axis)])
                for other in fiber.cascade.defining(access.tensor)
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
            centre = meet(
                region.get((rank, CENTRE), EVERYWHERE), (form.step - high, form.step - low)
            )
            if centre is None:
                return None
            region[rank, CENTRE] = centre
    return region, frozenset(carried)


def _component(fiber: Fiber, access: Access, component: Component) -> tuple[Component | None, int]:
    """Carry a tie through an access; also the level that a fixed coordinate waits for."""
    home = []
    level = 0
    shift, form = component.shift, component.form
    ended = False
    for part, axes in component.home:
        following: set[str] = set()
        for axis in sorted(axes):
            index = access.indices[int(axis)]
            names = _following(fiber, index, part)
            following |= names
            if names:
                moved = _moved(fiber, index, component.home[0][0] == part)
                shift = None if moved is None or shift is None else shift + moved
                if moved is None and _leaves(fiber, index):
                    form += to_text(index)
            else:
                ended = True
                level = max(level, _ending(fiber, index, component))
        if following:
            home.append((part, frozenset(following)))
    if not home or (ended and not fiber.sweeps):
        return None, level
    if fiber.sweeps:
        # A schedule has some lookback: offsets cost nothing.
        shift = None
    return Component(tuple(home), component.level, component.direction, shift, form), level


def _ending(fiber: Fiber, index: Expr, component: Component) -> int:
    """Level from which a value at a fixed coordinate is known, as far as that is certain."""
    late = after_sweep(component.level)
    if not fiber.sweeps:
        return late if component.direction and _covers_all(fiber, index, component) else 0
    if component.direction == 0 and isinstance(index, Number) and index.value == 0:
        # The first position is kept from the start of an upward sweep.
        return component.level if fiber.way(component.level // 2) > 0 else late
    if component.direction and isinstance(index, Number | Name):
        start = isinstance(index, Number) and index.value == 0
        if start == (component.direction > 0):
            return component.level
    return late


def _covers_all(fiber: Fiber, index: Expr, component: Component) -> bool:
    """True if a fixed index reads the end of a recurrence: RM[M1,p] upwards, S[0,p] downwards."""
    if component.shift is None:
        return False
    if component.direction < 0:
        return isinstance(index, Number) and index.value + component.shift <= 0
    return isinstance(index, Name) and component.shift >= -1


def _moved(fiber: Fiber, index: Expr, is_outermost: bool) -> int | None:
    """By how much an index is off its variable, None if that varies."""
    form = affine(index)
    if form.is_plain and form.step is not None:
        return form.step if is_outermost or form.step == 0 else None
    if form.offset:
        return 0
    base = next((b for r in fiber.along if (b := centre(fiber.cascade, index, r))), None)
    return 0 if base is not None and offsets_reach_zero(fiber.cascade, index, base) else None


def _leaves(fiber: Fiber, index: Expr) -> bool:
    """True if an index does not stay near one variable: M-1-m, 2*m and m//2, but not windows."""
    split = sum(fiber.cascade.rank_of(v) in fiber.parts for v in variables_in(index)) > 1
    near = any(centre(fiber.cascade, index, rank) for rank in fiber.along)
    plain = affine(index).is_plain or affine(index).offset
    return not (split or near or plain)


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
