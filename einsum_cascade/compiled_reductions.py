"""Reductions along what lies next to each other in memory: each row is folded into one number.

Rows run along a reduced variable here, unlike in `compiled_rows`, where they run along a kept one:
so the map of a row is computed first, and then folded (`compiled_folds`).
"""

from __future__ import annotations

from dataclasses import dataclass

from einsum_cascade.cascade import Cascade, Einsum, variables_in
from einsum_cascade.compiled_empty import is_safe
from einsum_cascade.compiled_folds import FOLDED
from einsum_cascade.compiled_rows import Rows, Views, lane_of
from einsum_cascade.compiled_text import arithmetic_of, literal, value
from einsum_cascade.expressions import Access, Select, walk
from einsum_cascade.operators import REDUCTIONS


def folded_of(cascade: Cascade, einsum: Einsum, fixed: tuple[str, ...]) -> str | None:
    """The reduced variable that rows run along, if that suits memory better than a kept one."""
    if einsum.op not in FOLDED or einsum.where is not None:
        return None
    if any(isinstance(node, Select) for node in walk(einsum.map)):
        return None
    reads = [(read, axis) for read in einsum.reads for axis in range(len(read.indices))]
    if not all(is_safe(cascade, read, axis) for read, axis in reads):
        return None
    kept = [set(einsum.left) & set(variables_in(read)) for read in einsum.reads]
    if len(kept) > 1 and kept[0] - kept[1] and kept[1] - kept[0]:
        # Each element takes part in many rows: that is for a contraction.
        return None
    lane = lane_of(cascade, einsum, fixed)

    def along(variable: str) -> bool:
        """True if memory runs along with it wherever it is read."""
        reads = [read for read in einsum.reads if variable in variables_in(read)]
        return bool(reads) and all(
            # On two axes it is a diagonal.
            [axis for axis, index in enumerate(read.indices) if variable in variables_in(index)]
            == [len(read.indices) - 1]
            for read in reads
        )

    found = [v for v in einsum.over if along(v)]
    return found[-1] if found and (lane is None or not along(lane)) else None


@dataclass(slots=True, kw_only=True)
class Reduction(Rows):
    """The loops of one Einsum, whose lane is a reduced variable, where nothing is empty."""

    def compute(self) -> None:
        """Write the loops."""
        text, einsum = self.text, self.einsum
        assert einsum.op is not None
        kept, over = self.loops()
        depth = text.depth
        for variable in kept:
            self.open(variable)
        text.line(f"x = {literal(REDUCTIONS[einsum.op].identity, 'F')}")
        inner = text.depth
        for variable in over:
            if variable != self.lane:
                self.open(variable)
        reader = Views(self, text.apart(text.depth + 1))
        result = value(einsum.map, reader.inner, reader, arithmetic_of(None, einsum))
        for line in reader.lines:
            text.line(line)
        row = result.removesuffix("[i]")
        if not (isinstance(einsum.map, Access) and row.isidentifier()):
            row = "acc"
            with text.block("for i in range(lanes):"):
                text.line(f"v_{self.lane} = {self.chunk.at(self.lane, 'i')}")
                text.lines += reader.inner.lines
                text.line(f"acc[i] = F({result})")
        text.line(f"x = d.fold_{einsum.op}({row}, x)")
        text.depth = inner
        place = ", ".join(index.text for index in self.goal()) or "0"
        text.line(f"t_{einsum.name}[{place}] = x")
        if einsum.name in self.partial:
            text.line(f"o_{einsum.name}[{place}] = True")
        text.depth = depth
