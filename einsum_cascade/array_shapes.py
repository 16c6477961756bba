"""Reading arrays as tensors: batch axes, split ranks, and the extent of every rank.

An array for `K[e,m1,m0]` may be given as [E, M] or [E, M1, M0], with any batch axes before. Which
reading is meant follows from the other arrays; sizes that nothing shows come from the caller or
from the cascade's defaults.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from einsum_cascade.cascade import DEFAULT_TILE, Cascade, Tensor, affine
from einsum_cascade.errors import CascadeError, Problem, Source, legal_words

Array = NDArray[Any]


def array_groups(
    cascade: Cascade, tensor: Tensor
) -> tuple[tuple[str | None, tuple[int, ...]], ...]:
    """The axes of an array whose split ranks are whole: rank, and the written axes it is made of.

    Parts may be written in any order and with other ranks between them, and a rank may be there
    twice: its first parts make up the first whole, the second ones the second.
    """
    places: dict[str | None, list[int]] = {}
    for axis, rank in enumerate(tensor.ranks):
        places.setdefault(rank, []).append(axis)
    groups = {axis: (rank, (axis,)) for axis, rank in enumerate(tensor.ranks)}
    for whole, parts in cascade.splits:
        for axes in zip(*(places.get(part, []) for part in parts), strict=False):
            for axis in axes:
                del groups[axis]
            groups[min(axes)] = (whole, axes)
    return tuple(groups[axis] for axis in sorted(groups))


def array_ranks(cascade: Cascade, tensor: Tensor, is_split: bool) -> list[str | None]:
    """Ranks of an array for a tensor: parts of a split one by one, or merged into the whole."""
    return list(tensor.ranks) if is_split else [rank for rank, _ in array_groups(cascade, tensor)]


def readings(
    cascade: Cascade, given: Mapping[str, Array], sizes: Mapping[str, int]
) -> tuple[dict[str, int], dict[str, bool]]:
    """Decide for each array how many axes are batch axes and whether its split ranks are split.

    Readings in which all arrays have equally many batch axes come first; among them those with
    the fewest; the first reading whose sizes agree is taken.
    """
    options: list[list[tuple[int, bool]]] = []
    for name, array in given.items():
        tensor = cascade.tensor(name)
        found = []
        for is_split in (False, True):
            extra = array.ndim - len(array_ranks(cascade, tensor, is_split))
            if (
                extra >= 0
                and (extra, is_split) not in found
                and not (
                    is_split
                    and array_ranks(cascade, tensor, True) == array_ranks(cascade, tensor, False)
                )
            ):
                found.append((extra, is_split))
        if not found:
            ranks = ", ".join(rank or "?" for rank in tensor.ranks)
            raise CascadeError(
                f"{name} has ranks {ranks}, but the array has shape {array.shape}: "
                f"{len(tensor.ranks)} axes and any batch axes before them are needed"
            )
        options.append(found)

    def cost(reading: tuple[tuple[int, bool], ...]) -> tuple[int, int]:
        counts = [extra for extra, _ in reading]
        return len(set(counts)), max(counts, default=0)

    readings = sorted(itertools.product(*options), key=cost)
    first_error: CascadeError | None = None
    for reading in readings:
        axes = {name: extra for name, (extra, _) in zip(given, reading, strict=True)}
        forms = {name: is_split for name, (_, is_split) in zip(given, reading, strict=True)}
        try:
            _rank_sizes(cascade, given, forms, sizes)
            batch_shape(given, axes)
        except CascadeError as error:
            first_error = first_error or error
        else:
            return axes, forms
    assert first_error is not None
    raise first_error


def _rank_sizes(
    cascade: Cascade,
    given: Mapping[str, Array],
    forms: Mapping[str, bool],
    sizes: Mapping[str, int],
) -> dict[str, int]:
    """Size of every rank that an array shows; CascadeError if two arrays disagree."""
    found: dict[str, int] = {}
    seen: dict[str, str] = {}
    wrong: list[str] = []
    for name, array in given.items():
        ranks = array_ranks(cascade, cascade.tensor(name), forms[name])
        shape = array.shape[array.ndim - len(ranks) :]
        for rank, size in zip(ranks, shape, strict=True):
            if rank is None:
                continue
            if found.setdefault(rank, size) != size:
                wrong.append(
                    f"rank {rank} is {found[rank]} in {seen[rank]} and {size} in {name} "
                    f"(shapes {given[seen[rank]].shape} and {array.shape})"
                )
            seen.setdefault(rank, name)
    if wrong:
        raise CascadeError(Problem(Source("input"), message) for message in wrong)
    for whole, parts in cascade.splits:
        tiles = " x ".join(f"{part}={found[part]}" for part in parts if part in found)
        if whole in found and all(part in found for part in parts):
            product = math.prod(found[part] for part in parts)
            if product != found[whole]:
                raise CascadeError(
                    f"rank {whole} is {found[whole]} in {seen[whole]}, but {tiles} in "
                    f"{seen[parts[0]]}"
                )
    for rank, size in sizes.items():
        if rank not in cascade.ranks:
            hint = legal_words(rank, cascade.ranks, "ranks")
            raise CascadeError(f"{cascade.name} has no rank '{rank}'; {hint}")
        if not isinstance(size, int | np.integer) or isinstance(size, bool) or size < 1:
            raise CascadeError(f"the size of rank {rank} is a positive integer, not {size!r}")
        if found.get(rank, size) != size:
            raise CascadeError(f"rank {rank} is {found[rank]} in {seen[rank]}, not {size}")
    _join({**found, **sizes}, cascade)
    return found


def _join(found: dict[str, int], cascade: Cascade) -> None:
    """Fill in sizes of concatenated ranks and their parts; CascadeError if they don't add up."""
    grown = True
    while grown:
        grown = False
        for whole, parts in cascade.concatenations:
            missing = [rank for rank in (whole, *parts) if rank not in found]
            if len(missing) > 1:
                continue
            total = sum(found[part] for part in parts if part in found)
            shown = " + ".join(f"{part}={found[part]}" for part in parts if part in found)
            if missing == [whole]:
                found[whole] = total
            elif missing and total <= found[whole]:
                found[missing[0]] = found[whole] - total
            elif missing:
                raise CascadeError(
                    f"{shown} leaves nothing for {missing[0]} of {whole}={found[whole]}"
                )
            elif total != found[whole]:
                raise CascadeError(f"rank {whole} is {found[whole]}, but {shown} is {total}")
            grown = grown or bool(missing)


