"""What tiled neighbourhood attention gains: over dense attention, end to end, and by stride.

Three speedups over dense attention: counting FLOPs (`Neighborhood.flopwise_speedup`); the mean over
query tiles, padding included (`Tiles.speedup_mean`), which an array with a static schedule reaches;
the worst query tile (`Tiles.speedup_bound`), which is what the paper's simulator reports. End to
end, Amdahl's law takes the rest of a model into account, and steps that stay dense.

Larger strides share windows among more queries, at the price of less equivariance, and gain only
when they cut what is visited. `sweep_strides` keeps a stride if it beats all of a smaller or equal
product. Decision: that rule is ours. The paper says only that larger strides without gain are left
out; the rule yields its five lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod

from einsum_cascade.neighborhood import Neighborhood
from einsum_cascade.neighborhood_lines import Line
from einsum_cascade.neighborhood_tiles import Shape, Tiles, checked_tiles, count_line


def end_to_end(share: float, speedup: float, dense_steps: int = 0, steps: int = 1) -> float:
    """Speedup of a whole model, by Amdahl's law.

    Args:
        share: of the time that attention takes, 0 to 1.
        speedup: of attention, in the steps that are not dense.
        dense_steps: steps whose attention stays dense.
        steps: all steps.

    Example:
        >>> end_to_end(0.5, 2.0)
        1.3333333333333333
        >>> end_to_end(0.5, 2.0, dense_steps=3, steps=3)
        1.0
    """
    sparse = share * (steps - dense_steps) / steps
    return 1 / (1 - sparse + sparse / speedup)


@dataclass(frozen=True, slots=True)
class StridePoint:
    """A stride and the tiles it visits."""

    stride: Shape
    tiles: Tiles

    @property
    def queries(self) -> int:
        """Queries that share a window."""
        return prod(self.stride)


def sweep_strides(
    neighborhood: Neighborhood,
    q_tile: Sequence[int] | int,
    kv_tile: Sequence[int] | int,
    kv_tiling: str = "static",
) -> tuple[StridePoint, ...]:
    """Find the strides that are worth it: each beats all with as many or fewer queries a window.

    Args:
        neighborhood: windows; their own stride is left out of account.
        q_tile: queries of a tile in each dimension.
        kv_tile: keys of a tile in each dimension.
        kv_tiling: "static" or "dynamic".

    Returns:
        By ascending product of strides, and so by ascending bound on the speedup.

    Raises:
        CascadeError: tiles that do not fit the layout's dimensions, or an unknown tiling.
    """
    kept: list[StridePoint] = []
    for point in stride_candidates(neighborhood, q_tile, kv_tile, kv_tiling):
        if not kept or point.tiles.visited_max < kept[-1].tiles.visited_max:
            kept.append(point)
    return tuple(kept)


def stride_candidates(
    neighborhood: Neighborhood,
    q_tile: Sequence[int] | int,
    kv_tile: Sequence[int] | int,
    kv_tiling: str = "static",
) -> list[StridePoint]:
    """Strides of which each dimension's visits fewer tiles than all smaller ones there do.

    Any other stride visits no less than one of these with a smaller product. Sorted by product,
    then by tiles of the worst query tile.
    """
    q_shape, kv_shape = checked_tiles(neighborhood.dimensions, q_tile, kv_tile, kv_tiling)
    every = [
        dropping_strides(line, q, kv, kv_tiling)
        for line, q, kv in zip(neighborhood.lines, q_shape, kv_shape, strict=True)
    ]
    found = []
    for stride in product(*every):
        tiles = replace(neighborhood, stride=stride).tiles(q_shape, kv_shape, kv_tiling)
        found.append(StridePoint(stride, tiles))
    return sorted(found, key=lambda point: (point.queries, point.tiles.visited_max, point.stride))


def dropping_strides(line: Line, q_tile: int, kv_tile: int, kv_tiling: str) -> list[int]:
    """Strides along a dimension at which its worst query tile visits fewer tiles than before."""
    found: list[int] = []
    least = None
    for stride in range(1, line.window + 1):
        most = count_line(replace(line, stride=stride), q_tile, kv_tile, kv_tiling).most
        if least is None or most < least:
            found.append(stride)
            least = most
    return found


__all__ = [
    "StridePoint",
    "dropping_strides",
    "end_to_end",
    "stride_candidates",
    "sweep_strides",
]
