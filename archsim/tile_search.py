"""Tile shapes of neighbourhood attention: which of all factorizations computes least.

An array of P rows and M0 columns takes tiles of P queries and M0 keys, and either number can be
factored over the dimensions of the layout in many ways. What is computed is a product of what each
dimension visits, so a table for each dimension, with an entry for each pair of extents, decides
among all shapes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

from einsum_cascade.neighborhood import Neighborhood
from einsum_cascade.neighborhood_tiles import Shape, Tiles, count_line

# Tokens of a query tile and a key tile where nobody says: those of NATTEN's kernels for Blackwell.
Q_TOKENS, KV_TOKENS = 256, 128


@dataclass(frozen=True, slots=True)
class TileChoice:
    """The best of some tile shapes, and of some neighbourhoods."""

    neighborhood: Neighborhood
    tiles: Tiles
    # Pairs of shapes that were looked at, over all neighbourhoods and tilings.
    evaluated: int


def tile_shapes(tokens: int, dimensions: int) -> list[Shape]:
    """Every shape of tiles of so many tokens, in lexicographic order.

    Example:
        >>> tile_shapes(6, 2)
        [(1, 6), (2, 3), (3, 2), (6, 1)]
    """
    divisors = [n for n in range(1, tokens + 1) if tokens % n == 0]
    outer = product(divisors, repeat=dimensions - 1)
    return [(*shape, tokens // prod(shape)) for shape in outer if tokens % prod(shape) == 0]


def search_tiles(
    neighborhoods: Neighborhood | Iterable[Neighborhood],
    q_shapes: Sequence[Shape],
    kv_shapes: Sequence[Shape],
    kv_tilings: Sequence[str] = ("static",),
) -> TileChoice:
    """Find the tiles that compute the fewest pairs of queries and keys, padding included.

    Args:
        neighborhoods: one, or several between which to choose (strides, say).
        q_shapes: query tiles to look at, as `tile_shapes` makes them.
        kv_shapes: key tiles.
        kv_tilings: "static", "dynamic" or both.

    Returns:
        The first of the best, in the order in which they are given.

    Raises:
        ValueError: there is nothing to choose from.
    """
    if isinstance(neighborhoods, Neighborhood):
        neighborhoods = (neighborhoods,)
    best: tuple[int, Neighborhood, Shape, Shape, str] | None = None
    evaluated = 0
    for neighborhood, kv_tiling in product(neighborhoods, kv_tilings):
        visits = [
            {
                (q, kv): count_line(line, q, kv, kv_tiling).visited
                for q in {shape[dim] for shape in q_shapes}
                for kv in {shape[dim] for shape in kv_shapes}
            }
            for dim, line in enumerate(neighborhood.lines)
        ]
        for q_tile in q_shapes:
            queries = prod(q_tile)
            for kv_tile in kv_shapes:
                issued = queries * prod(kv_tile)
                for table, q, kv in zip(visits, q_tile, kv_tile, strict=True):
                    issued *= table[q, kv]
                if best is None or issued < best[0]:
                    best = (issued, neighborhood, q_tile, kv_tile, kv_tiling)
        evaluated += len(q_shapes) * len(kv_shapes)
    if best is None:
        raise ValueError("no tiles to choose from")
    _, neighborhood, q_tile, kv_tile, kv_tiling = best
    return TileChoice(neighborhood, neighborhood.tiles(q_tile, kv_tile, kv_tiling), evaluated)


def fitting_tokens(neighborhood: Neighborhood, tokens: int) -> int:
    """Halve a number of tokens until a tile has no more of them than a dilation group."""
    room = prod(neighborhood.groups(dim)[0] for dim in range(neighborhood.dimensions))
    while tokens > max(1, room):
        tokens //= 2
    return tokens


__all__ = ["KV_TOKENS", "Q_TOKENS", "TileChoice", "fitting_tokens", "search_tiles", "tile_shapes"]
