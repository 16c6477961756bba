"""The tile-level engine in numba: micro-ops issued as early as the rules allow, epoch by epoch.

It executes what `slots` executes, with tables instead of objects. Tiles enter one at a time, as a
class that says which acts they cause and how old everything is that they read. Times of acts are in
rings; of an act that is older than the ring it is only known, and checked, that nothing waits for it
any more. Since everything is a maximum of sums, a state that comes back, all times later by the same
amount, goes on as it did: `settle` skips the tiles in between.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from archsim.tile_kernel import FAR, NONE

Ints = NDArray[np.int64]

TICKS = 256
# What became of a call.
FINE, STUCK, TOO_OLD, OVERFLOW = range(4)
# Columns of a wait: what kind, the actor or pointer, slot of the maker, delay, cause.
OWN, POINTED, REUSED, FETCHED, ROOM = range(5)
KIND, WHICH, MAKER, SLOT, DELAY, CAUSE = range(6)
# Columns of a task: unit, slots, first column in rings, cycles from the last slot to its end.
UNIT, SLOTS, FIRST, SKEW = range(4)
# Columns of an item of a body: task, lag.
ITEM_TASK, ITEM_LAG = range(2)
# Columns of a move: is it a store, lag, entries, the task that makes a store.
IS_STORE, MOVE_LAG, ENTRIES, STORED_TASK = range(4)
# Cursor of a unit: epoch, entry, slot, item; its clock.
EPOCH, ENTRY, STEP, ITEM, CLOCK = range(5)
# Numbers of the whole state: tiles entered, the first of them since the pipeline was last empty,
# epoch and move of the channel, tick at which it is free, last result, end of the last store, slot
# before which nothing may issue since the pipeline ran empty, the FIFO that overflowed.
ENTERED, BASE, MOVE_EPOCH, MOVE_NEXT, FREE, LAST, STORED, BARRIER, FAILED = range(9)


class Code(NamedTuple):
    """What does not change: a Program in numbers."""

    tasks: Ints
    # Waits of micro-op k are rows first[k] to first[k + 1]; k = column of a task in rings.
    first: Ints
    waits: Ints
    # Cycles from the issue of a micro-op to its result in the last PE or lane, by k.
    finish: Ints
    # Bodies: items of unit u, entry by entry; [unit, entry] -> first item, and after the last.
    items: Ints
    entries: Ints
    lengths: Ints
    moves: Ints
    # What a fetch waits for: [(move, reuse, task that reads)].
    frees: Ints
    # Columns of a class: acts of tasks and moves, pointers, reuses, ticks of moves.
    pointers: int
    reuses: int
    ticks: int
    # FIFOs: [fifo, (task that takes, slot of a word that takes, word slots, room, maker, delay,
    # slots of a word of the maker, first slot that makes, pointer)].
    fifos: Ints
    # Sizes of rings, and delays: longest lag, longest delay, cycles to fill the buffer.
    ring: int
    near: int
    lag: int
    slack: int
    refill: int
    latency: int


class State(NamedTuple):
    """What changes."""

    # Rings of acts: slot of each micro-op [act, k]; slots issued [act, task].
    at: Ints
    issued: Ints
    # Last slot of acts, a longer ring [task, act], and how many acts are over.
    last: Ints
    over: Ints
    # For tiles in flight: class, acts of actors so far, the same in acts of the longer ring.
    classes: Ints
    acts: Ints
    long: Ints
    # Counts so far of actors: in rings, and in the longer ring.
    now: Ints
    now_long: Ints
    # Rings of moves [move, act]: cycle in which it is over; and how many are.
    moved: Ints
    moves_done: Ints
    cursors: Ints
    numbers: Ints
    # FIFOs: times of takes [fifo, n], (takes, first take not before the last arrival, most).
    takes: Ints
    fifo: Ints
    # Idle slots [unit, cause], issued slots by task.
    idle: Ints
    busy: Ints


@numba.njit(cache=True)
def enter(code: Code, state: State, classes: Ints, number: int) -> None:
    """A tile enters: its acts begin."""
    tile = state.numbers[ENTERED]
    place = tile % state.classes.shape[0]
    state.classes[place] = number
    tasks = code.tasks.shape[0]
    for a in range(state.now.shape[0]):
        if classes[number, a]:
            if a < tasks:
                state.issued[state.now[a] % code.ring, a] = 0
            state.now[a] += 1
            state.now_long[a] += 1
    state.acts[place, :] = state.now
    state.long[place, :] = state.now_long
    state.numbers[ENTERED] = tile + 1


@numba.njit(cache=True)
def ready_at(
    code: Code, state: State, classes: Ints, w: int, task: int, own: int, slot: int, place: int,
    clock: int,
) -> int:  # fmt: skip
    """Slot from which one wait lets a micro-op go; -1 if not known yet, -2 if it can't be told."""
    kind, which, maker, target, delay = (
        code.waits[w, KIND],
        code.waits[w, WHICH],
        code.waits[w, MAKER],
        code.waits[w, SLOT],
        code.waits[w, DELAY],
    )
    if kind == OWN:
        return state.at[own % code.ring, code.tasks[task, FIRST] + target] + delay
    number = state.classes[place]
    if kind == ROOM:
        # Room for what this tile stores, if it does.
        if not classes[number, code.tasks.shape[0] + which]:
            return 0
        act = state.acts[place, code.tasks.shape[0] + which] - 1 - code.moves[which, ENTRIES]
        if act < 0:
            return 0
        if act >= state.moves_done[which]:
            return -1
        over: int = state.moved[which, act % state.moved.shape[1]] + delay
        return over
    column = code.reuses if kind == REUSED else code.pointers
    age = classes[number, column + which]
    if age == NONE:
        return 0
    if age == FAR:
        # Everybody issues in order: what was older than this is over if this is.
        age = code.near + 1
        old = ready_from(code, state, kind, maker, target, place, age) + delay
        return 0 if 0 <= old - delay and old <= clock + 1 else -2
    if kind == REUSED and maker == task and age == 0 and target >= slot:
        return 0  # It reads the old value while it writes the new one.
    found = ready_from(code, state, kind, maker, target, place, age)
    return found if found < 0 else found + delay


