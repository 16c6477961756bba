"""Figures, drawn with matplotlib into files that the caller names; nothing is shown or global.

Colours are Okabe and Ito's, which stay apart for colour-blind readers; hatching tells the bars
apart in print as well.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from archsim.comparison import published_points, published_table
from archsim.reproduction import CONFIGURATIONS, EncoderPoint, Point, Reproduction

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {
    "unfused": "#999999",
    "flat": "#E69F00",
    "cascade": "#56B4E9",
    "arch": "#009E73",
    "binding": "#0072B2",
}
HATCHES = {"unfused": "", "flat": "//", "cascade": "..", "arch": "\\\\", "binding": ""}
# Einsums that run on the 2D array in some configuration.
EINSUM_COLOURS = {
    "QK": "#0072B2",
    "LM": "#D55E00",
    "SLN": "#E69F00",
    "SLD": "#CC79A7",
    "SLNV": "#009E73",
    "AV": "#56B4E9",
}


def draw_fusemax(result: Reproduction, folder: Path) -> list[Path]:
    """Draw the paper's Figures 6 to 12 and both accountings; return the files written."""
    published = published_points()

    def speedup(point: Point) -> float:
        return result.of(point.model, point.seq_len)["unfused"].latency_s / point.latency_s

    def reference_speedup(point: Point) -> float | None:
        ours = published.get((point.model, point.seq_len, point.config, "latency"))
        base = published.get((point.model, point.seq_len, "unfused", "latency"))
        return base / ours if base and ours else None

    def reference(metric: str) -> Callable[[Point], float | None]:
        return lambda p: published.get((p.model, p.seq_len, p.config, metric))

    figures = {
        "fig6a_utilization_1d": _bars(
            result, lambda p: p.util_1d, reference("util_1d"), "1D array utilization"
        ),
        "fig6b_utilization_2d": _bars(
            result, lambda p: p.util_2d, reference("util_2d"), "2D array utilization"
        ),
        "fig7_utilization_2d_by_einsum": _by_einsum(result),
        "fig8_attention_speedup": _bars(
            result, speedup, reference_speedup, "Attention speedup over unfused"
        ),
        "fig9_attention_energy": _bars(
            result,
            lambda p: p.energy_pj / result.of(p.model, p.seq_len)["unfused"].energy_pj,
            lambda p: _ratio(published, p, "energy"),
            "Attention energy over unfused",
        ),
        "fig10_end_to_end_speedup": _bars(
            result,
            lambda p: _encoder(result, p, "unfused").latency_s / _encoder(result, p).latency_s,
            lambda p: _end_to_end(p, "latency", inverse=True),
            "End-to-end speedup over unfused",
        ),
        "fig11_end_to_end_energy": _bars(
            result,
            lambda p: _encoder(result, p).energy_pj / _encoder(result, p, "unfused").energy_pj,
            lambda p: _end_to_end(p, "energy"),
            "End-to-end energy over unfused",
        ),
        "fig12_latency_against_area": _area_sweep(result),
        "accountings": _accountings(result),
    }
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, figure in figures.items():
        for ending in ("png", "svg"):
            path = folder / f"{name}.{ending}"
            figure.savefig(path, dpi=120)
            # Laid out once; the second file has the same layout for half the time.
            figure.set_layout_engine("none")
            written.append(path)
    return written


def _ratio(
    table: dict[tuple[str, int, str, str], float], point: Point, metric: str
) -> float | None:
    ours = table.get((point.model, point.seq_len, point.config, metric))
    base = table.get((point.model, point.seq_len, "unfused", metric))
    return ours / base if ours and base else None


def _encoder(result: Reproduction, point: Point, config: str | None = None) -> EncoderPoint:
    return result.encoder(point.model, point.seq_len)[config or point.config]


def _end_to_end(point: Point, metric: str, *, inverse: bool = False) -> float | None:
    """Published attention plus published linear layers, over the same for unfused."""
    attention = published_points()
    linear = published_table("fusemax_linear", "model", "seq_len", "arch", "metric")
    totals = []
    for config in (point.config, "unfused"):
        chip = "fusemax" if config in ("arch", "binding") else "flat"
        one = attention.get((point.model, point.seq_len, config, metric))
        other = linear.get((point.model, str(point.seq_len), chip, metric))
        if one is None or other is None:
            return None
        totals.append(one + other)
    return totals[1] / totals[0] if inverse else totals[0] / totals[1]


