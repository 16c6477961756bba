"""Which Einsums of the point scheme run together, chunk by chunk of ranks that all of them keep.

A *group* is a set of Einsums with a variable each that lives on one axis of everything they pass on
to each other, such as the queries of attention: chunks of it are independent, so that they are
tasks for threads, and what nobody else reads lives for one chunk only, in the caches. Groups run
one after the other. A recurrence is a group of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from einsum_cascade.cascade import Cascade, Einsum, affine, variables_in
from einsum_cascade.compiled_empty import GAP
from einsum_cascade.operators import REDUCTIONS
from einsum_cascade.ordering import Loop, Plan, flatten, plan


@dataclass(frozen=True, slots=True)
class Group:
    """Steps that run chunk by chunk."""

    steps: Plan
    # Axes along which there are chunks: rank, and the axis of every tensor that the group makes.
    chunks: tuple[tuple[str, Mapping[str, int]], ...] = ()
    # Tensors that nobody else reads: they exist for one chunk.
    local: frozenset[str] = frozenset()

    def chunked(self, einsum: Einsum) -> tuple[str, ...]:
        """The variable of each chunk in one of its Einsums."""
        indices = einsum.target.indices
        return tuple(variables_in(indices[axes[einsum.name]])[0] for _, axes in self.chunks)

    def axes(self, tensor: str) -> frozenset[int]:
        """Axes of a local tensor of which only a chunk exists."""
        if tensor not in self.local:
            return frozenset()
        return frozenset(axes[tensor] for _, axes in self.chunks)


def groups(cascade: Cascade, causes: Mapping[str, frozenset[str]]) -> tuple[Group, ...]:
    """Cut a cascade into groups, in the order in which they run."""
    rest = list(plan(cascade.einsums, dict(cascade.variables)))
    found: list[Group] = []
    while rest:
        group = _last(cascade, rest, causes)
        rest = [step for step in rest if step not in group.steps]
        found.insert(0, group)
    return tuple(found)


def _last(
    cascade: Cascade, rest: list[Einsum | Loop], causes: Mapping[str, frozenset[str]]
) -> Group:
    """The group of the last step, with as much before it as possible."""
    last = rest[-1]
    if isinstance(last, Loop):
        return Group((last,))
    trees = [
        _grown(cascade, rest, last.name, axis, causes) for axis in range(len(last.target.indices))
    ]

    def weight(tree: Mapping[str, int]) -> int:
        return sum(len(e.variables) for e in rest if isinstance(e, Einsum) and e.name in tree)

    best = max(trees, key=weight, default={})
    if not best:
        alone = tuple(s for s in rest if isinstance(s, Einsum) and s.name == last.name)
        return Group(alone)
    # All axes with the same members, outermost first.
    chunks = [
        (cascade.tensor(last.name).dims[axis].rank or "", tree)
        for axis, tree in enumerate(trees)
        if tree.keys() == best.keys()
    ]
    steps = tuple(step for step in rest if isinstance(step, Einsum) and step.name in best)
    readers = {read.tensor for e in cascade.einsums if e.name not in best for read in e.reads}
    # A state goes on in a recurrence, whether anything else reads it or not.
    elsewhere = readers | {e.name for e in cascade.einsums if e not in steps}
    local = frozenset(
        name for name in best if name not in elsewhere and cascade.tensor(name).role != "output"
    )
    return Group(steps, tuple(chunks), local)


def _grown(
    cascade: Cascade,
    rest: list[Einsum | Loop],
    name: str,
    axis: int,
    causes: Mapping[str, frozenset[str]],
) -> dict[str, int]:
    """Axis of every tensor that can be computed chunk by chunk along an axis of the last one."""
    found: dict[str, int] = {}
    looped = {e.name for step in rest if isinstance(step, Loop) for e in step.einsums}
    einsums = flatten(tuple(rest))
    for made in dict.fromkeys(e.name for e in reversed(einsums)):
        readers = [e for e in einsums if any(read.tensor == made for read in e.reads)]
        if made in looped or GAP in causes[made] or any(e.name not in found for e in readers):
            continue
        axes = [axis] if made == name else range(len(cascade.tensor(made).dims))
        if not readers and made != name:
            continue
        for one in reversed(axes):
            # Chunks of a part of a concatenated rank are no chunks of the whole.
            is_same = cascade.tensor(made).dims[one].rank == cascade.tensor(name).dims[axis].rank
            if (
                is_same
                and _is_free(cascade, made, one)
                and all(
                    _variable(e, found) == _plain(read.indices[one])
                    for e in readers
                    for read in e.reads
                    if read.tensor == made
                )
            ):
                found[made] = one
                break
    return found


def _variable(einsum: Einsum, axes: Mapping[str, int]) -> str:
    return variables_in(einsum.target.indices[axes[einsum.name]])[0]


def _plain(index: object) -> str | None:
    """The variable that an index is, if it is nothing but one."""
    form = affine(index)
    return form.variables[0] if form.is_plain and form.step == 0 else None


def _is_free(cascade: Cascade, name: str, axis: int) -> bool:
    """True if all definitions of a tensor keep a variable of their own over an axis of it."""
    dim = cascade.tensor(name).dims[axis]
    if dim.rank is None or dim.extra:
        return False
    for einsum in cascade.defining(name):
        variable = _plain(einsum.target.indices[axis])
        if variable is None or cascade.rank_of(variable) != dim.rank:
            return False
        selects = einsum.op is not None and REDUCTIONS[einsum.op].selects
        if selects and variable == einsum.filled:
            return False
    return True
