"""Execute a Program at a level of the ladder: tile by tile, or register by register."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from archsim import slots
from archsim.elements import random_inputs
from archsim.errors import ArchError
from archsim.hazards import check_registers
from archsim.ports import ports_asked
from archsim.program import Program
from archsim.timeline import Timeline
from einsum_cascade.errors import Problem, Source, legal_words
from einsum_cascade.interpreter import evaluate

# Register-level values are compared with the naive interpreter up to this many points.
CHECKED_POINTS = 2**26
TOLERANCE = 1e-9
# Runs of up to this many micro-ops are enumerated: a moment, and every fact is there.
SHORT = 5_000
LEVELS = ("tile", "pe")


def simulate(program: Program, level: str = "tile") -> Timeline:
    """Execute a Program.

    Args:
        program: what to run.
        level: "tile" for the slot engine, "pe" for the register-level model with random values.

    Raises:
        ArchError: a deadlock, an overflow, a slot that asks the buffer for more than it has ports,
            a run too long for this level; or, at "pe", values that differ from the naive
            interpreter's.
    """
    if level not in LEVELS:
        hint = legal_words(level, LEVELS, "levels of a simulation")
        raise ArchError(Problem(Source("level"), f"unknown level '{level}'", hint=hint))
    timeline = simulate_tiles(program) if level == "tile" else _simulate_pe(program)
    ports_asked(timeline)
    return timeline


def _simulate_pe(program: Program) -> Timeline:
    """Execute a Program with random values and compare them with the cascade's."""
    from archsim.wave import check_length, simulate_waves

    check_length(program)
    inputs = random_inputs(program)
    try:
        run = simulate_waves(program, inputs)
    except ArchError:
        # A register that is overwritten too early is the better explanation of any failure.
        check_registers(program)
        raise
    if run.is_mixed:
        check_registers(program)
    ranks = {rank for tensor in program.cascade.tensors for rank in tensor.ranks if rank}
    whole = {program.cascade.whole_of(rank) for rank in ranks}
    if prod(program.sizes[rank] for rank in whole) <= CHECKED_POINTS:
        parts = [part for _, split in program.cascade.splits for part in split[1:]]
        # Some ranks are of no tensor: the keys of a window, say.
        others = [rank for rank in program.cascade.ranks if rank not in ranks | whole]
        sizes = {rank: program.sizes[rank] for rank in (*parts, *others)}
        expected = evaluate(program.cascade, sizes=sizes, **inputs)
        for name, values in run.outputs.items():
            error = _error(values, expected[name])
            if not error <= TOLERANCE:
                what = f"{name} differs from the cascade's by {error:.1e} of its largest value"
                hint = "a register is overwritten before it is read: give it more depth"
                raise ArchError(Problem(Source(program.name), what, hint=hint))
    return run.timeline


def simulate_tiles(program: Program) -> Timeline:
    """Execute a Program tile by tile; only short runs come with facts.

    Raises:
        ArchError: a deadlock, an overflow, or a run that can be neither compressed nor enumerated.
    """
    tiles = prod(loop.count for loop in program.nest)
    length = tiles * sum(program.slots(task) for task in program.tasks)
    if length <= SHORT:
        return slots.simulate(program)
    from archsim import engine
    from archsim.tile_tables import NotCountableError

    try:
        return engine.run_program(program)
    except NotCountableError:
        return slots.simulate(program)
    except engine.FailedError as failed:
        # The reference engine tells in detail who waits for whom, if it can.
        if length <= slots.LIMIT:
            slots.simulate(program)
        raise engine.failure(program, failed) from None


def _error(values: Any, expected: Any) -> float:
    """Largest difference over the largest finite value; infinite if what is infinite differs."""
    same = values == expected
    with np.errstate(invalid="ignore"):
        difference = np.where(same, 0.0, np.abs(values - expected))
    largest = np.max(np.abs(expected[np.isfinite(expected)]), initial=0.0)
    return float(np.max(np.nan_to_num(difference, nan=np.inf)) / (largest or 1.0))
