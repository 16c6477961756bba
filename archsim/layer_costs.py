"""What a layer of neighbourhood attention costs on an array, before anybody has run it.

A Program with a table of blocks does the same for every tile, for every query tile and for every
key tile that it fetches, so slots, bytes and energy are sums over four numbers. Energy and traffic
are exact; cycles are a lower bound, since what a run waits for shows only when it runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, prod

from archsim.action_counts import spend
from archsim.program import Program
from archsim.timeline import Timeline, Totals


@dataclass(frozen=True, slots=True)
class Visits:
    """What a layer's table adds up to, for one head."""

    # Tiles, query tiles, pairs of a query and a key that PEs compute, key tiles fetched.
    tiles: int
    lines: int
    kept: int
    loads: int


@dataclass(frozen=True, slots=True)
class LayerCosts:
    """Costs of each number of `Visits`; heads included."""

    # By unit: slots of a tile, and of a query tile.
    slots: tuple[tuple[int, int], ...]
    # Cycles at full bandwidth of a fetched key tile, and of the rest of a query tile.
    load_cycles: Fraction
    line_cycles: Fraction
    # Energy of a tile without its pairs, of a query tile, of a pair, of a fetched key tile.
    tile_pj: float
    line_pj: float
    kept_pj: float
    load_pj: float

    def cycles(self, visits: Visits) -> int:
        """Cycles that no order of issue can beat: those of the busiest unit, or of the memory."""
        busy = max(tile * visits.tiles + line * visits.lines for tile, line in self.slots)
        moving = visits.loads * self.load_cycles + visits.lines * self.line_cycles
        return max(busy, ceil(moving))

    def energy_pj(self, visits: Visits) -> float:
        """Energy of all actions."""
        return (
            self.tile_pj * visits.tiles
            + self.line_pj * visits.lines
            + self.kept_pj * visits.kept
            + self.load_pj * visits.loads
        )


def layer_costs(program: Program) -> LayerCosts:
    """Work out the costs of all layers with this Program's tiles: only their tables differ."""
    batch, chip = program.placed.batch, program.architecture
    slots = []
    for body in program.bodies:
        tasks = [task for task in program.tasks if task.unit == body.unit]
        always = sum(program.slots(task) for task in tasks if not task.when)
        slots.append((always * batch, (sum(map(program.slots, tasks)) - always) * batch))

    def bytes_of(visits: Visits) -> int:
        return sum(count(program, visits).moved.values())

    def pj_of(visits: Visits) -> float:
        timeline = Timeline(program, (), 0, (), count(program, visits))
        return sum(one.pj for one in spend(timeline))

    rate = chip.outer.bandwidth_bytes_per_s
    assert rate is not None
    cycles_of_byte = Fraction(chip.clock_hz) / rate
    one_tile, one_line, one_load = Visits(1, 0, 0, 0), Visits(0, 1, 0, 0), Visits(0, 0, 0, 1)
    return LayerCosts(
        tuple(slots),
        bytes_of(one_load) * cycles_of_byte,
        bytes_of(one_line) * cycles_of_byte,
        tile_pj=pj_of(one_tile),
        line_pj=pj_of(one_line),
        # Pairs are computed in tiles.
        kept_pj=pj_of(Visits(1, 0, 1, 0)) - pj_of(one_tile),
        load_pj=pj_of(one_load),
    )


def count(program: Program, visits: Visits) -> Totals:
    """What a run of a Program with another table would count, without what depends on time."""
    assert program.blocks is not None
    batch, sizes = program.placed.batch, program.sizes
    slots: dict[str, dict[str, int]] = {body.unit: {} for body in program.bodies}
    active: dict[str, dict[str, int]] = {body.unit: {} for body in program.bodies}
    for task in program.tasks:
        in_array, each = task.unit == program.array.name, program.slots(task) * batch
        # What happens once for each query tile happens in the lanes.
        assert not (in_array and task.when), task.name
        times = visits.lines if task.when else visits.tiles
        pes = visits.kept if in_array else times * sizes[program.cols.upper()]
        slots[task.unit][task.name], active[task.unit][task.name] = each * times, each * pes
    word_bytes = program.architecture.word_bits // 8
    moved = {}
    for move in program.moves:
        times = visits.loads if program.blocks.inner in move.loops else visits.lines
        words = prod(sizes[variable.upper()] for variable in move.words)
        moved[move.name] = words * word_bytes * times * batch
    return Totals(slots, active, {}, moved, 0)


__all__ = ["LayerCosts", "Visits", "count", "layer_costs"]