@numba.njit(cache=True)
def ready_from(
    code: Code, state: State, kind: int, maker: int, target: int, place: int, age: int
) -> int:
    """Slot in which an act did something, or cycle in which a move was over; -1 if not yet."""
    if kind == FETCHED:
        act = state.acts[place, code.tasks.shape[0] + maker] - 1 - age
        if act >= state.moves_done[maker]:
            return -1
        over: int = state.moved[maker, act % state.moved.shape[1]]
        return over
    act = state.acts[place, maker] - 1 - age
    if act >= state.now[maker] or target >= state.issued[act % code.ring, maker]:
        return -1
    slot: int = state.at[act % code.ring, code.tasks[maker, FIRST] + target]
    return slot


@numba.njit(cache=True)
def issue(
    code: Code, state: State, classes: Ints, unit: int, task: int, slot: int, place: int
) -> int:
    """Issue one micro-op if everything that it waits for is known; FINE, STUCK or a failure."""
    own = state.acts[place, task] - 1
    clock = state.cursors[unit, CLOCK]
    at, cause = clock + 1, -1
    k = code.tasks[task, FIRST] + slot
    for w in range(code.first[k], code.first[k + 1]):
        ready = ready_at(code, state, classes, w, task, own, slot, place, clock)
        if ready < 0:
            return STUCK if ready == -1 else TOO_OLD
        why = code.waits[w, CAUSE]
        if ready > at or (cause >= 0 and ready == at and why < cause):
            at, cause = ready, why
    if state.numbers[BARRIER] > at:
        at, cause = state.numbers[BARRIER], state.idle.shape[1] - 1
    if at > clock + 1:
        state.idle[unit, cause] += at - clock - 1
    state.at[own % code.ring, k] = at
    state.issued[own % code.ring, task] = slot + 1
    state.cursors[unit, CLOCK] = at
    state.busy[task] += 1
    if at + code.finish[k] > state.numbers[LAST]:
        state.numbers[LAST] = at + code.finish[k]
    if slot == code.tasks[task, SLOTS] - 1:
        act = state.long[place, task] - 1
        state.last[task, act % state.last.shape[1]] = at
        state.over[task] = act + 1
    return take(code, state, classes, task, slot, place, at) if code.fifos.shape[0] else FINE


@numba.njit(cache=True)
def take(
    code: Code, state: State, classes: Ints, task: int, slot: int, place: int, at: int
) -> int:
    """Count the words that wait in a FIFO when one is taken."""
    for f in range(code.fifos.shape[0]):
        taker, first, each, room, maker, delay, made_each, made_first, pointer = code.fifos[f]
        if taker != task or slot % each != first:
            continue
        word = slot // each
        age = classes[state.classes[place], code.pointers + pointer]
        act = state.acts[place, maker] - 1 - age
        arrival = state.at[
            act % code.ring, code.tasks[maker, FIRST] + made_first + word * made_each
        ] + delay
        size = state.takes.shape[1]
        n = state.fifo[f, 0]
        state.takes[f, n % size] = at
        state.fifo[f, 0] = n + 1
        while state.takes[f, state.fifo[f, 1] % size] < arrival:
            state.fifo[f, 1] += 1
        held = n - state.fifo[f, 1] + 1
        state.fifo[f, 2] = max(state.fifo[f, 2], held)
        if held > room:
            state.numbers[FAILED] = f
            return OVERFLOW
    return FINE


