"""What a Program moves between memory and buffer, from what its mapping holds on chip.

An input is fetched one granule at a time: what one tile needs of it. A granule stays while the
loops inside go by that the mapping keeps it for, and is fetched again for every loop outside that
comes back to it, exactly as `placement` counts traffic. An output is stored when its last tile is
made. Nothing here knows a time: lags and numbers of entries are all there is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod

from archsim.placement import BATCH_RANKS, Placed
from archsim.program import Move, Program, Task
from archsim.residency import granule_loops

# Epochs by which a store stands behind the task that makes its words: while they cross the array,
# fetches for the tiles after go first.
STORE_LAG = 4


def moves_of(program: Program) -> Iterator[Move]:
    """The moves of a Program in the order of one epoch: fetches as they are needed, then stores."""
    lags = {item.task: item.lag for body in program.bodies for item in body.items}
    fetched: dict[str, list[str]] = {}
    for body in program.bodies:
        for item in body.items:
            task = program.task(item.task)
            for operand in (o for step in task.steps for o in step.operands):
                if operand.access is not None:
                    for name in _inputs(program.placed, operand.name):
                        fetched.setdefault(name, []).append(task.name)
    for name, tasks in fetched.items():
        readers = tuple(dict.fromkeys(tasks))
        loops, words, entries = _granule(program, name)
        lag = min(lags[task] for task in readers)
        move = Move("fetch", name, loops, words, entries, lag, readers)
        if program.blocks is not None and program.by_table(move):
            move = replace(move, entries=program.blocks.entries)
        yield move
    for task in program.tasks:
        if task.goes == "output":
            loops, words, _ = _granule(program, task.tensor)
            gate = _gate(program, task)
            lag = lags[task.name] + STORE_LAG
            room = lag - lags[gate] + 2
            yield Move("store", task.tensor, loops, words, room, lag, (task.name,), gate)


def _inputs(placed: Placed, name: str) -> Iterator[str]:
    """Inputs that a tensor at the edges comes from: itself, or what is read at load."""
    makers = [e for e in placed.cascade.defining(name) if not e.is_initial]
    if not makers:
        yield name
    for einsum in makers:
        for tensor in dict.fromkeys(read.tensor for read in einsum.reads):
            yield from _inputs(placed, tensor)


def _granule(program: Program, name: str) -> tuple[tuple[str, ...], tuple[str, ...], int]:
    """Loops that name a granule of a tensor, variables inside it, and granules held at a time."""
    placed = program.placed
    cascade, mapping = placed.cascade, placed.mapping
    ranks = [rank for rank in cascade.tensor(name).ranks if rank]
    own = [leaf for rank in ranks for leaf in placed.tiling.leaves(rank)]
    counts = {loop.variable: loop.count for loop in program.nest}
    batch = [loop for loop in counts if loop.upper() in BATCH_RANKS and loop not in mapping.loops]
    mine = [loop for loop in mapping.loops if cascade.rank_of(loop) in own]
    words = tuple(leaf.lower() for leaf in own if leaf.lower() not in counts)
    held = dict(mapping.held).get(name)
    twice = 2 if name in mapping.double_buffered else 1
    if held is None:
        # It passes through: everything that is read again stays, and one more is on its way.
        others = [i for i, loop in enumerate(mapping.loops) if loop not in mine]
        inside = mapping.loops[others[0] :] if others else ()
        stays = prod(counts[loop] for loop in mine if loop in inside)
        return (*batch, *mine), words, stays + 1
    loops = granule_loops(mapping, tuple(mine), name)
    kept = [loop for loop in mine if loop in held]
    return (*batch, *loops), words, twice * prod(counts[loop] for loop in kept)


def _gate(program: Program, task: Task) -> str:
    """The nearest task of the array that a stored word comes from; the task itself if none is."""
    front, seen = [task], {task.name}
    while front:
        here = front.pop(0)
        if here.unit == program.array.name:
            return here.name
        for operand in (o for step in here.steps for o in step.operands):
            if operand.source in ("register", "landing"):
                source = program.source(here, operand)
                if source.name not in seen:
                    seen.add(source.name)
                    front.append(source)
    return task.name
