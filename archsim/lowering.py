"""From a cascade on an architecture to a Program: tasks, nest, registers and capacities.

Register depths follow from the order: a register is written again only when everybody who reads
the old value stands before the writer. Nothing here knows a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod

from archsim.arch import Architecture, Array, load_architecture
from archsim.errors import ArchError
from archsim.issue import Body, Item
from archsim.mapping import Mapping, load_mapping
from archsim.moves import moves_of
from archsim.nest import Loop
from archsim.operands import Spread
from archsim.placement import BATCH_RANKS, Placed, place
from archsim.program import FUNCTIONS, Program, Register, Task
from archsim.selection import select
from einsum_cascade.cascade import Cascade, Workload
from einsum_cascade.catalog import load
from einsum_cascade.errors import Problem, legal_words

# Bits that a PE keeps besides words: the product p of exp (32) and its exponent (8).
ACCUMULATOR_BITS = 32
EXP_BITS = 32 + 8


def lower(
    cascade: Cascade | str,
    workload: Workload,
    architecture: Architecture | str,
    mapping: Mapping | str,
) -> Program:
    """Write the Program of a cascade; all but the workload may be shipped names or paths.

    Raises:
        ArchError: with the place in the mapping or cascade, what can't be lowered and why.
        CascadeError: the workload lacks the size of a rank.
    """
    what = load(cascade) if isinstance(cascade, str) else cascade
    chip, found = load_architecture(architecture), load_mapping(mapping)
    return lower_placed(place(what, workload, chip, found))


def lower_placed(placed: Placed) -> Program:
    """Write the Program of a cascade that has been placed; see `lower`."""
    mapping, architecture = placed.mapping, placed.architecture
    array, lanes = _units(placed)
    if not mapping.order:
        hint = f"add to the file: order: {{{array.name}: [TASK lag 0, ...], {lanes.name}: [...]}}"
        what = f"{mapping.name} says no order of issue, so it can be bounded but not run"
        raise ArchError(mapping.problem((), what, hint))
    if len(mapping.phases) > 1:
        what = "what passes through memory between phases can't be lowered"
        raise ArchError(mapping.problem(("phases",), what, "use --level bound"))
    rows = _spread(placed, array, "rows")
    cols = _spread(placed, array, "cols")
    spread = Spread(placed, rows, cols, array, lanes)
    tasks = tuple(_tasks(placed, spread))
    _check_rows(architecture, array, tasks)
    sizes = dict(placed.tiling.extents)
    batch = [rank for rank in BATCH_RANKS if rank not in placed.cascade.ranks]
    nest = [Loop(rank.lower(), placed.workload.size(rank, 1)) for rank in batch]
    nest += [Loop(loop, sizes[placed.cascade.rank_of(loop)]) for loop in mapping.loops]
    program = Program(
        placed,
        tuple(nest),
        rows,
        cols,
        mapping.order,
        tasks,
        (),
        lanes.landing_entries,
        lanes.return_entries,
        mapping.drain,
        placed.filters.limits if placed.filters else (),
    )
    problems = [*_check_load(placed), *_check_tiles(program), *_check_words(program)]
    if problems:
        raise ArchError(problems)
    program = replace(program, registers=tuple(_registers(program)))
    program = replace(program, moves=tuple(moves_of(program)))
    check_bits(program)
    return program


def _units(placed: Placed) -> tuple[Array, Array]:
    """The array and the lanes, one column to a lane."""
    architecture = placed.architecture
    squares = [a for a in architecture.arrays if "rows" in dict(a.axes)]
    lines = [a for a in architecture.arrays if "lanes" in dict(a.axes)]
    if len(squares) != 1 or len(lines) != 1:
        what = "a program needs one array with rows and cols, and one with lanes"
        raise ArchError(Problem(architecture.place("arrays"), what))
    array, lanes = squares[0], lines[0]
    cols, count = dict(array.axes)["cols"], dict(lanes.axes)["lanes"]
    if cols != count:
        raise ArchError(
            Problem(
                architecture.place("arrays", lanes.name),
                f"{count} lanes below {cols} columns",
                hint="a program needs one lane below each column",
            )
        )
    return array, lanes


def _spread(placed: Placed, array: Array, axis: str) -> str:
    """The one variable that all Einsums on the array spread over an axis."""
    mapping = placed.mapping
    found: dict[tuple[str, ...], str] = {}
    for name, where in mapping.placements:
        if where.array == array.name:
            found.setdefault(dict(where.axes).get(axis, ()), name)
    if len(found) != 1 or len(next(iter(found))) != 1:
        texts = [f"{name}: {'*'.join(names) or 'nothing'}" for names, name in found.items()]
        what = f"the {axis} of {array.name} hold " + ", ".join(texts)
        hint = "a program keeps one variable on each axis; use --level bound"
        raise ArchError(mapping.problem(("placement",), what, hint))
    variable = next(iter(found))[0]
    rank = placed.cascade.rank_of(variable)
    held = dict(placed.tiling.extents)[rank]
    room = dict(array.axes)[axis]
    if held > room:
        what = f"{rank} = {held} does not fit {room} {axis} of {array.name}"
        hint = f"take tiles of at most {axis.upper()} elements"
        raise ArchError(mapping.problem(("tiles", rank), what, hint))
    return variable


def _tasks(placed: Placed, spread: Spread) -> Iterator[Task]:
    """Tasks of every item of the bodies; each Einsum, and each part of it, is issued once."""
    mapping = placed.mapping
    known = {name: where.array for name, where in mapping.placements if where.array}
    items = [
        (body, i, item) for body in mapping.order for i, e in enumerate(body.entries) for item in e
    ]
    problems: list[Problem] = []
    for body in mapping.order:
        if body.unit not in (spread.array.name, spread.lanes.name):
            units = [spread.array.name, spread.lanes.name]
            hint = legal_words(body.unit, units, "arrays")
            problems.append(
                mapping.problem(("order", body.unit), f"unknown array '{body.unit}'", hint)
            )
    for body, i, item in items:
        for name in item.task.split("+"):
            base = name.split(".")[0]
            if base not in known and not name.endswith(".load"):
                hint = legal_words(base, sorted(known), "placed Einsums")
                at = ("order", body.unit, i)
                problems.append(mapping.problem(at, f"no Einsum '{base}' is placed", hint))
    listed = [name for _, _, item in items for name in item.task.split("+")]
    for name in known:
        if name not in listed:
            what = f"the order lacks {name}"
            problems.append(mapping.problem(("order",), what, f"add {name} to {known[name]}"))
    if problems:
        raise ArchError(problems)
    made: dict[str, Task] = {}
    for _, _, item in items:
        if "." not in item.task:
            made |= {task.name: task for task in select(spread, item)}
    for body, i, item in items:
        task = made.get(item.task)
        at = ("order", body.unit, i)
        if task is None:
            hint = legal_words(item.task, sorted(made), "tasks")
            problems.append(mapping.problem(at, f"there is no task {item.task}", hint))
        elif task.unit != body.unit:
            what = f"{task.name} runs on {task.unit}, not on {body.unit}"
            problems.append(mapping.problem(at, what, f"move it to {task.unit}"))
    issued = [item.task for _, _, item in items]
    for name, task in made.items():
        if issued.count(name) != 1:
            what = f"{name} ({task.text}) is issued {issued.count(name)} times"
            problems.append(mapping.problem(("order", task.unit), what, "list it once"))
    problems += _shared(mapping, made)
    if problems:
        raise ArchError(problems)
    yield from (made[name] for name in issued)


def _shared(mapping: Mapping, tasks: dict[str, Task]) -> Iterator[Problem]:
    """Words in a FIFO go to one reader."""
    readers: dict[tuple[str, str], list[str]] = {}
    for task in tasks.values():
        for operand in _operands(task):
            if operand in (("landing", operand[1]), ("returned", operand[1])):
                readers.setdefault(operand, []).append(task.name)
    for (source, tensor), names in readers.items():
        if len(names) > 1:
            what = f"{' and '.join(names)} both take {tensor} from the {source} FIFO"
            yield mapping.problem(("order",), what, "let one of them keep it")


def _operands(task: Task) -> Iterator[tuple[str, str]]:
    for step in task.steps:
        for operand in step.operands:
            yield operand.source, operand.name


def _check_rows(architecture: Architecture, array: Array, tasks: tuple[Task, ...]) -> None:
    """A value goes down a row only when it is there: no operator may take longer than the hop."""
    hop = architecture.latency.row_hop
    for task in tasks:
        if task.kind == "reduce":
            row = array.cost(task.steps[-1].operator)
            if row and row.latency_cycles > hop:
                raise ArchError(
                    Problem(
                        architecture.place("latency", "row_hop"),
                        f"{task.name} passes {row.operator} down after {row.latency_cycles} cycles "
                        f"and the row hop takes {hop}",
                        hint=f"set row_hop to at least {row.latency_cycles}",
                    )
                )


def _registers(program: Program) -> Iterator[Register]:
    """Registers with the least depth at which every reader stands before the next writer."""
    places = _places(program)
    for task in program.tasks:
        if task.goes == "landing" or (task.goes == "output" and not _is_read(program, task)):
            continue
        words = 1 if task.kind in ("accumulate", "load") else program.word_count(task)
        depth = 1
        for reader in program.tasks:
            for operand in (o for step in reader.steps for o in step.operands):
                if operand.source == "register" and operand.name == task.tensor:
                    depth = max(depth, _depth(program, places, task, reader, dict(operand.back)))
        yield Register(task.tensor, task.unit, words, depth)


def _check_load(placed: Placed) -> Iterator[Problem]:
    """What is computed on the way in can only read inputs."""
    where = dict(placed.mapping.placements)
    for einsum in placed.cascade.einsums:
        if einsum.is_initial or where[einsum.name].array is not None:
            continue
        for read in einsum.reads:
            for maker in placed.cascade.defining(read.tensor):
                if not maker.is_initial and where[maker.name].array is not None:
                    what = f"{einsum.name} at load reads {read.tensor}, which an array makes"
                    at = ("placement", einsum.name)
                    yield placed.mapping.problem(at, what, "place it on an array, too")


def _check_tiles(program: Program) -> Iterator[Problem]:
    """Ragged tiles are known along the rows and columns only."""
    for whole, parts in program.partitions:
        inner = [part for part in parts[1:] if part.lower() not in (program.rows, program.cols)]
        covered = prod(program.sizes[part] for part in parts)
        if parts[-1] in inner and covered != program.sizes[whole]:
            what = f"{whole} = {program.sizes[whole]} does not divide into tiles of "
            what += f"{program.sizes[parts[-1]]}, and {parts[-1].lower()} is not spread over PEs"
            hint = f"take a tile of {parts[-1]} that divides it"
            yield program.placed.mapping.problem(("tiles", parts[-1]), what, hint)


def _check_words(program: Program) -> Iterator[Problem]:
    """A reader runs through the same words as the maker, or the maker made just one."""
    for task in program.tasks:
        for operand in (o for step in task.steps for o in step.operands):
            if operand.source not in ("register", "landing", "returned") or task.kind == "drain":
                continue
            maker = program.source(task, operand)
            single = not maker.words or maker.kind in ("accumulate", "load")
            if not single and maker.words != task.words:
                what = f"{task.name} runs through {', '.join(task.words) or 'no'} words of a tile, "
                what += f"{maker.name}, which it reads, through {', '.join(maker.words)}"
                yield program.placed.mapping.problem(("order", task.unit), what)
        for step in task.steps:
            if step.function not in FUNCTIONS:
                what = f"{task.name} needs {step.function}, which PEs can't compute"
                hint = "add it to archsim/pe_operators.py"
                yield program.placed.mapping.problem(("placement", task.tensor), what, hint)


def _is_read(program: Program, task: Task) -> bool:
    """True if somebody on the same unit reads what a task makes."""
    return any(
        operand.source == "register" and operand.name == task.tensor
        for reader in program.tasks
        if reader.unit == task.unit
        for step in reader.steps
        for operand in step.operands
    )


def _places(program: Program) -> dict[str, tuple[int, tuple[int, int]]]:
    """Lag of each task, and where it stands in its body: entry, and place within its entry."""
    return {
        item.task: (item.lag, (i, j))
        for body in program.bodies
        for i, entry in enumerate(body.entries)
        for j, item in enumerate(entry)
    }


def _depth(
    program: Program,
    places: dict[str, tuple[int, tuple[int, int]]],
    writer: Task,
    reader: Task,
    back: dict[str, int],
) -> int:
    """Least depth: a writer comes back to a register after all that read its old value."""
    # The last tile that reads the value of tile i is i + reach; writers come a span apart.
    span = program.spacing(writer)
    reach = sum(steps * program.stride(loop) for loop, steps in back.items())
    for loop in program.nest:
        if loop.variable in dict(writer.when) and loop.variable not in dict(reader.when):
            reach += (loop.count - 1) * program.stride(loop.variable)
    if writer.name == reader.name:
        return max(1, -(-reach // span))
    (read_lag, read_at), (write_lag, write_at) = places[reader.name], places[writer.name]
    late = reach + read_lag - write_lag
    # In the same epoch the body's order decides; tasks that take turns must keep step word by word.
    is_first = read_at < write_at
    if read_at[0] == write_at[0]:
        in_step = reader.words == writer.words and program.slots(reader) <= program.slots(writer)
        is_first = is_first and in_step
    return max(1, -(-late // span) if is_first else late // span + 1)


def check_bits(program: Program) -> None:
    """Compare the registers of a PE with what the architecture has; ArchError if they don't fit."""
    array = program.array
    room = array.register_entries * array.register_bits
    if not room:
        return
    needed = 0
    parts = []
    for register in program.registers:
        if register.unit == array.name:
            maker = program.maker(register.tensor)
            wide = maker.kind == "accumulate"
            bits = ACCUMULATOR_BITS if wide else program.architecture.word_bits
            needed += register.words * register.depth * bits
            parts.append(f"{register.tensor} {register.words} x {register.depth} x {bits} bit")
    if any(
        step.function == "exp"
        for task in program.tasks
        for step in task.steps
        if task.unit == array.name
    ):
        needed += EXP_BITS
        parts.append(f"exp {EXP_BITS} bit")
    if needed > room:
        what = f"a PE needs {needed} bit of registers ({', '.join(parts)}), it has {room}"
        at = program.architecture.place("arrays", array.name, "registers")
        raise ArchError(Problem(at, what, hint="smaller lags keep fewer tiles in flight"))


__all__ = ["Body", "Item", "lower", "lower_placed"]
