"""The study `accuracy`: how far hardware numbers are from float64, by length of the sequence.

Each cascade is compiled in the numbers of each format, with each unit for 2**x, and computes random
attention; float64 computes the same inputs, which are bf16 numbers. What the figure shows: with
words of bf16 the rounding of words decides, and neither the unit nor the length matters much. With
fp32 a coarse unit is the whole error, and a fine one leaves what long sums round, of which those
of one tile after the other round less. poly3 does not give exactly 1 for 2**0: a cascade with a
running maximum multiplies its sums by that in every tile, and forgets the first tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from archsim.figure_files import save_figures
from einsum_cascade.catalog import load
from einsum_cascade.formats import FORMATS, quantize

CASCADES = ("softmax-3pass", "softmax-1pass", "linear-attention")
FORMATS_SHOWN = ("fp32", "bf16")
UNITS_SHOWN = ("chord8", "poly3", "poly6")
LENGTHS = (64, 256, 1024, 4096, 16384)
# Queries, and features of keys and values.
QUERIES, FEATURES, VALUES = 8, 64, 16
SEED = 7


@dataclass(frozen=True, slots=True)
class Accuracy:
    """One cascade in one format with one unit, at one length."""

    cascade: str
    format: str
    unit: str
    length: int
    # Root mean square of the error over that of the result, and the largest over the largest.
    rms_error: float
    max_error: float


def measured(
    cascades: Iterable[str] = CASCADES,
    lengths: Iterable[int] = LENGTHS,
    say: Callable[[str], object] = lambda _: None,
) -> list[Accuracy]:
    """Compute every combination; `say` is told which one is next.

    The first run compiles a kernel for each cascade, format and unit.
    """
    from einsum_cascade.compiled import compile_

    found = []
    for name in cascades:
        cascade = load(name)
        exact = compile_(cascade)
        for kind in FORMATS_SHOWN:
            for unit in UNITS_SHOWN:
                say(f"{name}, {kind}, {unit}")
                run = compile_(cascade, format=kind, exp=unit)
                for length in lengths:
                    given = _inputs(length)
                    right = exact(**given)["AV"]
                    error = run(**given)["AV"].astype(np.float64) - right
                    rms = float(np.sqrt(np.mean(error**2) / np.mean(right**2)))
                    largest = float(np.abs(error).max() / np.abs(right).max())
                    found.append(Accuracy(name, kind, unit, length, rms, largest))
    return found


def _inputs(length: int) -> dict[str, Any]:
    rng = np.random.default_rng((SEED, length))
    shapes = {"Q": (FEATURES, QUERIES), "K": (FEATURES, length), "V": (VALUES, length)}
    return {n: quantize(rng.normal(size=s), FORMATS["bf16"]) for n, s in shapes.items()}


def table(rows: Iterable[Accuracy]) -> str:
    """The errors as text: a line for each cascade, format and unit, a column for each length."""
    rows = list(rows)
    lengths = sorted({row.length for row in rows})
    by_key = {(row.cascade, row.format, row.unit, row.length): row.rms_error for row in rows}
    lines = [
        "root mean square of the error, relative to that of the float64 result, by keys",
        "",
        f"{'cascade':18}{'format':8}{'2^x unit':10}" + "".join(f"{n:>10,}" for n in lengths),
    ]
    for cascade, kind, unit in dict.fromkeys((r.cascade, r.format, r.unit) for r in rows):
        errors = (by_key[cascade, kind, unit, length] for length in lengths)
        lines.append(f"{cascade:18}{kind:8}{unit:10}" + "".join(f"{e:10.1e}" for e in errors))
    return "\n".join(lines)


def draw(rows: Iterable[Accuracy], folder: Path) -> list[Path]:
    """Draw error against length, a panel for each cascade; return the files."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = list(rows)
    cascades = list(dict.fromkeys(row.cascade for row in rows))
    colours = {"chord8": "#D55E00", "poly3": "#009E73", "poly6": "#0072B2"}
    markers = {"chord8": "s", "poly3": "o", "poly6": "^"}
    figure = Figure(figsize=(9.2, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(cascades), sharey=True, squeeze=False)[0]
    for panel, cascade in zip(panels, cascades, strict=True):
        for kind in FORMATS_SHOWN:
            for unit in UNITS_SHOWN:
                own = [r for r in rows if (r.cascade, r.format, r.unit) == (cascade, kind, unit)]
                panel.plot(
                    [row.length for row in own],
                    [row.rms_error for row in own],
                    "-" if kind == "fp32" else "--",
                    color=colours[unit],
                    marker=markers[unit],
                    markersize=4.5,
                    markerfacecolor=colours[unit] if kind == "fp32" else "white",
                    linewidth=1.4,
                    label=f"{kind}, {unit}",
                )
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        panel.set_ylim(bottom=2.0**-26)
        panel.set_xticks([row.length for row in own])
        panel.set_xticklabels([f"{row.length:,}" for row in own])
        panel.minorticks_off()
        panel.set_title(cascade, fontsize=10)
        panel.set_xlabel("keys", fontsize=9)
        panel.tick_params(labelsize=8)
        panel.grid(linewidth=0.4, alpha=0.5)
        panel.spines[["top", "right"]].set_visible(False)
        for exponent, text in ((-9, "$2^{-9}$, bf16"), (-24, "$2^{-24}$, fp32")):
            panel.axhline(2.0**exponent, color="#666666", linestyle=":", linewidth=0.9)
            if panel is panels[0]:
                at = (own[-1].length, 2.0**exponent * 0.8)
                panel.annotate(text, at, fontsize=7.5, color="#444444", ha="right", va="top")
    panels[0].set_ylabel("error, relative to float64 (rms)", fontsize=9)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside right upper",
        fontsize=8,
        frameon=False,
        title="format, unit for $2^x$",
        title_fontsize=8,
    )
    return save_figures({"accuracy": figure}, folder)
