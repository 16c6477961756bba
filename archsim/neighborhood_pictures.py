"""Pictures of neighbourhoods: what a query tile sees, and how many key tiles each one visits.

Both show the last two dimensions; what does not fit on paper, the first of three, is taken at its
worst query tile. Colours are Okabe and Ito's and one ramp of blue, which stay apart for
colour-blind readers and in print.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from archsim.figure_files import save_figures
from einsum_cascade.neighborhood import Neighborhood
from einsum_cascade.neighborhood_lines import Line
from einsum_cascade.neighborhood_tiles import Tiles, boxes, show_shape, tile_ends

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from matplotlib.patches import Patch

QUERY, BOX, GRID = "#D55E00", "#000000", "#BBBBBB"
# Up to so many different rectangles of a map are numbered.
MOST_NUMBERS = 100


def new_figure(width: float, height: float) -> Figure:
    """Make a figure, in inches, that belongs to no window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as NewFigure

    figure = NewFigure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def draw_neighborhood(neighborhood: Neighborhood, tiles: Tiles, folder: Path) -> list[Path]:
    """Draw what the worst query tile sees and what all of them visit; return the files."""
    figures = {
        "gna-windows": windows_figure([(neighborhood, tiles)]),
        "gna-visited": visited_figure([(neighborhood, tiles)]),
    }
    return save_figures(figures, folder)


def windows_figure(cases: Sequence[tuple[Neighborhood, Tiles]]) -> Figure:
    """For each case: how many queries of the worst query tile see a key, and the tiles visited."""
    from matplotlib.colors import LinearSegmentedColormap

    rows, columns = _last_two(cases[0][0])
    width = 3.6 if len(cases) > 1 else 5.2
    height = min(7.0, max(1.0, width * rows.size / columns.size)) + 1.0
    figure = new_figure(width * len(cases) + 0.8, height)
    blues = LinearSegmentedColormap.from_list("seen", ["#FFFFFF", "#56B4E9", "#0072B2"])
    panels = figure.subplots(1, len(cases), sharey=True, squeeze=False)[0]
    for panel, (neighborhood, tiles) in zip(panels, cases, strict=True):
        image = _draw_window(panel, neighborhood, tiles, blues)
    _colorbar(figure, panels, image, "share of queries\nthat see a key")
    figure.legend(
        handles=_window_legend(), loc="outside lower center", ncols=4, fontsize=8, frameon=False
    )
    return figure


def _draw_window(
    panel: Axes, neighborhood: Neighborhood, tiles: Tiles, ramp: Colormap
) -> AxesImage:
    from matplotlib.patches import Rectangle

    lines = _last_two(neighborhood)
    shapes = [_pair(tiles.q_tile), _pair(tiles.kv_tile)]
    views = [
        _View(line, q, kv, tiles.kv_tiling) for line, q, kv in zip(lines, *shapes, strict=True)
    ]
    vertical, horizontal = views
    seen = np.outer(vertical.share, horizontal.share)
    image = panel.imshow(
        seen,
        cmap=ramp,
        vmin=0,
        vmax=1,
        origin="upper",
        interpolation="nearest",
        aspect=_aspect(neighborhood),
    )
    for edge in vertical.grid:
        panel.axhline(edge - 0.5, color=GRID, linewidth=0.5)
    for edge in horizontal.grid:
        panel.axvline(edge - 0.5, color=GRID, linewidth=0.5)
    for top, is_row_full in vertical.tiles:
        for left, is_column_full in horizontal.tiles:
            is_full = is_row_full and is_column_full
            panel.add_patch(
                Rectangle(
                    (left - 0.5, top - 0.5),
                    horizontal.extent,
                    vertical.extent,
                    fill=False,
                    hatch=None if is_full else "////",
                    edgecolor="#00000055",
                    linewidth=0.6,
                )
            )
    for view_y, view_x, colour, style in (
        (vertical.box, horizontal.box, BOX, "-"),
        (vertical.queries, horizontal.queries, QUERY, "-"),
    ):
        panel.add_patch(
            Rectangle(
                (view_x[0] - 0.5, view_y[0] - 0.5),
                view_x[1] - view_x[0],
                view_y[1] - view_y[0],
                fill=False,
                edgecolor=colour,
                linestyle=style,
                linewidth=2.0,
                zorder=4,
            )
        )
    panel.set_xlim(-0.5, lines[1].size - 0.5)
    panel.set_ylim(lines[0].size - 0.5, -0.5)
    full = sum(y for _, y in vertical.tiles) * sum(x for _, x in horizontal.tiles)
    visited = len(vertical.tiles) * len(horizontal.tiles)
    where = " in this plane" if neighborhood.dimensions == 3 else ""
    counts = f"{visited} key tiles visited{where}, {full} of them full"
    panel.set_title(f"{_windows_text(neighborhood, 2)}\n{counts}", fontsize=9)
    _axes(panel, "token", neighborhood)
    return image


