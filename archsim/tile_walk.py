"""The tiles of a Program as a tree of repetitions, without a look at every one.

Tiles with equal entries (what acts, how old everything is that it reads, how much it holds) are of
one class. Rows are runs of classes; a loop over rows is a list of (child, times). A child repeats
when the next coordinates of the loop mean the same to everything inside and the counters of the
walk, taken relative to now, are as they were: equal states and equal inputs have equal futures.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from math import prod

import numpy as np
from numpy.typing import NDArray

from archsim import tile_kernel as kernel
from archsim.errors import ArchError
from archsim.tile_tables import Tables
from einsum_cascade.errors import Problem, Source

Ints = NDArray[np.int64]
# A child of a tree: leaves are runs (class, count); FLUSH lets the pipeline run empty.
Runs = tuple[tuple[int, int], ...]
FLUSH = -1


@dataclass
class Stream:
    """Classes of tiles, and the tree: node 0 is walked once."""

    tables: Tables
    classes: list[Ints] = field(default_factory=list)
    # Each node is ("runs", ((class, times), ...)) or ("nodes", ((node, times), ...)).
    nodes: list[tuple[str, Runs]] = field(default_factory=list)
    root: int = 0

    def expand(self) -> Iterator[int]:
        """The class of every tile, one by one, and FLUSH where the pipeline runs empty."""
        yield from self._expand(self.root)

    def _expand(self, node: int) -> Iterator[int]:
        if node == FLUSH:
            yield FLUSH
            return
        kind, items = self.nodes[node]
        for item, times in items:
            for _ in range(times):
                if kind == "runs":
                    yield item
                else:
                    yield from self._expand(item)


def walk(tables: Tables, near: int) -> Stream:
    """Walk through the nest.

    Args:
        tables: what to keep track of.
        near: acts older than this are only known to be old.

    Raises:
        ArchError: a register is read long after it was overwritten.
    """
    walker = _Walker(tables, near)
    walker.stream.root = walker.node(0, [0] * len(walker.shape.counts))
    tail = walker.flush()
    if tail:
        runs = walker.intern(("runs", tail))
        walker.stream.root = walker.intern(("nodes", ((walker.stream.root, 1), (runs, 1))))
    return walker.stream


def class_counts(stream: Stream) -> list[int]:
    """How many tiles there are of each class."""
    known: dict[int, dict[int, int]] = {FLUSH: {}}

    def count(node: int) -> dict[int, int]:
        if node not in known:
            kind, items = stream.nodes[node]
            found: dict[int, int] = {}
            for item, times in items:
                inner = {item: 1} if kind == "runs" else count(item)
                for number, tiles in inner.items():
                    found[number] = found.get(number, 0) + times * tiles
            known[node] = found
        return known[node]

    found = count(stream.root)
    return [found.get(number, 0) for number in range(len(stream.classes))]


class _Walker:
    def __init__(self, tables: Tables, near: int) -> None:
        self.tables = tables
        self.stream = Stream(tables)
        self.shape = _shape(tables, near)
        self.state = _state(tables, self.shape)
        self.known_classes: dict[bytes, int] = {}
        self.known_nodes: dict[tuple[str, Runs], int] = {}
        rows = self.shape.counts[-1] + self.shape.lag + 1
        self.out = np.zeros((rows, self.state.pending.shape[1]), np.int64)
        heads = [n for n, loop in enumerate(tables.loops) if loop in ("b", "h")]
        self.drains = tables.program.drain == "head"
        # The level below which a head is walked whole.
        self.head_level = len(heads)

    def intern(self, node: tuple[str, Runs]) -> int:
        """The number of a node, a new one if it was not met before."""
        if node not in self.known_nodes:
            self.known_nodes[node] = len(self.stream.nodes)
            self.stream.nodes.append(node)
        return self.known_nodes[node]

    def node(self, level: int, at: list[int]) -> int:
        """Walk everything inside the coordinates that are set."""
        loops = len(self.shape.counts)
        if level == loops - 1:
            found = self.intern(("runs", self.row(at)))
        else:
            items: list[tuple[int, int]] = []
            for first, count in _alike(self.shape, at, level):
                k = first
                while k < first + count:
                    before = self.relative()
                    at[level] = k
                    child = self.node(level + 1, at)
                    times = first + count - k if self.relative() == before else 1
                    _append(items, child, times)
                    k += times
            at[level] = 0
            found = self.intern(("nodes", tuple(items)))
        if self.drains and level == min(self.head_level, loops - 1):
            rest = self.intern(("runs", self.flush()))
            found = self.intern(("nodes", ((found, 1), (rest, 1), (FLUSH, 1))))
        return found

    def row(self, at: list[int]) -> Runs:
        """Walk the innermost loop."""
        made = kernel.walk_row(self.shape, self.state, np.array(at, np.int64), self.out)
        if made < 0:
            raise self.too_late()
        return self.runs(made)

    def flush(self) -> Runs:
        """Complete the tiles that wait for others behind them."""
        made = 0
        while self.state.waiting[0] > self.state.waiting[1]:
            made = kernel.complete(self.shape, self.state, self.out, made)
        return self.runs(made)

    def runs(self, made: int) -> Runs:
        """Entries as runs of classes."""
        if not made:
            return ()
        rows = self.out[:made]
        starts = [0, *(np.flatnonzero((rows[1:] != rows[:-1]).any(axis=1)) + 1).tolist(), made]
        found = []
        for start, end in pairwise(starts):
            key = rows[start].tobytes()
            if key not in self.known_classes:
                self.known_classes[key] = len(self.stream.classes)
                self.stream.classes.append(rows[start].copy())
            found.append((self.known_classes[key], end - start))
        return tuple(found)

    def relative(self) -> bytes:
        """The state as seen from here: ages instead of counts, so that equal states look equal."""
        return kernel.relative(self.shape, self.state).tobytes()

    def too_late(self) -> ArchError:
        """The error for a value that is read after its register was overwritten."""
        program = self.tables.program
        what = "deadlock: a register is to be overwritten before all that read it have come by"
        hint = "give registers more depth, or readers a smaller lag"
        return ArchError(Problem(Source(program.name), what, hint=hint))


def _same_lines(shape: kernel.Shape) -> Ints:
    """A number for each line of blocks, the same for lines that are equal."""
    tables = (shape.blocks, shape.kept, shape.fetched)
    rows = np.column_stack([shape.lengths, *tables])
    return np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)


def _append(items: list[tuple[int, int]], child: int, times: int) -> None:
    if items and items[-1][0] == child:
        items[-1] = (child, items[-1][1] + times)
    else:
        items.append((child, times))


def _shape(tables: Tables, near: int) -> kernel.Shape:
    program = tables.program
    loops = tables.loops or ("",)
    counts = np.array(tables.counts or (1,), np.int64)
    space = program.space
    spans = np.array([[s.elements, s.room] for s in (space.rows, space.cols)], np.int64)
    steps = np.array(
        [[dict(s.steps).get(loop, 0) for loop in loops] for s in (space.rows, space.cols)], np.int64
    )
    terms = np.zeros((len(program.limits), len(loops)), np.int64)
    ends = np.zeros((len(program.limits), 4), np.int64)
    for k, limit in enumerate(program.limits):
        terms[k] = [limit.of(loop) for loop in loops]
        of_axes = limit.of(program.rows), limit.of(program.cols)
        ends[k] = *of_axes, limit.constant, limit.skips
    pointers = np.zeros((len(tables.pointers), 7), np.int64)
    multipliers = np.zeros((len(tables.pointers), len(loops)), np.int64)
    rows = 0
    for p, pointer in enumerate(tables.pointers):
        lines = 1
        for n in reversed(pointer.keys):
            multipliers[p, n] = lines
            lines *= int(counts[n])
        if pointer.kind == kernel.HELD and program.blocks is not None:
            lines = int(program.blocks.keys.max(initial=0)) + 1
        pointers[p] = (
            pointer.reader, pointer.maker, pointer.kind, pointer.loop, pointer.steps, rows, lines,
        )  # fmt: skip
        rows += lines if pointer.kind in kernel.IN_LINES else 0
    lag = tables.lag
    reuses = np.zeros((len(tables.reuses), 6), np.int64)
    first = 0
    for u, reuse in enumerate(tables.reuses):
        versions = reuse.depth + lag + 2
        is_move = reuse.writer >= len(program.tasks)
        reuses[u] = reuse.writer, reuse.pointer, reuse.depth, first, versions, is_move
        first += versions
    blocks = program.blocks
    none = np.zeros((0, 0), np.int64)
    words = np.zeros((len(program.moves), 3), np.int64)
    for m, move in enumerate(program.moves):
        inner = [v for v in move.words if v not in (program.rows, program.cols)]
        words[m, 0] = prod(program.sizes[v.upper()] for v in inner)
        words[m, 1:] = program.rows in move.words, program.cols in move.words
    return kernel.Shape(
        counts, spans, steps, terms, ends, tables.when, pointers, multipliers, reuses, words,
        len(program.tasks), lag, near,
        loops.index(blocks.outer) if blocks else 0, loops.index(blocks.inner) if blocks else 0,
        blocks.lengths if blocks else np.zeros(0, np.int64),
        blocks.keys if blocks else none, blocks.kept if blocks else none,
        blocks.fetched.astype(np.int64) if blocks else none,
    )  # fmt: skip


def _state(tables: Tables, shape: kernel.Shape) -> kernel.State:
    rows = sum(int(p[6]) for p in shape.pointers if p[2] in kernel.IN_LINES)
    steps = max((p.steps for p in tables.pointers), default=1)
    versions = int(shape.reuses[:, 4].sum()) if len(shape.reuses) else 0
    width = len(tables.actors) + len(tables.pointers) + len(tables.reuses)
    width += len(tables.program.moves) + 3
    held = shape.lag + 1
    return kernel.State(
        np.zeros(len(tables.actors), np.int64),
        np.zeros((max(1, rows), 2 + max(1, steps)), np.int64),
        np.full((max(1, versions), 2), -1, np.int64),
        np.zeros((held, width), np.int64),
        np.zeros((held, len(tables.actors)), np.int64),
        np.zeros(2, np.int64),
    )


def _alike(shape: kernel.Shape, at: list[int], level: int) -> Iterator[tuple[int, int]]:
    """Stretches of a loop's coordinates that mean the same inside: (first, how many)."""
    count = int(shape.counts[level])
    k = np.arange(count)
    marks = [k == 0, k == count - 1]
    outer = np.array([*at[:level], *([0] * (len(at) - level))], np.int64)
    reach = shape.counts - 1
    inside = np.arange(len(at)) > level
    for axis in range(2):
        left = shape.spans[axis, kernel.ELEMENTS] - int(shape.steps[axis] @ outer)
        left = left - shape.steps[axis, level] * k
        # Enough for every tile inside, and for a neighbour along any loop.
        enough = int(shape.spans[axis, kernel.ROOM] + (shape.steps[axis] * reach * inside).sum())
        enough += int(shape.steps[axis].max(initial=0))
        marks.append(np.minimum(left, enough))
    if len(shape.lengths) and level == shape.outer:
        marks.append(_same_lines(shape))
    for n in range(shape.terms.shape[0]):
        base = shape.ends[n, 2] + int(shape.terms[n] @ outer) + shape.terms[n, level] * k
        ends = [shape.terms[n, i] * reach[i] for i in range(len(at)) if inside[i]]
        ends += [shape.ends[n, axis] * (shape.spans[axis, kernel.ROOM] - 1) for axis in range(2)]
        margin = int(np.abs(shape.terms[n]).max(initial=0))
        low = int(sum(min(0, int(end)) for end in ends)) - margin
        high = int(sum(max(0, int(end)) for end in ends)) + margin
        # Whatever fails nowhere, or keeps nothing, is alike.
        marks.append(np.clip(base, -high - 1, -low))
    table = np.stack(marks, axis=1).astype(np.int64)
    changes = np.flatnonzero((table[1:] != table[:-1]).any(axis=1)) + 1
    starts = [0, *changes.tolist(), count]
    for start, end in pairwise(starts):
        yield start, end - start
