"""Figures of one run: tasks over time, what waits where, the roofline, time and energy in parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import ceil
from pathlib import Path

from archsim.figure_files import save_figures
from archsim.recording import Levels, Part, Recording
from archsim.reporting import Report
from archsim.sweeps.charts import COLOURS, QUIET, Chart, Series
from archsim.sweeps.drawings import draw
from archsim.sweeps.metrics import fitting
from archsim.waterfall_picture import waterfall_figure

# Changes of a level that a figure shows one by one; of more, the most of each of so many stretches.
STEPS = 320
# Parts of a bar with a colour of their own, and the share of it that is worth one.
PARTS = 6
SMALL = 0.004
PALE = "#DDDDDD"


def draw_run(report: Report, recording: Recording | None, folder: Path) -> list[Path]:
    """Draw a run into a folder, a .png and a .svg for each figure; return the files.

    Args:
        report: what the run took.
        recording: what happened when; None leaves out the figures over time.
        folder: made if it does not exist.
    """
    parts = recording.parts if recording is not None else ()
    ends = ["" if len(parts) == 1 else f"_{number}" for number in range(1, len(parts) + 1)]
    figures = {
        f"waterfall{end}": waterfall_figure(part) for part, end in zip(parts, ends, strict=True)
    }
    charts = [
        *(chart for part, end in zip(parts, ends, strict=True) for chart in _over_time(part, end)),
        *run_charts(report),
    ]
    return [*save_figures(figures, folder), *draw(charts, folder)]


def run_charts(report: Report) -> Iterator[Chart]:
    """The figures that need no times: roofline, utilization, energy."""
    name = f"{report.cascade} on {report.arch} through {report.mapping}, {report.level}"
    if report.traffic_bytes["total"]:
        yield _roofline(report, name)
    yield _utilization(report, name)
    if report.energy_pj:
        yield _energy(report, report.energy_pj, name)


def _over_time(part: Part, end: str) -> Iterator[Chart]:
    """Words in the FIFOs, and bytes in the buffer."""
    shown = part.program.name
    if not part.is_whole:
        shown += f": the first {part.cycles:,} of {part.timeline.cycles:,} cycles"
    fifos = {name.replace("@", ", "): levels for name, levels in part.fifos.items()}
    if fifos and part.cycles:
        series, note = _steps(fifos, part.cycles, 1)
        yield Chart(
            f"fifos{end}",
            "words that wait between the array and a lane",
            "time (cycles)",
            "occupancy (words)",
            series,
            shown + note,
        )
    if part.buffer and part.cycles:
        scale, unit = _bytes(max(level for levels in part.buffer.values() for _, level in levels))
        series, note = _steps(part.buffer, part.cycles, scale)
        yield Chart(
            f"buffer{end}",
            "what the buffer holds of tensors that are moved",
            "time (cycles)",
            f"occupancy ({unit})",
            series,
            shown + note,
        )


def _bytes(most: float) -> tuple[int, str]:
    """What to divide bytes by, and the unit that this gives."""
    return next(
        (scale, unit)
        for scale, unit in ((2**20, "MiB"), (2**10, "KiB"), (1, "bytes"))
        if most >= 2 * scale or scale == 1
    )


def _steps(levels: Mapping[str, Levels], until: int, scale: int) -> tuple[tuple[Series, ...], str]:
    """Levels as series, and what to say about them."""
    series = []
    each = -(-2 * until // STEPS)
    is_dense = any(len(changes) > STEPS for changes in levels.values()) and each > 1
    for number, (name, changes) in enumerate(levels.items()):
        kept = _most(changes, until, each) if is_dense else changes
        shown = [(time, level) for time, level in kept if time < until]
        shown.append((until, shown[-1][1]))
        colour = COLOURS[number % len(COLOURS)]
        x = tuple(time for time, _ in shown)
        y = tuple(level / scale for _, level in shown)
        series.append(Series(name, x, y, colour, "steps", dashed=number >= len(COLOURS)))
    return tuple(series), f"; the most in every {each:,} cycles" if is_dense else ""


def _most(changes: Levels, until: int, each: int) -> Levels:
    """The highest level of each stretch of as many cycles."""
    most: dict[int, float] = {}
    ends = [time for time, _ in changes[1:]] + [float(until)]
    for (time, level), end in zip(changes, ends, strict=True):
        for stretch in range(int(time // each), max(int(time // each) + 1, ceil(end / each))):
            most[stretch] = max(level, most.get(stretch, 0))
    # The last one may be cut off.
    return tuple((stretch * each, level) for stretch, level in sorted(most.items()))[:-1]


def _roofline(report: Report, name: str) -> Chart:
    """What each array does in a second against what it does for a byte that is moved."""
    architecture = report.placed.architecture
    rate = architecture.outer.bandwidth_bytes_per_s
    assert rate is not None
    series: list[Series] = []
    used = [array for array in architecture.arrays if report.utilization.get(array.name)]
    peaks = {array.name: array.pes * architecture.clock_hz for array in used}
    x = {
        array: report.utilization[array] * peak * report.latency_s / report.traffic_bytes["total"]
        for array, peak in peaks.items()
    }
    knees = [peak / rate for peak in peaks.values()]
    low, high = min([*x.values(), *knees]) / 6, max([*x.values(), *knees]) * 6
    for number, (array, peak) in enumerate(peaks.items()):
        colour, share = COLOURS[number], report.utilization[array]
        places = (low, peak / rate, high)
        heights = tuple(min(peak, place * rate) / 1e9 for place in places)
        series.append(Series(f"roof of {array}", places, heights, colour, "line"))
        label = f"{array}: {share:.1%} of its peak"
        series.append(Series(label, (x[array],), (share * peak / 1e9,), colour, symbol=number))
    return Chart(
        "roofline",
        "roofline",
        f"busy PE-cycles for a byte of {architecture.outer.name} (1/byte)",
        "busy PE-cycles a second (10⁹/s)",
        tuple(series),
        f"{name}; sloped: {rate / 1e9:,.4g} GB/s of {architecture.outer.name}; level: all PEs busy",
        x_log=True,
        y_log=True,
    )


def _utilization(report: Report, name: str) -> Chart:
    """The time of each array: Einsums, idle slots by cause, PEs without points."""
    bars: dict[str, dict[str, float]] = {}
    for array, by_einsum in report.utilization_by_einsum.items():
        busy = {einsum: 100 * share for einsum, share in by_einsum.items()}
        causes = report.stall_cycles.get(array, {})
        idle = {f"idle: {c}": 100 * n / report.cycles for c, n in causes.items()}
        rest = max(0.0, 100 - sum(busy.values()) - sum(idle.values()))
        left = "PEs without points" if causes else "idle"
        bars[array] = _largest(busy, "other Einsums", 100) | _largest(idle, "idle: others", 100)
        if rest > 100 * SMALL:
            bars[array][left] = rest
    title = "what the arrays do with their time"
    return _stacks("utilization", title, "share of PE-cycles (%)", bars, name)


def _energy(report: Report, energy: Mapping[str, object], name: str) -> Chart:
    """Where energy is spent, and what for."""
    total = energy["total"]
    assert isinstance(total, float)
    found = fitting("energy_pj.total", [total])
    bars: dict[str, dict[str, float]] = {}
    for bar, key in (("by component", "by_component"), ("by Einsum\nor tensor", "by_einsum")):
        table = energy[key]
        assert isinstance(table, dict)
        scaled = {part: pj * found.factor for part, pj in table.items()}
        bars[bar] = _largest(scaled, "all others", total * found.factor)
    title = "where the energy goes, and what for"
    return _stacks("energy", title, str(found), bars, f"{name}; {report.accounting} accounting")


def _largest(parts: Mapping[str, float], others: str, whole: float) -> dict[str, float]:
    """The largest parts first, the rest in one."""
    ordered = sorted(parts.items(), key=lambda item: -item[1])
    found = {part: value for part, value in ordered[:PARTS] if value > SMALL * whole}
    rest = sum(value for part, value in ordered if part not in found)
    return {**found, others: rest} if rest else found


def _stacks(
    name: str, title: str, unit: str, bars: Mapping[str, Mapping[str, float]], note: str
) -> Chart:
    """Bars on their side whose parts are different things: those of a bar have a hatch."""
    series = []
    labels = tuple(bars)
    for row, (bar, parts) in enumerate(bars.items()):
        for number, (part, value) in enumerate(parts.items()):
            colour = COLOURS[number % len(COLOURS)]
            if part.startswith("idle"):
                colour = QUIET
            elif part.startswith(("other", "all other", "PEs")):
                colour = PALE
            values = tuple(value if label == bar else 0.0 for label in labels)
            series.append(Series(part, labels, values, colour, "bars", symbol=row))
    return Chart(name, title, "", unit, tuple(series), note, sideways=True)
