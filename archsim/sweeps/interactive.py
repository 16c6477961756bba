"""Charts for a page: the same as figures of Plotly, which answer to the mouse."""

from __future__ import annotations

from typing import Any

from archsim.sweeps.charts import Chart, Series, ticks

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "star", "x")
PATTERNS = ("", "/", ".", "\\", "x", "+", "-", "|")


def figure(chart: Chart) -> Any:
    """A Plotly figure of a chart."""
    import plotly.graph_objects as go

    found = go.Figure()
    for number, one in enumerate(chart.series):
        found.add_trace(_trace(go, chart, one, number))
    rows = len(chart.series[0].x) if chart.sideways and chart.series else 0
    x_label, y_label = chart.x_label, chart.y_label
    if chart.sideways:
        x_label, y_label = y_label, x_label
    found.update_layout(
        template="plotly_white",
        barmode="stack" if chart.sideways else "group",
        height=max(320, 140 + 26 * rows) if rows else 460,
        margin={"l": 70, "r": 20, "t": 20, "b": 60},
        xaxis={"title": x_label, "type": "log" if chart.x_log else None, "automargin": True},
        yaxis={"title": y_label, "type": "log" if chart.y_log else None, "automargin": True},
        legend={"font": {"size": 12}},
        font={"family": "system-ui, sans-serif", "size": 13},
    )
    if chart.sideways:
        found.update_yaxes(autorange="reversed", type="category")
    elif not chart.y_log and chart.from_zero:
        found.update_yaxes(rangemode="tozero")
    for axis, update in (("x", found.update_xaxes), ("y", found.update_yaxes)):
        marked = ticks(chart, axis)
        if marked:
            update(tickvals=[place for place, _ in marked], ticktext=[text for _, text in marked])
    return found


def _trace(go: Any, chart: Chart, one: Series, number: int) -> Any:
    x, y = list(one.x), list(one.y)
    if one.kind == "bars":
        which = one.symbol if chart.sideways else number
        pattern = {"shape": PATTERNS[which % len(PATTERNS)], "solidity": 0.25}
        marker = {"color": one.colour, "pattern": pattern}
        if chart.sideways:
            return go.Bar(x=y, y=x, name=one.name, orientation="h", marker=marker)
        return go.Bar(x=x, y=y, name=one.name, marker=marker)
    plain = one.kind == "steps" or (one.kind == "line" and (one.dashed or not one.hover))
    mode = "lines" if plain else "lines+markers" if one.kind == "line" else "markers"
    return go.Scatter(
        x=x,
        y=y,
        name=one.name,
        showlegend=bool(one.name),
        mode=mode,
        text=list(one.hover) or None,
        hovertemplate="%{text}<br>%{x:.5g}, %{y:.5g}" if one.hover else None,
        line={
            "color": one.colour,
            "dash": "dash" if one.dashed else "solid",
            "shape": "hv" if one.kind == "steps" else "linear",
        },
        marker={"color": one.colour, "symbol": SYMBOLS[one.symbol % len(SYMBOLS)], "size": 8},
    )
