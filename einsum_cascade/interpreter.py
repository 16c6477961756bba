"""The naive interpreter: every Einsum as written, over its whole iteration space, in NumPy.

This is the oracle, so it does nothing clever. An Einsum is evaluated at every point of the space
of its variables by indexing each tensor with coordinate grids; recurrences run coordinate by
coordinate. It needs memory for the whole space of the largest Einsum (in slices along one kept
variable) and is meant for sizes up to a few thousand tokens.

Emptiness: a point is empty if it reads an element that is outside an input's shape or empty
itself, or if the filter excludes it. Reductions skip empty points. Where emptiness comes from the
kept variables alone (a key behind the end, `where m <= p` on QK[m,p]), the element is empty too;
where it comes from a reduced variable, a reduction of nothing is the operator's identity. Empty
elements of an output are written as 0.

Batches: leading extra axes of an array are batch axes. They are broadcast against each other, and
an axis whose size divides the largest serves a group (grouped-query attention).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from einsum_cascade.arguments import Arguments, read_arguments
from einsum_cascade.array_shapes import array_groups, batch_index, computed_shape
from einsum_cascade.cascade import Cascade, Einsum, Tensor, affine, variables_in
from einsum_cascade.errors import CascadeError
from einsum_cascade.expressions import (
    VARIABLE,
    Access,
    Apply,
    Compare,
    Condition,
    Expr,
    Logic,
    Name,
    Number,
    Select,
)
from einsum_cascade.formats import flush, to_bf16
from einsum_cascade.hardware_numbers import Numbers, numbers_of
from einsum_cascade.operator_values import RELATIONS, VALUES
from einsum_cascade.operators import REDUCTIONS
from einsum_cascade.ordering import Loop, Plan, plan

Array = NDArray[Any]
# Points of an iteration space evaluated at once; bounds memory to a few hundred MiB.
SLICE_POINTS = 1 << 22
FLOAT64 = VALUES


@dataclass(frozen=True, slots=True)
class _Values:
    """A tensor's values and which of its elements are not empty."""

    data: Array
    present: Array
    # Axes along which presence may differ; grows while the tensor is being written.
    varying: set[int]


def evaluate(
    cascade: Cascade,
    *,
    sizes: Mapping[str, int] | None = None,
    format: str | None = None,
    exp: str | None = None,
    **arrays: Any,
) -> dict[str, Array]:
    """Compute a cascade's outputs the obvious way, in float64.

    Args:
        cascade: a legal cascade.
        sizes: sizes of ranks that the arrays leave open (M0 of a split, k of a top-k).
        format: "bf16" or "fp32": hardware numbers instead, bit by bit (`hardware_numbers`).
        exp: the unit for exponentials of hardware numbers, one of `exp_units.UNITS`.
        **arrays: one array for each input, axes in the tensor's written rank order, a split rank
            given whole (M) or split (M1, M0), any batch axes first; and one number for each
            parameter without a value.

    Returns:
        One array for each output, batch axes first, axes in written rank order. A split rank of
        an output stays split.

    Raises:
        CascadeError: an array or a parameter is missing or superfluous, or sizes disagree.

    Example:
        >>> from einsum_cascade.legality import parse
        >>> out = evaluate(parse("Z = A[k]*B[k]"), A=[1, 2], B=[3, 4])
        >>> float(out["Z"])
        11.0
    """
    numbers = None if format is None else numbers_of(cascade, format, exp)
    return evaluated(cascade, read_arguments(cascade, sizes, arrays), numbers)


def evaluated(cascade: Cascade, given: Arguments, numbers: Numbers | None) -> dict[str, Array]:
    """The same with arguments that were read already."""
    steps = plan(cascade.einsums, dict(cascade.variables))
    results: dict[str, list[Array]] = {name: [] for name in cascade.outputs}
    for point in np.ndindex(*given.batch):
        tensors = {}
        for name, array in given.arrays.items():
            part = array[batch_index(array.shape[: given.batch_axes[name]], given.batch, point)]
            if numbers is not None:
                part = to_bf16(part) if numbers.format == "bf16" else flush(part)
            tensor = cascade.tensor(name)
            tensors[name] = _split(cascade, tensor, part, given.extents, given.is_split[name])
        _Run(cascade, given.extents, given.parameters, tensors, numbers).run(steps, {})
        for name in cascade.outputs:
            values = tensors[name]
            results[name].append(np.where(values.present, values.data, 0.0))
    return {
        name: np.array(r, np.float64).reshape(
            (*given.batch, *computed_shape(cascade, name, given.extents))
        )
        for name, r in results.items()
    }


