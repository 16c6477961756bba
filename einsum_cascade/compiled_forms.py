"""Einsums of a stage in their forms: contractions, maps and reductions, row by row of lanes.

Maps compute all lanes, also empty ones; what reductions read there is overwritten with what adds
nothing, so only partial tiles pay for it. A reduction of anything else masks its lanes itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from einsum_cascade.cascade import Einsum, variables_in
from einsum_cascade.compiled_bounds import Bounds
from einsum_cascade.compiled_presence import Limit, plus, times
from einsum_cascade.compiled_tables import Tables
from einsum_cascade.compiled_text import (
    Arithmetic,
    Text,
    arithmetic_of,
    combining,
    literal,
    rounded,
    value,
)
from einsum_cascade.expressions import Access, Apply, Expr
from einsum_cascade.hardware_numbers import Numbers
from einsum_cascade.operators import REDUCTIONS

# What adds nothing to a reduction. Nothing but -0.0 leaves a sum of -0.0 as it is, and contractions
# take it as a point that isn't there.
NOTHING = {"sum": "F(-0.0)", "max": "-F_INF", "min": "F_INF", "prod": "F(1.0)"}


@dataclass(slots=True)
class Forms:
    """Writes Einsums."""

    tables: Tables
    bounds: Bounds
    numbers: Numbers | None
    text: Text
    # What empty lanes of a table hold.
    fills: dict[str, str] = field(default_factory=dict)
    # Tables that contractions read or write.
    multiplied: set[str] = field(default_factory=set)

    def prepare(self) -> None:
        """Find out what empty lanes must hold, so that who reduces them need not mask them."""
        einsums = self.tables.stage.cascade.einsums
        for einsum in einsums:
            pair = self.operands(einsum)
            if pair is not None:
                self.fills[pair[1].tensor] = NOTHING["sum"]
                self.multiplied |= {einsum.name, pair[1].tensor}
        for einsum in einsums:
            if isinstance(einsum.map, Access) and einsum.op in NOTHING:
                self.fills.setdefault(einsum.map.tensor, NOTHING[einsum.op])

    def einsum(self, einsum: Einsum) -> None:
        """Write one Einsum in its form."""
        text = self.text
        text.line(f"# {einsum}")
        known: set[str] = set()
        for variable in einsum.variables:
            if (
                self.tables.cascade.rank_of(variable) == self.tables.stage.sweep
                and einsum in self.tables.stage.body
            ):
                text.line(f"v_{variable} = f_{self.tables.stage.sweep}")
                known.add(variable)
        depth = text.depth
        if self.operands(einsum) is not None:
            self.contraction(einsum, known)
        else:
            self.rowwise(einsum, known)
        text.depth = depth
        self.fill(einsum, known)
        text.depth = depth

    def fill(self, einsum: Einsum, known: set[str]) -> None:
        """Write what reductions read in empty lanes, unless a tile has none."""
        text, lane = self.text, self.tables.lane(einsum)
        limits = [x for x in self.tables.limits(einsum) if not x.names & set(einsum.over)]
        masking = self.masking(einsum, limits)
        if einsum.name not in self.fills or not masking:
            return
        text.line(f"if not {self.bounds.full(einsum, known, masking)}:")
        text.depth += 1
        before = dict(self.bounds.spans)
        self.loops(einsum, [v for v in einsum.left if v != lane], known, limits)
        self.bounds.lane_bounds(masking, lane, str(self.tables.width))
        row = f"x_{einsum.name}[{self.tables.row(einsum.target).at()}]"
        text.line(f"q.leave_empty({row}, l0, l1, {self.fills[einsum.name]})")
        # What is written in here is not known outside.
        self.bounds.spans.clear()
        self.bounds.spans.update(before)

    def masking(self, einsum: Einsum, limits: Sequence[Limit]) -> list[Limit]:
        """Limits on lanes; one without rows would be nobody's, and counts as one on lanes."""
        lane, steps = self.tables.lane(einsum), self.tables.stepping(einsum)
        return [x for x in limits if lane in x.names or not x.names - steps]

    def operands(self, einsum: Einsum) -> tuple[Access, Access] | None:
        """The operand without lanes and the one with them, if an Einsum is a contraction."""
        match einsum.map:
            case Apply(operator="mul", arguments=(Access() as a, Access() as b)):
                pass
            case _:
                return None
        if self.tables.has_lanes(a.tensor):
            a, b = b, a
        # Hardware numbers have an order of addition, which the kernel has not.
        if self.numbers is not None:
            return None
        if (
            einsum.op != "sum"
            or self.tables.has_lanes(a.tensor)
            or not self.tables.has_lanes(b.tensor)
        ):
            return None
        if a.tensor not in self.tables.stage.cascade.inputs:
            return None
        rows, inner = self.inner(einsum, a, b)
        if rows is None or inner is None:
            return None
        lane = self.tables.lane(einsum)
        filled = self.tables.own_limits(b)
        for limit in self.tables.limits(einsum):
            if not limit.names & set(einsum.over) or limit in filled:
                continue
            if lane in limit.names or (rows in limit.names and inner in limit.names):
                return None
        return a, b

    def inner(self, einsum: Einsum, a: Access, b: Access) -> tuple[str | None, str | None]:
        """The kept variable of a alone and the reduced one of both that the kernel runs over."""
        of_a, of_b = set(variables_in(a)), set(variables_in(b))
        sweep = self.tables.stage.sweep
        kept = [
            v for v in einsum.left if v in of_a - of_b and self.tables.cascade.rank_of(v) != sweep
        ]
        over = [v for v in einsum.over if v in of_a & of_b]
        return (kept[-1] if kept else None), (over[-1] if over else None)

    def contraction(self, einsum: Einsum, known: set[str]) -> None:
        """Write calls of the contraction kernel, in loops over what it does not run over."""
        pair = self.operands(einsum)
        assert pair is not None
        a, b = pair
        rows, inner = self.inner(einsum, a, b)
        assert rows is not None
        assert inner is not None
        text, tables = self.text, self.tables
        limits = tables.limits(einsum)
        element = [limit for limit in limits if not limit.names & set(einsum.over)]
        kept = [v for v in einsum.left if v not in (rows, tables.lane(einsum))]
        known = self.loops(einsum, kept, known, element)
        low, count = self.span(einsum, rows, known, element)
        target, left, right = tables.row(einsum.target), tables.element(a), tables.row(b)
        step = target.factors[rows]
        base = plus(target.at(rows), times(low, step))
        outer = [v for v in einsum.over if v != inner]
        if outer:
            with text.block(f"for i in range({count}):"):
                text.line(f"q.start(x_{einsum.name}[{plus(base, times('i', step))}], F(0))")
        known = self.loops(einsum, outer, known, limits)
        first, length = self.span(einsum, inner, known, limits)
        w = str(tables.width)
        i, k, n = left.factors[rows], left.factors[inner], right.factors[inner]
        at_a = plus(left.at(rows, inner), times(low, i), times(first, k))
        at_b = plus(right.at(inner), times(first, n))
        text.line(f"q.contract(w_{a.tensor}, {at_a}, {i}, {k},")
        text.line(f"    u_{b.tensor}, {times(f'({at_b})', w)}, {times(n, w)},")
        target_text = f"u_{einsum.name}, {times(f'({base})', w)}, {times(step, w)}"
        text.line(f"    {target_text}, {count}, {length}, {w}, {bool(outer)})")

    def loops(
        self, einsum: Einsum, variables: Sequence[str], known: set[str], limits: Sequence[Limit]
    ) -> set[str]:
        """Open loops over rows; return the variables that are known inside."""
        for variable in variables:
            if variable not in known:
                span = self.bounds.rows(einsum, variable, known, limits)
                self.text.line(f"for v_{variable} in range({span}):")
                self.text.depth += 1
                known = known | {variable}
        return known

    def span(
        self, einsum: Einsum, variable: str, known: set[str], limits: Sequence[Limit]
    ) -> tuple[str, str]:
        """Write the range of a variable that the kernel runs over: where it starts, how long."""
        found = self.bounds.rows(einsum, variable, known, limits)
        if "," not in found:
            return "0", found
        low, high = found.split(", ")
        return low, f"({high} - {low})"

    def rowwise(self, einsum: Einsum, known: set[str]) -> None:
        """Write a map, or a reduction over rows."""
        text, lane = self.text, self.tables.lane(einsum)
        limits = self.tables.limits(einsum)
        element = [limit for limit in limits if not limit.names & set(einsum.over)]
        row = REDUCTIONS[einsum.op] if einsum.op is not None else None
        known = self.loops(einsum, [v for v in einsum.left if v != lane], known, element)
        target = text.fresh("z")
        text.line(f"{target} = x_{einsum.name}[{self.tables.row(einsum.target).at()}]")
        if row is not None:
            text.line(f"q.start({target}, {literal(row.identity, 'F')})")
            known = self.loops(einsum, einsum.over, known, limits)
        masking = self.masking(einsum, limits)
        masked = row is not None and masking and not self.is_filled(einsum, masking)
        if masked:
            self.bounds.lane_bounds(masking, lane, str(self.tables.width))
        views = _Views(self, Text(depth=text.depth + 1))
        result = value(einsum.map, views.inner, views, arithmetic_of(self.numbers, einsum))
        result = f"F({rounded(self.numbers, einsum, result)})"
        text.lines += views.outer(text)
        with text.block(f"for l in range({self.tables.width}):"):
            if lane in set(names_outside(einsum)):
                text.line(f"v_{lane} = p0 + l")
            text.lines += views.inner.lines
            if row is not None:
                if masked:
                    result = f"({result} if (l >= l0) & (l < l1) else {NOTHING[row.name]})"
                how = combining(self.numbers, einsum)
                result = how.call(row.combine, [f"{target}[l]", result])
            text.line(f"{target}[l] = {result}")

    def is_filled(self, einsum: Einsum, masking: Sequence[Limit]) -> bool:
        """True if empty lanes of what is reduced hold what adds nothing."""
        if not isinstance(einsum.map, Access) or einsum.op not in NOTHING:
            return False
        access = einsum.map
        if self.fills.get(access.tensor) != NOTHING[einsum.op]:
            return False
        return set(masking) <= set(self.tables.own_limits(access))


