"""The study `passes`: fibers read as often as they must be, as a table and as pictures.

The cascades of the FuseMax paper need three, two and one pass over the keys. Three small ones
surprise: two phases that need one pass, a scan from either side that needs two, and a second pass
that reads a few elements only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from archsim import graph_pictures, pass_pictures
from archsim.figure_files import save_figures
from einsum_cascade.catalog import load
from einsum_cascade.legality import parse
from einsum_cascade.sweep_trace import Trace, trace

SURPRISES = {
    "two-phases": """\
Y = sum[m](A[m])
Z[p] = sum[m](B[m,p]*exp(Y*C[p]))""",
    "opposed-scans": """\
P[0] = 0
P[n+1] = P[n] + X[n]
S[N] = 0
S[n] = S[n+1] + X[n]
Z[n] = P[n]*S[n]""",
    "top-k": """\
S[p,m] = Q[p,e]*K[m,e]
I[p,k] = argtopk[m](S[p,m])
QG[p,k] = Q[p,e]*K[I[p,k],e]
Z[p] = max[k](QG[p,k])""",
}
SOFTMAX = ("softmax-3pass", "softmax-2pass", "softmax-1pass")
# Cascade, tensor and rank of every row of the table.
ROWS = (
    *((name, "K", "M") for name in SOFTMAX),
    ("softmax-1pass", "K", "M0"),
    ("two-phases", "A", "M"),
    ("two-phases", "B", "M"),
    ("opposed-scans", "X", "N"),
    ("top-k", "K", "M"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One fiber: its passes, and what a schedule with so many sweeps does."""

    cascade: str
    tensor: str
    rank: str
    passes: int
    sweeps: int
    # Of each sweep: does it go "up" or "down"?
    directions: tuple[str, ...]
    # Elements of the fiber; how many are still needed at the worst moment.
    elements: int
    words: int
    # Einsums whose values end a sweep.
    barriers: tuple[str, ...]


def fiber_of(name: str, tensor: str, rank: str) -> Trace:
    """Watch a fiber of a shipped cascade, or of a surprising one."""
    cascade = parse(SURPRISES[name], name) if name in SURPRISES else load(name)
    return trace(cascade, tensor, rank)


def counted() -> list[Row]:
    """Count passes, sweeps and words of every fiber of the study."""
    found = []
    for name, tensor, rank in ROWS:
        one = fiber_of(name, tensor, rank)
        ways = tuple("up" if way > 0 else "down" for way in one.directions)
        texts = tuple(barrier.text for barrier in one.barriers)
        found.append(
            Row(
                name,
                tensor,
                rank,
                one.count.lower,
                one.sweeps,
                ways,
                one.length,
                max(one.words()),
                texts,
            )
        )
    return found


def table(rows: Sequence[Row]) -> str:
    """The counts as text, a line for each fiber."""
    lines = [
        "one fiber of 12 elements; words: how many of them a schedule still needs at its worst",
        "moment, if it loads each once",
        "",
        f"{'cascade':16}{'fiber':12}{'passes':>6}{'words':>7}   sweeps",
    ]
    for row in rows:
        fiber = f"{row.tensor} over {row.rank}"
        ways = ", ".join(row.directions)
        lines.append(f"{row.cascade:16}{fiber:12}{row.passes:6}{row.words:7}   {ways}")
    return "\n".join(lines)


def draw(folder: Path) -> list[Path]:
    """Draw the pictures of docs/passes.md into a folder; return the files."""
    softmax = [fiber_of(name, "K", "M") for name in SOFTMAX]
    surprises = [fiber_of(*row) for row in ROWS[4:]]
    toy = trace(load("toy-two-pass"), "A", "K", length=4)
    small = trace(load("softmax-3pass"), "K", "M", length=4, sizes={"E": 1, "F": 1, "P": 1})
    figures = {
        "passes-sweeps": pass_pictures.draw_sweeps(softmax, SOFTMAX, legend_at=2),
        "passes-graph": graph_pictures.draw_graphs([toy, small], ["toy-two-pass", "softmax-3pass"]),
        "passes-words": pass_pictures.draw_words(softmax),
        "passes-surprises": pass_pictures.draw_sweeps(
            surprises, [one.cascade for one in surprises], legend_at=0
        ),
    }
    return save_figures(figures, folder)
