"""Programs one after the other: the phases of a mapping that has several.

A phase starts when everything of the phase before is over, its stores included: what lies between
is in the outer memory. So cycles, idle slots, traffic and energy add up.
"""

from __future__ import annotations

from dataclasses import dataclass

from archsim.placement import Placed
from archsim.program import Program


@dataclass(frozen=True, repr=False)
class Chain:
    """The Programs of a cascade's phases, in order; `placed` is the cascade as a whole."""

    placed: Placed
    programs: tuple[Program, ...]

    @property
    def name(self) -> str:
        """What runs where, in words."""
        placed = self.placed
        return f"{placed.cascade.name} on {placed.architecture.name} through {placed.mapping.name}"

    def __repr__(self) -> str:
        """Name it; `print` shows it whole."""
        return f"<Chain {self.name}>"

    def __str__(self) -> str:
        """Print the Programs like assembly, each with what passes to and from it."""
        texts = [f"chain {self.name}"]
        for number, program in enumerate(self.programs, 1):
            cascade = program.cascade
            reads, gives = ", ".join(cascade.inputs), ", ".join(cascade.outputs)
            texts.append(f"phase {number}: {reads} -> {gives}\n{program}")
        return "\n\n".join(texts)


__all__ = ["Chain"]
