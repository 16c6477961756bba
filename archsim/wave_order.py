"""The micro-ops of a unit, one after the other, as numbers: a Program's loop bodies for numba.

A micro-op is not stored: it is a template, one for each slot of a word of a task, and what the tile
and the word add to it, which are registers (they rotate), addresses (affine in all coordinates) and
a mask. So tables grow with tiles and words but not with their product.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from archsim.pe_kernel import ACCUMULATOR, CONSTANT

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bits = NDArray[np.bool_]

# Columns of the table of templates, and of a micro-op. In a template LEFT, TOP and GIVES number
# edges (-1: none), in a micro-op they are addresses. RETURN counts FIFOs from 1, MADE_A is the tile
# whose value an operand is meant to be (-1: any), MASKED the mask of the tile, ONLY_ROW the row of
# a load or drain (-1: all), FETCHED and STORED are moves that must be over before, counted from 1
# (0: none), and ENDS is 1 for the last micro-op of its task and tile.
(
    FUNCTION, SOURCE_A, INDEX_A, SOURCE_B, INDEX_B, SOURCE_C, INDEX_C, GOES, TARGET, QUEUE,
    LATENCY, LOOP, MASK, ONLY_ROW, RETURN, PARTIAL, NARROW, LEFT, TOP, GIVES,
    MADE_A, MADE_B, MADE_C, TASK, TILE, RUN, MASKED, LEFT_STEP, TOP_STEP, GIVES_STEP,
    FETCHED, STORED, ENDS,
) = range(33)  # fmt: skip
FIELDS = 33
# Further columns of a template: tables of registers by tile (-1: the index stands as it is), words
# that the index moves on by for each word of the task, and how many words the task has.
TABLE_A, TABLE_B, TABLE_C, TABLE_TARGET, BY_A, BY_B, BY_C, BY_TARGET, WORDS = range(33, 42)
TEMPLATE_FIELDS = 42
# Columns of a cursor: where a unit stands in its body, and the tile on which each item of its entry
# acts (-1: none).
AT_RUN, AT_EPOCH, AT_ENTRY, AT_ITEM, AT_SLOT, MOST, FIRST_TILE = range(7)


class Order(NamedTuple):
    """What a unit issues in which order: items of entries, tiles of runs, and who acts where.

    entries [entry + 1] and runs [run + 1] say where each begins in the items and tiles.
    """

    entries: Ints
    tasks: Ints
    lags: Ints
    runs: Ints
    tiles: Ints
    # Of the longest lag of any unit: epochs a run goes on behind its last tile.
    longest: int
    # By task: slots in a tile and of a word, the first template; acts is [task, tile].
    slots: Ints
    each: Ints
    templates: Ints
    acts: Bits


class Code(NamedTuple):
    """Templates and what they refer to, for all units.

    registers and made are [table, tile]: the first register, and the tile whose value is in it (-1:
    none yet). An address is base[edge, tile] + offset[edge, word] + step[edge] * row or column;
    lies[edge, word] is the row that a word lies in, where words are rows.
    """

    templates: Ints
    constants: Floats
    registers: Ints
    made: Ints
    base: Ints
    offset: Ints
    lies: Ints
    step: Ints
    # By tile: its mask, and the rows and columns that hold elements.
    masks: Ints
    heights: Ints
    widths: Ints
    # Moves that the first micro-op waits for, [task, tile].
    fetched: Ints
    stored: Ints


@numba.njit(cache=True)
def enter(order: Order, cursor: Ints) -> bool:
    """Go to the next entry of a body; False behind the last one."""
    entries, runs, run = order.entries, order.runs, cursor[AT_RUN]
    cursor[AT_ENTRY] += 1
    cursor[AT_SLOT] = cursor[MOST] = 0
    if run < runs.shape[0] - 1 and cursor[AT_ENTRY] == entries.shape[0] - 1:
        cursor[AT_ENTRY] = 0
        cursor[AT_EPOCH] += 1
        if cursor[AT_EPOCH] == runs[run + 1] - runs[run] + order.longest:
            cursor[AT_EPOCH] = 0
            cursor[AT_RUN] += 1
    if cursor[AT_RUN] == runs.shape[0] - 1 or entries.shape[0] == 1:
        return False
    cursor[AT_ITEM] = order.entries[cursor[AT_ENTRY]]
    first = cursor[AT_ITEM]
    for item in range(first, entries[cursor[AT_ENTRY] + 1]):
        tile = tile_of(order, cursor, item)
        cursor[FIRST_TILE + item - first] = tile
        if tile >= 0:
            cursor[MOST] = max(cursor[MOST], order.slots[order.tasks[item]])
    return True


@numba.njit(cache=True)
def tile_of(order: Order, cursor: Ints, item: int) -> int:
    """The tile on which an item acts in the epoch of a cursor; -1 if on none."""
    first = order.runs[cursor[AT_RUN]]
    at = cursor[AT_EPOCH] - order.lags[item]
    if at < 0 or first + at >= order.runs[cursor[AT_RUN] + 1]:
        return -1
    tile: int = order.tiles[first + at]
    return tile if order.acts[order.tasks[item], tile] else -1


@numba.njit(cache=True)
def fill(order: Order, code: Code, cursor: Ints, ops: Ints, constants: Floats) -> int:
    """Write the next micro-ops of a unit and go behind them. Returns how many; 0 at the end."""
    # Names of their own: a lookup in a tuple of arrays takes as long as the rest.
    entries, tasks, slots, each, first = (
        order.entries, order.tasks, order.slots, order.each, order.templates
    )  # fmt: skip
    templates, values, registers, made = code.templates, code.constants, code.registers, code.made
    base, offset, lies, step = code.base, code.offset, code.lies, code.step
    masks, heights = code.masks, code.heights
    fetched, stored = code.fetched, code.stored
    count = 0
    while count < ops.shape[0]:
        if cursor[AT_SLOT] >= cursor[MOST]:
            if not enter(order, cursor):
                break
            continue
        item = cursor[AT_ITEM]
        if item == entries[cursor[AT_ENTRY] + 1]:
            cursor[AT_ITEM] = entries[cursor[AT_ENTRY]]
            cursor[AT_SLOT] += 1
            continue
        cursor[AT_ITEM] += 1
        tile, task = cursor[FIRST_TILE + item - entries[cursor[AT_ENTRY]]], tasks[item]
        if tile >= 0 and cursor[AT_SLOT] < slots[task]:
            word, part = cursor[AT_SLOT], 0
            if each[task] > 1:
                word, part = word // each[task], word % each[task]
            k = first[task] + part
            decode(templates, values, registers, made, k, tile, word, ops, constants, count)
            for edge in range(LEFT, GIVES + 1):
                number = templates[k, edge]
                ops[count, edge] = -1
                if number >= 0 and lies[number, word] < heights[tile]:
                    ops[count, edge] = base[number, tile] + offset[number, word]
                    ops[count, edge + LEFT_STEP - LEFT] = step[number]
            ops[count, TASK], ops[count, TILE] = task, tile
            ops[count, MASKED], ops[count, RUN] = masks[tile], cursor[AT_RUN]
            if cursor[AT_SLOT] == 0:
                ops[count, FETCHED] = fetched[task, tile]
                ops[count, STORED] = stored[task, tile]
            ops[count, ENDS] = cursor[AT_SLOT] == slots[task] - 1
            count += 1
    return count


@numba.njit(cache=True)
def decode(
    templates: Ints, values: Floats, registers: Ints, made: Ints, k: int, tile: int, word: int,
    ops: Ints, constants: Floats, n: int,
) -> None:  # fmt: skip
    """Micro-op n from template k: which registers it reads and writes."""
    for field in range(FIELDS):
        ops[n, field] = templates[k, field]
    for j in range(3):
        constants[n, j] = values[k, j]
        table, source = templates[k, TABLE_A + j], templates[k, SOURCE_A + 2 * j]
        if table < 0:
            continue
        if registers[table, tile] < 0 or (source == ACCUMULATOR and word == 0):
            ops[n, SOURCE_A + 2 * j] = CONSTANT
            continue
        ops[n, INDEX_A + 2 * j] = registers[table, tile] + word * templates[k, BY_A + j]
        if source != ACCUMULATOR:
            ops[n, MADE_A + j] = made[table, tile]
    table = templates[k, TABLE_TARGET]
    if table >= 0:
        ops[n, TARGET] = registers[table, tile] + word * templates[k, BY_TARGET]
    if templates[k, PARTIAL] and word == templates[k, WORDS] - 1:
        ops[n, PARTIAL] = 0
    if templates[k, ONLY_ROW] >= 0:
        ops[n, ONLY_ROW] = word


def start(entries: Ints) -> Any:
    """A cursor in front of everything."""
    cursor = np.zeros(FIRST_TILE + np.diff(entries).max(initial=0), np.int64)
    cursor[AT_ENTRY] = -1
    return cursor
