"""A Program as the arrays that the tile-level engine runs on: its code, and an empty state."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from archsim import engine_kernel as kernel
from archsim.granules import latency_of
from archsim.program import Program, Task
from archsim.slots import Run
from archsim.tile_tables import Tables
from archsim.timeline import CAUSES

Ints = NDArray[np.int64]


def layout(tables: Tables, near: int, classes: Ints, exact: int) -> tuple[Ints, Ints]:
    """Write the code of a Program and the state before anything has happened.

    Args:
        tables: its pointers.
        near: how many acts back waits are followed.
        classes: classes of tiles, with ticks for moves.
        exact: the oldest act that a fetch waits for.
    """
    program = tables.program
    run = Run(program)
    index = {actor.name: n for n, actor in enumerate(tables.actors)}
    units = {body.unit: u for u, body in enumerate(program.bodies)}
    columns = [0, *accumulate(program.slots(task) for task in program.tasks)]
    tasks = [
        (units[task.unit], program.slots(task), columns[n], run.made(task, 0))
        for n, task in enumerate(program.tasks)
    ]
    waits: list[tuple[int, ...]] = []
    first, finish = [0], []
    for task in program.tasks:
        for slot in range(program.slots(task)):
            waits += _waits(run, tables, index, task, slot)
            first.append(len(waits))
            _, step, _ = program.locate(task, slot)
            finish.append(run.finish_of(task, task.steps[step], 0))
    items, entries, lengths = [], [], []
    for body in program.bodies:
        lengths.append((len(body.entries), len(entries)))
        for entry in body.entries:
            entries.append((len(items), len(entry)))
            items += [(index[item.task], item.lag) for item in entry]
    moves = [
        (
            int(move.kind == "store"),
            move.lag,
            move.entries,
            index[move.tasks[0]] if move.kind == "store" else 0,
        )
        for move in program.moves
    ]
    frees = [
        (reuse.writer - len(tasks), u, tables.pointers[reuse.pointer].reader)
        for u, reuse in enumerate(tables.reuses)
        if reuse.writer >= len(tasks)
    ]
    fifos = _fifos(run, tables, index)
    pointers = len(tables.actors)
    reuses = pointers + len(tables.pointers)
    ticks = reuses + len(tables.reuses)
    longest = max((wait[kernel.DELAY] for wait in waits), default=0)
    held = sum(
        move.entries * int(classes[:, ticks + m].max(initial=0))
        for m, move in enumerate(program.moves)
    )
    latency = latency_of(program.architecture)
    # Tiles that some unit may still act on while another has come to the next.
    flight = 2 * tables.lag + 6
    ring = 1 << (near + flight + 2).bit_length()
    stored = max((move.entries for move in program.moves if move.kind == "store"), default=0)
    head = np.zeros(kernel.HEAD, np.int64)
    head[kernel.TASKS : kernel.TASK_AT] = (
        len(tasks), len(units), len(moves), len(tables.actors), len(fifos), len(frees),
        len(CAUSES) - 1, stored, columns[-1],
        ring, flight, 1 << (exact + flight + ring).bit_length(),
        1 << (near + flight + stored).bit_length(), 2 + max((f[kernel.HOLDS] for f in fifos), default=0),
        near, tables.lag, longest + 2, held // kernel.TICKS + latency + longest + 2, latency,
        pointers, reuses, ticks,
    )  # fmt: skip
    parts = (tasks, first, waits, finish, lengths, entries, items, moves, frees, fifos)
    arrays = [np.array(part, np.int64).ravel() for part in parts]
    places = [kernel.HEAD, *accumulate((len(a) for a in arrays), initial=kernel.HEAD)][1:]
    head[kernel.TASK_AT : kernel.SLOT] = places[: len(arrays)]
    sizes = _sizes(head)
    head[kernel.SLOT : kernel.HEAD] = [0, *accumulate(sizes)]
    return np.concatenate([head, *arrays]), np.zeros(int(sum(sizes)), np.int64)


def _sizes(head: Ints) -> list[int]:
    """Sizes of the parts of a state, in the order of the head."""
    tasks, units, moves, actors = (int(head[n]) for n in range(4))
    fifos, causes = int(head[kernel.FIFOS]), int(head[kernel.CAUSES])
    ring, flight = int(head[kernel.RING]), int(head[kernel.FLIGHT])
    return [
        ring * int(head[kernel.WIDTH]), ring * tasks, tasks * int(head[kernel.LONG_RING]), tasks,
        flight, flight * actors, flight * actors, actors, actors,
        moves * int(head[kernel.MOVE_RING]), moves, 5 * units, 9,
        fifos * int(head[kernel.ROOM]), 3 * fifos, units * causes, tasks,
    ]  # fmt: skip


def _waits(
    run: Run, tables: Tables, index: dict[str, int], task: Task, slot: int
) -> list[tuple[int, ...]]:
    """The waits of one micro-op: those of `Run.waits`, whatever the tile."""
    found = []
    for rule in run.rules(task, slot):
        cause = CAUSES.index(rule.cause)
        if rule.operand is None:
            found.append((kernel.OWN, 0, index[task.name], rule.slot, rule.delay, cause))
        elif rule.cause == "reuse":
            u = tables.reuse_of[task.name, rule.task, rule.operand]
            found.append((kernel.REUSED, u, index[rule.task], rule.slot, rule.delay, cause))
        else:
            p = tables.pointer_of[task.name, rule.operand]
            found.append((kernel.POINTED, p, index[rule.task], rule.slot, rule.delay, cause))
    if not slot:
        for m, move in enumerate(tables.program.moves):
            if move.kind == "fetch" and task.name in move.tasks:
                p = tables.pointer_of[task.name, move.name]
                found.append((kernel.FETCHED, p, m, 0, 0, CAUSES.index("memory")))
            if move.kind == "store" and move.gate == task.name:
                found.append((kernel.ROOMY, m, m, 0, 1, CAUSES.index("store")))
    return found


def _fifos(run: Run, tables: Tables, index: dict[str, int]) -> list[tuple[int, ...]]:
    """Who takes words out of FIFOs, and when they arrive there."""
    program = tables.program
    rows = []
    for task in program.tasks:
        for number, step in enumerate(task.steps):
            for operand in step.operands:
                if operand.source in ("landing", "returned"):
                    maker = program.source(task, operand)
                    offset = sum(program.cost(task, s)[0] for s in task.steps[:number])
                    made = [run.made_in(maker, task, word) for word in (0, 1)]
                    several = program.word_count(task) > 1
                    is_back = operand.source == "returned"
                    room = program.return_entries if is_back else program.landing_entries
                    rows.append(
                        (
                            index[task.name],
                            program.slots_of_word(task),
                            offset,
                            room,
                            index[maker.name],
                            run.way(maker, operand),
                            made[1] - made[0] if several else 0,
                            made[0],
                            tables.pointer_of[task.name, operand],
                        )
                    )
    return rows
