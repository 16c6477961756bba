"""Time and traffic of a placed cascade: phases of computing, each against its traffic.

The time of a phase is the longer of its compute cycles and moving its words at full bandwidth;
phases follow each other. Both the papers' closed forms and the lower bounds end here.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from archsim.formulas import Exact, quotient
from archsim.placement import Phase, Placed


@dataclass(frozen=True, slots=True)
class Estimate:
    """Time and traffic of all heads. `cycles` is exact and may be a fraction."""

    cycles: Fraction
    read_bytes: tuple[tuple[str, Exact], ...]
    write_bytes: tuple[tuple[str, Exact], ...]
    bottleneck: str


def total(placed: Placed, phases: list[tuple[Phase, Exact]]) -> Estimate:
    """Add up phases given with their compute cycles, each against its traffic."""
    architecture = placed.architecture
    rate = architecture.outer.bandwidth_bytes_per_s
    assert rate is not None
    bits = architecture.word_bits * placed.batch
    cycles = Fraction(0)
    by_cause: dict[str, Fraction] = {}
    read: dict[str, Exact] = {}
    write: dict[str, Exact] = {}
    for phase, compute_cycles in phases:
        moving = Fraction(phase.words * bits * architecture.clock_hz, 8 * rate)
        longest = max(compute_cycles, moving)
        cause = architecture.outer.name if moving > compute_cycles else _busiest(placed, phase)
        by_cause[cause] = by_cause.get(cause, Fraction(0)) + longest
        cycles += longest
        for table, entries in ((read, phase.read), (write, phase.write)):
            for tensor, words in entries:
                table[tensor] = table.get(tensor, 0) + quotient(words * bits, 8)
    bottleneck = max(by_cause, key=lambda cause: by_cause[cause])
    return Estimate(cycles, tuple(read.items()), tuple(write.items()), bottleneck)


def added(parts: list[Estimate]) -> Estimate:
    """Estimates one after the other; the bottleneck is that of most of the time."""
    read: dict[str, Exact] = {}
    write: dict[str, Exact] = {}
    by_cause: dict[str, Fraction] = {}
    for part in parts:
        by_cause[part.bottleneck] = by_cause.get(part.bottleneck, Fraction(0)) + part.cycles
        for table, entries in ((read, part.read_bytes), (write, part.write_bytes)):
            for tensor, amount in entries:
                table[tensor] = table.get(tensor, 0) + amount
    return Estimate(
        sum((part.cycles for part in parts), Fraction(0)),
        tuple(read.items()),
        tuple(write.items()),
        max(by_cause, key=lambda cause: by_cause[cause]),
    )


def _busiest(placed: Placed, phase: Phase) -> str:
    arrays = [array.name for array in placed.architecture.arrays]
    return max(arrays, key=phase.slots_on)
