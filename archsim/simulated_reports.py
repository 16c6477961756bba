"""Reports of simulated runs: what a timeline says of time, the placement of bytes and energy."""

from __future__ import annotations

from fractions import Fraction

from archsim.action_counts import spend
from archsim.energy import energy
from archsim.estimate import Estimate, added
from archsim.formulas import Exact
from archsim.granules import TICKS
from archsim.lower_bound import compute_cycles
from archsim.placement import Placed
from archsim.ports import ports_asked
from archsim.reporting import Report, Steady, area_of, assembled
from archsim.timeline import ChainTimeline, Timeline, busy_by_task, busy_slots, stalls


def report(
    timeline: Timeline | ChainTimeline,
    level: str = "tile",
    accounting: str = "consistent",
    steady: Steady | None = None,
) -> Report:
    """Report a simulated run; phases add up.

    Energy in `consistent` accounting is that of its actions, also by micro-op; in `paper`
    accounting that of the placement, as at every level. Who reports many runs may give what is
    `steady` over them.
    """
    placed, phases = _phases(timeline)
    busy: dict[str, dict[str, int]] = {}
    stalled: dict[str, dict[str, int]] = {}
    for phase in phases:
        for table, counted in ((busy, busy_by_task(phase)), (stalled, stalls(phase))):
            for unit, counts in counted.items():
                total = table.setdefault(unit, {})
                for name, slots in counts.items():
                    total[name] = total.get(name, 0) + slots
    found = added([_simulated(phase) for phase in phases])
    steady = steady or steady_of(timeline, accounting)
    return assembled(placed, found, level, accounting, busy, stalled, steady)


def steady_of(timeline: Timeline | ChainTimeline, accounting: str = "consistent") -> Steady:
    """What the report of a run has in common with those of other speeds of the outer memory."""
    placed, phases = _phases(timeline)
    spent = (
        tuple(one for phase in phases for one in spend(phase))
        if accounting == "consistent"
        else energy(placed, added([_simulated(phase) for phase in phases]), accounting)
    )
    ports = max((_ports(phase) for phase in phases), key=lambda ports: ports.get("asked", 0))
    return Steady(compute_cycles(placed), spent, area_of(placed.architecture, accounting), ports)


def _phases(timeline: Timeline | ChainTimeline) -> tuple[Placed, tuple[Timeline, ...]]:
    if isinstance(timeline, Timeline):
        return timeline.program.placed, (timeline,)
    return timeline.chain.placed, timeline.phases


def _simulated(timeline: Timeline) -> Estimate:
    """Time and traffic of one Program."""
    read: dict[str, Exact] = {}
    write: dict[str, Exact] = {}
    for move in timeline.program.moves:
        table = read if move.kind == "fetch" else write
        table[move.tensor] = timeline.totals.moved.get(move.name, 0)
    cycles = Fraction(timeline.cycles)
    return Estimate(cycles, tuple(read.items()), tuple(write.items()), _bottleneck(timeline))


def _ports(timeline: Timeline) -> dict[str, int]:
    """Row vectors asked of the buffer in one slot at most, and its ports."""
    buffer = timeline.program.architecture.buffer
    if buffer is None:
        return {}
    return {"asked": ports_asked(timeline), "available": buffer.ports}


def _bottleneck(timeline: Timeline) -> str:
    """What was busy for most of the time: a unit, or the memory channel."""
    busy = {unit: Fraction(slots) for unit, slots in busy_slots(timeline).items()}
    busy[timeline.program.architecture.outer.name] = Fraction(timeline.totals.ticks, TICKS)
    return max(busy, key=lambda name: busy[name])
