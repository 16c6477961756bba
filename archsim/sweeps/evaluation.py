"""What a worker does: a chunk of points in, a line of JSON for each of them out."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite
from typing import Any

from archsim.arch import Architecture
from archsim.batches import Point, evaluate_each, leaves
from archsim.reporting import Report
from archsim.sweeps.axes import Value, cell
from archsim.sweeps.inputs import Bases, Inputs
from einsum_cascade.errors import SourceError

NONE: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Task:
    """A point that is to be evaluated: its key and its values by path."""

    key: str
    values: dict[str, Value]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Points for one worker, and, pickled once for all chunks, what they start from."""

    bases: bytes
    tasks: tuple[Task, ...]


@lru_cache(maxsize=1)
def inputs_of(bases: bytes) -> Inputs:
    """What makes points of pickled bases; what it made already is there for later chunks."""
    found: Bases = pickle.loads(bases)
    return Inputs(found)


def evaluate_chunk(chunk: Chunk) -> list[tuple[str, str]]:
    """Evaluate points: key and line of each, in no particular order. A failure is a line, too."""
    inputs = inputs_of(chunk.bases)
    inputs.make_room()
    found = []
    points: list[tuple[Task, Point]] = []
    for task in chunk.tasks:
        try:
            if inputs.bases.level == "passes":
                row = _words(inputs, task)
            elif "neighborhood.shape" in task.values:
                row = _row(task, _neighborhood(inputs, task.values))
            else:
                points.append((task, inputs.point(task.values)))
                continue
        except Exception as error:
            row = _failed(task, error)
        found.append((task.key, line(row)))
    for task, result in _each(points, inputs.bases):
        if isinstance(result, Report):
            try:
                row = _row(task, result, _errors(inputs, task.values))
            except Exception as error:
                row = _failed(task, error)
        else:
            row = _failed(task, result)
        found.append((task.key, line(row)))
    return found


def _each(
    points: list[tuple[Task, Point]], bases: Bases
) -> Iterator[tuple[Task, Report | Exception]]:
    """Evaluate points; one that fails in a way nobody thought of does not take others along."""
    left = dict(enumerate(points))
    try:
        whole = [point for _, point in points]
        for number, result in evaluate_each(whole, bases.level, accounting=bases.accounting):
            yield left.pop(number)[0], result
    except Exception:
        for task, point in left.values():
            alone: Report | Exception
            try:
                ((_, alone),) = evaluate_each([point], bases.level, accounting=bases.accounting)
            except Exception as error:
                alone = error
            yield task, alone


def _row(task: Task, report: Report, more: Mapping[str, Any] = NONE) -> dict[str, Any]:
    """A report as a row: cells of the axes, then every value by its path."""
    row: dict[str, Any] = {"key": task.key}
    row |= {path: cell(value) for path, value in task.values.items()}
    found = report.as_dict()
    del found["versions"]
    named = leaves(found)
    row |= {path: value for path, value in named.items() if path not in row}
    row |= _hardware(report.placed.architecture) | dict(more)
    row["error"] = ""
    return row


def _hardware(architecture: Architecture) -> dict[str, float]:
    """What pictures need to know of an architecture."""
    found: dict[str, float] = {
        f"hardware.pes.{array.name}": array.pes for array in architecture.arrays
    }
    found["hardware.clock_hz"] = architecture.clock_hz
    rate = architecture.outer.bandwidth_bytes_per_s
    if rate is not None:
        found["hardware.bandwidth_bytes_per_s"] = rate
    return found


def _failed(task: Task, error: Exception) -> dict[str, Any]:
    what = str(error) if isinstance(error, SourceError) else f"{type(error).__name__}: {error}"
    row: dict[str, Any] = {"key": task.key}
    row |= {path: cell(value) for path, value in task.values.items()}
    return row | {"error": what or type(error).__name__}


def line(row: Mapping[str, Any]) -> str:
    """A row as a line of JSON that every reader of JSON lines takes.

    Whole numbers beyond 64 bit are no numbers to most of them; nor are NaN and infinity.
    """
    odd: dict[str, float | None] = {}
    for name, value in row.items():
        if isinstance(value, float):
            if not isfinite(value):
                odd[name] = None
        elif isinstance(value, int) and abs(value) >= 1 << 63:
            odd[name] = float(value)
    return json.dumps({**row, **odd} if odd else row, allow_nan=False)


def _neighborhood(inputs: Inputs, values: Mapping[str, Value]) -> Report:
    """Simulate a layer of neighbourhood attention."""
    from archsim.sweeps.special import neighborhood_report

    return neighborhood_report(inputs.point(values), values)


def _words(inputs: Inputs, task: Task) -> dict[str, Any]:
    """What must move, without a mapping."""
    from archsim.sweeps.special import words_moved

    values = task.values
    cascade, chip = (inputs.made_of(values, kind) for kind in ("cascade", "arch"))
    row: dict[str, Any] = {"key": task.key}
    row |= {path: cell(value) for path, value in values.items()}
    row |= {"level": inputs.bases.level, "accounting": inputs.bases.accounting}
    return row | words_moved(cascade, inputs.workload(values), chip) | {"error": ""}


def _errors(inputs: Inputs, values: Mapping[str, Value]) -> dict[str, Any]:
    """Errors of hardware numbers, if the sweep asks for them."""
    if "numbers.format" not in values:
        return {}
    from archsim.sweeps.special import errors_of

    return errors_of(inputs.point(values), values)
