"""Fibers of an element graph: what depends on one, and to which positions values are tied.

The home of a node is the set of positions of the fiber that its value is tied to, and a map visits
the homes of its operands (`element_passes` has the definition). Sets of positions are bitmasks.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from einsum_cascade.cascade import Tensor
from einsum_cascade.element_graph import ElementGraph, Gather, Node


@dataclass(frozen=True, slots=True)
class Fiber:
    """A fiber of a root tensor, as far as it is read, and what depends on it."""

    source: ElementGraph
    elements: tuple[Node, ...]
    # Loop ranks along which the fiber runs: what their recurrences carry is state.
    along: frozenset[str]
    # Everything that depends on the fiber, producers first; operands that do; candidates of
    # gathers that do; and operands that are no carried state.
    order: tuple[Node, ...] = ()
    operands: dict[Node, tuple[Node, ...]] = field(default_factory=dict)
    gathered: dict[Node, dict[Gather, tuple[Node, ...]]] = field(default_factory=dict)
    private: dict[Node, tuple[Node, ...]] = field(default_factory=dict)

    @property
    def everything(self) -> int:
        """Bitmask of all positions."""
        return (1 << len(self.elements)) - 1


def fibers(graph: ElementGraph, tensor: Tensor, rank: str) -> Iterator[Fiber]:
    """Fibers of a tensor along a rank, or along all parts of a split rank.

    One at the first, the middle and the last coordinates of the tensor's other ranks: edges and
    filters make a difference there. Those that an edge or a filter cuts to less than half of the
    longest are left out: they say nothing about long ones.
    """
    parts = graph.cascade.parts_of(rank)
    joined = (rank, *graph.cascade.concatenated(rank))
    axes: list[tuple[int, ...]] = [(a,) for a, name in enumerate(tensor.ranks) if name in joined]
    if len(parts) > 1 and set(parts) <= set(tensor.ranks):
        axes.append(tuple(tensor.ranks.index(part) for part in parts))
    shape = graph.shapes[tensor.name]
    for along in axes:
        places = (
            tuple(0 for _ in shape),
            tuple(n // 2 for n in shape),
            tuple(n - 1 for n in shape),
        )
        found: dict[tuple[Node, ...], None] = {}
        for fixed in places:
            nodes = []
            for position in itertools.product(*(range(shape[axis]) for axis in along)):
                at = list(fixed)
                for axis, coordinate in zip(along, position, strict=True):
                    at[axis] = coordinate
                nodes.append(Node(tensor.name, tuple(at)))
            # Steps of the fiber's own recurrence are no readers: the fiber is given.
            own = set(nodes)
            found[
                tuple(n for n in nodes if any(r not in own for r in graph.readers.get(n, ())))
            ] = None
        longest = max(len(nodes) for nodes in found)
        for read in found:
            if 2 * len(read) >= longest:
                yield _fiber(graph, read, frozenset((*parts, *joined)))


def _fiber(
    graph: ElementGraph,
    elements: tuple[Node, ...],
    along: frozenset[str],
) -> Fiber:
    """Collect what depends on the elements of a fiber."""
    cut = set(elements)
    reached = set(elements)
    pending = list(elements)
    while pending:
        node = pending.pop()
        for reader in graph.readers.get(node, ()):
            if reader not in reached:
                reached.add(reader)
                pending.append(reader)
    fiber = Fiber(graph, elements, along)
    order = []
    for node, facts in graph.facts.items():
        if node not in reached:
            continue
        order.append(node)
        if node in cut:
            fiber.operands[node] = fiber.private[node] = ()
            continue
        operands = tuple(o for o in graph.graph.pred[node] if o in reached)
        fiber.operands[node] = operands
        fiber.private[node] = tuple(o for o in operands if not _is_carried(graph, o, node, along))
        groups = [(g, tuple(graph.candidates(g))) for g in facts.gathers]
        found = {g: group for g, group in groups if any(c in reached for c in group)}
        if found:
            fiber.gathered[node] = found
    return replace(fiber, order=tuple(order))


def _is_carried(graph: ElementGraph, operand: Node, node: Node, along: frozenset[str]) -> bool:
    """True if a recurrence along the fiber hands an operand on from an earlier step."""
    of, to = graph.facts[operand], graph.facts[node]
    before = dict(of.steps)
    if of.group != to.group:
        # The element a recurrence starts from is defined outside of the loop.
        return operand.tensor == node.tensor and any(rank in along for rank, _ in to.steps)
    return any(before.get(rank, step) != step for rank, step in to.steps if rank in along)


# A tensor, and whether its elements are meant or the points of its map.
Kind = tuple[str, bool]


@dataclass(slots=True)
class Homes:
    """Homes and visits of all nodes of a fiber, as bitmasks; only nonempty ones are kept."""

    home: dict[Node, int] = field(default_factory=dict)
    visits: dict[Node, int] = field(default_factory=dict)
    # Nodes that gather something tied to the fiber.
    gathering: set[Node] = field(default_factory=set)


def homes_of(fiber: Fiber) -> Homes:
    """Compute homes group by group, so that a summary is known before it is read."""
    found = Homes()
    half = len(fiber.elements) // 2
    place = {node: 1 << i for i, node in enumerate(fiber.elements)}
    facts = fiber.source.facts
    for _, group in itertools.groupby(fiber.order, key=lambda node: facts[node].group):
        members = list(group)
        summaries: set[Kind] = set()
        shared: dict[Kind, set[int]] = {}
        while True:
            homes: dict[Kind, set[int]] = {}
            for node in members:
                kind = (node.tensor, node.point is None)
                home = place.get(node) or _home(fiber, found, node, shared.get(kind, set()))
                if node not in place and (kind in summaries or home.bit_count() > half):
                    home = 0
                found.home[node] = home
                if home and node not in place:
                    homes.setdefault(kind, set()).add(home)
            common = _shared(fiber, found, members)
            common = {kind: own | shared.get(kind, set()) for kind, own in common.items()} | {
                kind: own for kind, own in shared.items() if kind not in common
            }
            coarse = {kind for kind, different in homes.items() if len(different) <= half}
            if common != shared:
                shared = common
            elif coarse:
                summaries |= coarse
            else:
                break
    for node in fiber.order:
        if facts[node].kind != "map" or node in place:
            continue
        visits = 0
        for operand in fiber.private[node]:
            visits |= found.home[operand]
        if visits:
            found.visits[node] = visits
        tied = (c for group in fiber.gathered.get(node, {}).values() for c in group)
        if any(found.home.get(candidate) for candidate in tied):
            found.gathering.add(node)
    return found


def _shared(fiber: Fiber, found: Homes, members: list[Node]) -> dict[Kind, set[int]]:
    """Homes that most maps of a tensor touch, such as the end of a recurrence."""
    counts: dict[Kind, Counter[int]] = {}
    for node in members:
        if fiber.source.facts[node].kind == "map":
            touched = {found.home[operand] for operand in fiber.private[node]} - {0}
            counts.setdefault((node.tensor, node.point is None), Counter()).update(touched)
    sizes = Counter((node.tensor, node.point is None) for node in members)
    return {
        kind: common
        for kind, counter in counts.items()
        if (common := {home for home, count in counter.items() if 2 * count > sizes[kind]})
    }


def _home(fiber: Fiber, found: Homes, node: Node, shared: set[int]) -> int:
    homes = [found.home.get(operand, 0) for operand in fiber.private[node]]
    homes = [home for home in homes if home]
    if fiber.source.facts[node].kind == "map" and homes:
        homes = [home for home in homes if home not in shared] or homes
        smallest = min(home.bit_count() for home in homes)
        homes = [home for home in homes if home.bit_count() == smallest]
    union = 0
    for home in homes:
        union |= home
    return union
