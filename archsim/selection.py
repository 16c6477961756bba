"""Einsums to tasks: which micro-ops compute an Einsum follows from the pattern of its ranks.

With one variable spread over the rows of the array and one over its columns (and the lanes):

    rows kept, others summed      accumulate  one slot for each point summed, into a register
    rows reduced                  reduce      a value comes down each column, combined row by row
    rows and columns kept         map         in place, in each PE
    columns, in the lanes         lane        a word, or one for each further variable, in each lane
    others summed, in the lanes   accumulate  one word after the other, into a register of the lane

A sum over a rank that is looped goes on from tile to tile. Words that come down the columns go to
the one lane task that reads them; an output, a sum over tiles, and what several read or the array
wants back, is taken by a task of its own, `X.out`. What the world outside needs of a tensor that
PEs hold is drained to the lanes, one row a slot. Lanes without the column variable all compute the
same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from archsim.errors import ArchError
from archsim.issue import Item
from archsim.operands import RefusalError, Spread
from archsim.program import Operand, Step, Task
from archsim.steps import Code
from einsum_cascade.cascade import Einsum
from einsum_cascade.errors import Problem
from einsum_cascade.expressions import Expr, accesses, rewrite
from einsum_cascade.operators import REDUCTIONS


def select(spread: Spread, item: Item) -> Iterator[Task]:
    """Yield the tasks of one item of a body; `Z.drain`, `Z.out` and `W.load` come with Z."""
    everything = spread.placed.cascade.einsums
    einsums = [
        next(e for e in everything if e.name == name and not e.is_initial)
        for name in item.task.split("+")
    ]
    try:
        einsum = einsums[0] if len(einsums) == 1 else _fuse(everything, einsums)
        yield from _tasks(spread, einsum, item.task)
    except RefusalError as refusal:
        line = einsums[-1].line
        raise ArchError(
            Problem(
                einsums[-1].source,
                f"{einsums[-1].name} can't be lowered: {refusal}",
                " " * line.indent + line.text,
                len(line.text),
                refusal.hint or "another placement, or a bound instead: --level bound",
            )
        ) from None


def _tasks(spread: Spread, einsum: Einsum, name: str) -> Iterator[Task]:
    rows, cols = spread.rows, spread.cols
    kept, summed = spread.leaves(einsum.left), spread.leaves(einsum.over)
    looped = spread.looped(einsum)
    inside = tuple(variable for variable in summed if variable not in looped)
    in_lanes = spread.unit_of(einsum) == spread.lanes.name
    spatial = (cols,) if in_lanes else (rows, cols)
    words = tuple(v for v in kept if v not in (*spread.loops, *spatial))
    if cols in summed:
        raise RefusalError(
            f"{cols} is spread over the columns, and nothing runs from one to the next",
            f"sum over {cols} in a phase whose columns hold another variable",
        )
    if cols not in kept and not in_lanes:
        raise RefusalError(f"{cols} is spread over the columns, and {einsum.name} lacks it")
    if len(looped) > 1:
        raise RefusalError(f"the sum over {' and '.join(looped)} goes through tiles of two loops")
    code = Code(spread, einsum, spread.lanes if in_lanes else spread.array, fuse="+" in name)
    task = Task(
        name=name,
        unit=code.array.name,
        kind="map",
        text=str(einsum),
        words=words,
        steps=(),
        tensor=einsum.name,
        goes="register",
        when=_when(spread, einsum),
    )
    if in_lanes:
        yield from _lane(spread, code, task, inside, looped)
    elif rows in summed:
        yield from _reduce(spread, code, task, [v for v in inside if v != rows], looped)
    elif rows not in kept:
        raise RefusalError(f"{rows} is spread over the rows, and {einsum.name} lacks it")
    elif summed:
        if words:
            raise RefusalError(f"PEs accumulate one word a tile, and {words[0]} makes it several")
        yield from _held(spread, _accumulate(code, task, inside, looped), code, looped)
    else:
        code.words = words
        yield from _held(spread, replace(task, steps=code.compile(einsum.map)), code, looped)


def _accumulate(code: Code, task: Task, inside: tuple[str, ...], looped: list[str]) -> Task:
    """Words of a tile summed up in a register; over a loop, on top of the tile before."""
    code.words = inside
    reduction = REDUCTIONS[code.einsum.op or "sum"]
    back = tuple((loop, 1) for loop in looped)
    into = Operand("accumulator", task.tensor, back=back, initial=reduction.identity)
    steps = code.combine(code.einsum.map, reduction.combine, into)
    identity = reduction.identity
    return replace(task, kind="accumulate", words=inside, steps=steps, identity=identity)


def _lane(
    spread: Spread, code: Code, task: Task, inside: tuple[str, ...], looped: list[str]
) -> Iterator[Task]:
    """A map in the lanes, or a sum; the array may want its result back at the top."""
    readers = [spread.unit_of(reader) for reader in spread.readers(task.tensor)]
    is_returned = spread.array.name in readers
    if is_returned and task.words:
        raise RefusalError("the lanes return one word a tile to the top edge")
    if is_returned and spread.cols not in spread.leaves(code.einsum.left):
        raise RefusalError(f"a word comes back to each column, and {task.tensor} has no column")
    if inside:
        if task.words:
            raise RefusalError(f"a lane sums one word a tile, and {task.words[0]} makes it several")
        task = _accumulate(code, task, inside, looped)
    elif looped:
        code.words = task.words
        reduction = REDUCTIONS[code.einsum.op or "sum"]
        back = ((looped[0], 1),)
        before = Operand("register", task.tensor, back=back, initial=reduction.identity)
        steps = code.combine(code.einsum.map, reduction.combine, before)
        task = replace(task, kind="lane", steps=steps, identity=reduction.identity)
    else:
        code.words = task.words
        task = replace(task, kind="lane", steps=code.compile(code.einsum.map))
    yield from code.loads
    goes = "output" if spread.is_output(task.tensor) else "register"
    yield replace(task, goes=goes, is_returned=is_returned)


def _held(spread: Spread, task: Task, code: Code, looped: list[str]) -> Iterator[Task]:
    """A task that leaves its result in the PEs, and how that leaves them if it is an output."""
    yield from code.loads
    yield task
    for reader in spread.readers(task.tensor):
        if spread.unit_of(reader) == spread.lanes.name:
            raise RefusalError(
                f"{reader.name} reads it whole in the lanes",
                f"give {reader.name} a phase of its own, or place it on {spread.array.name}",
            )
    if not spread.is_output(task.tensor):
        return
    if task.kind == "map" and task.words:
        raise RefusalError("PEs hold one word of an output")
    when = (*task.when, *((loop, "last") for loop in looped))
    move = Step("move", "drain", (Operand("register", task.tensor), Operand("flow")))
    name, text = f"{task.name}.drain", f"{task.tensor}, row by row"
    rows = (spread.rows,)
    yield Task(name, task.unit, "drain", text, rows, (move,), task.tensor, "landing", when=when)
    yield replace(_out(spread, task, rows, [], "add"), when=when)


def _reduce(
    spread: Spread, code: Code, task: Task, inside: list[str], looped: list[str]
) -> Iterator[Task]:
    """Rows combined on the way down; the lanes go on over tiles if the rank has several."""
    if inside:
        raise RefusalError(f"rows are summed, so {inside[0]} can't be summed as well")
    reduction = REDUCTIONS[code.einsum.op or "sum"]
    code.words = task.words
    steps = code.combine(code.einsum.map, reduction.combine, Operand("flow"))
    yield from code.loads
    task = replace(task, kind="reduce", steps=steps, goes="landing", identity=reduction.identity)
    yield task
    if spread.is_taken(code.einsum):
        yield _out(spread, task, task.words, looped, reduction.combine)


def _out(
    spread: Spread, task: Task, words: tuple[str, ...], looped: list[str], combine: str
) -> Task:
    """What the lanes do with words that come down: pass them on, or combine them over tiles."""
    below = Operand("landing", task.tensor)
    step, text = Step("move", "copy", (below,)), f"{task.tensor} out"
    if looped:
        back = tuple((loop, 1) for loop in looped)
        before = Operand("register", task.tensor, back=back, initial=task.identity)
        code = Code(spread, spread.placed.cascade.defining(task.tensor)[0], spread.lanes)
        code.add(combine, combine, (before, below))
        step, text = code.steps[0], f"{task.tensor} over its tiles"
    is_output = spread.is_output(task.tensor)
    readers = [spread.unit_of(reader) for reader in spread.readers(task.tensor)]
    is_returned = task.kind == "reduce" and spread.array.name in readers
    if is_returned and words:
        raise RefusalError("the lanes return one word a tile to the top edge")
    return Task(
        f"{task.name}.out",
        spread.lanes.name,
        "lane",
        text,
        words,
        (step,),
        task.tensor,
        "output" if is_output else "register",
        is_returned,
        when=task.when,
    )


def _when(spread: Spread, einsum: Einsum) -> tuple[tuple[str, str], ...]:
    """First or last tile, for loops that the Einsum is not inside of."""
    own = (*spread.leaves(einsum.left), *spread.leaves(einsum.over))
    return tuple(
        (loop, "last" if _is_after(spread, einsum, loop, frozenset()) else "first")
        for loop in spread.placed.mapping.loops
        if loop not in own
    )


def _is_after(spread: Spread, einsum: Einsum, loop: str, seen: frozenset[str]) -> bool:
    """True if an Einsum reads what is there only once a loop has ended."""
    for read in einsum.reads:
        for writer in spread.placed.cascade.defining(read.tensor):
            if writer.is_initial or writer.name in seen:
                continue
            if loop in (*spread.leaves(writer.left), *spread.leaves(writer.over)):
                return True
            if _is_after(spread, writer, loop, seen | {einsum.name}):
                return True
    return False


def _fuse(everything: tuple[Einsum, ...], einsums: list[Einsum]) -> Einsum:
    """One Einsum that computes several: each is put into the one that reads it."""
    last = einsums[-1]
    for inner in reversed(einsums[:-1]):
        if inner.op is not None or last.op is not None:
            raise RefusalError("only maps can be computed in one go")
        readers = [e for e in everything if any(r.tensor == inner.name for r in e.reads)]
        reads = [read for read in accesses(last.map) if read.tensor == inner.name]
        if [e.name for e in readers] != [last.name] or reads != [inner.target]:
            raise RefusalError(f"{inner.name} is not read by {last.name} alone, at its own indices")

        def change(node: Expr, inner: Einsum = inner) -> Expr:
            return inner.map if node == inner.target else node

        last = replace(last, map=rewrite(last.map, change))
    return last
