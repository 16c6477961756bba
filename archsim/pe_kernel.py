"""The array and its lanes as registers with valid bits, clock edge by clock edge.

A micro-op enters the array at PE (0, 0), and lanes at lane 0, once every operand there is valid.
It then travels: one column a cycle to the right, one row each row hop downwards, along with the
words from the left and top edges. PEs and lanes further on never wait; if a word is not there when
a micro-op comes by, that is an error and not a stall. No start time is known to anything here.

Everything is arrays of numbers so that numba can compile it; `pe` makes them and reads them.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from archsim.pe_operators import EXACT, compute, rounded
from einsum_cascade.format_kernels import to_bf16

# Where an operand comes from; ACCUMULATOR is a register of a PE that the same task adds to. The
# order settles which of several missing operands is named: that of timeline.CAUSES.
NONE, CONSTANT, LEFT, TOP, REGISTER, ACCUMULATOR, LANDING, LANE, RETURNED = range(9)
# What a micro-op waits for besides operands: a fetch, room for a store, and that everything before
# it has come out.
MEMORY, STORE, DRAIN = 9, 10, 11
# Where a result goes.
TO_REGISTER, TO_COLUMN, TO_OUTPUT = 1, 2, 4
# What a masked PE does: as any other, pass the top word, keep 0.
PLAIN, PASS, ZERO = range(3)
# How a run ends.
FINE, DEADLOCK, NOT_VALID, OVERFLOW = range(4)
# Columns of the table of micro-ops. RETURN counts FIFOs from 1; ONLY_ROW is -1 for all rows;
# TILE_MASK is a row of the stream's masks, and MASK what PEs outside it do;
# PARTIAL sums may be added to but not yet read; RUN counts how often the pipeline ran empty before;
# NARROW results are rounded to a word; FETCHED and STORED are the last moves, in the order of the
# channel, that must be over before, counted from 1 (0: none). COLS, READS and PART are for counting
# only: columns that hold points, registers that are read (a start value stands for one, a row of
# the buffer does not), and which slot of an operator of several it is, from 1.
(
    FUNCTION, SOURCE_A, INDEX_A, SOURCE_B, INDEX_B, SOURCE_C, INDEX_C, GOES, TARGET, QUEUE,
    LATENCY, LOOP, TILE_MASK, MASK, ONLY_ROW, RETURN, PARTIAL, RUN, NARROW, FETCHED, STORED,
    COLS, READS, PART,
) = range(24)  # fmt: skip
FIELDS = 24
# Columns of the table of moves: micro-ops of the array and of the lanes that must have been issued
# before (counted, 0: none), ticks, 1 for a store, cycles from the issue of the last word of a store
# to its being in the last lane, latency of a fetch.
AFTER_ARRAY, AFTER_LANES, DURATION, IS_STORE, SKEW, DELAY = range(6)
TICKS = 256
NEVER = 1 << 60

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bits = NDArray[np.bool_]


class Stream(NamedTuple):
    """Micro-ops of a unit in order: a row of FIELDS, constants, and words for its edges each.

    `masks` says which PEs hold points, [mask, row, column]. `multiplier` is EXACT for float64, else
    that of format_kernels; then exp2 is computed with the unit's method and table.
    """

    ops: Ints
    constants: Floats
    left: Floats
    top: Floats
    masks: Bits
    multiplier: int
    method: int
    table: Floats


class Channel(NamedTuple):
    """The memory channel: moves in order, the cycle in which each is over (NEVER: not yet)."""

    moves: Ints
    over: Ints
    # How many have been moved, and the tick at which the channel is free.
    state: Ints


class Fifo(NamedTuple):
    """FIFOs of each column, [column, queue]: words, how many, the first, those on their way."""

    words: Floats
    held: Ints
    head: Ints
    coming: Floats
    comes: Bits


class Cells(NamedTuple):
    """Registers, [register, row, column], and when they become valid: to read, to add to."""

    value: Floats
    valid: Ints
    loop: Ints


class Wires(NamedTuple):
    """What travels: micro-ops in PEs, down column 0 and in lanes; words to the right and down."""

    at: Ints
    column: Ints
    lane: Ints
    right: Floats
    down: Floats


class Log(NamedTuple):
    """Cycle of issue of each micro-op, and the source it waited for last (0: none).

    Then, of the PEs that hold points, how many executed it, and how many did more than pass words.
    """

    issued: Ints
    waited: Ints
    executed: Ints
    acted: Ints


@numba.njit(cache=True)
def missing(op: Ints, valid: Ints, loop: Ints, fifo: Ints, t: int) -> int:
    """The first source, in order, of an operand that is not there in cycle t; 0 if all are."""
    found = 0
    for k in range(SOURCE_A, SOURCE_A + 6, 2):
        source, index = op[k], op[k + 1]
        if source in (REGISTER, LANE):
            absent = valid[index] > t
        elif source == ACCUMULATOR:
            absent = loop[index] > t
        else:
            absent = source in (LANDING, RETURNED) and fifo[index] == 0
        if absent and (found == 0 or source < found):
            found = source
    return found


@numba.njit(cache=True)
def move(channel: Channel, n: int, m: int, log: Log, lane_log: Log) -> None:
    """Move whatever can be moved once n micro-ops of the array and m of the lanes are issued."""
    moves, over, state = channel.moves, channel.over, channel.state
    while state[0] < moves.shape[0]:
        k = state[0]
        if moves[k, AFTER_ARRAY] > n or moves[k, AFTER_LANES] > m:
            return
        last = 0
        if moves[k, AFTER_ARRAY] > 0:
            last = log.issued[moves[k, AFTER_ARRAY] - 1]
        if moves[k, AFTER_LANES] > 0:
            last = max(last, lane_log.issued[moves[k, AFTER_LANES] - 1])
        if moves[k, IS_STORE]:
            state[1] = max(state[1] + moves[k, DURATION], TICKS * (last + moves[k, SKEW]))
        else:
            state[1] = max(state[1], TICKS * last) + moves[k, DURATION]
        over[k] = (state[1] + TICKS - 1) // TICKS + moves[k, DELAY]
        state[0] += 1


@numba.njit(cache=True)
def late(op: Ints, over: Ints, run: int, t: int) -> int:
    """What a micro-op waits for besides its operands in cycle t; 0 if for nothing."""
    if op[FETCHED] and over[op[FETCHED] - 1] > t:
        return MEMORY
    if op[STORED] and over[op[STORED] - 1] >= t:
        return STORE
    return DRAIN if op[RUN] > run else 0


@numba.njit(cache=True)
def arrive(fifo: Fifo, t: int) -> bool:
    """Put words that come with this edge into their FIFOs; False if one has no room."""
    columns, queues, room = fifo.words.shape
    now = t % fifo.comes.shape[2]
    for c in range(columns):
        for q in range(queues):
            if fifo.comes[c, q, now]:
                fifo.comes[c, q, now] = False
                if fifo.held[c, q] == room:
                    return False
                end = (fifo.head[c, q] + fifo.held[c, q]) % room
                fifo.words[c, q, end] = fifo.coming[c, q, now]
                fifo.held[c, q] += 1
    return True


@numba.njit(cache=True)
def send(fifo: Fifo, c: int, q: int, t: int, word: float) -> None:
    """Let a word arrive in cycle t."""
    then = t % fifo.comes.shape[2]
    fifo.coming[c, q, then] = word
    fifo.comes[c, q, then] = True


@numba.njit(cache=True)
def take(fifo: Fifo, c: int, q: int) -> float:
    """Take the first word out of a FIFO that has one."""
    word: float = fifo.words[c, q, fifo.head[c, q]]
    fifo.head[c, q] = (fifo.head[c, q] + 1) % fifo.words.shape[2]
    fifo.held[c, q] -= 1
    return word


@numba.njit(cache=True)
def execute_pe(
    ops: Ints, constants: Floats, masks: Bits, k: int, r: int, c: int, t: int, left: float,
    above: float, multiplier: int, method: int, table: Floats,
    value: Floats, valid: Ints, loop: Ints,
) -> tuple[bool, float, bool]:  # fmt: skip
    """One PE executes micro-op k on its registers.

    Returns: if every register it reads is valid, the word it passes down, and if that is a result.
    """
    a = b = d = 0.0
    for j in range(3):
        source, index = ops[k, SOURCE_A + 2 * j], ops[k, INDEX_A + 2 * j]
        word = 0.0
        if source in (REGISTER, ACCUMULATOR):
            if (valid[index, r, c] if source == REGISTER else loop[index, r, c]) > t:
                return False, 0.0, False
            word = value[index, r, c]
        elif source == CONSTANT:
            word = constants[k, j]
        elif source == LEFT:
            word = left
        elif source in (TOP, RETURNED):
            word = above
        if j == 0:
            a = word
        elif j == 1:
            b = word
        else:
            d = word
    only = ops[k, ONLY_ROW]
    if only >= 0:
        # A drain gives, and a load takes, in one row at a time.
        result = a if r == only else above
    elif ops[k, MASK] != PLAIN and not masks[ops[k, TILE_MASK], r, c]:
        result = above if ops[k, MASK] == PASS else 0.0
    elif multiplier == EXACT:
        result = compute(ops[k, FUNCTION], a, b, d)
    else:
        result = rounded(ops[k, FUNCTION], a, b, d, multiplier, method, table)
        if ops[k, NARROW]:
            result = float(to_bf16(result))
    if ops[k, GOES] & TO_REGISTER and (only < 0 or r == only):
        index = ops[k, TARGET]
        value[index, r, c] = result
        valid[index, r, c] = NEVER if ops[k, PARTIAL] else t + ops[k, LATENCY]
        loop[index, r, c] = t + ops[k, LOOP]
    if ops[k, GOES] & TO_COLUMN:
        return True, result, True
    return True, above, False


@numba.njit(cache=True)
def note(ops: Ints, k: int, r: int, holds: bool, executed: Ints, acted: Ints) -> None:
    """Count that a PE of row r has executed micro-op k, if it holds a point of the tile."""
    if holds:
        executed[k] += 1
        if ops[k, ONLY_ROW] < 0 or r == ops[k, ONLY_ROW]:
            acted[k] += 1


@numba.njit(cache=True)
def clock_array(
    stream: Stream, enters: int, t: int, cells: Cells, wires: Wires, landing: Fifo, returned: Fifo,
    log: Log,
) -> int:  # fmt: skip
    """One cycle of the array. Returns the last cycle of a result, or -1 if a word is missing."""
    # Names of their own: a lookup in a tuple of arrays for each PE takes longer than the PE.
    ops, constants, masks = stream.ops, stream.constants, stream.masks
    left, top = stream.left, stream.top
    multiplier, method, table = stream.multiplier, stream.method, stream.table
    value, valid, loop = cells.value, cells.valid, cells.loop
    at, column, right, down = wires.at, wires.column, wires.right, wires.down
    executed, acted = log.executed, log.acted
    rows, cols = at.shape
    stage = t % down.shape[2]
    last = 0
    # From the bottom right, so that neighbours are read before they change.
    for r in range(rows - 1, -1, -1):
        for c in range(cols - 1, -1, -1):
            if c > 0:
                k = at[r, c - 1]
                right[r, c] = right[r, c - 1]
            else:
                # What row r executes now, row r + 1 executes a hop later.
                k = column[r, stage] if r > 0 else enters
                if r + 1 < rows:
                    column[r + 1, stage] = k
                right[r, 0] = left[k, r] if k >= 0 else 0.0
            at[r, c] = k
            if k < 0:
                continue
            if r > 0:
                above = down[r - 1, c, stage]
            elif ops[k, RETURN] > 0:
                q = ops[k, RETURN] - 1
                if returned.held[c, q] == 0:
                    return -1
                above = take(returned, c, q)
            else:
                above = top[k, c]
            fine, passes, is_result = execute_pe(
                ops, constants, masks, k, r, c, t, right[r, c], above,
                multiplier, method, table, value, valid, loop,
            )  # fmt: skip
            if not fine:
                return -1
            note(ops, k, r, masks[ops[k, TILE_MASK], r, c], executed, acted)
            down[r, c, stage] = passes
            if is_result and r == rows - 1:
                send(landing, c, ops[k, QUEUE], t + ops[k, LATENCY], passes)
            last = max(last, t + ops[k, LATENCY] - 1)
    return last


@numba.njit(cache=True)
def clock_lanes(
    stream: Stream, enters: int, t: int, back: int, cells: Cells, wires: Wires, landing: Fifo,
    returned: Fifo, output: Floats, log: Log,
) -> int:  # fmt: skip
    """One cycle of the lanes. Returns the last cycle of a result, or -1 if a word is missing."""
    last = 0
    for c in range(wires.lane.shape[0] - 1, -1, -1):
        k = wires.lane[c - 1] if c > 0 else enters
        wires.lane[c] = k
        if k < 0:
            continue
        ops = stream.ops
        a = b = d = total = 0.0
        for j in range(3):
            source, index = ops[k, SOURCE_A + 2 * j], ops[k, INDEX_A + 2 * j]
            word = 0.0
            if source in (LANE, ACCUMULATOR):
                ready = cells.valid if source == LANE else cells.loop
                if ready[index, 0, c] > t:
                    return -1
                word = cells.value[index, 0, c]
                total = word if source == ACCUMULATOR else total
            elif source == CONSTANT:
                word = stream.constants[k, j]
            elif source == TOP:
                word = stream.top[k, c]
            elif source == LANDING:
                if landing.held[c, index] == 0:
                    return -1
                word = take(landing, c, index)
            if j == 0:
                a = word
            elif j == 1:
                b = word
            else:
                d = word
        if ops[k, MASK] == PASS:
            result = total
        elif stream.multiplier == EXACT:
            result = compute(ops[k, FUNCTION], a, b, d)
        else:
            multiplier, method, table = stream.multiplier, stream.method, stream.table
            result = rounded(ops[k, FUNCTION], a, b, d, multiplier, method, table)
        # A lane holds points of its column, whatever the rows of the tile.
        note(ops, k, 0, c < ops[k, COLS], log.executed, log.acted)
        if ops[k, GOES] & TO_REGISTER:
            cells.value[ops[k, TARGET], 0, c] = result
            cells.valid[ops[k, TARGET], 0, c] = NEVER if ops[k, PARTIAL] else t + ops[k, LATENCY]
            cells.loop[ops[k, TARGET], 0, c] = t + ops[k, LOOP]
        if ops[k, GOES] & TO_OUTPUT:
            output[k, c] = result
        if ops[k, RETURN] > 0:
            send(returned, c, ops[k, RETURN] - 1, t + ops[k, LATENCY] + back, result)
        last = max(last, t + ops[k, LATENCY] - 1)
    return last


@numba.njit(cache=True)
def clock_all(
    array: Stream, lanes: Stream, patience: int, back: int, cells: Cells, lane_cells: Cells,
    wires: Wires, landing: Fifo, returned: Fifo, log: Log, lane_log: Log, output: Floats,
    channel: Channel,
) -> tuple[int, int]:  # fmt: skip
    """Clock the machine until both streams have run and nothing travels any more.

    The state (cells, wires, FIFOs) is empty at first; logs and output [lane micro-op, column] are
    filled on the way. `patience` is how many cycles without an issue mean that none can follow,
    `back` counts the registers between a lane and the top edge.

    Returns: how it ended, and the last cycle with a result (or the cycle of the failure).
    """
    count, lane_count = array.ops.shape[0], lanes.ops.shape[0]
    n, m, last, quiet, t = 0, 0, 0, 0, 0
    # Cycles until all that was issued has come out: counters that hardware would have, too.
    cols = wires.lane.shape[0]
    depth = wires.down.shape[2] * (wires.at.shape[0] - 1) + cols - 1
    busy, run = 0, 0
    while quiet <= patience:
        t += 1
        move(channel, n, m, log, lane_log)
        if not arrive(landing, t) or not arrive(returned, t):
            return OVERFLOW, t
        enters, lane_enters = -1, -1
        if busy > 0:
            busy -= 1
        at_end = (n == count or array.ops[n, RUN] > run) and (
            m == lane_count or lanes.ops[m, RUN] > run
        )
        if at_end and busy == 0:
            run += 1
        if n < count:
            lack = missing(
                array.ops[n], cells.valid[:, 0, 0], cells.loop[:, 0, 0], returned.held[0], t
            )
            lack = lack or late(array.ops[n], channel.over, run, t)
            if lack:
                log.waited[n] = lack
            else:
                enters, log.issued[n] = n, t
                busy = max(busy, depth + array.ops[n, LATENCY])
                n += 1
        if m < lane_count:
            valid, loop = lane_cells.valid[:, 0, 0], lane_cells.loop[:, 0, 0]
            lack = missing(lanes.ops[m], valid, loop, landing.held[0], t)
            lack = lack or late(lanes.ops[m], channel.over, run, t)
            if lack:
                lane_log.waited[m] = lack
            else:
                lane_enters, lane_log.issued[m] = m, t
                busy = max(busy, cols - 1 + lanes.ops[m, LATENCY])
                m += 1
        # A move that is under way is over some time.
        under_way = channel.state[0] > 0 and channel.over[channel.state[0] - 1] >= t
        quiet = 0 if enters >= 0 or lane_enters >= 0 or under_way else quiet + 1
        done = clock_array(array, enters, t, cells, wires, landing, returned, log)
        lane_done = clock_lanes(
            lanes, lane_enters, t, back, lane_cells, wires, landing, returned, output, lane_log
        )
        if done < 0 or lane_done < 0:
            return NOT_VALID, t
        last = max(last, done, lane_done)
    for k in range(channel.moves.shape[0]):
        if channel.moves[k, IS_STORE] and channel.over[k] < NEVER:
            last = max(last, channel.over[k])
    return (FINE if n == count and m == lane_count else DEADLOCK), last
