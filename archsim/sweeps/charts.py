"""What a figure shows, apart from how it is drawn: the same for matplotlib and for a page."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, log10

# Okabe and Ito's colours, which stay apart for colour-blind readers.
COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000",
)  # fmt: skip
# What is less important than the rest.
QUIET = "#999999"


@dataclass(frozen=True)
class Series:
    """Values that belong together: points, a line, steps, or one layer of stacked bars."""

    name: str
    # Numbers, or categories for bars.
    x: tuple[float | str, ...]
    y: tuple[float, ...]
    colour: str
    # "points", "line", "steps" (a value holds until the next one) or "bars".
    kind: str = "points"
    # What a page shows of each value when the mouse is on it.
    hover: tuple[str, ...] = ()
    # Which marker, or which hatch of stacked bars.
    symbol: int = 0
    dashed: bool = False


@dataclass(frozen=True)
class Chart:
    """A figure: series over two labelled axes."""

    # The stem of its file.
    name: str
    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    # What there is to know to read it.
    note: str = ""
    x_log: bool = False
    y_log: bool = False
    # Bars lie on their side: categories run down the left.
    sideways: bool = False
    # False where what matters are differences, not sizes.
    from_zero: bool = True
    # Where x has ticks, if not at round numbers.
    ticks: tuple[float, ...] = ()


def ticks(chart: Chart, axis: str) -> list[tuple[float, str]]:
    """Places and texts of the ticks of a logarithmic axis, or of given ones; [] for any other."""
    if axis == "x" and chart.ticks:
        return _apart([(place, _text(place)) for place in chart.ticks], chart.x_log)
    if not (chart.x_log if axis == "x" else chart.y_log):
        return []
    places = [
        float(place)
        for one in chart.series
        for place in (one.x if axis == "x" else one.y)
        if float(place) > 0
    ]
    low, high = min(places), max(places)
    decades = range(floor(log10(low)), ceil(log10(high)) + 1)
    steps = (1, 2, 5) if len(decades) <= 4 else (1,)
    found = [step * 10.0**decade for decade in decades for step in steps]
    return [(place, _text(place)) for place in found if low / 1.6 <= place <= high * 1.6]


def _apart(found: list[tuple[float, str]], is_log: bool) -> list[tuple[float, str]]:
    """Ticks whose texts do not lie on each other."""
    at = [log10(place) if is_log else place for place, _ in found]
    kept: list[int] = []
    for number, where in enumerate(at):
        if not kept or where - at[kept[-1]] > 0.05 * (at[-1] - at[0]):
            kept.append(number)
    return [found[number] for number in kept]


def _text(place: float) -> str:
    if place >= 1024 and place % 1024 == 0:
        return f"{place / 1024:g}K"
    return f"{place:,.0f}" if place >= 1000 else f"{place:g}"
