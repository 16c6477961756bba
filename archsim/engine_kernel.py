"""The tile-level engine in numba: micro-ops issued as early as the rules allow, epoch by epoch.

It executes what `slots` executes, with tables instead of objects. Tiles enter one at a time, as a
class that says which acts they cause and how old everything is that they read. Times of acts are
in rings; of an act that is older than the ring it is only known, and checked, that nothing waits
for it any more.

The Program is one array of integers, `code`, and the state another: a state is then copied,
compared and shifted as a whole, and a call passes two arrays (tuples of arrays cost more than the
work). The head of `code` says where everything is; `engine_layout` writes both.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from archsim.tile_kernel import FAR, NONE

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


@numba.njit(cache=True)
def enter(code: Ints, state: Ints, classes: Ints, number: int) -> None:
    """A tile enters: its acts begin."""
    entered = code[NUMBER] + ENTERED
    place = state[entered] & (code[FLIGHT] - 1)
    state[code[CLASS] + place] = number
    actors = code[ACTORS]
    for a in range(actors):
        now = code[NOW] + a
        if classes[number, a]:
            if a < code[TASKS]:
                state[issued_at(code, state[now], a)] = 0
            state[now] += 1
            state[code[NOW_LONG] + a] += 1
        state[code[ACTS] + place * actors + a] = state[now]
        state[code[LONG] + place * actors + a] = state[code[NOW_LONG] + a]
    state[entered] += 1


@numba.njit(cache=True)
def bind(
    code: Ints, state: Ints, classes: Ints, task: int, place: int, clock: int, bound: int
) -> int:
    """Find the acts that a task waits for in a tile; FINE, STUCK or TOO_OLD.

    `bound` is where the result goes. Of each slot of a word only those waits are kept that hold in
    this tile.
    """
    actors = code[ACTORS]
    acts = code[ACTS] + place * actors
    own = state[acts + task] - 1
    state[bound + OWN_SLOTS] = slot_at(code, state, own, task_of(code, task, COLUMN))
    state[bound + OWN_LONG] = state[code[LONG] + place * actors + task] - 1
    state[bound + OWN_ISSUED] = issued_at(code, own, task)
    each, waits = task_of(code, task, EACH), task_of(code, task, WAITS)
    entry = bound + BOUND_HEAD + each
    for part in range(each):
        step = code[STEP_AT] + 3 * (task_of(code, task, STEPS) + part)
        for n in range(code[step + FIRST_WAIT], code[step + LAST_WAIT]):
            wait = code[WAIT_AT] + WAIT * (waits + n)
            status = bind_wait(code, state, classes, place, clock, bound, wait, entry)
            if status == FINE:
                entry += BOUND_WAIT
            elif status != IDLE_WAIT:
                return status
        state[bound + BOUND_HEAD + part] = entry
    number = state[code[CLASS] + place]
    for n in range(task_of(code, task, COUNT_TAKES)):
        fifo = code[FIFO_AT] + FIFO * (task_of(code, task, TAKES_FROM) + n)
        age = classes[number, code[POINTERS] + code[fifo + POINTER]]
        act = state[acts + code[fifo + FILLER]] - 1 - age
        column = task_of(code, code[fifo + FILLER], COLUMN) + code[fifo + MADE_FIRST]
        state[entry + n] = slot_at(code, state, act, column)
    return FINE


@numba.njit(cache=True)
def bind_wait(
    code: Ints, state: Ints, classes: Ints, place: int, clock: int, bound: int, wait: int,
    entry: int,
) -> int:  # fmt: skip
    """Bind one wait to the act it means in a tile; IDLE_WAIT if there is nothing to wait for."""
    acts, number = code[ACTS] + place * code[ACTORS], state[code[CLASS] + place]
    kind, which, maker = code[wait + KIND], code[wait + WHICH], code[wait + MAKER]
    state[entry + BY], state[entry + AFTER] = code[wait + STRIDE], code[wait + DELAY]
    state[entry + WHY], state[entry + AIM] = code[wait + CAUSE], code[wait + TARGET]
    state[entry + FROM], state[entry + TO] = code[wait + LOW], code[wait + HIGH]
    state[entry + KNOWN] = -1
    if kind == OWN:
        state[entry + AT] = state[bound + OWN_SLOTS] + code[wait + TARGET]
        return FINE
    age = 0
    if kind == ROOMY:
        # Room for what this tile stores, if it does.
        act = state[acts + code[TASKS] + which] - 1
        act -= code[code[MOVE_AT] + 4 * which + ENTRIES]
        if not classes[number, code[TASKS] + which]:
            return IDLE_WAIT
    else:
        age = classes[number, (code[REUSES] if kind == REUSED else code[POINTERS]) + which]
        if age == NONE:
            return IDLE_WAIT
        actor = code[TASKS] + maker if kind == FETCHED else maker
        # Of an act that is too old to be told, a later one tells enough: all is in order.
        old = 0 if kind == FETCHED else code[NEAR] + 1
        act = state[acts + actor] - 1 - (old if age == FAR else age)
    if act < 0:
        return IDLE_WAIT  # It was skipped with others; nobody waits for what is as old as that.
    if kind in (FETCHED, ROOMY):
        if act >= state[code[DONE] + maker]:
            return TOO_OLD if kind == FETCHED and age == FAR else STUCK
        state[entry + AT] = code[MOVED] + maker * code[MOVE_RING] + (act & (code[MOVE_RING] - 1))
        over = state[state[entry + AT]] + code[wait + DELAY] <= clock + 1
        if kind == FETCHED and age == FAR and not over:
            return TOO_OLD
        return IDLE_WAIT if over else FINE
    if act >= state[code[NOW] + maker]:
        return STUCK
    address = slot_at(code, state, act, task_of(code, maker, COLUMN))
    known, slots = issued_at(code, act, maker), task_of(code, maker, SLOTS)
    is_over = state[known] == slots
    if age == FAR:
        # Everybody issues in order: what was older than this is over if this is.
        if not is_over or state[address + slots - 1] + code[wait + DELAY] > clock + 1:
            return TOO_OLD
        return IDLE_WAIT
    state[entry + AT] = address + code[wait + TARGET]
    # What holds for the last word before the task's first slot holds for every word.
    last = state[entry + AT] + code[wait + HIGH] * code[wait + STRIDE]
    if is_over and state[last] + code[wait + DELAY] <= clock + 1:
        return IDLE_WAIT
    if kind == REUSED and known == state[bound + OWN_ISSUED]:
        state[entry + KNOWN] = ITSELF
    elif not is_over:
        state[entry + KNOWN] = known
    return FINE


@numba.njit(cache=True)
def issue(code: Ints, state: Ints, unit: int, task: int, slot: int, bound: int) -> int:
    """Issue one micro-op if everything that it waits for is known; FINE, STUCK or OVERFLOW."""
    cursor = code[CURSOR] + 5 * unit + CLOCK
    clock = state[cursor]
    at, cause = clock + 1, -1
    row = code[TASK_AT] + TASK * task
    each, takes = code[row + EACH], code[row + COUNT_TAKES]
    word, part = slot, 0
    if each > 1:
        word, part = slot // each, slot % each
    own = state[bound + OWN_ISSUED]
    entry = bound + BOUND_HEAD + each if part == 0 else state[bound + BOUND_HEAD + part - 1]
    end = state[bound + BOUND_HEAD + part]
    while entry < end:
        if state[entry + FROM] <= word <= state[entry + TO]:
            ahead, known = word * state[entry + BY], state[entry + KNOWN]
            is_known = known == -1
            if not is_known:
                issued = state[own if known == ITSELF else known]
                is_known = state[entry + AIM] + ahead < issued
                if not is_known and known != ITSELF:
                    return STUCK
            # What reads the old value while it writes the new one does not wait for itself.
            if is_known:
                found = state[state[entry + AT] + ahead] + state[entry + AFTER]
                if found >= at:
                    why = state[entry + WHY]
                    if found > at or (cause >= 0 and why < cause):
                        at, cause = found, why
        entry += BOUND_WAIT
    barrier = state[code[NUMBER] + BARRIER]
    if barrier > at:
        at, cause = barrier, code[CAUSES] - 1
    if at > clock + 1:
        state[code[IDLE] + unit * code[CAUSES] + cause] += at - clock - 1
    state[state[bound + OWN_SLOTS] + slot] = at
    state[own] = slot + 1
    state[cursor] = at
    if slot == 0:
        state[code[BUSY] + task] += code[row + SLOTS]
    if slot >= code[row + SLOTS] - each:
        # Slots of the last word: nothing of the task ends later.
        last = code[NUMBER] + LAST
        finish = at + code[code[STEP_AT] + 3 * (code[row + STEPS] + part) + FINISH]
        state[last] = max(state[last], finish)
        if slot == code[row + SLOTS] - 1:
            long, ring = state[bound + OWN_LONG], code[LONG_RING]
            state[code[LAST_SLOT] + task * ring + (long & (ring - 1))] = at
            state[code[OVER] + task] = long + 1
    for n in range(takes):
        f = code[row + TAKES_FROM] + n
        fifo = code[FIFO_AT] + FIFO * f
        if part == code[fifo + OFFSET]:
            made = state[state[bound + BOUND_HEAD + each - 1] + n]
            if not take(code, state, f, made + word * code[fifo + MADE_EACH], at):
                return OVERFLOW
    return FINE


@numba.njit(cache=True)
def take(code: Ints, state: Ints, f: int, made: int, at: int) -> bool:
    """Count the words that wait in a FIFO as one is taken; False if there are too many."""
    fifo = code[FIFO_AT] + FIFO * f
    arrival = state[made] + code[fifo + WAY]
    takes, count, size = code[TAKE] + f * code[ROOM], code[COUNT] + 3 * f, code[ROOM]
    n, first = state[count], state[count + 1]
    state[takes + (n & (size - 1))] = at
    state[count] = n + 1
    # Whoever was taken before this word came makes room for it.
    while state[takes + (first & (size - 1))] < arrival:
        first += 1
    state[count + 1] = first
    state[count + 2] = max(state[count + 2], n - first + 1)
    if n - first + 1 > code[fifo + HOLDS]:
        state[code[NUMBER] + FAILED] = f
        return False
    return True


@numba.njit(cache=True)
def acting(code: Ints, state: Ints, classes: Ints, epoch: int, item: int) -> int:
    """Where the tile stands on which an item of a body acts in an epoch; -1 if it does not."""
    tile = epoch - code[item + 1]
    if tile < state[code[NUMBER] + BASE] or tile >= state[code[NUMBER] + ENTERED]:
        return -1
    place = tile & (code[FLIGHT] - 1)
    return place if classes[state[code[CLASS] + place], code[item]] else -1


@numba.njit(cache=True)
def run_unit(code: Ints, state: Ints, classes: Ints, unit: int, epochs: int) -> int:
    """Issue what a unit can issue in epochs before `epochs`: how many micro-ops, or -status."""
    cursor = code[CURSOR] + 5 * unit
    count, entries = 0, code[code[LENGTH_AT] + 2 * unit]
    table = code[ENTRY_AT] + 2 * code[code[LENGTH_AT] + 2 * unit + 1]
    while state[cursor + EPOCH] < epochs:
        if state[cursor + ENTRY] >= entries:
            state[cursor + EPOCH] += 1
            state[cursor + ENTRY] = state[cursor + STEP] = state[cursor + ITEM] = 0
            continue
        entry = table + 2 * state[cursor + ENTRY]
        first, items = code[ITEM_AT] + 2 * code[entry], code[entry + 1]
        # The longest of the tasks that take turns in this epoch.
        most = 0
        for i in range(items):
            task = code[first + 2 * i]
            place = acting(code, state, classes, state[cursor + EPOCH], first + 2 * i)
            state[code[BOUND] + code[BOUND_SIZE] * task + PLACE] = place
            if place >= 0:
                most = max(most, task_of(code, task, SLOTS))
        step, i = state[cursor + STEP], state[cursor + ITEM]
        while step < most:
            while i < items:
                task = code[first + 2 * i]
                bound = code[BOUND] + code[BOUND_SIZE] * task
                place = state[bound + PLACE]
                if place >= 0 and step < task_of(code, task, SLOTS):
                    status = FINE
                    if step == 0:
                        clock = state[cursor + CLOCK]
                        status = bind(code, state, classes, task, place, clock, bound)
                    if status == FINE:
                        status = issue(code, state, unit, task, step, bound)
                    if status != FINE:
                        state[cursor + STEP], state[cursor + ITEM] = step, i
                        return count if status == STUCK else -status
                    count += 1
                i += 1
            i = 0
            step += 1
        state[cursor + ITEM] = 0
        state[cursor + ENTRY] += 1
        state[cursor + STEP] = 0
    return count


@numba.njit(cache=True)
def last_slot(code: Ints, state: Ints, task: int, act: int) -> int:
    """The last slot of an act, from the longer ring; -1 if it is not over, 0 if it was skipped."""
    if act >= state[code[OVER] + task]:
        return -1
    if act < 0:
        return 0
    place = code[LAST_SLOT] + task * code[LONG_RING] + (act & (code[LONG_RING] - 1))
    return int(state[place])


@numba.njit(cache=True)
def move(code: Ints, state: Ints, classes: Ints, m: int, place: int) -> bool:
    """Move one granule; False if it is not known yet when."""
    row, long = code[MOVE_AT] + 4 * m, code[LONG] + place * code[ACTORS]
    free, number = code[NUMBER] + FREE, state[code[CLASS] + place]
    ticks = classes[number, code[CLASS_TICKS] + m]
    if code[row + IS_STORE]:
        task = code[row + STORED_TASK]
        last = last_slot(code, state, task, state[long + task] - 1)
        if last < 0:
            return False
        state[free] = max(state[free] + ticks, TICKS * (last + task_of(code, task, SKEW)))
        over = -(-state[free] // TICKS)
        state[code[NUMBER] + STORED] = max(state[code[NUMBER] + STORED], over)
    else:
        read = 0
        for k in range(code[FREES]):
            wait = code[FREE_AT] + 3 * k
            age = classes[number, code[REUSES] + code[wait + 1]]
            if code[wait] == m and age != NONE:
                last = last_slot(
                    code, state, code[wait + 2], state[long + code[wait + 2]] - 1 - age
                )
                if last < 0:
                    return False
                read = max(read, last)
        state[free] = max(state[free], TICKS * read) + ticks
        over = -(-state[free] // TICKS) + code[LATENCY]
    done, ring = code[DONE] + m, code[MOVE_RING]
    state[code[MOVED] + m * ring + (state[done] & (ring - 1))] = over
    state[done] += 1
    state[code[NUMBER] + MADE] += 1
    return True


@numba.njit(cache=True)
def run_moves(code: Ints, state: Ints, classes: Ints, epochs: int) -> int:
    """Move what can be moved in epochs before `epochs`; how many granules."""
    number, count = code[NUMBER], 0
    while state[number + MOVE_EPOCH] < epochs:
        m = state[number + MOVE_NEXT]
        if m >= code[MOVES]:
            state[number + MOVE_EPOCH] += 1
            state[number + MOVE_NEXT] = 0
            continue
        tile = state[number + MOVE_EPOCH] - code[code[MOVE_AT] + 4 * m + MOVE_LAG]
        if state[number + BASE] <= tile < state[number + ENTERED]:
            place = tile & (code[FLIGHT] - 1)
            if classes[state[code[CLASS] + place], code[TASKS] + m]:
                if not move(code, state, classes, m, place):
                    return count
                count += 1
        state[number + MOVE_NEXT] = m + 1
    return count


@numba.njit(cache=True)
def advance(code: Ints, state: Ints, classes: Ints, epochs: int) -> int:
    """Go on until everybody has come to `epochs` or waits for what is not known yet."""
    going = True
    while going:
        going = run_moves(code, state, classes, epochs) > 0
        for unit in range(code[UNITS]):
            issued = run_unit(code, state, classes, unit, epochs)
            if issued < 0:
                return -issued
            going = going or issued > 0
    for unit in range(code[UNITS]):
        if state[code[CURSOR] + 5 * unit + EPOCH] < epochs - code[SKEWED]:
            return STUCK
    return FINE


@numba.njit(cache=True)
def flush(code: Ints, state: Ints, classes: Ints) -> int:
    """Let the pipeline run empty; what comes next waits for its last result."""
    number = code[NUMBER]
    epochs = state[number + ENTERED] + code[LAG]
    status = advance(code, state, classes, epochs)
    if status != FINE:
        return status
    if state[number + MOVE_EPOCH] < epochs:
        return STUCK
    for unit in range(code[UNITS]):
        cursor = code[CURSOR] + 5 * unit
        if state[cursor + EPOCH] < epochs:
            return STUCK
        state[cursor + EPOCH], state[cursor + ENTRY] = state[number + ENTERED], 0
    state[number + MOVE_EPOCH], state[number + MOVE_NEXT] = state[number + ENTERED], 0
    state[number + BASE] = state[number + ENTERED]
    state[number + BARRIER] = state[number + LAST] + 1
    return FINE