def _area_sweep(result: Reproduction) -> Figure:
    """Latency against chip area for each array size; published points as crosses."""
    figure, (panel,) = _figure(1, 3.6)
    table = published_table("fusemax_area_sweep", "model", "pe_dim", "metric")
    styles = (("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "D"))
    models = list(dict.fromkeys(point.model for point in result.area_sweep))
    for i, model in enumerate(models):
        colour, marker = styles[i % len(styles)]
        points = [point for point in result.area_sweep if point.model == model]
        areas = [point.area_um2 / 1e8 for point in points]
        panel.plot(
            areas,
            [p.latency_s for p in points],
            color=colour,
            marker=marker,
            markersize=4,
            label=model,
        )
        if i == len(models) - 1:
            for area, point in zip(areas, points, strict=True):
                panel.annotate(
                    f"{point.pe_dim}",
                    (area, point.latency_s),
                    textcoords="offset points",
                    xytext=(4, 5),
                    fontsize=7,
                )
        known = [
            (table[model, str(p.pe_dim), "area"] / 1e8, table[model, str(p.pe_dim), "latency"])
            for p in points
            if (model, str(p.pe_dim), "area") in table
        ]
        if known:
            xs, ys = zip(*known, strict=True)
            panel.plot(xs, ys, "kx", markersize=5, label="published")
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlabel("chip area (cm$^2$); numbers: PEs along an edge", fontsize=8)
    panel.set_ylabel("attention latency at 256K tokens (s)", fontsize=8)
    panel.tick_params(labelsize=8)
    panel.grid(linewidth=0.4, alpha=0.5)
    panel.spines[["top", "right"]].set_visible(False)
    _legend(figure, [panel])
    return figure


def _accountings(result: Reproduction) -> Figure:
    """Energy of FuseMax over FLAT in both accountings, a panel for each model."""
    models = list(dict.fromkeys(model for model, _ in result.cases))
    lengths = list(dict.fromkeys(length for _, length in result.cases))
    figure, panels = _figure(len(models))
    for panel, model in zip(panels, models, strict=True):
        pairs = [result.of(model, length) for length in lengths]
        for i, (label, colour) in enumerate((("paper", "#E69F00"), ("consistent", "#0072B2"))):
            name = "energy_pj" if label == "paper" else "energy_consistent_pj"
            ratios = [getattr(p["binding"], name) / getattr(p["flat"], name) for p in pairs]
            at = [j + (i - 0.5) * 0.38 for j in range(len(lengths))]
            panel.bar(at, ratios, 0.36, color=colour, label=f"{label} accounting")
        _dress(panel, model, lengths)
    panels[0].set_ylabel("Attention energy, FuseMax over FLAT")
    _legend(figure, panels)
    return figure


def _figure(count: int, height: float = 3.0) -> tuple[Figure, list[Axes]]:
    """A figure with one row of panels that share their vertical axis."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as NewFigure

    figure = NewFigure(figsize=(max(4.5, 3.3 * count), height), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, count, sharey=True, squeeze=False)[0]
    return figure, list(panels)


def _bars(
    result: Reproduction,
    value: Callable[[Point], float],
    reference: Callable[[Point], float | None],
    label: str,
) -> Figure:
    """Grouped bars per length and configuration, a panel for each model, published points over."""
    models = list(dict.fromkeys(model for model, _ in result.cases))
    lengths = list(dict.fromkeys(length for _, length in result.cases))
    figure, panels = _figure(len(models))
    width = 0.8 / len(CONFIGURATIONS)
    for panel, model in zip(panels, models, strict=True):
        marked: tuple[list[float], list[float]] = ([], [])
        for i, configuration in enumerate(CONFIGURATIONS):
            key = configuration.key
            points = [result.of(model, length)[key] for length in lengths]
            at = [j + (i - (len(CONFIGURATIONS) - 1) / 2) * width for j in range(len(lengths))]
            panel.bar(
                at,
                [value(point) for point in points],
                width,
                color=COLOURS[key],
                hatch=HATCHES[key],
                edgecolor="white",
                linewidth=0.3,
                label=configuration.label,
            )
            for x, point in zip(at, points, strict=True):
                known = reference(point)
                if known is not None:
                    marked[0].append(x)
                    marked[1].append(known)
        if marked[0]:
            panel.plot(*marked, "k_", markersize=5, markeredgewidth=1.2, label="published")
        _dress(panel, model, lengths)
    panels[0].set_ylabel(label)
    _legend(figure, panels)
    return figure


def _by_einsum(result: Reproduction) -> Figure:
    """Stacked shares of 2D utilization by Einsum; one panel for each model."""
    models = list(dict.fromkeys(model for model, _ in result.cases))
    lengths = list(dict.fromkeys(length for _, length in result.cases))
    figure, panels = _figure(len(models), 3.4)
    shown = [c for c in CONFIGURATIONS if c.key != "unfused"]
    width = 0.8 / len(shown)
    for panel, model in zip(panels, models, strict=True):
        for i, configuration in enumerate(shown):
            at = [j + (i - (len(shown) - 1) / 2) * width for j in range(len(lengths))]
            points = [result.of(model, length)[configuration.key] for length in lengths]
            bottom = [0.0] * len(lengths)
            for einsum, colour in EINSUM_COLOURS.items():
                parts = [point.util_2d_by_einsum.get(einsum, 0.0) for point in points]
                if any(parts):
                    panel.bar(at, parts, width * 0.92, bottom, color=colour, label=einsum)
                    bottom = [a + b for a, b in zip(bottom, parts, strict=True)]
        _dress(panel, model, lengths)
    panels[0].set_ylabel("2D array utilization")
    names = ", ".join(configuration.label for configuration in shown)
    figure.supxlabel(f"each group, left to right: {names}", fontsize=8)
    _legend(figure, panels)
    return figure


def _dress(panel: Axes, model: str, lengths: list[int]) -> None:
    panel.set_title(model, fontsize=10)
    panel.set_xticks(range(len(lengths)), [short_length(length) for length in lengths])
    panel.set_xlabel("sequence length (tokens)", fontsize=8)
    panel.tick_params(labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(axis="y", linewidth=0.4, alpha=0.5)
    panel.set_axisbelow(True)


def _legend(figure: Figure, panels: list[Axes]) -> None:
    entries: dict[str, Artist] = {}
    for panel in panels:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    figure.legend(
        list(entries.values()),
        list(entries),
        loc="outside upper center",
        ncols=6,
        fontsize=8,
        frameon=False,
    )


def short_length(length: int) -> str:
    """Write a length as papers do: 4K, 1M."""
    for unit, size in (("M", 2**20), ("K", 2**10)):
        if length % size == 0:
            return f"{length // size}{unit}"
    return str(length)
