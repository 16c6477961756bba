"""The closed forms of papers, for comparison with the papers only.

A mapping carries its form as formulas over the cycles of Einsums; those cycles come from the
cascade, the mapping and the operator table. Nothing here knows a configuration by name. The time
of a phase is the longer of computing and moving its traffic at full bandwidth (one roofline for
the phase), and phases follow each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from archsim.errors import ArchError
from archsim.formulas import compute
from archsim.placement import Phase, Placed
from einsum_cascade.expressions import Expr


@dataclass(frozen=True, slots=True)
class Estimate:
    """Time and traffic of all heads. `cycles` is exact and may be a fraction."""

    cycles: Fraction
    read_bytes: tuple[tuple[str, Fraction], ...]
    write_bytes: tuple[tuple[str, Fraction], ...]
    bottleneck: str


def published(placed: Placed) -> Estimate:
    """Evaluate the mapping's closed form; ArchError if it has none."""
    mapping, form = placed.mapping, placed.mapping.published
    if form is None:
        what = f"{mapping.name} has no published closed form"
        raise ArchError(mapping.problem(("name",), what, "use --level bound"))
    names = {
        name: value for name, value in placed.tiling.names if name in ("ROWS", "COLS", "LANES")
    }
    phases = []
    for work in placed.work:
        names[work.einsum] = names.get(work.einsum, Fraction(0)) + work.slots
    for phase, formula in zip(placed.phases, form.cycles, strict=True):
        if form.read or form.write:
            phase = Phase(
                phase.work,
                _words(placed, form.read, "read"),
                _words(placed, form.write, "write"),
            )
        cycles = compute(formula, names, mapping.place("published", "cycles"))
        phases.append((phase, cycles * placed.batch))
    return total(placed, phases)


def _words(
    placed: Placed, formulas: tuple[tuple[str, Expr], ...], way: str
) -> tuple[tuple[str, Fraction], ...]:
    names = dict(placed.tiling.names)
    found = []
    for tensor, formula in formulas:
        place = placed.mapping.place("published", "traffic", way, tensor)
        words = compute(formula, names, place)
        if words:
            found.append((tensor, words))
    return tuple(found)


def total(placed: Placed, phases: list[tuple[Phase, Fraction]]) -> Estimate:
    """Add up phases given with their compute cycles, each against its traffic."""
    architecture = placed.architecture
    rate = architecture.outer.bandwidth_bytes_per_s
    assert rate is not None
    scale = Fraction(architecture.word_bits, 8) * placed.batch
    cycles = Fraction(0)
    by_cause: dict[str, Fraction] = {}
    read: dict[str, Fraction] = {}
    write: dict[str, Fraction] = {}
    for phase, compute_cycles in phases:
        moving = phase.words * scale * architecture.clock_hz / rate
        longest = max(compute_cycles, moving)
        cause = architecture.outer.name if moving > compute_cycles else _busiest(placed, phase)
        by_cause[cause] = by_cause.get(cause, Fraction(0)) + longest
        cycles += longest
        for table, entries in ((read, phase.read), (write, phase.write)):
            for tensor, words in entries:
                table[tensor] = table.get(tensor, Fraction(0)) + words * scale
    bottleneck = max(by_cause, key=lambda cause: by_cause[cause])
    return Estimate(cycles, tuple(read.items()), tuple(write.items()), bottleneck)


def _busiest(placed: Placed, phase: Phase) -> str:
    arrays = [array.name for array in placed.architecture.arrays]
    return max(arrays, key=phase.slots_on)
