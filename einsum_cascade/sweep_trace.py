"""Watch a schedule read one fiber: which positions every sweep visits, and what it waits for.

`element_passes` counts; this module keeps what happened, for pictures and explanations. The
schedule is the greedy one that reaches the count, with as little at hand behind its front as that
takes: one element for a cascade without tiles, a tile for a running one. Its sweeps are evened:
when a value that needs everything is known, the last few positions are still at hand and the
greedy schedule goes on with them; here they wait for the sweep in which their Einsum does most.

Its chain of visits and barriers is a witness: between two sweeps lies a value that needs every
position, and that a visit of the next sweep needs. Two values may also need the fiber only
together, as a scan from either side; then the chain has a visit and no barrier.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from einsum_cascade.cascade import Cascade
from einsum_cascade.element_fibers import Fiber, Homes, fibers, homes_of
from einsum_cascade.element_graph import Node, element_graph
from einsum_cascade.element_passes import ElementCount, count
from einsum_cascade.element_shapes import small_extents
from einsum_cascade.element_streams import stream

# Positions behind the front of a sweep that are tried; enough for tiles and windows of 3.
MOST_LOOKBACK = 5


@dataclass(frozen=True, slots=True)
class Visit:
    """At one step of a sweep (both counted as they happen, sweeps from 1) a position is needed."""

    sweep: int
    step: int
    # None if data decide: a gather.
    position: int | None
    # The tensors whose Einsums need it.
    tensors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Barrier:
    """What ends a sweep: the Einsum of a value that needs all of the fiber, as text.

    Where several values need it together, `text` is the Einsum that reads them.
    """

    sweep: int
    text: str
    is_joint: bool


@dataclass(frozen=True, slots=True)
class Trace:
    """One fiber, and a schedule that reads it as often as it must."""

    cascade: str
    tensor: str
    rank: str
    fiber: Fiber
    count: ElementCount
    sweeps: int
    # 1 upwards, -1 downwards; positions kept at hand behind the front; positions of a tile.
    directions: tuple[int, ...]
    lookback: int
    tile: int
    # When each value is known: sweep and step.
    times: Mapping[Node, tuple[int, int]]
    visits: tuple[Visit, ...]
    barriers: tuple[Barrier, ...]
    # A visit of each sweep, each needing all of the sweep before it; empty for one pass.
    chain: tuple[Visit, ...]

    @property
    def length(self) -> int:
        """Positions of the fiber."""
        return len(self.fiber.elements)

    def words(self) -> tuple[int, ...]:
        """Positions that are still needed, at each step of all sweeps.

        That many words must be on chip if every element is loaded once: a position counts from its
        first visit to its last.
        """
        n = self.length
        first: dict[int, int] = {}
        last: dict[int, int] = {}
        for visit in self.visits:
            # Which elements a gather will want is not known before: it may be any of them.
            positions = range(n) if visit.position is None else (visit.position,)
            now = (visit.sweep - 1) * n + visit.step
            for position in positions:
                first[position] = min(now, first.get(position, now))
                last[position] = max(now, last.get(position, now))
        steps = range(n * self.sweeps)
        return tuple(sum(first[p] <= now <= last[p] for p in first) for now in steps)

    def least_loads(self, words: int) -> int:
        """Loads that a buffer of so many words can't avoid, whatever the schedule."""
        again = (*self.count.widths[1:], self.count.tail)
        return self.length + sum(max(0, width - words) for width in again)


def trace(
    cascade: Cascade,
    tensor: str,
    rank: str,
    *,
    length: int = 12,
    sizes: Mapping[str, int] | None = None,
) -> Trace:
    """Run the schedule that reads a tensor's fiber as often as it must.

    Args:
        cascade: a legal cascade.
        tensor: the tensor whose fiber is watched; of its fibers one that needs most.
        rank: a rank of it, whole or part of a split.
        length: positions of the fiber, at least.
        sizes: extents of other ranks, where 2 and tiles of 3 will not do.
    """
    extents = small_extents(cascade, rank, length, sizes)
    graph = element_graph(cascade, extents)
    counted = [(f, count(f, MOST_LOOKBACK)) for f in fibers(graph, cascade.tensor(tensor), rank)]
    fiber, number = max(counted, key=lambda pair: (pair[1].lower, pair[1].upper))
    homes = homes_of(fiber)
    lookback, times = _leanest(fiber, homes, number)
    sweeps = _sweeps(homes, times)
    chain, barriers = _chain(fiber, homes, times, sweeps)
    inner = cascade.parts_of(rank)[1:]
    return Trace(
        cascade.name,
        tensor,
        rank,
        fiber,
        number,
        sweeps,
        number.directions,
        lookback,
        math.prod(extents[part] for part in inner) if inner else len(fiber.elements),
        times,
        tuple(_visits(fiber, homes, times)),
        barriers,
        chain,
    )


def _leanest(
    fiber: Fiber, homes: Homes, number: ElementCount
) -> tuple[int, dict[Node, tuple[int, int]]]:
    """The least lookback with which the schedule still takes the counted sweeps."""
    for lookback in range(number.lookback + 1):
        times = stream(fiber, homes, lookback, number.directions)
        even = stream(fiber, homes, lookback, number.directions, _main_sweeps(homes, times))
        # Short fibers may be streamed in less than their passes, by keeping much of them.
        if _sweeps(homes, even) <= max(number.lower, number.upper):
            return lookback, even
    return number.lookback, stream(fiber, homes, number.lookback, number.directions)


