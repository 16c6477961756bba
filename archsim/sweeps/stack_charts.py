"""Charts of what single points are made of: time, energy, and how far the roof is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from archsim.sweeps.charts import COLOURS, QUIET, Chart, Series
from archsim.sweeps.results import GROUPS, Results, Row, evenly, has

# Bars that still can be read; how much longer the longest bar of one problem may be than that of
# another; charts of problems.
BARS, SPREAD, PROBLEMS = 24, 8, 4


def apart(results: Results, path: str) -> list[tuple[str, Results, str]]:
    """Results whose bars fit one chart: the name of their problem, and what is left out.

    The name is "" if all fit one.
    """
    found = [(name, part) for name, part in results.problems().items() if part.good]
    longest = [max(results.column(path, shown(part)[0])) for _, part in found]
    if max(longest) <= SPREAD * min(longest):
        return [("", results, "")]
    drawn = evenly(found, PROBLEMS)
    note = f"{len(drawn)} of {len(found)} problems are drawn" if len(drawn) < len(found) else ""
    return [(name, part, note) for name, part in drawn]


def shown(results: Results) -> tuple[list[Row], str]:
    """Rows that a stack shows, and what it leaves out."""
    if len(results.good) <= BARS:
        return results.good, ""
    front = results.front or results.good
    if len(front) <= BARS:
        return front, "points that no other beats"
    return evenly(front, BARS), f"{BARS} points that no other beats"


def _stack(
    results: Results,
    name: str,
    title: str,
    problem: str,
    parts: Mapping[str, Sequence[float]],
    unit: str,
) -> Chart:
    rows, note = shown(results)
    if problem:
        name, title = f"{name}_{re.sub(r'[^A-Za-z0-9]+', '_', problem)}", f"{title}, {problem}"
    names = [results.name(row) for row in rows]
    labels = tuple(n if names.count(n) == 1 else f"{n} #{i}" for i, n in enumerate(names))
    present = {part: values for part, values in parts.items() if any(values)}
    series = tuple(
        Series(part, labels, tuple(values), _colour(number, part), "bars", symbol=number)
        for number, (part, values) in enumerate(present.items())
    )
    return Chart(name, title, "", unit, series, note, sideways=True)


def _noted(chart: Chart, note: str) -> Chart:
    return replace(chart, note="; ".join(filter(None, (chart.note, note))))


def _colour(number: int, part: str) -> str:
    return "#DDDDDD" if part.startswith("idle") else COLOURS[number % len(COLOURS)]


def energy_charts(results: Results) -> Iterator[Chart]:
    """Energy by component; of each problem, where bars would be of very different length."""
    for problem, part, note in apart(results, "energy_pj.total"):
        for chart in _energy(part, problem):
            yield _noted(chart, note)


def _energy(results: Results, problem: str) -> Iterator[Chart]:
    rows, _ = shown(results)
    start = "energy_pj.by_component."
    names = dict.fromkeys(p for row in rows for p in row if p.startswith(start))
    found = results.metric("energy_pj.total")
    columns = {name: [float(row.get(name) or 0.0) * found.factor for row in rows] for name in names}
    large = sorted(columns, key=lambda name: -sum(columns[name]))
    parts = {name.removeprefix(start): columns[name] for name in large[: GROUPS - 1]}
    if len(large) >= GROUPS:
        rest = [columns[name] for name in large[GROUPS - 1 :]]
        parts["all others"] = [sum(values) for values in zip(*rest, strict=True)]
    if parts:
        yield _stack(results, "energy_stack", "energy by component", problem, parts, str(found))


def time_charts(results: Results) -> Iterator[Chart]:
    """What each array does all the time: Einsums, idle slots, PEs without points; of each problem.

    Problems share charts where their bars are of like length.
    """
    for problem, part, note in apart(results, "latency_s"):
        for chart in _time(part, problem):
            yield _noted(chart, note)


def _time(results: Results, problem: str) -> Iterator[Chart]:
    rows, _ = shown(results)
    start = "utilization_by_einsum."
    arrays = dict.fromkeys(p.split(".")[1] for row in rows for p in row if p.startswith(start))
    found = results.metric("latency_s")
    latency = results.column("latency_s", rows)
    for array in arrays:
        own = dict.fromkeys(p for row in rows for p in row if p.startswith(f"{start}{array}."))
        columns = {
            path.split(".")[-1]: [
                (row.get(path) or 0.0) * time for row, time in zip(rows, latency, strict=True)
            ]
            for path in own
        }
        large = sorted(columns, key=lambda name: -sum(columns[name]))
        parts = {name: columns[name] for name in large[: GROUPS - 3]}
        if len(large) > GROUPS - 3:
            rest = [columns[name] for name in large[GROUPS - 3 :]]
            parts["other Einsums"] = [sum(values) for values in zip(*rest, strict=True)]
        busy = [sum(values) for values in zip(*parts.values(), strict=True)]
        stalls = f"stall_cycles.{array}."
        waits = [
            sum(v for p, v in row.items() if p.startswith(stalls)) / row["cycles"] * time
            for row, time in zip(rows, latency, strict=True)
        ]
        left = [max(0.0, t - b - w) for t, b, w in zip(latency, busy, waits, strict=True)]
        if any(waits):
            parts["PEs without points"] = left
        parts["idle"] = waits if any(waits) else left
        title = f"what {array} does with its time"
        yield _stack(results, f"time_stack_{array}", title, problem, parts, str(found))


def roofline_charts(results: Results) -> Iterator[Chart]:
    """Utilization against work per byte, relative to what array and memory are balanced for."""
    array = next((p for row in results.good for p in row if p.startswith("utilization.")), None)
    rate = "hardware.bandwidth_bytes_per_s"
    needed = (rate, "latency_s", "traffic_bytes.total", array)
    rows = [row for row in results.good if all(path and has(row, path) for path in needed)]
    rows = [row for row in rows if all(row[path] for path in needed if path)]
    if array is None or not rows:
        return

    def balance(row: Row) -> float:
        return float(row[array] * row["latency_s"] * row[rate] / row["traffic_bytes.total"])

    series = [
        Series(
            name or "points",
            tuple(map(balance, group)),
            tuple(row[array] * 100 for row in group),
            COLOURS[number],
            hover=tuple(map(results.name, group)),
            symbol=number,
        )
        for number, (name, group) in enumerate(results.groups(rows).items())
    ]
    x = [balance(row) for row in rows]
    low, high = min([*x, 0.5]) / 1.5, max([*x, 2.0]) * 1.5
    roof = Series("roof", (low, 1.0, high), (low * 100, 100.0, 100.0), QUIET, "line")
    name = array.removeprefix("utilization.")
    yield Chart(
        "roofline",
        f"roofline of {name}",
        "work per DRAM byte, relative to the machine's balance (ratio)",
        f"utilization of {name} (%)",
        (roof, *series),
        "left of 1 memory is the limit, right of it the array; what lies below the roof waits",
        x_log=True,
        y_log=True,
    )
