"""One dimension of neighbourhood attention: which keys a query sees, as one interval.

With dilation d, tokens x of equal x mod d form a group and are neighbours of each other only;
inside a group, x div d counts. Windows are shifted at the edges, never shrunk, and queries of a
stride group share one.

Source: Generalized Neighborhood Attention (arXiv 2504.16922) and the semantics of NATTEN 0.20+.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Line:
    """One dimension of a layout of tokens, and its windows; see `Neighborhood` for the fields."""

    size: int
    window: int
    stride: int = 1
    dilation: int = 1
    causal: bool = False

    def groups(self) -> tuple[int, ...]:
        """Tokens of each dilation group; they differ by at most one."""
        return tuple(-(-(self.size - g) // self.dilation) for g in range(self.dilation))

    def intervals(self, group: int = 0) -> tuple[Ints, Ints]:
        """First key, and the one after the last, of every query of a dilation group.

        Both count inside the group: token x is at x div dilation.
        """
        return intervals(self.groups()[group], self.window, self.stride, self.causal)

    def first_last(self) -> list[list[int]]:
        """First and last key coordinate of every query coordinate; steps of `dilation` between."""
        found = np.empty((self.size, 2), np.int64)
        for group in range(self.dilation):
            starts, ends = self.intervals(group)
            mine = np.stack([starts, ends - 1], axis=1) * self.dilation + group
            found[group :: self.dilation] = mine
        pairs: list[list[int]] = found.tolist()
        return pairs

    def visible(self) -> NDArray[np.bool_]:
        """Which key coordinates (columns) each query coordinate (row) sees."""
        found = np.zeros((self.size, self.size), np.bool_)
        for group in range(self.dilation):
            starts, ends = self.intervals(group)
            keys = np.arange(len(starts))
            inside = (keys >= starts[:, None]) & (keys < ends[:, None])
            found[group :: self.dilation, group :: self.dilation] = inside
        return found

    def keys_seen(self) -> tuple[int, int, int]:
        """Keys of all queries together, of the query that sees least, and of the one with most."""
        every = [ends - starts for starts, ends in map(self.intervals, range(self.dilation))]
        counts = np.concatenate(every)
        return int(counts.sum()), int(counts.min()), int(counts.max())


def intervals(length: int, window: int, stride: int, causal: bool) -> tuple[Ints, Ints]:
    """First key, and the one after the last, of every query of `length` tokens."""
    return windows_of(np.arange(length, dtype=np.int64), length, window, stride, causal)


def windows_of(
    queries: Ints, length: int, window: int, stride: int, causal: bool
) -> tuple[Ints, Ints]:
    """First key, and the one after the last, of some queries of `length` tokens.

    All queries of a stride group follow its leader: the query right of the group's centre, or its
    last one if causal; in the ragged last group never behind the end.
    """
    group = queries // stride * stride
    if causal:
        leader = np.minimum(group + stride - 1, length - 1)
        return np.maximum(leader - window + 1, 0), queries + 1
    leader = np.minimum(group + stride // 2, length - 1)
    # Even windows have one more key to the left.
    starts = np.clip(leader - window // 2, 0, length - window)
    return starts, starts + window


def pairs_seen(length: int, window: int, stride: int, causal: bool) -> int:
    """Visible pairs of a query and a key among `length` tokens, group by group."""
    if not causal:
        return length * window
    first = np.arange(0, length, stride, dtype=np.int64)
    count = np.minimum(first + stride, length) - first
    starts, _ = windows_of(first, length, window, stride, causal)
    # Queries first to first + count - 1 see as many keys as come before them, and themselves.
    return length * (length + 1) // 2 - int((starts * count).sum())


__all__ = ["Ints", "Line", "intervals", "pairs_seen", "windows_of"]