def _sweeps(homes: Homes, times: Mapping[Node, tuple[int, int]]) -> int:
    return max((times[node][0] for node in (*homes.visits, *homes.gathering)), default=1)


def _main_sweeps(homes: Homes, times: Mapping[Node, tuple[int, int]]) -> dict[str, int]:
    """The sweep in which each tensor's Einsum makes most of its visits."""
    found: dict[str, Counter[int]] = {}
    for node in homes.visits:
        found.setdefault(node.tensor, Counter())[times[node][0]] += 1
    return {tensor: sweeps.most_common(1)[0][0] for tensor, sweeps in found.items()}


def _visits(fiber: Fiber, homes: Homes, times: Mapping[Node, tuple[int, int]]) -> Iterator[Visit]:
    """Every visit in the order of time, gathers last, with all Einsums that make it."""
    found: dict[tuple[int, int, int], dict[str, None]] = {}
    for position, element in enumerate(fiber.elements):
        found[(*times[element], position)] = {}
    for node in fiber.order:
        for operand in fiber.operands[node]:
            # Whoever reads an element visits it, be it only to add it up.
            if operand in fiber.elements and node not in homes.visits:
                position = fiber.elements.index(operand)
                found[(*times[operand], position)][node.tensor] = None
        for position in _positions(homes.visits.get(node, 0)):
            found.setdefault((*times[node], position), {})[node.tensor] = None
    gathers: dict[tuple[int, int], dict[str, None]] = {}
    for node in fiber.order:
        if node in homes.gathering:
            gathers.setdefault(times[node], {})[node.tensor] = None
    for (sweep, step, position), names in sorted(found.items()):
        yield Visit(sweep, step, position, tuple(names))
    for (sweep, step), names in sorted(gathers.items()):
        yield Visit(sweep, step, None, tuple(names))


def _positions(mask: int) -> Iterator[int]:
    return (i for i in range(mask.bit_length()) if mask >> i & 1)


def _chain(
    fiber: Fiber, homes: Homes, times: Mapping[Node, tuple[int, int]], sweeps: int
) -> tuple[tuple[Visit, ...], tuple[Barrier, ...]]:
    """Go from the last sweep to the first: a visit, what it waits for, a visit which that needs."""
    import networkx as nx

    order = {node: i for i, node in enumerate(fiber.order)}
    needs = _needs(fiber)
    visiting = [n for n in fiber.order if n in homes.visits or n in homes.gathering]
    visiting.sort(key=lambda node: (times[node], order[node]))
    chain: list[Visit] = []
    barriers: list[Barrier] = []
    allowed = set(fiber.order)
    graph = fiber.source.graph
    for sweep in range(sweeps, 1, -1):
        here = [node for node in visiting if times[node][0] == sweep and node in allowed]
        links = ((node, _barrier(fiber, homes, times, needs, node)) for node in here)
        joint = ((node, None) for node in here if needs[node] == fiber.everything)
        found = next((link for link in links if link[1] is not None), None) or next(joint, None)
        if found is None:
            break
        node, barrier = found
        text = _definition(fiber, barrier or node)
        barriers.append(Barrier(sweep - 1, text, barrier is None))
        chain.append(_as_visit(homes, times, node))
        allowed = {*nx.ancestors(graph, barrier or node), barrier or node} - {node}
    if chain:
        # The chain begins where an element is read: the one that comes back, or one near by.
        near = chain[-1].position or 0
        read = [i for i, element in enumerate(fiber.elements) if element in allowed]
        position = min(read, key=lambda i: abs(i - near))
        element = fiber.elements[position]
        chain.append(Visit(*times[element], position, (element.tensor,)))
    return tuple(reversed(chain)), tuple(reversed(barriers))


def _as_visit(homes: Homes, times: Mapping[Node, tuple[int, int]], node: Node) -> Visit:
    position = next(_positions(homes.visits.get(node, 0)), None)
    return Visit(*times[node], position, (node.tensor,))


def _barrier(
    fiber: Fiber,
    homes: Homes,
    times: Mapping[Node, tuple[int, int]],
    needs: Mapping[Node, int],
    node: Node,
) -> Node | None:
    """The first value above a visit that needs all of the sweep before."""
    import networkx as nx

    above = nx.ancestors(fiber.source.graph, node)
    full = (
        one
        for one in fiber.order
        if one in above
        and times[one][0] == times[node][0] - 1
        and needs[one] == fiber.everything
        and not homes.home[one]
    )
    return next(full, None)


def _needs(fiber: Fiber) -> dict[Node, int]:
    """The elements of the fiber that each value is computed from, as bitmasks."""
    found = {node: 1 << i for i, node in enumerate(fiber.elements)}
    for node in fiber.order:
        if node not in found:
            found[node] = 0
            for operand in fiber.operands[node]:
                found[node] |= found[operand]
    return found


def _definition(fiber: Fiber, node: Node) -> str:
    """The Einsum that computes a node; of a recurrence the one that makes steps."""
    einsums = fiber.source.cascade.defining(node.tensor)
    return str(next((e for e in einsums if not e.is_initial), einsums[0]))
