"""How the coordinates of the derived rank are written: step by step, in tiles, in splits.

A plain recurrence steps through `m`. In tiles the rank is split, `rank M = M1*M0`, and the
recurrence steps through `m1` while `m0` is reduced at once. In splits, an outer part runs
independently and is merged at the end.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass

from einsum_cascade.cascade import Cascade, Einsum, variables_in
from einsum_cascade.derivation.presence import (
    certain_reads,
    flat,
)
from einsum_cascade.expressions import (
    Access,
    Compare,
    Condition,
    Expr,
    Name,
    rewrite,
    rewrite_condition,
    substitute,
    substitute_condition,
)
from einsum_cascade.operators import REDUCTIONS

REFERENCES = ("prefix", "lazy", "power-of-two")


@dataclass(frozen=True, slots=True)
class Layout:
    """Variables that take the place of one variable, and the tensors that are split with it."""

    variable: str
    # The rank that is split, and its new parts; no parts if the rank stays whole.
    rank: str
    parts: tuple[str, ...]
    # Outer variables that run independently, the one that steps, and those reduced at once.
    outer: tuple[str, ...]
    step: str
    inner: tuple[str, ...]
    # Axes that are split, of every tensor that is.
    axes: Mapping[str, frozenset[int]]
    # Where sums are kept that follow a maximum: one of REFERENCES.
    reference: str

    @property
    def all(self) -> tuple[str, ...]:
        """The variables in place of the one, outermost first."""
        return (*self.outer, self.step, *self.inner)

    @property
    def position(self) -> Expr:
        """The coordinate in the whole rank."""
        return flat(list(self.all), self.parts) if self.parts else Name(self.variable)

    @property
    def step_rank(self) -> str:
        """The rank of the stepping variable."""
        return self.parts[len(self.outer)] if self.parts else self.rank

    def place(self, expr: Expr) -> Expr:
        """Write an expression in the new variables."""
        if not self.parts:
            return expr
        return substitute(rewrite(expr, self._split), {self.variable: self.position})

    def place_condition(self, condition: Condition) -> Condition:
        """Write a condition in the new variables."""
        if not self.parts:
            return condition
        split = rewrite_condition(condition, self._split)
        return substitute_condition(split, {self.variable: self.position})

    def guard(self, expr: Expr) -> tuple[Condition, ...]:
        """What keeps an expression, in the old variable, out of a ragged last tile.

        A read at the position itself does: beyond the end it is empty. Numbers are everywhere, and
        so is what is read at other positions, such as K[p+w].
        """
        here = Name(self.variable)
        is_read = any(here in read.indices for read in certain_reads(expr))
        if is_read or not self.parts:
            return ()
        return (Compare("<", self.position, Name(self.rank)),)

    def _split(self, node: Expr) -> Expr:
        if not isinstance(node, Access) or node.tensor not in self.axes:
            return node
        indices: list[Expr] = []
        for axis, index in enumerate(node.indices):
            is_split = axis in self.axes[node.tensor] and index == Name(self.variable)
            indices += [Name(v) for v in self.all] if is_split else [index]
        return Access(node.tensor, tuple(indices))


def layout_of(
    cascade: Cascade, variable: str, *, tile: bool, split: bool, reference: str
) -> Layout:
    """Choose variables and ranks that are not in use, and find which tensors can be split."""
    rank = cascade.rank_of(variable)
    is_part = cascade.whole_of(rank) != rank or cascade.parts_of(rank) != (rank,)
    if is_part or not (tile or split):
        return Layout(variable, rank, (), (), variable, (), {}, reference)
    count = tile + split + 1
    names = _free_names(cascade, variable, count)
    outer = names[:1] if split else ()
    inner = names[-1:] if tile else ()
    parts = tuple(name.upper() for name in names)
    axes = _splittable(cascade, variable)
    return Layout(variable, rank, parts, outer, names[len(outer)], inner, axes, reference)


def _free_names(cascade: Cascade, variable: str, count: int) -> tuple[str, ...]:
    used = {v for v, _ in cascade.variables} | {v for e in cascade.einsums for v in e.variables}
    ranks = {*cascade.ranks, *(tensor.name for tensor in cascade.tensors)}
    for stem in (variable, *string.ascii_lowercase):
        names = tuple(f"{stem}{digit}" for digit in reversed(range(count)))
        free = not any(n in used or n.upper() in ranks for n in names)
        if free and not stem[-1].isdigit():
            return names
    raise AssertionError("26 letters are in use")


def _splittable(cascade: Cascade, variable: str) -> dict[str, frozenset[int]]:
    """Axes of tensors that every access indexes by the plain variable."""
    axes: dict[str, frozenset[int]] = {}
    for tensor in cascade.tensors:
        reads = [
            a for e in cascade.einsums for a in (e.target, *e.reads) if a.tensor == tensor.name
        ]
        own = frozenset(
            axis
            for axis in range(len(tensor.dims))
            if all(read.indices[axis] == Name(variable) for read in reads)
        )
        if own:
            axes[tensor.name] = own
    # What a tensor that stays whole is made from stays whole, too.
    while True:
        whole = [
            e
            for e in cascade.einsums
            if (e.name not in axes and variable in e.left) or selects(e, variable)
        ]
        loose = {read.tensor for e in whole for read in e.reads if read.tensor in axes}
        if not loose:
            return axes
        axes = {name: own for name, own in axes.items() if name not in loose}


def selects(einsum: Einsum, variable: str) -> bool:
    """True for a populate over a variable: it sees the whole rank at once."""
    is_populate = einsum.op is not None and REDUCTIONS[einsum.op].selects
    return is_populate and variable in einsum.over


def stays_whole(layout: Layout, cascade: Cascade, tensor: str) -> bool:
    """True for a tensor along the rank whose definitions keep the whole rank's variable."""
    if any(selects(e, layout.variable) for e in cascade.defining(tensor)):
        return True
    moving = any(
        layout.variable in variables_in(index)
        for e in cascade.defining(tensor)
        for index in e.target.indices
    )
    return bool(layout.parts) and tensor not in layout.axes and moving
