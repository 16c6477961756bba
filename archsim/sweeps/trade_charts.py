"""Charts of trades: fronts, numbers against axes, what each axis changes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from math import exp, log

from archsim.sweeps.charts import COLOURS, QUIET, Chart, Series
from archsim.sweeps.fronts import feasible, pareto, problem_paths
from archsim.sweeps.metrics import metric, shorts
from archsim.sweeps.results import Results, Row, has, ordered_axes, place, unit_of

# Values of an axis that get a tick each.
TICKS = 14


def stem(path: str) -> str:
    """The name of a file for a path."""
    return re.sub(r"[^\w-]", "_", path.removesuffix(".total"))


def is_wide(values: list[float]) -> bool:
    """True where a linear axis would squeeze most values into a corner."""
    return bool(values) and min(values) > 0 and max(values) > 8 * min(values)


def front_charts(results: Results) -> Iterator[Chart]:
    """One objective against another: all points, and those of each problem that no other beats."""
    goals = dict(results.objectives)
    rows = [row for row in results.good if feasible(row, results.constraints)]
    left_out = len(results.good) - len(rows)
    note = f"{left_out:,} points break a constraint and are left out" if left_out else ""
    for i, first in enumerate(goals):
        for second in list(goals)[i + 1 :]:
            own = [row for row in rows if has(row, first) and has(row, second)]
            if min(len({row[path] for row in own}) for path in (first, second)) < 2:
                continue
            pair = [(path, goals[path]) for path in (first, second)]
            groups = results.groups(own)
            series = _fronts(results, own, pair) + _points(results, groups, first, second)
            x, y = results.column(first, own), results.column(second, own)
            across, up = results.metric(first), results.metric(second)
            yield Chart(
                f"front_{stem(second)}_{stem(first)}",
                f"{up.label} against {across.label}",
                str(across),
                str(up),
                series,
                "; ".join(filter(None, (note, _hidden(own, groups)))),
                x_log=is_wide(x),
                y_log=is_wide(y),
                from_zero=False,
            )


def _hidden(rows: list[Row], groups: Mapping[str, list[Row]]) -> str:
    """What a chart says of rows for whose groups it has no colour."""
    left_out = len(rows) - sum(map(len, groups.values()))
    return f"{left_out:,} points of further groups are left out" if left_out else ""


def _points(
    results: Results, groups: Mapping[str, list[Row]], first: str, second: str
) -> tuple[Series, ...]:
    return tuple(
        Series(
            name or "points",
            tuple(results.column(first, group)),
            tuple(results.column(second, group)),
            COLOURS[number],
            hover=tuple(map(results.name, group)),
            symbol=number,
        )
        for number, (name, group) in enumerate(groups.items())
    )


def _fronts(results: Results, rows: list[Row], goals: list[tuple[str, str]]) -> tuple[Series, ...]:
    """The front of each problem as a line; one entry of the legend stands for all."""
    paths = problem_paths(results.varied)
    problems: dict[str, list[Row]] = {}
    for row in rows:
        problems.setdefault(json.dumps([row[path] for path in paths]), []).append(row)
    (first, _), (second, _) = goals
    found: list[Series] = []
    for own in problems.values():
        best = [own[number] for number in pareto(own, goals)]
        x, y = tuple(results.column(first, best)), tuple(results.column(second, best))
        hover = tuple(map(results.name, best))
        name = "" if found else "no other point beats"
        found.append(Series(name, x, y, QUIET, "line", hover, dashed=True))
    return tuple(found)


def axis_charts(results: Results) -> Iterator[Chart]:
    """The first objective against every axis of numbers, and utilization against length."""
    path, goal = results.objectives[0]
    for axis in ordered_axes(results):
        yield from _against(results, axis, path, goal)
    lengths = [axis for axis in ordered_axes(results) if axis.startswith("sizes.")]
    arrays = dict.fromkeys(p for row in results.good for p in row if p.startswith("utilization."))
    for array in arrays if lengths else ():
        yield from _against(results, lengths[0], array, "max")


def _against(results: Results, axis: str, value: str, goal: str) -> Iterator[Chart]:
    """A number against an axis, the best over all other axes, a line for each group."""
    choose = min if goal == "min" else max
    limits = results.constraints
    rows = [row for row in results.good if has(row, value) and feasible(row, limits)]
    unit, factor = unit_of(results, axis)
    groups = results.groups(rows, across=axis)
    found = results.metric(value)
    series = []
    for number, (name, group) in enumerate(groups.items()):
        by_place: dict[float, list[Row]] = {}
        for row in group:
            by_place.setdefault(place(row[axis]) or 0.0, []).append(row)
        chosen = [choose(by_place[at], key=lambda row: row[value]) for at in sorted(by_place)]
        series.append(
            Series(
                name or found.label,
                tuple(at / factor for at in sorted(by_place)),
                tuple(results.column(value, chosen)),
                COLOURS[number],
                "line",
                tuple(map(results.name, chosen)),
                number,
            )
        )
    if not series:
        return
    x = sorted({float(at) for one in series for at in one.x})
    y = [number for one in series for number in one.y]
    name = shorts(results.varied)[axis]
    apart = max(len(group) for group in groups.values()) > len(x)
    best = "each point is the best over the axes that are not shown" if apart else ""
    yield Chart(
        f"{stem(value)}_{stem(axis)}",
        f"{found.label} against {name}",
        f"{name} ({unit})",
        str(found),
        tuple(series),
        "; ".join(filter(None, (best, _hidden(rows, groups)))),
        x_log=is_wide(x),
        y_log=is_wide(y) and found.unit != "%",
        ticks=tuple(x) if len(x) <= TICKS else (),
    )


def sensitivity_charts(results: Results) -> Iterator[Chart]:
    """How much each axis changes each objective, the other axes held."""
    kept = results.telling
    if len(kept) < 2:
        return
    names = shorts(results.varied)
    series = []
    for number, (objective, _) in enumerate(results.objectives):
        rows = [row for row in results.good if has(row, objective) and row[objective] > 0]
        swings = [_swing(results, rows, path, objective) for path in kept]
        label = metric(objective).label
        cells = tuple(names[path] for path in kept)
        colour = COLOURS[number % len(COLOURS)]
        series.append(Series(label, cells, tuple(swings), colour, "bars"))
    yield Chart(
        "sensitivity",
        "what each axis changes, the others held",
        "",
        "largest over smallest value (ratio)",
        tuple(series),
        "geometric means over all values of the other axes; 1: the axis changes nothing",
        y_log=is_wide([swing for one in series for swing in one.y]),
    )


def _swing(results: Results, rows: list[Row], path: str, objective: str) -> float:
    """Largest over smallest objective along an axis, mean over all else."""
    others = [other for other in results.telling if other != path]
    groups: dict[str, list[float]] = {}
    for row in rows:
        key = json.dumps([row[other] for other in others])
        groups.setdefault(key, []).append(float(row[objective]))
    ratios = [max(own) / min(own) for own in groups.values() if len(own) > 1]
    return exp(sum(map(log, ratios)) / len(ratios)) if ratios else 1.0
