"""The register-level model of a Program: values and valid bits, and what they take in cycles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from archsim import pe_kernel as kernel
from archsim.actions import Count
from archsim.elements import Array, coordinates, put, shape
from archsim.encoding import Encoder
from archsim.errors import ArchError
from archsim.pe_counters import counters
from archsim.pe_memory import bytes_moved, channel_of
from archsim.program import Program
from archsim.sequence import MicroOp
from archsim.timeline import Timeline, count, merge
from einsum_cascade.errors import Problem, Source

CAUSES = {
    kernel.REGISTER: "register",
    kernel.ACCUMULATOR: "accumulator",
    kernel.LANDING: "landing",
    kernel.LANE: "lane",
    kernel.RETURNED: "return",
    kernel.MEMORY: "memory",
    kernel.STORE: "store",
    kernel.DRAIN: "drain",
}
FAILURES = {
    kernel.DEADLOCK: "deadlock: both units wait for words that never come",
    kernel.NOT_VALID: "a word is not there when its micro-op comes by",
    kernel.OVERFLOW: "overflow: a word arrives at a full FIFO",
}


@dataclass(frozen=True)
class PeRun:
    """What the registers did: a timeline, and the outputs [batch, whole ranks]."""

    timeline: Timeline
    outputs: dict[str, Array]
    # Cycle of issue of every micro-op, by unit, in order.
    issued: dict[str, tuple[tuple[MicroOp, int], ...]]
    # What PEs and lanes did, by task.
    counts: dict[str, Count]


def simulate_pe(program: Program, inputs: Mapping[str, Any], numbers: str = "float64") -> PeRun:
    """Execute a Program with values, register by register.

    Args:
        program: what to run.
        inputs: the cascade's inputs, [batch axes of the nest, whole ranks as written].
        numbers: "float64", or "hardware" for the bits of the architecture's units.

    Raises:
        ArchError: the units wait for each other, or a FIFO overflows.
        CascadeError: an input is missing or has another shape.
    """
    encoder = Encoder(program, inputs, numbers)
    rows, cols = program.shape
    array, array_ops = encoder.stream(program.array.name)
    lanes, lane_ops = encoder.stream(program.lanes.name)
    latency = program.architecture.latency
    delays = (
        int(stream.ops[:, column].max(initial=1))
        for stream in (array, lanes)
        for column in (kernel.LATENCY, kernel.LOOP)
    )
    longest = max(delays)
    longest += latency.return_registers
    landing, returned = encoder.queues["landing"], encoder.queues["returned"]
    streams = {program.array.name: (array, array_ops), program.lanes.name: (lanes, lane_ops)}
    channel = channel_of(program, streams)
    logs = [
        kernel.Log(*(np.zeros(len(ops), np.int64) for _ in kernel.Log._fields))
        for ops in (array_ops, lane_ops)
    ]
    output = np.zeros((len(lane_ops), cols))
    counts = encoder.counts
    status, cycles = kernel.clock_all(
        array,
        lanes,
        latency.row_hop * rows + cols + 2 * longest + 2,
        latency.return_registers,
        _empty_cells(rows, cols, counts.get(program.array.name, 0)),
        _empty_cells(1, cols, counts.get(program.lanes.name, 0)),
        _empty_wires(rows, cols, latency.row_hop),
        _empty_fifo(cols, len(landing), program.landing_entries, longest),
        _empty_fifo(cols, len(returned), program.return_entries, longest),
        logs[0],
        logs[1],
        output,
        channel,
    )
    if status != kernel.FINE:
        raise ArchError(Problem(Source(program.name), f"{FAILURES[status]} (cycle {cycles})"))
    facts = []
    issued = {}
    for unit, ops, log in (
        (program.array.name, array_ops, logs[0]),
        (program.lanes.name, lane_ops, logs[1]),
    ):
        issued[unit] = tuple(zip(ops, log.issued.tolist(), strict=True))
        facts += list(merge(unit, _flat(ops, log)))
    counted = {
        unit: (*stream, log) for (unit, stream), log in zip(streams.items(), logs, strict=True)
    }
    done = counters(counted, program.array.name)
    ticks = int(channel.moves[:, kernel.DURATION].sum())
    totals = count(program, tuple(facts), bytes_moved(program), ticks)
    timeline = Timeline(program, tuple(facts), int(cycles), (), totals)
    return PeRun(timeline, _outputs(program, encoder, lane_ops, output), issued, done)


def _flat(ops: list[MicroOp], log: kernel.Log) -> Iterator[tuple[str, int, int, str, int]]:
    before = 0
    for op, at, waited in zip(ops, log.issued.tolist(), log.waited.tolist(), strict=True):
        yield op.task.name, op.tile.index, at, CAUSES.get(waited, ""), at - before - 1
        before = at


def _outputs(
    program: Program, encoder: Encoder, ops: list[MicroOp], output: Array
) -> dict[str, Array]:
    """Collect what the lanes gave out; later words of an element replace earlier ones."""
    found: dict[str, Array] = {}
    for n, op in enumerate(ops):
        task = op.task
        if task.goes != "output":
            continue
        word, number, slot = program.locate(task, op.slot)
        is_last = (number, slot) == (len(task.steps) - 1, program.cost(task, task.steps[-1])[0] - 1)
        at: dict[str, Any] = {**dict(op.tile.at), **program.word_at(task, word)}
        if not is_last or at.get(program.rows, 0) >= op.tile.rows:
            continue
        target = next(e.target for e in program.cascade.defining(task.tensor) if not e.is_initial)
        if task.tensor not in found:
            found[task.tensor] = np.zeros(shape(program, target))
        at[program.cols] = np.arange(op.tile.cols)
        put(found[task.tensor], coordinates(program, target, at), output[n, : op.tile.cols])
    return found


def _empty_fifo(columns: int, queues: int, room: int, longest: int) -> kernel.Fifo:
    """FIFOs without words; `longest` is the longest way of a word in cycles."""
    queues, ring = max(1, queues), longest + 1
    return kernel.Fifo(
        np.zeros((columns, queues, room)),
        np.zeros((columns, queues), np.int64),
        np.zeros((columns, queues), np.int64),
        np.zeros((columns, queues, ring)),
        np.zeros((columns, queues, ring), np.bool_),
    )


def _empty_cells(rows: int, columns: int, registers: int) -> kernel.Cells:
    """Registers that were never written."""
    size = (max(1, registers), rows, columns)
    return kernel.Cells(np.zeros(size), np.full(size, kernel.NEVER), np.full(size, kernel.NEVER))


def _empty_wires(rows: int, columns: int, hop: int) -> kernel.Wires:
    """Nothing on its way."""
    at: Any = np.full((rows, columns), -1)
    column: Any = np.full((rows, hop), -1)
    lane: Any = np.full(columns, -1)
    return kernel.Wires(at, column, lane, np.zeros((rows, columns)), np.zeros((rows, columns, hop)))
