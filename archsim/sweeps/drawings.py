"""Charts as files, drawn with matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from archsim.figure_files import save_figures
from archsim.sweeps.charts import Chart, Series, ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = "osD^vP*X"
HATCHES = ("", "///", "...", "\\\\\\", "xx", "++", "oo", "**")

# Bars whose parts are labelled, and the share of an axis that a letter of a label takes.
FEW = 3
LETTER = 0.012


def draw(charts: Sequence[Chart], folder: Path) -> list[Path]:
    """Draw charts into a folder, a .png and a .svg each; return the files."""
    return save_figures({chart.name: _figure(_plain(chart)) for chart in charts}, folder)


def _plain(chart: Chart) -> Chart:
    """The same, with dollars that matplotlib takes for dollars: it sets formulas between them."""

    def text(given: str) -> str:
        return given.replace("$", r"\$")

    series = tuple(
        replace(
            one,
            name=text(one.name),
            x=tuple(text(place) if isinstance(place, str) else place for place in one.x),
        )
        for one in chart.series
    )
    return replace(
        chart,
        series=series,
        title=text(chart.title),
        x_label=text(chart.x_label),
        y_label=text(chart.y_label),
        note=text(chart.note),
    )


def _figure(chart: Chart) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, NullLocator

    rows = len(chart.series[0].x) if chart.sideways and chart.series else 0
    figure = Figure(
        figsize=(8.6, max(3.2, 1.6 + 0.3 * rows) if rows else 4.6), layout="constrained"
    )
    FigureCanvasAgg(figure)
    panel = figure.add_subplot()
    bars = [one for one in chart.series if one.kind == "bars"]
    if bars:
        _bars(panel, bars, chart)
    for one in chart.series:
        if one.kind != "bars":
            _marks(panel, one)
    if chart.x_log:
        panel.set_xscale("log")
    if chart.y_log:
        panel.set_yscale("log")
    elif not bars and chart.from_zero:
        panel.set_ylim(bottom=0)
    for axis in ("x", "y"):
        found = ticks(chart, axis)
        if found:
            places, texts = zip(*found, strict=True)
            (panel.set_xticks if axis == "x" else panel.set_yticks)(places, texts)
            (panel.xaxis if axis == "x" else panel.yaxis).set_minor_locator(NullLocator())
    x_label, y_label = chart.x_label, chart.y_label
    panel.set_xlabel(y_label if chart.sideways else x_label)
    panel.set_ylabel(x_label if chart.sideways else y_label)
    panel.set_title(chart.title[:1].upper() + chart.title[1:], loc="left", fontsize=11)
    if chart.note:
        figure.text(
            0.995, 0.005, chart.note, ha="right", va="bottom", fontsize=7.5, color="#555555"
        )
        figure.set_layout_engine("constrained", rect=(0, 0.035, 1, 0.965))
    panel.grid(linewidth=0.4, alpha=0.5)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    if all(one.kind == "steps" for one in chart.series):
        panel.yaxis.set_major_locator(MaxNLocator(integer=True))
    if len(chart.series) > 1:
        figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    return figure


def _marks(panel: Axes, one: Series) -> None:
    x = [float(place) for place in one.x]
    marker = MARKERS[one.symbol % len(MARKERS)]
    if one.kind == "line":
        plain = one.dashed or not one.hover
        panel.plot(
            x,
            one.y,
            "--" if one.dashed else "-",
            color=one.colour,
            marker=None if plain else marker,
            markersize=4.5,
            linewidth=1.3,
            label=one.name,
            zorder=1 if plain else 2,
        )
    elif one.kind == "steps":
        style = "--" if one.dashed else "-"
        panel.step(x, one.y, style, where="post", color=one.colour, linewidth=1.2, label=one.name)
    else:
        panel.scatter(x, one.y, s=24, color=one.colour, marker=marker, label=one.name, zorder=3)


def _label_parts(panel: Axes, bars: Sequence[Series], whole: float) -> None:
    """Write names into the parts of stacks that have room for them."""
    reached = [0.0] * len(bars[0].x)
    for one in bars:
        for row, value in enumerate(one.y):
            if value > whole * LETTER * (len(one.name) + 2):
                panel.text(
                    reached[row] + value / 2,
                    row,
                    one.name,
                    ha="center",
                    va="center",
                    fontsize=8,
                    bbox={"boxstyle": "round", "facecolor": "white", "linewidth": 0},
                )
            reached[row] += value


def _bars(panel: Axes, bars: Sequence[Series], chart: Chart) -> None:
    """Stacked on their side, or side by side."""
    count = len(bars[0].x)
    places = list(range(count))
    labels = [str(label) for label in bars[0].x]
    if chart.sideways:
        reached = [0.0] * count
        for one in bars:
            for patch in panel.barh(places, one.y, left=reached, color=one.colour, label=one.name):
                hatch = HATCHES[one.symbol % len(HATCHES)]
                patch.set(hatch=hatch, edgecolor="white", linewidth=0.3)
            reached = [a + b for a, b in zip(reached, one.y, strict=True)]
        if count <= FEW:
            _label_parts(panel, bars, max(reached))
        panel.set_yticks(places, labels, fontsize=8)
        panel.invert_yaxis()
        return
    width = 0.8 / len(bars)
    for number, one in enumerate(bars):
        hatch = HATCHES[number % len(HATCHES)]
        at = [place + (number - (len(bars) - 1) / 2) * width for place in places]
        panel.bar(at, one.y, width, color=one.colour, label=one.name, hatch=hatch)
    panel.axhline(1, color="#555555", linewidth=0.8)
    panel.set_xticks(places, labels)
