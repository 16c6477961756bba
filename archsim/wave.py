"""The register-level model of a Program, fast: whole waves instead of PEs, tables instead of lists.

It gives what `pe` gives, cycle by cycle and bit by bit, and counts what PEs execute; `pe` stays
because it is obviously right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from archsim import pe_kernel, wave_kernel
from archsim import wave_order as wave
from archsim.arithmetic import exp_unit
from archsim.elements import Array, shape
from archsim.errors import ArchError
from archsim.pe import CAUSES, FAILURES
from archsim.pe_operators import EXACT
from archsim.program import Program
from archsim.timeline import Fact, Timeline, count
from archsim.wave_memory import DURATION, channel_of
from archsim.wave_tables import Ints, Tables
from archsim.wave_units import REGISTERS, Fifo, Unit
from einsum_cascade.errors import Problem, Source
from einsum_cascade.format_kernels import unit_table
from einsum_cascade.formats import MULTIPLIERS

# Micro-ops of the array times its PEs: more take many minutes.
LIMIT = 2**40


@dataclass(frozen=True)
class WaveRun:
    """What the registers did: a timeline, and the outputs [batch, whole ranks]."""

    timeline: Timeline
    outputs: dict[str, Array]
    # By task: micro-ops times the PEs, or lanes, that hold elements of their tile.
    executed: dict[str, int]
    # True if a register held another tile's value when it was read.
    is_mixed: bool


def simulate_waves(
    program: Program, inputs: Mapping[str, Any], numbers: str = "float64"
) -> WaveRun:
    """Execute a Program with values.

    Args:
        program: what to run.
        inputs: the cascade's inputs, [batch axes of the nest, whole ranks as written].
        numbers: "float64", or "hardware" for the bits of the architecture's units.

    Raises:
        ArchError: the units wait for each other, a FIFO overflows, or the run is too long.
        CascadeError: an input is missing or has another shape.
    """
    check_length(program)
    tables = Tables(program, inputs, numbers)
    channel, fetched, stored, moved = channel_of(program)
    code, (tiles, _) = tables.code(fetched, stored), tables.tiles
    rows, cols = program.shape
    latency = program.architecture.latency
    delays = code.templates[:, [wave.LATENCY, wave.LOOP]]
    longest = int(delays.max(initial=1)) + latency.return_registers
    word = np.dtype(np.float64 if numbers == "float64" else np.float32)
    machine = wave_kernel.Machine(
        latency.row_hop,
        latency.return_registers,
        latency.row_hop * rows + cols + 2 * longest + 2,
        program.landing_entries,
        program.return_entries,
    )
    orders = {body.unit: tables.order(body) for body in program.bodies}
    array, lanes = program.array.name, program.lanes.name
    executed = np.zeros(len(program.tasks), np.int64)
    output = np.zeros(tables.room)
    way = latency.row_hop * rows + longest
    unit, exp = _unit(program, array, numbers, rows)
    lane_unit, lane_exp = _unit(program, lanes, numbers, 1)
    status, cycles, is_mixed, *found = wave_kernel.run_waves(
        machine,
        code,
        tiles,
        np.array([task.identity or 0.0 for task in program.tasks]),
        tables.memory.astype(word),
        output,
        orders[array],
        _head(tables.count(array), rows),
        unit,
        np.zeros((REGISTERS + tables.count(array) * rows, cols), word),
        np.zeros((1, rows), word),
        exp,
        orders[lanes],
        _head(tables.count(lanes), 1),
        lane_unit,
        np.zeros((REGISTERS + tables.count(lanes), cols), word),
        lane_exp,
        _fifo(len(tables.queues["landing"]), program.landing_entries + way, cols, word),
        _fifo(len(tables.queues["returned"]), program.return_entries + way, cols, word),
        channel,
        wave.start(orders[array].entries),
        wave.start(orders[lanes].entries),
        executed,
        np.full(len(program.tasks), -1),
        np.zeros((2, 3), np.int64),
    )
    if status != pe_kernel.FINE:
        raise ArchError(Problem(Source(program.name), f"{FAILURES[status]} (cycle {cycles})"))
    facts = [
        fact
        for unit, table in zip((array, lanes), found, strict=True)
        for fact in _facts(program, unit, table)
    ]
    outputs = {}
    for name, first in tables.given.items():
        target = next(e.target for e in program.cascade.defining(name) if not e.is_initial)
        extents = shape(program, target)
        outputs[name] = output[first : first + int(np.prod(extents))].reshape(extents)
    counts = {task.name: int(n) for task, n in zip(program.tasks, executed, strict=True)}
    totals = count(program, tuple(facts), moved, int(channel.moves[:, DURATION].sum()))
    timeline = Timeline(program, tuple(facts), int(cycles), (), totals)
    return WaveRun(timeline, outputs, counts, bool(is_mixed))


def check_length(program: Program) -> None:
    """Refuse what would take too long."""
    in_array = [task for task in program.tasks if task.unit == program.array.name]
    total = sum(program.slots(task) * len(program.acting[task.name]) for task in in_array)
    if total * program.array.pes > LIMIT:
        what = f"{total:,} micro-ops of {program.array.name} in {program.array.pes:,} PEs"
        hint = "they take too long one by one: take shorter ranks, fewer heads or --level tile"
        raise ArchError(Problem(Source(program.name), what, hint=hint))


def _unit(program: Program, name: str, numbers: str, rows: int) -> tuple[Unit, Any]:
    """How a unit computes, and its table of exp; None for float64."""
    if numbers == "float64":
        return Unit(EXACT, 0, rows), None
    array = program.architecture.array(name)
    assert array is not None
    method, table = unit_table(exp_unit(array))
    return Unit(MULTIPLIERS.index(array.multiplier), method, rows), table


def _head(registers: int, rows: int) -> wave_kernel.Head:
    """Registers that were never written."""
    never = [np.full(registers, pe_kernel.NEVER) for _ in range(3)]
    return wave_kernel.Head(
        never[0],
        never[1],
        np.full((registers, rows), pe_kernel.NEVER),
        never[2],
        np.full(registers, -1),
    )


def _fifo(queues: int, places: int, cols: int, word: Any) -> Fifo:
    """FIFOs without words, with places for those on their way, too."""
    return Fifo(
        np.zeros((queues, places, cols), word),
        np.zeros((queues, places), np.int64),
        np.zeros((queues, 3), np.int64),
    )


def _facts(program: Program, unit: str, table: Ints) -> list[Fact]:
    """Facts from their rows of numbers, in order of issue."""
    names = [task.name for task in program.tasks]
    return sorted(
        (
            Fact(unit, names[task], tile, first, count, stride, CAUSES.get(cause, ""), idle)
            for task, tile, first, count, stride, cause, idle in table.tolist()
        ),
        key=lambda fact: fact.first,
    )
