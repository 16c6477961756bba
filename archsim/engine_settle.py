"""Has a state of the engine come back, later? Then the tiles until it did can be skipped.

Two states are alike if every time that can still delay anything is later by the same amount. Times
so old that nothing waits for them are alike whatever they are. What remains to come is then the
same, later; a number of repetitions is skipped by adding what one of them added.
"""

from __future__ import annotations

import numba

from archsim import engine_code as places
from archsim.engine_binding import enter
from archsim.engine_code import (
    ACTORS,
    BARRIER,
    BASE,
    BUSY,
    CAUSES,
    CLASS,
    CLOCK,
    CURSOR,
    DONE,
    ENTERED,
    EPOCH,
    FIFOS,
    FINE,
    FLIGHT,
    FREE,
    FREES,
    IDLE,
    LAST,
    LAST_SLOT,
    LONG,
    LONG_RING,
    MOVE_EPOCH,
    MOVE_NEXT,
    MOVE_RING,
    MOVED,
    MOVES,
    NOW,
    NOW_LONG,
    NUMBER,
    OVER,
    REFILL,
    REUSES,
    RING,
    ROOM,
    SLACK,
    SLOT,
    STORED,
    TAKE,
    TASKS,
    TICKS,
    UNITS,
    WIDTH,
    Ints,
)
from archsim.engine_kernel import advance
from archsim.tile_kernel import NONE

# How two states compare: not alike; alike, and nothing was moved in between; alike with moves.
DIFFERENT, STILL, MOVING = range(3)
# As deep as the ring goes; or not at all, for what fetches wait for happened in the row before, and
# is looked at on its own; or no two states are compared.
WHOLE, FROM_BEFORE, NEVER = 1 << 60, -1, -2


@numba.njit(cache=True)
def oldest_clock(code: Ints, state: Ints) -> int:
    """The clock of the unit that is furthest behind."""
    clock = state[code[CURSOR] + CLOCK]
    for unit in range(1, code[UNITS]):
        clock = min(clock, state[code[CURSOR] + 5 * unit + CLOCK])
    return int(clock)


@numba.njit(cache=True)
def same_place(code: Ints, a: Ints, b: Ints, shift: int) -> bool:
    """True if cursors and what is in flight agree."""
    x, y = code[NUMBER], code[NUMBER]
    entered, later = a[x + ENTERED], b[y + ENTERED]
    for unit in range(code[UNITS]):
        cursor = code[CURSOR] + 5 * unit
        if b[cursor + CLOCK] - a[cursor + CLOCK] != shift:
            return False
        if b[cursor + EPOCH] - later != a[cursor + EPOCH] - entered:
            return False
        for column in range(EPOCH + 1, CLOCK):
            if a[cursor + column] != b[cursor + column]:
                return False
    if b[y + LAST] - a[x + LAST] != shift or b[y + MOVE_NEXT] != a[x + MOVE_NEXT]:
        return False
    if b[y + MOVE_EPOCH] - later != a[x + MOVE_EPOCH] - entered:
        return False
    early, late = oldest_clock(code, a), oldest_clock(code, b)
    if (a[x + BARRIER] > early or b[y + BARRIER] > late) and b[y + BARRIER] - a[
        x + BARRIER
    ] != shift:
        return False
    # Tiles that somebody has still to act on.
    first = a[x + MOVE_EPOCH]
    for unit in range(code[UNITS]):
        first = min(first, a[code[CURSOR] + 5 * unit + EPOCH])
    size, last = entered - first + code[places.LAG] + 1, code[FLIGHT] - 1
    if min(later - b[y + BASE], size) != min(entered - a[x + BASE], size):
        return False
    for k in range(1, size + 1):
        if entered < k or later < k:
            return bool(entered == later)
        if a[code[CLASS] + ((entered - k) & last)] != b[code[CLASS] + ((later - k) & last)]:
            return False
    return True


@numba.njit(cache=True)
def is_over(code: Ints, state: Ints, task: int, act: int, horizon: int) -> bool:
    """True if an act never was, or all of it lies before a slot."""
    if act < 0:
        return True
    slots = places.task_of(code, task, places.SLOTS)
    last = places.slot_at(code, state, act, places.task_of(code, task, places.COLUMN) + slots - 1)
    return bool(state[places.issued_at(code, act, task)] == slots and state[last] <= horizon)


@numba.njit(cache=True)
def same_acts(code: Ints, a: Ints, b: Ints, shift: int) -> bool:
    """True if the rings of slots agree."""
    early = oldest_clock(code, a) - code[SLACK]
    late = oldest_clock(code, b) - code[SLACK]
    for t in range(code[TASKS]):
        behind = a[code[NOW_LONG] + t] - a[code[OVER] + t]
        if behind != b[code[NOW_LONG] + t] - b[code[OVER] + t]:
            return False
        column = places.task_of(code, t, places.COLUMN)
        slots = places.task_of(code, t, places.SLOTS)
        for k in range(1, code[RING] + 1):
            p, q = a[code[NOW] + t] - k, b[code[NOW] + t] - k
            if p < 0 or q < 0:
                # What never was is as old as what nobody waits for any more.
                if not is_over(code, a, t, p, early) or not is_over(code, b, t, q, late):
                    return False
                break
            issued = a[places.issued_at(code, p, t)]
            if issued != b[places.issued_at(code, q, t)]:
                return False
            first = places.slot_at(code, a, p, column)
            second = places.slot_at(code, b, q, column)
            for s in range(issued):
                then, now = a[first + s], b[second + s]
                if now - then != shift and (then > early or now > late):
                    return False
            if issued == slots and a[first + slots - 1] <= early and b[second + slots - 1] <= late:
                break  # Whatever came before is as old.
    return True


