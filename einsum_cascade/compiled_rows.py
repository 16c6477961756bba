"""One Einsum of the point scheme row by row: the innermost loop runs along one kept variable.

A kept variable becomes the *lane* of an Einsum. Everything else is a loop around it, reductions go
to a row of sums, and reads are views of rows, so that LLVM makes vectors of the innermost loop.
Every cause of emptiness is a *check*. It is written at the depth of the variables it depends on,
not at each point: as bounds of the lanes where it is linear in them with factor 1, else as a row
of flags. A check that no reduced variable takes part in empties elements, others mask points.

A sum of products in which one operand has no lanes is a contraction (`compiled_products`), and its
checks follow in a second pass. Empty elements hold -0.0, which adds nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from einsum_cascade.array_shapes import array_ranks
from einsum_cascade.cascade import Cascade, Einsum, variables_in
from einsum_cascade.compiled_empty import is_safe, split_ranks
from einsum_cascade.compiled_presence import linear, plus
from einsum_cascade.compiled_text import (
    WIDE,
    Text,
    arithmetic_of,
    combining,
    integer,
    literal,
    rounded,
    truth,
    value,
)
from einsum_cascade.expressions import Access, Apply, Condition, Logic, Select, walk
from einsum_cascade.hardware_numbers import Numbers
from einsum_cascade.operators import REDUCTIONS


def lane_of(cascade: Cascade, einsum: Einsum, fixed: tuple[str, ...]) -> str | None:
    """The variable that rows of an Einsum run along; None if it is not for rows."""
    if einsum.op is not None and REDUCTIONS[einsum.op].selects:
        return None
    nodes = [*walk(einsum.map), *(walk(einsum.where) if einsum.where is not None else ())]
    if any(isinstance(node, Select) for node in nodes):
        return None
    for read in einsum.reads:
        for index in read.indices:
            for node in walk(index):
                if isinstance(node, Access) and not _is_simple(cascade, node):
                    return None

    def weight(variable: str) -> tuple[int, int]:
        """How well memory runs along with it, then its place in the target."""
        total = 0
        for access in (einsum.target, *einsum.reads):
            inside = [variable in variables_in(index) for index in access.indices]
            is_row = any(inside) and inside[-1] and sum(inside) == 1
            total += 2 if is_row else (-1 if any(inside) else 1)
        return total, variables_in(einsum.target).index(variable)

    lanes = [
        v
        for v in einsum.left
        if cascade.rank_of(v) not in fixed
        and sum(v in variables_in(index) for index in einsum.target.indices) == 1
    ]
    return max(lanes, key=weight, default=None)


def _is_simple(cascade: Cascade, access: Access) -> bool:
    """True if no index of a gathered access needs a check."""
    return not split_ranks(cascade, access.tensor) and all(
        is_safe(cascade, access, axis) for axis in range(len(access.indices))
    )


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


@dataclass(frozen=True, slots=True)
class Index:
    """An index of an array; `is_unit` if it is the lane plus something, `forms` if linear."""

    text: str
    is_unit: bool = False
    is_linear: bool = True


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


@dataclass(slots=True)
class Rows:
    """The loops of one Einsum, while they are being written."""

    cascade: Cascade
    einsum: Einsum
    fixed: tuple[str, ...]
    lane: str
    numbers: Numbers | None
    text: Text
    # Whether computed tensors may have empty elements here, and split inputs a ragged tile.
    has_empty: bool
    # Tensors that may have empty elements at all.
    partial: frozenset[str] = frozenset()
    checks: list[Check] = field(default_factory=list)
    before: list[str] = field(default_factory=list)
    places: dict[Access, tuple[Index, ...]] = field(default_factory=dict)
    # Lanes that points are computed for.
    span: tuple[str, str] = ("0", "lanes")

    def write(self) -> None:
        """Write everything; the function returns the axes along which presence varies."""
        for access in self.einsum.reads:
            self.place(access)
        if self.einsum.where is not None:
            self.filter(self.einsum.where)
        text = self.text
        size = f"n_{self.cascade.rank_of(self.lane)}"
        for variable in self.einsum.left:
            if self.cascade.rank_of(variable) in self.fixed:
                text.line(f"v_{variable} = f_{self.cascade.rank_of(variable)}")
        text.line(f"lanes = {size}")
        text.line("el = np.ones(lanes, np.bool_)")
        text.line("acc = np.empty(lanes, F)")
        reduced = "*".join(f"n_{self.cascade.rank_of(v)}" for v in self.einsum.over)
        text.line(f"some = {reduced or '1'} > 0")
        for line in self.before:
            text.line(line)
        pair = self.operands()
        if pair is None:
            self.rows(has_values=True)
            return
        a, b = pair
        self.contraction(a, b)
        self.rows(has_values=False)

    # ---- reads ----

    def bits(self, variables: frozenset[str]) -> int:
        """The bits of several variables."""
        return sum(1 << self.einsum.variables.index(v) for v in variables)

    def check(self, variables: frozenset[str], lines: list[str], **how: str | bool) -> None:
        """Add a check whose variables are known now."""
        self.checks.append(
            Check(
                variables,
                tuple(lines),
                kept=str(not variables & set(self.einsum.over)),
                bits=str(self.bits(variables)),
                **how,  # type: ignore[arg-type]
            )
        )

    def uses_lane(self, text: str) -> bool:
        """True if a text is about the lane."""
        return re.search(rf"\bv_{self.lane}\b", text) is not None

    def at_zero(self, text: str, variable: str, number: int = 0) -> str:
        """A text with a number for a variable."""
        return re.sub(rf"\bv_{variable}\b", str(number), text)

    def row_check(
        self,
        variables: frozenset[str],
        lines: list[str],
        holds: str,
        at: str = "",
        *,
        is_filter: bool = False,
    ) -> str:
        """Add a check lane by lane; return the text of a safe index, if it is about one."""
        name, text = self.text.fresh("h"), self.text
        self.before.append(f"{name} = np.empty(lanes, np.bool_)")
        index = text.fresh("j")
        if at:
            self.before.append(f"{index} = np.empty(lanes, np.int64)")
        body = [f"for v_{self.lane} in range(lanes):", *(f"    {line}" for line in lines)]
        body.append(f"    {name}[v_{self.lane}] = {holds}")
        if at:
            body.append(f"    {index}[v_{self.lane}] = {at} if {holds} else 0")
        self.check(variables, body, row=name, is_filter=is_filter)
        return f"{index}[v_{self.lane}]"

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
        if is_safe(self.cascade, access, axis):
            assert whole is not None
            return Index(whole, unit)
        size = size_text(self.cascade, access.tensor, axis)
        variables = frozenset(variables_in(expr))
        is_input = access.tensor in self.cascade.inputs
        inner = self.text.apart()
        at = whole if whole is not None else value(expr, inner, _Elements(self), WIDE)
        if form is not None and whole is not None and unit and (is_input or not self.has_empty):
            name = self.text.fresh("i")
            lines = [f"{name} = {self.at_zero(whole, self.lane)}"]
            self.check(variables, lines, low=f"-{name}", high=f"{size} - {name}")
            return Index(whole, unit)
        name, holds = self.text.fresh("i"), self.text.fresh("b")
        lines = [*inner.lines, f"{name} = {at}", f"{holds} = ({name} >= 0) and ({name} < {size})"]
        number = name if whole is not None else f"int({name})"
        if self.lane in variables:
            return Index(self.row_check(variables, lines, holds, number), is_linear=False)
        safe = self.text.fresh("j")
        lines.append(f"{safe} = {number} if {holds} else 0")
        self.check(variables, lines, high=f"lanes if {holds} else 0")
        return Index(safe, is_linear=False)

    def merged(self, access: Access, found: list[Index]) -> list[Index]:
        """Indices of an input's array, whose split ranks are whole."""
        tensor = self.cascade.tensor(access.tensor)
        whole: list[Index] = []
        nameless = iter(i for i, rank in enumerate(tensor.ranks) if rank is None)
        for rank in array_ranks(self.cascade, tensor, False):
            if rank is None or rank in tensor.ranks:
                whole.append(found[next(nameless) if rank is None else tensor.ranks.index(rank)])
                continue
            parts = [tensor.ranks.index(part) for part in self.cascade.parts_of(rank)]
            at = ""
            for part, axis in zip(self.cascade.parts_of(rank), parts, strict=True):
                at = f"({at}*n_{part} + {found[axis].text})" if at else found[axis].text
            others = any(self.uses_lane(found[axis].text) for axis in parts[:-1])
            unit = found[parts[-1]].is_unit and not others
            index = Index(at, unit, all(found[axis].is_linear for axis in parts))
            if self.has_empty:
                index = self.ragged(access, parts, rank, index)
            whole.append(index)
        return whole

    def ragged(self, access: Access, parts: list[int], rank: str, index: Index) -> Index:
        """The last tile of a split rank may be ragged."""
        names: set[str] = set()
        for axis in parts:
            names |= set(variables_in(access.indices[axis]))
        name, causes = self.text.fresh("i"), frozenset(names)
        if index.is_unit:
            lines = [f"{name} = {self.at_zero(index.text, self.lane)}"]
            self.check(causes, lines, high=f"n_{rank} - {name}")
            return index
        lines = [f"{name} = {index.text}"]
        if self.uses_lane(index.text):
            return Index(self.row_check(causes, lines, f"{name} < n_{rank}", name), is_linear=False)
        self.check(causes, lines, high=f"lanes if {name} < n_{rank} else 0")
        return index

    def present(self, access: Access, place: list[Index]) -> None:
        """A computed tensor's elements may be empty."""
        tensor = access.tensor
        causes, kept = self.text.fresh("c"), f"kept_{tensor}"
        parts = [
            f"({self.bits(frozenset(variables_in(index)))} if s_{tensor} & {1 << axis} else 0)"
            for axis, index in enumerate(access.indices)
            if variables_in(index)
        ]
        self.before.append(f"{causes} = {' | '.join(parts) or '0'}")
        test = f"({causes} & {self.bits(frozenset(self.einsum.over))}) == 0"
        if any(check.kept == kept for check in self.checks):
            kept = f"kept_{causes}_{tensor}"
        self.before.append(f"{kept} = {test}")
        name = self.text.fresh("h")
        variables = frozenset(variables_in(access))
        at = ", ".join(index.text for index in place) or "0"
        if not self.uses_lane(at):
            high = f"lanes if o_{tensor}[{at}] else 0"
            self.checks.append(Check(variables, (), high=high, kept=kept, bits=causes))
            return
        if sum(self.uses_lane(index.text) for index in place) == 1 and any(
            index.is_unit for index in place
        ):
            lines = [f"{name} = {self.row(f'o_{tensor}', place, '0', 'lanes')}"]
        else:
            self.before.append(f"{name} = np.empty(lanes, np.bool_)")
            lines = [
                f"for v_{self.lane} in range(lanes):",
                f"    {name}[v_{self.lane}] = o_{tensor}[{at}]",
            ]
        self.checks.append(Check(variables, tuple(lines), row=name, kept=kept, bits=causes))

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

    def filter(self, condition: Condition) -> None:
        """Add the checks of a filter; the terms of an `and` count one by one."""
        if isinstance(condition, Logic) and condition.word == "and":
            for term in condition.terms:
                self.filter(term)
            return
        inner = self.text.apart()
        holds = truth(condition, inner, _Elements(self))
        variables = frozenset(variables_in(condition))
        self.row_check(variables, inner.lines, holds, is_filter=True)

    # ---- loops ----

    def loops(self, skipped: tuple[str, ...] = ()) -> tuple[list[str], list[str]]:
        """Variables of the loops around lanes: kept ones, then reduced ones."""
        kept = [
            v
            for v in self.einsum.left
            if v != self.lane and self.cascade.rank_of(v) not in self.fixed and v not in skipped
        ]
        return kept, [v for v in self.einsum.over if v not in skipped]

    def open(self, variable: str) -> None:
        """Open the loop of a variable."""
        self.text.line(f"for v_{variable} in range(n_{self.cascade.rank_of(variable)}):")
        self.text.depth += 1

    def find(self, check: Check) -> None:
        """Write what finds a check."""
        for line in check.lines:
            self.text.line(line)

    def empty(self, check: Check) -> None:
        """Write which elements a check empties."""
        if check.kept == "False":
            return
        text = self.text
        with text.block(f"if some and {check.kept}:"):
            if check.row:
                text.line(f"if k.exclude(el, {check.row}):")
            else:
                text.line(f"if k.outside(el, {check.low or '0'}, {check.high}):")
            text.line(f"    c |= {check.bits} | ANY")

    def rows(self, *, has_values: bool) -> None:
        """Write all loops; without values, only what is empty."""
        text, einsum = self.text, self.einsum
        if not has_values and self.einsum.name not in self.partial:
            return
        depth = text.depth
        kept, over = self.loops()
        checks = [check for check in self.checks if has_values or check.kept != "False"]
        if not has_values:
            over = [v for v in over if any(v in check.variables for check in checks)]
        outer = kept + over
        levels = {
            id(check): max((outer.index(v) + 1 for v in check.variables if v in outer), default=0)
            for check in checks
        }
        row = REDUCTIONS[einsum.op] if einsum.op is not None else None
        for level in range(len(outer) + 1):
            if level:
                self.open(outer[level - 1])
            here = [check for check in checks if levels[id(check)] == level]
            if level == len(kept):
                if checks:
                    text.line("k.start(el, True)")
                if row is not None and has_values:
                    text.line(f"k.start(acc, {literal(row.identity, 'F')})")
                inner = text.depth
            for check in here:
                self.find(check)
            if level == len(kept):
                here = [check for check in checks if levels[id(check)] <= level]
            if level >= len(kept):
                for check in here:
                    self.empty(check)
        if has_values:
            self.points(row is not None)
        text.depth = inner
        self.store(row is not None, has_values)
        text.depth = depth

    def points(self, is_reduction: bool) -> None:
        """Write the loop over lanes."""
        text, einsum = self.text, self.einsum
        narrow = [
            f"lo, hi = max(lo, {check.low or '0'}), min(hi, {check.high})"
            for check in self.checks
            if not check.row
        ]
        for access in einsum.reads:
            if not all(index.is_linear for index in self.places[access]):
                narrow.append(f"hi = hi if t_{access.tensor}.size > 0 else 0")
        if narrow:
            self.span = ("lo", "hi")
            for line in ("lo, hi = 0, lanes", *narrow, "if lo < hi:"):
                text.line(line)
            text.depth += 1
        low, high = self.span
        reader = _Views(self, text.apart(text.depth + 1))
        result = value(einsum.map, reader.inner, reader, arithmetic_of(self.numbers, einsum))
        result = f"F({rounded(self.numbers, einsum, result)})"
        masks = []
        if is_reduction:
            for check in self.checks:
                if check.row and check.kept != "True":
                    name = text.fresh("m")
                    text.line(f"{name} = {check.row}{f'[{low}:{high}]' if narrow else ''}")
                    masks.append(f"{name}[i]")
        for line in reader.lines:
            text.line(line)
        if is_reduction:
            text.line(f"z = acc{'[lo:hi]' if narrow else ''}")
            how = combining(self.numbers, einsum)
            assert einsum.op is not None
            row = REDUCTIONS[einsum.op]
            total = how.call(row.combine, ["z[i]", "x"])
            if masks:
                total = f"{total} if {' & '.join(masks)} else z[i]"
        else:
            text.line(f"z = {self.target(low, high)}")
            total = "x"
        with text.block(f"for i in range({'hi - lo' if narrow else 'lanes'}):"):
            text.line(f"v_{self.lane} = {plus(low, 'i')}")
            text.lines += reader.inner.lines
            text.line(f"x = {result}")
            text.line(f"z[i] = {total}")

    def target(self, low: str, high: str, letter: str = "t") -> str:
        """A row of the target."""
        place = []
        for index in self.einsum.target.indices:
            whole = integer(index)
            assert whole is not None
            place.append(Index(whole))
        return self.row(f"{letter}_{self.einsum.name}", place, low, high)

    def store(self, is_reduction: bool, has_values: bool) -> None:
        """Write a row of the target and its presence."""
        text = self.text
        if self.einsum.name in self.partial:
            text.line(f"k.copy({self.target('0', 'lanes', 'o')}, el)")
        if is_reduction and has_values:
            text.line(f"k.copy({self.target('0', 'lanes')}, acc)")
        if any(check.kept != "False" for check in self.checks):
            text.line(f"k.leave_nothing({self.target('0', 'lanes')}, el)")

    # ---- contractions ----

    def operands(self) -> tuple[Access, Access] | None:
        """The operand without lanes and the one with them, if this is a contraction."""
        match self.einsum.map:
            case Apply(operator="mul", arguments=(Access() as a, Access() as b)):
                pass
            case _:
                return None
        if self.numbers is not None or self.einsum.op != "sum":
            return None
        if any(self.uses_lane(index.text) for index in self.places[a]):
            a, b = b, a
        of_a, of_b = self.places[a], self.places[b]
        if any(self.uses_lane(index.text) for index in of_a) or not of_b:
            return None
        if not of_b[-1].is_unit or any(self.uses_lane(index.text) for index in of_b[:-1]):
            return None
        last = self.einsum.target.indices[-1]
        if self.lane not in variables_in(last):
            return None
        rows, inner = self.inner(a, b)
        if not rows or not inner:
            return None
        for check in self.checks:
            if not check.variables & {rows, inner} or check.kept.startswith("kept"):
                continue
            if not check.is_filter:
                return None
        # Empty points hold -0.0, which adds nothing if the other operand is complete.
        if self.has_empty and a.tensor in self.partial:
            return None
        # A filter on reduced points is not for the kernel.
        if any(check.row and check.kept == "False" for check in self.checks):
            return None
        return a, b

    def inner(self, a: Access, b: Access) -> tuple[str, str]:
        """The kept variable of a alone, and the reduced one of both."""
        of_a, of_b = set(variables_in(a)), set(variables_in(b))

        def is_linear(variable: str) -> bool:
            return all(
                index.is_linear or f"v_{variable}" not in index.text
                for access in (a, b)
                for index in self.places[access]
            ) and not any(
                variable in variables_in(index) and linear(index) is None
                for access in (a, b)
                for index in access.indices
            )

        kept, over = self.loops()
        rows = [v for v in kept if v in of_a - of_b and is_linear(v)]
        inner = [v for v in over if v in of_a & of_b and is_linear(v)]
        return (rows[-1] if rows else ""), (inner[-1] if inner else "")

    def contraction(self, a: Access, b: Access) -> None:
        """Write calls of the kernel, in loops over what it does not run over."""
        text, depth = self.text, self.text.depth
        rows, inner = self.inner(a, b)
        kept, over = self.loops((rows, inner))
        count = f"n_{self.cascade.rank_of(rows)}"
        checks = [
            check for check in self.checks if not check.row and not check.kept.startswith("k")
        ]
        for variable in kept:
            self.open(variable)
        place = []
        for index in self.einsum.target.indices:
            whole = integer(index)
            assert whole is not None
            place.append(Index(whole))
        if over or checks:
            with text.block(f"for v_{rows} in range({count}):"):
                text.line(f"k.start({self.target('0', 'lanes')}, F(0))")
        for variable in over:
            self.open(variable)
        text.line("lo, hi = 0, lanes")
        for check in checks:
            self.find(check)
            text.line(f"lo, hi = max(lo, {check.low or '0'}), min(hi, {check.high})")
        text.line("if lo < hi:")
        text.depth += 1
        pieces = []
        for name, indices, axes in (
            (a.tensor, self.places[a], (rows, inner)),
            (b.tensor, self.places[b], (inner,)),
            (self.einsum.name, tuple(place), (rows,)),
        ):
            offset, start, steps = "", "", list[str]()
            for axis, index in enumerate(indices):
                at = self.at_zero(index.text, self.lane)
                offset = f"({offset})*t_{name}.shape[{axis}] + {at}" if offset else at
            for variable in axes:
                start = self.at_zero(offset, variable)
                step, one = text.fresh("d"), self.at_zero(offset, variable, 1)
                for other in axes:
                    start, one = self.at_zero(start, other), self.at_zero(one, other)
                text.line(f"{step} = {one} - ({start})")
                steps.append(step)
            low = "" if len(axes) == 2 else " + lo"
            pieces.append(f"t_{name}.reshape(-1), {start}{low}, {', '.join(steps)}")
        size = f"{count}, n_{self.cascade.rank_of(inner)}, hi - lo"
        text.line(f"q.multiply({', '.join(pieces)}, {size}, {bool(over)})")
        text.depth = depth


