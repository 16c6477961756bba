"""Tiles enter, and what their tasks wait for is bound to acts: the first half of the kernel.

A tile's class says which acts it causes and how old everything is that it reads. Times of acts are
in rings; of an act that is older than the ring it is only known, and checked, that nothing waits
for it any more.
"""

from __future__ import annotations

import numba

from archsim.engine_code import (
    ACTORS,
    ACTS,
    AFTER,
    AIM,
    AT,
    BOUND_HEAD,
    BOUND_WAIT,
    BY,
    CAUSE,
    CLASS,
    COLUMN,
    COUNT_TAKES,
    DELAY,
    DONE,
    EACH,
    ENTERED,
    ENTRIES,
    FETCHED,
    FIFO,
    FIFO_AT,
    FILLER,
    FINE,
    FIRST_WAIT,
    FLIGHT,
    FROM,
    HIGH,
    IDLE_WAIT,
    ITSELF,
    KIND,
    KNOWN,
    LAST_WAIT,
    LONG,
    LOW,
    MADE_FIRST,
    MAKER,
    MOVE_AT,
    MOVE_RING,
    MOVED,
    NEAR,
    NOW,
    NOW_LONG,
    NUMBER,
    OWN,
    OWN_ISSUED,
    OWN_LONG,
    OWN_SLOTS,
    POINTER,
    POINTERS,
    REUSED,
    REUSES,
    ROOMY,
    SLOTS,
    STEP_AT,
    STEPS,
    STRIDE,
    STUCK,
    TAKES_FROM,
    TARGET,
    TASKS,
    TO,
    TOO_OLD,
    WAIT,
    WAIT_AT,
    WAITS,
    WHICH,
    WHY,
    Ints,
    issued_at,
    slot_at,
    task_of,
)
from archsim.tile_kernel import FAR, NONE


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
    code: Ints,
    state: Ints,
    classes: Ints,
    place: int,
    clock: int,
    bound: int,
    wait: int,
    entry: int,
) -> int:
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
