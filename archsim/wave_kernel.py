"""Issue clocked at the head of the array, and every micro-op executed in a whole wave at once.

All timing is a statement about column 0 and row 0: a micro-op enters the array at PE (0, 0), and
lanes at lane 0, once every operand there is valid; PEs and lanes further on follow without waiting.
So this clocks valid times of registers there, and arrivals in the FIFOs of column 0, edge by edge,
and leaves the rest to `wave_units`. Tests compare it with `pe_kernel`, which clocks every PE.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from archsim.pe_kernel import (
    ACCUMULATOR,
    DEADLOCK,
    DRAIN,
    FINE,
    LANDING,
    LANE,
    MEMORY,
    NEVER,
    NOT_VALID,
    OVERFLOW,
    REGISTER,
    RETURNED,
    STORE,
    TO_REGISTER,
)
from archsim.wave_memory import IS_STORE, MOVED, Channel, move
from archsim.wave_order import (
    ENDS,
    FETCHED,
    FIELDS,
    GOES,
    INDEX_A,
    LATENCY,
    LOOP,
    MADE_A,
    MASKED,
    ONLY_ROW,
    PARTIAL,
    RUN,
    SOURCE_A,
    STORED,
    TARGET,
    TASK,
    TILE,
    Code,
    Order,
    fill,
)
from archsim.wave_units import (
    ARRIVED,
    SENT,
    TAKEN,
    Fifo,
    Tiles,
    Unit,
    add_products,
    on_array,
    on_lanes,
)

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
# Micro-ops that are decoded at a time.
WINDOW = 256
# Columns of a record of what was issued: a timeline.Fact, CAUSE as a source of pe_kernel.
OF_TASK, OF_TILE, FIRST, COUNT, STRIDE, CAUSE, IDLE = range(7)


class Machine(NamedTuple):
    """Cycles: of a row hop, between a lane and the top edge, and without issue before giving up.

    landing and returned are how many words fit into each FIFO.
    """

    hop: int
    back: int
    patience: int
    landing: int
    returned: int


class Head(NamedTuple):
    """Registers where micro-ops enter: when they can be read, or added to, and whose value it is.

    rows [register, row] is when each row of a loaded register can be read, `late` the last of them,
    all counted as if there were no hops.
    """

    valid: Ints
    loop: Ints
    rows: Ints
    late: Ints
    tile: Ints


@numba.njit(cache=True)
def arrive(counts: Ints, arrives: Ints, entries: int, t: int) -> bool:
    """Let words arrive in FIFOs with this edge; False if one has no room."""
    for q in range(counts.shape[0]):
        arrived = counts[q, ARRIVED]
        if arrived < counts[q, SENT] and arrives[q, arrived % arrives.shape[1]] == t:
            if arrived - counts[q, TAKEN] == entries:
                return False
            counts[q, ARRIVED] += 1
    return True


@numba.njit(cache=True)
def lacking(
    ops: Ints, n: int, valid: Ints, loop: Ints, counts: Ints, over: Ints, run: int, t: int
) -> int:
    """What holds a micro-op back in cycle t, the first in order of causes; 0 if nothing does."""
    found = 0
    for k in range(SOURCE_A, SOURCE_A + 6, 2):
        source, index = ops[n, k], ops[n, k + 1]
        if source in (REGISTER, LANE):
            absent = valid[index] > t
        elif source == ACCUMULATOR:
            absent = loop[index] > t
        elif source in (LANDING, RETURNED):
            absent = counts[index, ARRIVED] == counts[index, TAKEN]
        else:
            absent = False
        if absent and (found == 0 or source < found):
            found = source
    if found:
        return found
    if ops[n, FETCHED] and over[ops[n, FETCHED] - 1] > t:
        return MEMORY
    if ops[n, STORED] and over[ops[n, STORED] - 1] >= t:
        return STORE
    return DRAIN if ops[n, RUN] > run else 0


@numba.njit(cache=True)
def first_row_without(ops: Ints, n: int, late: Ints, rows: Ints, t: int) -> int:
    """The first row where a register will not be valid when a micro-op of cycle t comes by, or -1.

    Only loads make registers valid row by row.
    """
    first = -1
    for k in range(SOURCE_A, SOURCE_A + 6, 2):
        if ops[n, k] == REGISTER and late[ops[n, k + 1]] > t:
            for r in range(rows.shape[1] - 1, -1, -1):
                if rows[ops[n, k + 1], r] > t and (first < 0 or r < first):
                    first = r
    return first


@numba.njit(cache=True)
def is_other(ops: Ints, n: int, tile: Ints) -> bool:
    """True if a register holds another tile's value than the one that is meant."""
    for j in range(3):
        made = ops[n, MADE_A + j]
        if made >= 0 and tile[ops[n, INDEX_A + 2 * j]] != made:
            return True
    return False