@numba.njit(cache=True)
def alike(code: Ints, a: Ints, b: Ints, deep: int) -> int:
    """Compare an earlier state with a later one, `deep` acts back in the ring of last slots."""
    shift = b[code[CURSOR] + CLOCK] - a[code[CURSOR] + CLOCK]
    if not same_place(code, a, b, shift):
        return DIFFERENT
    moving = a[code[NUMBER] + places.MADE] != b[code[NUMBER] + places.MADE]
    if moving:
        # The channel is what differs most often, and soonest seen.
        early, late = oldest_clock(code, a) - code[REFILL], oldest_clock(code, b) - code[REFILL]
        then, now = a[code[NUMBER] + FREE], b[code[NUMBER] + FREE]
        if now - then != TICKS * shift and (then > TICKS * early or now > TICKS * late):
            return DIFFERENT
    if not same_acts(code, a, b, shift):
        return DIFFERENT
    for m in range(code[MOVES]):
        then, now = a[code[DONE] + m], b[code[DONE] + m]
        if a[code[NOW] + code[TASKS] + m] - then != b[code[NOW] + code[TASKS] + m] - now:
            return DIFFERENT
    if moving and deep == 0:
        return DIFFERENT
    # What was moved before must have ceased to matter if nothing moves; it stays where it is.
    early, late, ring = oldest_clock(code, a), oldest_clock(code, b), code[MOVE_RING]
    for m in range(code[MOVES]):
        for k in range(1, ring + 1):
            p, q = a[code[DONE] + m] - k, b[code[DONE] + m] - k
            if p < 0 and q < 0:
                break
            place = code[MOVED] + m * ring
            then = a[place + (p & (ring - 1))] if p >= 0 else early
            now = b[place + (q & (ring - 1))] if q >= 0 else late
            if (then > early or now > late) and (not moving or now - then != shift):
                return DIFFERENT
    if not moving:
        return STILL
    early, late = early - code[REFILL], late - code[REFILL]
    stored = b[code[NUMBER] + STORED] - a[code[NUMBER] + STORED]
    if stored not in (0, shift):
        return DIFFERENT
    ring = code[LONG_RING]
    for t in range(code[TASKS]):
        place = code[LAST_SLOT] + t * ring
        for k in range(1, min(ring, deep) + 1):
            p, q = a[code[OVER] + t] - k, b[code[OVER] + t] - k
            if p < 0 and q < 0:
                break
            then = a[place + (p & (ring - 1))] if p >= 0 else early
            now = b[place + (q & (ring - 1))] if q >= 0 else late
            if now - then != shift and (then > early or now > late):
                return DIFFERENT
    return MOVING


