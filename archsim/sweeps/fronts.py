"""Which points are worth a look: constraints, and the Pareto front of several objectives."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import nextafter
from operator import le
from typing import Any, TypeGuard

from archsim.quantities import UNITS, parse_exact, split_quantity

_FORM = re.compile(r"\s*([A-Za-z_][\w.-]*)\s*(<=|>=|<|>)\s*(.+?)\s*\Z")

# What a path counts, by its end; the longest end first.
_DIMENSIONS = {
    "_bytes_per_s": "bytes/s",
    "_bytes": "bytes",
    "_um2": "square micrometres",
    "_pj": "picojoules",
    "_hz": "hertz",
    "_s": "nanoseconds",
}


@dataclass(frozen=True)
class Constraint:
    """A number of a report and its limit."""

    path: str
    # "<=" or ">=", or strict.
    relation: str
    limit: float
    text: str

    def excess(self, row: Mapping[str, Any]) -> float:
        """How far a row is beyond the limit, 0 or less if it is within; inf without the number."""
        value = row.get(self.path)
        if not is_number(value):
            return float("inf")
        over = value - self.limit if self.relation[0] == "<" else self.limit - value
        strict = len(self.relation) == 1 and over == 0
        return nextafter(0, 1) if strict else float(over)


def read_constraint(text: str) -> Constraint:
    """Read `area_um2.total <= 1.3e9` or `buffer_bytes.needed <= 16 MiB`.

    Raises:
        ValueError: it is no constraint, or its unit is none of what the path counts.
    """
    found = _FORM.match(text)
    if found is None:
        raise ValueError(f"'{text}' is no constraint")
    path, relation, limit = found.groups()
    parts = split_quantity(limit.lstrip("-"))
    if parts is None:
        raise ValueError(f"'{limit}' is no limit: a number, or one with a unit")
    amount = parts[0]
    if parts[1]:
        head = path.partition(".")[0] if not path.startswith("hardware.") else path
        dimension = next((name for end, name in _DIMENSIONS.items() if head.endswith(end)), None)
        if dimension is None:
            raise ValueError(f"{path} has no unit, so its limit has none")
        if parts[1] not in UNITS[dimension]:
            legal = ", ".join(UNITS[dimension])
            raise ValueError(f"'{parts[1]}' is no unit of {path}: {legal}")
        amount = parse_exact(limit.lstrip("-"), dimension)
        amount /= 10**9 if dimension == "nanoseconds" else 1
    return Constraint(path, relation, float(-amount if limit.startswith("-") else amount), text)


def feasible(row: Mapping[str, Any], constraints: Iterable[Constraint]) -> bool:
    """True if a row ran and keeps every constraint."""
    return not row.get("error") and all(one.excess(row) <= 0 for one in constraints)


def pareto(
    rows: Sequence[Mapping[str, Any]],
    objectives: Sequence[tuple[str, str]],
    constraints: Iterable[Constraint] = (),
) -> list[int]:
    """Numbers of the rows that no other row beats, in order of the first objective.

    A row beats another if it is no worse in any objective and better in one; of rows that are
    equal in all, the first stays. Rows that failed, lack an objective or break a constraint are
    left out.
    """
    limits = tuple(constraints)
    paths = [path for path, _ in objectives]
    kept = [
        number
        for number, row in enumerate(rows)
        if feasible(row, limits) and all(is_number(row.get(path)) for path in paths)
    ]
    signs = [1 if goal == "min" else -1 for _, goal in objectives]
    costs = [
        tuple(rows[number][path] * sign for path, sign in zip(paths, signs, strict=True))
        for number in kept
    ]
    return [kept[i] for i in non_dominated(costs)]


# Points of a front that are compared one by one sooner than NumPy is there.
FEW = 500
# What a point computes, rather than how: points of different problems don't compete.
PROBLEM = ("model", "sizes.", "model.", "neighborhood.shape", "neighborhood.window")


def problem_paths(varied: Iterable[str]) -> list[str]:
    """Those of the varied paths that say what is computed."""
    whole = tuple(path for path in PROBLEM if path.endswith("."))
    return [path for path in varied if path in PROBLEM or path.startswith(whole)]


def fronts(
    rows: Sequence[Mapping[str, Any]],
    objectives: Sequence[tuple[str, str]],
    constraints: Iterable[Constraint],
    varied: Iterable[str],
) -> list[int]:
    """The fronts of all problems among the rows, one after the other."""
    paths = problem_paths(varied)
    problems: dict[tuple[Any, ...], list[int]] = {}
    for number, row in enumerate(rows):
        problems.setdefault(tuple(row.get(path) for path in paths), []).append(number)
    limits = tuple(constraints)
    return [
        own[number]
        for own in problems.values()
        for number in pareto([rows[n] for n in own], objectives, limits)
    ]


def is_number(value: object) -> TypeGuard[int | float]:
    """True for a number that can be compared."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def non_dominated(costs: Sequence[tuple[float, ...]]) -> list[int]:
    """Numbers of the points that no other beats in its costs, by the first cost."""
    front: list[int] = []
    # Costs on the front; those that beat a point last are tried first, since they beat many.
    best: list[tuple[float, ...]] = []
    # Sorted by all costs: whatever beats a point, or equals it, comes before it.
    order = sorted(range(len(costs)), key=costs.__getitem__)
    for done, number in enumerate(order):
        if len(front) > FEW:
            return _continued(costs, front, order[done:])
        own = costs[number]
        for place, other in enumerate(best):
            if all(map(le, other, own)):
                best.insert(0, best.pop(place))
                break
        else:
            front.append(number)
            best.insert(0, own)
    return front


def _continued(
    costs: Sequence[tuple[float, ...]], front: list[int], rest: Sequence[int]
) -> list[int]:
    """The same of a large front, whose costs are compared at once."""
    import numpy as np

    best = np.empty((len(front) + len(rest), len(costs[front[0]])))
    best[: len(front)] = [costs[number] for number in front]
    for number in rest:
        if not (best[: len(front)] <= costs[number]).all(axis=1).any():
            best[len(front)] = costs[number]
            front.append(number)
    return front