@dataclass(slots=True)
class _Elements:
    """Reads in checks, lane by lane."""

    rows: Rows

    def access(self, access: Access) -> str:
        """See Reader."""
        place = self.rows.place(access)
        return f"t_{access.tensor}[{', '.join(index.text for index in place) or '0'}]"

    @contextmanager
    def chosen(self, holds: str, variables: tuple[str, ...]) -> Iterator[None]:
        """See Reader; selections are not written in rows."""
        yield


@dataclass(slots=True)
class _Views:
    """Reads of points: views of rows where memory runs along, elements otherwise."""

    rows: Rows
    inner: Text
    lines: list[str] = field(default_factory=list)
    known: dict[Access, str] = field(default_factory=dict)

    def access(self, access: Access) -> str:
        """See Reader."""
        if access in self.known:
            return self.known[access]
        rows, place = self.rows, self.rows.place(access)
        name = rows.text.fresh("y")
        lanes = [index for index in place if rows.uses_lane(index.text)]
        at = ", ".join(index.text for index in place) or "0"
        if not lanes:
            self.lines.append(f"{name} = t_{access.tensor}[{at}]")
            self.known[access] = name
        elif len(lanes) == 1 and lanes[0].is_unit:
            self.lines.append(f"{name} = {rows.row(f't_{access.tensor}', place, *rows.span)}")
            self.known[access] = f"{name}[i]"
        else:
            self.known[access] = f"t_{access.tensor}[{at}]"
        return self.known[access]

    @contextmanager
    def chosen(self, holds: str, variables: tuple[str, ...]) -> Iterator[None]:
        """See Reader; selections are not written in rows."""
        yield
