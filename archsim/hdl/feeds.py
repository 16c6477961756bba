"""What a memory gives to the hardware of a Program and gets from it: rows of words, in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.elements import coordinates
from archsim.encoding import Encoder
from archsim.program import Program, Task
from archsim.sequence import MicroOp
from archsim.values import compute


@dataclass(frozen=True)
class Feeds:
    """Streams in and out.

    `streams` are bits of bf16 words [row, word]; `outputs` are bits of fp32 words [row, column]
    from the functional model, and which of them belong to an element that is not replaced later.
    """

    streams: dict[str, NDArray[np.uint16]]
    outputs: dict[str, tuple[NDArray[np.uint32], NDArray[np.bool_]]]


def feeds(program: Program, inputs: Mapping[str, Any]) -> Feeds:
    """Make the streams of a Program for some inputs."""
    encoder = Encoder(program, inputs, "hardware")
    streams = {}
    micro_ops: list[MicroOp] = []
    for unit, edges in (
        (program.array, {"left": "left", "top": "top"}),
        (program.lanes, {"top": "lane"}),
    ):
        table, micro_ops = encoder.stream(unit.name)
        for source, name in edges.items():
            rows = [n for n, op in enumerate(micro_ops) if _takes(program, op, source)]
            words = (table.left if source == "left" else table.top)[rows]
            if rows:
                bits = words.astype(np.float32).view(np.uint32)
                streams[name] = (bits >> np.uint32(16)).astype(np.uint16)
    # The lanes came last, and outputs are theirs.
    return Feeds(streams, _outputs(program, micro_ops, compute(program, inputs)))


def _takes(program: Program, op: MicroOp, source: str) -> bool:
    """True if a micro-op takes a row of words from an edge."""
    _, number, part = program.locate(op.task, op.slot)
    return part == 0 and any(o.source == source for o in op.task.steps[number].operands)


def _gives(program: Program, op: MicroOp) -> bool:
    """True if a micro-op makes a row of an output."""
    _, number, part = program.locate(op.task, op.slot)
    last = program.cost(op.task, op.task.steps[-1])[0] - 1
    return op.task.goes == "output" and (number, part) == (len(op.task.steps) - 1, last)


def _outputs(
    program: Program, micro_ops: list[MicroOp], values: dict[str, Any]
) -> dict[str, tuple[NDArray[np.uint32], NDArray[np.bool_]]]:
    found = {}
    cols = program.shape[1]
    for tensor, computed in values.items():
        ops = [op for op in micro_ops if op.task.tensor == tensor and _gives(program, op)]
        bits = computed.astype(np.float32).view(np.uint32)
        rows = np.zeros((len(ops), cols), np.uint32)
        maker = np.full(bits.shape, -1)
        for n, op in enumerate(ops):
            where = _elements(program, op.task, op)
            if where is not None:
                rows[n, : op.tile.cols] = bits[where]
                maker[where] = n
        counts = np.zeros(rows.shape, np.bool_)
        for n, op in enumerate(ops):
            where = _elements(program, op.task, op)
            if where is not None:
                counts[n, : op.tile.cols] = maker[where] == n
        found[tensor] = rows, counts
    return found


def _elements(program: Program, task: Task, op: MicroOp) -> tuple[Any, ...] | None:
    """Coordinates of a row of an output; None if it lies behind the end."""
    word, _, _ = program.locate(task, op.slot)
    at: dict[str, Any] = {**dict(op.tile.at), **program.word_at(task, word)}
    if at.get(program.rows, 0) >= op.tile.rows:
        return None
    at[program.cols] = np.arange(op.tile.cols)
    target = next(e.target for e in program.cascade.defining(task.tensor) if not e.is_initial)
    return coordinates(program, target, at)
