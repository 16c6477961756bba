"""Do two cascades compute the same? Both are evaluated on random arrays.

Every seed is another case: real numbers, where a tile is ragged and a rank longer than the
others; small whole numbers, with zeros, ties and equal labels, which filters compare; and a
single step with a tile that is longer than the rank.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from einsum_cascade.array_shapes import array_ranks
from einsum_cascade.cascade import Cascade, affine, variables_in
from einsum_cascade.expressions import Access, Number, accesses, walk
from einsum_cascade.interpreter import evaluate

# (elements along the derived rank, sizes of tiles from the innermost, of all other ranks in turn).
CASES = (
    (11, (2, 3), (5, 3, 4, 2, 7)),
    (7, (4, 2), (9, 4, 6, 5, 3)),
    (2, (3, 2), (4, 2, 3, 5, 6)),
)
# Values below are rounding errors of zero.
NOTHING = 1e-14
# Which case is drawn from whole numbers.
WHOLE = 1


def largest_difference(source: Cascade, derived: Cascade, rank: str) -> float:
    """Largest relative difference of any output, over all cases.

    Inputs that make the source undefined (a root of a negative number) are replaced by their
    absolute values.
    """
    worst = 0.0
    for case, (along, tiles, others) in enumerate(CASES):
        draw = np.random.default_rng(case)
        sizes = _sizes(source, rank, along, others)
        arrays: dict[str, Any] = _arrays(source, sizes, draw, is_whole=case == WHOLE)
        reference = evaluate(source, sizes=sizes, **arrays)
        if not all(np.isfinite(value).all() for value in reference.values()):
            arrays = {name: np.abs(value) for name, value in arrays.items()}
            reference = evaluate(source, sizes=sizes, **arrays)
        inner = {
            part: tiles[i]
            for whole, parts in derived.splits
            if whole not in dict(source.splits)
            for i, part in enumerate(reversed(parts[1:]))
        }
        found = evaluate(derived, sizes={**sizes, **inner}, **arrays)
        for name, expected in reference.items():
            whole = _whole(source, derived, name, found[name], sizes)
            worst = max(worst, _difference(expected, whole))
    return worst


def _difference(expected: NDArray[Any], found: NDArray[Any]) -> float:
    if expected.shape != found.shape:
        return float("inf")
    unequal = ~((expected == found) | (np.isnan(expected) & np.isnan(found)))
    if not unequal.any():
        return 0.0
    scale = np.abs(expected[np.isfinite(expected)]).max(initial=0.0)
    # What is zero but for rounding has no size of its own.
    scale = scale if scale > NOTHING else 1.0
    gap = np.abs(expected - found)[unequal]
    return float("inf") if not np.isfinite(gap).all() else float(gap.max() / scale)


def _whole(
    source: Cascade, derived: Cascade, name: str, array: NDArray[Any], sizes: dict[str, int]
) -> NDArray[Any]:
    """An output with the ranks joined again that only the derived cascade splits."""
    ranks = list(derived.tensor(name).ranks)
    for whole, parts in derived.splits:
        if whole not in dict(source.splits) and set(parts) <= set(ranks):
            axis = ranks.index(parts[0])
            shape = (*array.shape[:axis], -1, *array.shape[axis + len(parts) :])
            array = array.reshape(shape).take(range(sizes[whole]), axis=axis)
            ranks[axis : axis + len(parts)] = [whole]
    return array


def _arrays(
    cascade: Cascade, sizes: Mapping[str, int], draw: np.random.Generator, *, is_whole: bool
) -> dict[str, NDArray[Any]]:
    """Arrays for every input and parameter; what serves as an index is one."""
    indices = {inner.tensor for e in cascade.einsums for inner in _inside(e.reads)}
    arrays: dict[str, NDArray[Any]] = {}
    for name in cascade.inputs:
        ranks = array_ranks(cascade, cascade.tensor(name), False)
        shape = tuple(sizes[rank] if rank else max(sizes.values()) for rank in ranks)
        if name in indices:
            arrays[name] = draw.integers(0, min(sizes.values()), shape).astype(float)
        elif is_whole:
            arrays[name] = draw.integers(-1, 3, shape).astype(float)
        else:
            arrays[name] = draw.normal(size=shape)
    for name, value in cascade.parameters:
        if value is None:
            arrays[name] = np.asarray(draw.uniform(0.5, 1.5))
    return arrays


def _inside(reads: tuple[Access, ...]) -> tuple[Access, ...]:
    return tuple(a for read in reads for index in read.indices for a in accesses(index))


def _sizes(cascade: Cascade, rank: str, along: int, others: tuple[int, ...]) -> dict[str, int]:
    """A size for every rank, large enough for coordinates that the cascade names."""
    least: dict[str, int] = {}
    for einsum in cascade.einsums:
        for access in (einsum.target, *einsum.reads):
            for dim, index in zip(cascade.tensor(access.tensor).dims, access.indices, strict=True):
                constants = [int(n.value) for n in walk(index) if isinstance(n, Number)]
                if dim.rank and not variables_in(index) and affine(index).step is not None:
                    least[dim.rank] = max(least.get(dim.rank, 1), *constants, 1)
    parts = {part for _, own in cascade.splits for part in own}
    wholes = {*dict(cascade.splits), *dict(cascade.concatenations)}
    plain = [r for r in cascade.ranks if r not in parts and r not in wholes]
    sizes: dict[str, int] = {}
    for i, name in enumerate(plain):
        sizes[name] = max(along if name == rank else others[i % len(others)], least.get(name, 1))
    for whole, own in cascade.splits:
        for i, part in enumerate(own):
            sizes[part] = max(min(along, (5, 3, 2)[i % 3]), least.get(part, 1))
        sizes[whole] = int(np.prod([sizes[part] for part in own]))
    for whole, own in cascade.concatenations:
        sizes[whole] = sum(sizes[part] for part in own)
    return sizes
