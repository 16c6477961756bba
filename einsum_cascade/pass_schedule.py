"""A schedule that needs no more sweeps than counted: what each sweep reads and computes.

The analysis from above notes which Einsum first touches the fiber in which sweep. What such an
Einsum needs of an earlier sweep, position by position, is computed again from what it came from, or
read back if a recurrence made it; what is coarser than the fiber stays on chip.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from einsum_cascade.cascade import Einsum
from einsum_cascade.ordering import Loop, Plan, flatten
from einsum_cascade.pass_flow import Visit
from einsum_cascade.pass_reads import Fiber


@dataclass(frozen=True, slots=True)
class Sweep:
    """One sweep along a rank: its number, which way it goes, and what is done in it."""

    number: int
    # "ascending" or "descending".
    direction: str
    rank: str
    # Tensors along the rank that come from memory.
    reads: tuple[str, ...]
    # Tensors of earlier sweeps that are computed once more.
    recomputes: tuple[str, ...]
    # Tensors computed in this sweep for the first time.
    computes: tuple[str, ...]

    def __str__(self) -> str:
        """Print as `sweep 2, m upwards: reads K; computes QK (again), SN, SD`."""
        way = "upwards" if self.direction == "ascending" else "downwards"
        made = [f"{name} (again)" for name in self.recomputes] + list(self.computes)
        parts = [f"reads {', '.join(self.reads)}"] if self.reads else []
        parts += [f"computes {', '.join(made)}"] if made else []
        return f"sweep {self.number}, {self.rank.lower()} {way}: {'; '.join(parts) or 'nothing'}"


def schedule_of(
    fiber: Fiber, steps: Plan, visits: Iterable[Visit], count: int
) -> tuple[Sweep, ...]:
    """Write out a schedule of `count` sweeps from the visits of its Einsums."""
    order = [einsum.name for einsum in flatten(steps)]
    looped = {e.name for e in _along(steps, fiber.along)}
    tied: dict[str, dict[str, None]] = {}
    made: dict[int, dict[str, Einsum]] = {}
    last: dict[tuple[str, tuple[tuple[str, int], ...]], Visit] = {}
    for visit in visits:
        key = (visit.einsum.name, visit.at)
        if key not in last or last[key].sweep < visit.sweep:
            last[key] = visit
    for visit in visits:
        # Cases of one Einsum that could be earlier wait for the others.
        if visit.sweep < last[visit.einsum.name, visit.at].sweep:
            continue
        made.setdefault(visit.sweep, {})[visit.einsum.name] = visit.einsum
        # A recurrence's own state is at hand.
        needs = (read.tensor for read in visit.reads if read.tensor != visit.einsum.name)
        tied.setdefault(visit.einsum.name, {}).update(dict.fromkeys(needs))
    found = []
    for number in range(1, count + 1):
        here = made.get(number, {})
        reads: dict[str, None] = {}
        again: dict[str, None] = {}
        pending = [need for name in here for need in tied[name]]
        while pending:
            name = pending.pop()
            if name in here or name in again or name in reads:
                continue
            if name == fiber.root or name in looped or name not in tied:
                reads[name] = None
            else:
                again[name] = None
                pending += tied[name]
        computed = [e for e in flatten(steps) if e.name in here or e.name in again]
        for einsum in computed:
            reads.update(dict.fromkeys(_others(fiber, einsum, {*tied, *here, *again})))
        way = "ascending" if fiber.way(number) > 0 else "descending"
        found.append(
            Sweep(
                number,
                way,
                fiber.rank,
                tuple(sorted(reads, key=lambda name: (name != fiber.root, name))),
                tuple(sorted(again, key=order.index)),
                tuple(sorted(here, key=order.index)),
            )
        )
    return tuple(found)


def _others(fiber: Fiber, einsum: Einsum, known: set[str]) -> Iterable[str]:
    """Tensors along the rank that an Einsum reads although they don't depend on the fiber."""
    for read in einsum.reads:
        tensor = fiber.cascade.tensor(read.tensor)
        if tensor.name not in known and set(fiber.parts) <= set(tensor.ranks):
            yield tensor.name


def _along(steps: Plan, ranks: frozenset[str]) -> Iterable[Einsum]:
    """Einsums in recurrences along any of some ranks."""
    for step in steps:
        if isinstance(step, Loop):
            if step.rank in ranks:
                yield from step.einsums
            else:
                yield from _along(step.body, ranks)
