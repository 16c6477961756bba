"""Where keys stay between query tiles: buffer against reads from memory, for five policies.

Query tiles come in row-major order, or another, and each needs a box of keys. In each dimension
boxes are intervals, so what a policy reads is a product of one number for each dimension:

- *stream*: every box anew, the sum of all boxes;
- *keep the window*: query tiles with the same box follow each other: the sum of different boxes;
- *slide* along the last dimensions: there every key is read once, the union of boxes; along the
  others each row of query tiles reads its boxes anew, the sum again.

Sliding along the last one holds the outer boxes times what two neighbouring boxes cover, so that
the next one can load in time; along more, all keys of the inner dimensions as well. `rule_keys` is
the simpler rule "box and query tile"; a stride beyond the query tile moves a window by more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np

from einsum_cascade.neighborhood import Neighborhood
from einsum_cascade.neighborhood_lines import Line
from einsum_cascade.neighborhood_tiles import boxes, checked_tiles


@dataclass(frozen=True, slots=True)
class Residency:
    """One policy: keys on chip and keys read, of one head; a key comes with its value."""

    policy: str
    # Keys that the buffer holds: exactly, and by the rule "box and query tile".
    held_keys: int
    rule_keys: int
    # Keys read from memory for all queries, over all dilation groups, in whole tiles.
    read_keys: int
    tokens: int

    @property
    def reads(self) -> float:
        """How often the average key is read; 1 is once."""
        return self.read_keys / self.tokens


@dataclass(frozen=True, slots=True)
class _Span:
    """Keys along one dimension: sums over dilation groups, and the most of any group."""

    # Of all boxes, of different boxes, and of their union.
    total: int
    different: int
    union: int
    # The largest box, two neighbouring ones together, and a group's union.
    box: int
    two_boxes: int
    all_keys: int


def residencies(
    neighborhood: Neighborhood,
    q_tile: Sequence[int] | int,
    kv_tile: Sequence[int] | int,
    kv_tiling: str = "static",
    q_order: Sequence[int] | None = None,
) -> tuple[Residency, ...]:
    """Compute buffer and reads of every policy, from the least buffer to the fewest reads.

    Args:
        neighborhood: the windows.
        q_tile: queries of a tile in each dimension.
        kv_tile: keys of a tile in each dimension.
        kv_tiling: "static" reads whole tiles, "dynamic" the keys of the box and no others.
        q_order: dimensions in the order in which query tiles are visited, the slowest first; "the
            last" is the last of these.

    Raises:
        CascadeError: tiles that do not fit the layout's dimensions, or an unknown tiling.
    """
    q_shape, kv_shape = checked_tiles(neighborhood.dimensions, q_tile, kv_tile, kv_tiling)
    # Boxes of single keys are the keys that are needed.
    grain = kv_shape if kv_tiling == "static" else (1,) * len(kv_shape)
    spans = [_span(*one) for one in zip(neighborhood.lines, q_shape, grain, strict=True)]
    if q_order is not None:
        spans = [spans[dim] for dim in q_order]
        q_shape = tuple(q_shape[dim] for dim in q_order)
    count, tokens = len(spans), neighborhood.tokens
    two_tiles, box = 2 * prod(kv_shape), prod(span.box for span in spans)
    found = [
        Residency("stream", two_tiles, two_tiles, prod(s.total for s in spans), tokens),
        Residency("keep the window", box, box, prod(s.different for s in spans), tokens),
    ]
    for edge in reversed(range(count)):
        # Dimensions outside, the one along which two boxes must fit, dimensions inside.
        outer, inner = spans[:edge], spans[edge + 1 :]
        around = prod(span.box for span in outer) * prod(span.all_keys for span in inner)
        rows = prod(span.total for span in outer)
        last = "the last" if edge == count - 1 else f"the last {count - edge}"
        found.append(
            Residency(
                f"slide along {last if edge else 'all'}",
                around * spans[edge].two_boxes,
                around * (spans[edge].box + q_shape[edge]),
                rows * prod(span.union for span in spans[edge:]),
                tokens,
            )
        )
    return tuple(found)


@lru_cache(maxsize=4096)
def _span(line: Line, q_tile: int, grain: int) -> _Span:
    total = different = union = box = two_boxes = all_keys = 0
    groups = line.groups()
    for length in dict.fromkeys(groups):
        times = groups.count(length)
        one = boxes(length, line, q_tile, grain, "static")
        sizes = one.end - one.begin
        # Both ends grow from tile to tile.
        before = np.concatenate([[0], one.end[:-1]])
        is_new = np.concatenate([[True], (np.diff(one.begin) != 0) | (np.diff(one.end) != 0)])
        here = int((one.end - np.maximum(one.begin, before)).sum())
        total += times * int(sizes.sum())
        different += times * int(sizes[is_new].sum())
        union += times * here
        box = max(box, int(sizes.max()))
        pairs = one.end[1:] - one.begin[:-1]
        two_boxes = max(two_boxes, int(pairs.max()) if len(pairs) else int(sizes.max()))
        all_keys = max(all_keys, here)
    return _Span(total, different, union, box, two_boxes, all_keys)


__all__ = ["Residency", "residencies"]
