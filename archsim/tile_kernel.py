"""One row of tiles, walked in numba: what acts on each, and how old everything is that it reads.

A row is a line of tiles along the innermost loop. The state is counters of acts, for each pointer
the last acts of its maker by line, and for each reuse the last reader of each version. A tile's
entry is complete once `lag` more tiles have been walked, for a reader with a smaller lag may
read in one of those what a writer of this tile is to overwrite.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

SAME, BACK, LATEST, NOWHERE, HELD = range(5)
FIRST, LAST, TABLE = 1, 2, 3
# Kinds whose acts are kept by line.
IN_LINES = (BACK, LATEST, HELD)
# Ages of acts that are not there, and of those too long ago to matter.
NONE, FAR = -(1 << 40), 1 << 40
# Columns of a span: elements of its rank, PEs that one tile may fill.
ELEMENTS, ROOM = range(2)


class Shape(NamedTuple):
    """What does not change on the walk; all arrays over loops have them outermost first."""

    counts: Ints
    # [axis, (elements, room)] and [axis, loop], rows first.
    spans: Ints
    steps: Ints
    # Limits: [limit, loop], [limit, (rows, cols, constant, leaves tiles out)].
    terms: Ints
    ends: Ints
    # [actor, loop]: 0, FIRST or LAST.
    when: Ints
    # [pointer, (reader, maker, kind, loop, steps, first table row, lines)] and [pointer, loop].
    pointers: Ints
    multipliers: Ints
    # [reuse, (writer, pointer, depth, first version, versions, is exact)].
    reuses: Ints
    # [move, (first column of its words: words beside rows and columns, has rows, has cols)].
    words: Ints
    # Tasks come first among actors; moves follow.
    tasks: int
    lag: int
    near: int
    # A table of blocks, empty if there is none: the loops over lines and positions, lengths [line],
    # and [line, position]: which block, PEs that hold points, is it fetched.
    outer: int
    inner: int
    lengths: Ints
    blocks: Ints
    kept: Ints
    fetched: Ints


class State(NamedTuple):
    """What changes: acts so far, and tables of pointers, versions and unfinished tiles."""

    acts: Ints
    # [pointer row, (stamp, length, act, act before, ...)].
    lines: Ints
    # [version row, (version, reader's act)].
    versions: Ints
    # Entries and acts of the last tiles, [lag + 1, ...], and how many there are.
    pending: Ints
    then: Ints
    waiting: Ints


@numba.njit(cache=True)
def filled(shape: Shape, at: Ints, axis: int) -> int:
    """Rows or columns that hold elements; not positive behind the end."""
    left = shape.spans[axis, ELEMENTS]
    for n in range(at.shape[0]):
        left -= shape.steps[axis, n] * at[n]
    return int(min(left, shape.spans[axis, ROOM]))


@numba.njit(cache=True)
def is_there(shape: Shape, at: Ints) -> bool:
    """True if a tile holds an element, and one that no limit leaves out."""
    rows, cols = filled(shape, at, 0), filled(shape, at, 1)
    if rows <= 0 or cols <= 0:
        return False
    if shape.lengths.shape[0] and at[shape.inner] >= shape.lengths[at[shape.outer]]:
        return False
    for k in range(shape.terms.shape[0]):
        most = shape.ends[k, 2] + max(0, shape.ends[k, 0] * (rows - 1))
        most += max(0, shape.ends[k, 1] * (cols - 1))
        for n in range(at.shape[0]):
            most += shape.terms[k, n] * at[n]
        if most < 0 and shape.ends[k, 3]:
            return False
    return True


@numba.njit(cache=True)
def is_at(shape: Shape, at: Ints, loop: int, which: int) -> bool:
    """True if no tile stands before (or behind) this one along a loop."""
    step = -1 if which == FIRST else 1
    there = at[loop] + step
    if there < 0 or there >= shape.counts[loop]:
        return True
    at[loop] = there
    found = not is_there(shape, at)
    at[loop] = there - step
    return found


@numba.njit(cache=True)
def points(shape: Shape, at: Ints, rows: int, cols: int) -> int:
    """PEs that hold points of a tile: those that every limit keeps."""
    count = shape.terms.shape[0]
    if shape.lengths.shape[0]:
        return int(shape.kept[at[shape.outer], at[shape.inner]])
    if count == 0:
        return rows * cols
    total = 0
    for c in range(cols):
        low, high = 0, rows - 1
        for k in range(count):
            base = shape.ends[k, 2] + shape.ends[k, 1] * c
            for n in range(at.shape[0]):
                base += shape.terms[k, n] * at[n]
            slope = shape.ends[k, 0]
            if slope > 0:
                low = max(low, -(base // slope))
            elif slope < 0:
                high = min(high, base // -slope)
            elif base < 0:
                high = -1
        total += max(0, high - low + 1)
    return total


@numba.njit(cache=True)
def enter(shape: Shape, state: State, at: Ints, entry: Ints) -> bool:
    """Walk one tile that is there: fill its entry but for reuses. False: something is too old."""
    acts, lines, versions = state.acts, state.lines, state.versions
    actors, pointers = shape.when.shape[0], shape.pointers.shape[0]
    tile = state.waiting[0]
    for a in range(actors):
        acting = 1
        for n in range(shape.counts.shape[0]):
            if shape.when[a, n] in (FIRST, LAST) and not is_at(shape, at, n, shape.when[a, n]):
                acting = 0
                break
        if shape.when[a, 0] == TABLE:
            acting = shape.fetched[at[shape.outer], at[shape.inner]]
        entry[a] = acting
        acts[a] += acting
    for p in range(pointers):
        reader, maker, kind, loop, steps, first, _ = shape.pointers[p]
        row = first
        stamp = 0
        if kind == HELD:
            row += shape.blocks[at[shape.outer], at[shape.inner]]
        elif kind in (BACK, LATEST):
            for n in range(at.shape[0]):
                row += shape.multipliers[p, n] * at[n]
        found = NONE
        if kind == SAME:
            found = acts[maker] - 1
        elif kind in (LATEST, HELD):
            if entry[maker]:
                lines[row, 0], lines[row, 1], lines[row, 2] = tile, 1, acts[maker] - 1
            if lines[row, 1]:
                found = lines[row, 2]
        elif kind == BACK:
            for n in range(loop):
                stamp = stamp * shape.counts[n] + at[n]
            if lines[row, 0] != stamp:
                lines[row, 0], lines[row, 1] = stamp, 0
            if lines[row, 1] >= steps:
                found = lines[row, 1 + steps]
            for k in range(steps - 1, 0, -1):
                lines[row, 2 + k] = lines[row, 1 + k]
            lines[row, 2] = acts[maker] - 1
            lines[row, 1] = min(steps, lines[row, 1] + 1)
        if not entry[reader]:
            found = NONE
        entry[actors + p] = NONE if found == NONE else acts[maker] - 1 - found
        if found != NONE:
            # What was fetched many tiles ago is old, however few granules came since.
            age = tile - lines[row, 0] if maker >= shape.tasks else entry[actors + p]
            if age > shape.near:
                entry[actors + p] = FAR
            for u in range(shape.reuses.shape[0]):
                if shape.reuses[u, 1] == p:
                    if acts[maker] - 1 - found > shape.reuses[u, 2] + shape.lag:
                        return False
                    place = shape.reuses[u, 3] + found % shape.reuses[u, 4]
                    versions[place, 0], versions[place, 1] = found, acts[reader] - 1
    rows, cols = filled(shape, at, 0), filled(shape, at, 1)
    column = actors + pointers + shape.reuses.shape[0]
    for m in range(shape.words.shape[0]):
        size = 0
        if entry[shape.tasks + m]:
            size = shape.words[m, 0] * (rows if shape.words[m, 1] else 1)
            size *= cols if shape.words[m, 2] else 1
        entry[column + m] = size
    column += shape.words.shape[0]
    entry[column], entry[column + 1] = rows, cols
    entry[column + 2] = points(shape, at, rows, cols)
    return True


@numba.njit(cache=True)
def finish(shape: Shape, state: State, slot: int) -> None:
    """Fill in the reuses of an unfinished tile."""
    entry, then = state.pending[slot], state.then[slot]
    actors, pointers = shape.when.shape[0], shape.pointers.shape[0]
    for u in range(shape.reuses.shape[0]):
        writer, pointer, depth, first, versions, is_exact = shape.reuses[u]
        found = NONE
        old = then[writer] - 1 - depth
        if entry[writer] and old >= 0:
            place = first + old % versions
            if state.versions[place, 0] == old:
                found = then[shape.pointers[pointer, 0]] - 1 - state.versions[place, 1]
                if found > shape.near and not is_exact:
                    found = FAR
        entry[actors + pointers + u] = found


@numba.njit(cache=True)
def walk_row(shape: Shape, state: State, at: Ints, out: Ints) -> int:
    """Walk the tiles along the innermost loop; entries that became complete go to `out`.

    Returns: how many there are; -1 if a value is read long after it was overwritten.
    """
    inner = at.shape[0] - 1
    made = 0
    for coordinate in range(shape.counts[inner]):
        at[inner] = coordinate
        if not is_there(shape, at):
            continue
        slot = state.waiting[0] % state.pending.shape[0]
        if not enter(shape, state, at, state.pending[slot]):
            return -1
        state.then[slot, :] = state.acts
        state.waiting[0] += 1
        if state.waiting[0] - state.waiting[1] > shape.lag:
            made = complete(shape, state, out, made)
    return made


@numba.njit(cache=True)
def complete(shape: Shape, state: State, out: Ints, made: int) -> int:
    """Complete the oldest unfinished tile."""
    slot = state.waiting[1] % state.pending.shape[0]
    finish(shape, state, slot)
    out[made, :] = state.pending[slot]
    state.waiting[1] += 1
    return made + 1


@numba.njit(cache=True)
def relative(shape: Shape, state: State) -> Ints:
    """The state in ages: what is too old to matter looks the same whatever its age."""
    acts, lines, versions = state.acts, state.lines, state.versions
    width = lines.shape[1] - 1
    held = state.pending.shape[0]
    waiting = state.waiting[0] - state.waiting[1]
    size = lines.shape[0] * width + versions.shape[0]
    size += 1 + held * (state.pending.shape[1] + acts.shape[0])
    out = np.zeros(size, np.int64)
    n = 0
    for p in range(shape.pointers.shape[0]):
        _, maker, kind, _, _, first, count = shape.pointers[p]
        if kind in (SAME, NOWHERE):
            continue
        for row in range(first, first + count):
            out[n] = lines[row, 1]
            for k in range(lines[row, 1] if kind == BACK else min(1, lines[row, 1])):
                age = acts[maker] - lines[row, 2 + k]
                is_old = age > shape.near + 1
                if maker >= shape.tasks:
                    is_old = state.waiting[0] - lines[row, 0] > shape.near + 1
                    age = (state.waiting[0] - lines[row, 0]) * (1 << 20) + age
                out[n + 1 + k] = FAR if is_old else age
            n += width
    for u in range(shape.reuses.shape[0]):
        writer, pointer, depth, first, count, is_exact = shape.reuses[u]
        reader = shape.pointers[pointer, 0]
        # Older versions have been overwritten by tiles that are complete.
        oldest = depth - 1
        for w in range(waiting):
            slot = (state.waiting[1] + w) % held
            if state.pending[slot, writer]:
                oldest = max(oldest, depth + acts[writer] - state.then[slot, writer])
        for k in range(min(count, oldest + 1)):
            version = acts[writer] - 1 - k
            place = first + version % count
            if version >= 0 and versions[place, 0] == version:
                age = acts[reader] - versions[place, 1]
                out[n + k] = age if is_exact or age <= shape.near + 1 else FAR
        n += count
    out[n] = waiting
    n += 1
    for w in range(waiting):
        slot = (state.waiting[1] + w) % held
        for column in range(state.pending.shape[1]):
            out[n] = state.pending[slot, column]
            n += 1
        for a in range(acts.shape[0]):
            out[n] = acts[a] - state.then[slot, a]
            n += 1
    return out
