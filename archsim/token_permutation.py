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
    margins: list[tuple[int, int]] = []
    parts: list[int] = []
    for size, dilation, extent in zip(
        neighborhood.shape, neighborhood.dilation, shape, strict=True
    ):
        rests = -(-size // (extent * dilation))
        margins.append((0, rests * extent * dilation - size))
        parts += [rests, extent, dilation]
    tokens = np.arange(neighborhood.tokens, dtype=np.int64).reshape(neighborhood.shape)
    padded = np.pad(tokens, margins, constant_values=-1).reshape(parts)
    # All groups, all rests, all offsets.
    count = len(shape)
    order = [3 * dim + part for part in (2, 0, 1) for dim in range(count)]
    return padded.transpose(order).reshape(prod(neighborhood.dilation), -1, prod(shape))


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
