"""What one PE or lane does in each slot of a task, and what its unit asks of the buffer.

One rule gives the table of docs/energy.md from the steps of a Program and where their operands are:

- An operator causes the energy actions of its row, evenly over its slots.
- In an operator of one slot every operand in a register is read, its start value included, and the
  result is written, unless it passes down the column. In a longer one, such as exp, each slot reads
  the running value and the argument and writes once, and the first writes the split range as well.
- A word from the left or from above is one hop; slots of a longer operator take their coefficient
  from the left. Lanes have no neighbours.
- One slot asks the buffer for one row vector (a word for each row, or each column) where an operand
  comes from there, or a result goes there. What stays while a task goes through its words is asked
  for once a tile, ahead: it costs energy and no port of these slots.

A tensor of the lanes is in the buffer if the mapping holds it there and does not forward it; one
that PEs hold never is, since the buffer gives a vector a slot. Outputs go through it to memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import prod

from archsim.program import Operand, Program, Step, Task

# Where a PE finds words of its neighbours.
NEIGHBOURS = ("left", "top", "flow", "returned")


@dataclass(frozen=True, slots=True)
class Row:
    """An access of the buffer: a vector of `words` words of a tensor."""

    tensor: str
    # "read" or "write".
    way: str
    words: int


@dataclass(frozen=True, slots=True)
class Slot:
    """What one PE or lane does in a slot, and what the unit asks of the buffer in it."""

    # The row of the array's table, the function, and the slot within it.
    operator: str
    function: str
    part: int
    # Energy actions; where PEs take turns (a drain, a load), the mean over the slots of a tile.
    actions: tuple[tuple[str, Fraction], ...]
    reads: Fraction
    writes: Fraction
    hops: int
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class TaskActions:
    """The slots of one word of a task, and what it asks of the buffer once a tile, ahead."""

    task: Task
    slots: tuple[Slot, ...]
    ahead: tuple[Row, ...]

    @property
    def ports(self) -> tuple[int, ...]:
        """Row vectors that each slot of a word asks for."""
        return tuple(len(slot.rows) for slot in self.slots)


@dataclass(frozen=True, slots=True)
class Count:
    """Actions of one task in a whole run, of PEs that hold points."""

    executions: int
    reads: int
    writes: int
    hops: int


def actions_of(program: Program, task: Task) -> TaskActions:
    """The actions of a task, slot by slot of a word."""
    if task.name not in program.found:
        program.found[task.name] = _actions(program, task)
    found: TaskActions = program.found[task.name]
    return found


def _actions(program: Program, task: Task) -> TaskActions:
    slots: list[Slot] = []
    ahead: list[Row] = []
    asked: set[Operand] = set()
    for number, step in enumerate(task.steps):
        is_last = number == len(task.steps) - 1
        rows = []
        for operand in step.operands:
            if operand in asked or not _is_from_buffer(program, task, operand):
                continue
            asked.add(operand)
            row = Row(operand.name, "read", program.shape[0 if operand.source == "left" else 1])
            if _streams(program, task, operand):
                rows.append(row)
            else:
                own = _variables(program, operand.name)
                ahead += [row] * prod(program.sizes[v.upper()] for v in task.words if v in own)
        length = program.cost(task, step)[0]
        for part in range(length):
            here = rows if part == 0 or step.operator == "load" else []
            if is_last and part == length - 1 and _is_to_buffer(program, task):
                here = [*here, Row(task.tensor, "write", program.shape[1])]
            slots.append(_slot(program, task, step, part, is_last, tuple(here)))
    return TaskActions(task, tuple(slots), tuple(ahead))


def _slot(
    program: Program, task: Task, step: Step, part: int, is_last: bool, rows: tuple[Row, ...]
) -> Slot:
    in_array = task.unit == program.array.name
    cost = (program.array if in_array else program.lanes).cost(step.operator)
    length = program.cost(task, step)[0]
    actions = tuple(
        (action, Fraction(number, length)) for action, number in (cost.actions if cost else ())
    )
    hops = sum(o.source in NEIGHBOURS for o in step.operands) if in_array and part == 0 else 0
    if step.operator == "load":
        # The PEs of one row take a word in each slot, and all pass words on.
        reads, writes, hops = Fraction(0), Fraction(1, length), 1
    elif length > 1:
        reads, writes = Fraction(2), Fraction(1 if part else 2)
        hops += in_array
    else:
        read = [o for o in step.operands if _is_in_register(program, task, o)]
        passes_down = is_last and task.goes == "landing"
        # In each slot of a drain or load the PEs of one row act, and all pass words on.
        share = program.word_count(task) if task.kind in ("drain", "load") else 1
        reads, writes = Fraction(len(read), share), Fraction(0 if passes_down else 1, share)
    return Slot(step.operator, step.function, part, actions, reads, writes, hops, rows)


def _is_in_register(program: Program, task: Task, operand: Operand) -> bool:
    """True if a PE or lane finds an operand in its registers; what streams by is in none."""
    if operand.source not in ("register", "accumulator", "temporary"):
        return False
    return not (_is_from_buffer(program, task, operand) and _streams(program, task, operand))


def _is_from_buffer(program: Program, task: Task, operand: Operand) -> bool:
    """True if a task takes an operand from the buffer."""
    if operand.name not in program.buffered:
        return False
    if operand.access is not None:
        return True
    # Words of the other unit come through FIFOs, those of PEs stay where they are.
    forwarded = dict(program.placed.mapping.forwarded).get(operand.name, ())
    is_forwarded = all(name in forwarded for name in task.name.split("+"))
    return operand.source == "register" and task.unit == program.lanes.name and not is_forwarded


def _is_to_buffer(program: Program, task: Task) -> bool:
    """True if what a task makes goes to the buffer."""
    read = {read.tensor for einsum in program.cascade.einsums for read in einsum.reads}
    is_held = task.tensor in program.buffered and task.tensor in read
    return task.unit == program.lanes.name and (is_held or task.goes == "output")


def _streams(program: Program, task: Task, operand: Operand) -> bool:
    """True if an operand is another one for every word of a task."""
    return set(task.words) <= _variables(program, operand.name)


def _variables(program: Program, tensor: str) -> set[str]:
    ranks = [rank for rank in program.cascade.tensor(tensor).ranks if rank]
    return {leaf.lower() for rank in ranks for leaf in program.placed.tiling.leaves(rank)}


__all__ = ["Count", "Row", "Slot", "TaskActions", "actions_of"]
