"""Tile sizes: the extent of every rank once a mapping has split it for a workload.

Inner parts get their size from the workload, the mapping or the cascade's default, in that order;
the outermost part covers what is left, with a ragged last tile. A part of size `fit` becomes the
largest divisor of the number of tiles with which everything the buffer holds fits into it.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, partial
from math import isqrt, prod

from archsim.arch import Architecture
from archsim.errors import ArchError
from archsim.formulas import Exact, ceil_div, compute
from archsim.mapping import FIT, Mapping
from archsim.quantities import show_bytes
from einsum_cascade.cascade import DEFAULT_TILE, Cascade, Workload


@dataclass(frozen=True, slots=True)
class Tiling:
    """Extents of all ranks, parts included, and how the mapping's choices were made."""

    # Whole ranks with their true size, parts with their extent in tiles or elements.
    extents: tuple[tuple[str, int], ...]
    partitions: tuple[tuple[str, tuple[str, ...]], ...]
    # Names that formulas of the mapping may use: extents, choices, ROWS, COLS, LANES.
    names: tuple[tuple[str, Exact], ...]
    held_bytes: int
    capacity_bytes: int | None
    mapping_source: str

    def leaves(self, rank: str) -> tuple[str, ...]:
        """Parts of a rank, outermost first, or the rank itself."""
        for whole, parts in self.partitions:
            if whole == rank:
                return parts
        return (rank,)