def extents_of(
    cascade: Cascade,
    given: Mapping[str, Array],
    forms: Mapping[str, bool],
    sizes: Mapping[str, int],
) -> dict[str, int]:
    """Extent of every rank: from arrays, then `sizes`, then the cascade's defaults."""
    found = {**_rank_sizes(cascade, given, forms, sizes), **sizes}
    defaults = dict(cascade.default_sizes)
    _join(found, cascade)
    for whole, parts in cascade.splits:
        known = [part for part in parts if part in found]
        if whole in found:
            # What the other parts leave open follows from them; only then do defaults count.
            for part in reversed(parts):
                others = [found.get(other, 0) for other in parts if other != part]
                if all(others):
                    found.setdefault(part, max(1, -(-found[whole] // math.prod(others))))
                else:
                    found.setdefault(part, defaults.get(part, DEFAULT_TILE))
            if math.prod(found[part] for part in parts) < found[whole]:
                tiles = " x ".join(f"{part}={found[part]}" for part in parts)
                raise CascadeError(f"{tiles} do not cover {whole}={found[whole]}")
        elif len(known) == len(parts):
            found[whole] = math.prod(found[part] for part in parts)
    _join(found, cascade)
    for rank in cascade.ranks:
        if rank not in found and rank in defaults:
            found[rank] = defaults[rank]
            # What follows from a default is no longer open to another one.
            _join(found, cascade)
    used = {rank for _, rank in cascade.variables}
    missing = sorted(rank for rank in used if rank not in found)
    if missing:
        raise CascadeError(
            f"nothing says how large {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'}; give sizes={{'{missing[0]}': ...}}"
        )
    return found


def computed_shape(cascade: Cascade, name: str, extents: Mapping[str, int]) -> tuple[int, ...]:
    """Shape of a computed tensor, without batch axes."""
    found = []
    for axis, dim in enumerate(cascade.tensor(name).dims):
        if dim.rank:
            found.append(extents[dim.rank] + dim.extra)
        else:
            steps = [affine(e.target.indices[axis]).step or 0 for e in cascade.defining(name)]
            found.append(1 + max(steps))
    return tuple(found)


def batch_shape(given: Mapping[str, Array], axes: Mapping[str, int]) -> tuple[int, ...]:
    """Batch shape of the outputs: per axis the largest size, which all others must divide."""
    count = max(axes.values(), default=0)
    shape = []
    for axis in range(count):
        found = {
            name: given[name].shape[own - count + axis]
            for name, own in axes.items()
            if own - count + axis >= 0
        }
        largest = max(found.values())
        for name, size in found.items():
            if (size == 0) != (largest == 0) or (size and largest % size):
                raise CascadeError(
                    f"batch axis {axis} is {size} in {name} and {largest} elsewhere; "
                    "a smaller one must divide the largest"
                )
        shape.append(largest)
    return tuple(shape)


def batch_index(
    own: tuple[int, ...], batch: tuple[int, ...], point: tuple[int, ...]
) -> tuple[int, ...]:
    """Which batch element of an array serves one of the output: groups are consecutive."""
    start = len(batch) - len(own)
    return tuple(
        p // (size // mine) for mine, size, p in zip(own, batch[start:], point[start:], strict=True)
    )
