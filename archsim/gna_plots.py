"""Figures of the reproduction of Generalized Neighborhood Attention."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from archsim.figure_files import save_figures
from archsim.gna_reproduction import GnaReproduction, Point, Sweep, key_bytes
from archsim.neighborhood_pictures import (
    new_figure,
    visited_figure,
    windows_figure,
)
from archsim.quantities import show_bytes
from einsum_cascade.neighborhood import Neighborhood
from einsum_cascade.neighborhood_tiles import show_shape

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

OURS, THEIRS, MEASURED, FLOPS = "#0072B2", "#000000", "#D55E00", "#009E73"
POLICY_STYLES = (
    ("stream", "#999999", "o"),
    ("keep the window", "#E69F00", "s"),
    ("slide along the last", "#56B4E9", "^"),
    ("slide along the last 2", "#0072B2", "v"),
    ("slide along all", "#009E73", "D"),
)


def draw_gna(result: GnaReproduction, folder: Path) -> list[Path]:
    """Draw windows, visited tiles, sweeps, end to end and residency; return the files written."""
    # A stride of whole tiles is not enough: the window must start at one, too.
    small = [Neighborhood((24, 24), (w, w), (s, s)) for w, s in ((8, 1), (8, 4), (12, 4))]
    flux = next(sweep.case for sweep in result.sweeps if len(sweep.case.shape) == 2)
    figures = {
        "gna-windows": windows_figure([(one, one.tiles((4, 4), (4, 4))) for one in small]),
        "gna-visited": visited_figure(
            [(flux.with_stride(stride), flux.tiles(stride)) for stride in flux.strides]
        ),
        "gna-strides": _sweeps(result.sweeps),
        "gna-end-to-end": _end_to_end(result.points),
        "gna-residency": _residency(result),
    }
    return save_figures(figures, folder)


def _sweeps(sweeps: tuple[Sweep, ...]) -> Figure:
    """Speedup of attention by queries that share a window: candidates, kept, the paper's list."""
    figure, panels, corner = _grid(len(sweeps))
    for panel, sweep in zip(panels, sweeps, strict=True):
        case = sweep.case
        panel.plot(
            [point.queries for point in sweep.candidates],
            [point.tiles.speedup_bound for point in sweep.candidates],
            ".",
            color="#999999",
            markersize=6,
            label="fewer tiles in some dimension,\nbut not worth it",
        )
        xs = [point.queries for point in sweep.kept]
        ys = [point.tiles.speedup_bound for point in sweep.kept]
        most = max(xs) * 4
        panel.plot([*xs, most], [*ys, ys[-1]], drawstyle="steps-post", color=OURS, linewidth=1)
        panel.plot(xs, ys, "o", color=OURS, markersize=5, label="worth it")
        panel.plot(
            [prod(stride) for stride in case.strides],
            [case.tiles(stride).speedup_bound for stride in case.strides],
            "o",
            markersize=10,
            markerfacecolor="none",
            color=THEIRS,
            label="in the paper's list",
        )
        flops = case.with_stride(()).flopwise_speedup
        panel.axhline(flops, color=FLOPS, linestyle="--", linewidth=1, label="counting FLOPs")
        for i, point in enumerate(sweep.kept):
            # Above and to the left, but for a point that would be in the way of the next one's.
            is_close = i + 1 < len(ys) and ys[i + 1] - ys[i] < 0.06 * flops
            panel.annotate(
                show_shape(point.stride),
                (xs[i], ys[i]),
                xytext=(5, -11) if is_close else (-5, 5),
                textcoords="offset points",
                ha="left" if is_close else "right",
                fontsize=7,
            )
        panel.set_xscale("log", base=2)
        ticks = [4**n for n in range(6) if 4**n < most]
        panel.set_xticks(ticks, [str(tick) for tick in ticks])
        panel.set_xlim(2**-3.2, most)
        panel.set_ylim(0, flops * 1.15)
        _dress(panel, f"{case.label}, window {show_shape(case.window)}")
        panel.set_xlabel("queries that share a window", fontsize=8)
        panel.set_ylabel("attention: speedup over dense", fontsize=8)
    corner.legend(*panels[-1].get_legend_handles_labels(), loc="center", fontsize=8, frameon=False)
    return figure


