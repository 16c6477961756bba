"""Where values of a stage lie: tables of rows by lanes, and flat arrays without lanes.

A table has all ranks of a tensor but the lanes' as rows, the sweep's first: one slab of it, or two
steps of a state in turns, or all of it. Offsets are linear in index variables, as text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from einsum_cascade.array_shapes import array_groups
from einsum_cascade.cascade import Affine, Cascade, Einsum, affine, variables_in
from einsum_cascade.compiled_plan import ROLLING, SLAB, WHOLE, Stage
from einsum_cascade.compiled_presence import Limit, plus, times
from einsum_cascade.compiled_text import integer
from einsum_cascade.expressions import Access


@dataclass(frozen=True, slots=True)
class Place:
    """A linear offset: factor times variable, plus a rest, all as text."""

    factors: Mapping[str, str]
    rest: str = "0"

    def at(self, *free: str) -> str:
        """Text of the offset with some variables at 0."""
        terms = [times(f"v_{v}", f) for v, f in self.factors.items() if v not in free]
        return plus(*terms, self.rest)


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables of a stage with tiles of so many lanes; `cascade` is all of it."""

    cascade: Cascade
    stage: Stage
    width: int

    def names(self) -> list[str]:
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

    def by_step(self, tensor: str) -> bool:
        """True if an input is copied to its table step by step of the sweep."""
        return self.on_sweep(tensor) and self.held(tensor) == SLAB

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
            is_step = self.on_sweep(access.tensor) and dim.rank == self.stage.sweep
            if is_step:
                rest = self.step_row(access, axis, form, stride)
            if form.variables and (not is_step or self.held(access.tensor) == WHOLE):
                # On two axes it is a diagonal.
                old = factors.get(form.variables[0])
                factors[form.variables[0]] = f"({old} + {stride})" if old else stride
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
                return times(str(step), stride)
            at = plus(f"v_{form.variables[0]}", str(step))
            return times(f"(({at}) & 1)", stride)
        number = integer(access.indices[axis])
        assert number is not None
        return times(number if held == WHOLE else f"({number} & 1)", stride)

    def element(self, access: Access) -> Place:
        """The offset of an access in a flat array without lanes, whose split ranks are whole."""
        tensor = self.cascade.tensor(access.tensor)
        factors: dict[str, str] = {}
        stride = "1"
        for rank, axes in reversed(array_groups(self.cascade, tensor)):
            inner = stride
            for axis in reversed(axes):
                part = tensor.ranks[axis]
                variable = affine(access.indices[axis]).variables[0]
                old = factors.get(variable)
                factors[variable] = f"({old} + {inner})" if old else inner
                inner = f"n_{part}*{inner}"
            stride = f"n_{rank}*{stride}" if stride != "1" else f"n_{rank}"
        return Place(factors)

    def limits(self, einsum: Einsum) -> tuple[Limit, ...]:
        """Limits of an Einsum's points."""
        assert self.stage.presence is not None
        return self.stage.presence.points[self.stage.cascade.einsums.index(einsum)]

    def lane(self, einsum: Einsum) -> str:
        """The variable over lanes."""
        return next(v for v in einsum.left if self.cascade.rank_of(v) == self.stage.lane)

    def own_limits(self, access: Access) -> list[Limit]:
        """Limits of a table's elements, on the variables of an access."""
        assert self.stage.presence is not None
        names = {str(axis): v for axis, i in enumerate(access.indices) for v in variables_in(i)}
        found = self.stage.presence.elements.get(access.tensor, ())
        return [limit.renamed(names) for limit in found]

    def stepping(self, einsum: Einsum) -> set[str]:
        """Variables over the sweep, inside of it; outside they are rows like any other."""
        if einsum not in self.stage.body:
            return set()
        return {v for v in einsum.variables if self.cascade.rank_of(v) == self.stage.sweep}
