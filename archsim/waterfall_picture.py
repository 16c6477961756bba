"""Tasks over time as a figure: the first tile of a run, and one from the middle of it.

A row for each task, in the order in which the first tile gets to them, so that time runs down as
well as right; below, why units were idle, and what the memory channel moves. The tile that a panel
is about is dark, tiles around it are pale and numbered. Thin lines follow values from maker to
reader. A task that takes turns with another one is as much thinner as it has fewer slots.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archsim.recording import Part
from archsim.sweeps.charts import COLOURS, QUIET
from archsim.timeline import Fact

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEIGHT = 0.78
# Of the width of a panel: what a text needs to fit into a bar.
LETTER = 0.017
# And the least width of a bar.
NARROW = 0.004


def waterfall_figure(part: Part) -> Figure:
    """Draw the first and a middle tile of one phase."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    tiles = part.whole_tiles or (0,)
    chosen = list(dict.fromkeys((tiles[0], tiles[len(tiles) // 2])))
    rows = _rows(part, tiles[0])
    figure = Figure(figsize=(13.5, 1.9 + 0.31 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(chosen), sharey=True, squeeze=False)[0]
    for panel, tile in zip(panels, chosen, strict=True):
        _panel(panel, part, rows, tile)
        at = ", ".join(f"{loop} {coordinate}" for loop, coordinate in _tile(part, tile))
        which = "first tile" if tile == tiles[0] else f"tile {tile}"
        panel.set_title(f"{which} ({at})" if at else which, loc="left", fontsize=10)
        panel.set_xlabel("time (cycles)")
    colours = _colours(part)
    handles = [Patch(color=colours[name], label=name) for name in colours]
    handles.append(Patch(color=QUIET, label="idle slots, with the cause"))
    figure.legend(handles=handles, loc="outside lower center", ncols=5, fontsize=9, frameon=False)
    figure.suptitle(f"{part.program.name}: tasks over time", fontsize=11, x=0.01, ha="left")
    figure.text(
        0.995,
        0.985,
        "dark: the tile, pale: tiles around it; arrows: values from maker to reader; "
        "half as high: every second slot",
        ha="right",
        va="top",
        fontsize=8,
        color="#555555",
    )
    return figure


def _tile(part: Part, tile: int) -> tuple[tuple[str, int], ...]:
    """Coordinates of a tile, without loops of one."""
    counts = {loop.variable: loop.count for loop in part.program.nest}
    return tuple((v, c) for v, c in part.run.program.tiles[tile].at if counts[v] > 1)


def _colours(part: Part) -> dict[str, str]:
    names = [body.unit for body in part.program.bodies]
    memory = part.program.architecture.outer.name
    return dict(zip([*names, memory], COLOURS, strict=False))


def _rows(part: Part, first: int) -> dict[str, float]:
    """Places of tasks, of each unit's idle slots, and of the memory channel, the top one 0."""
    seen = {fact.task: fact.first for fact in reversed(part.facts)}
    own = {fact.task: fact.first for fact in reversed(part.facts) if fact.tile == first}
    order = sorted(seen, key=lambda task: (task not in own, own.get(task, seen[task])))
    idle = [f"{unit} idle" for unit in dict.fromkeys(gap.unit for gap in part.gaps)]
    memory = [part.program.architecture.outer.name] if part.transfers else []
    rows = {name: float(row) for row, name in enumerate(order)}
    for name in (*idle, *memory):
        rows[name] = len(rows) + 0.4
    return rows


def _panel(panel: Axes, part: Part, rows: dict[str, float], tile: int) -> None:
    mine = [fact for fact in part.facts if fact.tile == tile]
    start = min((fact.first - 1 for fact in mine), default=0)
    end = max((fact.slots[-1] for fact in mine), default=part.cycles)
    margin = max(1.0, 0.02 * (end - start))
    # What the first tile waits for belongs to it.
    left = 0.0 if start < end - start else start - margin
    right = end + margin
    letter = LETTER * (right - left)
    colours = _colours(part)

    def bar(row: str, a: float, b: float, colour: str, text: str, *, dark: bool, thin: int) -> None:
        if b <= left or a >= right:
            return
        height = HEIGHT / thin
        # A slot of a long tile would be thinner than a line.
        b = max(b, a + NARROW * (right - left))
        panel.broken_barh(
            [(a, b - a)],
            (rows[row] - height / 2, height),
            facecolor=colour if dark else _pale(colour),
            edgecolor="white",
            linewidth=0.5 if b - a > 2 * NARROW * (right - left) else 0,
            zorder=3 if dark else 2,
        )
        middle = (max(a, left) + min(b, right)) / 2
        if text and min(b, right) - max(a, left) > letter * len(text) and thin < 3:
            panel.text(
                middle,
                rows[row],
                text,
                ha="center",
                va="center",
                fontsize=6.5,
                color="white" if dark else "#444444",
                zorder=5,
                clip_on=True,
            )

    for fact in part.facts:
        dark = fact.tile == tile
        thin = 1 if fact.count == 1 else fact.stride
        a, b = fact.first - 1, fact.slots[-1]
        bar(fact.task, a, b, colours[fact.unit], str(fact.tile), dark=dark, thin=thin)
    for gap in part.gaps:
        a, b = gap.first - 1, gap.first - 1 + gap.count
        bar(f"{gap.unit} idle", a, b, QUIET, gap.cause, dark=True, thin=1)
    memory = part.program.architecture.outer.name
    for one in part.transfers:
        move = one.granule.move
        dark = tile in one.granule.tiles
        bar(memory, one.start, one.end, colours[memory], move.tensor, dark=dark, thin=1)
    _lines(panel, part, rows, mine, left)
    panel.set_xlim(left, right)
    panel.set_yticks(list(rows.values()), list(rows), fontsize=8.5)
    panel.set_ylim(max(rows.values()) + 0.6, -0.6)
    panel.grid(axis="x", linewidth=0.4, alpha=0.5)
    panel.set_axisbelow(True)
    panel.tick_params(axis="y", length=0)
    panel.spines[["top", "right", "left"]].set_visible(False)


def _lines(panel: Axes, part: Part, rows: dict[str, float], mine: list[Fact], left: float) -> None:
    """Follow the values that the tasks of a tile read, unless they come from far back."""
    read = {(fact.task, slot - 1) for fact in mine for slot in fact.slots}
    for flow in part.flows:
        near = flow.maker in rows and flow.maker != flow.reader and flow.made >= left
        if near and (flow.reader, flow.read) in read:
            panel.annotate(
                "",
                xy=(flow.read + 0.5, rows[flow.reader]),
                xytext=(flow.made + 0.5, rows[flow.maker]),
                arrowprops={
                    "arrowstyle": "-|>",
                    "color": "black",
                    "alpha": 0.55,
                    "linewidth": 0.6,
                    "mutation_scale": 6,
                    "shrinkA": 0,
                    "shrinkB": 0,
                    "connectionstyle": "arc3,rad=0.08",
                },
                zorder=4,
                annotation_clip=True,
            )


def _pale(colour: str) -> str:
    """The same colour with three parts of white."""
    parts = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{(part + 3 * 255) // 4:02x}" for part in parts)
