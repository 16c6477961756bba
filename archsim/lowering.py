"""From a cascade on an architecture to a Program: tasks, nest, registers and capacities.

Register depths follow from the order: a register is written again only when everybody who reads
the old value stands before the writer. Nothing here knows a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod

from archsim.arch import Architecture, Array, load_architecture
from archsim.block_filters import BlockFilters
from archsim.chain import Chain
from archsim.errors import ArchError
from archsim.issue import Body, Item
from archsim.mapping import Mapping, load_mapping
from archsim.moves import moves_of
from archsim.nest import Loop
from archsim.operands import Spread
from archsim.placement import BATCH_RANKS, Placed, place, placed_alone
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
) -> Program | Chain:
    """Write the Program of a cascade; all but the workload may be shipped names or paths.

    A mapping with several phases gives a Chain of Programs.

    Raises:
        ArchError: with the place in the mapping or cascade, what can't be lowered and why.
        CascadeError: the workload lacks the size of a rank.
    """
    what = load(cascade) if isinstance(cascade, str) else cascade
    chip, found = load_architecture(architecture), load_mapping(mapping)
    return lower_placed(place(what, workload, chip, found))


def lower_whole(
    cascade: Cascade | str,
    workload: Workload,
    architecture: Architecture | str,
    mapping: Mapping | str,
) -> Program:
    """As `lower`, for those who take one Program; ArchError if there are several."""
    found = lower(cascade, workload, architecture, mapping)
    if isinstance(found, Chain):
        what = f"{found.name} is {len(found.programs)} programs, one for each phase"
        hint = "a program file, and hardware, hold one; take a mapping without phases"
        raise ArchError(found.placed.mapping.problem(("phases",), what, hint))
    return found


def lower_placed(placed: Placed) -> Program | Chain:
    """Write the Program of a cascade that has been placed; see `lower`."""
    if len(placed.mapping.phases) < 2:
        return _lower(placed)
    stages = placed.stages or placed_alone(placed)
    programs = tuple(_lower(stage) for stage in stages)
    for whole, parts in placed.cascade.splits:
        for part in reversed(parts):
            found = {p.sizes[part] for p in programs if part in p.cascade.ranks}
            if len(found) > 1:
                what = f"{part} has {' and '.join(map(str, sorted(found)))} elements in two phases,"
                what += f" but {placed.cascade.name} itself splits {whole}"
                hint = f"give {part} one size in all phases"
                raise ArchError(placed.mapping.problem(("phases",), what, hint))
    return Chain(placed, programs)


def _lower(placed: Placed) -> Program:
    """Write the Program of one phase."""
    mapping, architecture = placed.mapping, placed.architecture
    array, lanes = _units(placed)
    if not any(body.entries for body in mapping.order):
        hint = f"add to the file: order: {{{array.name}: [TASK lag 0, ...], {lanes.name}: [...]}}"
        what = f"{mapping.name} says no order of issue, so it can be bounded but not run"
        raise ArchError(mapping.problem((), what, hint))
    rows, cols = _variables(placed, array, lanes)
    spread = Spread(placed, rows, cols, array, lanes)
    tasks = tuple(_tasks(placed, spread))
    _check_rows(architecture, array, tasks)
    issuing = [body.unit for body in mapping.order]
    idle = [unit.name for unit in (array, lanes) if unit.name not in issuing]
    sizes = dict(placed.tiling.extents)
    batch = [rank for rank in BATCH_RANKS if rank not in placed.cascade.ranks]
    nest = [Loop(rank.lower(), placed.workload.size(rank, 1)) for rank in batch]
    nest += [Loop(loop, sizes[placed.cascade.rank_of(loop)]) for loop in mapping.loops]
    program = Program(
        placed,
        tuple(nest),
        rows,
        cols,
        (*mapping.order, *(Body(unit, ()) for unit in idle)),
        tasks,
        (),
        lanes.landing_entries,
        lanes.return_entries,
        mapping.drain,
        placed.filters.limits if placed.filters else (),
        blocks=placed.filters.blocks if isinstance(placed.filters, BlockFilters) else None,
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


def _variables(placed: Placed, array: Array, lanes: Array) -> tuple[str, str]:
    """What runs along rows and columns. Lanes alone have no rows: then a ragged rank's tiles."""
    if any(where.array == array.name for _, where in placed.mapping.placements):
        return _spread(placed, array, "rows"), _spread(placed, array, "cols", lanes)
    cols = _spread(placed, lanes, "lanes")
    ranks = {
        rank for e in placed.cascade.einsums for v in e.variables for rank in _leaves(placed, v)
    }
    for _, parts in placed.tiling.partitions:
        if parts[-1] in ranks and parts[-1].lower() != cols:
            return parts[-1].lower(), cols
    return "", cols