@numba.njit(cache=True)
def write(
    ops: Ints, n: int, valid: Ints, loop: Ints, late: Ints, rows: Ints, tile: Ints, t: int
) -> None:
    """Note when the result of a micro-op will be valid, and of which tile it is."""
    if not ops[n, GOES] & TO_REGISTER:
        return
    index, only = ops[n, TARGET], ops[n, ONLY_ROW]
    ready = NEVER if ops[n, PARTIAL] else t + ops[n, LATENCY]
    tile[index] = ops[n, TILE]
    loop[index] = t + ops[n, LOOP]
    if only < 0:
        valid[index] = late[index] = ready
        return
    rows[index, only] = ready
    if only == 0:
        valid[index] = ready
    late[index] = 0
    for r in range(rows.shape[1]):
        late[index] = max(late[index], rows[index, r])


@numba.njit(cache=True)
def record(
    facts: Ints, count: int, opened: Ints, ops: Ints, n: int, t: int, cause: int, idle: int
) -> int:
    """Add a micro-op to the facts of its unit, as timeline.merge does. Returns their number."""
    task, tile = ops[n, TASK], ops[n, TILE]
    k = opened[task]
    if k >= 0 and facts[k, OF_TILE] == tile:
        stride = t - (facts[k, FIRST] + (facts[k, COUNT] - 1) * facts[k, STRIDE])
        same = idle == 0 or facts[k, IDLE] == 0 or cause == facts[k, CAUSE]
        if same and (facts[k, COUNT] == 1 or stride == facts[k, STRIDE]):
            facts[k, COUNT] += 1
            facts[k, STRIDE] = stride
            facts[k, IDLE] += idle
            if idle > 0:
                facts[k, CAUSE] = cause
            return count
    opened[task] = count
    facts[count, OF_TASK], facts[count, OF_TILE] = task, tile
    facts[count, FIRST], facts[count, COUNT], facts[count, STRIDE] = t, 1, 1
    facts[count, CAUSE], facts[count, IDLE] = cause if idle > 0 else 0, idle
    return count + 1


@numba.njit(cache=True)
def longer(facts: Ints) -> Ints:
    """The same facts with room for as many more."""
    rows, columns = facts.shape
    more = np.zeros((2 * rows, columns), np.int64)
    for i in range(rows):
        for j in range(columns):
            more[i, j] = facts[i, j]
    return more


