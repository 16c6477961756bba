"""Passes counted element by element: the definition of a pass number, taken literally.

For one fiber F = (x_0 .. x_{n-1}) of a root tensor, every node of the element graph has

    home     positions of F that its value is tied to: {i} for x_i, the union of the operands' for
             a reduction, the smallest nonempty one of the operands for a map; empty if it exceeds
             half of F, or if the tensor has so few different homes (n/2) that it is a summary
    visits   the homes of a map's operands: positions that are touched when it is computed
    cover    the positions visited, in the sweep under consideration, by it or an ancestor

Level 1 is all visiting nodes. A visiting node belongs to level l+1 if its operands together cover
all of F with visits of level l: it cannot be computed before sweep l has seen everything. The
number of passes is the last level that touches more than half of F (or that gathers from it).
This is a lower bound for every order of computation; `sweeps_needed` gives an upper one, by
streaming F greedily forwards or backwards with a bounded lookback. Where both agree, the number is
exact.

Decisions where the definition leaves a choice. F holds the elements that somebody reads, since the
others are never traversed. What a recurrence carries from an earlier step is state: it ties to
nothing and visits nothing. Of several smallest homes a map takes the union. A gather reads an
unknown element: it covers what every candidate covers, and visits F if a candidate is tied to it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from einsum_cascade.cascade import Cascade, Tensor, affine
from einsum_cascade.element_graph import ElementGraph, Gather, Node, element_graph
from einsum_cascade.element_shapes import small_extents

# Of fewer elements that are read, "all of them" says nothing.
SHORTEST = 4


@dataclass(frozen=True, slots=True)
class ElementCount:
    """Passes of one fiber: at least `lower`, at most `upper`; both bounds come with evidence."""

    lower: int
    upper: int
    # Distinct positions that each level touches, and what is left over after the last.
    widths: tuple[int, ...]
    tail: int
    # Nodes from the first read to the last visit, each depending on the one before.
    witness: tuple[str, ...]
    # Directions of the sweeps that reach `upper`: 1 upwards, -1 downwards.
    directions: tuple[int, ...]


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


def count_passes(
    cascade: Cascade,
    rank: str,
    *,
    length: int = 24,
    lookback: int = 5,
    sizes: Mapping[str, int] | None = None,
) -> dict[str, ElementCount]:
    r"""Count the passes of every tensor that carries a rank, element by element.

    Args:
        cascade: a legal cascade.
        rank: a rank, whole or part of a split or of a concatenation.
        length: positions of the analysed rank.
        lookback: positions that stay at hand behind the front of a sweep.
        sizes: extents of other ranks, where the small ones will not do.

    Returns:
        For each tensor the counts of the fiber that needs most.

    Source:
        FuseMax (MICRO 2024), section III; definition in the module's docstring.

    Example:
        >>> from einsum_cascade.legality import parse
        >>> two = parse("Y = A[k]*B[k]\nZ = sum[k](Y*A[k])")
        >>> count_passes(two, "K")["A"].lower
        2
    """
    graph = element_graph(cascade, small_extents(cascade, rank, length, sizes))
    found = {}
    for tensor in cascade.tensors:
        if not is_traversed(cascade, tensor):
            continue
        those = list(fibers(graph, tensor, rank))
        # Fibers cut short by an edge or a filter say nothing about long ones.
        enough = max((len(f.elements) for f in those), default=0) / 2
        own = [count(f, lookback) for f in those if len(f.elements) >= enough]
        if own:
            worst = max(own, key=lambda one: (one.lower, one.upper))
            found[tensor.name] = replace(worst, upper=max(one.upper for one in own))
    return found


def fibers(graph: ElementGraph, tensor: Tensor, rank: str) -> Iterator[Fiber]:
    """Fibers of a tensor along a rank, or along all parts of a split rank.

    Of its other ranks those at the first, the middle and the last coordinate are taken: edges and
    filters make a difference there.
    """
    parts = graph.cascade.parts_of(rank)
    joined = (rank, *graph.cascade.concatenated(rank))
    axes: list[tuple[int, ...]] = [(a,) for a, name in enumerate(tensor.ranks) if name in joined]
    if len(parts) > 1 and set(parts) <= set(tensor.ranks):
        axes.append(tuple(tensor.ranks.index(part) for part in parts))
    shape = graph.shapes[tensor.name]
    for along in axes:
        others = [
            (0,) if axis in along else sorted({0, size // 2, size - 1})
            for axis, size in enumerate(shape)
        ]
        for fixed in itertools.product(*others):
            nodes = []
            for position in itertools.product(*(range(shape[axis]) for axis in along)):
                at = list(fixed)
                for axis, coordinate in zip(along, position, strict=True):
                    at[axis] = coordinate
                nodes.append(Node(tensor.name, tuple(at)))
            read = tuple(node for node in nodes if graph.readers.get(node))
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


@dataclass(slots=True)
class _Homes:
    """Homes and visits of all nodes of a fiber, as bitmasks; only nonempty ones are kept."""

    home: dict[Node, int] = field(default_factory=dict)
    visits: dict[Node, int] = field(default_factory=dict)
    # Nodes that gather something tied to the fiber.
    gathering: set[Node] = field(default_factory=set)


def _homes(fiber: Fiber) -> _Homes:
    """Compute homes group by group, so that a summary is known before it is read."""
    found = _Homes()
    half = len(fiber.elements) // 2
    place = {node: 1 << i for i, node in enumerate(fiber.elements)}
    facts = fiber.source.facts
    for _, group in itertools.groupby(fiber.order, key=lambda node: facts[node].group):
        members = list(group)
        summaries: set[tuple[str, bool]] = set()
        while True:
            homes: dict[tuple[str, bool], set[int]] = {}
            for node in members:
                kind = (node.tensor, node.point is None)
                home = place.get(node) or _home(fiber, found, node)
                if node not in place and (kind in summaries or home.bit_count() > half):
                    home = 0
                found.home[node] = home
                if home and node not in place:
                    homes.setdefault(kind, set()).add(home)
            coarse = {kind for kind, different in homes.items() if len(different) <= half}
            if not coarse:
                break
            summaries |= coarse
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


def _home(fiber: Fiber, found: _Homes, node: Node) -> int:
    homes = [found.home.get(operand, 0) for operand in fiber.private[node]]
    homes = [home for home in homes if home]
    if fiber.source.facts[node].kind == "map" and homes:
        smallest = min(home.bit_count() for home in homes)
        homes = [home for home in homes if home.bit_count() == smallest]
    union = 0
    for home in homes:
        union |= home
    return union


def _covers(fiber: Fiber, homes: _Homes, level: set[Node], *, is_first: bool) -> dict[Node, int]:
    """Positions visited by a level's nodes among each node and its ancestors."""
    found: dict[Node, int] = {}
    if is_first:
        # Reading an element is its first visit, whoever reads it.
        found = {node: 1 << i for i, node in enumerate(fiber.elements)}
    for node in fiber.order:
        cover = found.get(node, 0) | _operand_cover(fiber, found, node)
        if node in level:
            cover |= homes.visits.get(node, 0)
        found[node] = cover
    return found


