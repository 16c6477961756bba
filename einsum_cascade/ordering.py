"""In which order the Einsums of a cascade run, and which of them run step by step.

A cascade is a set of definitions, so their written order means nothing; what reads a tensor comes
after all that defines it. Einsums that depend on each other form a recurrence: they must be
indexed by one common rank along which every read looks back (or every read looks ahead), and run
as a loop over that rank. Recurrences along two ranks nest.

The plan is a tree of `Loop`s with Einsums as leaves; interpreter, compiler and analysis share it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from einsum_cascade.cascade import Affine, Einsum, affine, in_different_parts
from einsum_cascade.errors import CascadeError


@dataclass(frozen=True, slots=True)
class Loop:
    """A recurrence: run `body` once for each coordinate of `rank`, upwards or downwards."""

    rank: str
    is_descending: bool
    body: tuple[Einsum | Loop, ...]

    @property
    def einsums(self) -> tuple[Einsum, ...]:
        """The Einsums inside, in order."""
        return flatten(self.body)


Plan = tuple[Einsum | Loop, ...]


def flatten(plan: Plan) -> tuple[Einsum, ...]:
    """All Einsums of a plan in order."""
    return tuple(
        einsum for step in plan for einsum in (step.einsums if isinstance(step, Loop) else (step,))
    )


def plan(einsums: Iterable[Einsum], ranks: dict[str, str]) -> Plan:
    """Order Einsums; `ranks` maps variables to ranks. CascadeError if definitions are circular."""
    return _plan(tuple(einsums), ranks, ())


def _plan(einsums: tuple[Einsum, ...], ranks: dict[str, str], carried: tuple[str, ...]) -> Plan:
    steps: list[Einsum | Loop] = []
    for group in _components(einsums, ranks, carried):
        first = group[0]
        if len(group) == 1 and not _distances(first, first, ranks, carried):
            steps.append(first)
            continue
        rank, descending = _recurrence(group, ranks, carried)
        steps.append(Loop(rank, descending, _plan(group, ranks, (*carried, rank))))
    return tuple(steps)


def _components(
    einsums: tuple[Einsum, ...], ranks: dict[str, str], carried: tuple[str, ...]
) -> list[tuple[Einsum, ...]]:
    """Strongly connected groups of definitions, producers first, written order kept."""
    read_by = [
        {j for j, reader in enumerate(einsums) if _distances(writer, reader, ranks, carried)}
        for writer in einsums
    ]
    reached = [_reached(read_by, start) for start in range(len(einsums))]
    groups = dict.fromkeys(
        tuple(j for j in range(len(einsums)) if j == i or (j in reached[i] and i in reached[j]))
        for i in range(len(einsums))
    )
    ordered: list[tuple[int, ...]] = []
    while len(ordered) < len(groups):
        # Of the groups that wait for no other, the one that was written first.
        waiting = [group for group in groups if group not in ordered]
        ordered.append(
            next(
                group
                for group in waiting
                if not any(group[0] in reached[other[0]] for other in waiting if other != group)
            )
        )
    return [tuple(einsums[i] for i in group) for group in ordered]


def _reached(edges: list[set[int]], start: int) -> set[int]:
    """Where edges lead from a node, in one or more steps."""
    found: set[int] = set()
    left = [start]
    while left:
        new = edges[left.pop()] - found
        found |= new
        left += new
    return found


def _distances(
    writer: Einsum, reader: Einsum, ranks: dict[str, str], carried: tuple[str, ...]
) -> list[dict[str, int | None]]:
    """How far back `reader` reads what `writer` writes, per rank that both step along.

    One entry for each read; reads already resolved by an enclosing loop (nonzero distance along
    a carried rank) are left out. None: the read is at no fixed distance.
    """
    found = []
    own = {ranks.get(v, v.upper()) for v in reader.left}
    for read in reader.reads:
        if read.tensor != writer.name:
            continue
        entry: dict[str, int | None] = {}
        meets = True
        for written, index in zip(writer.target.indices, read.indices, strict=True):
            left, right = affine(written), affine(index)
            if not left.variables and not right.variables:
                # RM[0,p] is not what RM[2,p] reads; M1 against a number may or may not be.
                if left.step is not None and right.step is not None and left.step != right.step:
                    meets = False
                continue
            if in_different_parts(left, right, ranks):
                meets = False
            # A variable plus 1 is never 0, on either side.
            if not left.variables and right.is_plain and _below(left, right):
                meets = False
            if not right.variables and left.is_plain and _below(right, left):
                meets = False
            if not left.is_plain:
                continue
            rank = ranks.get(left.variables[0], left.variables[0].upper())
            same = (
                right.is_plain
                and ranks.get(right.variables[0], right.variables[0].upper()) == rank
                and right.variables[0] in reader.left
            )
            if same and rank in own:
                assert left.step is not None
                assert right.step is not None
                entry[rank] = left.step - right.step
            else:
                entry.setdefault(rank, None)
        if not meets or any(entry.get(rank) not in (0, None) for rank in carried):
            continue
        found.append(entry)
    return found


def _below(fixed: Affine, moving: Affine) -> bool:
    """True if a fixed coordinate lies below every value of a variable plus a step."""
    return fixed.step is not None and fixed.step < (moving.step or 0)


def _recurrence(
    group: tuple[Einsum, ...], ranks: dict[str, str], carried: tuple[str, ...]
) -> tuple[str, bool]:
    """Find the rank along which a group of Einsums is a recurrence, and its direction."""
    # A loop fixes every variable of its rank, so there may be only one on each left side.
    lists = [[ranks.get(v, v.upper()) for v in e.left] for e in group]
    common = set.intersection(*({rank for rank in own if own.count(rank) == 1} for own in lists))
    entries = [d for w in group for r in group for d in _distances(w, r, ranks, carried)]
    for rank in sorted(common - set(carried)):
        steps = [entry.get(rank) for entry in entries]
        known = [step for step in steps if step is not None]
        if len(known) < len(steps) or not any(known):
            continue
        if all(step >= 0 for step in known) or all(step <= 0 for step in known):
            return rank, min(known) < 0
    names = " -> ".join([*dict.fromkeys(e.name for e in group), group[0].name])
    last = group[-1]
    start = last.target.span.start
    raise CascadeError(
        last.line.problem(
            f"circular definition: {names}",
            start,
            last.target.span.end,
            "a recurrence steps along a rank of the left side and looks one way only: "
            "RM[m+1,p] = max(RM[m,p], LM[m,p]) with RM[0,p] = -inf",
        )
    )
