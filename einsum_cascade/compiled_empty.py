"""What may be empty at all: the causes of emptiness that reach each tensor.

The point scheme finds out at run time which elements are empty. Most tensors never have any, and
then nothing is written about it. For the others both ways are written, and what runs is chosen by
what is empty in a call; only what its definitions leave open always has something empty.
"""

from __future__ import annotations

from collections.abc import Mapping

from einsum_cascade.array_shapes import array_groups
from einsum_cascade.cascade import Cascade, Einsum, affine, part_at
from einsum_cascade.expressions import Access, Condition, Expr, Select, accesses, walk
from einsum_cascade.operators import REDUCTIONS

FILTER, INDEX, TILE, GAP = "filter", "index", "tile", "gap"


def empty_causes(cascade: Cascade) -> Mapping[str, frozenset[str]]:
    """Causes of empty elements of every computed tensor; none if it is always complete."""
    found = {e.name: frozenset[str]() for e in cascade.einsums}
    for name in found:
        if not _is_covered(cascade, name):
            found[name] = frozenset({GAP})
    is_changed = True
    while is_changed:
        is_changed = False
        for einsum in cascade.einsums:
            causes = found[einsum.name] | _causes(cascade, einsum, found)
            is_changed = is_changed or causes != found[einsum.name]
            found[einsum.name] = causes
    return found


def _causes(
    cascade: Cascade, einsum: Einsum, found: Mapping[str, frozenset[str]]
) -> frozenset[str]:
    """What may empty an Einsum's points; a top-k may find fewer than it has room for."""
    causes = {FILTER} if einsum.where is not None else set()
    if einsum.op is not None and REDUCTIONS[einsum.op].selects:
        causes.add(INDEX)
    for access in einsum.reads:
        causes |= found.get(access.tensor, frozenset())
        if any(split_ranks(cascade, access.tensor)):
            causes.add(TILE)
        if not all(is_safe(cascade, access, axis) for axis in range(len(access.indices))):
            causes.add(INDEX)
    return frozenset(causes)


def sized_tensors(cascade: Cascade, given: frozenset[str] = frozenset()) -> frozenset[str]:
    """Tensors that follow from sizes and parameters: only `given` inputs are behind them."""
    found = set(given)
    for name in dict.fromkeys(e.name for e in cascade.einsums):
        reads = {access.tensor for e in cascade.defining(name) for access in e.reads}
        if reads <= found:
            found.add(name)
    return frozenset(found)


def is_sized(cascade: Cascade, given: frozenset[str] = frozenset()) -> bool:
    """True if sizes and parameters decide what is empty, so that no batch element differs."""
    sized = sized_tensors(cascade, given)
    for einsum in cascade.einsums:
        if einsum.op is not None and REDUCTIONS[einsum.op].selects:
            return False
        deciding: list[Expr | Condition | None] = [einsum.where]
        deciding += [index for access in einsum.reads for index in access.indices]
        deciding += [node.condition for node in walk(einsum.map) if isinstance(node, Select)]
        if any(access.tensor not in sized for one in deciding for access in accesses(one)):
            return False
    return True


def split_ranks(cascade: Cascade, name: str) -> list[str]:
    """Split ranks that are whole in an input's array."""
    if name not in cascade.inputs:
        return []
    groups = array_groups(cascade, cascade.tensor(name))
    return [rank for rank, axes in groups if rank is not None and len(axes) > 1]


def is_safe(cascade: Cascade, access: Access, axis: int) -> bool:
    """True if an index can't lie outside."""
    form, dim = affine(access.indices[axis]), cascade.tensor(access.tensor).dims[axis]
    if not form.variables:
        return form.step is not None and dim.extra == 1 and form.step == 0
    if not form.is_plain or cascade.rank_of(form.variables[0]) != dim.rank:
        return False
    return 0 <= (form.step or 0) <= dim.extra


def _is_covered(cascade: Cascade, name: str) -> bool:
    """True if the definitions of a tensor surely write all of its elements."""
    tensor, found = cascade.tensor(name), cascade.defining(name)
    concatenations = dict(cascade.concatenations)
    pieces: list[tuple[int, str]] = []
    for einsum in found:
        own = 0
        for axis, (index, dim) in enumerate(zip(einsum.target.indices, tensor.dims, strict=True)):
            form = affine(index)
            is_whole = form.is_plain and form.step == 0 and not dim.extra
            if is_whole and cascade.rank_of(form.variables[0]) == dim.rank:
                continue
            own += 1
            if dim.rank in concatenations:
                part = part_at(form, concatenations[dim.rank], dict(cascade.variables))
                pieces.append((axis, part or "?"))
            elif tensor.is_state and dim.extra == 1 and form.step is not None:
                # A state is set at one end and steps on to the other.
                pieces.append((axis, "step" if form.variables else "start"))
            else:
                return False
        if own > 1:
            return False
    if not pieces:
        return len(found) == 1
    if len({axis for axis, _ in pieces}) > 1 or len(pieces) != len(found):
        return False
    rank = tensor.dims[pieces[0][0]].rank or ""
    parts = set(concatenations.get(rank, ("start", "step")))
    return {part for _, part in pieces} == parts
