"""What happened and when: facts about a run, and the views that follow from them.

A fact says that a task of a tile issued `count` micro-ops from slot `first`, `stride` apart; if
the unit was idle before any of them, `cause` is the constraint that held it back and `idle` for how
many slots in all. Slots count from 1 at column 0; a PE (r, c) is r row hops and c cycles later.
Utilization, stalls and pictures are functions of facts; nothing else is stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from archsim.chain import Chain
from archsim.program import Program

# Why a slot was idle, in the order in which ties are broken: the rules of docs/schedule.md.
CAUSES = (
    "register", "accumulator", "landing", "lane", "return", "memory", "reuse", "store", "drain",
    "end",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fact:
    """Micro-ops of one task in one tile, evenly apart."""

    unit: str
    task: str
    tile: int
    first: int
    count: int
    stride: int
    cause: str
    idle: int

    @property
    def slots(self) -> range:
        """The issue slots."""
        return range(self.first, self.first + self.count * self.stride, self.stride)


@dataclass(frozen=True)
class Totals:
    """Sums over a run, by unit and task or cause: what reports need of it."""

    # Issue slots by unit and task; the same times the PEs that hold points of the tile.
    slots: dict[str, dict[str, int]]
    active: dict[str, dict[str, int]]
    # Idle slots by unit and cause, without those behind the last issue.
    idle: dict[str, dict[str, int]]
    # Bytes by move, and ticks of 1/256 cycle in which the memory channel was busy.
    moved: dict[str, int]
    ticks: int


@dataclass(frozen=True)
class Timeline:
    """A run: its Program, its facts in order of issue within each unit, and what it took."""

    program: Program
    facts: tuple[Fact, ...]
    # Clock edges from the first issue to the last result, or to the end of the last store.
    cycles: int
    # Most words that waited at a time, by FIFO: RM@returned, SLNV@landing.
    occupancy: tuple[tuple[str, int], ...]
    totals: Totals

    def of(self, unit: str) -> tuple[Fact, ...]:
        """The facts of one unit."""
        return tuple(fact for fact in self.facts if fact.unit == unit)

    def slots(self, task: str, tile: int) -> tuple[int, ...]:
        """Issue slots of a task in a tile, in order."""
        found = (f.slots for f in self.facts if f.task == task and f.tile == tile)
        return tuple(sorted(slot for slots in found for slot in slots))


@dataclass(frozen=True)
class ChainTimeline:
    """A run of several Programs, one after the other: a timeline each."""

    chain: Chain
    phases: tuple[Timeline, ...]

    @property
    def cycles(self) -> int:
        """Clock edges of all phases; nothing of one overlaps with the next."""
        return sum(phase.cycles for phase in self.phases)


def count(program: Program, facts: tuple[Fact, ...], moved: dict[str, int], ticks: int) -> Totals:
    """Add up facts; what was moved is given."""
    units = [body.unit for body in program.bodies]
    slots: dict[str, dict[str, int]] = {unit: {} for unit in units}
    active: dict[str, dict[str, int]] = {unit: {} for unit in units}
    idle: dict[str, dict[str, int]] = {unit: {} for unit in units}
    for fact in facts:
        tile = program.tiles[fact.tile]
        pes = program.points(tile) if fact.unit == program.array.name else tile.cols
        for table, amount in ((slots, fact.count), (active, fact.count * pes)):
            by_task = table[fact.unit]
            by_task[fact.task] = by_task.get(fact.task, 0) + amount
        if fact.idle:
            causes = idle[fact.unit]
            causes[fact.cause] = causes.get(fact.cause, 0) + fact.idle
    return Totals(slots, active, idle, moved, ticks)


def busy_slots(timeline: Timeline) -> dict[str, int]:
    """Issue slots in use, by unit."""
    return {unit: sum(tasks.values()) for unit, tasks in timeline.totals.slots.items()}


def busy_by_task(timeline: Timeline) -> dict[str, dict[str, int]]:
    """Busy PE-slots of each unit by task: only PEs that hold points of the tile count."""
    return timeline.totals.active


def utilization(timeline: Timeline) -> dict[str, float]:
    """Busy PE-slots over PE-cycles, by unit."""
    program = timeline.program
    found = {}
    for unit, by_task in busy_by_task(timeline).items():
        array = program.architecture.array(unit)
        assert array is not None
        found[unit] = sum(by_task.values()) / (array.pes * timeline.cycles)
    return found


def stalls(timeline: Timeline) -> dict[str, dict[str, int]]:
    """Idle slots of each unit by cause; with the busy ones they add up to the cycles."""
    found = {}
    for unit, used in busy_slots(timeline).items():
        causes = {**dict.fromkeys(CAUSES, 0), **timeline.totals.idle[unit]}
        # After the last issue: waves cross the array, other units finish.
        causes["end"] = timeline.cycles - used - sum(causes.values())
        found[unit] = {cause: slots for cause, slots in causes.items() if slots}
    return found


def waterfall(timeline: Timeline, width: int = 96) -> str:
    """Draw each task of each tile as a bar over slots, one line each; wide runs are scaled."""
    last = max((fact.slots[-1] for fact in timeline.facts), default=0)
    scale = max(1, -(-last // width))
    lines = [f"slots 1 to {last}" + (f", {scale} to a character" if scale > 1 else "")]
    for body in timeline.program.bodies:
        lines.append(f"{body.unit}:")
        rows: dict[tuple[str, int], list[int]] = {}
        for fact in timeline.of(body.unit):
            rows.setdefault((fact.task, fact.tile), []).extend(fact.slots)
        for (task, tile), slots in sorted(rows.items(), key=lambda item: min(item[1])):
            bar = [" "] * -(-last // scale)
            for slot in slots:
                bar[(slot - 1) // scale] = "#"
            lines.append(f"  {task:10} {tile:4}  |{''.join(bar)}|")
    return "\n".join(lines)


def edges(timeline: Timeline, across: int = 10) -> str:
    """Draw what every PE and lane does at every clock edge; for small arrays and short runs."""
    program = timeline.program
    rows, cols = program.shape
    hop = program.architecture.latency.row_hop
    letters = {
        item.task: chr(ord("A") + i)
        for i, item in enumerate(item for body in program.bodies for item in body.items)
    }
    grid = [["." * cols for _ in range(timeline.cycles)] for _ in range(rows + 1)]
    for fact in timeline.facts:
        in_array = fact.unit == program.array.name
        for slot in fact.slots:
            for r in range(rows) if in_array else (rows,):
                for c in range(cols):
                    cycle = slot + c + (hop * r if in_array else 0)
                    line = grid[r][cycle - 1]
                    grid[r][cycle - 1] = line[:c] + letters[fact.task] + line[c + 1 :]
    lines = [", ".join(f"{letter}: {task}" for task, letter in letters.items())]
    for first in range(0, timeline.cycles, across):
        shown = range(first, min(first + across, timeline.cycles))
        lines += ["", "edge   " + " ".join(f"{cycle + 1:<{cols}}" for cycle in shown).rstrip()]
        for r, row in enumerate(grid):
            name = f"row {r}" if r < rows else "lanes"
            lines.append(f"{name:5}  " + " ".join(row[cycle] for cycle in shown))
    return "\n".join(lines)


def merge(unit: str, issued: Iterator[tuple[str, int, int, str, int]]) -> Iterator[Fact]:
    """Facts from micro-ops in order of issue, each (task, tile, slot, cause, idle slots before)."""
    open_: dict[tuple[str, int], list[Fact]] = {}
    for task, tile, slot, cause, idle in issued:
        run = open_.setdefault((task, tile), [])
        if run:
            last = run[-1]
            stride = slot - last.slots[-1]
            same = not idle or not last.idle or cause == last.cause
            if same and (last.count == 1 or stride == last.stride):
                why = cause if idle else last.cause
                run[-1] = Fact(
                    unit, task, tile, last.first, last.count + 1, stride, why, last.idle + idle
                )
                continue
        run.append(Fact(unit, task, tile, slot, 1, 1, cause if idle else "", idle))
    yield from sorted((f for run in open_.values() for f in run), key=lambda fact: fact.first)
