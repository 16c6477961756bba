"""The study `formats`: how exact 2**x is, by unit, multiplier and the format it is rounded to.

Every bf16 number from -126 to 0 goes through every unit. What the figure shows: with fp32
multipliers each degree gains 4 to 5 bits until fp32 itself is the limit; with bf16 multipliers
Horner's scheme rounds its partial sum to 8 bits before every product, the last one included, so
the error stays near 2**-9 whatever the degree.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from archsim.figure_files import save_figures
from einsum_cascade.exp_units import POLYNOMIALS, UNITS, exp2
from einsum_cascade.formats import FORMATS, MULTIPLIERS, decode, quantize

SHOWN = ("fp32", "tf32", "fp16", "bf16", "fp8_e4m3", "fp8_e5m2")


@dataclass(frozen=True, slots=True)
class UnitError:
    """One unit with one multiplier, its result rounded to one format."""

    unit: str
    multiplier: str
    output: str
    # log2 of the largest relative error, and the share of results that are not the nearest value.
    log2_error: float
    not_nearest: float


def unit_errors() -> list[UnitError]:
    """Measure every unit, multiplier and output format."""
    codes = decode(np.arange(65536), FORMATS["bf16"])
    x = np.unique(codes[(codes > -126) & (codes <= 0)]).astype(np.float32)
    exact = np.exp2(x.astype(np.float64))
    found = []
    for multiplier in MULTIPLIERS:
        for name, unit in UNITS.items():
            raw = exp2(x, unit, multiplier).astype(np.float64)
            for output in SHOWN:
                kept = FORMATS[output]
                # Below the format's normal numbers errors are absolute.
                inside = exact >= 2.0**kept.least_exponent
                given, nearest = quantize(raw, kept), quantize(exact, kept)
                error = np.abs(given[inside] / exact[inside] - 1).max()
                wrong = float(np.mean(given[inside] != nearest[inside]))
                found.append(UnitError(name, multiplier, output, float(np.log2(error)), wrong))
    return found


def table(rows: Iterable[UnitError]) -> str:
    """The measured errors as text: one line for each unit, fp32 and bf16 results side by side."""
    lines = [
        "largest relative error of 2**x over all bf16 numbers from -126 to 0, as a power of 2;",
        "in parentheses the share of bf16 results that are not the nearest bf16 number",
        "",
        f"{'':12}{'fp32 multiplier':>30}{'bf16 multiplier':>30}",
        f"{'unit':12}{'fp32':>12}{'bf16':>18}{'fp32':>12}{'bf16':>18}",
    ]
    by_key = {(row.unit, row.multiplier, row.output): row for row in rows}
    for name in UNITS:
        line = f"{name:12}"
        for multiplier in ("fp32", "bf16"):
            full = by_key[name, multiplier, "fp32"]
            short = by_key[name, multiplier, "bf16"]
            line += f"{full.log2_error:12.1f}{short.log2_error:9.1f} ({short.not_nearest:5.2%})"
        lines.append(line)
    lines += [
        "",
        "With a bf16 multiplier the partial sum is rounded to 8 bits before every product, the",
        "last one too: the error stays near 2^-9 whatever the degree.",
    ]
    return "\n".join(lines)


def draw(rows: Iterable[UnitError], folder: Path) -> list[Path]:
    """Draw error against degree for both multipliers and all output formats; return the files."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    by_key = {(row.unit, row.multiplier, row.output): row.log2_error for row in rows}
    degrees = sorted(POLYNOMIALS)
    colours = ("#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00", "#CC79A7")
    figure = Figure(figsize=(8.4, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2, sharey=True)
    for panel, multiplier in zip(panels, ("fp32", "bf16"), strict=True):
        for output, colour, marker in zip(SHOWN, colours, "osd^vP", strict=True):
            values = [by_key[f"poly{degree}", multiplier, output] for degree in degrees]
            # tf32 and fp16 have as many bits: one is drawn over the other.
            line = "--" if output == "fp16" else "-"
            panel.plot(
                degrees, values, line, color=colour, marker=marker, markersize=4, label=output
            )
        for name, style, at in (("chord8", ":", 7), ("shifted8", "--", 5), ("fixed", "-.", 7)):
            value = by_key[name, multiplier, "fp32"]
            panel.axhline(value, color="#666666", linestyle=style, linewidth=0.9)
            panel.annotate(name, (at, value + 0.2), fontsize=7, ha="right", color="#444444")
        panel.set_title(f"{multiplier} multiplier", fontsize=10)
        panel.set_xlabel("degree of the polynomial (multiply-accumulates)", fontsize=8)
        panel.set_xticks(degrees)
        panel.tick_params(labelsize=8)
        panel.grid(linewidth=0.4, alpha=0.5)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("largest relative error of $2^x$ (log2)", fontsize=8)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside right upper",
        fontsize=8,
        frameon=False,
        title="rounded to",
        title_fontsize=8,
    )
    return save_figures({"formats": figure}, folder)
