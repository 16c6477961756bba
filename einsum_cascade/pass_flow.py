"""How pieces of a pass analysis flow through Einsums: map, reduce, and repeat in loops.

`follow` walks the plan of a cascade for one root fiber and keeps, for every tensor, its pieces
(`pass_status`); visits of the fiber and the sweep they fall into collect in `Found`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from einsum_cascade.cascade import Einsum, variables_in
from einsum_cascade.expressions import Access, accesses
from einsum_cascade.ordering import Loop, Plan
from einsum_cascade.pass_presence import DOUBT, SOME, STRICT
from einsum_cascade.pass_reads import Fiber, Operand, meet, read
from einsum_cascade.pass_reduce import Where, reduced
from einsum_cascade.pass_status import (
    EVERYWHERE,
    Component,
    Interval,
    Piece,
    after_sweep,
    next_visit,
    prune,
    without_shift,
)

# Fixpoints settle after a few rounds.
MAX_ROUNDS = 12
MAX_PIECES = 32


class UnsettledError(Exception):
    """A loop whose passes grow with its length, or too many cases: what the rules don't decide."""

    def __init__(self, einsum: Einsum, what: str, rank: str = "") -> None:
        """Say at which Einsum, what is undecided, and the rank of the loop if it is one."""
        super().__init__(what)
        self.einsum = einsum
        self.rank = rank


@dataclass(frozen=True, slots=True)
class Visit:
    """An Einsum that touches the fiber in a sweep, and the reads that do.

    `at` are the steps of unrolled loops in which it does.
    """

    sweep: int
    at: tuple[tuple[str, int], ...]
    einsum: Einsum
    reads: tuple[Access, ...]


@dataclass(slots=True)
class Found:
    """Results of one analysis while it runs."""

    pieces: dict[str, tuple[Piece, ...]]
    level: int = 0
    trace: tuple[str, ...] = ()
    widths: dict[int, str] = field(default_factory=dict)
    # By what tells them apart: comparing whole Einsums takes long.
    visits: dict[tuple[object, ...], Visit] = field(default_factory=dict)
    # Pieces that an Einsum has combined already, kept alive since they go by identity.
    combined: dict[tuple[object, ...], tuple[Piece, ...]] = field(default_factory=dict)


def follow(fiber: Fiber, steps: Plan, found: Found, where: Where) -> None:
    """Follow a plan for one fiber, and note visits and pieces in `found`."""
    for step in steps:
        if not isinstance(step, Loop):
            _einsum(fiber, step, found, where)
        elif step.rank in fiber.steps:
            coordinates = range(fiber.steps[step.rank])
            for i in reversed(coordinates) if step.is_descending else coordinates:
                follow(fiber, step.body, found, replace(where, at={**where.at, step.rank: i}))
        else:
            way = -1 if step.is_descending else 1
            inner = replace(where, direction=way, rank=step.rank)
            if step.rank not in fiber.along:
                inner = replace(where, widened=where.widened | {(step.rank, way)})
            for _ in range(MAX_ROUNDS):
                before = dict(found.pieces)
                follow(fiber, step.body, found, inner)
                if before == found.pieces:
                    break
            else:
                raise UnsettledError(
                    step.einsums[0], "a recurrence whose passes grow with its length", step.rank
                )


