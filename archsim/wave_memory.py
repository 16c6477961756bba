"""The memory channel beside the waves: a table of moves, and which tasks of which tiles they await.

Moves go in order. One that waits for tasks to be issued is looked at in every cycle, so what has
been seen to be issued is not looked at again.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from archsim.channel import Channel as Reference
from archsim.granules import latency_of
from archsim.pe_kernel import NEVER, TICKS
from archsim.program import Program

Ints = NDArray[np.int64]
# Columns of the table of moves: where those it awaits end among all, ticks, 1 for a store, cycles
# from the issue of the last word of a store to its being in the last lane, latency of a fetch.
AWAITED, DURATION, IS_STORE, SKEW, DELAY = range(5)
# What a channel knows: how many moves are over or under way, the tick at which it is free, how many
# awaited tasks have been issued, and the last cycle in which the next move's were.
MOVED, FREE, SEEN, LAST = range(4)


class Channel(NamedTuple):
    """Moves in order, what they await as [., (task, tile)], and the cycle in which each is over.

    issued [task, tile] is the cycle in which the last micro-op was, 0 before.
    """

    moves: Ints
    awaited: Ints
    over: Ints
    issued: Ints
    state: Ints


@numba.njit(cache=True)
def move(moves: Ints, awaited: Ints, over: Ints, issued: Ints, state: Ints) -> None:
    """Move whatever can be moved by what has been issued."""
    while state[MOVED] < moves.shape[0]:
        k = state[MOVED]
        while state[SEEN] < moves[k, AWAITED]:
            cycle = issued[awaited[state[SEEN], 0], awaited[state[SEEN], 1]]
            if cycle == 0:
                return
            state[LAST] = max(state[LAST], cycle)
            state[SEEN] += 1
        if moves[k, IS_STORE]:
            made = TICKS * (state[LAST] + moves[k, SKEW])
            state[FREE] = max(state[FREE] + moves[k, DURATION], made)
        else:
            state[FREE] = max(state[FREE], TICKS * state[LAST]) + moves[k, DURATION]
        over[k] = (state[FREE] + TICKS - 1) // TICKS + moves[k, DELAY]
        state[MOVED] += 1
        state[LAST] = 0


def channel_of(program: Program) -> tuple[Channel, Ints, Ints, dict[str, int]]:
    """The channel of a Program before anything has been moved.

    Returns: the channel; for each [task, tile] the last fetch that must be over before its first
    micro-op, and the last store, counted from 1 (0: none); bytes by move.
    """
    reference = Reference(program)
    names = {task.name: number for number, task in enumerate(program.tasks)}
    down = program.architecture.latency.row_hop * (program.shape[0] - 1)
    fetched = np.zeros((len(program.tasks), len(program.tiles)), np.int64)
    stored = np.zeros_like(fetched)
    moves = np.zeros((len(reference.order), 5), np.int64)
    awaited: list[tuple[int, int]] = []
    moved: dict[str, int] = {}
    place = {(g.move.name, g.number): k for k, g in enumerate(reference.order)}
    for k, granule in enumerate(reference.order):
        row, what = moves[k], granule.move
        moved[what.name] = moved.get(what.name, 0) + granule.bytes
        for task, tile in reference.before(granule):
            awaited.append((names[task.name], tile))
            if what.kind == "store":
                row[SKEW] = program.shape[1] - 1 + program.cost(task, task.steps[-1])[1] - 1
                row[SKEW] += down if task.unit == program.array.name else 0
        row[AWAITED], row[DURATION] = len(awaited), granule.ticks
        if what.kind == "store":
            row[IS_STORE] = 1
            if granule.number >= what.entries:
                oldest = place[what.name, granule.number - what.entries]
                at = names[what.gate], granule.tile
                stored[at] = max(oldest + 1, stored[at])
        else:
            row[DELAY] = latency_of(program.architecture)
            for name in what.tasks:
                fetched[names[name], list(granule.tiles)] = k + 1
    channel = Channel(
        moves,
        np.array(awaited, np.int64).reshape(-1, 2),
        np.full(len(moves), NEVER),
        np.zeros_like(fetched),
        np.zeros(4, np.int64),
    )
    return channel, fetched, stored, moved
