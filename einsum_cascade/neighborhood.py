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

from einsum_cascade.errors import CascadeError, Problem, Source
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
        CascadeError: with every reason why there are no such windows; it is a ValueError.

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
        shape = _whole(self.shape)
        ones = (1,) * len(shape)
        given: dict[str, tuple[Any, ...]] = {
            "shape": shape,
            "window": _whole(self.window),
            "stride": _whole(self.stride) or ones,
            "dilation": _whole(self.dilation) or ones,
            "causal": _truths(self.causal) or (False,) * len(shape),
        }
        problems = list(_problems(given))
        if problems:
            raise CascadeError(problems)
        for name, value in given.items():
            object.__setattr__(self, name, value)

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
        """Keys along a dimension: all queries together, and of those that see least and most."""
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


def _whole(value: Any) -> tuple[Any, ...]:
    """A tuple of what should be whole numbers; one is a tuple of one."""
    listed = (value,) if isinstance(value, int | float | np.number) else tuple(value)
    return tuple(int(one) if isinstance(one, np.integer) else one for one in listed)


def _truths(value: Any) -> tuple[Any, ...]:
    """A tuple of what should be truths, which may be written 0 and 1; one is a tuple of one."""
    listed = (value,) if isinstance(value, bool | int | np.bool_) else tuple(value)
    return tuple(bool(one) if one in (0, 1) else one for one in listed)


def _problems(given: dict[str, tuple[Any, ...]]) -> Iterator[Problem]:
    """Everything that is wrong with arguments; the place is the argument's name."""

    def problem(name: str, message: str, hint: str = "") -> Problem:
        return Problem(Source(name), message, hint=hint)

    count = len(given["shape"])
    if not 1 <= count <= MOST_DIMENSIONS:
        yield problem("shape", f"{given['shape']} has {count} dimensions", "1, 2 or 3 are possible")
        return
    is_legible = True
    for name, value in given.items():
        if len(value) != count:
            yield problem(name, f"{value} has {len(value)} dimensions", f"shape has {count}")
            is_legible = False
        legal, kind = ("True and False", bool) if name == "causal" else ("whole numbers", int)
        for one in value:
            if not isinstance(one, kind) or (kind is int and isinstance(one, bool)):
                yield problem(name, f"{one!r} is not possible", f"{name} holds {legal}")
                is_legible = False
    if not is_legible:
        return
    rows = zip(*(given[name] for name in ("shape", "window", "stride", "dilation")), strict=True)
    for dim, (size, window, stride, dilation) in enumerate(rows):
        for name, value, least in (
            ("shape", size, 2),
            ("window", window, 2),
            ("stride", stride, 1),
            ("dilation", dilation, 1),
        ):
            if value < least:
                message = f"{value} in dimension {dim} is too small"
                yield problem(name, message, f"at least {least} is needed")
        if stride > max(window, 1):
            message = f"{stride} in dimension {dim} is more than the window, {window}"
            yield problem("stride", message, "keys between windows would be seen by no query")
        if dilation >= 1 and window * dilation > size:
            reach = f"{window}" if dilation == 1 else f"{window} x dilation {dilation}"
            message = f"{reach} in dimension {dim} is more than its {size} tokens"
            yield problem("window", message, f"at most {size // dilation} is possible")


__all__ = ["Neighborhood", "intervals"]