def names_outside(einsum: Einsum) -> Iterator[str]:
    """Variables of a map used as numbers, outside of accesses."""

    def visit(node: Expr) -> Iterator[str]:
        if isinstance(node, Access):
            return
        if isinstance(node, Apply):
            for argument in node.arguments:
                yield from visit(argument)
        else:
            yield from variables_in(node)

    yield from visit(einsum.map)


@dataclass(slots=True)
class _Views:
    """Reads of one row: tables become views of a row, everything else is read before the lanes."""

    forms: Forms
    inner: Text
    known: dict[Access, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    def access(self, access: Access) -> str:
        """See Reader."""
        tables = self.forms.tables
        if access not in self.known:
            name = self.forms.text.fresh("y")
            if tables.has_lanes(access.tensor):
                self.lines.append(f"{name} = x_{access.tensor}[{tables.row(access).at()}]")
                self.known[access] = f"{name}[l]"
            else:
                place = tables.element(access).at() if access.indices else "0"
                self.lines.append(f"{name} = w_{access.tensor}[{place}]")
                self.known[access] = name
        return self.known[access]

    def hoisted(self, expr: Expr, how: Arithmetic) -> str | None:
        """See Reader."""
        return None

    @contextmanager
    def chosen(self, holds: str, variables: tuple[str, ...]) -> Iterator[None]:
        """See Reader: both branches are read everywhere, since neither may be empty."""
        yield

    def outer(self, text: Text) -> list[str]:
        """Lines before the loop over lanes."""
        return ["    " * text.depth + line for line in self.lines]
