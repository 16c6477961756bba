"""What the FuseMax paper and its artifact published, and where a reproduction differs from it.

Published values are read for comparison only. Energies and buffer areas rest on fitted constants,
so their agreement is no evidence; each difference beyond rounding says so in its reason.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from functools import cache
from typing import Any

from archsim.errors import ArchError
from einsum_cascade.catalog import folder
from einsum_cascade.documents import read_document

# Relative differences from which a value counts as a deviation: exact forms, fitted ones.
TOLERANCE = 1e-9
FITTED_TOLERANCE = 1e-6
REASONS = {
    "energy": "buffer energies are fitted, and some of the artifact's counts are inferred",
    "area": "buffer areas are fitted to these very points",
}


@cache
def published_table(name: str, *keys: str) -> dict[tuple[str, ...], float]:
    """Values of a table of published results, by the given columns."""
    path = folder("einsum_cascade.workloads", "papers", ArchError) / f"{name}.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        return {tuple(row[key] for key in keys): float(row["value"]) for row in rows}


@cache
def published_points() -> dict[tuple[str, int, str, str], float]:
    """Published attention results by (model, length, configuration, metric)."""
    table = published_table("fusemax_attention", "model", "seq_len", "config", "metric")
    return {(m, int(length), c, metric): v for (m, length, c, metric), v in table.items()}


def claims() -> dict[str, tuple[str, float]]:
    """What the paper's text claims: by headline, in words and as a number."""
    path = folder("einsum_cascade.workloads", "papers", ArchError) / "fusemax.yaml"
    found = read_document(path, ArchError).data["claims"]
    return {name: (claim["what"], float(claim["value"])) for name, claim in found.items()}


# One value to compare: where it belongs, its metric, ours, and the published one if there is one.
Pair = tuple[dict[str, Any], str, float, float | None]


def compare(pairs: Iterable[Pair]) -> tuple[tuple[dict[str, Any], ...], int, float]:
    """Return deviations, how many values were compared, and the largest of an exact form."""
    deviations = []
    compared, largest = 0, 0.0
    for place, metric, computed, reference in pairs:
        if reference is None:
            continue
        compared += 1
        difference = abs(computed - reference) / abs(reference)
        reason = REASONS.get(metric, "")
        if not reason:
            largest = max(largest, difference)
        if difference > (FITTED_TOLERANCE if reason else TOLERANCE):
            row = {"metric": metric, "computed": computed, "published": reference}
            deviations.append({**place, **row, "relative": difference, "reason": reason})
    return tuple(deviations), compared, largest
