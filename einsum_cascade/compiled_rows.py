"""One Einsum of the point scheme row by row: the innermost loop runs along one kept variable.

That variable is the *lane* of the Einsum. Everything else is a loop around it, reductions go to a
row of sums, and reads are views of rows, so that LLVM makes vectors of the innermost loop. A sum of
products in which one operand has no lanes is a contraction (`compiled_products`), and its checks
follow in a second pass. Empty elements hold -0.0, which adds nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

from einsum_cascade.cascade import Cascade, Einsum, variables_in
from einsum_cascade.compiled_checks import Check, Checks, Elements
from einsum_cascade.compiled_chunks import Index
from einsum_cascade.compiled_empty import is_safe, split_ranks
from einsum_cascade.compiled_hoists import Hoist, hoists
from einsum_cascade.compiled_presence import plus
from einsum_cascade.compiled_text import (
    Arithmetic,
    Text,
    arithmetic_of,
    combining,
    integer,
    literal,
    rounded,
    value,
)
from einsum_cascade.expressions import Access, Expr, Select, walk
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


@dataclass(slots=True, kw_only=True)
class Rows(Checks):
    """The loops of one Einsum, while they are being written."""

    fixed: tuple[str, ...]
    numbers: Numbers | None
    # Lanes that points are computed for.
    span: tuple[str, str] = ("0", "lanes")
    # Lines that look a check up, by its identity.
    tables: dict[int, tuple[str, ...]] = field(default_factory=dict)
    # Parts of the map that are computed less often.
    hoists: dict[Expr, Hoist] = field(default_factory=dict)

    def write(self) -> None:
        """Write everything; the function returns the axes along which presence varies."""
        for access in self.einsum.reads:
            self.place(access)
        if self.einsum.where is not None:
            self.filter(self.einsum.where)
        text = self.text
        size = self.chunk.count(self.lane, self.cascade.rank_of(self.lane))
        for variable in self.einsum.left:
            if self.cascade.rank_of(variable) in self.fixed:
                text.line(f"v_{variable} = f_{self.cascade.rank_of(variable)}")
        text.line(f"lanes = {size}")
        text.line("el = np.ones(lanes, np.bool_)")
        text.line("acc = np.empty(lanes, F)")
        reduced = "*".join(f"n_{self.cascade.rank_of(v)}" for v in self.einsum.over)
        if reduced:
            text.line(f"some = {reduced} > 0")
        if self.has_empty and any(read.tensor in self.flagged for read in self.einsum.reads):
            text.line("nothing = np.zeros(lanes, np.bool_)")
        for line in self.before:
            text.line(line)
        how = arithmetic_of(self.numbers, self.einsum)
        self.hoists = hoists(self, *self.loops((self.lane,)), how)
        self.compute()

    def compute(self) -> None:
        """Write the loops."""
        self.rows(has_values=True)

    # ---- loops ----

    @property
    def some(self) -> str:
        """Text of whether there is any step of what is reduced."""
        return "some" if self.einsum.over else "True"

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
        found = self.chunk.range(variable, self.cascade.rank_of(variable))
        self.text.line(f"for v_{variable} in range({found}):")
        self.text.depth += 1

    def find(self, check: Check) -> None:
        """Write what finds a check, or where that is found already."""
        for line in self.tables.get(id(check), (*check.head, *check.lines)):
            self.text.line(line)

    def prepare(self, outer: list[str], checks: list[Check]) -> None:
        """Write tables of checks that would be found again in each step of a loop around them."""
        text = self.text
        for i, check in enumerate(checks):
            if id(check) in self.tables or not check.fills:
                continue
            own = [v for v in outer if v in check.variables]
            if own and outer[: len(own)] != own:
                place = ", ".join(f"v_{v}" for v in own)
                ranks = [self.cascade.rank_of(v) for v in own]
                counts = [self.chunk.range(v, rank) for v, rank in zip(own, ranks, strict=True)]
                shape = ", ".join([*(count.split(", ")[-1] for count in counts), "lanes"])
                found = []
                for name, kind in check.fills:
                    text.line(f"u{name} = np.empty(({shape}), {kind})")
                    found.append(f"{name} = u{name}[{place}]")
                depth = text.depth
                for variable in own:
                    self.open(variable)
                for other in check.needs(checks[:i]):
                    self.find(other)
                for line in (*found, *check.head, *check.lines):
                    text.line(line)
                text.depth = depth
                self.tables[id(check)] = tuple(found)
            else:
                for name, kind in check.fills:
                    text.line(f"{name} = np.empty(lanes, {kind})")

    def empty(self, check: Check) -> None:
        """Write which elements a check empties."""
        if check.kept == "False":
            return
        text = self.text
        with text.block(f"if {self.some} and {check.kept}:"):
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
        self.prepare(outer, checks)
        row = REDUCTIONS[einsum.op] if einsum.op is not None else None
        for level in range(len(outer) + 1):
            if level > len(kept) and not has_values:
                # What empties elements is the same along reduced variables, so one step tells.
                text.line(f"if {self.some}:")
                text.depth += 1
                text.line(f"v_{outer[level - 1]} = 0")
            elif level:
                self.open(outer[level - 1])
            here = [check for check in checks if levels[id(check)] == level]
            if level and (has_values or level <= len(kept)):
                self.skip(here, is_kept=level == len(kept))
            if level == len(kept):
                if checks:
                    text.line("k.start(el, True)")
                if row is not None and has_values:
                    text.line(f"k.start(acc, {literal(row.identity, 'F')})")
                inner = text.depth
            filters = self.filters(here) if level == len(kept) else []
            for check in here:
                if check not in filters:
                    self.find(check)
            if level == len(kept):
                here = [check for check in checks if levels[id(check)] <= level]
            if level >= len(kept):
                for check in here:
                    if check not in filters:
                        self.empty(check)
            with self.undecided(filters):
                for i, check in enumerate(filters):
                    # Where nothing is left, terms about the same variables tell nothing new.
                    told = f"(c & {check.bits} != {check.bits} or k.anything(el))"
                    tests = [f"not ({check.always})"] if self.is_decided(check) else []
                    tests += [told] if i else []
                    if self.is_decided(check):
                        # It does not hold for no lane, so what is left is to compare.
                        tests += [self.some, f"k.keep(el, {check.compared})"]
                        text.line(f"if {' and '.join(tests)}:")
                        text.line(f"    c |= {check.bits} | ANY")
                        continue
                    with text.block(f"if {' and '.join(tests)}:") if tests else nullcontext():
                        self.find(check)
                        self.empty(check)
        if has_values:
            self.points(row is not None)
        text.depth = inner
        self.store(row is not None, has_values)
        text.depth = depth

    def skip(self, checks: list[Check], *, is_kept: bool) -> None:
        """Write what goes on with the next step where a row that is read is all empty."""
        text, name = self.text, self.einsum.name
        for check in checks:
            others = [other for other in self.checks if other is not check]
            if check.flag and not is_kept:
                # What is read besides may still empty elements for all steps.
                more = [o for o in others if o.kept not in ("True", "False")]
                tests = [f"not ({o.kept} and {o.bits} != 0)" for o in more]
                tests = [f"not {check.flag}", f"not {check.kept}", *tests]
                text.line(f"if {' and '.join(tests)}:")
                text.line("    continue")
            elif check.flag and name in self.flagged:
                test = f"{self.some} and {check.kept} and not {check.flag}"
                bits = dict.fromkeys(o.bits for o in others if o.kept != "False" and o.bits != "0")
                if bits:
                    # And may tell that it varies along more variables.
                    test += f" and ({' | '.join(bits)}) & ~(c | {check.bits}) == 0"
                with text.block(f"if {test}:"):
                    text.line(f"{self.flag(name, self.goal())} = False")
                    text.line(f"c |= {check.bits} | ANY")
                    text.line("continue")

    def is_decided(self, check: Check) -> bool:
        """True if extremes may decide a check when it is looked at, and not in a table before."""
        return check.never != "" and self.tables.get(id(check), check.lines) == check.lines

    @contextmanager
    def undecided(self, filters: list[Check]) -> Iterator[None]:
        """Write what is done where no term of a filter leaves all lanes empty by its extremes."""
        decided = [check for check in filters if self.is_decided(check)]
        if not decided:
            yield
            return
        text = self.text
        text.line("is_never = False")
        for check in decided:
            with text.block("if not is_never:"):
                for line in check.head:
                    text.line(line)
                text.line(f"is_never = {check.never}")
            self.tables[id(check)] = check.lines
        with text.block(f"if is_never and {self.some}:"):
            text.line("k.start(el, False)")
            text.line(f"c |= {decided[0].bits} | ANY")
        with text.block("else:"):
            yield

    def filters(self, checks: list[Check]) -> list[Check]:
        """Terms of a filter that empty elements and are about the same variables."""
        found = [check for check in checks if check.is_filter and check.kept == "True"]
        return [check for check in found if check.variables == found[0].variables]

    def points(self, is_reduction: bool) -> None:
        """Write the loop over lanes."""
        text, einsum = self.text, self.einsum
        narrow = [
            f"lo, hi = max(lo, {check.low or '0'}), min(hi, {check.high})"
            for check in self.checks
            if not check.row
        ]
        for access in einsum.reads:
            if any(index.bent for index in self.places[access]):
                narrow.append(f"hi = hi if t_{access.tensor}.size > 0 else 0")
        rows = [check.row for check in self.checks if check.row and check.kept != "True"]
        if not is_reduction:
            rows = ["el"] if any(check.kept != "False" for check in self.checks) else []
        if rows:
            text.line(f"if {' and '.join(f'k.anything({row})' for row in rows)}:")
            text.depth += 1
        if narrow:
            self.span = ("lo", "hi")
            for line in ("lo, hi = 0, lanes", *narrow, "if lo < hi:"):
                text.line(line)
            text.depth += 1
        low, high = self.span
        reader = Views(self, text.apart(text.depth + 1))
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
            text.line(f"v_{self.lane} = {self.chunk.at(self.lane, plus(low, 'i'))}")
            text.lines += reader.inner.lines
            text.line(f"x = {result}")
            text.line(f"z[i] = {total}")

    def target(self, low: str, high: str, letter: str = "t") -> str:
        """A row of the target."""
        return self.row(f"{letter}_{self.einsum.name}", self.goal(), low, high)

    def goal(self) -> list[Index]:
        """Indices of the target."""
        place = []
        for axis, index in enumerate(self.einsum.target.indices):
            whole = integer(index)
            assert whole is not None
            if axis in self.chunk.axes.get(self.einsum.name, ()):
                whole = self.chunk.inside(variables_in(index)[0])
            place.append(Index(whole))
        return place

    def store(self, is_reduction: bool, has_values: bool) -> None:
        """Write a row of the target and its presence."""
        text, depth = self.text, self.text.depth
        if self.einsum.name in self.flagged:
            flag = self.flag(self.einsum.name, self.goal())
            text.line(f"{flag} = k.anything(el)")
            text.line(f"if {flag}:")
            text.depth += 1
        if self.einsum.name in self.partial:
            text.line(f"k.copy({self.target('0', 'lanes', 'o')}, el)")
        if is_reduction and has_values:
            text.line(f"k.copy({self.target('0', 'lanes')}, acc)")
        if has_values and any(check.kept != "False" for check in self.checks):
            text.line(f"k.leave_nothing({self.target('0', 'lanes')}, el)")
        text.depth = depth


@dataclass(slots=True)
class Views:
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
            # Rows of indices are read where they are known to be in range, too.
            inside = f"[{rows.chunk.inside(rows.lane)}]"
            for row in dict.fromkeys(re.findall(rf"\b(j\d+){re.escape(inside)}", at)):
                view, (low, high) = rows.text.fresh("y"), rows.span
                self.lines.append(f"{view} = {row}[{low}:{high}]")
                at = at.replace(f"{row}{inside}", f"{view}[i]")
            self.known[access] = f"t_{access.tensor}[{at}]"
        return self.known[access]

    def hoisted(self, expr: Expr, how: Arithmetic) -> str | None:
        """See Reader."""
        hoist = self.rows.hoists.get(expr)
        if hoist is None:
            return None
        name = self.rows.text.fresh("y")
        if not hoist.name:
            number = value(expr, self.rows.text.apart(), Elements(self.rows), how)
            self.lines.append(f"{name} = {number}")
            return name
        low, high = self.rows.span
        place = [self.rows.chunk.inside(v) for v in hoist.variables]
        self.lines.append(f"{name} = {hoist.name}[{', '.join([*place, f'{low}:{high}'])}]")
        return f"{name}[i]"

    @contextmanager
    def chosen(self, holds: str, variables: tuple[str, ...]) -> Iterator[None]:
        """See Reader; selections are not written in rows."""
        yield