@numba.njit(cache=True)
def run_waves(
    machine: Machine, code: Code, tiles: Tiles, flows: Floats, memory: Any, output: Floats,
    order: Order, head: Head, unit: Unit, words: Any, left: Any, table: Any,
    lane_order: Order, lane_head: Head, lane_unit: Unit, lane_words: Any, lane_table: Any,
    landing: Fifo, returned: Fifo, channel: Channel, cursor: Ints, lane_cursor: Ints,
    executed: Ints, opened: Ints, operands: Ints,
) -> tuple[int, int, bool, Ints, Ints]:  # fmt: skip
    """Clock the head of the machine until everything is issued and nothing travels any more.

    The state (heads, words, FIFOs, channel, cursors) is that of a start. `executed` [task] counts
    what PEs and lanes that hold elements execute; `opened` [task] is -1, and `operands` [2, 3] is
    room to work in. Tables of exp are None for float64, so that it is known while compiling.

    Returns: how it ended; the last cycle with a result (or that of the failure); if a register held
    another tile's value when it was read; facts of the array and of the lanes.
    """
    # Names of their own: a lookup in a tuple of arrays in each cycle takes longer than the cycle.
    valid, loop, late, rows_valid, of_tile = head.valid, head.loop, head.late, head.rows, head.tile
    lane_valid, lane_loop, lane_late = lane_head.valid, lane_head.loop, lane_head.late
    lane_rows, lane_of_tile = lane_head.rows, lane_head.tile
    lands, land_counts = landing.arrives, landing.counts
    returns, return_counts = returned.arrives, returned.counts
    moves, awaited, over, issued, channel_state = channel
    held, heights, widths = tiles.held, code.heights, code.widths
    ops, lane_ops = np.zeros((WINDOW, FIELDS), np.int64), np.zeros((WINDOW, FIELDS), np.int64)
    constants, lane_constants = np.zeros((WINDOW, 3)), np.zeros((WINDOW, 3))
    facts, lane_facts = np.zeros((64, 7), np.int64), np.zeros((64, 7), np.int64)
    # Micro-ops of the window, and the next one; no more than 0 of them means behind the last.
    ready = fill(order, code, cursor, ops, constants)
    lane_ready = fill(lane_order, code, lane_cursor, lane_ops, lane_constants)
    # Typed, since functions would be compiled once for literals and once more for numbers.
    none: Any = np.int64(0)
    n, m, count, lane_count = none, none, none, none
    across = words.shape[1] - 1
    rows, multiplier = unit.rows, unit.multiplier
    down = machine.hop * (rows - 1)
    t, run, waited, lane_waited = none, none, none, none
    last, quiet, before, lane_before, busy, fails = none, none, none, none, none, none + NEVER
    is_mixed = False
    status = FINE
    while quiet <= machine.patience:
        t += 1
        quiet += 1
        move(moves, awaited, over, issued, channel_state)
        if channel_state[MOVED] > 0 and over[channel_state[MOVED] - 1] >= t:
            # A move that is under way is over some time.
            quiet = 0
        fits = arrive(land_counts, lands, machine.landing, t)
        if not (arrive(return_counts, returns, machine.returned, t) and fits):
            status, last = OVERFLOW, t
            break
        # Cycles until all that was issued has come out: counters that hardware would have, too.
        busy = max(0, busy - 1)
        is_last = ready == 0 or ops[n, RUN] > run
        if is_last and (lane_ready == 0 or lane_ops[m, RUN] > run) and busy == 0:
            run += 1
        enters, lane_enters = False, False
        if ready > 0:
            lack = lacking(ops, n, valid, loop, return_counts, over, run, t)
            enters = lack == 0
            waited = lack if lack else waited
        if lane_ready > 0:
            lack = lacking(lane_ops, m, lane_valid, lane_loop, land_counts, over, run, t)
            lane_enters = lack == 0
            lane_waited = lack if lack else lane_waited
        if enters:
            if count == facts.shape[0]:
                facts = longer(facts)
            count = record(facts, count, opened, ops, n, t, waited, t - before - 1)
            quiet, before, after = 0, t, ops[n, LATENCY]
            row = first_row_without(ops, n, late, rows_valid, t)
            if row >= 0:
                fails = min(fails, t + machine.hop * row)
            is_mixed = is_mixed or is_other(ops, n, of_tile)
            task, tile = ops[n, TASK], ops[n, TILE]
            executed[task] += held[ops[n, MASKED], 0]
            is_done = add_products(
                ops, n, constants[n, 2], memory, heights[tile], widths[tile], words, left, rows,
                multiplier,
            )  # fmt: skip
            if not is_done:
                on_array(
                    ops, n, constants, flows[task], memory, heights[tile], widths[tile], words,
                    left, unit, tiles, landing, returned, t + down + after, operands, table,
                )  # fmt: skip
            write(ops, n, valid, loop, late, rows_valid, of_tile, t)
            busy = max(busy, down + across + after)
            last = max(last, t + down + across + after - 1)
            if ops[n, ENDS]:
                issued[task, tile] = t
            n += 1
            if n == ready:
                n, ready = 0, fill(order, code, cursor, ops, constants)
        if lane_enters:
            if lane_count == lane_facts.shape[0]:
                lane_facts = longer(lane_facts)
            idle = t - lane_before - 1
            lane_count = record(lane_facts, lane_count, opened, lane_ops, m, t, lane_waited, idle)
            quiet, lane_before, after = 0, t, lane_ops[m, LATENCY]
            is_mixed = is_mixed or is_other(lane_ops, m, lane_of_tile)
            task, tile = lane_ops[m, TASK], lane_ops[m, TILE]
            executed[task] += held[lane_ops[m, MASKED], 1]
            on_lanes(
                lane_ops, m, lane_constants, memory, widths[tile], lane_words, lane_unit, landing,
                returned, t + after + machine.back, output, operands, lane_table,
            )  # fmt: skip
            write(lane_ops, m, lane_valid, lane_loop, lane_late, lane_rows, lane_of_tile, t)
            busy = max(busy, across + after)
            last = max(last, t + across + after - 1)
            if lane_ops[m, ENDS]:
                issued[task, tile] = t
            m += 1
            if m == lane_ready:
                m = 0
                lane_ready = fill(lane_order, code, lane_cursor, lane_ops, lane_constants)
        if t >= fails:
            status, last = NOT_VALID, t
            break
    if status == FINE:
        for k in range(moves.shape[0]):
            if moves[k, IS_STORE] and over[k] < NEVER:
                last = max(last, over[k])
    if status == FINE and (ready > 0 or lane_ready > 0):
        status = DEADLOCK
    return status, last, is_mixed, facts[:count], lane_facts[:lane_count]
