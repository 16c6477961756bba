"""Rows of a sweep with what was varied and looked for: names, groups and places on axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

from archsim.quantities import UNITS, parse_exact, split_quantity
from archsim.sweeps.fronts import Constraint, fronts, is_number, problem_paths
from archsim.sweeps.metrics import Metric, fitting, metric, shorts

Row = Mapping[str, Any]
Found = TypeVar("Found")
# Colours of a chart.
GROUPS = 8
# Axes by which points are coloured before others, if they are varied.
NAMES = ("label", "cascade", "arch", "mapping")


@dataclass(frozen=True)
class Results:
    """Rows, and what was varied and looked for."""

    title: str
    rows: tuple[Row, ...]
    varied: tuple[str, ...]
    objectives: tuple[tuple[str, str], ...]
    constraints: tuple[Constraint, ...] = ()

    # What follows is asked for at every point that is drawn.
    @cached_property
    def good(self) -> list[Row]:
        """Rows that ran."""
        return [row for row in self.rows if not row["error"]]

    @cached_property
    def front(self) -> list[Row]:
        """Rows that no other of the same problem beats."""
        numbers = fronts(self.rows, self.objectives, self.constraints, self.varied)
        return [self.rows[number] for number in numbers]

    @cached_property
    def _metrics(self) -> dict[str, Metric]:
        return {}

    def metric(self, path: str) -> Metric:
        """What a path means, in the unit in which these rows read best."""
        if path not in self._metrics:
            values = (float(row[path]) for row in self.good if has(row, path))
            self._metrics[path] = fitting(path, values)
        return self._metrics[path]

    def column(self, path: str, rows: Sequence[Row]) -> list[float]:
        """A number of some rows in that unit; 0 where a row has none."""
        factor = self.metric(path).factor
        return [float(row[path]) * factor if has(row, path) else 0.0 for row in rows]

    def differs(self, path: str) -> bool:
        """True if rows have more than one value there."""
        return len({row[path] for row in self.rows}) > 1

    @cached_property
    def telling(self) -> list[str]:
        """Paths that tell points apart: those that differ, without those that follow from others.

        Of paths that go together a label stays, or else the first.
        """
        apart = [path for path in self.varied if self.differs(path)]
        order = sorted(apart, key=lambda path: path.partition(".")[0] != "label")
        kept = _leading(self, order)
        return [path for path in apart if path in kept]

    @cached_property
    def _labels(self) -> list[str]:
        """Labels and problems, if they tell all points apart; else nothing."""
        kept = problem_paths(self.telling)
        found = [p for p in self.telling if p in kept or p.partition(".")[0] == "label"]
        cells = {tuple(row[path] for path in found) for row in self.rows}
        return found if len(cells) == len(self.rows) else []

    def name(self, row: Row) -> str:
        """What tells a point apart from the others."""
        names = shorts(self.varied)
        told = self._labels or self.telling
        return _told(row, told, names) or str(row.get("cascade"))

    def together(self, one: str, other: str) -> bool:
        """True if a value of one path always comes with the same value of the other."""
        pairs = {(row[one], row[other]) for row in self.rows}
        return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})

    def follows(self, one: str, other: str) -> bool:
        """True if the value of a path can be told from that of the other."""
        pairs = {(row[one], row[other]) for row in self.rows}
        return len(pairs) == len({b for _, b in pairs})

    def problems(self) -> dict[str, Results]:
        """The results of each problem, by its name: points of others don't compete with its own."""
        paths = _leading(self, problem_paths(path for path in self.varied if self.differs(path)))
        names = shorts(self.varied)
        found: dict[str, list[Row]] = {}
        for row in self.rows:
            found.setdefault(_told(row, paths, names), []).append(row)
        return {key: replace(self, rows=tuple(rows)) for key, rows in found.items()}

    def groups(self, rows: Sequence[Row], *, across: str | None = None) -> dict[str, list[Row]]:
        """Rows by what colours tell apart: problems if there are several, else the first names.

        `across` is the path that a chart has on its axis; it tells nothing apart.
        """
        apart = [
            path
            for path in self.varied
            if self.differs(path) and (across is None or not self.together(across, path))
        ]
        paths = _leading(self, problem_paths(apart))
        few = [path for path in apart if len({row[path] for row in self.rows}) <= GROUPS]
        named = [path for path in few if path.partition(".")[0] in NAMES and path.count(".") < 2]
        for path in named if paths else (named or few)[:1]:
            new = not any(self.follows(path, other) for other in paths)
            if new and len({tuple(row[p] for p in (*paths, path)) for row in self.rows}) <= GROUPS:
                paths.append(path)
        names = shorts(self.varied)
        found: dict[str, list[Row]] = {}
        for row in rows:
            found.setdefault(_told(row, paths, names), []).append(row)
        return dict(evenly(list(found.items()), GROUPS))


def _leading(results: Results, paths: Sequence[str]) -> list[str]:
    """Paths without those that follow from one before."""
    kept: list[str] = []
    for path in paths:
        if not any(results.follows(path, other) for other in kept):
            kept.append(path)
    return kept


def evenly(found: list[Found], most: int) -> list[Found]:
    """So many of a list at most: the first, the last, and what lies evenly between them."""
    if len(found) <= most:
        return found
    step = (len(found) - 1) / (most - 1)
    return [found[round(i * step)] for i in range(most)]


def _told(row: Row, paths: Sequence[str], names: Mapping[str, str]) -> str:
    """What a row has at some paths."""
    return ", ".join(_cell(names[path], row[path]) for path in paths)


def _cell(name: str, value: object) -> str:
    """A value by which a point is known: text says what it is, a number needs its name."""
    return str(value) if isinstance(value, str) else f"{name} {value}"


def has(row: Row, path: str) -> bool:
    """True if a row has a number at a path."""
    return is_number(row.get(path))


def place(value: object) -> float | None:
    """Where a value lies on an axis: numbers, and quantities in their base unit."""
    if is_number(value):
        return float(value)
    parts = split_quantity(value) if isinstance(value, str) else None
    if parts is None:
        return None
    dimension = _dimension(parts[1])
    return float(parse_exact(value, dimension) if dimension else parts[0])


def _dimension(unit: str) -> str | None:
    return next((name for name, units in UNITS.items() if unit in units), None)


def unit_of(results: Results, path: str) -> tuple[str, float]:
    """The unit of an axis, and what to divide its places by."""
    value = results.rows[0][path]
    parts = split_quantity(value) if isinstance(value, str) else None
    dimension = _dimension(parts[1]) if parts else None
    if parts is None or dimension is None:
        return metric(path).unit if path.startswith("sizes.") else "count", 1.0
    return parts[1], float(UNITS[dimension][parts[1]])


def ordered_axes(results: Results) -> list[str]:
    """Axes of three or more numbers or quantities; of those that go together, the first."""
    found: list[str] = []
    for path in results.varied:
        places = {place(row[path]) for row in results.good}
        if (
            None not in places
            and len(places) >= 3
            and not any(results.together(path, one) for one in found)
        ):
            found.append(path)
    return found