def _einsum(fiber: Fiber, einsum: Einsum, found: Found, where: Where) -> None:
    """Derive the pieces of an Einsum's tensor from those of its operands."""
    if einsum.name == fiber.root and not where.widened and not where.at:
        # The fiber is given; only elements beside it may depend on it.
        return
    if not any(access.tensor in found.pieces for access in einsum.reads):
        return
    choices: list[list[tuple[Operand | None, Piece | None]]] = []
    # The same read twice is the same value twice.
    for access in dict.fromkeys(einsum.reads):
        pieces = found.pieces.get(access.tensor, ())
        options: list[tuple[Operand | None, Piece | None]] = [
            (operand, piece)
            for piece in pieces
            if (operand := read(fiber, einsum, access, piece, where.at)) is not None
        ]
        # Outside the regions of all its pieces the access does not depend on the fiber.
        if all(operand is None or operand.region for operand, _ in options):
            options.append((None, None))
        choices.append(options)
    results = list(found.pieces.get(einsum.name, ()))
    place = (id(einsum), tuple(where.at.items()), where.direction, where.widened)
    for combination in itertools.product(*choices):
        # Rounds repeat until nothing changes: what has been combined stands in the pieces.
        pieces = tuple(piece for _, piece in combination if piece is not None)
        key = (place, tuple(id(piece) for _, piece in combination))
        chosen = [operand for operand, _ in combination if operand is not None]
        if chosen and key not in found.combined:
            found.combined[key] = pieces
            piece = _combine(fiber, einsum, chosen, found, where)
            if piece is not None and (piece.level or piece.components):
                results.append(piece)
    if results:
        pruned = prune(results)
        if pruned != found.pieces.get(einsum.name):
            found.pieces[einsum.name] = pruned
        if len(found.pieces[einsum.name]) > MAX_PIECES:
            raise UnsettledError(einsum, "so many different cases of one tensor")


def _combine(
    fiber: Fiber, einsum: Einsum, chosen: list[Operand], found: Found, where: Where
) -> Piece | None:
    """One case of an Einsum: map the chosen operands, then reduce; None if they never meet."""
    region: dict[tuple[str, str], Interval] = {}
    for operand in chosen:
        for key, interval in operand.region.items():
            both = meet(region.get(key, EVERYWHERE), interval)
            if both is None:
                return None
            region[key] = both
    strongest = max(chosen, key=lambda operand: (operand.level, len(operand.trace)))
    level, trace = strongest.level, strongest.trace
    tied = {id(o): _present(fiber, einsum, o.components) for o in chosen}
    components = [c for operand in chosen for c in tied[id(operand)]]
    full = [c for c in components if len(c.home) == len(fiber.parts)]
    loop = where.direction
    if fiber.sweeps:
        level = _late(fiber, components, full, level, loop)
    if full:
        level = next_visit(level)
    if fiber.sweeps and loop and components:
        level = _turned(fiber, einsum, level, loop, is_full=bool(full))
    elif not fiber.sweeps and full and _covers_jointly(components, level, loop):
        # What is known up to a position and what is known from it on cover everything.
        level += 2
        trace = (*trace, f"barrier: {einsum} combines both directions of {fiber.rank}")
    if full:
        reads = [o for o in chosen if any(c in full for c in tied[id(o)])]
        # What is visited now is the position itself; a prefix stays covered as it was.
        seen = [Component(c.home, level, 0, c.shift, c.form) for c in full]
        components = [c for c in components if c not in full or c.direction] + seen
        trace = _visit(fiber, einsum, reads, found, where, level, trace)
    if loop:
        # From its first step on, a loop has what the other direction covers there.
        components = [c for c in components if c.direction != -loop]
    if loop and not fiber.sweeps:
        # A loop that starts elsewhere than at its first position may miss it.
        components = [without_shift(c) if c.shift and not c.direction else c for c in components]
    for operand in chosen:
        if operand.gathers:
            level, trace = _gather(fiber, einsum, operand, chosen, found, where, level, trace)
    # Only what passes from step to step of a recurrence lasts beyond the step it came in.
    carried_ranks = {rank for operand in chosen for rank in operand.carried}
    lasting = frozenset(pair for pair in where.widened if pair[0] in carried_ranks)
    piece = Piece(level, tuple(dict.fromkeys(components)), tuple(region.items()), trace)
    inner = where if lasting == where.widened else replace(where, widened=lasting)
    return reduced(fiber, einsum, piece, inner)


def _present(
    fiber: Fiber, einsum: Einsum, components: Iterable[Component]
) -> tuple[Component, ...]:
    """Ties that hold in spite of points which the Einsum leaves out; all of them, from above."""
    if fiber.sweeps:
        return tuple(components)
    gaps = fiber.gaps[id(einsum)]
    if DOUBT in gaps.values():
        return ()
    found = []
    for component in components:
        missing = max((gaps.get(name, 0) for name in component.names), default=0)
        whole = missing == 0 or (missing == STRICT and fiber.is_strict)
        if missing < SOME:
            found.append(component if whole else without_shift(component))
    return tuple(found)


