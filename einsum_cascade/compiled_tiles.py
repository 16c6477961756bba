"""One stage as a kernel over a tile of lanes: what is generated for almost every attention cascade.

`run` computes lanes p0 ... p0 + LANES - 1 of one batch element. Every tensor that carries the lanes
is a table x_T of rows (all its other ranks, flattened) by lanes; so every innermost loop runs over
lanes next to each other, which LLVM turns into vectors. Einsums become one of three forms: a
contraction with something that has no lanes (`compiled_products`), a map, or a reduction row by
row.

Limits become bounds of loops: rows that are empty for all lanes are not visited; in a row that is
empty for some, l0 <= lane < l1 are the others. A step of the sweep that no lane takes part in is
run until it changes no state, and then left out, together with all such steps after it: nothing in
it depends on which step it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from einsum_cascade.array_shapes import array_ranks
from einsum_cascade.cascade import Affine, Cascade, Einsum, affine, variables_in
from einsum_cascade.compiled_plan import ROLLING, SLAB, WHOLE, Stage
from einsum_cascade.compiled_points import JIT, write_head
from einsum_cascade.compiled_presence import Limit
from einsum_cascade.compiled_text import (
    Text,
    arithmetic_of,
    combining,
    integer,
    literal,
    rounded,
    value,
)
from einsum_cascade.expressions import Access, Apply
from einsum_cascade.hardware_numbers import Numbers
from einsum_cascade.operators import REDUCTIONS

# What adds nothing to a reduction. Nothing but -0.0 leaves a sum of -0.0 as it is, and contractions
# take it as a point that isn't there.
NOTHING = {"sum": "F(-0.0)", "max": "-F_INF", "min": "F_INF", "prod": "F(1.0)"}


@dataclass(frozen=True, slots=True)
class Place:
    """A linear offset: factor times variable, plus a rest, all as text."""

    factors: Mapping[str, str]
    rest: str = "0"

    def at(self, *free: str) -> str:
        """Text of the offset with some variables at 0."""
        terms = [f"v_{v}*{f}" for v, f in self.factors.items() if v not in free]
        return " + ".join([*terms, *([self.rest] if self.rest != "0" or not terms else [])])


def write_stage(
    cascade: Cascade, stage: Stage, name: str, width: int, numbers: Numbers | None, text: Text
) -> None:
    """Write the kernel of a stage as function `name`; `cascade` is all of it."""
    _Kernel(cascade, stage, width, numbers, text).write(name)


@dataclass(slots=True)
class _Kernel:
    cascade: Cascade
    stage: Stage
    width: int
    numbers: Numbers | None
    text: Text
    # What empty lanes of a table hold, so that who reduces it need not mask them.
    fills: dict[str, str] = field(default_factory=dict)
    # Ranges of rows that are computed already, by what they are computed from.
    spans: dict[tuple[str, ...], str] = field(default_factory=dict)

    def write(self, name: str) -> None:
        """Write the function."""
        stage, text = self.stage, self.text
        part = stage.cascade
        multiplied: set[str] = set()
        for einsum in (*stage.before, *stage.body, *stage.after):
            pair = self.operands(einsum)
            if pair is not None:
                self.fills[pair[1].tensor] = NOTHING["sum"]
                multiplied |= {einsum.name, pair[1].tensor}
        for einsum in part.einsums:
            if isinstance(einsum.map, Access) and einsum.op in NOTHING:
                self.fills.setdefault(einsum.map.tensor, NOTHING[einsum.op])
        arrays = [f"in_{n}" for n in part.inputs] + [f"out_{n}" for n in part.outputs]
        text.line(JIT)
        with text.block(f"def {name}(b, tile, at, n, par, {', '.join(arrays)}):"):
            write_head(self.cascade, text)
            text.line(f"p0 = tile*{self.width}")
            text.line(f"lanes = min({self.width}, n_{stage.lane} - p0)")
            for i, tensor in enumerate(part.inputs):
                scalar = not part.tensor(tensor).dims
                tail = f" : at[b, {i}] + 1" if scalar else ""
                text.line(f"t_{tensor} = in_{tensor}[at[b, {i}]{tail}]")
                if not self.has_lanes(tensor):
                    text.line(f"w_{tensor} = t_{tensor}.reshape(-1)")
            for tensor in self.tables():
                text.line(f"x_{tensor} = np.zeros(({self.rows(tensor)}, {self.width}), F)")
                if tensor in multiplied:
                    text.line(f"u_{tensor} = x_{tensor}.reshape(-1)")
            for tensor in part.inputs:
                if self.has_lanes(tensor) and not self.on_sweep(tensor):
                    self.load(tensor)
            for einsum in stage.before:
                self.einsum(einsum)
            if stage.sweep:
                self.sweep()
            for einsum in stage.after:
                self.einsum(einsum)
            for tensor in part.outputs:
                self.store(tensor)

    # ---- tables ----

    def tables(self) -> list[str]:
        """Tensors with lanes."""
        names = dict.fromkeys(e.name for e in self.stage.cascade.einsums)
        return [n for n in (*self.stage.cascade.inputs, *names) if self.has_lanes(n)]

    def has_lanes(self, tensor: str) -> bool:
        """True if a tensor carries the lane rank."""
        return self.stage.lane in self.cascade.tensor(tensor).ranks

    def on_sweep(self, tensor: str) -> bool:
        """True if a tensor carries the rank of the sweep."""
        return self.stage.sweep is not None and self.stage.sweep in (
            self.cascade.tensor(tensor).ranks
        )

    def held(self, tensor: str) -> str:
        """How a tensor lives along the sweep."""
        return dict(self.stage.storage).get(tensor, SLAB if self.on_sweep(tensor) else WHOLE)

    def axes(self, tensor: str) -> list[tuple[int, str]]:
        """Axes of a table's rows with their sizes: the sweep first, without the lanes."""
        dims = self.cascade.tensor(tensor).dims
        found: list[tuple[int, str]] = []
        for axis, dim in enumerate(dims):
            size = f"(n_{dim.rank} + {dim.extra})" if dim.extra else f"n_{dim.rank}"
            if dim.rank == self.stage.lane:
                continue
            if self.on_sweep(tensor) and dim.rank == self.stage.sweep:
                held = self.held(tensor)
                found.insert(0, (axis, {SLAB: "1", ROLLING: "2"}.get(held, size)))
            else:
                found.append((axis, size))
        return found

    def rows(self, tensor: str) -> str:
        """Text of the number of rows."""
        return "*".join(size for _, size in self.axes(tensor)) or "1"

    def row(self, access: Access) -> Place:
        """The row of an access, as an offset in variables."""
        factors: dict[str, str] = {}
        rest = "0"
        stride = "1"
        for axis, size in reversed(self.axes(access.tensor)):
            form = affine(access.indices[axis])
            dim = self.cascade.tensor(access.tensor).dims[axis]
            if self.on_sweep(access.tensor) and dim.rank == self.stage.sweep:
                rest = self.step_row(access, axis, form, stride)
                if self.held(access.tensor) == WHOLE and form.variables:
                    factors[form.variables[0]] = stride
            else:
                factors[form.variables[0]] = stride
            stride = size if stride == "1" else f"{size}*{stride}"
        return Place(factors, rest)

    def step_row(self, access: Access, axis: int, form: Affine, stride: str) -> str:
        """What the index along the sweep adds, beyond a variable times the stride."""
        held = self.held(access.tensor)
        if held == SLAB:
            return "0"
        if form.variables:
            step = form.step or 0
            if held == WHOLE:
                return f"{step}*{stride}"
            return f"((v_{form.variables[0]} + {step}) & 1)*{stride}"
        number = integer(access.indices[axis])
        return f"{number}*{stride}" if held == WHOLE else f"({number} & 1)*{stride}"

    def element(self, access: Access) -> Place:
        """The offset of an access in a flat array without lanes, whose split ranks are whole."""
        tensor = self.cascade.tensor(access.tensor)
        factors: dict[str, str] = {}
        stride = "1"
        for rank in reversed(array_ranks(self.cascade, tensor, False)):
            assert rank is not None
            parts = (rank,) if rank in tensor.ranks else self.cascade.parts_of(rank)
            inner = stride
            for part in reversed(parts):
                variable = affine(access.indices[tensor.ranks.index(part)]).variables[0]
                old = factors.get(variable)
                factors[variable] = f"({old} + {inner})" if old else inner
                inner = f"n_{part}*{inner}"
            stride = f"n_{rank}*{stride}" if stride != "1" else f"n_{rank}"
        return Place(factors)

    # ---- loading and storing ----

    def load(self, tensor: str) -> None:
        """Copy an input's lanes into its table, a split rank part by part."""
        text, dims = self.text, self.cascade.tensor(tensor).dims
        depth = text.depth
        text.line(f"# {tensor}: rows of lanes")
        names = {axis: f"i{axis}" for axis, _ in self.axes(tensor)}
        for axis, name in names.items():
            if dims[axis].rank != self.stage.sweep:
                text.line(f"for {name} in range(n_{dims[axis].rank}):")
                text.depth += 1
            else:
                names[axis] = f"f_{self.stage.sweep}"
        row = ""
        for axis, size in self.axes(tensor):
            at = "0" if dims[axis].rank == self.stage.sweep else names[axis]
            row = f"({row})*{size} + {at}" if row else at
        place = []
        ranks = self.cascade.tensor(tensor).ranks
        for rank in array_ranks(self.cascade, self.cascade.tensor(tensor), False):
            if rank == self.stage.lane:
                place.append("p0 + l")
                continue
            assert rank is not None
            parts = (rank,) if rank in ranks else self.cascade.parts_of(rank)
            whole = ""
            for part in parts:
                name = names[ranks.index(part)]
                whole = f"({whole})*n_{part} + {name}" if whole else name
            if len(parts) > 1:
                text.line(f"if {whole} < n_{rank}:")
                text.depth += 1
            place.append(whole)
        text.line("for l in range(lanes):")
        text.line(f"    x_{tensor}[{row or '0'}, l] = t_{tensor}[{', '.join(place)}]")
        text.depth = depth

    def store(self, tensor: str) -> None:
        """Copy a table to its output; empty elements stay 0."""
        text, dims = self.text, self.cascade.tensor(tensor).dims
        depth = text.depth
        text.line(f"# {tensor}: to the output")
        limits = self.stage.presence.elements.get(tensor, ()) if self.stage.presence else ()
        names = {str(axis): f"i{axis}" for axis in range(len(dims))}
        row = ""
        for axis, size in self.axes(tensor):
            text.line(f"for v_i{axis} in range({size}):")
            text.depth += 1
            row = f"({row})*{size} + v_i{axis}" if row else f"v_i{axis}"
        lane = next(i for i, dim in enumerate(dims) if dim.rank == self.stage.lane)
        bounds = self.lane_bounds([limit.renamed(names) for limit in limits], f"i{lane}", "lanes")
        place = ["p0 + l" if axis == lane else f"v_i{axis}" for axis in range(len(dims))]
        text.line(f"for l in range({', '.join(bounds)}):")
        text.line(f"    out_{tensor}[{', '.join(['b', *place])}] = x_{tensor}[{row or '0'}, l]")
        text.depth = depth

    # ---- limits ----

    def limits(self, einsum: Einsum) -> tuple[Limit, ...]:
        """Limits of an Einsum's points."""
        assert self.stage.presence is not None
        return self.stage.presence.points[self.stage.cascade.einsums.index(einsum)]

    def lane(self, einsum: Einsum) -> str:
        """The variable over lanes."""
        return next(v for v in einsum.left if self.cascade.rank_of(v) == self.stage.lane)

    def lane_bounds(self, limits: Sequence[Limit], lane: str, end: str) -> tuple[str, str]:
        """Write l0 and l1: where all limits hold, every other variable being known."""
        if not limits:
            return "0", end
        self.text.line(f"l0, l1 = 0, {end}")
        for limit in limits:
            factors = dict(limit.factors)
            own = factors.pop(lane, "0")
            rest = Place(factors, limit.rest).at()
            self.text.line(f"l0, l1 = q.narrow(l0, l1, {own}, {rest} + {own}*p0)")
        return "l0", "l1"

    def bounds(
        self, einsum: Einsum, variable: str, known: set[str], limits: Sequence[Limit]
    ) -> str:
        """Write the range of a row variable outside which all points are empty; return its text."""
        rank = self.cascade.rank_of(variable)
        limits = [limit for limit in limits if variable in limit.names]
        if not limits:
            return f"n_{rank}"
        terms = []
        for limit in limits:
            factors = dict(limit.factors)
            own = factors.pop(variable)
            rest = self.most(einsum, Limit(tuple(factors.items()), limit.rest), known)
            terms.append(f"{own}, {rest}")
        key = (rank, *terms)
        if key in self.spans:
            return self.spans[key]
        low, high = self.text.fresh("lo"), self.text.fresh("hi")
        self.text.line(f"{low}, {high} = 0, n_{rank}")
        for term in terms:
            self.text.line(f"{low}, {high} = q.narrow({low}, {high}, {term})")
        if not known - self.stepping(einsum):
            # Nothing but the step of the sweep goes into it, so all Einsums of a step share it.
            self.spans[key] = f"{low}, {high}"
        return f"{low}, {high}"

    def stepping(self, einsum: Einsum) -> set[str]:
        """Variables over the sweep."""
        return {v for v in einsum.variables if self.cascade.rank_of(v) == self.stage.sweep}

    def most(self, einsum: Einsum, limit: Limit, known: set[str], which: str = "most") -> str:
        """Text of the largest (or least) value of a form, over lanes and what is not known yet."""
        parts = [limit.rest]
        for variable, factor in limit.factors:
            if variable in known:
                parts.append(f"v_{variable}*{factor}")
            elif self.cascade.rank_of(variable) == self.stage.lane:
                parts.append(f"q.{which}({factor}, p0, p0 + lanes)")
            else:
                parts.append(f"q.{which}({factor}, 0, n_{self.cascade.rank_of(variable)})")
        return " + ".join(parts)

    # ---- the sweep ----

    def sweep(self) -> None:
        """Write the loop over the sweep, with the steps that change nothing left out."""
        stage, text = self.stage, self.text
        span = f"n_{stage.sweep}"
        if stage.is_descending:
            span += " - 1, -1, -1"
        skips = self.skipped()
        if skips:
            text.line("settled = False")
        self.spans.clear()
        with text.block(f"for f_{stage.sweep} in range({span}):"):
            if skips:
                for variable, rank in self.cascade.variables:
                    if rank == stage.sweep:
                        text.line(f"v_{variable} = f_{rank}")
                tests = []
                for einsum, limits in skips:
                    known = {v for v in einsum.variables if self.cascade.rank_of(v) == stage.sweep}
                    parts = [f"{self.most(einsum, limit, known)} >= 0" for limit in limits]
                    tests.append(" and ".join(parts))
                text.line(f"visited = {' or '.join(f'({test})' for test in tests)}")
                text.line("if not visited and settled:")
                text.line("    continue")
            for tensor in stage.cascade.inputs:
                if self.has_lanes(tensor) and self.on_sweep(tensor):
                    self.load(tensor)
            for einsum in stage.body:
                self.einsum(einsum)
            if skips:
                text.line("settled = not visited")
                for tensor, held in stage.storage:
                    if held == ROLLING:
                        text.line(f"settled = settled and q.is_settled(x_{tensor})")
            self.spans.clear()

    def skipped(self) -> list[tuple[Einsum, tuple[Limit, ...]]]:
        """Limits outside which a step does nothing of its own; none if steps always do."""
        stage = self.stage
        if any(held == WHOLE for _, held in stage.storage):
            return []
        if any(self.has_lanes(n) and self.on_sweep(n) for n in stage.cascade.inputs):
            return []
        found: dict[tuple[Limit, ...], Einsum] = {}
        for einsum in stage.body:
            limits = tuple(
                limit
                for limit in self.limits(einsum)
                if any(self.cascade.rank_of(v) == stage.sweep for v in limit.names)
            )
            if limits:
                # Variables of the limits may be named differently in another Einsum.
                ranks = {v: self.cascade.rank_of(v).lower() for x in limits for v in x.names}
                found.setdefault(tuple(limit.renamed(ranks) for limit in limits), einsum)
                continue
            steps = {v for v in einsum.variables if self.cascade.rank_of(v) == stage.sweep}
            free = {
                v
                for read in einsum.reads
                if not self.has_lanes(read.tensor)
                for v in variables_in(read)
            }
            if steps & free or steps & set(_names_outside(einsum)):
                return []
        # Limits are written on each Einsum's own variables.
        return [
            (
                einsum,
                tuple(
                    limit
                    for limit in self.limits(einsum)
                    if any(self.cascade.rank_of(v) == stage.sweep for v in limit.names)
                ),
            )
            for einsum in found.values()
        ]

    # ---- Einsums ----

    def einsum(self, einsum: Einsum) -> None:
        """Write one Einsum in its form."""
        text = self.text
        text.line(f"# {einsum}")
        known: set[str] = set()
        for variable in einsum.variables:
            if self.cascade.rank_of(variable) == self.stage.sweep and einsum in self.stage.body:
                text.line(f"v_{variable} = f_{self.stage.sweep}")
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
        text, lane = self.text, self.lane(einsum)
        limits = [x for x in self.limits(einsum) if not x.names & set(einsum.over)]
        masking = [limit for limit in limits if lane in limit.names]
        if einsum.name not in self.fills or not masking:
            return
        text.line(f"if not {self.full(einsum, known, masking)}:")
        text.depth += 1
        for variable in einsum.left:
            if variable != lane and variable not in known:
                span = self.bounds(einsum, variable, known, limits)
                text.line(f"for v_{variable} in range({span}):")
                text.depth += 1
                known = known | {variable}
        self.lane_bounds(masking, lane, str(self.width))
        row = f"x_{einsum.name}[{self.row(einsum.target).at()}]"
        text.line(f"q.leave_empty({row}, l0, l1, {self.fills[einsum.name]})")

    def full(self, einsum: Einsum, known: set[str], limits: Sequence[Limit]) -> str:
        """Write whether limits hold for all rows and lanes; return the name of that."""
        terms = [f"{self.most(einsum, limit, known, 'least')} >= 0" for limit in limits]
        key = ("full", *terms)
        if key not in self.spans:
            name = self.text.fresh("full")
            self.text.line(f"{name} = {' and '.join(terms)}")
            if known - self.stepping(einsum):
                return name
            self.spans[key] = name
        return self.spans[key]

    def operands(self, einsum: Einsum) -> tuple[Access, Access] | None:
        """The operand without lanes and the one with them, if an Einsum is a contraction."""
        match einsum.map:
            case Apply(operator="mul", arguments=(Access() as a, Access() as b)):
                pass
            case _:
                return None
        if self.has_lanes(a.tensor):
            a, b = b, a
        # Hardware numbers have an order of addition, which the kernel has not.
        if self.numbers is not None:
            return None
        if einsum.op != "sum" or self.has_lanes(a.tensor) or not self.has_lanes(b.tensor):
            return None
        if a.tensor not in self.stage.cascade.inputs:
            return None
        rows, inner = self.inner(einsum, a, b)
        if rows is None or inner is None:
            return None
        lane = self.lane(einsum)
        filled = self.own_limits(b)
        for limit in self.limits(einsum):
            if not limit.names & set(einsum.over) or limit in filled:
                continue
            if lane in limit.names or (rows in limit.names and inner in limit.names):
                return None
        return a, b

    def inner(self, einsum: Einsum, a: Access, b: Access) -> tuple[str | None, str | None]:
        """The kept variable of a alone and the reduced one of both that the kernel runs over."""
        of_a, of_b = set(variables_in(a)), set(variables_in(b))
        sweep = self.stage.sweep
        kept = [v for v in einsum.left if v in of_a - of_b and self.cascade.rank_of(v) != sweep]
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
        text, lane = self.text, self.lane(einsum)
        limits = self.limits(einsum)
        element = [limit for limit in limits if not limit.names & set(einsum.over)]
        for variable in einsum.left:
            if variable not in (rows, lane) and variable not in known:
                text.line(
                    f"for v_{variable} in range({self.bounds(einsum, variable, known, element)}):"
                )
                text.depth += 1
                known = known | {variable}
        low, count = self.span(einsum, rows, known, element)
        target, left, right = self.row(einsum.target), self.element(a), self.row(b)
        outer = [v for v in einsum.over if v != inner]
        base = f"({target.at(rows)} + {low}*{target.factors[rows]})"
        step = target.factors[rows]
        adds = bool(outer)
        if adds:
            with text.block(f"for i in range({count}):"):
                text.line(f"q.start(x_{einsum.name}[{base} + i*{step}], F(0))")
        for variable in outer:
            text.line(f"for v_{variable} in range({self.bounds(einsum, variable, known, limits)}):")
            text.depth += 1
            known = known | {variable}
        first, length = self.span(einsum, inner, known, limits)
        w = self.width
        of_rows, of_inner = left.factors[rows], left.factors[inner]
        text.line(
            f"q.contract(w_{a.tensor}, {left.at(rows, inner)} + {low}*{of_rows} "
            f"+ {first}*{of_inner}, {of_rows}, {of_inner},"
        )
        text.line(
            f"    u_{b.tensor}, ({right.at(inner)} + {first}*{right.factors[inner]})*{w}, "
            f"{right.factors[inner]}*{w},"
        )
        text.line(f"    u_{einsum.name}, {base}*{w}, {step}*{w}, {count}, {length}, {w}, {adds})")

    def span(
        self, einsum: Einsum, variable: str, known: set[str], limits: Sequence[Limit]
    ) -> tuple[str, str]:
        """Write the range of a variable that the kernel runs over: where it starts, how long."""
        found = self.bounds(einsum, variable, known, limits)
        if "," not in found:
            return "0", found
        low, high = found.split(", ")
        return low, f"({high} - {low})"

    def rowwise(self, einsum: Einsum, known: set[str]) -> None:
        """Write a map, or a reduction over rows."""
        text, lane = self.text, self.lane(einsum)
        limits = self.limits(einsum)
        element = [limit for limit in limits if not limit.names & set(einsum.over)]
        row = REDUCTIONS[einsum.op] if einsum.op is not None else None
        for variable in einsum.left:
            if variable != lane and variable not in known:
                text.line(
                    f"for v_{variable} in range({self.bounds(einsum, variable, known, element)}):"
                )
                text.depth += 1
                known = known | {variable}
        target = text.fresh("z")
        text.line(f"{target} = x_{einsum.name}[{self.row(einsum.target).at()}]")
        if row is not None:
            text.line(f"q.start({target}, {literal(row.identity, 'F')})")
            for variable in einsum.over:
                text.line(
                    f"for v_{variable} in range({self.bounds(einsum, variable, known, limits)}):"
                )
                text.depth += 1
                known = known | {variable}
        # A limit without lanes and rows would be nobody's: it is taken as one on lanes.
        masking = [x for x in limits if lane in x.names or not x.names - self.stepping(einsum)]
        masked = row is not None and masking and not self.is_filled(einsum, masking)
        if masked:
            self.lane_bounds(masking, lane, str(self.width))
        views = _Views(self, Text(depth=text.depth + 1))
        result = value(einsum.map, views.inner, views, arithmetic_of(self.numbers, einsum))
        result = f"F({rounded(self.numbers, einsum, result)})"
        text.lines += views.outer(text)
        with text.block(f"for l in range({self.width}):"):
            if lane in set(_names_outside(einsum)):
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
        return set(masking) <= set(self.own_limits(access))

    def own_limits(self, access: Access) -> list[Limit]:
        """Limits of a table's elements, on the variables of an access."""
        assert self.stage.presence is not None
        names = {str(axis): v for axis, i in enumerate(access.indices) for v in variables_in(i)}
        found = self.stage.presence.elements.get(access.tensor, ())
        return [limit.renamed(names) for limit in found]


