"""Runs the functions of `compiled_steps`: memory, chunks, and threads that share them.

Threads take batch elements if there are enough of them, else chunks. A chunk knows only of itself
along which axes the presence of a tensor varies, but the language asks that of whole tensors: chunks
with something empty run again once the others have told more.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from einsum_cascade.cascade import Cascade, affine
from einsum_cascade.compiled_groups import Group
from einsum_cascade.compiled_steps import Call, Steps

Array = NDArray[Any]
# Lanes of a chunk; bytes that its tensors may take, and that lanes may not take less for.
LANES, BYTES, MOST = 128, 1 << 20, 1 << 24
Map = Callable[[Callable[[Any], Any], Iterable[Any]], list[Any]]


def threads() -> int:
    """How many threads share the tasks: NUMBA_NUM_THREADS, else the CPUs of this process."""
    named = os.environ.get("NUMBA_NUM_THREADS", "")
    return int(named) if named.isdigit() and int(named) > 0 else len(os.sched_getaffinity(0))


def computed_shape(cascade: Cascade, name: str, extents: Mapping[str, int]) -> tuple[int, ...]:
    """Shape of a computed tensor."""
    found = []
    for axis, dim in enumerate(cascade.tensor(name).dims):
        if dim.rank:
            found.append(extents[dim.rank] + dim.extra)
        else:
            steps = [affine(e.target.indices[axis]).step or 0 for e in cascade.defining(name)]
            found.append(1 + max(steps))
    return tuple(found)


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
        several = threads()

        def element(b: int, share: Map) -> None:
            arrays = {}
            for name in self.cascade.inputs:
                at = where[name][b]
                # A scalar is an array of one element, too.
                given = tensors[name]
                arrays[name] = given[at] if given.ndim > 1 else given[at : at + 1]
            for name in self.cascade.outputs:
                arrays[name] = tensors[name][b]
            self.element(arrays, share)

        if several == 1 or count <= 0:
            for b in range(count):
                element(b, _alone)
            return
        with ThreadPoolExecutor(several) as pool:

            def share(function: Callable[[Any], Any], values: Iterable[Any]) -> list[Any]:
                return list(pool.map(function, values))

            if count % several == 0 or count >= 4 * several:
                share(lambda b: element(b, _alone), range(count))
            else:
                for b in range(count):
                    element(b, share)

    def element(self, arrays: dict[str, Array], share: Map) -> None:
        """Compute one batch element."""
        steps, flags = self.steps, {}
        local = {name for group, _ in steps.groups for name in group.local}
        for name in steps.names:
            shape = computed_shape(self.cascade, name, self.extents) or (1,)
            if name in local:
                continue
            if name not in arrays:
                arrays[name] = self.array(name, shape, self.dtype)
            if steps.causes[name]:
                flags[name] = self.array(f"o {name}", shape, "bool")
                self.clear(name, arrays[name], flags[name])
        s = np.zeros(len(steps.names), np.int64)
        for (group, calls), lane in zip(steps.groups, steps.lanes, strict=True):
            s = self.group(group, calls, lane, arrays, flags, s, share)
        for name in self.cascade.outputs:
            if steps.causes[name]:
                arrays[name][~flags[name]] = 0

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

    def group(
        self,
        group: Group,
        calls: tuple[Call, ...],
        lane: str,
        arrays: Mapping[str, Array],
        flags: Mapping[str, Array],
        s: Array,
        share: Map,
    ) -> Array:
        """Run a group; return what is known of presence afterwards."""
        found = chunks(self.cascade, group, lane, self.extents, np.dtype(self.dtype).itemsize)

        def run(task: tuple[tuple[int, ...], Array]) -> Array:
            return self.chunk(group, calls, task[0], arrays, flags, task[1])

        results = share(run, [(chunk, s) for chunk in found]) if len(found) > 1 else [
            run((chunk, s)) for chunk in found
        ]  # fmt: skip
        while True:
            total = np.bitwise_or.reduce([s, *results])
            late = [i for i, r in enumerate(results) if ((r != total) & (r != 0)).any()]
            if not late:
                return total
            again = share(run, [(found[i], total) for i in late])
            for i, result in zip(late, again, strict=True):
                results[i] = result

    def chunk(
        self,
        group: Group,
        calls: tuple[Call, ...],
        bounds: tuple[int, ...],
        arrays: Mapping[str, Array],
        flags: Mapping[str, Array],
        s: Array,
    ) -> Array:
        """Run a group on one chunk."""
        steps, s, z = self.steps, s.copy(), np.array(bounds, np.int64)
        own, own_flags = dict(arrays), dict(flags)
        for name in group.local:
            shape = list(computed_shape(self.cascade, name, self.extents))
            for i, (_, axes) in enumerate(group.chunks):
                shape[axes[name]] = bounds[2 * i + 1] - bounds[2 * i]
            own[name] = self.array(name, tuple(shape), self.dtype)
            if steps.causes[name]:
                own_flags[name] = self.array(f"o {name}", tuple(shape), "bool")
                self.clear(name, own[name], own_flags[name])
        for call in calls:
            given = []
            for name in call.tensors:
                given.append(own[name])
                if steps.causes.get(name):
                    given.append(own_flags[name])
            suffix = "_empty" if self.may_be_empty(call, s) else ""
            getattr(self.module, f"{call.name}{suffix}")(self.n, self.par, z, s, *given)
        return s

    def may_be_empty(self, call: Call, s: Array) -> bool:
        """True if something that a function reads may be empty."""
        if call.always or any(s[self.steps.names.index(name)] for name in call.partial):
            return True
        for rank in call.splits:
            parts = [self.extents[part] for part in self.cascade.parts_of(rank)]
            if int(np.prod(parts)) > self.extents[rank]:
                return True
        return False


def _alone(function: Callable[[Any], Any], values: Iterable[Any]) -> list[Any]:
    return [function(value) for value in values]


def chunks(
    cascade: Cascade, group: Group, lane: str, extents: Mapping[str, int], size: int
) -> list[tuple[int, ...]]:
    """Bounds of all chunks of a group, one low and one high for each of its ranks."""
    ranks = [rank for rank, _ in group.chunks]
    if not ranks:
        return [()]
    counts = dict.fromkeys(ranks, 1)
    counts[lane] = max(1, min(extents[lane], LANES))
    shapes = [computed_shape(cascade, name, extents) for name in group.local]
    total = sum(int(np.prod(shape)) for shape in shapes) * size
    for rank in ranks:
        total //= max(1, extents[rank])

    def taken() -> int:
        return total * int(np.prod(list(counts.values())))

    while counts[lane] > 32 and taken() > MOST:
        counts[lane] //= 2
    for rank in reversed(ranks):
        while counts[rank] < extents[rank] and 2 * taken() <= BYTES:
            counts[rank] = min(2 * counts[rank], extents[rank])
    bounds = [
        [(low, min(low + counts[rank], extents[rank])) for low in range(0, extents[rank], counts[rank])]
        for rank in ranks
    ]
    return [tuple(itertools.chain(*point)) for point in itertools.product(*bounds)]
