"""Reducing in a pass analysis: what remains of a piece on the left side of an Einsum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from einsum_cascade.cascade import Einsum, affine
from einsum_cascade.pass_reads import BLOCK, Fiber, part_of
from einsum_cascade.pass_status import (
    CENTRE,
    INFINITE,
    Component,
    Interval,
    Piece,
    after_sweep,
    merge,
    rename,
)


@dataclass(frozen=True, slots=True)
class Where:
    """Where in the plan an Einsum runs.

    `at` are steps of unrolled loops, `direction` is of the loop along the fiber (0: none), over
    `rank`, and `widened` are fixed ranks of the loops around it, each with its direction.
    """

    at: Mapping[str, int] = field(default_factory=dict)
    direction: int = 0
    rank: str = ""
    widened: frozenset[tuple[str, int]] = frozenset()


def reduced(fiber: Fiber, einsum: Einsum, piece: Piece, where: Where) -> Piece:
    """Reduce, and move from variables to the axes of the left side."""
    axes: dict[str, str] = {}
    steps: dict[str, int] = {}
    for axis, index in enumerate(einsum.target.indices):
        form = affine(index)
        if (form.is_plain and form.step is not None) or form.offset:
            axes[form.variables[0]] = str(axis)
            steps[form.variables[0]] = form.step or 0
    level, trace = piece.level, piece.trace
    components = []
    for component in piece.components:
        kept, known = _left(fiber, component, axes, steps)
        level = max(level, known)
        if kept is not None:
            components.append(_scanned(fiber, einsum, kept, where))
    if level > piece.level and not fiber.sweeps:
        trace = (*trace, f"barrier: {einsum} needs all of {fiber.rank}")
    region: dict[tuple[str, str], Interval] = {}
    is_plain = not fiber.cascade.concatenations and not fiber.steps
    for axis, dim in enumerate(() if is_plain else fiber.cascade.tensor(einsum.name).dims):
        part = part_of(fiber.cascade, dim.rank or "", einsum.target.indices[axis])
        if dim.rank is not None and part is not None:
            region[dim.rank, str(axis)] = part
        elif dim.rank is not None and dim.rank in fiber.steps:
            form = affine(einsum.target.indices[axis])
            if dim.rank in where.at or not form.variables:
                here = (where.at[dim.rank] if form.variables else 0) + (form.step or 0)
                region[dim.rank, str(axis)] = (here, here)
    for (rank, variable), (low, high) in piece.region:
        if variable == CENTRE:
            region[rank, CENTRE] = (low, high)
        elif variable in axes:
            there, step = axes[variable], steps[variable]
            whole = fiber.cascade.tensor(einsum.name).dims[int(there)].rank or ""
            if (whole, there) in region and whole != rank and whole not in fiber.steps:
                # Coordinates of a part lie somewhere in the whole.
                rank, step = whole, region[whole, there][0]
            low, high = max(low + step, -INFINITE), min(high + step, INFINITE)
            if (rank, 1) in where.widened:
                high = INFINITE
            if (rank, -1) in where.widened:
                low = -INFINITE
            if where.direction and rank in fiber.along:
                low, high = _in_part(fiber, low, high, where.direction)
            region[rank, there] = (low, high)
    return Piece(level, merge(components), tuple(sorted(region.items())), trace)


def _in_part(fiber: Fiber, low: int, high: int, direction: int) -> Interval:
    """Where a scan over a concatenated rank depends on one of its parts.

    Surely in that part; perhaps, seen from above, in all that follows.
    """
    if fiber.sweeps:
        return (low, INFINITE) if direction > 0 else (-INFINITE, high)
    start = max(low if direction > 0 else high, 0) // BLOCK * BLOCK
    return max(low, start), min(high, start + BLOCK)


def _left(
    fiber: Fiber, component: Component, axes: Mapping[str, str], steps: Mapping[str, int]
) -> tuple[Component | None, int]:
    """What remains of a tie after a reduction, and the level from which its result is known."""
    kept = rename(component, axes)
    missing = [part for part, names in component.home if not names & axes.keys()]
    level = 0
    if missing:
        inner_only = kept is not None and missing[0] != component.home[0][0]
        if fiber.sweeps:
            level = component.level if inner_only else after_sweep(component.level)
        elif kept is None and _is_whole(fiber, component):
            level = after_sweep(component.level)
    if kept is None or component.shift is None:
        return kept, level
    moved = [steps[name] for name in component.home[0][1] if name in axes]
    shift = component.shift - moved[0] if moved else component.shift
    return Component(kept.home, kept.level, kept.direction, shift, kept.form), level


def _is_whole(fiber: Fiber, component: Component) -> bool:
    """True if a reduction over all of a tie's variables surely sees every position."""
    if component.shift is None or component.form:
        return False
    ranks = {fiber.cascade.rank_of(name) for name in component.names}
    if not ranks & fiber.along:
        return False
    if component.direction == 0:
        return component.shift == 0
    return component.shift * component.direction >= 0


def _scanned(fiber: Fiber, einsum: Einsum, component: Component, where: Where) -> Component:
    """In a recurrence along the fiber a single position becomes all up to it, or from it on.

    Another variable over the same rank, such as the query in self-attention, stays where it is.
    """
    if not where.direction or component.direction:
        return component
    dims = fiber.cascade.tensor(einsum.name).dims
    if all(dims[int(axis)].rank != where.rank for axis in component.names):
        return component
    home, level, way = component.home, component.level, where.direction
    return Component(home, level, way, component.shift, component.form)
