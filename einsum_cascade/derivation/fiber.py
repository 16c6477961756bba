"""What a cascade computes along one rank: its reductions, and what each of them waits for.

Maps that depend on a reduction along the rank are inlined, so that every such reduction is a map
of leaves: values at a position of the rank (they carry it, and depend on no reduction along it),
results of other reductions along the rank, and constants. A result that is reached in any other
way, such as through a sum over another index, must be finished before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from einsum_cascade.cascade import Cascade, Einsum, affine, variables_in
from einsum_cascade.expressions import (
    Access,
    Condition,
    Expr,
    accesses,
    rewrite,
    substitute,
    substitute_condition,
    walk,
)
from einsum_cascade.operators import REDUCTIONS
from einsum_cascade.ordering import Loop, flatten, plan


@dataclass(frozen=True)
class Fiber:
    """A cascade seen along the rank that a variable ranges over.

    Of a split rank this is one part: what is reduced over inner parts only is one value at a
    position of the outer part.
    """

    cascade: Cascade
    variable: str

    @property
    def part(self) -> str:
        """The rank of the variable."""
        return self.cascade.rank_of(self.variable)

    @property
    def rank(self) -> str:
        """The rank itself, or the whole of which it is a part."""
        return self.cascade.whole_of(self.part)

    @cached_property
    def loops(self) -> frozenset[str]:
        """Tensors that recurrences compute."""
        steps = plan(self.cascade.einsums, dict(self.cascade.variables))
        return frozenset(e.name for s in steps if isinstance(s, Loop) for e in s.einsums)

    @cached_property
    def reductions(self) -> tuple[Einsum, ...]:
        """Reductions along the rank that a rewrite may change, producers first."""
        order = ordered(self.cascade)
        return tuple(
            e
            for e in order
            if e.op is not None
            and not REDUCTIONS[e.op].selects
            and e.name not in self.loops
            and self.variable in e.over
            and len(self.cascade.defining(e.name)) == 1
            and all(affine(index).is_plain for index in e.target.indices)
        )

    @cached_property
    def selections(self) -> tuple[Einsum, ...]:
        """Populates along the rank, which choose coordinates by the data."""
        return tuple(
            e
            for e in self.cascade.einsums
            if e.op is not None and REDUCTIONS[e.op].selects and self.variable in e.over
        )

    @cached_property
    def results(self) -> Mapping[str, frozenset[str]]:
        """For each tensor the reductions along the rank (or selections) that it depends on."""
        own = {e.name for e in (*self.reductions, *self.selections)}
        found: dict[str, frozenset[str]] = {}
        order = ordered(self.cascade)
        for _ in range(2):  # twice for recurrences, whose members read each other
            for einsum in order:
                names = {read.tensor for read in einsum.reads}
                inherited = frozenset().union(*(found.get(name, frozenset()) for name in names))
                direct = frozenset(names & own)
                found[einsum.name] = found.get(einsum.name, frozenset()) | inherited | direct
        return found

    def carries(self, expr: Expr) -> bool:
        """True if an expression changes along the rank."""
        return self.variable in variables_in(expr)

    def is_inlined(self, tensor: str) -> bool:
        """True for a map between reductions along the rank, which their terms see through."""
        einsums = self.cascade.defining(tensor)
        return (
            len(einsums) == 1
            and einsums[0].op is None
            and tensor not in self.loops
            and bool(self.results.get(tensor))
            and all(affine(i).is_plain and affine(i).step == 0 for i in einsums[0].target.indices)
        )

    def inlined(self, expr: Expr) -> tuple[Expr, tuple[Condition, ...]]:
        """Replace maps between reductions by what they compute; filters of theirs come beside."""
        conditions: list[Condition] = []

        def one(node: Expr) -> Expr:
            if not isinstance(node, Access) or not self.is_inlined(node.tensor):
                return node
            if not all(affine(i).is_plain and affine(i).step == 0 for i in node.indices):
                # Beyond its end a map is empty, even if what it is made of is not.
                return node
            (einsum,) = self.cascade.defining(node.tensor)
            values = dict(zip(einsum.left, node.indices, strict=True))
            if einsum.where is not None:
                conditions.append(substitute_condition(einsum.where, values))
            inner, more = self.inlined(substitute(einsum.map, values))
            conditions.extend(more)
            return inner

        return rewrite(expr, one), tuple(conditions)

    def behind(self, read: Access) -> frozenset[str]:
        """The reductions along the rank (or selections) that a read depends on, itself included."""
        own = {e.name for e in (*self.reductions, *self.selections)}
        return self.results.get(read.tensor, frozenset()) | ({read.tensor} & own)

    def running(self, einsum: Einsum, expr: Expr) -> tuple[frozenset[Access], frozenset[str]]:
        """What of an inlined expression may change while the reduction runs, and what may not.

        The first are reads of results at the reduction's own coordinates, the second reductions
        behind anything else: through a sum over another index, a recurrence, a gather.
        """
        names = {e.name for e in self.reductions}
        left = set(einsum.left)
        direct: set[Access] = set()
        behind: set[str] = set()
        inside = {
            a
            for node in walk(expr)
            if isinstance(node, Access)
            for i in node.indices
            for a in accesses(i)
        }
        for read in dict.fromkeys(accesses(expr)):
            plain = all(affine(i).is_plain and affine(i).step == 0 for i in read.indices)
            own = read.tensor in names and plain and set(variables_in(read)) <= left
            if own and read not in inside:
                direct.add(read)
            else:
                behind |= self.behind(read)
        return frozenset(direct), frozenset(behind)


def ordered(cascade: Cascade) -> tuple[Einsum, ...]:
    """Einsums of a cascade, producers first."""
    return flatten(plan(cascade.einsums, dict(cascade.variables)))
