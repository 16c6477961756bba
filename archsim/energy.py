"""Energy and area: action counts times the reference tables of the architecture.

Actions follow from the cascade and the mapping. Every operator application causes the actions of
its row; a tensor that the buffer holds (or that passes through it) costs a row access for each row
of words read, written or filled; every word over the outer memory's boundary costs an access there;
every operator reads and writes registers of its PE.

Two accountings. `consistent` counts all of that. `paper` applies the defects that a mapping lists
for the paper it comes from, so that published totals can be matched; it exists only where a
mapping lists some.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from math import ceil, log2
from typing import NamedTuple

from archsim import sram
from archsim.arch import Architecture, Array, Memory
from archsim.errors import ArchError
from archsim.estimate import Estimate
from archsim.formulas import Exact, compute, quotient
from archsim.mapping import Defect
from archsim.on_chip import buffer_words
from archsim.outline import Job
from archsim.placement import Placed, Work
from einsum_cascade.errors import Problem, Source, legal_words

ACCOUNTINGS = ("consistent", "paper")


class Spent(NamedTuple):
    """Energy of one component for one Einsum or tensor, over all heads."""

    component: str
    # The Einsum that caused it, or the tensor that was moved.
    cause: str
    actions: Exact
    pj: float
    # The slot of a task, or the move, that it was spent in; known to simulations only.
    micro_op: str = ""


def energy(placed: Placed, estimate: Estimate, accounting: str = "consistent") -> tuple[Spent, ...]:
    """Return the energy of a placed cascade, by component and cause; none without a table.

    Raises:
        ArchError: an unknown accounting, `paper` for a mapping that lists no defects, or an action
            that the architecture's energy table lacks.
    """
    if not placed.architecture.energy_pj:
        return ()
    if accounting not in ACCOUNTINGS:
        hint = legal_words(accounting, ACCOUNTINGS, "accountings")
        raise ArchError(
            Problem(Source("accounting"), f"unknown accounting '{accounting}'", hint=hint)
        )
    form = placed.mapping.published
    if accounting == "paper" and (form is None or not form.defects):
        what = f"{placed.mapping.name} lists no paper's accounting"
        raise ArchError(placed.mapping.problem(("name",), what, "use --accounting consistent"))
    defects = form.defects if form is not None and accounting == "paper" else ()
    omitted = {name for defect in defects for name in defect.omits}
    alone = placed.stages or (placed,)
    kinds = (_operators, _registers, _buffer)
    spent = [one for kind in kinds for part in alone for one in kind(part)]
    spent += _memory(placed, estimate)
    if omitted:
        spent = [one for one in spent if one.component.rsplit(".", 1)[-1] not in omitted]
    return (*spent, *(one for defect in defects for one in _defect(placed, defect)))


def by_component(spent: tuple[Spent, ...]) -> dict[str, float]:
    """Add up energy by component."""
    return _add_up((one.component, one.pj) for one in spent)


def by_cause(spent: tuple[Spent, ...]) -> dict[str, float]:
    """Add up energy by Einsum or moved tensor."""
    return _add_up((one.cause, one.pj) for one in spent)


def by_micro_op(spent: tuple[Spent, ...]) -> dict[str, float]:
    """Add up energy by slot of a task, and by move."""
    return _add_up((one.micro_op, one.pj) for one in spent)


def _add_up(entries: Iterable[tuple[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for name, pj in entries:
        total[name] = total.get(name, 0.0) + pj
    return total


def _operators(placed: Placed) -> Iterator[Spent]:
    table = dict(placed.architecture.energy_pj)
    for work, job in _jobs(placed):
        for component, action, number in job.actions:
            actions = number * work.points * placed.batch
            each = table.get(action)
            pj = actions * (action_pj(placed.architecture, action) if each is None else each)
            yield Spent(component, work.einsum, actions, pj)


def _jobs(placed: Placed) -> Iterator[tuple[Work, Job]]:
    jobs = (job for part in placed.outline.parts for job in part.jobs)
    return zip(placed.work, jobs, strict=True)


def action_pj(architecture: Architecture, action: str) -> float:
    """Energy of one action; ArchError if the architecture's table lacks it."""
    table = dict(architecture.energy_pj)
    if action not in table:
        hint = legal_words(action, table, "actions of the energy table")
        raise ArchError(
            Problem(architecture.place("energy"), f"no energy for '{action}'", hint=hint)
        )
    return table[action]


