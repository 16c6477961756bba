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

import re
from dataclasses import dataclass

from einsum_cascade.array_shapes import array_groups
from einsum_cascade.cascade import Cascade, Einsum, variables_in
from einsum_cascade.compiled_bounds import Bounds
from einsum_cascade.compiled_forms import Forms, names_outside
from einsum_cascade.compiled_plan import ROLLING, WHOLE, Stage
from einsum_cascade.compiled_presence import Limit
from einsum_cascade.compiled_steps import JIT, write_head
from einsum_cascade.compiled_tables import Tables
from einsum_cascade.compiled_text import Text
from einsum_cascade.hardware_numbers import Numbers

# Steps of a sweep that an input is read for at once, if memory runs along them.
STEPS = 16


def write_stage(
    cascade: Cascade, stage: Stage, name: str, width: int, numbers: Numbers | None, text: Text
) -> None:
    """Write the kernel of a stage as function `name`; `cascade` is all of it."""
    tables = Tables(cascade, stage, width)
    bounds = Bounds(tables, text)
    _Kernel(tables, bounds, Forms(tables, bounds, numbers, text), text).write(name)


@dataclass(slots=True)
class _Kernel:
    tables: Tables
    bounds: Bounds
    forms: Forms
    text: Text

    def write(self, name: str) -> None:
        """Write the function."""
        stage, text = self.tables.stage, self.text
        part = stage.cascade
        self.forms.prepare()
        arrays = [f"in_{n}" for n in part.inputs] + [f"out_{n}" for n in part.outputs]
        text.line(JIT)
        with text.block(f"def {name}(b, tile, at, n, par, {', '.join(arrays)}):"):
            write_head(self.tables.cascade, text)
            text.line(f"p0 = tile*{self.tables.width}")
            text.line(f"lanes = min({self.tables.width}, n_{stage.lane} - p0)")
            for i, tensor in enumerate(part.inputs):
                scalar = not part.tensor(tensor).dims
                tail = f" : at[b, {i}] + 1" if scalar else ""
                text.line(f"t_{tensor} = in_{tensor}[at[b, {i}]{tail}]")
                if not self.tables.has_lanes(tensor):
                    text.line(f"w_{tensor} = t_{tensor}.reshape(-1)")
            for tensor in self.tables.names():
                text.line(
                    f"x_{tensor} = np.zeros(({self.tables.rows(tensor)}, {self.tables.width}), F)"
                )
                if tensor in self.forms.multiplied:
                    text.line(f"u_{tensor} = x_{tensor}.reshape(-1)")
            for tensor in part.inputs:
                if self.tables.has_lanes(tensor) and not self.tables.by_step(tensor):
                    self.load(tensor)
            for einsum in stage.before:
                self.forms.einsum(einsum)
            if stage.sweep:
                self.sweep()
            for einsum in stage.after:
                self.forms.einsum(einsum)
            for tensor in part.outputs:
                self.store(tensor)

    def load(self, tensor: str) -> None:
        """Copy an input's lanes into its table, a split rank part by part."""
        text, dims = self.text, self.tables.cascade.tensor(tensor).dims
        depth = text.depth
        # The rank along which one step is there at a time.
        sweep = self.tables.stage.sweep if self.tables.by_step(tensor) else None
        text.line(f"# {tensor}: rows of lanes")
        names = {axis: f"i{axis}" for axis, _ in self.tables.axes(tensor)}
        for axis, name in names.items():
            if dims[axis].rank != sweep:
                text.line(f"for {name} in range(n_{dims[axis].rank}):")
                text.depth += 1
            else:
                names[axis] = f"f_{sweep}"
        row = ""
        for axis, size in self.tables.axes(tensor):
            at = "0" if dims[axis].rank == sweep else names[axis]
            row = f"({row})*{size} + {at}" if row else at
        place = []
        cascade, ranks = self.tables.cascade, self.tables.cascade.tensor(tensor).ranks
        for rank, parts in array_groups(cascade, cascade.tensor(tensor)):
            if rank == self.tables.stage.lane:
                place.append("p0 + l")
                continue
            assert rank is not None
            whole = ""
            for axis in parts:
                whole = f"({whole})*n_{ranks[axis]} + {names[axis]}" if whole else names[axis]
            if len(parts) > 1:
                text.line(f"if {whole} < n_{rank}:")
                text.depth += 1
            place.append(whole)
        last = next(reversed(names.values()), "")
        if place[-1] == "p0 + l":
            text.line(f"z, y = x_{tensor}[{row or '0'}], t_{tensor}[{', '.join(place)[:-6]}p0:]")
            text.line("for l in range(lanes):")
            text.line("    z[l] = y[l]")
        elif last and place[-1] == last and text.lines[-1].lstrip().startswith(f"for {last} "):
            # Rows and lanes change places, many at once.
            text.lines.pop()
            rows = re.sub(rf"\b{last}\b", "0", row)
            at = ", ".join("p0 : p0 + lanes" if i == "p0 + l" else i for i in place[:-1])
            text.depth -= 1
            text.line(f"h.turn_over(x_{tensor}[{rows}:], t_{tensor}[{at}])")
        elif self.is_turned(tensor):
            # So many steps of the sweep at once.
            at = f"f_{self.tables.stage.sweep}"
            with text.block(f"if {at} // {STEPS} != b_{tensor}:"):
                text.line(f"b_{tensor} = {at} // {STEPS}")
                first = f"b_{tensor}*{STEPS}"
                span = f"{first} : min({first} + {STEPS}, n_{self.tables.stage.sweep})"
                text.line(f"h.turn_over(r_{tensor}, t_{tensor}[p0 : p0 + lanes, {span}])")
            text.line(f"x_{tensor}[0, :] = r_{tensor}[{at} % {STEPS}]")
        else:
            text.line("for l in range(lanes):")
            text.line(f"    x_{tensor}[{row or '0'}, l] = t_{tensor}[{', '.join(place)}]")
        text.depth = depth

    def is_turned(self, tensor: str) -> bool:
        """True if memory of an input runs along the sweep, lane after lane."""
        stage = self.tables.stage
        is_across = self.tables.cascade.tensor(tensor).ranks == (stage.lane, stage.sweep)
        return is_across and self.tables.by_step(tensor)

    def store(self, tensor: str) -> None:
        """Copy a table to its output; empty elements stay 0."""
        text, dims = self.text, self.tables.cascade.tensor(tensor).dims
        depth = text.depth
        text.line(f"# {tensor}: to the output")
        limits = (
            self.tables.stage.presence.elements.get(tensor, ())
            if self.tables.stage.presence
            else ()
        )
        names = {str(axis): f"i{axis}" for axis in range(len(dims))}
        row, axes = "", self.tables.axes(tensor)
        lane = next(i for i, dim in enumerate(dims) if dim.rank == self.tables.stage.lane)
        # Rows and lanes change places, many at once.
        is_turned = bool(axes) and axes[-1][0] == len(dims) - 1 and not limits
        for axis, size in axes[: -1 if is_turned else None]:
            text.line(f"for v_i{axis} in range({size}):")
            text.depth += 1
            row = f"({row})*{size} + v_i{axis}" if row else f"v_i{axis}"
        place = ["p0 + l" if axis == lane else f"v_i{axis}" for axis in range(len(dims))]
        if is_turned:
            size = axes[-1][1]
            rows = f"({row})*{size}" if row else "0"
            at = ", ".join("p0 : p0 + lanes" if i == "p0 + l" else i for i in ["b", *place[:-1]])
            text.line(
                f"h.turn_over(out_{tensor}[{at}], x_{tensor}[{rows} : {rows} + {size}, :lanes])"
            )
        else:
            bounds = self.bounds.lane_bounds(
                [limit.renamed(names) for limit in limits], f"i{lane}", "lanes"
            )
            text.line(f"for l in range({', '.join(bounds)}):")
            text.line(f"    out_{tensor}[{', '.join(['b', *place])}] = x_{tensor}[{row or '0'}, l]")
        text.depth = depth

    def sweep(self) -> None:
        """Write the loop over the sweep, with the steps that change nothing left out."""
        stage, text = self.tables.stage, self.text
        span = f"n_{stage.sweep}"
        if stage.is_descending:
            span += " - 1, -1, -1"
        skips = self.skipped()
        if skips:
            text.line("settled = False")
        for tensor in stage.cascade.inputs:
            if self.is_turned(tensor):
                text.line(
                    f"r_{tensor}, b_{tensor} = np.zeros(({STEPS}, {self.tables.width}), F), -1"
                )
        self.bounds.spans.clear()
        with text.block(f"for f_{stage.sweep} in range({span}):"):
            if skips:
                for variable, rank in self.tables.cascade.variables:
                    if rank == stage.sweep:
                        text.line(f"v_{variable} = f_{rank}")
                tests = []
                for einsum, limits in skips:
                    known = {
                        v for v in einsum.variables if self.tables.cascade.rank_of(v) == stage.sweep
                    }
                    parts = [f"{self.bounds.most(einsum, limit, known)} >= 0" for limit in limits]
                    tests.append(" and ".join(parts))
                text.line(f"visited = {' or '.join(f'({test})' for test in tests)}")
                text.line("if not visited and settled:")
                text.line("    continue")
            for tensor in stage.cascade.inputs:
                if self.tables.has_lanes(tensor) and self.tables.by_step(tensor):
                    self.load(tensor)
            for einsum in stage.body:
                self.forms.einsum(einsum)
            if skips:
                text.line("settled = not visited")
                for tensor, held in stage.storage:
                    if held == ROLLING:
                        text.line(f"settled = settled and q.is_settled(x_{tensor})")
            self.bounds.spans.clear()

    def skipped(self) -> list[tuple[Einsum, tuple[Limit, ...]]]:
        """Limits outside which a step does nothing of its own; none if steps always do."""
        stage = self.tables.stage
        if any(held == WHOLE for _, held in stage.storage):
            return []
        if any(self.tables.has_lanes(n) and self.tables.on_sweep(n) for n in stage.cascade.inputs):
            return []
        found: dict[tuple[Limit, ...], Einsum] = {}
        for einsum in stage.body:
            limits = tuple(
                limit
                for limit in self.tables.limits(einsum)
                if any(self.tables.cascade.rank_of(v) == stage.sweep for v in limit.names)
            )
            if limits:
                # Variables of the limits may be named differently in another Einsum.
                ranks = {v: self.tables.cascade.rank_of(v).lower() for x in limits for v in x.names}
                found.setdefault(tuple(limit.renamed(ranks) for limit in limits), einsum)
                continue
            steps = {v for v in einsum.variables if self.tables.cascade.rank_of(v) == stage.sweep}
            free = {
                v
                for read in einsum.reads
                if not self.tables.has_lanes(read.tensor)
                for v in variables_in(read)
            }
            if steps & free or steps & set(names_outside(einsum)):
                return []
        # Limits are written on each Einsum's own variables.
        return [
            (
                einsum,
                tuple(
                    limit
                    for limit in self.tables.limits(einsum)
                    if any(self.tables.cascade.rank_of(v) == stage.sweep for v in limit.names)
                ),
            )
            for einsum in found.values()
        ]
