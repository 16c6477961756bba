"""Where things are while loops are written: indices, and parts of ranks that loops run through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from einsum_cascade.compiled_presence import plus


@dataclass(frozen=True, slots=True)
class Index:
    """An index of an array; `is_unit` if it is the lane plus something."""

    text: str
    is_unit: bool = False
    # Variables in which it is not linear.
    bent: frozenset[str] = frozenset()
    # Text of whether it lies inside, for who reads before that is checked; none if it does.
    inside: str = ""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Variables that run through a part z <= v < y of their rank, and axes that have only that."""

    variables: tuple[str, ...] = ()
    axes: Mapping[str, frozenset[int]] = field(default_factory=dict)
    # Whether `again` says that a batch element before this one had the same empty elements.
    has_again: bool = False

    def start(self, variable: str) -> str:
        """Text of where a variable begins."""
        return f"z_{variable}" if variable in self.variables else "0"

    def at(self, variable: str, lane: str) -> str:
        """Text of a variable so many steps later."""
        return plus(self.start(variable), lane)

    def inside(self, variable: str) -> str:
        """Text of how many steps later it is now."""
        start = self.start(variable)
        return f"v_{variable}" if start == "0" else f"(v_{variable} - {start})"

    def count(self, variable: str, rank: str) -> str:
        """Text of how many steps it takes."""
        return f"(y_{variable} - z_{variable})" if variable in self.variables else f"n_{rank}"

    def range(self, variable: str, rank: str) -> str:
        """Text of arguments of range."""
        return f"z_{variable}, y_{variable}" if variable in self.variables else f"n_{rank}"