def _late(
    fiber: Fiber, components: list[Component], full: list[Component], level: int, loop: int
) -> int:
    """Level at which all ties of a map can be met in one schedule.

    What is tied to another variable, or runs at another pace, is there only after its sweep.
    """
    if not full:
        return level
    own = full[0]
    names = dict(own.home)
    for one in components:
        fits = all(names.get(part) == there for part, there in one.home)
        if not fits or one.form != own.form or (loop and own.form):
            level = max(level, after_sweep(one.level))
    return level


def _turned(fiber: Fiber, einsum: Einsum, level: int, loop: int, *, is_full: bool) -> int:
    """Level at which a loop can run: in a sweep of its direction, or on values that are kept."""
    while level % 2 == 0 and fiber.way(level // 2) != loop:
        if not is_full:
            return after_sweep(level)
        if level // 2 > len(fiber.sweeps):
            raise UnsettledError(einsum, "a schedule in these directions")
        level += 2
    return level


def _covers_jointly(components: list[Component], level: int, loop: int) -> bool:
    """True if a prefix and a suffix of the same sweep leave no position out."""
    here = [c for c in components if next_visit(c.level) == level and c.shift is not None]
    for up in here:
        for down in here:
            if up.direction != 1 or down.direction != -1 or up.home[0] != down.home[0]:
                continue
            assert up.shift is not None
            assert down.shift is not None
            singles = {c.shift for c in here if c.direction == 0 and c.home == up.home}
            gap = range(up.shift + 1, down.shift)
            if all(position in singles for position in gap):
                return True
    # A loop has seen nothing at its first step: the other direction must show it everything.
    opposed = [c for c in here if c.direction == -loop]
    singles = {c.shift for c in here if c.direction == 0}
    for one in opposed if loop else ():
        assert one.shift is not None
        if one.shift * loop <= 0 or (one.shift == loop and 0 in singles):
            return True
    return False


def _gather(
    fiber: Fiber,
    einsum: Einsum,
    operand: Operand,
    chosen: list[Operand],
    found: Found,
    where: Where,
    level: int,
    trace: tuple[str, ...],
) -> tuple[int, tuple[str, ...]]:
    """A read of the fiber at positions that another value decides."""
    inside = tuple(inner for index in operand.access.indices for inner in accesses(index))
    known = max((o.level for o in chosen if o.access in inside), default=0)
    if fiber.sweeps:
        late = max(known // 2 * 2 + 2, operand.level // 2 * 2)
    else:
        late = max(2, next_visit(known))
    trace = _visit(fiber, einsum, [operand], found, where, late, trace)
    ranks = [fiber.cascade.rank_of(v) for i in inside for v in variables_in(i)]
    found.widths[late // 2] = ranks[-1] if ranks else fiber.rank
    if fiber.sweeps:
        # Everything that meets it waits for the end of that sweep.
        late = after_sweep(late)
        if any(len(c.home) == len(fiber.parts) for o in chosen for c in o.components):
            late = next_visit(late)
            others = [o for o in chosen if o.components]
            trace = _visit(fiber, einsum, others, found, where, max(level, late), trace)
    return max(level, late), trace


def _visit(
    fiber: Fiber,
    einsum: Einsum,
    reads: list[Operand],
    found: Found,
    where: Where,
    level: int,
    trace: tuple[str, ...],
) -> tuple[str, ...]:
    """Note that an Einsum visits the fiber in a sweep; return the extended trace."""
    number = level // 2
    prefix = f"pass {number} reads "
    first = reads[0].access
    # A schedule needs no reasons.
    if not fiber.sweeps and not any(line.startswith(prefix) for line in trace):
        source = "" if first.tensor == fiber.root else f" (from {fiber.root})"
        trace = (*trace, f"{prefix}{first}{source} in {einsum}")
    at, own = tuple(where.at.items()), tuple(operand.access for operand in reads)
    key = (number, at, id(einsum), tuple(map(id, own)))
    if key not in found.visits:
        found.visits[key] = Visit(number, at, einsum, own)
    if level > found.level:
        found.level, found.trace = level, trace
    return trace
