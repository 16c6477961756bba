"""Lower bounds on cycles that no order of issue can beat, given cascade, mapping and hardware.

Three facts, each provable on its own: an array issues one slot a cycle, so its slots are a bound;
a recurrence of the cascade takes at least its latency for every step; and the words that the
mapping moves across the outer memory's boundary take their time at full bandwidth. The bound of a
phase is the largest of them; phases follow each other, since what lies between travels through
the outer memory.

A closed form of a paper is not a bound and is never used here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from archsim.arch import Array
from archsim.estimate import Estimate, added, total
from archsim.outline import Outline
from archsim.placement import Phase, Placed
from einsum_cascade.cascade import Cascade, Einsum, affine
from einsum_cascade.expressions import Access, Apply, Expr
from einsum_cascade.ordering import Loop, Plan, plan


def lower_bound(placed: Placed) -> Estimate:
    """Return the largest provable bound, phase by phase."""
    return against_traffic(placed, compute_cycles(placed))


def compute_cycles(placed: Placed) -> tuple[int, ...]:
    """Cycles of each phase that no order of issue can beat, whatever the outer memory does."""
    alone = placed.stages or (placed,)
    return tuple(
        max(
            max(phase.slots_on(array.name) for array in placed.architecture.arrays) * stage.batch,
            recurrence_cycles(stage, phase),
        )
        for stage in alone
        for phase in stage.phases
    )


def against_traffic(placed: Placed, computed: tuple[int, ...]) -> Estimate:
    """The bound, given the compute cycles of each phase."""
    cycles = iter(computed)
    alone = [
        total(stage, [(phase, next(cycles)) for phase in stage.phases])
        for stage in placed.stages or (placed,)
    ]
    return added(alone) if placed.stages else alone[0]


def recurrence_cycles(placed: Placed, phase: Phase) -> int:
    """Cycles of the slowest recurrence of a phase; heads and tiles may run side by side."""
    names = {work.einsum for work in phase.work}
    extents = dict(placed.tiling.extents)
    slowest = 0
    for rank, own, cycles in _recurrences(placed.outline):
        if own <= names:
            steps = placed.filters.steps(rank) if placed.filters is not None else extents[rank]
            slowest = max(slowest, steps * cycles)
    return slowest


@dataclass(frozen=True, slots=True)
class _Edge:
    """An Einsum reads what another one of a recurrence made, some steps ago."""

    reader: Einsum
    read: Access
    steps: int


Circuit = tuple[_Edge, ...]


@lru_cache(maxsize=256)
def _recurrences(outline: Outline) -> tuple[tuple[str, frozenset[str], int], ...]:
    """Rank, Einsums and cycles of a step of each recurrence; the same at all sizes."""
    cascade = outline.cascade
    return tuple(
        (
            loop.rank,
            frozenset(einsum.name for einsum in loop.einsums),
            _step_cycles(outline, _circuits(cascade, loop)),
        )
        for loop in _loops(plan(cascade.einsums, dict(cascade.variables)))
    )


def _loops(steps: Plan) -> list[Loop]:
    found = []
    for step in steps:
        if isinstance(step, Loop):
            found += [step, *_loops(step.body)]
    return found


def _circuits(cascade: Cascade, loop: Loop) -> Iterator[Circuit]:
    """The cycles through a recurrence, from one step's state to that of a later one."""
    edges: dict[str, dict[str, _Edge]] = {einsum.name: {} for einsum in loop.einsums}
    for reader in loop.einsums:
        for read in reader.reads:
            for writer in loop.einsums:
                if writer.name == read.tensor:
                    steps = _distance(cascade, writer, read, loop.rank)
                    edges[writer.name][reader.name] = _Edge(reader, read, steps)

    def onward(path: Circuit, here: str, left: frozenset[str]) -> Iterator[Circuit]:
        for reader, edge in edges[here].items():
            if reader == start:
                yield (*path, edge)
            elif reader in left:
                yield from onward((*path, edge), reader, left - {reader})

    names = tuple(edges)
    for i, start in enumerate(names):
        # A cycle is found at the first of its Einsums.
        yield from onward((), start, frozenset(names[i + 1 :]))


def _step_cycles(outline: Outline, circuits: Iterable[Circuit]) -> int:
    """Least cycles from one step's state to the next: the slowest cycle through the recurrence.

    A cycle that looks several steps back spends its latency on all of them.
    """
    arrays = {array.name: array for array in reversed(outline.arrays)}
    where = dict(outline.mapping.placements)
    best = 0
    for circuit in circuits:
        steps = sum(edge.steps for edge in circuit)
        if steps:
            latency = 0
            for edge in circuit:
                array = arrays.get(where[edge.reader.name].array or "")
                latency += _latency(edge.reader.map, edge.read, array) or 0
            best = max(best, latency // steps)
    return best


def _distance(cascade: Cascade, writer: Einsum, read: Access, rank: str) -> int:
    for written, index in zip(writer.target.indices, read.indices, strict=True):
        left, right = affine(written), affine(index)
        same = left.variables and cascade.rank_of(left.variables[0]) == rank
        if same and left.step is not None and right.step is not None:
            return abs(left.step - right.step)
    return 0


def _latency(expr: Expr, read: Access, array: Array | None) -> int | None:
    """Cycles from an operand of an expression to its value; None if it does not occur."""
    if expr == read:
        return 0
    if not isinstance(expr, Apply):
        return None
    inner = [_latency(argument, read, array) for argument in expr.arguments]
    found = [latency for latency in inner if latency is not None]
    row = array.cost(expr.operator) if array else None
    return min(found) + (row.latency_cycles if row else 0) if found else None