@numba.njit(cache=True)
def steady_before(code: Ints, classes: Ints, a: Ints, b: Ints, number: int, most: int) -> int:
    """Of `most` repetitions to come, how many find what their fetches wait for as steady, too.

    What they wait for happened in the row before: a repetition later, by the same amount.
    """
    shift = b[code[CURSOR] + CLOCK] - a[code[CURSOR] + CLOCK]
    ring = code[LONG_RING]
    for n in range(code[FREES]):
        wait = code[places.FREE_AT] + 3 * n
        age = classes[number, code[REUSES] + code[wait + 1]]
        if age == NONE:
            continue
        task = code[wait + 2]
        each = b[code[NOW_LONG] + task] - a[code[NOW_LONG] + task]
        place = code[LAST_SLOT] + task * ring
        # From what the oldest fetch on its way waits for, to that of the last repetition.
        first = a[code[NOW_LONG] + task] - 1 - age - code[FLIGHT]
        over = b[code[OVER] + task]
        if each == 0 or first < 0 or b[code[NOW_LONG] + task] - first > ring:
            return 0
        act = first + each
        while act < b[code[NOW_LONG] + task] - age + most * each:
            then, now = b[place + ((act - each) & (ring - 1))], b[place + (act & (ring - 1))]
            if act >= over or now - then != shift:
                break
            act += 1
        most = min(most, max(0, (act - (b[code[NOW_LONG] + task] - age)) // each))
    return int(most)


@numba.njit(cache=True)
def skip(code: Ints, a: Ints, b: Ints, times: int, how: int) -> None:
    """Make the later of two alike states the one after so many more repetitions."""
    more = times * (b[code[CURSOR] + CLOCK] - a[code[CURSOR] + CLOCK])
    b[code[SLOT] : code[SLOT] + code[RING] * code[WIDTH]] += more
    b[code[LAST_SLOT] : code[LAST_SLOT] + code[TASKS] * code[LONG_RING]] += more
    b[code[TAKE] : code[TAKE] + code[FIFOS] * code[ROOM]] += more
    for unit in range(code[UNITS]):
        b[code[CURSOR] + 5 * unit + CLOCK] += more
    number = code[NUMBER]
    b[number + LAST] += more
    b[number + places.MADE] += times * (b[number + places.MADE] - a[number + places.MADE])
    if how == MOVING:
        b[code[MOVED] : code[MOVED] + code[MOVES] * code[MOVE_RING]] += more
        b[number + FREE] += TICKS * more
        if b[number + STORED] != a[number + STORED]:
            b[number + STORED] += more
    for n in range(code[IDLE], code[IDLE] + code[UNITS] * code[CAUSES]):
        b[n] += times * (b[n] - a[n])
    for n in range(code[BUSY], code[BUSY] + code[TASKS]):
        b[n] += times * (b[n] - a[n])


@numba.njit(cache=True)
def replay(code: Ints, a: Ints, b: Ints, state: Ints) -> None:
    """Do to a state what turned an alike one, `a`, into `b`."""
    shift = state[code[CURSOR] + CLOCK] - a[code[CURSOR] + CLOCK]
    number = code[NUMBER]
    free, stored = state[number + FREE], state[number + STORED]
    n, end = code[IDLE], code[BUSY] + code[TASKS]
    counts = state[n:end] + b[n:end] - a[n:end]
    made = state[number + places.MADE] + b[number + places.MADE] - a[number + places.MADE]
    most = state[code[places.COUNT] : code[places.COUNT] + 3 * code[FIFOS]].copy()
    state[:] = b
    state[n:end] = counts
    state[number + places.MADE] = made
    for f in range(code[FIFOS]):
        place = code[places.COUNT] + 3 * f + 2
        state[place] = max(state[place], most[3 * f + 2])
    state[code[SLOT] : code[SLOT] + code[RING] * code[WIDTH]] += shift
    state[code[LAST_SLOT] : code[LAST_SLOT] + code[TASKS] * code[LONG_RING]] += shift
    state[code[TAKE] : code[TAKE] + code[FIFOS] * code[ROOM]] += shift
    state[code[MOVED] : code[MOVED] + code[MOVES] * code[MOVE_RING]] += shift
    for unit in range(code[UNITS]):
        state[code[CURSOR] + 5 * unit + CLOCK] += shift
    state[number + LAST] += shift
    state[number + BARRIER] += shift
    state[number + FREE] = (
        free if b[number + FREE] == a[number + FREE] else (b[number + FREE] + TICKS * shift)
    )
    state[number + STORED] = (
        stored if b[number + STORED] == a[number + STORED] else (b[number + STORED] + shift)
    )


@numba.njit(cache=True)
def fill(code: Ints, a: Ints, b: Ints, times: int) -> None:
    """Write the last slots of skipped tiles, which are part of a row; `skip` comes behind it."""
    shift = b[code[CURSOR] + CLOCK] - a[code[CURSOR] + CLOCK]
    ring = code[LONG_RING]
    for actor in range(code[ACTORS]):
        each = b[code[NOW_LONG] + actor] - a[code[NOW_LONG] + actor]
        b[code[NOW_LONG] + actor] += times * each
        for tile in range(code[FLIGHT]):
            b[code[LONG] + tile * code[ACTORS] + actor] += times * each
        if actor < code[TASKS]:
            place = code[LAST_SLOT] + actor * ring
            # `skip` moves everything by as much as has been skipped: what was there must stay.
            b[place : place + ring] -= times * shift
            for act in range(b[code[OVER] + actor], b[code[OVER] + actor] + times * each):
                before = b[place + ((act - each) & (ring - 1))]
                b[place + (act & (ring - 1))] = before + shift
            b[code[OVER] + actor] += times * each


@numba.njit(cache=True)
def run_tiles(
    code: Ints, state: Ints, snapshot: Ints, classes: Ints, number: int, count: int, deep: int
) -> int:
    """Run a stretch of tiles of one class; `deep` as in `alike`, or FROM_BEFORE, or NEVER."""
    done, length, power = 0, 0, 0
    while done < count:
        enter(code, state, classes, number)
        status = advance(code, state, classes, state[code[NUMBER] + ENTERED])
        if status != FINE:
            return status
        done += 1
        if deep == NEVER or done == count:
            continue
        # Brent: snapshots, further and further apart; each tile is compared with the last one.
        length += 1
        if power:
            how = alike(code, snapshot, state, deep)
            times = (count - done) // length
            if how == MOVING and deep == FROM_BEFORE:
                times = steady_before(code, classes, snapshot, state, number, times)
            if how != DIFFERENT and times:
                done += times * length
                fill(code, snapshot, state, times)
                skip(code, snapshot, state, times, how)
                power = 0
                if deep != FROM_BEFORE:
                    deep = NEVER
                continue
        if length >= power:
            snapshot[:] = state
            power, length = max(4, length + power // 2), 0
    return FINE
