"""Where the micro-ops of an Einsum find their operands.

An operand with the row variable alone comes from the left edge, one with the column variable alone
from the top, and one with both is in the PE's registers: made there, or loaded from the top first.
What another unit made comes through a FIFO; what an earlier tile made is in a register.
"""

from __future__ import annotations

from dataclasses import dataclass

from archsim.arch import Array
from archsim.placement import BATCH_RANKS, Placed
from archsim.program import Operand
from einsum_cascade.cascade import Affine, Einsum, affine
from einsum_cascade.expressions import VARIABLE, Access, Apply, Expr, Name, Number
from einsum_cascade.operator_values import VALUES


class RefusalError(Exception):
    """Why an Einsum can't be turned into tasks, and what to do; the caller adds the place."""

    def __init__(self, why: str, hint: str = "") -> None:
        super().__init__(why)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Spread:
    """A placed cascade and the two variables that fill the array: one on rows, one on columns.

    If nothing runs on the array, `rows` is a variable whose last tile may be ragged, or "".
    """

    placed: Placed
    rows: str
    cols: str
    array: Array
    lanes: Array

    @property
    def loops(self) -> tuple[str, ...]:
        """Variables of the nest, batch ranks included."""
        own = self.placed.cascade.ranks
        batch = (rank.lower() for rank in BATCH_RANKS if rank not in own)
        return (*batch, *self.placed.mapping.loops)

    def leaves(self, variables: tuple[str, ...]) -> tuple[str, ...]:
        """Variables of whole ranks replaced by those of their parts."""
        cascade, tiling = self.placed.cascade, self.placed.tiling
        return tuple(
            leaf.lower() if leaf != cascade.rank_of(v) else v
            for v in variables
            for leaf in tiling.leaves(cascade.rank_of(v))
        )

    def unit_of(self, einsum: Einsum) -> str | None:
        """Name of the array on which an Einsum is placed; None at load."""
        return dict(self.placed.mapping.placements)[einsum.name].array

    def readers(self, tensor: str) -> list[Einsum]:
        """Einsums that read a tensor."""
        return [
            einsum
            for einsum in self.placed.cascade.einsums
            if any(read.tensor == tensor for read in einsum.reads)
        ]

    def is_output(self, tensor: str) -> bool:
        """True if a tensor is an output of the cascade."""
        return self.placed.cascade.tensor(tensor).role == "output"

    def looped(self, einsum: Einsum) -> list[str]:
        """Loop variables over which an Einsum is summed."""
        return [variable for variable in self.leaves(einsum.over) if variable in self.loops]

    def comes_down(self, einsum: Einsum) -> bool:
        """True if rows of the array are combined, so that the result lands in the lanes."""
        return self.unit_of(einsum) == self.array.name and self.rows in self.leaves(einsum.over)

    def is_taken(self, einsum: Einsum) -> bool:
        """True if what comes down is taken by a lane task of its own, `X.out`.

        A single reader in the lanes takes it itself.
        """
        units = [self.unit_of(reader) for reader in self.readers(einsum.name)]
        several = self.array.name in units or units.count(self.lanes.name) > 1
        return bool(self.looped(einsum)) or self.is_output(einsum.name) or several

    def operand(self, einsum: Einsum, read: Access, array: Array) -> Operand:
        """Where a task finds what an access names."""
        cascade = self.placed.cascade
        makers = [e for e in cascade.defining(read.tensor) if not e.is_initial]
        unit = self.unit_of(makers[0]) if makers else None
        if unit is None:
            for index in read.indices:
                found = affine(index)
                if not found.is_plain or found.step:
                    raise RefusalError(f"{read} is not indexed by plain variables")
            variables = self.leaves(tuple(affine(index).variables[0] for index in read.indices))
            has_rows, has_cols = self.rows in variables, self.cols in variables
            if array is self.lanes:
                return Operand("top", read.tensor, access=read)
            if has_rows and has_cols:
                return Operand("register", read.tensor, access=read)
            return Operand("top" if has_cols else "left", read.tensor, access=read)
        own = (*self.leaves(einsum.left), *self.leaves(einsum.over))
        for loop in self.looped(makers[0]):
            if loop in own:
                raise RefusalError(
                    f"it needs {read} in every tile of {loop}, and that is known after the last",
                    f"give it a phase of its own: phases: [[..., {read.tensor}], "
                    f"[{einsum.name}, ...]]",
                )
        back, initial = self._back(einsum, makers[0], read)
        falls = self.comes_down(makers[0])
        if unit == array.name and not falls:
            return Operand("register", read.tensor, back=back, initial=initial)
        if falls and array is self.lanes and self.is_taken(makers[0]):
            return Operand("register", read.tensor, back=back, initial=initial)
        if back:
            raise RefusalError(f"{read} comes from another tile and another unit")
        return Operand("landing" if array is self.lanes else "returned", read.tensor)

    def _back(
        self, einsum: Einsum, writer: Einsum, read: Access
    ) -> tuple[tuple[tuple[str, int], ...], float | None]:
        """How many tiles back a value was made, and what stands for it before the first tile."""
        cascade = self.placed.cascade
        back = []
        for written, index in zip(writer.target.indices, read.indices, strict=True):
            made, used = affine(written), affine(index)
            if used.variables == made.variables and used.is_plain and made.is_plain:
                distance = (made.step or 0) - (used.step or 0)
                if distance:
                    loop = made.variables[0]
                    if loop not in self.placed.mapping.loops or distance < 0:
                        raise RefusalError(f"{read} is not made in an earlier tile")
                    back.append((loop, distance))
            elif used.variables or not self._is_end(made, index):
                raise RefusalError(f"{read} is neither of this tile nor the last of its rank")
        if not back:
            return (), None
        values = [self.number(e.map) for e in cascade.defining(read.tensor) if e.is_initial]
        if not values or values[0] is None:
            raise RefusalError(f"{read} has no start value")
        return tuple(back), values[0]

    def _is_end(self, made: Affine, index: Expr) -> bool:
        """True if a fixed coordinate is the last one that a recurrence writes."""
        rank = self.placed.cascade.rank_of(made.variables[0]) if made.variables else ""
        end = dict(self.placed.tiling.extents).get(rank)
        return end is not None and self.number(index) == end - 1 + (made.step or 0)

    def number(self, expr: Expr) -> float | None:
        """The value of an expression without tensors and variables; None for any other."""
        match expr:
            case Number(value=value):
                return float(value)
            case Name(name=name):
                if VARIABLE.match(name):
                    return None
                known = {**dict(self.placed.tiling.extents), **dict(self.placed.cascade.parameters)}
                found = known.get(name)
                if found is None:
                    raise RefusalError(f"{name} has no value")
                return float(found)
            case Apply(operator=operator, arguments=arguments):
                values = [self.number(argument) for argument in arguments]
                if all(value is not None for value in values):
                    return float(VALUES[operator](*values))
        return None
