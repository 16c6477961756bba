"""Tokens in the order of their tiles: a tile of several dimensions as one piece of memory.

Along each dimension token x is at `(rest * tile + offset) * dilation + group`. In memory come all
groups, then all rests, then all offsets, so that a tile lies in one piece, dilation groups are
separate problems, and the ends are padded with zeros. Queries and keys are padded to tiles of their
own; the output is cropped. One-dimensional layouts without dilation stay as they are.

Source: NATTEN's token_permute.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from einsum_cascade.neighborhood import Neighborhood
from einsum_cascade.neighborhood_lines import Ints
from einsum_cascade.neighborhood_tiles import checked_tiles


@dataclass(frozen=True, slots=True)
class PermutationCost:
    """Bytes that a permutation of Q, K, V and back of O reads and writes in memory."""

    read_bytes: int
    written_bytes: int
    # What both would be if nothing were padded.
    unpadded_bytes: int

    @property
    def total_bytes(self) -> int:
        """Read and written."""
        return self.read_bytes + self.written_bytes


def permuted_tokens(neighborhood: Neighborhood, tile: Sequence[int] | int) -> Ints:
    """Return row-major tokens in permuted order [groups, tiles, tile]; padding is -1.

    Example:
        >>> permuted_tokens(Neighborhood((2, 4), (2, 2)), (2, 2))[0].tolist()
        [[0, 1, 4, 5], [2, 3, 6, 7]]
    """
    shape, _ = checked_tiles(neighborhood.dimensions, tile, tile)
    lines = zip(neighborhood.shape, neighborhood.dilation, shape, strict=True)
    # Coordinates along each dimension as [group, rest, offset].
    coordinates = []
    for size, dilation, extent in lines:
        rests = -(-size // (extent * dilation))
        x = np.arange(rests * extent * dilation).reshape(rests, extent, dilation)
        coordinates.append(np.where(x < size, x, -1).transpose(2, 0, 1))
    count = len(coordinates)
    found = np.zeros((1,) * (3 * count), np.int64)
    is_padding = np.zeros((1,) * (3 * count), np.bool_)
    for dim, x in enumerate(coordinates):
        axes = [1] * (3 * count)
        for part in range(3):
            axes[part * count + dim] = x.shape[part]
        found = found * neighborhood.shape[dim] + x.reshape(axes)
        is_padding = is_padding | (x.reshape(axes) < 0)
    found = np.where(is_padding, -1, found)
    groups, rests = found.shape[:count], found.shape[count : 2 * count]
    return found.reshape(prod(groups), prod(rests), prod(shape))


def padded_tokens(neighborhood: Neighborhood, tile: Sequence[int]) -> int:
    """Tokens of a layout with its padding, over all dilation groups."""
    lines = zip(neighborhood.shape, neighborhood.dilation, tile, strict=True)
    return prod(-(-size // (extent * d)) * extent * d for size, d, extent in lines)


def permutation_cost(
    neighborhood: Neighborhood,
    q_tile: Sequence[int] | int,
    kv_tile: Sequence[int] | int,
    *,
    heads: int,
    head_dim: int,
    kv_heads: int | None = None,
    word_bytes: int = 2,
) -> PermutationCost:
    """Count the bytes of permuting Q, K and V, and O back; they do not depend on the windows.

    Args:
        neighborhood: the layout, and its dilation.
        q_tile: queries of a tile in each dimension.
        kv_tile: keys of a tile in each dimension.
        heads: of Q and O.
        head_dim: words of a head.
        kv_heads: of K and V; as many as of Q if left out.
        word_bytes: bytes of a word.

    Raises:
        CascadeError: tiles that do not fit the layout's dimensions.
    """
    q_shape, kv_shape = checked_tiles(neighborhood.dimensions, q_tile, kv_tile)
    token = head_dim * word_bytes
    mine, theirs = heads * token, (heads if kv_heads is None else kv_heads) * token
    queries, keys = (padded_tokens(neighborhood, shape) for shape in (q_shape, kv_shape))
    tokens = neighborhood.tokens
    is_needed = neighborhood.dimensions > 1 or prod(neighborhood.dilation) > 1
    if not is_needed:
        return PermutationCost(0, 0, 0)
    # Q, K, V as they are; then O without its padding.
    read = 2 * tokens * (mine + theirs)
    written = (queries + tokens) * mine + 2 * keys * theirs
    return PermutationCost(read, written, 4 * tokens * (mine + theirs))


__all__ = ["PermutationCost", "padded_tokens", "permutation_cost", "permuted_tokens"]
