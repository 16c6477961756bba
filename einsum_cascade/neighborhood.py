"""Neighbourhood attention: which keys a query sees, as one interval per dimension.

A token is visible if it is visible in every dimension, so everything follows from intervals that
cost O(sum of extents), never from a mask of tokens times tokens; `mask` writes one for small
shapes. With dilation d, tokens x of equal x mod d form a group and are neighbours of each other
only; inside a group, x div d counts. Windows are shifted at the edges, never shrunk.

Source: Generalized Neighborhood Attention (arXiv 2504.16922) and the semantics of NATTEN 0.20+,
whose own masks the tests compare with.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
# Pairs of tokens up to which a mask is written out: 1 GiB of bytes.
MASK_PAIRS = 1 << 30


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
    """

    shape: tuple[int, ...]
    window: tuple[int, ...]
    stride: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    causal: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        """Fill in what is left out, and check."""
        shape = _whole("shape", self.shape)
        count = len(shape)
        given: dict[str, Any] = {"shape": shape, "window": _whole("window", self.window)}
        given["stride"] = _whole("stride", self.stride) or (1,) * count
        given["dilation"] = _whole("dilation", self.dilation) or (1,) * count
        causal = (self.causal,) if isinstance(self.causal, bool) else tuple(self.causal)
        given["causal"] = tuple(bool(c) for c in causal) or (False,) * count
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

    def groups(self, dim: int) -> tuple[int, ...]:
        """Tokens of each dilation group along a dimension."""
        size, step = self.shape[dim], self.dilation[dim]
        return tuple(-(-(size - g) // step) for g in range(step))

    def intervals(self, dim: int, group: int = 0) -> tuple[Ints, Ints]:
        """First key, and the one after the last, of every query of a dilation group.

        Both count inside the group: token x is at x div dilation.
        """
        length = self.groups(dim)[group]
        return intervals(length, self.window[dim], self.stride[dim], self.causal[dim])

    def first_last(self, dim: int) -> list[list[int]]:
        """First and last key coordinate of every query coordinate; steps of `dilation` between."""
        step = self.dilation[dim]
        found = [[0, 0] for _ in range(self.shape[dim])]
        for group in range(step):
            starts, ends = self.intervals(dim, group)
            for u, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
                found[u * step + group] = [start * step + group, (end - 1) * step + group]
        return found

    def visible(self, dim: int) -> NDArray[np.bool_]:
        """Which key coordinates (columns) each query coordinate (row) sees along a dimension."""
        size, step = self.shape[dim], self.dilation[dim]
        found = np.zeros((size, size), np.bool_)
        for group in range(step):
            starts, ends = self.intervals(dim, group)
            keys = np.arange(len(starts))
            inside = (keys >= starts[:, None]) & (keys < ends[:, None])
            found[group::step, group::step] = inside
        return found

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
        found = np.ones((1, 1), np.bool_)
        for dim in range(self.dimensions):
            found = np.kron(found, self.visible(dim))
        return found

    def keys_seen(self, dim: int) -> tuple[int, int, int]:
        """Keys along a dimension: of all queries together, of the query that sees least and most."""
        counts = [ends - starts for starts, ends in map(self._of(dim), range(self.dilation[dim]))]
        every = np.concatenate(counts)
        return int(every.sum()), int(every.min()), int(every.max())

    def _of(self, dim: int) -> Any:
        return lambda group: self.intervals(dim, group)

    @property
    def visible_pairs(self) -> int:
        """Visible pairs of a query and a key: the ones of the mask."""
        return prod(self.keys_seen(dim)[0] for dim in range(self.dimensions))

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
        q_tile: tuple[int, ...] | int,
        kv_tile: tuple[int, ...] | int,
        kv_tiling: str = "static",
    ) -> Any:
        """Count tiles; see `neighborhood_tiles.count_tiles`."""
        from einsum_cascade.neighborhood_tiles import count_tiles

        return count_tiles(self, q_tile, kv_tile, kv_tiling)


@lru_cache(maxsize=4096)
def intervals(length: int, window: int, stride: int, causal: bool) -> tuple[Ints, Ints]:
    """First key, and the one after the last, of every query of `length` tokens.

    All queries of a stride group follow its leader: the query right of the group's centre, or its
    last one if causal; in the ragged last group never behind the end.
    """
    queries = np.arange(length, dtype=np.int64)
    group = queries // stride * stride
    if causal:
        leader = np.minimum(group + stride - 1, length - 1)
        starts, ends = np.maximum(leader - window + 1, 0), queries + 1
    else:
        leader = np.minimum(group + stride // 2, length - 1)
        # Even windows have one more key to the left.
        starts = np.clip(leader - window // 2, 0, length - window)
        ends = starts + window
    starts.flags.writeable = ends.flags.writeable = False
    return starts, ends


def _whole(name: str, value: Any) -> tuple[int, ...]:
    """A tuple of whole numbers; one number is a tuple of one."""
    listed = (value,) if isinstance(value, int | np.integer) else tuple(value)
    for number in listed:
        if isinstance(number, bool) or not isinstance(number, int | np.integer):
            raise ValueError(f"{name} holds whole numbers, not {number!r}")
    return tuple(int(number) for number in listed)


def _problems(given: dict[str, tuple[Any, ...]]) -> Any:
    """Everything that is wrong with arguments."""
    count = len(given["shape"])
    if not 1 <= count <= 3:
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
