"""What may leave points of one Einsum empty, for loops along one of its kept variables, the lane.

Every cause of emptiness is a *check*. It is written at the depth of the variables it depends on,
not at each point: as bounds of the lanes where it is linear in the lane with factor 1, else as a
row of flags. A check that no reduced variable takes part in empties elements, others mask points.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from einsum_cascade.array_shapes import array_groups, array_ranks
from einsum_cascade.cascade import Cascade, Einsum, variables_in
from einsum_cascade.compiled_chunks import Chunk, Index
from einsum_cascade.compiled_empty import is_safe
from einsum_cascade.compiled_presence import linear, plus
from einsum_cascade.compiled_text import WIDE, Arithmetic, Text, integer, truth, value
from einsum_cascade.compiled_tidy import moved_bits
from einsum_cascade.expressions import Access, Compare, Condition, Expr, Logic, accesses


def size_text(cascade: Cascade, tensor: str, axis: int) -> str:
    """Text of a tensor's size along a written axis."""
    dim = cascade.tensor(tensor).dims[axis]
    if tensor not in cascade.inputs:
        return f"t_{tensor}.shape[{axis}]"
    if dim.rank:
        return f"n_{dim.rank}"
    ranks = array_ranks(cascade, cascade.tensor(tensor), False)
    # Ranks without a name are never parts of a split, so they keep their order.
    nameless = [i for i, rank in enumerate(ranks) if rank is None]
    own = [d.rank for d in cascade.tensor(tensor).dims[:axis]].count(None)
    return f"t_{tensor}.shape[{nameless[own]}]"


# Of x compared with values between low and high: when it holds for none of them, and for all.
# `compiled_kernels.compare` counts relations in this order.
DECIDED = {
    ">=": ("{x} < {low}", "{x} >= {high}"),
    ">": ("{x} <= {low}", "{x} > {high}"),
    "<=": ("{x} > {high}", "{x} <= {low}"),
    "<": ("{x} >= {high}", "{x} < {low}"),
    "==": ("{x} < {low} or {x} > {high}", "{x} == {low} == {high}"),
    "!=": ("{x} == {low} == {high}", "{x} < {low} or {x} > {high}"),
}
MIRRORED = {">=": "<=", ">": "<", "<=": ">=", "<": ">", "==": "==", "!=": "!="}


@dataclass(frozen=True, slots=True)
class Check:
    """A cause of emptiness: what finds it, where it holds, and whether it empties elements."""

    variables: frozenset[str]
    lines: tuple[str, ...]
    # Where it does not hold: lanes outside low <= lane < high, or where a row is False.
    low: str = ""
    high: str = ""
    row: str = ""
    # Text of whether no reduced variable takes part, and of the variables that do, as bits.
    kept: str = "True"
    bits: str = "0"
    is_filter: bool = False
    # Rows that its lines fill, with their types.
    fills: tuple[tuple[str, str], ...] = ()
    # Lines before its own, after which texts may say whether it holds for no lane or for all.
    head: tuple[str, ...] = ()
    never: str = ""
    always: str = ""
    # Arguments of `keep` behind the present lanes, if it is a comparison that extremes may decide.
    compared: str = ""
    # Text of whether its row has anything in it, if that is known without it.
    flag: str = ""

    def needs(self, before: Sequence[Check]) -> list[Check]:
        """Checks before this one that find indices, or rows of them, which it reads."""
        found: list[Check] = []
        read = set(re.findall(r"\w+", " ".join((*self.head, *self.lines))))
        for check in reversed(before):
            text = " ".join((*check.head, *check.lines))
            made = {name for name, _ in check.fills} | set(re.findall(r"\b([bj]\d+) =", text))
            if made & read:
                found.insert(0, check)
                read |= set(re.findall(r"\w+", text))
        return found


