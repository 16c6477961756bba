"""Actions of a whole run, and their energy: the actions of each slot times what a timeline counted.

A Program's slots say what a PE does, a run how many PE-slots there were; fetched bytes fill the
buffer and stored ones leave it, and both cost accesses of the outer memory. Nothing here depends on
when anything happened, so sums over a run are enough.

Placement formulas (`energy`) count the same where tiles are full. A row vector is asked for whole,
though, also where a tile does not fill it; outputs pass through the buffer; and Einsums that one
task computes in one go are one multiply-accumulate. tests/test_actions.py shows it.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from archsim.actions import Count, Row, TaskActions, actions_of
from archsim.energy import Spent, action_pj, buffer_pj
from archsim.operator_counts import kind_of
from archsim.program import Program
from archsim.timeline import Timeline


def count_actions(timeline: Timeline) -> dict[str, Count]:
    """Executions, register accesses and hops of each task that was issued, over a run."""
    found = {}
    for actions, each, _ in _issued(timeline):
        slots = actions.slots
        found[actions.task.name] = Count(
            len(slots) * each,
            _whole(sum((slot.reads for slot in slots), Fraction(0)) * each),
            _whole(sum((slot.writes for slot in slots), Fraction(0)) * each),
            sum(slot.hops for slot in slots) * each,
        )
    return found


def spend(timeline: Timeline) -> tuple[Spent, ...]:
    """The energy of a run by component, task or moved tensor, and slot of a task or move.

    None for an architecture without an energy table.

    Raises:
        ArchError: an action that the architecture's energy table lacks.
    """
    program = timeline.program
    if not program.architecture.energy_pj:
        return ()
    spent: list[Spent] = []
    for actions, each, issues in _issued(timeline):
        spent += _in_units(program, actions, each)
        name = actions.task.name
        for number, slot in enumerate(actions.slots):
            words = issues // len(actions.slots)
            spent += _in_buffer(program, slot.rows, words, name, _micro_op(actions, number))
        tiles = issues // program.slots(actions.task)
        spent += _in_buffer(program, actions.ahead, tiles, name, _micro_op(actions, 0))
    return (*spent, *_moved(timeline))


def _issued(timeline: Timeline) -> Iterator[tuple[TaskActions, int, int]]:
    """Each task that was issued: its actions, PE-slots of one slot of a word, and issue slots."""
    program, totals = timeline.program, timeline.totals
    for task in program.tasks:
        issues = totals.slots[task.unit].get(task.name, 0)
        if issues:
            each, rest = divmod(totals.active[task.unit][task.name], program.slots_of_word(task))
            assert rest == 0
            yield actions_of(program, task), each, issues


def _whole(number: Fraction) -> int:
    assert number.denominator == 1, number
    return number.numerator


def _micro_op(actions: TaskActions, number: int) -> str:
    """A slot of a task as reports name it: SLN[0] sub."""
    return f"{actions.task.name}[{number}] {actions.slots[number].function}"


def _in_units(program: Program, actions: TaskActions, each: int) -> Iterator[Spent]:
    task = actions.task
    unit = program.array if task.unit == program.array.name else program.lanes
    hop_pj = dict(program.architecture.energy_pj).get("hop")
    for number, slot in enumerate(actions.slots):
        name = _micro_op(actions, number)
        for action, amount in slot.actions:
            total = amount * each
            pj = float(total) * action_pj(program.architecture, action)
            component = f"{unit.name}.{kind_of(slot.operator, action)}"
            yield Spent(component, task.name, total, pj, name)
        read, written = slot.reads * each, slot.writes * each
        pj = float(read) * unit.register_read_pj + float(written) * unit.register_write_pj
        yield Spent(f"{unit.name}.registers", task.name, read + written, pj, name)
        if hop_pj is not None:
            hops = Fraction(slot.hops * each)
            yield Spent(f"{unit.name}.hops", task.name, hops, float(hops) * hop_pj, name)


def _in_buffer(
    program: Program, rows: tuple[Row, ...], times: int, cause: str, micro_op: str
) -> Iterator[Spent]:
    buffer = program.architecture.buffer
    if buffer is None or buffer.capacity_bytes is None:
        return
    price = buffer_pj(buffer)
    for row in rows:
        bits = row.words * program.architecture.word_bits
        number = Fraction(bits * times, buffer.width_bits)
        name = f"{buffer.name}.{row.way}"
        yield Spent(name, cause, number, float(number) * price[row.way], micro_op)


def _moved(timeline: Timeline) -> Iterator[Spent]:
    """What crosses the outer memory's boundary, on both of its sides."""
    program = timeline.program
    architecture, through = program.architecture, program.buffered
    buffer, outer = architecture.buffer, architecture.outer
    each = dict(architecture.energy_pj).get("dram", 0.0)
    for move in program.moves:
        bits = 8 * timeline.totals.moved.get(move.name, 0)
        accesses = Fraction(bits, outer.width_bits)
        yield Spent(outer.name, move.tensor, accesses, float(accesses) * each, move.name)
        is_fetch = move.kind == "fetch"
        if (
            buffer is None
            or buffer.capacity_bytes is None
            or (is_fetch and move.tensor not in through)
        ):
            continue
        way = "write" if is_fetch else "read"
        rows = Fraction(bits, buffer.width_bits)
        pj = float(rows) * buffer_pj(buffer)[way]
        yield Spent(f"{buffer.name}.{way}", move.tensor, rows, pj, move.name)


__all__ = ["count_actions", "spend"]
