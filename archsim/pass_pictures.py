"""Pictures of passes: the sweeps over a fiber, and what must stay on chip meanwhile.

Everything is placed by what happened in a schedule (`sweep_trace`): positions of a fiber run to
the right, time runs down. Sweeps have Okabe and Ito's colours, which stay apart for colour-blind
readers, and their number stands in every cell, so that nothing is lost in black and white.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from einsum_cascade.sweep_trace import Trace, Visit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Sweeps 1, 2, 3 and 4, and again: as greys, too, neighbours differ. Paler: still at hand.
COLOURS = ("#56B4E9", "#F0E442", "#D55E00", "#CC79A7")
PALE = ("#DDF0FB", "#FBF7C0", "#F8D3BA", "#F3DDE9")
FRAME = "#555555"
LINES = ("-", "--", "-.", ":")
# Rows between two sweeps, for the barrier and its Einsum; inches of a cell.
GAP = 3.0
CELL = 0.2
SMALL, LARGE = 8, 9.5
MONO = "DejaVu Sans Mono"


def draw_sweeps(traces: Sequence[Trace], titles: Sequence[str], *, legend_at: int) -> Figure:
    """Draw the sweeps over fibers side by side, on one time axis.

    Args:
        traces: what to draw, a panel each.
        titles: a line above each panel; the number of passes is added.
        legend_at: the panel below whose sweeps there is room for the legend.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as NewFigure

    most = max(_top(one, one.sweeps) + one.length + 0.2 for one in traces)
    across = sum(one.length + 1.6 for one in traces)
    figure = NewFigure(figsize=((across + 2) * CELL, (most + 4.5) * CELL), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(
        1, len(traces), squeeze=False, width_ratios=[one.length + 1.6 for one in traces]
    )[0]
    for panel, one, title in zip(panels, traces, titles, strict=True):
        panel.set_xlim(-0.8, one.length + 0.8)
        panel.set_ylim(most, -1.6)
        panel.set_aspect("equal", anchor="N")
        panel.set_axis_off()
        panel.set_title(f"{title}\n{_passes(one)}", fontsize=LARGE, linespacing=1.4)
        _sweeps(panel, one)
    panels[0].annotate(
        "time",
        (-0.75, 3.6),
        (-0.75, 0.1),
        fontsize=SMALL,
        rotation=90,
        ha="center",
        va="top",
        arrowprops={"arrowstyle": "-|>", "color": "black", "linewidth": 0.8, "shrinkA": 0},
    )
    _legend(panels[legend_at], traces[legend_at])
    return figure


def _passes(one: Trace) -> str:
    number = one.count.lower
    partial = ", one partial" if any(visit.position is None for visit in one.visits) else ""
    plural = "es" if number > 1 else ""
    return f"{one.tensor} over {one.rank}: {number} pass{plural}{partial}"


def _top(one: Trace, sweep: int) -> float:
    """The row in which a sweep begins."""
    return (sweep - 1) * (one.length + GAP)


def _sweeps(panel: Axes, one: Trace) -> None:
    """Draw one fiber: a block of rows for each sweep, barriers, the chain, and the tail."""
    for sweep in range(1, one.sweeps + 1):
        top = _top(one, sweep)
        _grid(panel, one, top)
        names: dict[str, None] = {}
        for visit in one.visits:
            if visit.sweep == sweep:
                _visit(panel, one, visit, top)
                names.update(dict.fromkeys(visit.tensors))
        # Nothing is visited ahead of the front: there the names have room.
        upwards = one.directions[min(sweep, len(one.directions)) - 1] > 0
        side = one.length - 0.25 if upwards else 0.25
        style: Any = {"ha": "right" if upwards else "left", "va": "top", "fontsize": SMALL}
        panel.text(side, top + 0.35, f"sweep {sweep}", weight="bold", **style)
        panel.text(side, top + 1.6, "\n".join(_lines(list(names))), family=MONO, **style)
    for i in range(one.length):
        panel.text(i + 0.5, -0.35, f"{i}", fontsize=6.5, ha="center", va="bottom", color="#444444")
    _barriers(panel, one)
    _chain(panel, one)
    if one.count.tail:
        _tail(panel, one)


def _lines(names: list[str]) -> Iterator[str]:
    """Two names on a line."""
    for i in range(0, len(names), 2):
        yield ", ".join(names[i : i + 2]) + ("," if i + 2 < len(names) else "")


def _grid(panel: Axes, one: Trace, top: float) -> None:
    n = one.length
    panel.vlines(range(n + 1), top, top + n, color="#DDDDDD", linewidth=0.5, zorder=0)
    panel.hlines([top + i for i in range(n + 1)], 0, n, color="#DDDDDD", linewidth=0.5, zorder=0)
    if one.tile < n:
        edges = range(0, n + 1, one.tile)
        panel.vlines(edges, top, top + n, color="#888888", linewidth=0.7, zorder=0.5)


def _visit(panel: Axes, one: Trace, visit: Visit, top: float) -> None:
    """Fill the cell at the front; frame those that are still at hand behind it."""
    from matplotlib.patches import Rectangle

    n, colour, row = one.length, (visit.sweep - 1) % len(COLOURS), top + visit.step
    if visit.position is None:
        # Any of them, a few: data decide which.
        box = Rectangle(
            (0, row), n, 1, facecolor=PALE[colour], edgecolor="black", hatch="///", linewidth=0.8
        )
        panel.add_patch(box)
        panel.text(
            n / 2,
            row - 0.3,
            "some of them: data decide",
            fontsize=SMALL,
            ha="center",
            va="bottom",
            style="italic",
        )
        return
    way = one.directions[min(visit.sweep, len(one.directions)) - 1]
    is_front = visit.position == (visit.step if way > 0 else n - 1 - visit.step)
    face = COLOURS[colour] if is_front else PALE[colour]
    edge, width = ("white", 0.6) if is_front else (FRAME, 0.9)
    inset = 0.0 if is_front else 0.1
    panel.add_patch(
        Rectangle(
            (visit.position + inset, row + inset),
            1 - 2 * inset,
            1 - 2 * inset,
            facecolor=face,
            edgecolor=edge,
            linewidth=width,
            zorder=2,
        )
    )
    panel.text(
        visit.position + 0.5,
        row + 0.53,
        f"{visit.sweep}",
        fontsize=7,
        ha="center",
        va="center",
        zorder=3,
    )


def _barriers(panel: Axes, one: Trace) -> None:
    for barrier in one.barriers:
        line = _top(one, barrier.sweep) + one.length + 0.55
        panel.hlines(line, -0.4, one.length + 0.4, color="black", linewidth=2.2, zorder=3)
        left, _, right = barrier.text.partition(" = ")
        is_long = len(barrier.text) > 24
        text = f"{barrier.text}\nfrom both ends" if barrier.is_joint else barrier.text
        panel.text(
            one.length / 2 + 0.5,
            line + 0.3,
            f"{left} =\n{right}" if is_long else text,
            family=MONO,
            fontsize=6.6 if is_long else 7,
            ha="center",
            va="top",
            linespacing=1.15,
        )


def _chain(panel: Axes, one: Trace) -> None:
    """Join a visit of each sweep, each of which needs all of the sweep before."""
    if len(one.chain) < 2:
        return
    places, column = [], 0
    for visit in one.chain:
        # What data decide may be any element: the one visited before, too.
        column = column if visit.position is None else visit.position
        places.append((column + 0.5, _top(one, visit.sweep) + visit.step + 0.5))
    for start, end in itertools.pairwise(places):
        panel.annotate(
            "",
            end,
            start,
            zorder=5,
            arrowprops={
                "arrowstyle": "-|>,head_width=0.22,head_length=0.45",
                "color": "#B0004E",
                "linewidth": 1.5,
                "shrinkA": 6,
                "shrinkB": 6,
            },
        )
    xs, ys = zip(*places, strict=True)
    panel.plot(
        xs, ys, "o", markersize=12, markerfacecolor="none", markeredgecolor="#B0004E", zorder=5
    )


def _tail(panel: Axes, one: Trace) -> None:
    """Bracket what the last step still needs: too little for a pass, but it must be at hand."""
    n, width = one.length, one.count.tail
    row = _top(one, one.sweeps) + n + 0.45
    panel.plot([n - width, n - width, n, n], [row, row + 0.35, row + 0.35, row], "k-", linewidth=1)
    panel.text(n, row + 0.7, f"tail: {width} positions", fontsize=SMALL, ha="right", va="top")


def _legend(panel: Axes, one: Trace) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles = [
        Patch(facecolor=COLOURS[0], edgecolor="white", label="an element comes by"),
        Patch(facecolor=PALE[0], edgecolor=FRAME, label="needed again, still at hand"),
        Line2D([], [], color="black", linewidth=2.2, label="barrier: needs all above it"),
        Line2D(
            [],
            [],
            color="#B0004E",
            marker="o",
            markersize=8,
            markerfacecolor="none",
            label="witness",
        ),
    ]
    panel.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(-0.6, _top(one, one.sweeps) + one.length + 3.4),
        bbox_transform=panel.transData,
        fontsize=SMALL,
        frameon=False,
        labelspacing=0.9,
        borderaxespad=0,
    )


