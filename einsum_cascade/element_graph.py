"""The dependencies of a cascade element by element, at small sizes: an explicit directed graph.

A node is one element of a tensor, or one point of a reduction's map (`QK'[m,p] e` multiplies one
pair of elements that `QK[m,p]` then adds up). An edge says "is an operand of". Which points exist
follows the language: a point whose read lies outside an input or meets an empty element, or which
the filter excludes, does not. What a gather reads depends on data that the graph does not know:
its node has the index as operand and is marked with the fiber it may read from.

This is the ground truth of the pass analysis (`element_passes`); it knows no algebra and no
symbols, and is meant for extents of a few dozen.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from einsum_cascade.cascade import Cascade, Einsum, affine, variables_in
from einsum_cascade.expressions import (
    Access,
    Apply,
    Compare,
    Condition,
    Expr,
    Logic,
    Name,
    Number,
    Select,
)
from einsum_cascade.operator_values import RELATIONS, VALUES
from einsum_cascade.operators import REDUCTIONS
from einsum_cascade.ordering import Loop, Plan, plan

if TYPE_CHECKING:
    import networkx as nx

# Size of a rank that has no name: a tensor is gathered from along it, and nothing else.
GATHERED_FROM = 4
_INTEGERS: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "floordiv": operator.floordiv,
    "mod": operator.mod,
    "neg": operator.neg,
    "min": min,
    "max": max,
    "clamp": lambda x, low, high: min(max(x, low), high),
}


class Node(NamedTuple):
    """An element of a tensor or, with the reduced coordinates as `point`, a map of a reduction."""

    tensor: str
    at: tuple[int, ...]
    point: tuple[int, ...] | None = None

    def __str__(self) -> str:
        """Print as `QK[3,0]`, a point of a map with a prime: `QK'[3,0,1]`."""
        coordinates = ",".join(map(str, self.at + (self.point or ())))
        return f"{self.tensor}{'' if self.point is None else chr(39)}[{coordinates}]"


class Gather(NamedTuple):
    """A read at computed coordinates: None where the coordinate is unknown."""

    tensor: str
    at: tuple[int | None, ...]
    # Elements that its index reads.
    pointers: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a node beside its operands."""

    # "input", "map", or "reduction"; a copy is a reduction of one element.
    kind: str
    # Which strongly connected group of definitions it is of, and at which step of its loops.
    group: int = -1
    steps: tuple[tuple[str, int], ...] = ()
    gathers: tuple[Gather, ...] = ()


@dataclass(frozen=True, slots=True)
class ElementGraph:
    """All elements of a cascade at given extents, producers before readers."""

    cascade: Cascade
    extents: Mapping[str, int]
    # Edges lead from operands to what is computed of them.
    graph: nx.DiGraph[Node]
    facts: Mapping[Node, Facts]
    shapes: Mapping[str, tuple[int, ...]]
    # Who reads each element, or may read it in a gather.
    readers: dict[Node, list[Node]] = field(default_factory=dict)

    def candidates(self, gather: Gather) -> Iterator[Node]:
        """Every element that a gather may read."""
        axes = zip(gather.at, self.shapes[gather.tensor], strict=True)
        for at in itertools.product(*(range(size) if c is None else (c,) for c, size in axes)):
            if (node := Node(gather.tensor, at)) in self.facts:
                yield node


def element_graph(cascade: Cascade, extents: Mapping[str, int]) -> ElementGraph:
    """Build the graph of a cascade; `extents` gives every rank of a variable or tensor its size."""
    import networkx as nx

    build = _Build(cascade, extents, nx.DiGraph(), {})
    for tensor in cascade.tensors:
        build.shapes[tensor.name] = build.shape(tensor.name)
    for name in cascade.inputs:
        for at in itertools.product(*map(range, build.shapes[name])):
            build.add(Node(name, at), (), Facts("input"))
    for group, step in enumerate(plan(cascade.einsums, dict(cascade.variables))):
        build.run((step,), {}, group)
    found = ElementGraph(cascade, extents, build.graph, build.facts, build.shapes)
    for node, facts in build.facts.items():
        for operand in build.graph.pred[node]:
            found.readers.setdefault(operand, []).append(node)
        for gather in facts.gathers:
            for candidate in found.candidates(gather):
                found.readers.setdefault(candidate, []).append(node)
    return found


