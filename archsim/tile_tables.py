"""What a walk through a nest has to keep track of, as tables of numbers.

Tasks and moves *act* on tiles. A reader's operand points to an act of its maker: on the same tile,
on the tile before in a line along a loop, or the latest one of the same line. A writer that comes
back to a register points to the act that read its old value last; a fetch, to the acts that read
the granule whose room it takes. Everything here is counted in acts, never in cycles.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from archsim.program import Move, Operand, Program, Task

Ints = NDArray[np.int64]

# How a pointer finds the act it means; NOWHERE means none, in any tile; HELD, the latest one of the
# same block.
SAME, BACK, LATEST, NOWHERE, HELD = range(5)
# A loop of which only the first or the last tile is acted on; a table says which tiles are.
FIRST, LAST, TABLE = 1, 2, 3


class NotCountableError(Exception):
    """A Program whose pointers do not follow from counters; its tiles are taken one by one."""


@dataclass(frozen=True, slots=True)
class Pointer:
    """An operand of a reader, or the granule that it needs, and how its maker's act is found."""

    reader: int
    maker: int
    kind: int = SAME
    # Back: along which loop, and how many tiles.
    loop: int = 0
    steps: int = 0
    # Loops whose coordinates tell lines apart.
    keys: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Reuse:
    """A writer that may overwrite what `pointer` reads, `depth` acts later."""

    writer: int
    pointer: int
    depth: int


@dataclass(frozen=True)
class Tables:
    """A Program as loops, actors (tasks, then moves), pointers and reuses."""

    program: Program
    loops: tuple[str, ...]
    counts: tuple[int, ...]
    actors: tuple[Task | Move, ...]
    # For each actor and loop: 0, FIRST or LAST.
    when: Ints
    pointers: tuple[Pointer, ...]
    reuses: tuple[Reuse, ...]
    # (task, operand), or (task, move name) -> pointer; (task, reader, operand) -> reuse.
    pointer_of: dict[tuple[str, Operand | str], int] = field(compare=False)
    reuse_of: dict[tuple[str, str, Operand | str], int] = field(compare=False)

    @property
    def lag(self) -> int:
        """The longest lag of a task or move."""
        lags = [item.lag for body in self.program.bodies for item in body.items]
        return max([*lags, *(move.lag for move in self.program.moves)])


def tables_of(program: Program) -> Tables:
    """Write the tables; NotCountableError if counters can't tell which act a pointer means."""
    loops, counts = _loops(program)
    actors: tuple[Task | Move, ...] = (*program.tasks, *program.moves)
    index = {actor.name: n for n, actor in enumerate(actors)}
    whens = {actor.name: _when(program, actor, loops) for actor in actors}
    when = np.zeros((len(actors), max(1, len(loops))), np.int64)
    for name, conditions in whens.items():
        if program.limits and len(conditions) > 1:
            raise NotCountableError(f"{name} acts once in several loops that filters cut")
        for loop, which in conditions.items():
            when[index[name], loops.index(loop)] = FIRST if which == "first" else LAST
    for move in program.moves:
        if program.by_table(move):
            when[index[move.name]] = TABLE
    pointers: list[Pointer] = []
    pointer_of: dict[tuple[str, Operand | str], int] = {}
    for task in program.tasks:
        for operand in _read(task):
            pointer_of[task.name, operand] = len(pointers)
            pointers.append(_pointer(program, task, operand, loops, index, whens))
    for move in program.moves:
        if move.kind == "fetch":
            for name in move.tasks:
                pointer_of[name, move.name] = len(pointers)
                keys = _keys(loops, whens[move.name])
                kind = HELD if program.by_table(move) else LATEST
                found = Pointer(index[name], index[move.name], kind, keys=keys)
                pointers.append(found)
    reuses: list[Reuse] = []
    reuse_of: dict[tuple[str, str, Operand | str], int] = {}
    for register in program.registers:
        writer = program.writer(register)
        for task in program.tasks:
            for operand in _read(task):
                same = (operand.name, task.unit) == (register.tensor, register.unit)
                if operand.source == "register" and same:
                    reuse_of[writer.name, task.name, operand] = len(reuses)
                    pointer = pointer_of[task.name, operand]
                    reuses.append(Reuse(index[writer.name], pointer, register.depth))
    for move in program.moves:
        if move.kind == "fetch":
            for name in move.tasks:
                reuse_of[move.name, name, move.name] = len(reuses)
                pointer = pointer_of[name, move.name]
                reuses.append(Reuse(index[move.name], pointer, move.entries))
    return Tables(
        program, loops, counts, actors, when, tuple(pointers), tuple(reuses), pointer_of, reuse_of
    )


