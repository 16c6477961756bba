"""Do two cascades compute the same? Both are evaluated on random arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from einsum_cascade.cascade import Cascade, affine, variables_in
from einsum_cascade.expressions import Access, Number, accesses, walk
from einsum_cascade.interpreter import evaluate

SEEDS = (0, 1, 2)
# Small, and no size divides another, so that tiles are ragged and ranks can't be mixed up.
SIZES = (5, 3, 4, 2, 7)
# Long enough for several tiles and splits, the last ones ragged.
ALONG = 11
TILES = (2, 3)


def largest_difference(source: Cascade, derived: Cascade, rank: str) -> float:
    """Largest relative difference of any output, over several seeds.

    Inputs are drawn from a normal distribution; those that make the source undefined (a root of
    a negative number) are replaced by their absolute values.
    """
    worst = 0.0
    for seed in SEEDS:
        sizes, arrays = _arguments(source, rank, np.random.default_rng(seed))
        reference = evaluate(source, sizes=sizes, **arrays)
        if not all(np.isfinite(value).all() for value in reference.values()):
            arrays = {name: np.abs(value) for name, value in arrays.items()}
            reference = evaluate(source, sizes=sizes, **arrays)
        tiles = {
            part: TILES[i]
            for whole, parts in derived.splits
            if whole not in dict(source.splits)
            for i, part in enumerate(reversed(parts[1:]))
        }
        found = evaluate(derived, sizes={**sizes, **tiles}, **arrays)
        for name, expected in reference.items():
            worst = max(
                worst, _difference(expected, _whole(source, derived, name, found[name], sizes))
            )
    return worst


def _difference(expected: NDArray[Any], found: NDArray[Any]) -> float:
    if expected.shape != found.shape:
        return float("inf")
    unequal = ~((expected == found) | (np.isnan(expected) & np.isnan(found)))
    if not unequal.any():
        return 0.0
    scale = np.abs(expected[np.isfinite(expected)]).max(initial=1e-300)
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


def _arguments(
    cascade: Cascade, rank: str, draw: np.random.Generator
) -> tuple[dict[str, int], dict[str, NDArray[Any]]]:
    """Sizes for every rank that the arrays need, and arrays for every input and parameter."""
    sizes = _sizes(cascade, rank)
    indices = {inner.tensor for e in cascade.einsums for inner in _inside(e.reads)}
    arrays: dict[str, NDArray[Any]] = {}
    for name in cascade.inputs:
        shape = tuple(sizes[r] if r else max(SIZES) for r in cascade.tensor(name).ranks)
        if name in indices:
            arrays[name] = draw.integers(0, min(SIZES), shape).astype(float)
        else:
            arrays[name] = draw.normal(size=shape)
    for name, value in cascade.parameters:
        if value is None:
            arrays[name] = np.asarray(draw.uniform(0.5, 1.5))
    return sizes, arrays


def _inside(reads: tuple[Access, ...]) -> tuple[Access, ...]:
    return tuple(a for read in reads for index in read.indices for a in accesses(index))


def _sizes(cascade: Cascade, rank: str) -> dict[str, int]:
    least: dict[str, int] = {}
    for einsum in cascade.einsums:
        for access in (einsum.target, *einsum.reads):
            for dim, index in zip(cascade.tensor(access.tensor).dims, access.indices, strict=True):
                constants = [int(n.value) for n in walk(index) if isinstance(n, Number)]
                if dim.rank and not variables_in(index) and affine(index).step is not None:
                    least[dim.rank] = max(least.get(dim.rank, 1), *constants, 1)
    parts = {part for _, own in cascade.splits for part in own}
    sizes: dict[str, int] = {}
    wholes = {*dict(cascade.splits), *(whole for whole, _ in cascade.concatenations)}
    plain = [r for r in cascade.ranks if r not in parts and r not in wholes]
    for i, name in enumerate(plain):
        sizes[name] = max(ALONG if name == rank else SIZES[i % len(SIZES)], least.get(name, 1))
    for whole, own in cascade.splits:
        for i, part in enumerate(own):
            sizes[part] = max(
                (4, 3, 2)[i % 3] if whole != rank else (5, 3, 2)[i % 3], least.get(part, 1)
            )
        sizes[whole] = int(np.prod([sizes[part] for part in own]))
    for whole, own in cascade.concatenations:
        sizes[whole] = sum(sizes[part] for part in own)
    return sizes
