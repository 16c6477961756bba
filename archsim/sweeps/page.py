"""A report of results: one HTML file with figures, tables and data, that opens from disk."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path

from archsim.errors import ArchError
from archsim.sweeps.chart_choice import charts
from archsim.sweeps.metrics import shorts
from archsim.sweeps.results import Results
from archsim.sweeps.storage import columns
from einsum_cascade.errors import Problem, Source

# Columns of the table beside axes and objectives.
MORE = ("cycles", "lower_bound_cycles", "traffic_bytes.total", "buffer_bytes.needed", "bottleneck")


def write_page(results: Results, sweep_text: str, path: Path) -> None:
    """Write a report; nothing is read from the network when it is opened.

    Raises:
        ArchError: Plotly is not installed.
    """
    try:
        from plotly.io import to_html
        from plotly.offline import get_plotlyjs
    except ImportError:
        hint = "pip install 'einsum-archsim[report]', or use `archsim plot` for pictures"
        what = "a report needs Plotly, which is not installed"
        raise ArchError(Problem(Source("report"), what, hint=hint)) from None
    from archsim.sweeps.interactive import figure

    figures = []
    for chart in charts(results):
        drawn = to_html(
            figure(chart),
            full_html=False,
            include_plotlyjs=False,
            div_id=f"figure-{chart.name}",
            config={"displaylogo": False, "responsive": True},
        )
        title = html.escape(chart.title[:1].upper() + chart.title[1:])
        note = f"<p class=note>{html.escape(chart.note)}</p>" if chart.note else ""
        figures.append(f"<section><h2>{title}</h2>{note}{drawn}</section>")
    name, _, about = results.title.partition(": ")
    body = [
        f"<h1>{html.escape(name)}</h1>",
        f"<p>{html.escape(about)}</p>" if about else "",
        _summary(results),
        _front(results),
        *figures,
        _table(results),
        f"<section><h2>Sweep</h2><pre>{html.escape(sweep_text)}</pre></section>"
        if sweep_text
        else "",
    ]
    page = _PAGE.format(
        title=html.escape(name),
        style=_resource("page.css"),
        plotly=get_plotlyjs(),
        body="\n".join(body),
        data=_script(results),
        script=_resource("page.js"),
    )
    partial = path.with_suffix(path.suffix + ".partial")
    partial.write_text(page, encoding="utf-8")
    partial.replace(path)


def _resource(name: str) -> str:
    return (resources.files("archsim.sweeps") / name).read_text(encoding="utf-8")


def _summary(results: Results) -> str:
    rows, failed = results.rows, [row for row in results.rows if row["error"]]
    said = sorted({str(row["level"]) for row in results.good})
    counted = sorted({str(row["accounting"]) for row in results.good})
    facts = [
        f"{len(rows) - len(failed):,} points" + (f", {len(failed):,} failed" if failed else ""),
        f"level {', '.join(said)}; energy and area counted {', '.join(counted)}" if said else "",
        *(f"constraint {limit.text}" for limit in results.constraints),
    ]
    return "<ul>" + "".join(f"<li>{html.escape(fact)}</li>" for fact in facts if fact) + "</ul>"


def _front(results: Results) -> str:
    """The points that no other beats, as a table."""
    front = results.front
    if len(results.good) < 2 or not front:
        return ""
    names = shorts(results.varied)
    paths = results.telling
    goals = [path for path, _ in results.objectives]
    head = [names[path] for path in paths] + [str(results.metric(path)) for path in goals]
    rows = [
        [
            *(str(row[path]) for path in paths),
            *(f"{row[p] * results.metric(p).factor:.5g}" for p in goals),
        ]
        for row in front[:100]
    ]
    what = "Points that no other beats" + (f" (100 of {len(front)})" if len(front) > 100 else "")
    table = _html_table(head, rows, len(paths))
    return f"<section><h2>{what}</h2><div class=scroll>{table}</div></section>"


def _html_table(head: Sequence[str], rows: Iterable[Sequence[str]], words: int) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return (
            "<tr>"
            + "".join(
                f"<{tag}{'' if i < words else ' class=number'}>{html.escape(cell)}</{tag}>"
                for i, cell in enumerate(cells)
            )
            + "</tr>"
        )

    body = "".join(line(row, "td") for row in rows)
    return f"<table><thead>{line(head, 'th')}</thead><tbody>{body}</tbody></table>"


def _table(results: Results) -> str:
    """All points: drawn by the page from its data, sorted and filtered there."""
    return """<section><h2>All points</h2>
<p><input id=filter type=search placeholder="show rows that contain ..." aria-label="filter rows">
<button id=download type=button>Download all columns as CSV</button> <span id=count></span></p>
<div class=scroll><table id=points><thead></thead><tbody></tbody></table></div></section>"""


def _script(results: Results) -> str:
    """The data as JSON that no HTML in it can break out of."""
    rows = [{name: value for name, value in row.items() if name != "key"} for row in results.rows]
    names = [name for name in columns(rows) if name != "error"]
    shown = [*results.varied, *(path for path, _ in results.objectives), *MORE]
    wanted = [name for name in dict.fromkeys(shown) if name in names]
    if not results.varied:
        wanted = names
    table = {
        "columns": [*names, "error"],
        "shown": [*wanted, "error"],
        "rows": [[row.get(name) for name in (*names, "error")] for row in rows],
    }
    return json.dumps(table).replace("<", "\\u003c")


_PAGE = """<!doctype html>
<html lang=en><head><meta charset=utf-8><meta name=viewport content="width=device-width">
<title>{title}</title><style>{style}</style><script>{plotly}</script></head>
<body>
{body}
<script type="application/json" id=data>{data}</script>
<script>{script}</script>
</body></html>
"""