@dataclass(slots=True, kw_only=True)
class Checks:
    """The checks of one Einsum and the places of its reads, found while it is written."""

    cascade: Cascade
    einsum: Einsum
    lane: str
    text: Text
    # Whether computed tensors may have empty elements here, and whether split inputs a ragged tile.
    has_empty: bool
    is_ragged: bool
    # Tensors that may have empty elements at all, and those whose empty rows are not written.
    partial: frozenset[str]
    flagged: frozenset[str]
    chunk: Chunk
    checks: list[Check] = field(default_factory=list)
    # Lines before the loops.
    before: list[str] = field(default_factory=list)
    places: dict[Access, tuple[Index, ...]] = field(default_factory=dict)

    def bits(self, variables: frozenset[str]) -> int:
        """The bits of several variables."""
        return sum(1 << self.einsum.variables.index(v) for v in variables)

    def check(self, variables: frozenset[str], lines: list[str], **how: Any) -> None:
        """Add a check whose variables are known now."""
        self.checks.append(
            Check(
                variables,
                tuple(lines),
                kept=str(not variables & set(self.einsum.over)),
                bits=str(self.bits(variables)),
                **how,
            )
        )

    def uses_lane(self, text: str) -> bool:
        """True if a text is about the lane."""
        return re.search(rf"\bv_{self.lane}\b", text) is not None

    def at_zero(self, text: str, variable: str, number: int = 0) -> str:
        """A text with a variable where its chunk begins, or a number of steps later."""
        start = self.chunk.start(variable)
        text = text.replace(f"(v_{variable} - {start})", str(number))
        found = plus(start, str(number)) if number else start
        return re.sub(rf"\bv_{variable}\b", f"({found})" if number else found, text)

    def lanes(self) -> list[str]:
        """The head of a loop over lanes, apart from vectors of them."""
        return ["for i in range(lanes):", f"    v_{self.lane} = {self.chunk.at(self.lane, 'i')}"]

    def row_check(
        self,
        variables: frozenset[str],
        lines: list[str],
        holds: str,
        at: str = "",
        *,
        head: Sequence[str] = (),
        is_filter: bool = False,
    ) -> Index:
        """Add a check lane by lane; return the index that it makes safe, if it is about one."""
        name, text = self.text.fresh("h"), self.text
        index = text.fresh("j")
        fills = ((name, "np.bool_"), (index, "np.int64"))[: 2 if at else 1]
        body = [*head, *self.lanes(), *(f"    {line}" for line in lines)]
        body.append(f"    {name}[i] = {holds}")
        if at:
            body.append(f"    {index}[i] = {at} if {holds} else 0")
        self.check(variables, body, row=name, is_filter=is_filter, fills=fills)
        here = self.chunk.inside(self.lane)
        return Index(f"{index}[{here}]", bent=variables, inside=f"{name}[{here}]")

    def place(self, access: Access) -> tuple[Index, ...]:
        """Indices of an access, with all its checks added once."""
        if access in self.places:
            return self.places[access]
        is_input = access.tensor in self.cascade.inputs
        found = [self.index(access, axis) for axis in range(len(access.indices))]
        if is_input:
            found = self.merged(access, found)
        self.places[access] = tuple(found)
        if access.tensor in self.partial and self.has_empty:
            self.present(access, found)
        return self.places[access]

    def index(self, access: Access, axis: int) -> Index:
        """One written index, and its check."""
        expr = access.indices[axis]
        form, whole = linear(expr), integer(expr)
        unit = form is not None and dict(form.factors).get(self.lane) == "1"
        if axis in self.chunk.axes.get(access.tensor, ()):
            return Index(self.chunk.inside(variables_in(expr)[0]), unit)
        if is_safe(self.cascade, access, axis):
            assert whole is not None
            return Index(whole, unit)
        size = size_text(self.cascade, access.tensor, axis)
        variables = frozenset(variables_in(expr))
        is_input = access.tensor in self.cascade.inputs
        inner, head = self.text.apart(), list[str]()
        reader = Elements(self, head if self.lane in variables else None)
        at = whole if whole is not None else value(expr, inner, reader, WIDE)
        if form is not None and whole is not None and unit and (is_input or not self.has_empty):
            name = self.text.fresh("i")
            lines = [f"{name} = {self.at_zero(whole, self.lane)}"]
            self.check(variables, lines, low=f"-{name}", high=f"{size} - {name}")
            return Index(whole, unit, inside=f"0 <= {whole} < {size}")
        name, holds = self.text.fresh("i"), self.text.fresh("b")
        lines = [*inner.lines, f"{name} = {at}", f"{holds} = ({name} >= 0) and ({name} < {size})"]
        number = name if whole is not None else f"int({name})"
        if self.lane in variables:
            return self.row_check(variables, lines, holds, number, head=head)
        safe = self.text.fresh("j")
        lines.append(f"{safe} = {number} if {holds} else 0")
        self.check(variables, lines, high=f"lanes if {holds} else 0")
        return Index(safe, bent=variables, inside=holds)

    def merged(self, access: Access, found: list[Index]) -> list[Index]:
        """Indices of an input's array, whose split ranks are whole."""
        tensor = self.cascade.tensor(access.tensor)
        whole: list[Index] = []
        for rank, parts in array_groups(self.cascade, tensor):
            if rank is None or len(parts) == 1:
                whole.append(found[parts[0]])
                continue
            at = ""
            for part, axis in zip(self.cascade.parts_of(rank), parts, strict=True):
                at = f"({at}*n_{part} + {found[axis].text})" if at else found[axis].text
            others = any(self.uses_lane(found[axis].text) for axis in parts[:-1])
            unit = found[parts[-1]].is_unit and not others
            bent = frozenset(v for axis in parts for v in found[axis].bent)
            index = Index(at, unit, bent)
            if self.is_ragged:
                index = self.ragged(access, parts, rank, index)
            insides = [i.inside for i in (*(found[axis] for axis in parts), index) if i.inside]
            whole.append(replace(index, inside=" and ".join(insides)))
        return whole

    def ragged(self, access: Access, parts: tuple[int, ...], rank: str, index: Index) -> Index:
        """The last tile of a split rank may be ragged."""
        names: set[str] = set()
        for axis in parts:
            names |= set(variables_in(access.indices[axis]))
        index = replace(index, inside=f"0 <= {index.text} < n_{rank}")
        name, causes = self.text.fresh("i"), frozenset(names)
        if index.is_unit:
            lines = [f"{name} = {self.at_zero(index.text, self.lane)}"]
            self.check(causes, lines, high=f"n_{rank} - {name}")
            return index
        lines = [f"{name} = {index.text}"]
        if self.uses_lane(index.text):
            return self.row_check(causes, lines, f"{name} < n_{rank}", name)
        self.check(causes, lines, high=f"lanes if {name} < n_{rank} else 0")
        return index

    def present(self, access: Access, place: list[Index]) -> None:
        """A computed tensor's elements may be empty."""
        tensor = access.tensor
        causes, kept = self.text.fresh("c"), f"kept_{tensor}"
        moves = [
            (axis, self.einsum.variables.index(variable))
            for axis, index in enumerate(access.indices)
            for variable in variables_in(index)
        ]
        # Something is empty where that is, too, if it varies along nothing.
        own = f"(s_{tensor} & ANY)"
        self.before.append(f"{causes} = {' | '.join([*moved_bits(f's_{tensor}', moves), own])}")
        reduced = self.bits(frozenset(self.einsum.over))
        if any(check.kept == kept for check in self.checks):
            kept = f"kept_{causes}_{tensor}"
        if reduced:
            self.before.append(f"{kept} = ({causes} & {reduced}) == 0")
        else:
            kept = "True"
        name, flag = self.text.fresh("h"), ""
        variables = frozenset(variables_in(access))
        at = ", ".join(index.text for index in place) or "0"
        if not self.uses_lane(at):
            high = f"lanes if o_{tensor}[{at}] else 0"
            self.checks.append(Check(variables, (), high=high, kept=kept, bits=causes))
            return
        if sum(self.uses_lane(index.text) for index in place) == 1 and any(
            index.is_unit for index in place
        ):
            row = self.row(f"o_{tensor}", place, "0", "lanes")
            if tensor in self.flagged:
                flag = self.flag(tensor, place)
                row += f" if {flag} else nothing"
            lines = [f"{name} = {row}"]
        else:
            self.before.append(f"{name} = np.empty(lanes, np.bool_)")
            lines = [*self.lanes(), f"    {name}[i] = o_{tensor}[{at}]"]
        self.checks.append(
            Check(variables, tuple(lines), row=name, kept=kept, bits=causes, flag=flag)
        )

    def view(self, place: list[Index] | tuple[Index, ...], low: str, high: str) -> str:
        """Indices of a view of lanes; of a whole row, if it begins at one, without the last."""
        texts = []
        for axis, index in enumerate(place):
            if not self.uses_lane(index.text):
                texts.append(index.text)
                continue
            start = self.at_zero(index.text, self.lane)
            start = "0" if start in ("0", "(0 + 0)") else start
            if (low, high, start) == ("0", "lanes", "0") and axis == len(place) - 1:
                continue
            texts.append(f"{plus(start, low)} : {plus(start, high)}")
        return ", ".join(texts)

    def row(self, name: str, place: list[Index] | tuple[Index, ...], low: str, high: str) -> str:
        """Text of a view of lanes."""
        at = self.view(place, low, high)
        return f"{name}[{at}]" if at else name

    def flag(self, tensor: str, place: list[Index] | tuple[Index, ...]) -> str:
        """Text of whether a row has anything in it; the last axis is that of lanes."""
        return f"a_{tensor}[{', '.join(index.text for index in place[:-1])}]"

    def filter(self, condition: Condition) -> None:
        """Add the checks of a filter; the terms of an `and` count one by one."""
        if isinstance(condition, Logic) and condition.word == "and":
            for term in condition.terms:
                self.filter(term)
            return
        inner = self.text.apart()
        head: list[str] = []
        holds = truth(condition, inner, Elements(self, head))
        variables = frozenset(variables_in(condition))
        self.row_check(variables, inner.lines, holds, head=head, is_filter=True)
        if isinstance(condition, Compare):
            self.decide(condition)

    def decide(self, condition: Compare) -> None:
        """A comparison with one side about lanes only is often decided by the extremes of that."""
        sides = (condition.left, condition.right)
        of_lane = [set(variables_in(side)) == {self.lane} for side in sides]
        free = [self.lane not in variables_in(side) and not accesses(side) for side in sides]
        reads = [access for side in sides for access in accesses(side)]
        if not any(lanes and other for lanes, other in zip(of_lane, reversed(free), strict=True)):
            return
        if any(index.bent for access in reads for index in self.place(access)):
            return
        text = self.text
        row, words, low, high, short, one = (text.fresh("u") for _ in range(6))
        head = text.apart()
        own = self.wide_row(row, sides[of_lane.index(True)])
        scalar = value(sides[of_lane.index(False)], head, Elements(self), WIDE)
        self.before.append(f"{row}, {words}, {low}, {high}, {short} = k.extremes({own})")
        # With the lanes' side on the right.
        symbol = condition.symbol if of_lane[1] else MIRRORED[condition.symbol]
        never, always = (how.format(x=one, low=low, high=high) for how in DECIDED[symbol])
        last = self.checks[-1]
        body = [f"if {never}:", f"    k.start({last.row}, False)", f"elif {always}:"]
        # Between the extremes of short integers, a whole number is one.
        how = tuple(DECIDED).index(symbol)
        body += [f"    k.start({last.row}, True)", "else:"]
        compared = f"{last.row}, {one}, np.int64({how}), {row}, {words}, {short}"
        body += [f"    k.compare({compared})"]
        head.line(f"{one} = {scalar}")
        self.checks[-1] = replace(
            last,
            lines=tuple(body),
            head=tuple(head.lines),
            never=never,
            always=always,
            compared=compared,
        )

    def wide_row(self, name: str, side: Expr) -> str:
        """Text of a row of what is about lanes only; lines that fill it come before the loops."""
        if isinstance(side, Access):
            place = self.place(side)
            if sum(self.uses_lane(index.text) for index in place) == 1 and place[-1].is_unit:
                return self.row(f"t_{side.tensor}", place, "0", "lanes")
        before = self.text.apart()
        found = value(side, before, Elements(self), WIDE)
        self.before += [f"{name} = np.empty(lanes, D)", *self.lanes()]
        self.before += [f"    {line}" for line in [*before.lines, f"{name}[i] = {found}"]]
        return name


