"""One micro-op in every PE of the array, or in every lane, at once.

What a micro-op does in PE (r, c), r row hops and c cycles after its issue, does not depend on when:
words travel right and down together with it, and no PE ever waits. So the whole wave is executed
when it is issued: from the top row to the bottom one, each row a vector over columns. A FIFO holds
vectors, too, since all its columns receive and give the same words a cycle apart.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from archsim.pe_kernel import (
    ACCUMULATOR,
    CONSTANT,
    LANDING,
    LANE,
    PASS,
    PLAIN,
    REGISTER,
    RETURNED,
    TO_COLUMN,
    TO_OUTPUT,
    TO_REGISTER,
)
from archsim.pe_kernel import (
    LEFT as FROM_LEFT,
)
from archsim.pe_kernel import (
    TOP as FROM_TOP,
)
from archsim.pe_operators import COPY, EXACT, MAC
from archsim.wave_operators import (
    accumulate,
    exact_line,
    hardware_line,
    narrow_line,
    prepare_line,
)
from archsim.wave_order import (
    FUNCTION,
    GIVES,
    GIVES_STEP,
    GOES,
    INDEX_A,
    LEFT,
    LEFT_STEP,
    MASK,
    MASKED,
    NARROW,
    ONLY_ROW,
    QUEUE,
    RETURN,
    SOURCE_A,
    SOURCE_B,
    SOURCE_C,
    TARGET,
    TOP,
    TOP_STEP,
)

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bits = NDArray[np.bool_]
# Words, float64 or float32.
Words = NDArray[Any]
# How many words a FIFO was sent, how many of them have arrived, and how many were taken.
SENT, ARRIVED, TAKEN = range(3)
# Lines of a unit's words: operands that are no register, what comes down, a result; then each row
# of each register.
GIVEN, DOWN, RESULT, REGISTERS = 0, 3, 5, 6


class Fifo(NamedTuple):
    """FIFOs of all columns: vectors [queue, place, column], when each arrives, and counts."""

    words: Words
    arrives: Ints
    counts: Ints


class Unit(NamedTuple):
    """How a unit computes, as pe_kernel.Stream says, and with how many rows."""

    multiplier: int
    method: int
    rows: int


class Tiles(NamedTuple):
    """Where a tile holds no elements: PEs by mask [mask, row, col], rows with any such PE.

    held is how many PEs do hold elements: of the array and of the lanes.
    """

    inside: Bits
    ragged: Bits
    held: Ints


@numba.njit(cache=True)
def gather(memory: Words, address: int, step: int, count: int, words: Words, line: int) -> None:
    """The words of an edge; 0 behind the end, or everywhere if nothing arrives."""
    count = count if address >= 0 else 0
    for i in range(count):
        words[line, i] = memory[address + step * i]
    for i in range(count, words.shape[1]):
        words[line, i] = 0


@numba.njit(cache=True)
def copy(words: Words, line: int, out: int) -> None:
    """One line to another."""
    for i in range(words.shape[1]):
        words[out, i] = words[line, i]


@numba.njit(cache=True)
def spread(words: Words, line: int, word: float) -> None:
    """The same word in a whole line."""
    for i in range(words.shape[1]):
        words[line, i] = word


@numba.njit(cache=True)
def push(fifo: Fifo, queue: int, words: Words, line: int, cycle: int) -> None:
    """Send a line that arrives in some cycle at column 0."""
    vectors, arrives, counts = fifo.words, fifo.arrives, fifo.counts
    place = counts[queue, SENT] % arrives.shape[1]
    for i in range(words.shape[1]):
        vectors[queue, place, i] = words[line, i]
    arrives[queue, place] = cycle
    counts[queue, SENT] += 1


@numba.njit(cache=True)
def pop(fifo: Fifo, queue: int, words: Words, line: int) -> None:
    """Take the first vector."""
    vectors, counts = fifo.words, fifo.counts
    place = counts[queue, TAKEN] % fifo.arrives.shape[1]
    counts[queue, TAKEN] += 1
    for i in range(words.shape[1]):
        words[line, i] = vectors[queue, place, i]


@numba.njit(cache=True)
def combine(
    ops: Ints, n: int, constants: Floats, words: Words, operands: Ints, out: int, unit: Unit,
    table: Any,
) -> None:  # fmt: skip
    """The operator of a micro-op on lines, in the numbers of the run."""
    a, b, c = operands[0, 0], operands[0, 1], operands[0, 2]
    if table is None:
        exact_line(words, ops[n, FUNCTION], a, b, c, out)
    else:
        is_constant = (
            ops[n, SOURCE_A] == CONSTANT,
            ops[n, SOURCE_B] == CONSTANT,
            ops[n, SOURCE_C] == CONSTANT,
        )
        numbers = (constants[n, 0], constants[n, 1], constants[n, 2])
        hardware_line(
            words, ops[n, FUNCTION], a, b, c, out, unit.multiplier, unit.method, table,
            is_constant, numbers,
        )  # fmt: skip


@numba.njit(cache=True)
def add_products(
    ops: Ints, n: int, constant: float, memory: Words, height: int, width: int, words: Words,
    left: Words, rows: int, multiplier: int,
) -> bool:  # fmt: skip
    """Execute a multiply-accumulate of finite words from both edges into registers.

    Returns: False for anything else; then nothing has happened.
    """
    a, b, c = ops[n, SOURCE_A], ops[n, SOURCE_B], ops[n, SOURCE_C]
    from_edges = (a == FROM_LEFT and b == FROM_TOP) or (a == FROM_TOP and b == FROM_LEFT)
    sums = ops[n, FUNCTION] == MAC and c in (ACCUMULATOR, CONSTANT)
    kept = ops[n, GOES] == TO_REGISTER and ops[n, MASK] == PLAIN and ops[n, NARROW] == 0
    if not (from_edges and sums and kept and ops[n, TOP] >= 0):
        return False
    gather(memory, ops[n, LEFT], ops[n, LEFT_STEP], height, left, 0)
    gather(memory, ops[n, TOP], ops[n, TOP_STEP], width, words, DOWN)
    if not prepare_line(left, 0, multiplier) or not prepare_line(words, DOWN, multiplier):
        return False
    target = REGISTERS + ops[n, TARGET] * rows
    if c == CONSTANT:
        for r in range(rows):
            spread(words, target + r, constant)
    accumulate(words, target, left, DOWN, multiplier == EXACT)
    return True


@numba.njit(cache=True)
def on_array(
    ops: Ints, n: int, constants: Floats, flow: float, memory: Words, height: int, width: int,
    words: Words, left: Words, unit: Unit, tiles: Tiles, landing: Fifo, returned: Fifo,
    arrives: int, operands: Ints, table: Any,
) -> None:  # fmt: skip
    """Execute a micro-op in all PEs. `arrives`: when its result is in lane 0's FIFO."""
    rows = unit.rows
    goes, only = ops[n, GOES], ops[n, ONLY_ROW]
    target = REGISTERS + ops[n, TARGET] * rows
    if ops[n, RETURN] > 0:
        pop(returned, ops[n, RETURN] - 1, words, DOWN)
    elif ops[n, TOP] >= 0:
        gather(memory, ops[n, TOP], ops[n, TOP_STEP], width, words, DOWN)
    else:
        spread(words, DOWN, flow)
    if only >= 0:
        # A drain gives, and a load takes, in one row at a time.
        line = DOWN
        if ops[n, SOURCE_A] == REGISTER:
            line = REGISTERS + ops[n, INDEX_A] * rows + only
        if goes & TO_REGISTER:
            copy(words, line, target + only)
        if goes & TO_COLUMN:
            push(landing, ops[n, QUEUE], words, line, arrives)
        return
    stays = ops[n, SOURCE_A] == REGISTER and ops[n, INDEX_A] == ops[n, TARGET]
    if stays and goes == TO_REGISTER and ops[n, FUNCTION] == COPY:
        # A further slot of an operator that takes several.
        return
    gather(memory, ops[n, LEFT], ops[n, LEFT_STEP], height, left, 0)
    for j in range(3):
        find_operand(ops, n, constants, j, words, rows, operands)
    down, out = DOWN, RESULT
    for r in range(rows):
        if goes & TO_COLUMN:
            # What comes down alternates between two lines.
            out = 2 * DOWN + 1 - down
        for j in range(3):
            source = ops[n, SOURCE_A + 2 * j]
            if source == FROM_LEFT:
                spread(words, operands[0, j], left[0, r])
            elif source in (FROM_TOP, RETURNED):
                operands[0, j] = down
        combine(ops, n, constants, words, operands, out, unit, table)
        if table is not None and ops[n, NARROW]:
            narrow_line(words, out)
        if ops[n, MASK] != PLAIN and tiles.ragged[ops[n, MASKED], r]:
            hold_back(words, out, down, ops[n, MASK] == PASS, tiles.inside, ops[n, MASKED], r)
        if goes & TO_REGISTER:
            copy(words, out, target + r)
        if goes & TO_COLUMN:
            down = out
        for j in range(3):
            operands[0, j] += operands[1, j]
    if goes & TO_COLUMN:
        push(landing, ops[n, QUEUE], words, down, arrives)