def draw_words(traces: Sequence[Trace]) -> Figure:
    """Draw what must stay on chip to load every element once, and what less room costs.

    Args:
        traces: fibers of the same length; a row and a line each.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as NewFigure

    figure = NewFigure(figsize=(8.0, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(len(traces), 2, width_ratios=(1.55, 1))
    most = max(one.sweeps for one in traces)
    for i, one in enumerate(traces):
        panel = figure.add_subplot(grid[i, 0])
        _live(panel, one, most)
        if i == len(traces) - 1:
            panel.set_xlabel("time: elements that came by", fontsize=SMALL)
        if i == len(traces) // 2:
            panel.set_ylabel("elements that are still needed", fontsize=SMALL)
    _loads(figure.add_subplot(grid[:, 1]), traces, most)
    return figure


def _live(panel: Axes, one: Trace, most: int) -> None:
    """Elements still needed at every step; a shade for each sweep."""
    n, words = one.length, one.words()
    for sweep in range(one.sweeps):
        steps = range(sweep * n, (sweep + 1) * n)
        panel.bar(
            [step + 0.5 for step in steps],
            [words[step] for step in steps],
            0.9,
            color=COLOURS[sweep % len(COLOURS)],
            edgecolor=FRAME,
            linewidth=0.5,
        )
        panel.text((sweep + 0.5) * n, n * 1.1, f"sweep {sweep + 1}", fontsize=SMALL, ha="center")
    for barrier in one.barriers:
        panel.axvline(barrier.sweep * n, color="black", linewidth=2.2)
    peak = max(words)
    panel.axhline(peak, color="black", linewidth=0.8, linestyle=":")
    panel.set_title(f"{one.cascade}: at most {peak} words", fontsize=LARGE, loc="left")
    panel.set_xlim(0, most * n)
    panel.set_ylim(0, n * 1.35)
    panel.set_xticks(range(0, most * n + 1, n))
    panel.set_yticks([0, n // 2, n])
    _dress(panel)


def _loads(panel: Axes, traces: Sequence[Trace], most: int) -> None:
    """Loads that no schedule avoids, by words on chip."""
    n = traces[0].length
    room = range(n + 3)
    for i, one in enumerate(traces):
        loads = [one.least_loads(words) for words in room]
        style = LINES[i % len(LINES)]
        panel.plot(room, loads, style, color="black", linewidth=1.8, label=one.cascade)
    panel.set_title("what less room costs", fontsize=LARGE, loc="left")
    panel.set_xlabel("words on chip", fontsize=SMALL)
    panel.set_ylabel(f"least loads of {n} elements", fontsize=SMALL)
    panel.set_xlim(0, n + 2)
    panel.set_ylim(0, most * n + 2)
    panel.set_xticks(range(0, n + 1, 3))
    panel.set_yticks(range(0, most * n + 1, n))
    panel.legend(fontsize=SMALL, frameon=False, loc="upper right")
    _dress(panel)


def _dress(panel: Axes) -> None:
    panel.tick_params(labelsize=SMALL)
    panel.set_axisbelow(True)
    panel.grid(linewidth=0.4, alpha=0.6)
    panel.spines[["top", "right"]].set_visible(False)
