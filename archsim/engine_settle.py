"""Has a state of the engine come back, later? Then the tiles until it did can be skipped.

Two states are alike if every time that can still delay anything is later by the same amount. Times
so old that nothing waits for them are alike whatever they are. What remains to come is then the
same, later; a number of repetitions is skipped by adding what one of them added.
"""

from __future__ import annotations

import numba

from archsim.engine_kernel import (
    BARRIER,
    BASE,
    CLOCK,
    ENTERED,
    EPOCH,
    FINE,
    FREE,
    LAST,
    MOVE_EPOCH,
    MOVE_NEXT,
    STORED,
    TICKS,
    Code,
    Ints,
    State,
    advance,
    enter,
)

# How two states compare: not alike; alike, and nothing was moved in between; alike with moves.
DIFFERENT, STILL, MOVING = range(3)


@numba.njit(cache=True)
def copy(source: State, target: State) -> None:
    """Write one state over another."""
    target.at[:] = source.at
    target.issued[:] = source.issued
    target.last[:] = source.last
    target.over[:] = source.over
    target.classes[:] = source.classes
    target.now[:] = source.now
    target.now_long[:] = source.now_long
    target.moved[:] = source.moved
    target.moves_done[:] = source.moves_done
    target.cursors[:] = source.cursors
    target.numbers[:] = source.numbers
    target.idle[:] = source.idle
    target.busy[:] = source.busy


@numba.njit(cache=True)
def oldest_clock(state: State) -> int:
    """The clock of the unit that is furthest behind."""
    clock = state.cursors[0, CLOCK]
    for unit in range(1, state.cursors.shape[0]):
        clock = min(clock, state.cursors[unit, CLOCK])
    return clock


@numba.njit(cache=True)
def alike(code: Code, a: State, b: State, deep: int) -> int:
    """Compare an earlier state with a later one, `deep` acts back in the ring of last slots."""
    shift = b.cursors[0, CLOCK] - a.cursors[0, CLOCK]
    for unit in range(a.cursors.shape[0]):
        if b.cursors[unit, CLOCK] - a.cursors[unit, CLOCK] != shift:
            return DIFFERENT
        if b.cursors[unit, EPOCH] - b.numbers[ENTERED] != a.cursors[unit, EPOCH] - a.numbers[ENTERED]:
            return DIFFERENT
        for column in range(EPOCH + 1, CLOCK):
            if a.cursors[unit, column] != b.cursors[unit, column]:
                return DIFFERENT
    x, y = a.numbers, b.numbers
    if y[LAST] - x[LAST] != shift or y[MOVE_NEXT] != x[MOVE_NEXT]:
        return DIFFERENT
    if y[MOVE_EPOCH] - y[ENTERED] != x[MOVE_EPOCH] - x[ENTERED]:
        return DIFFERENT
    early, late = oldest_clock(a), oldest_clock(b)
    if (x[BARRIER] > early or y[BARRIER] > late) and y[BARRIER] - x[BARRIER] != shift:
        return DIFFERENT
    size = a.classes.shape[0]
    if min(y[ENTERED] - y[BASE], size) != min(x[ENTERED] - x[BASE], size):
        return DIFFERENT
    for k in range(1, size + 1):
        if (x[ENTERED] < k) != (y[ENTERED] < k):
            return DIFFERENT
        if x[ENTERED] >= k and a.classes[(x[ENTERED] - k) % size] != b.classes[(y[ENTERED] - k) % size]:
            return DIFFERENT
    return alike_acts(code, a, b, shift, deep)


@numba.njit(cache=True)
def alike_acts(code: Code, a: State, b: State, shift: int, deep: int) -> int:
    """The rings of two states."""
    early, late = oldest_clock(a), oldest_clock(b)
    tasks = code.tasks.shape[0]
    for t in range(tasks):
        if a.now_long[t] - a.over[t] != b.now_long[t] - b.over[t]:
            return DIFFERENT
        first = code.tasks[t, 2]
        for k in range(1, code.ring + 1):
            if a.now[t] < k or b.now[t] < k:
                if (a.now[t] < k) != (b.now[t] < k):
                    return DIFFERENT
                break
            p, q = (a.now[t] - k) % code.ring, (b.now[t] - k) % code.ring
            if a.issued[p, t] != b.issued[q, t]:
                return DIFFERENT
            for s in range(first, first + a.issued[p, t]):
                if b.at[q, s] - a.at[p, s] != shift and (
                    a.at[p, s] > early - code.slack or b.at[q, s] > late - code.slack
                ):
                    return DIFFERENT
    moving = False
    for m in range(code.moves.shape[0]):
        if a.now[tasks + m] - a.moves_done[m] != b.now[tasks + m] - b.moves_done[m]:
            return DIFFERENT
        moving = moving or a.moves_done[m] != b.moves_done[m]
    # What is moved while nothing moves stays where it is, and must have ceased to matter.
    ring = a.moved.shape[1]
    for m in range(code.moves.shape[0]):
        for k in range(1, ring + 1):
            if a.moves_done[m] < k or b.moves_done[m] < k:
                if (a.moves_done[m] < k) != (b.moves_done[m] < k):
                    return DIFFERENT
                break
            p, q = (a.moves_done[m] - k) % ring, (b.moves_done[m] - k) % ring
            old = a.moved[m, p] <= early and b.moved[m, q] <= late
            if not old and (not moving or b.moved[m, q] - a.moved[m, p] != shift):
                return DIFFERENT
    if not moving:
        return STILL
    if deep == 0:
        return DIFFERENT
    horizon = code.refill
    free = a.numbers[FREE] <= TICKS * (early - horizon) and b.numbers[FREE] <= TICKS * (late - horizon)
    if not free and b.numbers[FREE] - a.numbers[FREE] != TICKS * shift:
        return DIFFERENT
    if b.numbers[STORED] not in (a.numbers[STORED], a.numbers[STORED] + shift):
        return DIFFERENT
    return MOVING if alike_last(code, a, b, shift, deep, early - horizon, late - horizon) else DIFFERENT


