"""Streaming a fiber: how many sweeps a greedy schedule takes, an upper bound of the passes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from einsum_cascade.element_fibers import Fiber, Homes
from einsum_cascade.element_graph import Node

# Sweeps beyond the least number that are tried, in all directions.
MORE_SWEEPS = 3


def sweeps_needed(
    fiber: Fiber, homes: Homes, lookback: int, least: int = 1
) -> tuple[int, tuple[int, ...]]:
    """Fewest sweeps of a greedy stream over all choices of directions, and those directions."""
    best: tuple[int, tuple[int, ...]] = (1 << 30, ())
    for length in range(least, least + MORE_SWEEPS):
        for directions in itertools.product((1, -1), repeat=length):
            known = stream(fiber, homes, lookback, directions)
            sweeps = max((known[node][0] for node in _visiting(homes)), default=1)
            if sweeps < best[0]:
                best = (sweeps, directions[:sweeps])
            if best[0] == least:
                return best
        if best[0] <= length:
            break
    return best


def _visiting(homes: Homes) -> set[Node]:
    return set(homes.visits) | homes.gathering


def stream(
    fiber: Fiber,
    homes: Homes,
    lookback: int,
    directions: tuple[int, ...],
    earliest: Mapping[str, int] | None = None,
) -> dict[Node, tuple[int, int]]:
    """Run a greedy schedule; after the given directions the last one repeats.

    A value is computed as soon as its operands are known and the positions it touches are at most
    `lookback` behind the front of the sweep; otherwise in the next sweep, when they come by again.
    `earliest` holds the values of a tensor back to a sweep.

    Returns:
        The sweep in which each node is known (0: without reading the fiber), and the step in it,
        counted from 0.
    """
    n = len(fiber.elements)

    def at(sweep: int, position: int) -> int:
        way = directions[min(sweep, len(directions)) - 1]
        return position if way > 0 else n - 1 - position

    kept = _kept(fiber, homes, lookback)
    # Sweep and position from which each value is known; (0, 0) before the first sweep.
    known: dict[Node, tuple[int, int]] = {
        node: (1, at(1, i)) for i, node in enumerate(fiber.elements)
    }
    for node in fiber.order:
        if node in known:
            continue
        time = max((known[operand] for operand in fiber.operands[node]), default=(0, 0))
        time = max(time, ((earliest or {}).get(node.tensor, 0), 0))
        if fiber.source.facts[node].kind == "map":
            for gather, group in fiber.gathered.get(node, {}).items():
                index = max((known.get(node, (0, 0))[0] for node in gather.pointers), default=0)
                late = max((known[c][0] for c in group if c in known), default=1)
                time = max(time, (max(index + 1, late), n - 1))
            touched = 0
            for operand in fiber.private[node]:
                touched |= 0 if operand in kept else homes.home[operand]
            if touched:
                places = [i for i in range(n) if touched >> i & 1]
                here = [at(time[0], i) for i in places]
                front = max(time[1], *here)
                if front - min(here) <= lookback:
                    time = (time[0], front)
                else:
                    time = (time[0] + 1, max(at(time[0] + 1, i) for i in places))
        known[node] = time
    return known


def _kept(fiber: Fiber, homes: Homes, lookback: int) -> set[Node]:
    """Values that are kept on chip: few of their tensor, and used far from their position.

    Such are the end of a recurrence (RD[M1]) and the first element of a fiber.
    """
    elsewhere: dict[Node, int] = {}
    for node in homes.visits:
        for operand in fiber.private[node]:
            others = homes.visits[node] & ~homes.home[operand]
            if homes.home[operand]:
                elsewhere[operand] = elsewhere.get(operand, 0) | others
    far: dict[str, int] = {}
    for node, others in elsewhere.items():
        if _is_far(homes.home[node], others, lookback):
            far[node.tensor] = far.get(node.tensor, 0) | homes.home[node]
    few = {tensor for tensor, positions in far.items() if positions.bit_count() <= 1 + lookback}
    return {
        node
        for node, others in elsewhere.items()
        if node.tensor in few and _is_far(homes.home[node], others, lookback)
    }


def _is_far(home: int, others: int, lookback: int) -> bool:
    if not others:
        return False
    low = min(home & -home, others & -others)
    return max(home, others).bit_length() - low.bit_length() > lookback