def tile(
    cascade: Cascade,
    workload: Workload,
    architecture: Architecture,
    mapping: Mapping,
    *,
    double_buffer: bool = True,
) -> Tiling:
    """Choose tile sizes; without `double_buffer` as papers do that leave no room to prefetch.

    Raises:
        ArchError: splits contradict each other, or not even the smallest tile fits the buffer.
        CascadeError: the workload lacks the size of a rank.
    """
    partitions = partitions_of(cascade, mapping)
    sizes = dict(workload.sizes)
    parts_of_any = {part for _, parts in partitions for part in parts}
    whole_ranks = [rank for rank in cascade.ranks if rank not in parts_of_any]
    workload.require(dict.fromkeys((*whole_ranks, *(whole for whole, _ in partitions))))
    extents = {rank: sizes[rank] for rank in whole_ranks}
    names: dict[str, Exact] = dict(extents)
    for array in architecture.arrays:
        for axis, size in array.axes:
            names.setdefault(axis.upper(), size)
    chosen, how = _choose(mapping, sizes, extents)
    names |= chosen
    tiles = dict(mapping.tiles)
    defaults = dict(cascade.default_sizes)
    fitted: list[tuple[str, str, int]] = []
    for whole, parts in partitions:
        left = extents.setdefault(whole, sizes[whole])
        names[whole] = left
        for part in reversed(parts[1:]):
            wanted = tiles.get(part)
            if part in sizes:
                value = sizes[part]
            elif wanted is None:
                value = defaults.get(part, DEFAULT_TILE)
            elif isinstance(wanted, str):
                fitted.append((part, parts[0], left))
                value = 1
            else:
                exact = compute(wanted, names, partial(mapping.place, "tiles", part))
                value = max(1, min(left, -(-exact.numerator // exact.denominator)))
                # A tile that fills an array keeps its size even if the rank is shorter.
                value = max(value, int(exact)) if part == parts[-1] else value
            extents[part] = value
            names[part] = value
            left = ceil_div(left, value)
        extents[parts[0]] = left
        names[parts[0]] = left
    capacity = _capacity(architecture, mapping)
    twice = mapping.double_buffered if double_buffer else ()

    tensors = _held(mapping, cascade, extents)

    def held_bytes(sizes: dict[str, int]) -> int:
        words = sum(
            prod([sizes[rank] for rank in ranks]) * (2 if tensor in twice else 1)
            for tensor, ranks in tensors
        )
        return words * architecture.word_bits // 8

    for part, outer, count in fitted:
        trials = ({**extents, part: size, outer: count // size} for size in _divisors(count))
        fitting = (
            trial[part] for trial in trials if capacity is None or held_bytes(trial) <= capacity
        )
        best = next(fitting, 0)
        if best:
            extents[part], extents[outer] = best, count // best
            names[part], names[outer] = best, count // best
    held = held_bytes(extents)
    if capacity is not None and held > capacity:
        buffer = architecture.buffer
        assert buffer is not None
        where = architecture.place("memories", buffer.name, "capacity")
        problem = mapping.problem(
            ("buffer",),
            f"one tile needs {show_bytes(held)}, the {buffer.name} may hold "
            f"{show_bytes(capacity)} ({where})",
            "hold fewer tensors, take smaller tiles, or give the buffer more capacity",
        )
        raise ArchError(problem)
    return Tiling(tuple(extents.items()), partitions, tuple(names.items()), held, capacity, how)


@lru_cache(maxsize=256)
def partitions_of(cascade: Cascade, mapping: Mapping) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Parts of the ranks that a cascade or its mapping splits.

    Raises:
        ArchError: the two contradict each other.
    """
    merged = dict(cascade.splits)
    for rank, parts in mapping.partitions:
        if merged.setdefault(rank, parts) != parts:
            what = f"{rank} = {'*'.join(parts)} contradicts the cascade's {'*'.join(merged[rank])}"
            raise ArchError(mapping.problem(("partition", rank), what))
    known = {*cascade.ranks}
    for rank in merged:
        if rank not in known:
            what = f"{cascade.name} has no rank {rank}"
            hint = "its ranks are " + ", ".join(cascade.ranks)
            raise ArchError(mapping.problem(("partition", rank), what, hint))
    return tuple(merged.items())


def _choose(
    mapping: Mapping, sizes: dict[str, int], extents: dict[str, int]
) -> tuple[dict[str, Exact], str]:
    """Pick the row of the choices table for E and M: equal, else the next above, else the last."""
    if mapping.choices is None:
        return {}, "the mapping file"
    table = mapping.choices
    asked = {"E": extents.get("E", sizes.get("E", 1)), "M": extents.get("M", sizes.get("M", 1))}
    rows = list(table.rows)
    notes = []
    for column, key in enumerate(("E", "M")):
        listed = sorted({row[column] for row in rows})
        above = [value for value in listed if value >= asked[key]]
        used = above[0] if above else listed[-1]
        if used != asked[key]:
            notes.append(f"{key}={asked[key]} is not listed, {key}={used:g} is used")
        rows = [row for row in rows if row[column] == used]
    chosen: dict[str, Exact] = {
        name: Fraction(value) for name, value in zip(table.columns, rows[0], strict=True)
    }
    how = f"{table.source}: row E={rows[0][0]:g}, M={rows[0][1]:g}"
    del chosen["E"], chosen["M"]
    return chosen, "; ".join([how, *notes])


def _capacity(architecture: Architecture, mapping: Mapping) -> int | None:
    buffer = architecture.buffer
    limits = [mapping.limit_bytes, buffer.capacity_bytes if buffer else None]
    return min((limit for limit in limits if limit is not None), default=None)


def _divisors(count: int) -> list[int]:
    """All divisors, the largest first."""
    small = [size for size in range(1, isqrt(count) + 1) if count % size == 0]
    return sorted({*small, *(count // size for size in small)}, reverse=True)


def _held(
    mapping: Mapping, cascade: Cascade, extents: dict[str, int]
) -> list[tuple[str, list[str]]]:
    """Ranks over which the buffer holds each tensor."""
    found = []
    for tensor, variables in mapping.held:
        ranks = [cascade.rank_of(variable) for variable in variables]
        for variable, rank in zip(variables, ranks, strict=True):
            if rank not in extents:
                hint = "known variables: " + ", ".join(sorted(r.lower() for r in extents))
                what = f"unknown variable '{variable}' for {tensor}"
                raise ArchError(mapping.problem(("buffer", tensor), what, hint))
        found.append((tensor, ranks))
    return found


__all__ = ["FIT", "Tiling", "partitions_of", "tile"]