def _loops(program: Program) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Loops of several tiles; batches and heads are one loop where nobody tells them apart."""
    blocks = program.blocks
    kept = {blocks.outer, blocks.inner} if blocks is not None else set()
    found = {
        loop.variable: loop.count
        for loop in program.nest
        if loop.count > 1 or loop.variable in kept
    }
    both = {"b", "h"} <= found.keys() and list(found)[:2] == ["b", "h"]
    told = [set(dict(task.when)) for task in program.tasks]
    told += [{"b", "h"} - set(move.loops) for move in program.moves]
    told += [{v for v, _ in limit.terms} for limit in program.limits]
    back = {loop for task in program.tasks for operand in _read(task) for loop, _ in operand.back}
    if both and not {"b", "h"} & back.union(*told):
        found["h"] *= found.pop("b")
    if program.drain == "head" and found.keys() <= {"b", "h"}:
        # A head of one tile is a row of its own: the pipeline runs empty behind it.
        found[""] = 1
    return tuple(found), tuple(found.values())


def _when(program: Program, actor: Task | Move, loops: tuple[str, ...]) -> dict[str, str]:
    """Loops of which an actor acts on the first or last tile only; others have several tiles."""
    if isinstance(actor, Task):
        return {loop: which for loop, which in actor.when if loop in loops}
    others = [loop for loop in loops if loop not in actor.loops]
    if actor.kind == "fetch":
        return dict.fromkeys(others, "first")
    made = _when(program, program.task(actor.tasks[0]), loops)
    return made | {loop: "last" for loop in others if loop not in made}


def _read(task: Task) -> Iterator[Operand]:
    """What a task reads of other tasks, each operand once."""
    kinds = ("register", "landing", "returned")
    operands = dict.fromkeys(operand for step in task.steps for operand in step.operands)
    for operand in operands:
        goes_on = operand.source == "accumulator" and bool(operand.back)
        if goes_on or operand.source in kinds:
            yield operand


def _pointer(
    program: Program,
    reader: Task,
    operand: Operand,
    loops: tuple[str, ...],
    index: dict[str, int],
    whens: dict[str, dict[str, str]],
) -> Pointer:
    source = program.source(reader, operand)
    at = index[reader.name], index[source.name]
    made = whens[source.name]
    back = {loop: steps for loop, steps in operand.back if loop not in dict(source.when)}
    if any(loop not in loops for loop in back):
        # A loop of one tile has none before it.
        return Pointer(*at, NOWHERE)
    own = whens[reader.name]
    if not back and all(own.get(loop) == which for loop, which in made.items()):
        return Pointer(*at)
    if any(which == "last" and own.get(loop) != "last" for loop, which in made.items()):
        raise NotCountableError(f"{reader.name} reads {operand.name} before it is made")
    if back:
        if made or len(back) > 1:
            raise NotCountableError(f"{reader.name} reads {operand.name} from two lines at once")
        loop, steps = next(iter(back.items()))
        number = loops.index(loop)
        return Pointer(*at, BACK, number, steps, tuple(range(number + 1, len(loops))))
    return Pointer(*at, LATEST, keys=_keys(loops, made))


def _keys(loops: tuple[str, ...], made: dict[str, str]) -> tuple[int, ...]:
    """Loops that tell apart what one act made: those inside the first it acts once in."""
    inside = min((loops.index(loop) for loop in made), default=len(loops))
    return tuple(n for n in range(inside, len(loops)) if loops[n] not in made)