def _names_outside(einsum: Einsum) -> Iterator[str]:
    """Variables of a map used as numbers, outside of accesses."""

    def visit(node: object) -> Iterator[str]:
        if isinstance(node, Access):
            return
        if isinstance(node, Apply):
            for argument in node.arguments:
                yield from visit(argument)
        else:
            yield from variables_in(node)  # type: ignore[arg-type]

    yield from visit(einsum.map)


@dataclass(slots=True)
class _Views:
    """Reads of one row: tables become views of a row, everything else is read before the lanes."""

    kernel: _Kernel
    inner: Text
    known: dict[Access, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    def access(self, access: Access) -> str:
        """See Reader."""
        kernel = self.kernel
        if access not in self.known:
            name = kernel.text.fresh("y")
            if kernel.has_lanes(access.tensor):
                self.lines.append(f"{name} = x_{access.tensor}[{kernel.row(access).at()}]")
                self.known[access] = f"{name}[l]"
            else:
                place = kernel.element(access).at() if access.indices else "0"
                self.lines.append(f"{name} = w_{access.tensor}[{place}]")
                self.known[access] = name
        return self.known[access]

    @contextmanager
    def chosen(self, holds: str, variables: tuple[str, ...]) -> Iterator[None]:
        """See Reader: both branches are read everywhere, since neither may be empty."""
        yield

    def outer(self, text: Text) -> list[str]:
        """Lines before the loop over lanes."""
        return ["    " * text.depth + line for line in self.lines]
