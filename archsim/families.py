"""Points of a family, simulated: one Program, one walk through its tiles, many speeds of memory."""

from __future__ import annotations

from dataclasses import replace

from archsim import engine
from archsim.chain import Chain
from archsim.engine import Prepared
from archsim.lowering import lower_placed
from archsim.placement import Placed, placed_on
from archsim.ports import ports_asked
from archsim.program import Program
from archsim.reporting import Report, Steady
from archsim.simulated_reports import report, steady_of
from archsim.simulation import simulate_tiles
from archsim.tile_tables import NotCountableError
from archsim.timeline import ChainTimeline, Timeline


class Simulated:
    """What points of a family have in common once they are simulated."""

    def __init__(self, placed: Placed) -> None:
        """Lower the first point of a family."""
        # A Program, or those of several phases, and what the engine prepared for each.
        self.lowered = lower_placed(placed)
        count = len(self.lowered.programs) if isinstance(self.lowered, Chain) else 1
        self.known: tuple[dict[int, Prepared], ...] = tuple({} for _ in range(count))
        self.steady: Steady | None = None

    def report(self, placed: Placed, level: str, accounting: str) -> Report:
        """Simulate a point of the family.

        Raises:
            ArchError: a deadlock, an overflow, or a unit that asks the buffer for too much.
        """
        timeline = self._simulated(placed)
        if self.steady is None:
            phases = timeline.phases if isinstance(timeline, ChainTimeline) else (timeline,)
            for phase in phases:
                ports_asked(phase)
            self.steady = steady_of(timeline, accounting)
        return report(timeline, level, accounting, self.steady)

    def _simulated(self, placed: Placed) -> Timeline | ChainTimeline:
        if isinstance(self.lowered, Program):
            return _run(replace(self.lowered, placed=placed), self.known[0])
        programs = tuple(
            replace(program, placed=placed_on(program.placed, placed.architecture))
            for program in self.lowered.programs
        )
        chain = replace(self.lowered, placed=placed, programs=programs)
        return ChainTimeline(chain, tuple(map(_run, programs, self.known)))


def _run(program: Program, known: dict[int, Prepared]) -> Timeline:
    """Run in the fast engine whatever it can run: nobody asks for the facts of a short run."""
    try:
        return engine.run_program(program, known)
    except (NotCountableError, engine.FailedError):
        return simulate_tiles(program)
