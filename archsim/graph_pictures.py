"""Pictures of element graphs: what depends on a fiber, coloured by the sweep that computes it.

Places are computed: a value stands below everything it needs, and in the middle of the elements it
is tied to. Points of a sum with a single term are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from archsim.pass_pictures import COLOURS, LARGE, MONO, SMALL
from einsum_cascade.element_graph import Node
from einsum_cascade.sweep_trace import Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Half the height of a box, in rows; inches of a row and of a column.
HALF, ROW, COLUMN = 0.24, 0.72, 1.0


def draw_graphs(traces: Sequence[Trace], titles: Sequence[str]) -> Figure:
    """Draw everything that depends on a fiber, below what it depends on, by sweep.

    Args:
        traces: what to draw, a panel each; fibers of a few elements.
        titles: a line above each panel.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as NewFigure

    places = [_places(one) for one in traces]
    depth = max(y for place in places for _, y in place.values())
    widths = [one.length + 0.6 for one in traces]
    figure = NewFigure(figsize=(sum(widths) * COLUMN, (depth + 1.6) * ROW), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(traces), squeeze=False, width_ratios=widths)[0]
    for panel, one, place, title in zip(panels, traces, places, titles, strict=True):
        panel.set_xlim(-0.55, one.length - 0.45)
        panel.set_ylim(depth + 0.5, -0.5)
        panel.set_axis_off()
        panel.set_title(title, fontsize=LARGE)
        _edges(panel, one, place)
        _nodes(panel, one, place)
        # A small graph leaves room to say what it is of.
        bottom = max(y for _, y in place.values())
        if depth - bottom >= 2:
            text = "\n".join(map(str, one.fiber.source.cascade.einsums))
            panel.text(-0.4, bottom + 1.2, text, family=MONO, fontsize=LARGE, va="top")
    return figure


def _operands(one: Trace, node: Node) -> Iterator[Node]:
    """Operands of a node, without points of a sum that has only one of them."""
    for operand in one.fiber.operands[node]:
        yield from _operands(one, operand) if _is_lonely(one, operand) else (operand,)


def _is_lonely(one: Trace, node: Node) -> bool:
    whole = Node(node.tensor, node.at)
    return node.point is not None and len(one.fiber.operands[whole]) == 1


def _places(one: Trace) -> dict[Node, tuple[float, float]]:
    """Below every operand, and in the middle of the elements that a node is computed from."""
    found: dict[Node, tuple[float, float]] = {}
    from_: dict[Node, set[float]] = {}
    for i, node in enumerate(one.fiber.elements):
        found[node], from_[node] = (float(i), 0.0), {float(i)}
    for node in one.fiber.order:
        if node in found or _is_lonely(one, node):
            continue
        operands = list(_operands(one, node))
        # What belongs to a position stays below it, whatever else it needs.
        narrow = min(len(from_[operand]) for operand in operands)
        is_map = one.fiber.source.facts[node].kind == "map"
        tied = [o for o in operands if not is_map or len(from_[o]) == narrow]
        from_[node] = set().union(*(from_[operand] for operand in tied))
        middle = sum(from_[node]) / len(from_[node])
        found[node] = (middle, 1 + max(found[operand][1] for operand in operands))
    return found


def _edges(panel: Axes, one: Trace, place: dict[Node, tuple[float, float]]) -> None:
    for node, (x, y) in place.items():
        for operand in _operands(one, node):
            from_x, from_y = place[operand]
            # An arrow that passes a whole row goes around what stands there.
            is_long = from_x == x and y - from_y > 1
            side = 0 if not is_long else 1 if 2 * x < one.length - 1 else -1
            bend, aside = 0.3 * side, 0.16 * side
            panel.annotate(
                "",
                (x - aside, y - HALF),
                (from_x - aside, from_y + HALF),
                zorder=1,
                arrowprops={
                    "arrowstyle": "-|>,head_width=0.16,head_length=0.36",
                    "color": "#777777",
                    "linewidth": 0.8,
                    "shrinkA": 0,
                    "shrinkB": 0,
                    "connectionstyle": f"arc3,rad={bend}",
                },
            )


def _nodes(panel: Axes, one: Trace, place: dict[Node, tuple[float, float]]) -> None:
    """A box for each node; barriers, which need a whole sweep, have a thick frame."""
    texts = {barrier.text.partition(" = ")[0].partition("[")[0] for barrier in one.barriers}
    for node, (x, y) in place.items():
        sweep = one.times[node][0]
        is_barrier = node.tensor in texts and node.point is None
        is_element = node in one.fiber.elements
        face = "white" if is_element else COLOURS[(sweep - 1) % len(COLOURS)]
        label = str(node) if is_element else f"{node}\n{sweep}"
        panel.text(
            x,
            y,
            label,
            family=MONO,
            fontsize=SMALL,
            ha="center",
            va="center",
            linespacing=1.1,
            zorder=3,
            bbox={
                "boxstyle": "round,pad=0.3",
                "facecolor": face,
                "edgecolor": "black",
                "linewidth": 2.2 if is_barrier else 0.7,
            },
        )
