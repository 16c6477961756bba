"""The sheet on which a derived cascade is written: its lines, its names, running values."""

from __future__ import annotations

from dataclasses import dataclass, field

from einsum_cascade.cascade import Einsum, is_product, variables_in
from einsum_cascade.derivation.algebra import Algebra, Change, Term
from einsum_cascade.derivation.fiber import Fiber
from einsum_cascade.derivation.layout import Layout
from einsum_cascade.derivation.staging import Staged, Staging
from einsum_cascade.expressions import (
    Access,
    Apply,
    Condition,
    Expr,
    Name,
    Number,
    Select,
    accesses,
    rewrite,
    substitute,
    to_text,
)


@dataclass(frozen=True, slots=True)
class Text:
    """One Einsum of the new cascade, before it is printed."""

    target: Access
    op: str | None
    over: tuple[str, ...]
    map: Expr
    where: Condition | None = None

    @property
    def reads(self) -> tuple[Access, ...]:
        """Accesses of the right side and the filter."""
        return accesses(self.map) + accesses(self.where)

    @property
    def variables(self) -> tuple[str, ...]:
        """Every index variable."""
        where = () if self.where is None else variables_in(self.where)
        return (*variables_in(self.target), *variables_in(self.map), *where, *self.over)

    def __str__(self) -> str:
        """Print as one line."""
        text = to_text(self.map)
        # A product of tensors is summed without saying so.
        is_implicit = self.op == "sum" and isinstance(self.map, Apply) and is_product(self.map)
        if self.op is not None and not is_implicit:
            text = f"{self.op}[{','.join(self.over)}]({text})"
        tail = f" where {self.where}" if self.where is not None else ""
        return f"{self.target} = {text}{tail}"


@dataclass(slots=True)
class Sheet:
    """The new cascade while it is written: the one mutable thing, gone when it is parsed."""

    fiber: Fiber
    staging: Staging
    layout: Layout
    # Accumulators of each running reduction, and the reference that a maximum is kept at.
    states: dict[str, tuple[str, ...]]
    kept_at: dict[str, str]
    used: set[str]
    lines: list[Text] = field(default_factory=list)
    # Results that are read off an accumulator, and corrections that have a name.
    finals: dict[str, Expr] = field(default_factory=dict)
    corrections: dict[str, Access] = field(default_factory=dict)
    # Maps between reductions at running references: the term, the tensor, the results it reads;
    # and by its tensor the map's name in the source.
    folded: list[tuple[Term, Access, frozenset[Access]]] = field(default_factory=list)
    originals: dict[str, str] = field(default_factory=dict)
    # The same maps at final results, and the results they read.
    finished: list[tuple[Term, Access, frozenset[Access]]] = field(default_factory=list)

    @property
    def algebra(self) -> Algebra:
        """The table of symbols that the staging used."""
        return self.staging.algebra

    def write(self, target: Access, map_: Expr, op: str | None = None, *over: str) -> Access:
        """Write one line without a filter, and return its left side."""
        self.lines.append(Text(target, op if over else None, over, map_))
        return target

    def name(self, wanted: str) -> str:
        """A name that nothing else has, as near as possible to the wanted one."""
        return take_name(self.used, wanted)

    def at(self, step: Expr, name: str, einsum: Einsum) -> Access:
        """An element of a state of a reduction, at a step."""
        return self.element(step, name, tuple(Name(v) for v in einsum.left))

    def element(self, step: Expr, name: str, indices: tuple[Expr, ...]) -> Access:
        """An element of a state: outer coordinates, the step, then its own."""
        return Access(name, (*(Name(v) for v in self.layout.outer), step, *indices))

    @property
    def now(self) -> Expr:
        """The coordinate of a state before a step."""
        return Name(self.layout.step)

    @property
    def after(self) -> Expr:
        """The coordinate of a state after a step."""
        return Apply("add", (self.now, Number(1)))

    def staged(self, name: str) -> Staged:
        """The reduction along the rank with this name."""
        return next(one for one in self.staging.staged if one.einsum.name == name)


def take_name(used: set[str], wanted: str) -> str:
    """The wanted name, or with the first number at which it is free; it is used from now on."""
    found, number = wanted, 1
    while found in used:
        number += 1
        found = f"{wanted}_{number}"
    used.add(found)
    return found


def expression(sheet: Sheet, term: Term, change: Change) -> Expr:
    """Write a term out, the conditions of `where` in the new variables."""

    def one(node: Expr) -> Expr:
        if isinstance(node, Select):
            condition = sheet.layout.place_condition(node.condition)
            return Select(condition, node.then, node.otherwise)
        return node

    return rewrite(sheet.algebra.expression(term, change), one)


def named_maps(sheet: Sheet, one: Staged, term: Term) -> tuple[Term, frozenset[Access]]:
    """A term in which maps that the new cascade spells out stand by their names; the names."""
    followed = set(one.followed(sheet.algebra))
    names = [(t, access) for t, access, results in sheet.finished if not results & followed]
    names += [(t, access) for t, access, results in sheet.folded if results <= followed]
    for known, access in names:
        term = term.xreplace({known: sheet.algebra.symbol(access)})
    return term, frozenset(access for _, access in names)


def reference_value(sheet: Sheet, read: Access, step: Expr) -> Expr:
    """The value at a step of a result that others follow."""
    if read.tensor in sheet.kept_at:
        return sheet.element(step, sheet.kept_at[read.tensor], read.indices)
    one = sheet.staged(read.tensor)
    states = [sheet.element(step, name, read.indices) for name in sheet.states[read.tensor]]
    values = dict(zip(one.einsum.left, read.indices, strict=True))

    def change(leaf: Access | Name) -> Expr:
        inner = substitute(leaf, values)
        if leaf in one.references and isinstance(inner, Access):
            return reference_value(sheet, inner, step)
        return inner

    return result_of(sheet, one, states, change)


def result_of(sheet: Sheet, one: Staged, states: list[Access], change: Change) -> Expr:
    """The result of a reduction from its accumulators: what was hoisted, times sum of c_j R_j."""
    found = one.separation
    if found is None:
        return states[0]
    marks = [sheet.algebra.symbol(state) for state in states]
    if one.einsum.op == "sum":
        total = found.hoisted * sum(c * s for c, s in zip(found.coefficients, marks, strict=True))
    else:
        total = found.hoisted + marks[0]
    known = set(states)
    return sheet.algebra.expression(total, lambda leaf: leaf if leaf in known else change(leaf))
