"""Traffic against buffer size: what nothing can beat, what each way to stream needs, the best.

Both axes are logarithmic. Below the lower bound nothing can be; between it and the best way lies
what a cleverer schedule might still save. Vertical marks are the capacities at which a line drops.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsim.quantities import show_bytes
from einsum_cascade.bound_report import Bounds

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"re-read": "#D55E00", "keep": "#E69F00", "spill": "#CC79A7", "hold": "#0072B2"}
LINES = {"re-read": "-", "keep": "--", "spill": "-.", "hold": ":"}
POINTS = 400
# Rows in which the labels of capacities are staggered, and a letter's share of the axis.
ROWS = 6
LETTER = 0.0088


@dataclass(frozen=True, slots=True)
class Curves:
    """Bytes moved at each buffer size; None where a way does not fit."""

    buffers: list[int]
    bound: list[int]
    ways: dict[str, list[int | None]]

    @property
    def best(self) -> list[int | None]:
        """The least of all ways."""
        columns = zip(*self.ways.values(), strict=True)
        fitting = [[words for words in column if words is not None] for column in columns]
        return [min(column, default=None) for column in fitting]


def curves(formulas: Bounds, found: Bounds, word_bytes: int) -> Curves:
    """Compute traffic in bytes for buffers around all capacities at which something changes.

    Args:
        formulas: bounds as formulas.
        found: the same with numbers; its own buffer lies in the range.
        word_bytes: bytes of a word.
    """
    own = found.buffer_words
    marks = sorted({own, *(cliff.words for cliff in found.cliffs)})
    low, high = max(2, marks[0] // 4), marks[-1] * 6
    ratio = (high / low) ** (1 / POINTS)
    words = {round(low * ratio**i) for i in range(POINTS + 1)}
    words |= {near for mark in marks for near in (mark - 1, mark) if near >= low}
    at = [{**found.sizes, found.buffer_name: size} for size in sorted(words)]
    reports = [formulas.at(**sizes) for sizes in at]
    return Curves(
        [size * word_bytes for size in sorted(words)],
        [report.total * word_bytes for report in reports],
        {
            one.name: [
                None if traffic is None else traffic * word_bytes
                for report in reports
                for traffic in [report.alternatives[i].traffic]
            ]
            for i, one in enumerate(found.alternatives)
        },
    )


def draw_bounds(formulas: Bounds, found: Bounds, word_bytes: int, folder: Path) -> list[Path]:
    """Draw traffic against buffer size into a folder; return the files written.

    Args:
        formulas: bounds as formulas.
        found: the same with numbers.
        word_bytes: bytes of a word.
        folder: made if it does not exist; gets bounds-CASCADE.png and .svg.
    """
    figure = _draw(found, curves(formulas, found, word_bytes), word_bytes)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for ending in ("png", "svg"):
        path = folder / f"bounds-{found.cascade}.{ending}"
        figure.savefig(path, dpi=160)
        written.append(path)
    return written


def _draw(found: Bounds, data: Curves, word_bytes: int) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as NewFigure

    figure = NewFigure(figsize=(7.6, 4.9), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    panel.set_xscale("log", base=2)
    panel.set_yscale("log", base=2)
    _lines(panel, data)
    everything = [y for way in data.ways.values() for y in way if y is not None] + data.bound
    low, high = min(everything), max(everything)
    span = max(high / low, 2.0)
    bottom, top = low / span**0.12, high * span**0.42
    panel.set_ylim(bottom, top)
    panel.set_xlim(data.buffers[0], data.buffers[-1])
    panel.fill_between(data.buffers, data.bound, bottom, color="#000000", alpha=0.07, linewidth=0)
    panel.text(
        0.01,
        low / span**0.06,
        "impossible",
        transform=panel.get_yaxis_transform(),
        va="center",
        fontsize=8,
        style="italic",
        color="#555555",
    )
    _marks(panel, found, word_bytes, high * span**0.06, top)
    own = found.buffer_words * word_bytes
    panel.axvline(own, color="#009E73", linewidth=1.6, zorder=1)
    panel.annotate(
        f"buffer {show_bytes(own)}",
        (own, 0.015),
        xycoords=("data", "axes fraction"),
        xytext=(4, 0),
        textcoords="offset points",
        fontsize=8,
        color="#00724F",
        weight="bold",
    )
    _dress(panel, found)
    figure.legend(loc="outside upper center", ncols=6, fontsize=8, frameon=False)
    return figure


def _lines(panel: Axes, data: Curves) -> None:
    """The lower bound, every way, and the best of them as a broad pale line underneath."""
    nothing = float("nan")

    def heights(values: list[int | None]) -> list[float]:
        return [nothing if value is None else float(value) for value in values]

    panel.plot(
        data.buffers, data.bound, color="black", linewidth=2.6, label="lower bound", zorder=3
    )
    if data.ways:
        panel.plot(
            data.buffers,
            heights(data.best),
            color="#F0E442",
            linewidth=7,
            drawstyle="steps-post",
            solid_capstyle="butt",
            label="best of these",
            zorder=2,
        )
    for name, values in data.ways.items():
        panel.plot(
            data.buffers,
            heights(values),
            label=name,
            color=COLOURS[name],
            linestyle=LINES[name],
            linewidth=1.7,
            drawstyle="steps-post",
            zorder=4,
        )
        # From here on the buffer is large enough.
        first = next((i for i, value in enumerate(values) if value is not None), None)
        if first is not None:
            start = heights(values)[first]
            panel.plot(data.buffers[first], start, "o", markersize=5, color=COLOURS[name], zorder=4)


def _marks(panel: Axes, found: Bounds, word_bytes: int, start: float, top: float) -> None:
    """Thin vertical lines at cliffs, labels above the curves, staggered where they are close."""
    left, right = panel.get_xlim()
    ends = [float("-inf")] * ROWS
    for cliff in found.cliffs:
        x = cliff.words * word_bytes
        place = _share(x, left, right)
        text = f"{cliff.what}: {show_bytes(x, 5)}"
        width = LETTER * len(text)
        is_left = place + width > 1.0
        begin, end = (place - width, place) if is_left else (place, place + width)
        # The uppermost row whose last label ends before this one begins.
        row = next((i for i in range(ROWS) if ends[i] <= begin), ROWS - 1)
        ends[row] = end
        height = start * (top / start) ** (1 - (row + 0.5) / ROWS)
        panel.plot([x, x], [panel.get_ylim()[0], height], color="#888888", linewidth=0.7, zorder=0)
        panel.annotate(
            text,
            (x, height),
            xytext=(-3 if is_left else 3, 0),
            textcoords="offset points",
            fontsize=7,
            va="center",
            ha="right" if is_left else "left",
            color="#333333",
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.8},
            zorder=5,
        )


def _share(value: float, left: float, right: float) -> float:
    from math import log

    return log(value / left) / log(right / left)


def _dress(panel: Axes, found: Bounds) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator

    sizes = ", ".join(f"{n}={size}" for n, size in found.sizes.items() if n != found.buffer_name)
    panel.set_title(f"{found.cascade} over {found.rank} ({sizes})", fontsize=9)
    panel.set_xlabel("buffer capacity", fontsize=9)
    panel.set_ylabel("traffic: read and written", fontsize=9)

    def text(value: float, _: Any) -> str:
        return show_bytes(value)

    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_locator(LogLocator(base=4, numticks=12))
        axis.set_major_formatter(FuncFormatter(text))
    panel.minorticks_off()
    panel.tick_params(labelsize=8)
    panel.grid(linewidth=0.4, alpha=0.4)
    panel.spines[["top", "right"]].set_visible(False)