@numba.njit(cache=True)
def alike_last(
    code: Code, a: State, b: State, shift: int, deep: int, early: int, late: int
) -> bool:
    """The rings of last slots, which fetches wait for."""
    ring = a.last.shape[1]
    for t in range(code.tasks.shape[0]):
        for k in range(1, min(ring, deep) + 1):
            if a.over[t] < k or b.over[t] < k:
                if (a.over[t] < k) != (b.over[t] < k):
                    return False
                break
            p, q = a.last[t, (a.over[t] - k) % ring], b.last[t, (b.over[t] - k) % ring]
            if q - p != shift and (p > early or q > late):
                return False
    return True


@numba.njit(cache=True)
def skip(code: Code, a: State, b: State, times: int, how: int) -> None:
    """Make the later of two alike states the one after so many more repetitions."""
    shift = b.cursors[0, CLOCK] - a.cursors[0, CLOCK]
    more = times * shift
    b.at[:] += more
    b.last[:] += more
    b.takes[:] += more
    b.cursors[:, CLOCK] += more
    b.numbers[LAST] += more
    if how == MOVING:
        b.moved[:] += more
        b.numbers[FREE] += TICKS * more
        if b.numbers[STORED] != a.numbers[STORED]:
            b.numbers[STORED] += more
    for unit in range(b.idle.shape[0]):
        for cause in range(b.idle.shape[1]):
            b.idle[unit, cause] += times * (b.idle[unit, cause] - a.idle[unit, cause])
    for t in range(b.busy.shape[0]):
        b.busy[t] += times * (b.busy[t] - a.busy[t])


@numba.njit(cache=True)
def fill(code: Code, a: State, b: State, times: int) -> None:
    """Write the last slots of skipped tiles, which are part of a row; `skip` comes behind it."""
    shift = b.cursors[0, CLOCK] - a.cursors[0, CLOCK]
    ring = b.last.shape[1]
    for t in range(code.tasks.shape[0]):
        each = b.now_long[t] - a.now_long[t]
        acts = times * each
        # `skip` moves everything by as much as has been skipped: what was there must stay.
        b.last[t, :] -= times * shift
        for k in range(acts):
            act = b.over[t] + k
            b.last[t, act % ring] = b.last[t, (act - each) % ring] + shift
        b.over[t] += acts
        b.now_long[t] += acts
        b.long[:, t] += acts
    for m in range(code.moves.shape[0]):
        each = b.now_long[code.tasks.shape[0] + m] - a.now_long[code.tasks.shape[0] + m]
        b.now_long[code.tasks.shape[0] + m] += times * each
        b.long[:, code.tasks.shape[0] + m] += times * each


@numba.njit(cache=True)
def run_tiles(
    code: Code, state: State, snapshot: State, classes: Ints, number: int, count: int, deep: int
) -> int:
    """Run a stretch of tiles of one class; `deep` as in `alike`, negative: look at every tile."""
    done, length, power = 0, 0, 0
    while done < count:
        enter(code, state, classes, number)
        status = advance(code, state, classes, state.numbers[ENTERED])
        if status != FINE:
            return status
        done += 1
        if deep < 0 or done == count:
            continue
        # Brent: a snapshot after 1, 2, 4, ... tiles; each tile is compared with the last one.
        length += 1
        if power:
            how = alike(code, snapshot, state, deep)
            times = (count - done) // length
            if how != DIFFERENT:
                if times:
                    done += times * length
                    fill(code, snapshot, state, times)
                    skip(code, snapshot, state, times, how)
                deep = -1
                continue
        if length >= power:
            copy(state, snapshot)
            power, length = max(1, 2 * power), 0
    return FINE