@dataclass(slots=True)
class _Build:
    """A graph while it grows. `varying` are the axes along which a tensor has empty elements."""

    cascade: Cascade
    extents: Mapping[str, int]
    graph: nx.DiGraph[Node]
    facts: dict[Node, Facts]
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    varying: dict[str, set[int]] = field(default_factory=dict)

    def shape(self, name: str) -> tuple[int, ...]:
        sizes = []
        for axis, dim in enumerate(self.cascade.tensor(name).dims):
            fixed = [affine(e.target.indices[axis]).step for e in self.cascade.defining(name)]
            unnamed = 1 + max((step or 0 for step in fixed), default=GATHERED_FROM - 1)
            sizes.append(self.extents[dim.rank] + dim.extra if dim.rank else unnamed)
        return tuple(sizes)

    def add(self, node: Node, operands: Iterable[Node], facts: Facts) -> None:
        self.facts[node] = facts
        self.graph.add_node(node)
        self.graph.add_edges_from((source, node) for source in operands)

    def run(self, steps: Plan, fixed: Mapping[str, int], group: int) -> None:
        """Follow a plan; `fixed` maps ranks of enclosing recurrences to their coordinate."""
        for step in steps:
            if isinstance(step, Loop):
                coordinates = range(self.extents[step.rank])
                for at in reversed(coordinates) if step.is_descending else coordinates:
                    self.run(step.body, {**fixed, step.rank: at}, group)
            else:
                self.einsum(step, fixed, group)

    def einsum(self, einsum: Einsum, fixed: Mapping[str, int], group: int) -> None:
        """Add the elements that one Einsum defines, or those of one step of its loops."""
        ranks = {v: self.cascade.rank_of(v) for v in einsum.variables}
        over = set(einsum.over)
        is_copy = isinstance(einsum.map, Access) and len(einsum.reads) == 1
        steps = tuple(fixed.items())
        causes: set[str] = set()
        kept = (
            (fixed[ranks[v]],) if ranks[v] in fixed else range(self.extents[ranks[v]])
            for v in einsum.left
        )
        for left in itertools.product(*kept):
            at = dict(zip(einsum.left, left, strict=True))
            target = Node(einsum.name, self.coordinates(einsum.target, at))
            # Operands and gathers of the element, or of the points of its reduction.
            points: dict[Node, _Point] = {}
            is_empty = False
            for inner in itertools.product(*(range(self.extents[ranks[v]]) for v in einsum.over)):
                point = _Point(self, {**at, **dict(zip(einsum.over, inner, strict=True))})
                point.look(einsum)
                lasting = [names for names in point.empty if not names & over]
                causes.update(*lasting)
                is_empty = is_empty or bool(lasting)
                if not point.empty:
                    points[Node(einsum.name, target.at, inner)] = point
            if is_empty or not self.inside(target):
                continue
            if einsum.op is None or is_copy:
                operands = [node for point in points.values() for node in point.operands]
                gathers = [gather for point in points.values() for gather in point.gathers]
                kind = "reduction" if is_copy else "map"
                self.add(target, operands, Facts(kind, group, steps, tuple(gathers)))
                continue
            for node, point in points.items():
                facts = Facts("map", group, steps, tuple(point.gathers))
                self.add(node, point.operands, facts)
            self.add(target, points, Facts("reduction", group, steps))
        varying = self.varying.setdefault(einsum.name, set())
        selects = einsum.op is not None and REDUCTIONS[einsum.op].selects
        for axis, index in enumerate(einsum.target.indices):
            if selects or set(variables_in(index)) & causes:
                varying.add(axis)

    def inside(self, node: Node) -> bool:
        return all(0 <= c < size for c, size in zip(node.at, self.shapes[node.tensor], strict=True))

    def coordinates(self, access: Access, at: Mapping[str, int]) -> tuple[int, ...]:
        """Coordinates of an access without gathers at given values of the variables."""
        found = [self.value(index, at) for index in access.indices]
        assert all(isinstance(c, int) for c in found), access
        return tuple(found)

    def value(self, expr: Expr | Condition, at: Mapping[str, int]) -> Any:
        """Value of an expression, or None if it depends on data."""
        match expr:
            case Number(value=value):
                return value
            case Name(name=name) if name in at:
                return at[name]
            case Name(name=name):
                return self.extents.get(name, dict(self.cascade.parameters).get(name))
            case Apply(operator=name, arguments=arguments):
                values = [self.value(argument, at) for argument in arguments]
                if any(value is None for value in values):
                    return None
                if name in _INTEGERS:
                    return _INTEGERS[name](*values)
                number = float(VALUES[name](*values))
                return int(number) if number.is_integer() else number
            case Select(condition=condition, then=then, otherwise=otherwise):
                holds = self.value(condition, at)
                return None if holds is None else self.value(then if holds else otherwise, at)
            case Compare(symbol=symbol, left=left, right=right):
                first, second = self.value(left, at), self.value(right, at)
                known = first is not None and second is not None
                return bool(RELATIONS[symbol](first, second)) if known else None
            case Logic(word=word, terms=terms):
                return _truth(word, [self.value(term, at) for term in terms])
        return None


