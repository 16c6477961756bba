"""Registers that are overwritten before they are read, found from the order alone.

A unit issues in order and its registers rotate, so what a micro-op finds in a register is what the
last writer before it in the order left there. If that is another tile's value, no timing helps.
"""

from __future__ import annotations

from archsim.errors import ArchError
from archsim.program import Operand, Program, Task, Tile
from archsim.sequence import MicroOp, sequence
from einsum_cascade.errors import Problem, Source

# (tensor, place in its rotation, word) -> tile whose value is there.
Left = dict[tuple[str, int, int], int]


def check_registers(program: Program) -> None:
    """Walk through each unit's micro-ops.

    Raises:
        ArchError: a micro-op would read the value of another tile.
    """
    depths = {(r.tensor, r.unit): r.depth for r in program.registers}
    for body in program.bodies:
        left: Left = {}
        for op in sequence(program, body):
            word, number, part = program.locate(op.task, op.slot)
            step = op.task.steps[number]
            if not part:
                for operand in step.operands:
                    goes_on = operand.source == "accumulator" and operand.back and not word
                    if operand.source == "register" or goes_on:
                        _read(program, op, word, operand, left, depths)
            last = (len(op.task.steps) - 1, program.cost(op.task, step)[0] - 1)
            key = (op.task.tensor, op.task.unit)
            if (number, part) == last and op.task.goes != "landing" and key in depths:
                place = program.ordinals[op.task.name][op.tile.index] % depths[key]
                left[op.task.tensor, place, _word(op.task, word)] = op.tile.index


def _word(maker: Task, word: int) -> int:
    return 0 if maker.kind in ("accumulate", "load") or not maker.words else word


def _read(
    program: Program,
    op: MicroOp,
    word: int,
    operand: Operand,
    left: Left,
    depths: dict[tuple[str, str], int],
) -> None:
    made = program.source_tile(op.task, op.tile, operand)
    if made is None:
        return
    maker = program.source(op.task, operand)
    place = program.ordinals[maker.name][made] % depths[maker.tensor, maker.unit]
    read = _word(maker, word) if maker.words == op.task.words else 0
    found = left.get((maker.tensor, place, read))
    if found != made:
        raise ArchError(_problem(program, op.task, op.tile, maker, made, found))


def _problem(
    program: Program, reader: Task, tile: Tile, maker: Task, made: int, found: int | None
) -> Problem:
    text = f"{reader.name} of tile {tile.index} reads {maker.tensor} of tile {made}, " + (
        "which is not made yet" if found is None else f"but the register holds tile {found}'s"
    )
    return Problem(
        Source(program.name),
        text,
        hint=f"give the register of {maker.tensor} more depth, or move {reader.name} in its order",
    )