@numba.njit(cache=True)
def run_unit(code: Code, state: State, classes: Ints, unit: int, epochs: int) -> int:
    """Issue what a unit can issue in epochs before `epochs`: how many micro-ops, or -status."""
    cursor = state.cursors[unit]
    issued = 0
    size = state.classes.shape[0]
    while cursor[EPOCH] < epochs:
        if cursor[ENTRY] >= code.lengths[unit]:
            cursor[EPOCH] += 1
            cursor[ENTRY] = cursor[STEP] = cursor[ITEM] = 0
            continue
        first = code.entries[unit, cursor[ENTRY], 0]
        count = code.entries[unit, cursor[ENTRY], 1]
        # The longest of the tasks that take turns in this epoch.
        most = 0
        for i in range(first, first + count):
            tile = cursor[EPOCH] - code.items[i, ITEM_LAG]
            task = code.items[i, ITEM_TASK]
            if state.numbers[BASE] <= tile < state.numbers[ENTERED]:
                if classes[state.classes[tile % size], task]:
                    most = max(most, code.tasks[task, SLOTS])
        while cursor[STEP] < most:
            while cursor[ITEM] < count:
                i = first + cursor[ITEM]
                tile = cursor[EPOCH] - code.items[i, ITEM_LAG]
                task = code.items[i, ITEM_TASK]
                if (
                    state.numbers[BASE] <= tile < state.numbers[ENTERED]
                    and cursor[STEP] < code.tasks[task, SLOTS]
                    and classes[state.classes[tile % size], task]
                ):
                    status = issue(code, state, classes, unit, task, cursor[STEP], tile % size)
                    if status == STUCK:
                        return issued
                    if status != FINE:
                        return -status
                    issued += 1
                cursor[ITEM] += 1
            cursor[ITEM] = 0
            cursor[STEP] += 1
        cursor[ENTRY] += 1
        cursor[STEP] = cursor[ITEM] = 0
    return issued


@numba.njit(cache=True)
def run_moves(code: Code, state: State, classes: Ints, epochs: int) -> int:
    """Move what can be moved in epochs before `epochs`; how many granules."""
    numbers = state.numbers
    size, moves = state.classes.shape[0], code.moves.shape[0]
    count = 0
    while numbers[MOVE_EPOCH] < epochs:
        if numbers[MOVE_NEXT] >= moves:
            numbers[MOVE_EPOCH] += 1
            numbers[MOVE_NEXT] = 0
            continue
        m = numbers[MOVE_NEXT]
        tile = numbers[MOVE_EPOCH] - code.moves[m, MOVE_LAG]
        if numbers[BASE] <= tile < numbers[ENTERED]:
            place = tile % size
            ticks = classes[state.classes[place], code.ticks + m]
            if ticks:
                last = 0
                if code.moves[m, IS_STORE]:
                    task = code.moves[m, STORED_TASK]
                    act = state.long[place, task] - 1
                    if act >= state.over[task]:
                        return count
                    last = state.last[task, act % state.last.shape[1]] + code.tasks[task, SKEW]
                    numbers[FREE] = max(numbers[FREE] + ticks, TICKS * last)
                    over = -(-numbers[FREE] // TICKS)
                    numbers[STORED] = max(numbers[STORED], over)
                else:
                    for w in range(code.frees.shape[0]):
                        if code.frees[w, 0] != m:
                            continue
                        age = classes[state.classes[place], code.reuses + code.frees[w, 1]]
                        if age == NONE:
                            continue
                        reader = code.frees[w, 2]
                        act = state.long[place, reader] - 1 - age
                        if act >= state.over[reader]:
                            return count
                        last = max(last, state.last[reader, act % state.last.shape[1]])
                    numbers[FREE] = max(numbers[FREE], TICKS * last) + ticks
                    over = -(-numbers[FREE] // TICKS) + code.latency
                state.moved[m, state.moves_done[m] % state.moved.shape[1]] = over
                state.moves_done[m] += 1
                count += 1
        numbers[MOVE_NEXT] = m + 1
    return count


@numba.njit(cache=True)
def advance(code: Code, state: State, classes: Ints, epochs: int) -> int:
    """Go on until everybody has come to `epochs` or waits for what is not known yet."""
    going = True
    while going:
        going = run_moves(code, state, classes, epochs) > 0
        for unit in range(state.cursors.shape[0]):
            issued = run_unit(code, state, classes, unit, epochs)
            if issued < 0:
                return -issued
            going = going or issued > 0
    for unit in range(state.cursors.shape[0]):
        if state.cursors[unit, EPOCH] < epochs - code.lag - 2:
            return STUCK
    return FINE


@numba.njit(cache=True)
def flush(code: Code, state: State, classes: Ints) -> int:
    """Let the pipeline run empty; what comes next waits for its last result."""
    numbers = state.numbers
    epochs = numbers[ENTERED] + code.lag
    status = advance(code, state, classes, epochs)
    if status != FINE:
        return status
    if run_moves(code, state, classes, epochs) or numbers[MOVE_EPOCH] < epochs:
        return STUCK
    for unit in range(state.cursors.shape[0]):
        if state.cursors[unit, EPOCH] < epochs:
            return STUCK
        state.cursors[unit, EPOCH] = numbers[ENTERED]
        state.cursors[unit, ENTRY] = 0
    numbers[MOVE_EPOCH], numbers[MOVE_NEXT] = numbers[ENTERED], 0
    numbers[BASE] = numbers[ENTERED]
    numbers[BARRIER] = numbers[LAST] + 1
    return FINE
