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
nothing and visits nothing. Homes that most maps of a tensor have in common, as the end of a
recurrence, tie them to no place; of several smallest ones a map takes the union. A gather reads an
unknown element: it covers what every candidate covers, and visits F if a candidate is tied to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from einsum_cascade.cascade import Cascade, Tensor, affine
from einsum_cascade.element_fibers import Fiber, Homes, fibers, homes_of
from einsum_cascade.element_graph import Node, element_graph
from einsum_cascade.element_shapes import small_extents
from einsum_cascade.element_streams import sweeps_needed

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
    # Positions that they keep at hand behind the front.
    lookback: int = 1


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
        own = [count(fiber, lookback) for fiber in fibers(graph, tensor, rank)]
        if own:
            worst = max(own, key=lambda one: (one.lower, one.upper))
            found[tensor.name] = replace(worst, upper=max(one.upper for one in own))
    return found


def _covers(fiber: Fiber, homes: Homes, level: set[Node], *, is_first: bool) -> dict[Node, int]:
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
    homes = homes_of(fiber)
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
        lower, upper, tuple(widths), width, _witness(fiber, levels, covers), directions, lookback
    )


def _width(homes: Homes, level: set[Node]) -> int:
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


def is_traversed(cascade: Cascade, tensor: Tensor) -> bool:
    """False for the state of a recurrence, such as RM[m1+1,p]: it is kept, never traversed."""
    indices = [i for einsum in cascade.defining(tensor.name) for i in einsum.target.indices]
    return not any(affine(index).step for index in indices if affine(index).variables)