def _operand_cover(fiber: Fiber, cover: Mapping[Node, int], node: Node) -> int:
    union = 0
    for operand in fiber.operands[node]:
        union |= cover[operand]
    for group in fiber.gathered.get(node, {}).values():
        common = fiber.everything
        for candidate in group:
            common &= cover.get(candidate, 0)
        union |= common
    return union


def count(fiber: Fiber, lookback: int) -> ElementCount:
    """Count the passes over one fiber from below and from above.

    Args:
        fiber: from `fibers`.
        lookback: how many positions behind the front of a sweep are still at hand: tiles and
            windows. Used as far as the fiber is longer than (passes + 2)(lookback + 1).
    """
    if len(fiber.elements) < SHORTEST:
        return ElementCount(1, 1, (0,), 0, (), (1,))
    homes = _homes(fiber)
    level = set(homes.visits) | homes.gathering
    levels, covers, widths = [level], [], [len(fiber.elements)]
    while True:
        cover = _covers(fiber, homes, level, is_first=len(levels) == 1)
        covers.append(cover)
        level = {n for n in levels[0] if _operand_cover(fiber, cover, n) == fiber.everything}
        width = _width(homes, level)
        gathers = bool(level & homes.gathering)
        if 2 * width <= len(fiber.elements) and not gathers:
            break
        levels.append(level)
        widths.append(width)
    lower = len(levels)
    # With more lookback than that a sweep could leave out enough positions to save another one.
    lookback = max(1, min(lookback, len(fiber.elements) // (lower + 2) - 1))
    upper, directions = sweeps_needed(fiber, homes, lookback, lower)
    return ElementCount(
        lower, upper, tuple(widths), width, _witness(fiber, levels, covers), directions
    )


def _width(homes: _Homes, level: set[Node]) -> int:
    """How many positions a level can touch at once by paths that share nothing: a matching."""
    different = sorted({homes.visits.get(node, 0) for node in level} - {0})
    if all(home.bit_count() == 1 for home in different):
        return len(different)
    owner: dict[int, int] = {}

    def place(home: int, tried: set[int]) -> bool:
        rest = home
        while rest:
            bit = rest & -rest
            rest ^= bit
            if bit not in tried:
                tried.add(bit)
                if bit not in owner or place(owner[bit], tried):
                    owner[bit] = home
                    return True
        return False

    return sum(place(home, set()) for home in different)


def _witness(
    fiber: Fiber, levels: list[set[Node]], covers: list[dict[Node, int]]
) -> tuple[str, ...]:
    """A chain of visits and barriers, from the highest level down to the first read."""
    rank = {node: i for i, node in enumerate(fiber.order)}
    lines: list[str] = []
    candidates = levels[-1]
    for number in range(len(levels), 0, -1):
        if not candidates:
            break
        node = min(candidates, key=rank.__getitem__)
        lines.append(f"visit@{number}: {node}")
        if number == 1:
            break
        cover, above = covers[number - 2], _ancestors(fiber, node)
        full = [a for a in above if cover[a] == fiber.everything]
        # Two operands may cover the fiber together, each from its side.
        barrier = min(full, key=rank.__getitem__) if full else node
        lines.append(f"barrier@{number - 1}: {barrier}")
        candidates = levels[number - 2] & (_ancestors(fiber, barrier) | {barrier}) - {node}
    return tuple(reversed(lines))


def _ancestors(fiber: Fiber, node: Node) -> set[Node]:
    found: set[Node] = set()
    pending = [node]
    while pending:
        current = pending.pop()
        groups = fiber.gathered.get(current, {}).values()
        above = (*fiber.operands[current], *(c for g in groups for c in g if c in fiber.operands))
        new = [node for node in above if node not in found]
        found.update(new)
        pending += new
    return found


def sweeps_needed(
    fiber: Fiber, homes: _Homes, lookback: int, least: int = 1
) -> tuple[int, tuple[int, ...]]:
    """Fewest sweeps of a greedy stream over all choices of directions, and those directions."""
    best: tuple[int, tuple[int, ...]] = (1 << 30, ())
    for length in range(least, least + 3):
        for directions in itertools.product((1, -1), repeat=length):
            sweeps = _stream(fiber, homes, lookback, directions)
            if sweeps < best[0]:
                best = (sweeps, directions[:sweeps])
            if best[0] == least:
                return best
        if best[0] <= length:
            break
    return best


def _stream(fiber: Fiber, homes: _Homes, lookback: int, directions: tuple[int, ...]) -> int:
    """Sweeps that a greedy schedule takes; after the given directions the last one repeats."""
    n = len(fiber.elements)

    def at(sweep: int, position: int) -> int:
        way = directions[min(sweep, len(directions)) - 1]
        return position if way > 0 else n - 1 - position

    # What only ever looks at a few positions keeps them: RD[M1], the end of a recurrence.
    touched: dict[tuple[str, bool], int] = {}
    for node, visits in homes.visits.items():
        kind = (node.tensor, node.point is None)
        touched[kind] = touched.get(kind, 0) | visits
    few = {kind for kind, all_visits in touched.items() if all_visits.bit_count() <= 1 + lookback}
    # Sweep and position from which each value is known; (0, 0) before the first sweep.
    known: dict[Node, tuple[int, int]] = {
        node: (1, at(1, i)) for i, node in enumerate(fiber.elements)
    }
    last = 1
    for node in fiber.order:
        if node in known:
            continue
        time = max((known[operand] for operand in fiber.operands[node]), default=(0, 0))
        if fiber.source.facts[node].kind == "map":
            for gather, group in fiber.gathered.get(node, {}).items():
                index = max((known.get(node, (0, 0))[0] for node in gather.pointers), default=0)
                late = max((known[c][0] for c in group if c in known), default=1)
                time = max(time, (max(index + 1, late), n - 1))
            visits = homes.visits.get(node, 0)
            if visits and (node.tensor, node.point is None) not in few:
                places = [i for i in range(n) if visits >> i & 1]
                here = [at(time[0], i) for i in places]
                front = max(time[1], *here)
                if front - min(here) <= lookback:
                    time = (time[0], front)
                else:
                    time = (time[0] + 1, max(at(time[0] + 1, i) for i in places))
            if visits or node in homes.gathering:
                last = max(last, time[0])
        known[node] = time
    return last


def is_traversed(cascade: Cascade, tensor: Tensor) -> bool:
    """False for the state of a recurrence, such as RM[m1+1,p]: it is kept, never traversed."""
    indices = [i for einsum in cascade.defining(tensor.name) for i in einsum.target.indices]
    return not any(affine(index).step for index in indices if affine(index).variables)