class _View:
    """One dimension of the worst query tile of dilation group 0, in token coordinates."""

    def __init__(self, line: Line, q_tile: int, kv_tile: int, kv_tiling: str) -> None:
        length, step = line.groups()[0], line.dilation
        one = boxes(length, line, q_tile, kv_tile, kv_tiling)
        counts = (one.end - one.begin) // kv_tile
        # The worst one, and of several the middle one.
        worst = np.flatnonzero(counts == counts.max())
        at = int(worst[len(worst) // 2])
        first, last = tile_ends(length, q_tile)
        rows = line.visible()[first[at] * step : last[at] * step + 1 : step]
        begin, end = int(one.begin[at]), int(one.end[at])
        self.share = rows.mean(axis=0)
        self.extent = kv_tile * step
        self.queries = (int(first[at]) * step, (int(last[at]) + 1) * step)
        self.box = (begin * step, end * step)
        self.grid = [edge * step for edge in range(begin % kv_tile, length + 1, kv_tile)]
        keys: NDArray[np.bool_] = np.all(rows, axis=0)[::step]
        self.tiles = [
            (start * step, bool(keys[start : start + kv_tile].all()))
            for start in range(begin, end, kv_tile)
        ]


def _window_legend() -> list[Patch]:
    from matplotlib.patches import Patch

    return [
        Patch(fill=False, edgecolor=QUERY, linewidth=2, label="query tile"),
        Patch(fill=False, edgecolor=BOX, linewidth=2, label="key tiles visited"),
        Patch(fill=False, edgecolor="#777777", hatch="////", label="needs a mask"),
    ]


def visited_figure(cases: Sequence[tuple[Neighborhood, Tiles]]) -> Figure:
    """For each case a map of query tiles: key tiles that each one visits."""
    maps = [visited_map(neighborhood, tiles) for neighborhood, tiles in cases]
    rows, columns = maps[0].shape
    width = 4.0 if len(cases) > 1 else 5.6
    height = (min(7.0, max(1.0, width * rows / columns)) if _is_plane(cases[0][0]) else 1.0) + 0.8
    figure = new_figure(width * len(cases) + 0.8, height)
    panels = figure.subplots(1, len(cases), sharey=True, squeeze=False)[0]
    low, high = min(int(m.min()) for m in maps), max(int(m.max()) for m in maps)
    for panel, visited, (neighborhood, tiles) in zip(panels, maps, cases, strict=True):
        image = panel.imshow(
            visited, cmap="cividis", vmin=low, vmax=max(high, low + 1), aspect=_aspect(neighborhood)
        )
        _number(panel, visited, (low + high) / 2)
        panel.set_title(
            f"{_windows_text(neighborhood)}\n"
            f"worst {tiles.visited_max}, mean {tiles.visited_sum / tiles.q_tiles:.1f} "
            f"of {tiles.kv_tiles_dense} key tiles",
            fontsize=9,
        )
        _axes(panel, "query tile", neighborhood)
    label = "key tiles visited"
    if cases[0][0].dimensions == 3:
        label += "\n(first dimension: worst tile)"
    _colorbar(figure, panels, image, label)
    return figure


def _number(panel: Axes, visited: NDArray[np.int64], middle: float) -> None:
    """Write a number into each rectangle of equal counts, unless there are too many."""
    row_runs, column_runs = _runs(visited[:, 0]), _runs(visited[0])
    if len(row_runs) * len(column_runs) > MOST_NUMBERS:
        return
    for top, bottom in row_runs:
        for left, right in column_runs:
            count = int(visited[top, left])
            text = panel.text(
                (left + right - 1) / 2,
                (top + bottom - 1) / 2,
                str(count),
                ha="center",
                va="center",
                fontsize=7,
                color="white" if count <= middle else "black",
            )
            # Inside its rectangle it changes no margins, and finding that out takes long.
            text.set_in_layout(False)


def _runs(counts: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Begin and end of each stretch of equal counts."""
    changes = [0, *(np.flatnonzero(np.diff(counts)) + 1).tolist(), len(counts)]
    return list(pairwise(changes))


def visited_map(neighborhood: Neighborhood, tiles: Tiles) -> NDArray[np.int64]:
    """Key tiles that query tiles of dilation group 0 visit, along the last two dimensions."""
    counts = []
    for line, q, kv in zip(neighborhood.lines, tiles.q_tile, tiles.kv_tile, strict=True):
        one = boxes(line.groups()[0], line, q, kv, tiles.kv_tiling)
        counts.append((one.end - one.begin) // kv)
    *outer, columns = counts
    rows = outer[-1] if outer else np.ones(1, np.int64)
    worst = int(np.prod([count.max() for count in outer[:-1]], dtype=np.int64))
    found: NDArray[np.int64] = np.outer(rows, columns) * worst
    return found


def _is_plane(neighborhood: Neighborhood) -> bool:
    return neighborhood.dimensions > 1


def _aspect(neighborhood: Neighborhood) -> Literal["equal", "auto"]:
    """A line would be too thin to see if its tokens were square."""
    return "equal" if _is_plane(neighborhood) else "auto"


def _windows_text(neighborhood: Neighborhood, last: int = 3) -> str:
    window, stride = (show_shape(s[-last:]) for s in (neighborhood.window, neighborhood.stride))
    return f"window {window}, stride {stride}"


def _last_two(neighborhood: Neighborhood) -> tuple[Line, Line]:
    """The last two dimensions; a layout of one is a single row."""
    lines = neighborhood.lines
    return (Line(1, 1), lines[0]) if len(lines) == 1 else (lines[-2], lines[-1])


def _pair(tile: tuple[int, ...]) -> tuple[int, int]:
    return (1, tile[0]) if len(tile) == 1 else (tile[-2], tile[-1])


def _colorbar(figure: Figure, panels: Sequence[Axes], image: AxesImage, label: str) -> None:
    from matplotlib.ticker import MaxNLocator

    bar = figure.colorbar(image, ax=list(panels), shrink=0.85, aspect=25)
    bar.set_label(label, fontsize=8)
    if "visited" in label:
        bar.ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    bar.ax.tick_params(labelsize=7)


def _axes(panel: Axes, what: str, neighborhood: Neighborhood) -> None:
    from matplotlib.ticker import MaxNLocator

    last = neighborhood.dimensions - 1
    panel.set_xlabel(f"{what}, dimension {last}", fontsize=8)
    if last:
        panel.set_ylabel(f"{what}, dimension {last - 1}", fontsize=8)
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True, nbins=8, steps=[1, 2, 4, 8, 10]))
    if not last:
        panel.set_yticks([])
    panel.tick_params(labelsize=7)
    panel.label_outer()


__all__ = [
    "draw_neighborhood",
    "new_figure",
    "visited_figure",
    "visited_map",
    "windows_figure",
]