def _registers(placed: Placed) -> Iterator[Spent]:
    arrays = {array.name: array for array in reversed(placed.architecture.arrays)}
    for work, job in _jobs(placed):
        if work.array is not None:
            array = arrays[work.array]
            reads, writes = (number * work.points for number in job.registers)
            pj = placed.batch * (reads * array.register_read_pj + writes * array.register_write_pj)
            total = (reads + writes) * placed.batch
            yield Spent(f"{array.name}.registers", work.einsum, total, pj)


def _buffer(placed: Placed) -> Iterator[Spent]:
    buffer = placed.architecture.buffer
    if buffer is None or buffer.capacity_bytes is None:
        return
    bits = placed.batch * placed.architecture.word_bits
    price = buffer_pj(buffer)
    for (cause, _, way), words in buffer_words(placed).items():
        rows = quotient(words * bits, buffer.width_bits)
        yield Spent(f"{buffer.name}.{way}", cause, rows, float(rows) * price[way])


def buffer_pj(buffer: Memory) -> dict[str, float]:
    """Energy of reading and of writing one row of a buffer; nothing for one without a size."""
    if buffer.capacity_bytes is None:
        return {"read": 0.0, "write": 0.0}
    size = (buffer.capacity_bytes, buffer.width_bits, buffer.ports, buffer.banks)
    return {"read": sram.read_pj(*size), "write": sram.write_pj(*size)}


def _memory(placed: Placed, estimate: Estimate) -> Iterator[Spent]:
    outer = placed.architecture.outer
    each = dict(placed.architecture.energy_pj).get("dram", 0.0)
    for tensor, amount in (*estimate.read_bytes, *estimate.write_bytes):
        actions = quotient(amount * 8, outer.width_bits)
        yield Spent(outer.name, tensor, actions, float(actions) * each)


def _defect(placed: Placed, defect: Defect) -> list[Spent]:
    names = dict(placed.tiling.names)
    if names.get("M", 0) < defect.from_keys:
        return []
    at = partial(placed.mapping.place, "published", "energy_defects")
    spent = []
    if defect.energy_pj is not None:
        pj = compute(defect.energy_pj, names, at) * placed.batch
        spent.append(Spent("as_counted_by_paper", defect.what, 1, float(pj)))
    buffer = placed.architecture.buffer
    if defect.buffer_reads is not None and buffer is not None and buffer.capacity_bytes:
        bits = (
            compute(defect.buffer_reads, names, at) * placed.batch * placed.architecture.word_bits
        )
        rows = quotient(bits, buffer.width_bits)
        each = sram.read_pj(buffer.capacity_bytes, buffer.width_bits, buffer.ports, buffer.banks)
        spent.append(Spent("as_counted_by_paper", defect.what, rows, float(rows) * each))
    return spent


def area(architecture: Architecture, accounting: str = "consistent") -> dict[str, float]:
    """Return the area of a chip by component, um^2.

    In `paper` accounting every register file is charged as 64 rows of 32 bits, whatever its depth,
    as the FuseMax artifact does; only its address generators follow the depth.
    """
    found = {
        array.name: array_area(architecture, array, accounting) for array in architecture.arrays
    }
    for memory in architecture.memories:
        if memory.capacity_bytes and memory.parent is not None:
            found[memory.name] = sram.area_um2(
                memory.capacity_bytes, memory.width_bits, memory.ports, memory.banks
            )
    return found


def array_area(architecture: Architecture, array: Array, accounting: str) -> float:
    """Area of an array: the units of its operators and a register file in every PE, and network."""
    table = dict(architecture.area_um2)
    units = dict.fromkeys(row.unit for row in array.operators)
    missing = [unit for unit in units if unit not in table]
    if missing and table:
        hint = legal_words(missing[0], table, "units of the area table")
        at = architecture.place("area")
        raise ArchError(Problem(at, f"no area for '{missing[0]}'", hint=hint))
    rows, bits = (
        (64, 32) if accounting == "paper" else (array.register_entries, array.register_bits)
    )
    register = (
        rows * bits * table.get("register_bit", 0.0)
        + rows * table.get("register_row", 0.0)
        + ceil(log2(max(1, array.register_entries))) * table.get("register_address", 0.0)
    )
    each = sum(table.get(unit, 0.0) for unit in units) + register
    columns = dict(array.axes).get("cols", 0)
    return array.count * (array.pes * each + columns * table.get("network", 0.0))
