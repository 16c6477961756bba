"""A Program as the arrays that the tile-level engine runs on: its code, and an empty state."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from archsim import engine_code as kernel
from archsim.arch import Architecture
from archsim.granules import latency_of, ticks_of
from archsim.program import Task
from archsim.slots import Rule, Run
from archsim.tile_tables import Tables
from archsim.timeline import CAUSES

Ints = NDArray[np.int64]


def timed(tables: Tables, code: Ints, rows: Ints, architecture: Architecture) -> tuple[Ints, Ints]:
    """Code and classes for a memory of some speed: ticks for words, and how long it matters."""
    moves = tables.program.moves
    classes, first = rows.copy(), int(code[kernel.CLASS_TICKS])
    held = 0
    for m, move in enumerate(moves):
        column = classes[:, first + m]
        sizes, where = np.unique(column, return_inverse=True)
        ticks = [
            ticks_of(architecture, -(-int(words) * architecture.word_bits // 8)) for words in sizes
        ]
        column[:] = np.array(ticks, np.int64)[where]
        held += move.entries * max(ticks, default=0)
    code, latency = code.copy(), latency_of(architecture)
    code[kernel.LATENCY] = latency
    code[kernel.REFILL] = held // kernel.TICKS + latency + code[kernel.SLACK]
    return code, classes


def layout(tables: Tables, near: int, exact: int) -> tuple[Ints, Ints]:
    """Write the code of a Program and the state before anything has happened.

    How fast the memory is stays open; see `timed`.

    Args:
        tables: its pointers.
        near: how many acts back waits are followed.
        exact: the oldest act that a fetch waits for.
    """
    program = tables.program
    run = Run(program)
    index = {actor.name: n for n, actor in enumerate(tables.actors)}
    units = {body.unit: u for u, body in enumerate(program.bodies)}
    columns = [0, *accumulate(program.slots(task) for task in program.tasks)]
    fifos, takes_from = _fifos(run, tables, index)
    tasks: list[tuple[int, ...]] = []
    steps: list[tuple[int, ...]] = []
    waits: list[tuple[int, ...]] = []
    for n, task in enumerate(program.tasks):
        each, first_step, first_wait = program.slots_of_word(task), len(steps), len(waits)
        for part in range(each):
            first = len(waits) - first_wait
            waits += _waits(run, tables, index, task, part)
            _, step, _ = program.locate(task, part)
            finish = run.finish_of(task, task.steps[step], 0)
            steps.append((first, len(waits) - first_wait, finish))
        tasks.append(
            (
                units[task.unit], program.slots(task), columns[n], run.made(task, 0), each,
                first_step, first_wait, len(waits) - first_wait, *takes_from.get(task.name, (0, 0)),
            )
        )  # fmt: skip
    items: list[tuple[int, int]] = []
    entries: list[tuple[int, int]] = []
    lengths: list[tuple[int, int]] = []
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
    pointers = len(tables.actors)
    reuses = pointers + len(tables.pointers)
    ticks = reuses + len(tables.reuses)
    longest = max((wait[kernel.DELAY] for wait in waits), default=0)
    # Tiles that some unit may still act on while another has come to the next.
    flight = 1 << (2 * tables.lag + 6).bit_length()
    # Epochs by which one unit may fall behind the other, and the acts that both may still need.
    skewed = 2 + max(item.lag for body in program.bodies for item in body.items)
    ring = 1 << (near + 2 * skewed + 1).bit_length()
    stored = max((move.entries for move in program.moves if move.kind == "store"), default=0)
    room = max((fifo[kernel.HOLDS] for fifo in fifos), default=0)
    bound = max(
        kernel.BOUND_WAIT * task[kernel.COUNT_WAITS] + task[kernel.EACH] + task[kernel.COUNT_TAKES]
        for task in tasks
    )
    head = np.zeros(kernel.HEAD, np.int64)
    head[kernel.TASKS : kernel.TASK_AT] = (
        len(tasks), len(units), len(moves), len(tables.actors), len(fifos), len(frees),
        len(CAUSES) - 1, columns[-1],
        ring, flight, 1 << (exact + flight + ring).bit_length(),
        1 << (near + flight + stored).bit_length(), 1 << (room + 2).bit_length(),
        near, tables.lag, skewed, longest + 2, 0, 0,
        pointers, reuses, ticks, kernel.BOUND_HEAD + bound,
    )  # fmt: skip
    parts = (tasks, steps, waits, lengths, entries, items, moves, frees, fifos)
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
        moves * int(head[kernel.MOVE_RING]), moves, 5 * units, 10,
        fifos * int(head[kernel.ROOM]), 3 * fifos, units * causes, tasks,
        tasks * int(head[kernel.BOUND_SIZE]),
    ]  # fmt: skip


def _waits(
    run: Run, tables: Tables, index: dict[str, int], task: Task, part: int
) -> list[tuple[int, ...]]:
    """The waits of one slot of a word, with how they go on from word to word: `Run.rules`."""
    program = tables.program
    each, words = program.slots_of_word(task), program.word_count(task)
    # Whatever holds for the second word holds for all that follow, one word further on.
    by_word = [_slots(run.rules(task, word * each + part)) for word in range(min(words, 3))]
    found = []
    for rule in dict.fromkeys(key for known in by_word for key in known):
        at = [known.get(rule) for known in by_word]
        first = 0 if at[0] is not None else 1
        slots = [slot for slot in at if slot is not None]
        stride = slots[1] - slots[0] if len(slots) > 1 else 0
        last = words - 1 if len(slots) > 1 or len(at) == 1 + first else first
        found.append(
            _wait(tables, index, task, rule[0], slots[0] - first * stride, stride, (first, last))
        )
    for m, move in enumerate(program.moves if not part else ()):
        if move.kind == "fetch" and task.name in move.tasks:
            p = tables.pointer_of[task.name, move.name]
            found.append((kernel.FETCHED, p, m, 0, 0, 0, CAUSES.index("memory"), 0, 0))
        if move.kind == "store" and move.gate == task.name:
            found.append((kernel.ROOMY, m, m, 0, 0, 1, CAUSES.index("store"), 0, 0))
    return found


def _slots(rules: Iterator[Rule]) -> dict[tuple[Rule, int], int]:
    """Slots of rules, by the rules without them; those that look the same are counted."""
    found: dict[tuple[Rule, int], int] = {}
    for rule in rules:
        key, count = replace(rule, slot=0), 0
        while (key, count) in found:
            count += 1
        found[key, count] = rule.slot
    return found


def _wait(
    tables: Tables,
    index: dict[str, int],
    task: Task,
    rule: Rule,
    slot: int,
    stride: int,
    words: tuple[int, int],
) -> tuple[int, ...]:
    kind, which = kernel.OWN, 0
    if rule.cause == "reuse" and rule.operand is not None:
        kind, which = kernel.REUSED, tables.reuse_of[task.name, rule.task, rule.operand]
    elif rule.operand is not None:
        kind, which = kernel.POINTED, tables.pointer_of[task.name, rule.operand]
    cause = CAUSES.index(rule.cause)
    return (kind, which, index[rule.task], slot, stride, rule.delay, cause, *words)


def _fifos(
    run: Run, tables: Tables, index: dict[str, int]
) -> tuple[list[tuple[int, ...]], dict[str, tuple[int, int]]]:
    """FIFOs, and for each task the first that it takes from and how many."""
    program = tables.program
    rows: list[tuple[int, ...]] = []
    takers: dict[str, tuple[int, int]] = {}
    for task in program.tasks:
        for number, step in enumerate(task.steps):
            for operand in step.operands:
                if operand.source in ("landing", "returned"):
                    maker = program.source(task, operand)
                    offset = sum(program.cost(task, s)[0] for s in task.steps[:number])
                    words = min(2, program.word_count(task))
                    made = [run.made_in(maker, task, word) for word in range(words)]
                    is_back = operand.source == "returned"
                    room = program.return_entries if is_back else program.landing_entries
                    first, count = takers.get(task.name, (len(rows), 0))
                    takers[task.name] = first, count + 1
                    rows.append(
                        (
                            offset, room, index[maker.name], run.way(maker, operand),
                            made[-1] - made[0], made[0],
                            tables.pointer_of[task.name, operand],
                        )
                    )  # fmt: skip
    return rows, takers