@numba.njit(cache=True)
def hold_back(
    words: Words, out: int, down: int, passes: bool, inside: Bits, mask: int, row: int
) -> None:
    """Where PEs hold no elements, what came down instead of a result, or 0."""
    for i in range(words.shape[1]):
        if not inside[mask, row, i]:
            words[out, i] = words[down, i] if passes else 0


@numba.njit(cache=True)
def find_operand(
    ops: Ints, n: int, constants: Floats, j: int, words: Words, rows: int, operands: Ints
) -> None:
    """The line of an operand in the top row of PEs, and lines from there to the next row."""
    source = ops[n, SOURCE_A + 2 * j]
    operands[0, j], operands[1, j] = GIVEN + j, 0
    if source in (REGISTER, ACCUMULATOR):
        operands[0, j], operands[1, j] = REGISTERS + ops[n, INDEX_A + 2 * j] * rows, 1
    elif source == CONSTANT:
        spread(words, GIVEN + j, constants[n, j])


@numba.njit(cache=True)
def on_lanes(
    ops: Ints, n: int, constants: Floats, memory: Words, width: int, words: Words, unit: Unit,
    landing: Fifo, returned: Fifo, arrives: int, output: Floats, operands: Ints, table: Any,
) -> None:  # fmt: skip
    """Execute a micro-op in all lanes. `arrives`: when its result is on top of column 0."""
    for j in range(3):
        source, index = ops[n, SOURCE_A + 2 * j], ops[n, INDEX_A + 2 * j]
        operands[0, j] = REGISTERS + index if source == LANE else GIVEN + j
        if source == LANDING:
            pop(landing, index, words, GIVEN + j)
        elif source == FROM_TOP:
            gather(memory, ops[n, TOP], ops[n, TOP_STEP], width, words, GIVEN + j)
        elif source == CONSTANT:
            spread(words, GIVEN + j, constants[n, j])
    combine(ops, n, constants, words, operands, RESULT, unit, table)
    if ops[n, GOES] & TO_REGISTER:
        copy(words, RESULT, REGISTERS + ops[n, TARGET])
    if ops[n, GOES] & TO_OUTPUT and ops[n, GIVES] >= 0:
        for i in range(width):
            output[ops[n, GIVES] + ops[n, GIVES_STEP] * i] = words[RESULT, i]
    if ops[n, RETURN] > 0:
        push(returned, ops[n, RETURN] - 1, words, RESULT, arrives)
