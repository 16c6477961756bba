"""Execute a Program at a level of the ladder: tile by tile, or register by register."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any, overload

import numpy as np

from archsim import slots
from archsim.block_values import block_values
from archsim.chain import Chain
from archsim.elements import random_inputs
from archsim.errors import ArchError
from archsim.hazards import check_registers
from archsim.ports import ports_asked
from archsim.program import Program
from archsim.timeline import ChainTimeline, Timeline
from einsum_cascade.errors import Problem, Source, legal_words
from einsum_cascade.interpreter import evaluate

# Register-level values are compared with the naive interpreter up to this many points.
CHECKED_POINTS = 2**26
TOLERANCE = 1e-9
# Runs of up to this many micro-ops are enumerated: a moment, and every fact is there.
SHORT = 5_000
LEVELS = ("tile", "pe")


@overload
def simulate(program: Program, level: str = "tile") -> Timeline: ...


@overload
def simulate(program: Chain, level: str = "tile") -> ChainTimeline: ...


def simulate(program: Program | Chain, level: str = "tile") -> Timeline | ChainTimeline:
    """Execute a Program, or those of several phases one after the other.

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
    if isinstance(program, Chain):
        return _simulate_chain(program, level)
    timeline = simulate_tiles(program) if level == "tile" else _simulate_pe(program)
    ports_asked(timeline)
    return timeline


def _simulate_chain(chain: Chain, level: str) -> ChainTimeline:
    """Execute the phases one after the other; values of one are there for those after it."""
    inputs = random_inputs(chain) if level == "pe" else {}
    values = dict(inputs)
    timelines = []
    for program in chain.programs:
        if level == "tile":
            timeline = simulate_tiles(program)
        else:
            given = {name: values[name] for name in program.cascade.inputs}
            timeline, outputs = _registers(program, given)
            values |= outputs
        ports_asked(timeline)
        timelines.append(timeline)
    if level == "pe":
        _check(chain, chain.programs, inputs, values)
    return ChainTimeline(chain, tuple(timelines))


def _simulate_pe(program: Program) -> Timeline:
    """Execute a Program with random values and compare them with the cascade's."""
    inputs = random_inputs(program)
    timeline, outputs = _registers(program, inputs)
    _check(program, (program,), inputs, outputs)
    return timeline


def _registers(program: Program, inputs: Mapping[str, Any]) -> tuple[Timeline, dict[str, Any]]:
    """Execute a Program with values: as waves, or PE by PE if waves don't know a task of it."""
    from archsim.pe import simulate_pe
    from archsim.wave import check_length, simulate_waves

    if not has_waves(program):
        check_registers(program)
        plain = simulate_pe(program, inputs)
        return plain.timeline, plain.outputs
    check_length(program)
    try:
        run = simulate_waves(program, inputs)
    except ArchError:
        # A register that is overwritten too early is the better explanation of any failure.
        check_registers(program)
        raise
    if run.is_mixed:
        check_registers(program)
    return run.timeline, run.outputs


def has_waves(program: Program) -> bool:
    """True if waves execute all that a Program has.

    They know no sums that go on from tile to tile in PEs, no sums over words in lanes, no words
    that rows take one after the other inside a task, no rows as words of a lane, and no idle unit.
    """
    for task in program.tasks:
        in_lanes = task.unit == program.lanes.name
        operands = [operand for step in task.steps for operand in step.operands]
        from_top = any(operand.source == "top" for operand in operands)
        if (
            (in_lanes and (task.kind == "accumulate" or from_top))
            or any(step.operator == "load" for step in task.steps)
            or any(operand.source == "accumulator" and operand.back for operand in operands)
        ):
            return False
    return all(body.items for body in program.bodies)


def _check(
    program: Program | Chain,
    programs: tuple[Program, ...],
    inputs: Mapping[str, Any],
    values: Mapping[str, Any],
) -> None:
    """Compare values with those of the whole cascade; ArchError if they differ."""
    cascade = program.placed.cascade
    sizes = {rank: size for part in programs for rank, size in part.sizes.items()}
    ranks = {rank for tensor in cascade.tensors for rank in tensor.ranks if rank}
    whole = {cascade.whole_of(rank) for rank in ranks}
    if prod(sizes[rank] for rank in whole) > CHECKED_POINTS:
        return
    if isinstance(program, Program) and program.blocks is not None:
        _compare(program, block_values(program, inputs), values)
        return
    parts = [part for _, split in cascade.splits for part in split[1:]]
    # Some ranks are of no tensor: the keys of a window, say.
    others = [rank for rank in cascade.ranks if rank not in ranks | whole]
    known = {rank: sizes[rank] for rank in (*parts, *others)}
    _compare(program, evaluate(cascade, sizes=known, **inputs), values)


def _compare(
    program: Program | Chain, expected: Mapping[str, Any], values: Mapping[str, Any]
) -> None:
    for name in program.placed.cascade.outputs:
        error = _error(values[name], expected[name])
        if not error <= TOLERANCE:
            what = f"{name} differs from the cascade's by {error:.1e} of its largest value"
            hint = "a register is overwritten before it is read: give it more depth"
            raise ArchError(Problem(Source(program.name), what, hint=hint))


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