def _truth(word: str, terms: list[bool | None]) -> bool | None:
    """Join truth values of which some are unknown."""
    if word == "not":
        return None if terms[0] is None else not terms[0]
    decisive = word == "or"
    if decisive in terms:
        return decisive
    return None if None in terms else not decisive


@dataclass(slots=True)
class _Point:
    """One point of an Einsum: what it reads, and the variables that make it empty.

    `choosers` are the variables that decide the branch of a selection which is being read.
    """

    build: _Build
    at: Mapping[str, int]
    operands: dict[Node, None] = field(default_factory=dict)
    gathers: dict[Gather, None] = field(default_factory=dict)
    empty: list[set[str]] = field(default_factory=list)
    choosers: frozenset[str] = frozenset()
    # In a branch that data chooses: it may be read, and empties nothing for sure.
    is_possible: bool = False

    def look(self, einsum: Einsum) -> None:
        self.reads(einsum.map)
        terms = []
        if einsum.where is not None:
            terms = [einsum.where]
            self.reads(einsum.where)
        while terms:
            term = terms.pop()
            if isinstance(term, Logic) and term.word == "and":
                terms += term.terms
            elif self.build.value(term, self.at) is False:
                self.exclude(set(variables_in(term)))

    def reads(self, expr: Expr | Condition) -> None:
        """Read every access of an expression; of a selection only what it may choose."""
        match expr:
            case Access(indices=indices):
                for index in indices:
                    self.reads(index)
                self.read(expr)
            case Apply(arguments=children) | Logic(terms=children):
                for child in children:
                    self.reads(child)
            case Compare(left=left, right=right):
                self.reads(left)
                self.reads(right)
            case Select():
                self.select(expr)

    def select(self, expr: Select) -> None:
        before = self.choosers, self.is_possible
        self.reads(expr.condition)
        holds = self.build.value(expr.condition, self.at)
        self.choosers |= set(variables_in(expr.condition))
        self.is_possible = self.is_possible or holds is None
        if holds is not False:
            self.reads(expr.then)
        if holds is not True:
            self.reads(expr.otherwise)
        self.choosers, self.is_possible = before

    def exclude(self, variables: set[str]) -> None:
        if not self.is_possible:
            self.empty.append(variables | self.choosers)

    def read(self, access: Access) -> None:
        place: list[int | None] = []
        causes: set[str] = set()
        outside = False
        varying = self.build.varying.get(access.tensor, set())
        for axis, index in enumerate(access.indices):
            coordinate = self.build.value(index, self.at)
            size = self.build.shapes[access.tensor][axis]
            if coordinate is not None and not 0 <= coordinate < size:
                self.exclude(set(variables_in(index)))
                coordinate, outside = 0, True
            place.append(coordinate)
            causes |= set(variables_in(index)) if axis in varying else set()
        if None in place:
            inner = _Point(self.build, self.at)
            for index in access.indices:
                inner.reads(index)
            pointers = tuple(inner.operands)
            self.gathers[Gather(access.tensor, tuple(place), pointers)] = None
            return
        node = Node(access.tensor, tuple(c for c in place if c is not None))
        if node not in self.build.facts:
            self.exclude(causes)
        elif not outside:
            self.operands[node] = None
