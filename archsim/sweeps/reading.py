"""Results to look at: of a sweep's folder, of its file of results, or of one run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from archsim.batches import leaves
from archsim.errors import ArchError
from archsim.sweeps.definition import Sweep, sweep_from
from archsim.sweeps.results import Results
from archsim.sweeps.schema import OBJECTIVES
from archsim.sweeps.storage import COPY, read_rows
from einsum_cascade.documents import read_document
from einsum_cascade.errors import Problem, Source

# What every report of a run has, among others.
NEEDED = {"cascade", "level", "accounting", "cycles", "latency_s"}


def read_results(path: Path) -> tuple[Results, str]:
    """Read a sweep's folder, its results.jsonl, or what `archsim run --json` printed.

    Returns:
        The results, and the text of the sweep ("" for a run).

    Raises:
        ArchError: there is nothing of the kind.
    """
    if path.suffix == ".json":
        return _run(path), ""
    rows = read_rows(path)
    copy = (path if path.is_dir() else path.parent) / COPY
    if not copy.is_file():
        hint = "`archsim sweep` puts a copy of its file there"
        raise ArchError(
            Problem(Source(str(copy)), "the sweep of these results is missing", hint=hint)
        )
    sweep = sweep_from(read_document(copy, ArchError))
    return results_of(sweep, rows), copy.read_text(encoding="utf-8")


def results_of(sweep: Sweep, rows: list[dict[str, Any]]) -> Results:
    """Rows of a sweep with what was varied and looked for.

    Raises:
        ArchError: a row has no value of an axis.
    """
    for row in rows:
        missing = [path for path in sweep.varied if path not in row]
        if missing:
            what = f"the point {row['key']} has no {missing[0]}, which the sweep varies"
            hint = f"these are results of another {COPY}"
            raise ArchError(Problem(Source(sweep.document.file), what, hint=hint))
    title = sweep.name + (f": {sweep.description}" if sweep.description else "")
    return Results(title, tuple(rows), sweep.varied, sweep.objectives, sweep.constraints)


def _run(path: Path) -> Results:
    hint = "write one with: archsim run ... --json > run.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArchError(
            Problem(Source(str(path)), f"cannot read the file: {error.strerror}", hint=hint)
        ) from None
    except ValueError as error:
        raise ArchError(Problem(Source(str(path)), f"not JSON: {error}", hint=hint)) from None
    if not isinstance(found, dict) or not found.keys() >= NEEDED:
        raise ArchError(Problem(Source(str(path)), "this is no report of a run", hint=hint))
    row = leaves(found) | {"error": ""}
    title = f"{row['cascade']} on {row.get('arch')} through {row.get('mapping')}"
    return Results(title, (row,), (), tuple(OBJECTIVES.items()))