@dataclass(slots=True)
class Elements:
    """Reads in checks, lane by lane."""

    rows: Checks
    # Lines before the loop over lanes, if what does not change there is to be found there.
    head: list[str] | None = None
    is_inside: bool = False

    def hoisted(self, expr: Expr, how: Arithmetic) -> str | None:
        """See Reader: what is about lanes only, or not about them, comes before their loop."""
        rows, variables = self.rows, set(variables_in(expr))
        if how is not WIDE or self.head is None or accesses(expr) or not variables:
            return None
        is_row = variables == {rows.lane}
        if self.is_inside or (rows.lane in variables and not is_row):
            return None
        name, inner = rows.text.fresh("u"), rows.text.apart()
        self.is_inside = True
        found = value(expr, inner, self, WIDE)
        self.is_inside = False
        if not is_row:
            self.head += [*inner.lines, f"{name} = {found}"]
            return name
        rows.before += [f"{name} = np.empty(lanes, D)", *rows.lanes()]
        rows.before += [f"    {line}" for line in [*inner.lines, f"{name}[i] = {found}"]]
        return f"{name}[i]"

    def access(self, access: Access) -> str:
        """See Reader."""
        rows, place = self.rows, self.rows.place(access)
        lanes = [index for index in place if rows.uses_lane(index.text)]
        # What is empty counts as 0.
        inside = " and ".join(index.inside for index in place if index.inside)
        if inside:
            at = ", ".join(index.text for index in place)
            return f"(t_{access.tensor}[{at}] if {inside} else F(0.0))"
        if self.head is not None and len(lanes) == 1 and lanes[0].is_unit:
            # An index that is known to be in range is a vector.
            name = rows.text.fresh("y")
            self.head.append(f"{name} = {rows.row(f't_{access.tensor}', place, '0', 'lanes')}")
            return f"{name}[i]"
        return f"t_{access.tensor}[{', '.join(index.text for index in place) or '0'}]"

    @contextmanager
    def chosen(self, holds: str, variables: tuple[str, ...]) -> Iterator[None]:
        """See Reader; selections are not written in rows."""
        yield
