"""Axes of a sweep: paths and the values they take, one after the other or several together."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from typing import Any

from archsim.errors import ArchError
from archsim.quantities import split_quantity
from einsum_cascade.documents import Document
from einsum_cascade.errors import Problem

# A value of an axis: what stands in the file, a number, text, list or mapping.
Value = Any
# Grids and ranges beyond this are for a sampler.
LARGEST_GRID = 1_000_000


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
        found = [magnitude for (value, *_) in self.values if (magnitude := _magnitude(value))]
        units = {unit for unit, _ in found}
        every = len(self.paths) == len(units) == 1 and len(found) == len(self.values)
        return every and found == sorted(found)


def _magnitude(value: Value) -> tuple[str, Fraction] | None:
    """The unit of a value, "" for a bare number, and how many; None if it is neither."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return "", Fraction(value)
    parts = split_quantity(value) if isinstance(value, str) else None
    return (parts[1], parts[0]) if parts else None


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


def read_axes(
    document: Document, names: Mapping[str, Sequence[str]], over: Mapping[str, Any]
) -> tuple[Axis, ...]:
    """The axes of a sweep file: lists of names by kind, and what stands under `over`.

    Raises:
        ArchError: values that can't be, at their places.
    """
    problems: list[Problem] = []
    axes = []
    for kind, listed in names.items():
        axes.append(Axis((kind,), tuple((name,) for name in listed), (kind,)))
        problems += _odd(document, (kind,), axes[-1].values)
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
        problems += _odd(document, ("over", key), values)
        axes.append(Axis(paths, tuple(values), ("over", key)))
    if problems:
        raise ArchError(problems)
    return tuple(axes)


def _odd(
    document: Document, at: tuple[str, ...], values: Sequence[tuple[Value, ...]]
) -> Iterator[Problem]:
    """Values that JSON does not know, and those that are listed twice."""
    seen: set[str] = set()
    for index, value in enumerate(values):
        shown = ", ".join(map(str, value))
        try:
            one = json.dumps(value, sort_keys=True, allow_nan=False)
        except (TypeError, ValueError):
            hint = "numbers, text, lists and mappings are; what looks like a date needs quotes"
            yield document.problem((*at, index), f"{shown} is no value of an axis", hint)
            continue
        if one in seen:
            yield document.problem((*at, index), f"{shown} is listed twice", "list it once")
        seen.add(one)


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
    if (last - first) // step >= LARGEST_GRID:
        return f"a range has up to {LARGEST_GRID:,} values (given: {ends})"
    return list(range(first, last + 1, step))
