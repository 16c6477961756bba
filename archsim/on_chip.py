"""Words between the arrays and the buffer, counted from a cascade and its mapping."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial

from archsim.formulas import Exact, compute
from archsim.mapping import Mapping
from archsim.outline import Factors, factors_of, leaves_of, leaves_of_tensor, size
from archsim.placement import Placed
from archsim.tiling import partitions_of
from einsum_cascade.cascade import Cascade
from einsum_cascade.expressions import Expr


def buffer_words(placed: Placed) -> dict[tuple[str, str, str], Exact]:
    """Words between arrays and buffer for one head, by (cause, tensor, "read" or "write").

    An Einsum reads each held element it needs once for every tile loop that its variables span;
    elements broadcast along an axis, or kept by a PE over an inner loop, are read once. A tensor
    that a phase makes and reads is written once; what comes from outside is filled. What filters
    leave out of the tiles asks for nothing.
    """
    passing = _passing(placed.cascade, placed.mapping)
    extents, names = dict(placed.tiling.extents), dict(placed.tiling.names)

    def asked(leaves: Factors, again: Factors, words: Factors) -> int:
        if placed.filters is None:
            return size((*words, *again), extents)
        loops = [v for v in placed.mapping.loops if v.upper() in (*leaves, *again)]
        return placed.filters.streamed(loops, leaves, extents)

    found: dict[tuple[str, str, str], Exact] = {
        (einsum, tensor, "read"): asked(*words) for einsum, tensor, *words in passing.reads
    }
    for phase, writes in zip(placed.phases, passing.writes, strict=True):
        for name, leaves, made, spilled in writes:
            words: Exact = asked(leaves, (), made)
            if spilled is not None:
                # A spilled share goes to memory as it is made, and is filled when it comes back.
                words *= 1 - compute(spilled, names, partial(placed.mapping.place, "spilled", name))
            if words:
                found[name, name, "write"] = words
        for name, words in phase.read:
            if name in passing.through:
                key = (name, name, "write")
                found[key] = found[key] + words if key in found else words
    return found


def through_buffer(placed: Placed) -> frozenset[str]:
    """Tensors that the buffer holds, or that pass through it."""
    return _passing(placed.cascade, placed.mapping).through


@dataclass(frozen=True, slots=True)
class _Passing:
    """What passes through the buffer, whatever the sizes are."""

    through: frozenset[str]
    # Einsum, tensor, its leaves, those over which it is read again, and its words.
    reads: tuple[tuple[str, str, Factors, Factors, Factors], ...]
    # For each phase: the tensor, its leaves, its words, and the share of it that is spilled.
    writes: tuple[tuple[tuple[str, Factors, Factors, Expr | None], ...], ...]


@lru_cache(maxsize=256)
def _passing(cascade: Cascade, mapping: Mapping) -> _Passing:
    partitions = partitions_of(cascade, mapping)
    steps = [einsum for einsum in cascade.einsums if not einsum.is_initial]
    defined = {einsum.name: einsum for einsum in steps}
    on_array = {name for name, where in mapping.placements if where.array is not None}
    phases = mapping.phases or (tuple(defined),)
    order = [defined[name] for phase in phases for name in phase]
    through = {name for name, _ in mapping.held} | set(mapping.passing)
    # What changes at load lies in the buffer in place of the input it comes from.
    through |= {
        einsum.name
        for einsum in order
        if einsum.name not in on_array and any(read.tensor in through for read in einsum.reads)
    }
    forwarded, spilled = dict(mapping.forwarded), dict(mapping.spilled)
    loops = {cascade.rank_of(variable) for variable in mapping.loops}
    reads = {}
    for einsum in order:
        own = leaves_of(cascade, einsum.variables, partitions)
        for name in dict.fromkeys(read.tensor for read in einsum.reads):
            if name not in through or einsum.name in forwarded.get(name, ()):
                continue
            if einsum.name in on_array:
                carried = set(leaves_of_tensor(cascade, name, partitions))
                again = tuple(leaf for leaf in dict.fromkeys(own) if leaf in loops - carried)
                here = tuple(leaf for leaf in dict.fromkeys(own) if leaf in carried)
                reads[einsum.name, name] = (here, again, factors_of(here, partitions))
    writes = []
    for phase in phases:
        inside = [defined[name] for name in phase if name in through and name in on_array]
        taken = {read.tensor for name in phase for read in defined[name].reads}
        writes.append(
            tuple(
                (e.name, made, factors_of(made, partitions), spilled.get(e.name))
                for e in inside
                if e.name in taken
                for made in (leaves_of(cascade, e.left, partitions),)
            )
        )
    return _Passing(
        frozenset(through), tuple((*key, *words) for key, words in reads.items()), tuple(writes)
    )
