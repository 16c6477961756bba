"""What is known about a tensor during the pass analysis of one root fiber.

The fiber is all elements of a root tensor along one rank (or along all parts of a split rank), at
fixed coordinates of the root's other ranks. A tensor that depends on the fiber has `Piece`s: each
says in which sweep its elements are known, along which of its axes it still follows the fiber, and
for which coordinates of the fixed ranks it depends on the fiber at all.

Levels count half sweeps: 2k is "known in sweep k, when the sweep is at its position", 2k+1 is
"known when sweep k has covered the whole fiber". A `Component` ties a value to positions of the
fiber: all parts of the rank (an element of full resolution) or outer parts only (one value a tile).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

INFINITE = 1 << 60
# Homes: for each part of the analysed rank the axes (or variables) that follow it.
Home = tuple[tuple[str, frozenset[str]], ...]
# Coordinates of a fixed rank, relative to the fiber's, for which a piece holds.
Interval = tuple[int, int]
# Stands for the fiber's own coordinate among the names of a region.
CENTRE = "*"
EVERYWHERE: Interval = (-INFINITE, INFINITE)


@dataclass(frozen=True, slots=True)
class Component:
    """A tie to the fiber: which axes follow which parts, since which level, and how it covers.

    `direction` is 0 for single positions, 1 for everything up to a position, -1 for everything
    from it on; that position is the axis or variable plus `shift`, None if nobody knows. `form`
    tells how a position is computed if it does not stay near its variable, such as `m//2`.
    """

    home: Home
    level: int
    direction: int = 0
    shift: int | None = 0
    form: str = ""

    @property
    def names(self) -> frozenset[str]:
        """All axes or variables of the home."""
        return frozenset(name for _, names in self.home for name in names)


@dataclass(frozen=True, slots=True)
class Piece:
    """What holds for one region of a tensor's coordinates."""

    level: int
    components: tuple[Component, ...]
    # Interval for each (fixed rank, axis or variable) that restricts it.
    region: tuple[tuple[tuple[str, str], Interval], ...] = ()
    # How it came to its level: the reads and barriers so far.
    trace: tuple[str, ...] = field(default=(), compare=False)


def after_sweep(level: int) -> int:
    """Level of a value that needs the whole sweep in which its operands are known."""
    return level // 2 * 2 + 1


def next_visit(level: int) -> int:
    """Level at which a position of the fiber can be visited together with a value of `level`."""
    return level + level % 2


def merge(components: Iterable[Component]) -> tuple[Component, ...]:
    """Drop ties that another one implies: a tile's value beside an element of that tile."""
    different = set(components)
    if len(different) < 2:
        return tuple(different)
    kept: list[Component] = []
    for one in sorted(different, key=_strength):
        home = dict(one.home)
        implied = any(
            other.level >= one.level
            and all(dict(other.home).get(part) == names for part, names in home.items())
            and _reaches(other, one)
            for other in kept
        )
        if not implied:
            kept.append(one)
    return tuple(sorted(kept, key=_place))


def _strength(component: Component) -> tuple[int, int, bool, bool, int]:
    reach = (component.shift or 0) * component.direction
    return (
        -len(component.home),
        -component.level,
        component.direction == 0,
        component.shift is None,
        -reach,
    )


def _place(component: Component) -> tuple[int, list[str], int, int, int]:
    shift = INFINITE if component.shift is None else component.shift
    names = sorted(component.names)
    return -len(component.home), names, component.level, component.direction, shift


def _reaches(strong: Component, weak: Component) -> bool:
    """True if a tie covers what another one of the same home covers."""
    if weak.direction not in (0, strong.direction) or weak.form != strong.form:
        return False
    if weak.shift is None or weak.shift == strong.shift:
        return True
    if strong.shift is None or not weak.direction:
        return False
    return (strong.shift - weak.shift) * weak.direction > 0


def rename(component: Component, names: Mapping[str, str]) -> Component | None:
    """Follow a component from variables to axes (or back); None if it follows nothing there."""
    home = []
    for part, following in component.home:
        there = frozenset(names[name] for name in following if name in names)
        if there:
            home.append((part, there))
    if not home:
        return None
    level, direction = component.level, component.direction
    return Component(tuple(home), level, direction, component.shift, component.form)


def without_shift(component: Component) -> Component:
    """The same tie at an unknown distance from its variable."""
    return Component(component.home, component.level, component.direction, None, component.form)


def prune(pieces: Iterable[Piece]) -> tuple[Piece, ...]:
    """Drop pieces that another one dominates: at least its level and ties, for all its region."""
    kept: list[Piece] = []
    ordered = sorted(
        dict.fromkeys(pieces), key=lambda p: (-p.level, -len(p.components), len(p.region))
    )
    for piece in ordered:
        if not any(_dominates(other, piece) for other in kept):
            kept.append(piece)
    return tuple(kept)


def _dominates(strong: Piece, weak: Piece) -> bool:
    if strong.level < weak.level:
        return False
    wide = dict(weak.region)
    for key, (low, high) in strong.region:
        inner_low, inner_high = wide.get(key, EVERYWHERE)
        if inner_low < low or inner_high > high:
            return False
    return all(
        any(
            mine.home == theirs.home and mine.level >= theirs.level and _reaches(mine, theirs)
            for mine in strong.components
        )
        for theirs in weak.components
    )
