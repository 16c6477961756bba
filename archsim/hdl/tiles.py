"""Tiles as hardware sees them: counters of a nest, and a class that says what differs.

A walker counts through the nest. What a unit does in a tile, and how far back the values lie that
it reads, depends on few things, mostly on whether a loop is at its first or last coordinate; tiles
that agree in all of it are of one class. Where a filter leaves out tiles, or masks them in turns,
first and last coordinates don't say enough: the walker then counts through the tiles of one head
and finds the class of each in a list.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Generic, TypeVar

from archsim.errors import ArchError
from archsim.program import Operand, Program, Task, Tile
from einsum_cascade.errors import Problem, Source

# Loops over heads: what happens in one repeats in the next.
BATCH = ("b", "h")
# Tiles of a head that a list may hold.
LISTED = 4096

Key = tuple[bool, ...]
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Feature:
    """Whether a loop stands at a coordinate; None is its last one."""

    loop: str
    at: int | None

    @property
    def name(self) -> str:
        """As the generated text calls it."""
        return f"{self.loop}_is_{'last' if self.at is None else self.at}"


@dataclass(frozen=True)
class Choice(Generic[Value]):
    """A value for each combination of some features; `of[()]` if nothing matters."""

    features: tuple[Feature, ...]
    of: dict[Key, Value]


@dataclass(frozen=True)
class Class:
    """What tiles of one class have in common, for one unit."""

    # Number of the mask of the array's PEs.
    mask: int
    acts: tuple[str, ...]
    # Task and operand -> turns of its register since the value was made; None: before the first.
    back: tuple[tuple[str, Operand, int | None], ...]

    def turns(self, task: Task, operand: Operand) -> int | None:
        """Turns of a register since the value was made that an operand reads."""
        return next(t for name, read, t in self.back if (name, read) == (task.name, operand))


@dataclass(frozen=True)
class Walk:
    """The nest, without loops of one tile, and the classes of its tiles for one unit.

    `class_at` chooses by coordinates, or lists the classes along the innermost loop.
    """

    bounds: tuple[tuple[str, Choice[int]], ...]
    classes: tuple[Class, ...]
    class_at: Choice[int] | tuple[int, ...]
    # Class of each tile, in order.
    sequence: tuple[int, ...]


def walk(program: Program, unit: str) -> Walk:
    """Find the classes of a Program's tiles for a unit, and how the nest is counted.

    Raises:
        ArchError: more tiles than can be listed, where coordinates don't say enough.
    """
    tiles = program.tiles
    loops = [loop.variable for loop in program.nest if loop.count > 1]
    points = [tuple(dict(tile.at)[loop] for loop in loops) for tile in tiles]
    counts = _counts(loops, points)
    facts = [_class(program, unit, tile) for tile in tiles]
    classes = {fact: number for number, fact in enumerate(dict.fromkeys(facts))}
    sequence = [classes[fact] for fact in facts]
    features = list(_features(program, loops))

    def holds(number: int, feature: Feature) -> bool:
        coordinate = points[number][loops.index(feature.loop)]
        last = counts[points[number][: loops.index(feature.loop)]] - 1
        return coordinate == (last if feature.at is None else feature.at)

    every = range(len(tiles))
    bounds = []
    for depth, loop in enumerate(loops):
        outer = [feature for feature in features if feature.loop in loops[:depth]]
        values = [counts[points[number][:depth]] for number in every]
        bounds.append((loop, _choice(outer, values, holds)))
    class_at = _choice(features, sequence, holds)
    found = [(loop, bound) for loop, bound in bounds if bound is not None]
    if _is_dense(points, counts) and class_at is not None and len(found) == len(loops):
        return Walk(tuple(found), tuple(classes), class_at, tuple(sequence))
    return _listed(program, tuple(classes), sequence)


def _is_dense(points: list[tuple[int, ...]], counts: dict[tuple[int, ...], int]) -> bool:
    """True if every loop begins at 0 and leaves out nothing until its end."""
    heads = [{point[:depth] for point in points} for depth in range(len(points[0]) + 1)]
    return all(
        len(longer) == sum(counts[point] for point in shorter)
        for shorter, longer in pairwise(heads)
    )


def _listed(program: Program, classes: tuple[Class, ...], sequence: list[int]) -> Walk:
    """Loops over heads, and a list of classes for the tiles of one."""
    heads = [loop for loop in program.nest if loop.variable in BATCH and loop.count > 1]
    each = len(sequence) // prod(loop.count for loop in heads)
    once = tuple(sequence[:each])
    if once * (len(sequence) // each) != tuple(sequence):
        text = f"tiles of one head of {program.cascade.name} are not those of another"
        raise ArchError(Problem(Source(program.name), text, hint="no hardware can be written yet"))
    if each > LISTED:
        text = f"{each:,} tiles of a head that don't follow from first and last coordinates"
        hint = f"hardware lists at most {LISTED:,}: take shorter ranks, or larger tiles"
        raise ArchError(Problem(Source(program.name), text, hint=hint))
    bounds = tuple((loop.variable, Choice((), {(): loop.count})) for loop in heads)
    if each > 1:
        return Walk((*bounds, ("tile", Choice((), {(): each}))), classes, once, tuple(sequence))
    return Walk(bounds, classes, Choice((), {(): once[0]}), tuple(sequence))


def _counts(loops: Sequence[str], points: list[tuple[int, ...]]) -> dict[tuple[int, ...], int]:
    """How many coordinates a loop has behind each point of the loops outside it."""
    found: dict[tuple[int, ...], int] = {}
    for point in points:
        for depth in range(len(loops)):
            outer = point[:depth]
            found[outer] = max(found.get(outer, 0), point[depth] + 1)
    return found


def _features(program: Program, loops: Sequence[str]) -> Iterator[Feature]:
    """First and last coordinates, and those near the first that a value comes from before it."""
    deepest = dict.fromkeys(loops, 1)
    for task in program.tasks:
        for operand in (o for step in task.steps for o in step.operands):
            for loop, steps in operand.back:
                if loop in deepest:
                    deepest[loop] = max(deepest[loop], steps)
    for loop in loops:
        yield Feature(loop, None)
        yield from (Feature(loop, at) for at in range(deepest[loop]))


def _choice(
    features: list[Feature], values: Sequence[Value], holds: Callable[[int, Feature], bool]
) -> Choice[Value] | None:
    """Express values, one for each tile, by as few features as possible; None if they can't."""
    columns = {feature: [holds(n, feature) for n in range(len(values))] for feature in features}

    def table(chosen: Sequence[Feature]) -> dict[Key, Value] | None:
        found: dict[Key, Value] = {}
        for number, value in enumerate(values):
            key = tuple(columns[feature][number] for feature in chosen)
            if found.setdefault(key, value) != value:
                return None
        return found

    chosen = list(features)
    best = table(chosen)
    if best is None:
        return None
    for feature in features:
        fewer = [other for other in chosen if other != feature]
        smaller = table(fewer)
        if smaller is not None:
            chosen, best = fewer, smaller
    return Choice(tuple(chosen), best)


def register_operands(task: Task) -> Iterator[Operand]:
    """Operands that a task reads from registers, each once."""
    yield from dict.fromkeys(
        operand for step in task.steps for operand in step.operands if operand.source == "register"
    )


def _class(program: Program, unit: str, tile: Tile) -> Class:
    """Everything that a unit does differently from tile to tile."""
    depths = {r.tensor: r.depth for r in program.registers if r.unit == unit}
    acts: list[str] = []
    back: list[tuple[str, Operand, int | None]] = []
    for task in program.tasks:
        if task.unit != unit or tile.index not in program.ordinals[task.name]:
            continue
        acts.append(task.name)
        for operand in register_operands(task):
            maker = program.source(task, operand)
            made = program.source_tile(task, tile, operand)
            turns = None
            if made is not None:
                turns = _made_before(program, maker, tile) - program.ordinals[maker.name][made]
                turns %= depths[maker.tensor]
            back.append((task.name, operand, turns))
    mask = program.masks[1][tile.index] if unit == program.array.name else 0
    return Class(mask, tuple(acts), tuple(back))


def _made_before(program: Program, maker: Task, tile: Tile) -> int:
    """How many tiles before this one a task acts on."""
    return bisect_left(program.acting[maker.name], tile.index)
