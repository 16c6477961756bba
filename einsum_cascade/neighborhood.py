"""Neighbourhood attention: which keys a query sees, as one interval per dimension.

A token is visible if it is visible in every dimension, so everything follows from intervals that
cost O(sum of extents), never from a mask of tokens times tokens; `mask` writes one for small
shapes. With dilation d, tokens x of equal x mod d form a group and are neighbours of each other
only; inside a group, x div d counts. Windows are shifted at the edges, never shrunk.

Source: Generalized Neighborhood Attention (arXiv 2504.16922) and the semantics of NATTEN 0.20+,
whose own masks the tests compare with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from einsum_cascade.neighborhood_lines import Ints, Line, intervals
from einsum_cascade.neighborhood_tiles import Tiles, count_tiles

# Pairs of tokens up to which a mask is written out: 1 GiB of bytes.
MASK_PAIRS = 1 << 30
MOST_DIMENSIONS = 3


@dataclass(frozen=True)
class Neighborhood:
    """Windows of a layout of tokens in one to three dimensions; one number is one dimension.

    Args:
        shape: tokens in each dimension, at least 2.
        window: keys that a query sees, at least 2; fewer than that only where `causal`.
        stride: queries that share a window; 1 is neighbourhood attention, `window` is blocked.
        dilation: distance of neighbours.
        causal: whether keys after the query are hidden.

    Raises:
        ValueError: with every reason why there are no such windows.

    Example:
        >>> Neighborhood(shape=12, window=4, stride=4).first_last(0)[3:5]
        [[0, 3], [4, 7]]
    """

    shape: tuple[int, ...]
    window: tuple[int, ...]
    stride: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    causal: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        """Fill in what is left out, and check."""
        shape = _whole("shape", self.shape)
        ones = (1,) * len(shape)
        given: dict[str, tuple[int, ...]] = {
            "shape": shape,
            "window": _whole("window", self.window),
            "stride": _whole("stride", self.stride) or ones,
            "dilation": _whole("dilation", self.dilation) or ones,
            "causal": _truths("causal", self.causal) or (False,) * len(shape),
        }
        for name, value in given.items():
            object.__setattr__(self, name, value)
        problems = list(_problems(given))
        if problems:
            raise ValueError("no such neighbourhood: " + "; ".join(problems))

    @property
    def tokens(self) -> int:
        """Tokens of the layout."""
        return prod(self.shape)

    @property
    def dimensions(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def lines(self) -> tuple[Line, ...]:
        """Each dimension by itself."""
        fields = (self.shape, self.window, self.stride, self.dilation, self.causal)
        return tuple(Line(*one) for one in zip(*fields, strict=True))

    def groups(self, dim: int) -> tuple[int, ...]:
        """Tokens of each dilation group along a dimension."""
        return self.lines[dim].groups()

    def intervals(self, dim: int, group: int = 0) -> tuple[Ints, Ints]:
        """First key, and the one after the last, of every query of a dilation group.

        Both count inside the group: token x is at x div dilation.
        """
        return self.lines[dim].intervals(group)

    def first_last(self, dim: int) -> list[list[int]]:
        """First and last key coordinate of every query coordinate; steps of `dilation` between."""
        return self.lines[dim].first_last()

    def visible(self, dim: int) -> NDArray[np.bool_]:
        """Which key coordinates (columns) each query coordinate (row) sees along a dimension."""
        return self.lines[dim].visible()

    def keys_seen(self, dim: int) -> tuple[int, int, int]:
        """Keys along a dimension: of all queries, of the query that sees least, and that sees most."""
        return self.lines[dim].keys_seen()

    def mask(self) -> NDArray[np.bool_]:
        """The mask [queries, keys] of row-major tokens.

        Raises:
            ValueError: the mask would take more than a GiB.
        """
        if self.tokens**2 > MASK_PAIRS:
            raise ValueError(
                f"a mask of {self.tokens} x {self.tokens} tokens is too large to write out: "
                "use first_last, visible_pairs or tiles"
            )
        found: NDArray[np.bool_] = np.ones((1, 1), np.bool_)
        for line in self.lines:
            found = np.kron(found, line.visible())
        return found

    @property
    def visible_pairs(self) -> int:
        """Visible pairs of a query and a key: the ones of the mask."""
        return prod(line.keys_seen()[0] for line in self.lines)

    @property
    def sparsity(self) -> float:
        """Share of the keys that a window leaves out, without what `causal` hides."""
        return 1 - prod(self.window) / self.tokens

    @property
    def flopwise_speedup(self) -> float:
        """Pairs of dense attention without a mask over visible pairs: what counting FLOPs says."""
        return self.tokens**2 / self.visible_pairs

    def tiles(
        self,
        q_tile: Sequence[int] | int,
        kv_tile: Sequence[int] | int,
        kv_tiling: str = "static",
    ) -> Tiles:
        """Count the key tiles that query tiles visit; see `count_tiles`."""
        return count_tiles(self.lines, q_tile, kv_tile, kv_tiling)


def _whole(name: str, value: Any) -> tuple[int, ...]:
    """A tuple of whole numbers; one number is a tuple of one."""
    listed = (value,) if isinstance(value, int | np.integer) else tuple(value)
    for number in listed:
        if isinstance(number, bool) or not isinstance(number, int | np.integer):
            raise ValueError(f"{name} holds whole numbers, not {number!r}")
    return tuple(int(number) for number in listed)


def _truths(name: str, value: Any) -> tuple[bool, ...]:
    """A tuple of truths, which may be written 0 and 1; one of them is a tuple of one."""
    listed = (value,) if isinstance(value, bool | int | np.bool_) else tuple(value)
    for truth in listed:
        if truth not in (0, 1):
            raise ValueError(f"{name} holds True and False, not {truth!r}")
    return tuple(bool(truth) for truth in listed)


def _problems(given: dict[str, tuple[int, ...]]) -> Iterator[str]:
    """Everything that is wrong with arguments."""
    count = len(given["shape"])
    if not 1 <= count <= MOST_DIMENSIONS:
        yield f"shape {given['shape']} has {count} dimensions; 1, 2 or 3 are possible"
        return
    wrong = [(name, value) for name, value in given.items() if len(value) != count]
    for name, value in wrong:
        yield f"{name} {value} has {len(value)} dimensions, shape has {count}"
    if wrong:
        return
    rows = zip(*(given[name] for name in ("shape", "window", "stride", "dilation")), strict=True)
    for dim, (size, window, stride, dilation) in enumerate(rows):
        if size < 2:
            yield f"shape[{dim}] = {size}, at least 2 is needed"
        if window < 2:
            yield f"window[{dim}] = {window}, at least 2 is needed"
        if dilation < 1:
            yield f"dilation[{dim}] = {dilation}, at least 1 is needed"
        elif window * dilation > size:
            yield (
                f"window[{dim}] x dilation[{dim}] = {window} x {dilation} is more than "
                f"shape[{dim}] = {size}"
            )
        if not 1 <= stride <= max(window, 1):
            yield f"stride[{dim}] = {stride}, from 1 to window[{dim}] = {window} is possible"


__all__ = ["Neighborhood", "intervals"]
