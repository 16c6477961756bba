"""The tile-level engine in numba: micro-ops issued as early as the rules allow, epoch by epoch.

It executes what `slots` executes, with tables instead of objects. Tiles enter one at a time
(`engine_binding`); units and the memory channel go on as far as what they wait for is known.
"""

from __future__ import annotations

import numba

from archsim.engine_binding import bind
from archsim.engine_code import (
    ACTORS,
    AFTER,
    AIM,
    AT,
    BARRIER,
    BASE,
    BOUND,
    BOUND_HEAD,
    BOUND_SIZE,
    BOUND_WAIT,
    BUSY,
    BY,
    CAUSES,
    CLASS,
    CLASS_TICKS,
    CLOCK,
    COUNT,
    COUNT_TAKES,
    CURSOR,
    DONE,
    EACH,
    ENTERED,
    ENTRY,
    ENTRY_AT,
    EPOCH,
    FAILED,
    FIFO,
    FIFO_AT,
    FINE,
    FINISH,
    FLIGHT,
    FREE,
    FREE_AT,
    FREES,
    FROM,
    HOLDS,
    IDLE,
    IS_STORE,
    ITEM,
    ITEM_AT,
    ITSELF,
    KNOWN,
    LAG,
    LAST,
    LAST_SLOT,
    LATENCY,
    LENGTH_AT,
    LONG,
    LONG_RING,
    MADE,
    MADE_EACH,
    MOVE_AT,
    MOVE_EPOCH,
    MOVE_LAG,
    MOVE_NEXT,
    MOVE_RING,
    MOVED,
    MOVES,
    NUMBER,
    OFFSET,
    OVER,
    OVERFLOW,
    OWN_ISSUED,
    OWN_LONG,
    OWN_SLOTS,
    PLACE,
    REUSES,
    ROOM,
    SKEW,
    SKEWED,
    SLOTS,
    STEP,
    STEP_AT,
    STEPS,
    STORED,
    STORED_TASK,
    STUCK,
    TAKE,
    TAKES_FROM,
    TASK,
    TASK_AT,
    TASKS,
    TICKS,
    TO,
    UNITS,
    WAY,
    WHY,
    Ints,
    task_of,
)
from archsim.tile_kernel import NONE


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
                is_known = state[entry + AIM] + ahead < state[own if known == ITSELF else known]
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