def _grid(count: int) -> tuple[Figure, list[Axes], Axes]:
    """Panels in rows of three, and an empty one at the end for what they mean."""
    rows = -(-(count + 1) // 3)
    figure = new_figure(9.6, 3.0 * rows)
    every = figure.subplots(rows, 3).ravel().tolist()
    for panel in every[count:]:
        panel.axis("off")
    return figure, every[:count], every[-1]


def _end_to_end(points: tuple[Point, ...]) -> Figure:
    """A row for each line of the paper's tables: ours, its simulator, its measurement, FLOPs."""
    figure = new_figure(8.6, 0.235 * len(points) + 1.5)
    panel, residuals = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    heights = _heights(points)
    published = [dict(point.published) for point in points]
    panel.hlines(
        heights,
        [row["e2e_measured"] for row in published],
        [point.e2e_flopwise for point in points],
        color="#CCCCCC",
        linewidth=1,
        zorder=0,
    )
    for label, values, style, colour, size in (
        ("counting FLOPs, ours", [p.e2e_flopwise for p in points], "|", FLOPS, 9),
        ("measured on B200, paper", [r["e2e_measured"] for r in published], "x", MEASURED, 5),
        ("simulator, paper", [r["e2e_nattensim"] for r in published], "o", THEIRS, 8),
        ("worst query tile, ours", [p.e2e_bound for p in points], "o", OURS, 4),
    ):
        is_ring = size == 8
        panel.plot(
            values,
            heights,
            style,
            color=colour,
            markersize=size,
            markerfacecolor="none" if is_ring else colour,
            markeredgewidth=1.4 if style in "|x" else 1.0,
            label=label,
        )
    printed = [point.case.tile_status == "printed" for point in points]
    residuals.axvspan(-0.005, 0.005, color="#000000", alpha=0.08, linewidth=0)
    for is_printed, label, face in ((True, "tiles printed", OURS), (False, "tiles inferred", "w")):
        chosen = [i for i, one in enumerate(printed) if one == is_printed]
        residuals.plot(
            [points[i].difference for i in chosen],
            [heights[i] for i in chosen],
            "o",
            color=OURS,
            markerfacecolor=face,
            markersize=4,
            label=label,
        )
    names = [
        f"{p.case.label}  {show_shape(p.case.window)}  {show_shape(p.stride)}  "
        f"{p.dense_steps}/{p.case.steps}"
        for p in points
    ]
    panel.set_yticks(heights, names, fontsize=7)
    panel.set_ylim(max(heights) + 0.8, -0.8)
    panel.annotate(
        "model, window, stride, dense steps",
        (0, 1),
        xycoords="axes fraction",
        xytext=(-6, 4),
        textcoords="offset points",
        ha="right",
        fontsize=8,
        style="italic",
    )
    panel.set_xlabel("end-to-end speedup over dense attention", fontsize=8)
    residuals.set_xlabel("ours less the simulator's;\ngrey: its rounding", fontsize=8)
    residuals.set_xticks([-0.01, 0, 0.01])
    residuals.set_xlim(-0.018, 0.018)
    for one in (panel, residuals):
        _dress(one)
        one.grid(axis="y", visible=False)
    handles, labels = panel.get_legend_handles_labels()
    more, words = residuals.get_legend_handles_labels()
    figure.legend(
        handles + more,
        labels + words,
        loc="outside upper center",
        ncols=3,
        fontsize=8,
        frameon=False,
    )
    return figure


def _heights(points: tuple[Point, ...]) -> list[float]:
    """Rows from above, with a gap where model or window change."""
    found: list[float] = []
    at, before = -1.0, None
    for point in points:
        at += 1.0 if before in (None, point.case) else 1.6
        found.append(at)
        before = point.case
    return found


def _residency(result: GnaReproduction) -> Figure:
    """Reads of the average key against buffer, a panel for each window, both extreme strides."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    cases = list(dict.fromkeys(case for case, _, _ in result.residency))
    figure, panels, corner = _grid(len(cases))
    for panel, case in zip(panels, cases, strict=True):
        rows = [(stride, every) for one, stride, every in result.residency if one == case]
        for (stride, policies), line in zip(rows, ("-", ":"), strict=True):
            size = key_bytes(case.head_dim)
            xs = [one.held_keys * size for one in policies]
            ys = [one.reads for one in policies]
            panel.plot(
                xs, ys, line, color="#888888", linewidth=1, label=f"stride {show_shape(stride)}"
            )
            by_policy = {one.policy: (x, y) for one, x, y in zip(policies, xs, ys, strict=True)}
            for name, colour, marker in POLICY_STYLES:
                if name in by_policy:
                    x, y = by_policy[name]
                    panel.plot(x, y, marker, color=colour, markersize=6, zorder=3)
        panel.legend(fontsize=7, frameon=False, loc="lower left")
        panel.set_xscale("log", base=2)
        panel.set_yscale("log", base=2)
        panel.xaxis.set_major_locator(LogLocator(base=8, numticks=9))
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: show_bytes(value)))
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.minorticks_off()
        _dress(panel, f"{case.label}, window {show_shape(case.window)}")
        panel.set_xlabel("buffer for keys and values of a head", fontsize=8)
        panel.set_ylabel("reads of the average key", fontsize=8)
    corner.legend(handles=_policy_legend(), loc="center", fontsize=8, frameon=False)
    return figure


def _policy_legend() -> list[Line2D]:
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], color=colour, marker=marker, linestyle="none", label=name)
        for name, colour, marker in POLICY_STYLES
    ]


def _dress(panel: Axes, title: str = "") -> None:
    panel.set_title(title, fontsize=9)
    panel.tick_params(labelsize=7)
    panel.grid(linewidth=0.4, alpha=0.5)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