def _split(
    cascade: Cascade, tensor: Tensor, array: Array, extents: Mapping[str, int], is_split: bool
) -> _Values:
    """Bring one array to the tensor's written ranks; a ragged last tile is padded with empty."""
    data = np.asarray(array, dtype=np.float64)
    present = np.ones(data.shape, dtype=bool)
    varying: set[int] = set()
    if not is_split:
        groups = array_groups(cascade, tensor)
        for axis, (_, axes) in reversed(list(enumerate(groups))):
            if len(axes) > 1:
                shape = tuple(extents[tensor.ranks[part] or ""] for part in axes)
                pad = [(0, 0)] * data.ndim
                pad[axis] = (0, int(np.prod(shape)) - data.shape[axis])
                full = (*data.shape[:axis], *shape, *data.shape[axis + 1 :])
                data = np.pad(data, pad).reshape(full)
                present = np.pad(present, pad).reshape(full)
                varying |= set(axes)
        # Parts that are not next to each other, or not outermost first.
        order = np.argsort([axis for _, axes in groups for axis in axes])
        data, present = data.transpose(order), present.transpose(order)
    return _Values(data, present, varying)


@dataclass(frozen=True, slots=True)
class _Run:
    """One evaluation: extents and parameters, and the tensors computed so far (filled in)."""

    cascade: Cascade
    extents: Mapping[str, int]
    parameters: Mapping[str, float]
    tensors: dict[str, _Values]
    # Hardware numbers, if it computes in those.
    numbers: Numbers | None

    def run(self, steps: Plan, fixed: Mapping[str, int]) -> None:
        """Run a plan; `fixed` maps ranks of enclosing recurrences to their coordinate."""
        for step in steps:
            if isinstance(step, Loop):
                # Without a step of the loop, all that is computed in it is there and has no size.
                for einsum in step.einsums:
                    self.target(einsum)
                coordinates = range(self.extents[step.rank])
                for at in reversed(coordinates) if step.is_descending else coordinates:
                    self.run(step.body, {**fixed, step.rank: at})
            else:
                self.einsum(step, fixed)

    def einsum(self, einsum: Einsum, fixed: Mapping[str, int]) -> None:
        """Evaluate one Einsum, in slices along its first free kept variable if it is large."""
        rank_of = self.cascade.rank_of
        ranges = {v: np.arange(self.extents[rank_of(v)]) for v in einsum.variables}
        for variable in einsum.left:
            if rank_of(variable) in fixed:
                ranges[variable] = np.array([fixed[rank_of(variable)]])
        target = self.target(einsum)
        points = int(np.prod([len(r) for r in ranges.values()], dtype=object))
        # What a populate fills comes from one sort, so it can't be cut.
        whole = einsum.filled if einsum.op is not None and REDUCTIONS[einsum.op].selects else None
        kept = (v for v in einsum.left if v != whole)
        free = max(kept, key=lambda v: len(ranges[v]), default=None)
        if free is None or points <= SLICE_POINTS:
            self.slice(einsum, ranges, target)
            return
        step = max(1, len(ranges[free]) * SLICE_POINTS // points)
        for start in range(0, len(ranges[free]), step):
            self.slice(einsum, {**ranges, free: ranges[free][start : start + step]}, target)

    def target(self, einsum: Einsum) -> _Values:
        """Return the tensor an Einsum writes, made empty when it is first written."""
        if einsum.name not in self.tensors:
            dims = self.cascade.tensor(einsum.name).dims
            shape = tuple(
                self.extents[dim.rank] + dim.extra
                if dim.rank
                else 1 + max(self.fixed_coordinates(einsum.name, axis))
                for axis, dim in enumerate(dims)
            )
            self.tensors[einsum.name] = _Values(np.zeros(shape), np.zeros(shape, dtype=bool), set())
        return self.tensors[einsum.name]

    def fixed_coordinates(self, name: str, axis: int) -> list[int]:
        """Coordinates that definitions of a tensor set along a rank that no variable fills."""
        indices = [e.target.indices[axis] for e in self.cascade.defining(name)]
        return [affine(i).step or 0 for i in indices]

    def slice(self, einsum: Einsum, ranges: Mapping[str, Array], target: _Values) -> None:
        """Evaluate an Einsum over the given coordinates of each variable."""
        order = (*einsum.left, *(v for v in ranges if v not in einsum.left))
        # A populated variable (k of a top-k) is written but not iterated over.
        selects = einsum.op is not None and REDUCTIONS[einsum.op].selects
        if selects:
            order = tuple(v for v in order if v != einsum.filled)
        grid = {v: ranges[v].reshape([-1 if w == v else 1 for w in order]) for v in order}
        shape = tuple(len(ranges[v]) for v in order)
        functions = FLOAT64
        if self.numbers is not None and einsum.name not in self.numbers.loaded:
            functions = self.numbers.functions(einsum)
        point = _Point(self, grid, set(einsum.over), np.ones(shape, dtype=bool), functions)
        values = np.broadcast_to(np.asarray(point.value(einsum.map), dtype=np.float64), shape)
        if self.numbers is not None:
            values = self.numbers.rounded(einsum, values)
        if einsum.where is not None:
            point.filter(einsum.where)
        present = point.present
        axes = tuple(order.index(v) for v in einsum.over)
        left = {v: ranges[v] for v in einsum.left}
        if selects:
            values, present = _select(einsum, values, present, axes[0], len(left[einsum.filled]))
            kept = [v for v in order if v not in einsum.over]
            lined = [*kept, einsum.filled]
            values = np.transpose(values, [lined.index(v) for v in einsum.left])
            present = np.transpose(present, [lined.index(v) for v in einsum.left])
        elif einsum.op is not None:
            row = REDUCTIONS[einsum.op]
            values = np.where(present, values, row.identity)
            reducer: Any = {"add": np.add, "max": np.maximum, "min": np.minimum}.get(row.combine)
            # A product is the language's, in which nothing times infinity is nothing.
            if self.numbers is not None or reducer is None:
                numbers = self.numbers
                own = FLOAT64 if numbers is None else numbers.functions(einsum)
                combine = own[row.combine]
                values = _one_by_one(combine, values, present, axes, row.identity)
            else:
                with np.errstate(invalid="ignore", over="ignore", under="ignore"):
                    values = reducer.reduce(values, axis=axes, initial=row.identity)
            # Emptiness of kept variables does not vary along the reduced axes, which may be empty.
            present = np.asarray(np.broadcast_to(point.element, shape).all(axis=axes))
        place = self.place(einsum, left)
        for axis, variable in enumerate(_axes(einsum)):
            if selects or variable in point.causes:
                target.varying.add(axis)
        target.data[place] = values
        target.present[place] = present

    def place(self, einsum: Einsum, left: Mapping[str, Array]) -> tuple[Any, ...]:
        """Index arrays that say where the left side's points lie in the target."""
        names = list(left)
        grid = {v: left[v].reshape([-1 if w == v else 1 for w in names]) for v in names}
        point = _Point(self, grid, set(), np.ones((), dtype=bool), FLOAT64)
        found = []
        for index, size in zip(
            einsum.target.indices, self.tensors[einsum.name].data.shape, strict=True
        ):
            at = np.asarray(point.value(index)).astype(np.intp)
            if at.size and at.max() >= size:
                message = f"coordinate {at.max()} of {einsum.target} is beyond its {size}"
                span = index.span
                hint = "a rank that a variable also fills must be large enough for it"
                raise CascadeError(einsum.line.problem(message, span.start, span.end, hint))
            found.append(at)
        return tuple(found)


def _one_by_one(
    combine: Callable[..., Array],
    values: Array,
    present: Array,
    axes: tuple[int, ...],
    start: float,
) -> Array:
    """A reduction in the order of its variables, point after point; one point is left per axis."""
    rest = values.ndim - len(axes)
    lined = np.moveaxis(values, axes, range(rest, values.ndim))
    here = np.moveaxis(present, axes, range(rest, values.ndim))
    total = np.full(lined.shape[:rest], start)
    for at in np.ndindex(*lined.shape[rest:]):
        place = (..., *at)
        total = np.where(here[place], combine(total, lined[place]), total)
    return total


def _axes(einsum: Einsum) -> list[str | None]:
    """The variable of each left index; None for a fixed coordinate."""
    return [(variables_in(index) or (None,))[0] for index in einsum.target.indices]


def _select(
    einsum: Einsum, values: Array, present: Array, axis: int, count: int
) -> tuple[Array, Array]:
    """The `count` largest along an axis, best first, ties by coordinate; new axis last."""
    ranked = np.where(present, values, -np.inf)
    ranked = np.moveaxis(ranked, axis, -1)
    here = np.moveaxis(present, axis, -1)
    order = np.argsort(-ranked, axis=-1, kind="stable")
    # Empty elements come last even behind a present -inf.
    order = np.take_along_axis(
        order, np.argsort(~np.take_along_axis(here, order, -1), axis=-1, kind="stable"), -1
    )[..., :count]
    result = order if einsum.op == "argtopk" else np.take_along_axis(ranked, order, -1)
    chosen = np.take_along_axis(here, order, -1)
    missing = count - result.shape[-1]
    if missing > 0:
        pad = [(0, 0)] * (result.ndim - 1) + [(0, missing)]
        result, chosen = np.pad(result, pad), np.pad(chosen, pad)
    return result.astype(np.float64), chosen


@dataclass(slots=True)
class _Point:
    """All points of one slice at once: coordinate grids, and which points are not empty.

    `present` is about points, `element` about what the kept variables alone say; `causes` are
    the variables on which that depends. While a branch of a selection is computed, `chosen` says
    where it is chosen and `choosers` are the variables that decide it.
    """

    run: _Run
    grid: Mapping[str, Array]
    reduced: set[str]
    present: Array
    functions: Mapping[str, Callable[..., Array]]
    element: Array = field(default_factory=lambda: np.ones((), dtype=bool))
    causes: set[str] = field(default_factory=set)
    chosen: Array = field(default_factory=lambda: np.ones((), dtype=bool))
    choosers: frozenset[str] = frozenset()

    def exclude(self, empty: Array, variables: set[str]) -> None:
        """Empty the points where `empty` holds, which depends on `variables`."""
        empty, variables = empty & self.chosen, variables | self.choosers
        if not empty.any():
            return
        self.present = self.present & ~empty
        if not variables & self.reduced:
            self.element = self.element & ~empty
            self.causes |= variables

    def filter(self, condition: Condition) -> None:
        """Exclude points by a filter; the terms of an `and` count one by one."""
        if isinstance(condition, Logic) and condition.word == "and":
            for term in condition.terms:
                self.filter(term)
        else:
            self.exclude(~self.truth(condition), set(variables_in(condition)))

    def value(self, expr: Expr) -> Any:
        """Value of an expression at every point; marks points that read an empty element."""
        # Everything is float64, which holds coordinates and extents exactly.
        match expr:
            case Number(value=value):
                return float(value)
            case Name(name=name) if VARIABLE.match(name):
                return self.grid[name].astype(np.float64)
            case Name(name=name):
                number = self.run.extents.get(name, self.run.parameters.get(name))
                return np.float64(number)
            case Access():
                return self.read(expr)
            case Apply(operator=operator, arguments=arguments):
                values = [np.asarray(self.value(argument)) for argument in arguments]
                return self.functions[operator](*values)
            case Select(condition=condition, then=then, otherwise=otherwise):
                holds = self.truth(condition)
                choosers = self.choosers | set(variables_in(condition))
                # A condition that reads something empty chooses neither.
                chosen = self.chosen & self.present
                first = self.branch(then, chosen & holds, choosers)
                return np.where(holds, first, self.branch(otherwise, chosen & ~holds, choosers))
        raise AssertionError(expr)

    def branch(self, expr: Expr, chosen: Array, choosers: frozenset[str]) -> Any:
        """Value of a branch of a selection, which empties points only where it is chosen."""
        before = self.chosen, self.choosers
        self.chosen, self.choosers = chosen, choosers
        value = self.value(expr)
        self.chosen, self.choosers = before
        return value

    def read(self, access: Access) -> Array:
        """Read a tensor at every point; what lies outside or is empty empties the point."""
        source = self.run.tensors[access.tensor]
        place = []
        causes: set[str] = set()
        there = np.ones((), dtype=bool)
        for axis, (index, size) in enumerate(zip(access.indices, source.data.shape, strict=True)):
            variables = set(variables_in(index))
            at = np.asarray(self.value(index))
            # Written so that NaN, which a gather may find, lies outside too.
            inside = (at >= 0) & (at < size)
            self.exclude(~inside, variables)
            place.append(np.where(inside, at, 0).astype(np.intp))
            there = there & inside
            causes |= variables if axis in source.varying else set()
        if 0 in source.data.shape:
            # Nothing to read: every point is outside already.
            return np.zeros(())
        present = source.present[tuple(place)]
        self.exclude(~present, causes)
        # A filter on what is empty says something, too: the same, whatever lies there.
        return np.where(there & present, source.data[tuple(place)], 0.0)

    def truth(self, condition: Condition) -> Array:
        """Where a filter holds."""
        match condition:
            case Compare(symbol=symbol, left=left, right=right):
                return np.asarray(RELATIONS[symbol](self.value(left), self.value(right)))
            case Logic(word="not", terms=(term,)):
                return ~self.truth(term)
            case Logic(word=word, terms=terms):
                join = np.logical_and if word == "and" else np.logical_or
                result = self.truth(terms[0])
                for term in terms[1:]:
                    result = join(result, self.truth(term))
                return result
        raise AssertionError(condition)
