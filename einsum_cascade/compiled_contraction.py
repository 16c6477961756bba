"""Sums of products in which one operand has no lanes, as calls of a contraction in registers.

Rows that are empty in all lanes are left out: those of the result if a filter empties them, else
those of the operand with lanes. Everything else is done row by row (`compiled_rows`).
"""

from __future__ import annotations

from dataclasses import dataclass

from einsum_cascade.cascade import variables_in
from einsum_cascade.compiled_chunks import Index
from einsum_cascade.compiled_presence import linear
from einsum_cascade.compiled_rows import Rows, Views
from einsum_cascade.compiled_text import Arithmetic, arithmetic_of, value
from einsum_cascade.compiled_tidy import summed
from einsum_cascade.expressions import Access, Apply, Expr


@dataclass(slots=True, kw_only=True)
class Contraction(Rows):
    """The loops of one Einsum, which may be a contraction."""

    def compute(self) -> None:
        """Write the loops."""
        pair = self.operands()
        if pair is None:
            self.rows(has_values=True)
            return
        # What is empty is found first: whole rows of it are left out of the sum.
        self.find_empty()
        self.contraction(*pair)
        if self.scales():
            self.scale()
        self.leave_nothing()

    @property
    def is_known(self) -> bool:
        """True if what is empty may be known from a batch element before."""
        return self.chunk.has_again and self.einsum.name in self.chunk.axes

    def find_empty(self) -> None:
        """Write what finds empty elements, unless they are known from a batch element before."""
        # What is written here is not seen behind it: loops may have gone on, or not be gone into.
        tables = dict(self.tables)
        if self.is_known and self.einsum.name in self.partial:
            with self.text.block("if not again:"):
                self.rows(has_values=False)
        else:
            self.rows(has_values=False)
        self.tables = tables

    def leave_nothing(self) -> None:
        """Write -0.0 where the result is empty."""
        if all(check.kept == "False" for check in self.checks):
            return
        text, depth = self.text, self.text.depth
        if self.einsum.name in self.partial:
            text.line(f"if c & ANY{' or again' if self.is_known else ''}:")
            text.depth += 1
        for variable in self.loops()[0]:
            self.open(variable)
        if self.einsum.name in self.flagged:
            text.line(f"if {self.flag(self.einsum.name, self.goal())}:")
            text.depth += 1
        text.line(f"k.leave_nothing({self.target('0', 'lanes')}, {self.target('0', 'lanes', 'o')})")
        text.depth = depth

    def flat(self, tensor: str, place: tuple[Index, ...]) -> str:
        """Text of where an element is in the flat array of its tensor."""
        offset = ""
        for axis, index in enumerate(place):
            offset = f"({offset})*t_{tensor}.shape[{axis}] + {index.text}" if offset else index.text
        return offset or "0"

    def operands(self) -> tuple[Access, Access] | None:
        """The operand without lanes and the one with them, if this is a contraction."""
        match self.core():
            case Apply(operator="mul", arguments=(Access() as a, Access() as b)):
                pass
            case _:
                return None
        # A scaled sum that is not finite is found again point by point, without checks.
        if self.scales() and self.checks:
            return None
        if self.numbers is not None or self.einsum.op != "sum":
            return None
        if any(self.uses_lane(index.text) for index in self.places[a]):
            a, b = b, a
        of_a, of_b = self.places[a], self.places[b]
        if any(self.uses_lane(index.text) for index in of_a) or not of_b:
            return None
        if any(self.lane in index.bent for index in of_b) or any(
            self.lane in variables_in(index) and linear(index) is None for index in b.indices
        ):
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

    def core(self) -> Expr:
        """The map without what its sum may be scaled by: factors that no reduced variable is in."""
        expr = self.einsum.map
        while isinstance(expr, Apply) and expr.operator in ("mul", "div"):
            left, right = expr.arguments
            if expr.operator == "mul" and isinstance(left, Access) and isinstance(right, Access):
                break
            if self.is_scale(right):
                expr = left
            elif self.is_scale(left) and expr.operator == "mul":
                expr = right
            else:
                break
        return expr

    def is_scale(self, expr: Expr) -> bool:
        """True if an expression is the same for all points of a sum."""
        return not set(variables_in(expr)) & set(self.einsum.over)

    def scales(self) -> list[Expr]:
        """What the sum is multiplied with or divided by."""
        expr, core, found = self.einsum.map, self.core(), []
        while expr is not core:
            assert isinstance(expr, Apply)
            left, right = expr.arguments
            is_right = self.is_scale(right)
            found.append(right if is_right else left)
            expr = left if is_right else right
        return found

    def scale(self) -> None:
        """Write what scales the sums; where that is not as good as scaling points, sum these."""
        text, einsum = self.text, self.einsum
        depth = text.depth
        kept, over = self.loops()
        for variable in kept:
            self.open(variable)
        how = arithmetic_of(None, einsum)
        reader = _Scaled(self, text.apart(text.depth + 1), core=self.core())
        result = value(einsum.map, reader.inner, reader, how)
        scales = [value(expr, reader.inner, reader, how) for expr in self.scales()]
        for line in (*reader.lines, f"z = {self.target('0', 'lanes')}", "is_lost = False"):
            text.line(line)
        with text.block("for i in range(lanes):"):
            text.line(f"v_{self.lane} = {self.chunk.at(self.lane, 'i')}")
            text.lines += reader.inner.lines
            text.line(f"x = F({result})")
            text.line("is_lost |= (x - x != 0)")
            for scale in scales:
                text.line(f"y = {scale}")
                text.line("is_lost |= (y - y != 0) | (y == 0)")
            text.line("z[i] = x")
        with text.block("if is_lost:"):
            text.line("k.start(acc, F(0))")
            inner = text.depth
            for variable in over:
                self.open(variable)
            self.points(is_reduction=True)
            text.depth = inner
            text.line(f"k.copy({self.target('0', 'lanes')}, acc)")
        text.depth = depth

    def inner(self, a: Access, b: Access) -> tuple[str, str]:
        """The kept variable of a alone, and the reduced one of both."""
        of_a, of_b = set(variables_in(a)), set(variables_in(b))

        def is_linear(variable: str) -> bool:
            return all(
                variable not in index.bent for access in (a, b) for index in self.places[access]
            ) and not any(
                variable in variables_in(index) and linear(index) is None
                for access in (a, b)
                for index in access.indices
            )

        kept, over = self.loops()
        rows = [v for v in kept if v in of_a - of_b and is_linear(v)]
        inner = [v for v in over if v in of_a & of_b and is_linear(v)]
        return (rows[-1] if rows else ""), (inner[-1] if inner else "")

    def start(self, text: str, variables: tuple[str, ...]) -> str:
        """A text with all of these variables where they begin."""
        for variable in variables:
            text = self.at_zero(text, variable)
        return text

    def contraction(self, a: Access, b: Access) -> None:
        """Write calls of the kernel, in loops over what it does not run over."""
        text, depth = self.text, self.text.depth
        rows, inner = self.inner(a, b)
        kept, over = self.loops((rows, inner))
        checks = [
            check for check in self.checks if not check.row and not check.kept.startswith("k")
        ]
        for variable in kept:
            self.open(variable)
        runs = self.run(b, inner, rows)
        if over or checks or runs == inner:
            self.open(rows)
            text.line(f"k.start({self.target('0', 'lanes')}, F(0))")
            text.depth -= 1
        for variable in over:
            self.open(variable)
        text.line("lo, hi = 0, lanes")
        for check in checks:
            self.find(check)
            text.line(f"lo, hi = max(lo, {check.low or '0'}), min(hi, {check.high})")
        text.line("if lo < hi:")
        text.depth += 1
        pieces = []
        steps: dict[tuple[str, str], str] = {}
        starts = {}
        for part, name, indices, axes in (
            ("a", a.tensor, self.places[a], (rows, inner)),
            ("b", b.tensor, self.places[b], (inner, self.lane)),
            ("c", self.einsum.name, tuple(self.goal()), (rows,)),
        ):
            offset = self.flat(name, indices)
            starts[part] = self.start(offset, (*axes, self.lane))
            for variable in axes:
                step = steps[part, variable] = text.fresh("d")
                one = self.start(self.at_zero(offset, variable, 1), (*axes, self.lane))
                text.line(f"{step} = {summed(f'{one} - ({starts[part]})')}")
            shift = ""
            if runs in axes:
                shift = f" + r0*{steps[part, runs]}"
            if part != "a":
                shift += f" + lo*{steps[part, self.lane]}" if part == "b" else " + lo"
            own = ", ".join(steps[part, variable] for variable in axes)
            pieces.append(f"t_{name}, {summed(starts[part] + shift)}, {own}")
        counts = {v: self.chunk.count(v, self.cascade.rank_of(v)) for v in (rows, inner)}
        if runs:
            # Rows next to each other in which anything is not empty.
            row = b.tensor if runs == inner else self.einsum.name
            place = self.places[b] if runs == inner else self.goal()
            text.line(f"r1, r2 = 0, {counts[runs]}")
            text.line("while r1 < r2:")
            text.depth += 1
            text.line("r0 = r1")
            with text.block("while r1 < r2:"):
                text.line(f"v_{runs} = {self.chunk.at(runs, 'r1')}")
                holds = f"k.anything({self.row(f'o_{row}', place, '0', 'lanes')})"
                if row in self.flagged:
                    holds = self.flag(row, place)
                text.line(f"if not {holds}:")
                text.line("    break")
                text.line("r1 += 1")
            with text.block("if r1 == r0:"):
                text.line("r1 += 1")
                text.line("continue")
            counts[runs] = "r1 - r0"
        adds = bool(over) or runs == inner
        size = f"{counts[rows]}, {counts[inner]}, hi - lo"
        text.line(f"m.multiply({', '.join(pieces)}, {size}, {adds})")
        text.depth = depth

    def run(self, b: Access, inner: str, rows: str) -> str:
        """The variable of whose steps a contraction leaves out those that are all empty."""
        lanes = [index for index in self.places[b] if self.uses_lane(index.text)]
        if self.has_empty and b.tensor in self.partial and len(lanes) == 1 and lanes[0].is_unit:
            return inner
        has_filter = any(check.is_filter and check.kept == "True" for check in self.checks)
        return rows if has_filter and self.einsum.name in self.partial else ""


@dataclass(slots=True)
class _Scaled(Views):
    """Reads of points in which the sum is known already."""

    core: Expr | None = None

    def hoisted(self, expr: Expr, how: Arithmetic) -> str | None:
        """See Reader."""
        if expr is self.core:
            return "z[i]"
        return Views.hoisted(self, expr, how)
