"""The arrays that the tile-level engine runs on: where everything stands in code and state.

The Program is one array of integers, `code`, and the state another: a state is then copied,
compared and shifted as a whole, and a call passes two arrays (tuples of arrays cost more than the
work). The head of `code` says where everything is; `engine_layout` writes both.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

TICKS = 256
# What became of a call.
FINE, STUCK, TOO_OLD, OVERFLOW = range(4)
# Of one wait: there is nothing to wait for; and what is known of an act that waits for itself.
IDLE_WAIT, ITSELF = -1, -2
# The head of `code`: how many there are, sizes of rings, distances in acts and cycles, columns of a
# class, places in `code` and in the state.
(
    TASKS, UNITS, MOVES, ACTORS, FIFOS, FREES, CAUSES, WIDTH,
    RING, FLIGHT, LONG_RING, MOVE_RING, ROOM,
    NEAR, LAG, SKEWED, SLACK, REFILL, LATENCY,
    POINTERS, REUSES, CLASS_TICKS, BOUND_SIZE,
    TASK_AT, STEP_AT, WAIT_AT, LENGTH_AT, ENTRY_AT, ITEM_AT, MOVE_AT, FREE_AT, FIFO_AT,
    SLOT, ISSUED, LAST_SLOT, OVER, CLASS, ACTS, LONG, NOW, NOW_LONG, MOVED, DONE, CURSOR, NUMBER,
    TAKE, COUNT, IDLE, BUSY, BOUND, SIZE,
) = range(51)  # fmt: skip
HEAD = 51
# A task: unit, slots, first column in the ring of slots, cycles from its last slot to its end,
# slots of a word, its first step and wait, how many waits, the first FIFO that it takes from, how
# many.
UNIT, SLOTS, COLUMN, SKEW, EACH, STEPS, WAITS, COUNT_WAITS, TAKES_FROM, COUNT_TAKES = range(10)
TASK = 10
# A slot of a word: first wait and the one after the last, cycles from its issue to its result in
# the last PE or lane.
FIRST_WAIT, LAST_WAIT, FINISH = range(3)
# A wait of a slot of a word: its kind; the pointer, reuse or move; the task or move waited for; the
# slot there for word 0 and from word to word; delay, cause; the first and last word it concerns.
OWN, POINTED, REUSED, FETCHED, ROOMY = range(5)
KIND, WHICH, MAKER, TARGET, STRIDE, DELAY, CAUSE, LOW, HIGH = range(9)
WAIT = 9
# What a task waits for in a tile, bound to its acts. First where its own slots stand, its act in
# the longer ring, where it stands how many of its slots are issued, and the tile's place, or -1.
OWN_SLOTS, OWN_LONG, OWN_ISSUED, PLACE = range(4)
BOUND_HEAD = 4
# Then the waits of each slot of a word one after the other, and behind each slot's list its end. A
# wait: where the slot for word 0 stands in the state, from word to word, delay, cause, the words it
# concerns, the slot waited for, where it stands how many are known (-1: all of them are). Then the
# slots that make the words it takes from FIFOs.
AT, BY, AFTER, WHY, FROM, TO, AIM, KNOWN = range(8)
BOUND_WAIT = 8
# A move: is it a store, lag, entries, the task that makes what is stored.
IS_STORE, MOVE_LAG, ENTRIES, STORED_TASK = range(4)
# A FIFO: the slot of a word that takes, room, the maker, slots from there to here, the maker's
# slots of a word and the first that makes, the taker's pointer.
OFFSET, HOLDS, FILLER, WAY, MADE_EACH, MADE_FIRST, POINTER = range(7)
FIFO = 7
# Cursor of a unit.
EPOCH, ENTRY, STEP, ITEM, CLOCK = range(5)
# Tiles entered, the first of them since the pipeline was last empty, epoch and move of the channel,
# tick at which it is free, last result, end of the last store, slot before which nothing may issue
# since the pipeline ran empty, the FIFO that overflowed, granules moved in all.
ENTERED, BASE, MOVE_EPOCH, MOVE_NEXT, FREE, LAST, STORED, BARRIER, FAILED, MADE = range(10)


@numba.njit(cache=True)
def task_of(code: Ints, task: int, field: int) -> int:
    """A field of a task."""
    return int(code[code[TASK_AT] + TASK * task + field])


@numba.njit(cache=True)
def slot_at(code: Ints, state: Ints, act: int, column: int) -> int:
    """Where the slot of a micro-op of an act stands."""
    return int(code[SLOT] + (act & (code[RING] - 1)) * code[WIDTH] + column)


@numba.njit(cache=True)
def issued_at(code: Ints, act: int, task: int) -> int:
    """Where it stands how many slots of an act have been issued."""
    return int(code[ISSUED] + (act & (code[RING] - 1)) * code[TASKS] + task)
