"""Runs the functions of `compiled_steps`: memory, chunks, and threads that share them.

Threads take batch elements if there are enough of them, else chunks. A chunk knows only of itself
along which axes the presence of a tensor varies, but the language asks that of whole tensors:
chunks with something empty run again once the others have told more.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from einsum_cascade.array_shapes import computed_shape
from einsum_cascade.cascade import Cascade
from einsum_cascade.compiled_groups import Group
from einsum_cascade.compiled_steps import EMPTY, RAGGED, Steps

Array = NDArray[Any]
# Lanes of a chunk; bytes that its tensors may take, and that lanes may not take less for.
LANES, BYTES, MOST = 128, 1 << 21, 1 << 24
Map = Callable[[Callable[[Any], Any], Iterable[Any]], list[Any]]


def threads() -> int:
    """How many threads share the tasks: NUMBA_NUM_THREADS, else the CPUs of this process."""
    named = os.environ.get("NUMBA_NUM_THREADS", "")
    return int(named) if named.isdigit() and int(named) > 0 else len(os.sched_getaffinity(0))


@functools.cache
def pool(count: int) -> ThreadPoolExecutor:
    """So many threads, which wait for the next call: new ones take as long as a small cascade."""
    return ThreadPoolExecutor(count)


# A child process has none of the threads.
os.register_at_fork(after_in_child=pool.cache_clear)


# One low and one high bound for each rank of a group.
Bounds = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ReadyCall:
    """Two functions, when the first one is called, and the places of its arrays."""

    empty: Any
    full: Any
    # Whether it is the first one in any case.
    always: bool
    partial: tuple[int, ...]
    places: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Ready:
    """A group with its sizes: chunks, calls, and local tensors with shapes and axes of chunks."""

    chunks: tuple[Bounds, ...]
    calls: tuple[ReadyCall, ...]
    local: tuple[tuple[int, str, tuple[int, ...], tuple[int, ...]], ...]


@dataclass(frozen=True, slots=True)
class Local:
    """Arrays of a thread for a chunk with their places, and those that are emptied first."""

    arrays: tuple[tuple[int, Array], ...]
    cleared: tuple[tuple[str, Array, Array], ...]


@dataclass(frozen=True, slots=True)
class Run:
    """What is the same for all batch elements."""

    cascade: Cascade
    steps: Steps
    module: ModuleType
    extents: Mapping[str, int]
    n: Array
    par: Array
    dtype: str
    # Arrays of each thread, by tensor and shape.
    memory: threading.local = field(default_factory=threading.local)

    def batch(self, tensors: Mapping[str, Array], where: Mapping[str, Array], count: int) -> None:
        """Compute all batch elements; tensors are those of inputs and outputs, by element."""
        several, found = threads(), ready(self)

        def arrays_of(b: int) -> dict[str, Array]:
            arrays = {}
            for name in self.cascade.inputs:
                at, given = where[name][b], tensors[name]
                # A scalar is an array of one element, too.
                arrays[name] = given[at] if given.ndim > 1 else given[at : at + 1]
            for name in self.cascade.outputs:
                arrays[name] = tensors[name][b]
            return arrays

        def share(function: Callable[[Any], Any], values: Iterable[Any]) -> list[Any]:
            return list(pool(several).map(function, values))

        spread = share if several > 1 else _alone
        if self.steps.is_shared:
            self.elements(found, [arrays_of(b) for b in range(count)], spread)
        elif several > 1 and (count % several == 0 or count >= 4 * several):
            share(lambda b: self.elements(found, [arrays_of(b)], _alone), range(count))
        else:
            for b in range(count):
                self.elements(found, [arrays_of(b)], spread)

    def elements(
        self, ready: tuple[Ready, ...], elements: list[dict[str, Array]], share: Map
    ) -> None:
        """Compute batch elements: one, or several that have the same empty elements."""
        steps, count = self.steps, len(elements)
        local = {name for group, _ in steps.groups for name in group.local}
        flags: dict[str, Array] = {}
        for name in steps.names:
            if name in local:
                continue
            shape = computed_shape(self.cascade, name, self.extents) or (1,)
            if steps.causes[name]:
                flags[name] = self.array(f"o {name}", (count, *shape), "bool")
            if name not in self.cascade.outputs:
                own = self.array(name, (count, *shape), self.dtype)
                for arrays, array in zip(elements, own, strict=True):
                    arrays[name] = array
            for b, arrays in enumerate(elements):
                if name in flags:
                    self.clear(name, arrays[name], flags[name][b])
        given: list[list[Any]] = [[] for _ in elements]
        for b, arrays in enumerate(elements):
            for name in (*self.cascade.inputs, *steps.names):
                found = flags[name][b] if name in flags else None
                given[b] += [arrays.get(name), found, None]
        s = np.zeros(len(steps.names), np.int64)
        for group in ready:
            s = self.group(group, given, s, share)
        for name in self.cascade.outputs:
            if name in steps.gaps or s[steps.names.index(name)]:
                for b, arrays in enumerate(elements):
                    arrays[name][~flags[name][b]] = 0

    def clear(self, name: str, array: Array, flags: Array) -> None:
        """Empty a tensor that is not written everywhere."""
        if name in self.steps.gaps:
            # What is empty adds nothing where a contraction reads it.
            array.fill(-0.0)
            flags.fill(False)

    def array(self, name: str, shape: tuple[int, ...], dtype: str) -> Array:
        """Memory of this thread, which is used again."""
        kept: dict[Any, Array] = self.memory.__dict__
        key = name, shape
        if key not in kept:
            kept[key] = np.empty(shape, dtype)
        return kept[key]

    def local(self, ready: Ready, sizes: tuple[int, ...]) -> Local:
        """Memory of this thread for the tensors of chunks of this size."""
        kept: dict[Any, Local] = self.memory.__dict__.setdefault("local", {})
        key = ready.local, sizes
        if key in kept:
            return kept[key]
        arrays: list[tuple[int, Array]] = []
        cleared = []
        for place, name, shape, axes in ready.local:
            cut = list(shape)
            for axis, size in zip(axes, sizes, strict=True):
                cut[axis] = size
            array = self.array(name, tuple(cut), self.dtype)
            arrays.append((place, array))
            if self.steps.causes[name]:
                flags = self.array(f"o {name}", tuple(cut), "bool")
                arrays.append((place + 1, flags))
                if name in self.steps.flagged:
                    rows = self.array(f"a {name}", tuple(cut[:-1]), "bool")
                    arrays.append((place + 2, rows))
                if name in self.steps.gaps:
                    cleared.append((name, array, flags))
        kept[key] = Local(tuple(arrays), tuple(cleared))
        return kept[key]

    def group(self, ready: Ready, given: list[list[Any]], s: Array, share: Map) -> Array:
        """Run a group; return what is known of presence afterwards."""
        # With fewer chunks than threads, threads share the batch elements of a chunk, too.
        parts = min(len(given), -(-threads() // max(1, len(ready.chunks))))
        tasks = [(chunk, given[i::parts]) for chunk in ready.chunks for i in range(parts)]
        several = share if len(tasks) > 1 else _alone

        def run(numbers: list[int], known: Array) -> list[Any]:
            return several(lambda i: self.chunk(ready, *tasks[i], s=known), numbers)

        results = run(list(range(len(tasks))), s)
        while True:
            total: Array = np.bitwise_or.reduce([s, *results])
            late = [i for i, r in enumerate(results) if ((r != total) & (r != 0)).any()]
            if not late:
                return total
            again = run(late, total)
            for i, result in zip(late, again, strict=True):
                results[i] = result

    def chunk(self, ready: Ready, bounds: Bounds, given: list[list[Any]], *, s: Array) -> Array:
        """Run a group on one chunk of the batch elements that are given."""
        s = s.copy()
        sizes = tuple(bounds[i + 1] - bounds[i] for i in range(0, len(bounds), 2))
        own = self.local(ready, sizes)
        for name, array, flags in own.cleared:
            self.clear(name, array, flags)
        for b, whole in enumerate(given):
            places = list(whole)
            for place, found in own.arrays:
                places[place] = found
            z = np.array([*bounds, b > 0], np.int64)
            for call in ready.calls:
                is_partial = call.always or any(s[i] for i in call.partial)
                function = call.empty if is_partial else call.full
                function(self.n, self.par, z, s, *[places[i] for i in call.places])
        return s


def ready(run: Run) -> tuple[Ready, ...]:
    """Look up what all batch elements and chunks of a run have in common."""
    steps, cascade, extents = run.steps, run.cascade, run.extents
    place = {name: 3 * i for i, name in enumerate((*cascade.inputs, *steps.names))}
    found = []
    for (group, calls), lane in zip(steps.groups, steps.lanes, strict=True):
        shapes = {name: computed_shape(cascade, name, extents) for name in group.local}
        own = []
        for call in calls:
            places: list[int] = []
            for name in call.tensors:
                places.append(place[name])
                if steps.causes.get(name):
                    places.append(place[name] + 1)
                if name in steps.flagged:
                    places.append(place[name] + 2)
            is_ragged = any(
                math.prod(extents[part] for part in cascade.parts_of(rank)) > extents[rank]
                for rank in call.splits
            )
            own.append(
                ReadyCall(
                    getattr(run.module, call.name + (RAGGED if is_ragged else EMPTY), None),
                    getattr(run.module, call.name, None),
                    call.always or is_ragged,
                    tuple(steps.names.index(name) for name in call.partial),
                    tuple(places),
                )
            )
        local = tuple(
            (place[name], name, shape, tuple(axes[name] for _, axes in group.chunks))
            for name, shape in shapes.items()
        )
        bounds = chunks(group, lane, extents, shapes, np.dtype(run.dtype).itemsize)
        found.append(Ready(tuple(bounds), tuple(own), local))
    return tuple(found)


def _alone(function: Callable[[Any], Any], values: Iterable[Any]) -> list[Any]:
    return [function(value) for value in values]


def chunks(
    group: Group,
    lane: str,
    extents: Mapping[str, int],
    shapes: Mapping[str, tuple[int, ...]],
    size: int,
) -> list[Bounds]:
    """Bounds of all chunks of a group, one low and one high for each of its ranks."""
    ranks = [rank for rank, _ in group.chunks]
    if not ranks:
        return [()]
    counts = dict.fromkeys(ranks, 1)
    counts[lane] = max(1, min(extents[lane], LANES))
    total = sum(math.prod(shape) for shape in shapes.values()) * size
    for rank in ranks:
        total //= max(1, extents[rank])

    def taken() -> int:
        return total * math.prod(counts.values())

    while counts[lane] > 32 and taken() > MOST:
        counts[lane] //= 2
    for rank in reversed(ranks):
        while counts[rank] < extents[rank] and 2 * taken() <= BYTES:
            counts[rank] = min(2 * counts[rank], extents[rank])
    bounds = [
        [
            (low, min(low + counts[rank], extents[rank]))
            for low in range(0, extents[rank], counts[rank])
        ]
        for rank in ranks
    ]
    return [tuple(itertools.chain(*point)) for point in itertools.product(*bounds)]