def _leaves(placed: Placed, variable: str) -> tuple[str, ...]:
    return placed.tiling.leaves(placed.cascade.rank_of(variable))


def _spread(placed: Placed, array: Array, axis: str, lanes: Array | None = None) -> str:
    """The one variable that all Einsums on the array, and in the lanes, spread over an axis."""
    mapping = placed.mapping
    found: dict[tuple[str, ...], str] = {}
    for name, where in mapping.placements:
        if where.array == array.name:
            found.setdefault(dict(where.axes).get(axis, ()), name)
        elif lanes is not None and where.array == lanes.name:
            found.setdefault(dict(where.axes).get("lanes", ()), name)
    if len(found) != 1 or len(next(iter(found))) != 1:
        texts = [f"{name}: {'*'.join(names) or 'nothing'}" for names, name in found.items()]
        what = f"the {axis} of {array.name} hold " + ", ".join(texts)
        hint = "a phase keeps one variable on each axis: list phases, or use --level bound"
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
            for one in select(spread, item):
                if made.setdefault(one.name, one) != one:
                    what = f"{one.name} would be two tasks: {made[one.name].text}, {one.text}"
                    problems.append(mapping.problem(("order",), what, "use phases"))
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
        is_kept = task.kind == "accumulate" or _is_read(program, task)
        if task.goes == "landing" or (task.goes == "output" and not is_kept):
            continue
        words = 1 if task.kind in ("accumulate", "load") else program.word_count(task)
        depth = 1
        for reader in program.tasks:
            for operand in (o for step in reader.steps for o in step.operands):
                is_sum = operand.source == "accumulator" and bool(operand.back)
                same = (operand.name, reader.unit) == (task.tensor, task.unit)
                if same and (operand.source == "register" or is_sum):
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
    used = {
        leaf
        for e in program.cascade.einsums
        for v in e.variables
        for leaf in _leaves(program.placed, v)
    }
    for whole, parts in program.partitions:
        inner = [part for part in parts[1:] if part.lower() not in (program.rows, program.cols)]
        covered = prod(program.sizes[part] for part in parts)
        if parts[-1] in used & set(inner) and covered != program.sizes[whole]:
            what = f"{whole} = {program.sizes[whole]} does not divide into tiles of "
            what += f"{program.sizes[parts[-1]]}, and {parts[-1].lower()} is not spread over PEs"
            hint = f"take a tile of {parts[-1]} that divides it"
            yield program.placed.mapping.problem(("tiles", parts[-1]), what, hint)
        spread = [part for part in parts[:-1] if part.lower() in (program.rows, program.cols)]
        if spread and covered != program.sizes[whole]:
            split = " x ".join(f"{part} = {program.sizes[part]}" for part in parts)
            what = f"{whole} = {program.sizes[whole]} is not {split}, and {spread[0].lower()}, "
            what += "which is spread over PEs, is not its last part"
            hint = f"take sizes whose product is {whole}"
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
            wide = program.writer(register).kind == "accumulate"
            bits = ACCUMULATOR_BITS if wide else program.architecture.word_bits
            needed += register.words * register.depth * bits
            parts.append(f"{register.tensor} {register.words} x {register.depth} x {bits} bit")
    for task in program.tasks:
        for step in task.steps:
            if step.operator == "load":
                needed += program.architecture.word_bits
                parts.append(f"{step.operands[0].name} {program.architecture.word_bits} bit")
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


__all__ = ["Body", "Item", "lower", "lower_placed", "lower_whole"]
