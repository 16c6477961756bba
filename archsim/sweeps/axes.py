"""Axes of a sweep: paths and the values they take, one after the other or several together."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from archsim.errors import ArchError
from archsim.quantities import split_quantity
from einsum_cascade.documents import Document
from einsum_cascade.errors import Problem

# A value of an axis: what stands in the file, a number, text, list or mapping.
Value = Any


@dataclass(frozen=True)
class Axis:
    """Paths that take their values together: `values[i][j]` is the i-th value of path j."""

    paths: tuple[str, ...]
    values: tuple[tuple[Value, ...], ...]
    # The key under which it stands in the file.
    key: tuple[str, ...]

    @property
    def is_ordered(self) -> bool:
        """True if values are numbers, or quantities of one unit, in order."""
        first = [_magnitude(value[0]) for value in self.values]
        return len(self.paths) == 1 and None not in first and first == sorted(first, key=_none_last)


def _magnitude(value: Value) -> tuple[str, float] | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return "", float(value)
    parts = split_quantity(value) if isinstance(value, str) else None
    return (parts[1], float(parts[0])) if parts else None


def _none_last(magnitude: tuple[str, float] | None) -> tuple[str, float]:
    return magnitude or ("", 0.0)


def count(axes: tuple[Axis, ...]) -> int:
    """How many points all combinations are."""
    return prod(len(axis.values) for axis in axes)


def combinations(axes: tuple[Axis, ...]) -> Iterator[tuple[int, ...]]:
    """Every combination as an index into each axis; the last axis runs fastest."""
    from itertools import product

    return product(*(range(len(axis.values)) for axis in axes))


def assignment(axes: tuple[Axis, ...], chosen: tuple[int, ...]) -> dict[str, Value]:
    """The value of every path at one combination."""
    return {
        path: value
        for axis, index in zip(axes, chosen, strict=True)
        for path, value in zip(axis.paths, axis.values[index], strict=True)
    }


def cell(value: Value) -> str | int | float | bool | None:
    """A value as a cell of a table: lists and mappings as one line of JSON."""
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return json.dumps(value, separators=(", ", ": "))


def read_axes(document: Document, over: Mapping[str, Any]) -> tuple[Axis, ...]:
    """The axes of a sweep file; ArchError for values that can't be, at their places."""
    problems: list[Problem] = []
    axes = []
    taken: dict[str, str] = {}
    for key, given in over.items():
        paths = tuple(part.strip() for part in key.split(","))
        for path in paths:
            if not path or path in taken:
                what = f"the path '{path}' is varied twice" if path else "a path is empty"
                hint = "write paths that go together as 'sizes.M,sizes.P'"
                problems.append(document.problem(("over", key), what, hint, at_key=True))
            taken[path] = key
        values = _values(document, key, given, len(paths), problems)
        cells = [json.dumps(value, sort_keys=True, default=str) for value in values]
        for index, one in enumerate(cells):
            if one in cells[:index]:
                what = f"{cell(given[index])} is listed twice"
                problems.append(document.problem(("over", key, index), what, "list it once"))
        axes.append(Axis(paths, tuple(values), ("over", key)))
    if problems:
        raise ArchError(problems)
    return tuple(axes)


def _values(
    document: Document, key: str, given: Any, width: int, problems: list[Problem]
) -> list[tuple[Value, ...]]:
    at = ("over", key)
    if isinstance(given, Mapping):
        found = _powers(given["log2"]) if "log2" in given else _steps(given["range"])
        if isinstance(found, str):
            hint = "for example {log2: [64, 1024]}, {log2: [1 MiB, 16 MiB]} or {range: [0, 90, 10]}"
            problems.append(document.problem(at, found, hint))
            return []
        # Paths that go together all take the same power or step.
        return [(value,) * width for value in found]
    if not given:
        problems.append(document.problem(at, "an axis needs values", f"for example {key}: [1, 2]"))
    if width == 1:
        return [(value,) for value in given]
    values = []
    for index, row in enumerate(given):
        if not isinstance(row, list) or len(row) != width:
            what = f"{width} values are due here, one for each of {key}"
            problems.append(document.problem((*at, index), what, "write [a, b]"))
        else:
            values.append(tuple(row))
    return values


def _powers(ends: list[int | str]) -> list[Value] | str:
    """First, twice the first, ... up to the last; or why not."""
    low, high = (split_quantity(str(end)) for end in ends)
    if low is None or high is None or low[1] != high[1]:
        return f"log2 takes two numbers, or two quantities of one unit (given: {ends})"
    if low[0].denominator != 1 or high[0].denominator != 1 or not 0 < low[0] <= high[0]:
        return f"log2 takes two whole numbers, the smaller first (given: {ends})"
    found, unit = [], low[1]
    number, last = int(low[0]), int(high[0])
    while number <= last:
        found.append(f"{number} {unit}" if unit else number)
        number *= 2
    return found


def _steps(ends: list[int]) -> list[Value] | str:
    first, last, step = ends
    if step < 1 or last < first:
        return f"range takes the first number, the last and a step (given: {ends})"
    return list(range(first, last + 1, step))
