"""Does a tile in which a filter keeps no point change anything?

Such a tile hands on the identities of its reductions, -inf for max and 0 for sum. It can be left
out if every state is then what it was before: a running maximum, or a sum that is rescaled by
exp(RM - RM) = 1. That is tried out on the Einsums themselves, at their start values and at random
ones, and equality is exact.
"""

from __future__ import annotations

from collections.abc import Mapping as Lookup
from random import Random

from archsim.mapping import Mapping
from archsim.nest import Nest
from einsum_cascade.cascade import Cascade, Einsum, affine
from einsum_cascade.expressions import VARIABLE, Access, Apply, Expr, Name, Number, to_text
from einsum_cascade.operators import REDUCTIONS

# Random states that are tried out, besides the start values.
TRIALS = 8


class UnknownError(Exception):
    """An expression has a value that is not known here."""


def constant(expr: Expr, known: Lookup[str, float | None]) -> float:
    """The value of an expression of numbers, shapes and parameters; UnknownError for any other."""
    match expr:
        case Number(value=value):
            return float(value)
        case Name(name=name) if not VARIABLE.match(name):
            found = known.get(name)
            if found is None:
                raise UnknownError(f"{name} has no value")
            return float(found)
        case Apply(operator=operator, arguments=arguments):
            return _applied(operator, [constant(argument, known) for argument in arguments])
    raise UnknownError(to_text(expr))


def changes_nothing(
    cascade: Cascade,
    mapping: Mapping,
    nest: Nest,
    cut: frozenset[str],
    known: Lookup[str, float | None],
) -> bool:
    """True if no state and no output depends on whether tiles without points are visited.

    Args:
        cascade: the Einsums.
        mapping: where they run; what is computed at load is an input here.
        nest: the tiles, with what fills the rows.
        cut: Einsums that are empty at all points of such a tile.
        known: sizes and parameters.
    """
    einsums = [e for e in cascade.einsums if not e.is_initial]
    along_rows = {variable for variable, _ in nest.rows.steps}
    if any(cascade.tensor(e.name).role == "output" and along_rows & set(e.left) for e in einsums):
        return False
    where = dict(mapping.placements)
    running = [e for e in einsums if e.name not in cut and where[e.name].array is not None]
    starts = {e.name: e.map for e in cascade.einsums if e.is_initial}
    generator = Random(0)
    try:
        for trial in range(TRIALS + 1):
            states = {
                name: generator.gauss() if trial else constant(start, known)
                for name, start in starts.items()
            }
            tile = _EmptyTile(cascade, cut, running, states, known, generator)
            for einsum in running:
                if einsum.over:
                    return False
                after = tile.value(einsum.map)
                if einsum.name in states and after != states[einsum.name]:
                    return False
    except UnknownError:
        return False
    return True


def _applied(operator: str, values: list[float]) -> float:
    # Most sweeps at the levels of formulas come by here without any, and start without NumPy.
    from einsum_cascade.operator_values import VALUES

    return float(VALUES[operator](*values))


class _EmptyTile:
    """Values in such a tile: states before it, identities of reductions, anything for the rest."""

    def __init__(
        self,
        cascade: Cascade,
        cut: frozenset[str],
        running: list[Einsum],
        states: dict[str, float],
        known: Lookup[str, float | None],
        generator: Random,
    ) -> None:
        self.cascade, self.cut, self.states, self.known = cascade, cut, states, known
        self.made = {einsum.name: einsum for einsum in running}
        self.generator = generator
        self.given: dict[Access, float] = {}

    def value(self, expr: Expr) -> float:
        """The value of a map; UnknownError if it is not of this tile."""
        match expr:
            case Access():
                return self._read(expr)
            case Apply(operator=operator, arguments=arguments):
                return _applied(operator, [self.value(argument) for argument in arguments])
        return constant(expr, self.known)

    def _read(self, read: Access) -> float:
        if read.tensor in self.cut:
            maker = self.cascade.defining(read.tensor)[-1]
            return REDUCTIONS[maker.op or "sum"].identity
        if read.tensor not in self.made:
            if read not in self.given:
                self.given[read] = self.generator.gauss()
            return self.given[read]
        maker = self.made[read.tensor]
        if read.indices == maker.target.indices:
            return self.value(maker.map)
        if read.tensor in self.states and self._is_last(read, maker):
            return self.states[read.tensor]
        if not any(affine(index).variables == () for index in read.indices):
            raise UnknownError(f"{read} is of another tile")
        # The end of a recurrence: what is made of it is made once, behind all tiles.
        return self.states[read.tensor]

    @staticmethod
    def _is_last(read: Access, maker: Einsum) -> bool:
        """True for the value that the step before made."""
        steps = []
        for written, index in zip(maker.target.indices, read.indices, strict=True):
            made, used = affine(written), affine(index)
            if made.variables != used.variables or made.step is None or used.step is None:
                return False
            steps.append(made.step - used.step)
        return sorted(steps) == [0] * (len(steps) - 1) + [1]
