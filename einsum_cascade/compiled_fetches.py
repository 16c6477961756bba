"""Sums of products with rows that are fetched one by one, in registers and behind symbols.

`dots` computes c[key, lane] = sum over x of a[x, lane] * b[at[key, lane], x], and `mixes` computes
c[x, lane] = sum over keys of a[key, lane] * b[at[key, lane], x], such as the logits and the outputs
of attention to a window of each query's own. Rows of b lie next to each other in memory or are
turned so first: the range that is fetched from if it is short, else row by row.

As in `compiled_products`, what IEEE arithmetic makes a NaN is summed again as the language says.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from einsum_cascade.compiled_kernels import Real, compiled, mul
from einsum_cascade.compiled_symbols import BLOCK_BYTES, behind, carray

# Vectors, half a block each, that one pass over the keys keeps in registers.
HELD = 8
# Rows of b that are read where they are, turned at once, or turned for each lane.
DIRECT, TURNED, APART = 0, 1, 2
local: Any = cgutils.alloca_once_value
_FLAGS = ("contract",)


class _Vectors:
    """LLVM code for vectors of one type of values."""

    def __init__(self, context: Any, builder: Any, kind: Any) -> None:
        self.context, self.builder = context, builder
        self.real = context.get_value_type(kind)
        self.size = kind.bitwidth // 8
        self.lanes = BLOCK_BYTES // 2 // self.size
        self.vector = ir.VectorType(self.real, self.lanes)
        self.zero = ir.Constant(self.vector, [0.0] * self.lanes)
        self.word = context.get_value_type(types.intp)

    def number(self, value: int) -> Any:
        return ir.Constant(self.word, value)

    def data(self, kind: Any, value: Any, at: Any) -> Any:
        base = self.context.make_array(kind)(self.context, self.builder, value=value).data
        return self.builder.gep(base, [at])

    def place(self, base: Any, at: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(base, [at]), self.vector.as_pointer())

    def load(self, base: Any, at: Any) -> Any:
        found = self.builder.load(self.place(base, at))
        found.align = self.size
        return found

    def store(self, value: Any, base: Any, at: Any) -> None:
        self.builder.store(value, self.place(base, at)).align = self.size

    def spread(self, value: Any) -> Any:
        none, first = ir.Constant(self.vector, ir.Undefined), ir.Constant(ir.IntType(32), 0)
        wide = self.builder.insert_element(none, value, first)
        mask = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(wide, wide, mask)

    def add_product(self, to: Any, left: Any, right: Any) -> None:
        product = self.builder.fmul(left, right, flags=_FLAGS)
        self.builder.store(self.builder.fadd(self.builder.load(to), product, flags=_FLAGS), to)

    def sums(self, vectors: list[Any]) -> Any:
        """A vector of the sums of as many vectors as it has elements."""
        # Within halves first, which is one instruction for two vectors; the halves at the end.
        half, both = self.lanes // 2, range(0, self.lanes, self.lanes // 2)
        while len(vectors) > 2:
            neighbours = [
                [start + side * self.lanes + at for start in both for side in (0, 1) for at in ats]
                for ats in (range(0, half, 2), range(1, half, 2))
            ]
            pairs = zip(vectors[::2], vectors[1::2], strict=True)
            vectors = [self._added(left, right, neighbours) for left, right in pairs]
        halves = [
            [start + side * self.lanes + at for side in (0, 1) for at in range(half)]
            for start in both
        ]
        return self._added(vectors[0], vectors[1], halves)

    def _added(self, left: Any, right: Any, places: list[list[int]]) -> Any:
        """The sum of two choices of elements of two vectors."""
        kind = ir.VectorType(ir.IntType(32), self.lanes)
        parts = [
            self.builder.shuffle_vector(left, right, ir.Constant(kind, chosen)) for chosen in places
        ]
        return self.builder.fadd(*parts)

    def has_nan(self, vectors: list[Any]) -> Any:
        bad = None
        for value in vectors:
            here = self.builder.fcmp_unordered("uno", value, value)
            bad = here if bad is None else self.builder.or_(bad, here)
        bits = ir.IntType(self.lanes)
        return self.builder.icmp_unsigned(
            "!=", self.builder.bitcast(bad, bits), ir.Constant(bits, 0)
        )


def _typed_dots(typing: Any, a: Any, a0: Any, b: Any, places: Any, p0: Any, n: Any, c: Any,
          c0: Any) -> Any:  # fmt: skip
    """A vector of c: products of a row of a with rows of b; True if one of them is a NaN."""
    index = types.intp
    signature = types.boolean(a, index, b, places, index, index, c, index)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, a0, b, places, p0, n, c, c0 = arguments
        v = _Vectors(context, builder, signature.args[0].dtype)
        left = v.data(signature.args[0], a, a0)
        right = v.data(signature.args[2], b, v.number(0))
        at = v.data(signature.args[3], places, p0)
        to = v.data(signature.args[6], c, c0)
        rows = [
            builder.gep(right, [builder.load(builder.gep(at, [v.number(i)]))])
            for i in range(v.lanes)
        ]
        sums = [local(builder, v.zero) for _ in rows]
        with cgutils.for_range(builder, n) as loop:
            step = builder.mul(loop.index, v.number(v.lanes))
            one = v.load(left, step)
            for row, total in zip(rows, sums, strict=True):
                v.add_product(total, v.load(row, step), one)
        found = v.sums([builder.load(total) for total in sums])
        v.store(found, to, v.number(0))
        return v.has_nan([found])

    return signature, generate


_dots: Any = intrinsic(_typed_dots)


def _mixing(held: int) -> Any:
    """So many vectors of c: rows of b, each times an element of a; True if there is a NaN."""

    def typed(typing: Any, a: Any, b: Any, b0: Any, places: Any, n: Any, c: Any,
              c0: Any) -> Any:  # fmt: skip
        index = types.intp
        signature = types.boolean(a, b, index, places, index, c, index)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            a, b, b0, places, n, c, c0 = arguments
            v = _Vectors(context, builder, signature.args[0].dtype)
            left = v.data(signature.args[0], a, v.number(0))
            right = v.data(signature.args[1], b, b0)
            at = v.data(signature.args[3], places, v.number(0))
            to = v.data(signature.args[5], c, c0)
            sums = [local(builder, v.zero) for _ in range(held)]
            with cgutils.for_range(builder, n) as loop:
                one = v.spread(builder.load(builder.gep(left, [loop.index])))
                row = builder.gep(right, [builder.load(builder.gep(at, [loop.index]))])
                for i, total in enumerate(sums):
                    v.add_product(total, v.load(row, v.number(i * v.lanes)), one)
            found = [builder.load(total) for total in sums]
            for i, value in enumerate(found):
                v.store(value, to, v.number(i * v.lanes))
            return v.has_nan(found)

        return signature, generate

    return intrinsic(typed)


_mix, _mix_one = _mixing(HELD), _mixing(1)


@compiled
def _reach(at: Any, keys: int, pitch: int, lanes: int) -> tuple[int, int]:
    """The first and last place of rows that are fetched; (0, -1) if there are none."""
    low, high = 1 << 62, -1
    for key in range(keys):
        for lane in range(key * pitch, key * pitch + lanes):
            place = at[lane]
            high = max(high, place)
            low = min(low, place if place >= 0 else 1 << 62)
    return min(low, high + 1), high


@compiled
def _turn(to: Real, b: Real, first: int, step: int, count: int, bx: int, n: int,
          padded: int) -> None:  # fmt: skip
    """to[row][x] = b[first + row*step + x*bx], and zeros after the last x."""
    # Long runs, which the memory foresees, of few x, whose lines stay in the caches.
    for start in range(0, count, 128):
        high = min(start + 128, count)
        for x0 in range(0, n, 16):
            for x in range(x0, min(x0 + 16, n)):
                for row in range(start, high):
                    to[row * padded + x] = b[first + row * step + x * bx]
        for row in range(start, high):
            for x in range(n, padded):
                to[row * padded + x] = 0


@compiled
def _rows(b: Real, bx: int, n: int, padded: int, low: int, high: int, keys: int,
          lanes: int) -> tuple[int, Real]:  # fmt: skip
    """How rows of b are read, and memory for those that are turned, with them if all are."""
    if bx == 1 and n == padded:
        return DIRECT, np.empty(0, b.dtype)
    if high - low >= 2 * keys * lanes:
        return APART, np.empty(keys * padded, b.dtype)
    rows = np.empty((high - low + 1) * padded, b.dtype)
    _turn(rows, b, low, 1, high - low + 1, bx, n, padded)
    return TURNED, rows


@compiled
def _pack(to: Real, b: Real, places: Any, keys: int, bx: int, n: int, padded: int) -> None:
    """The same for the rows of one lane, whose places are told apart then."""
    for key in range(keys):
        for x in range(n):
            to[key * padded + x] = b[places[key] + x * bx]
        for x in range(n, padded):
            to[key * padded + x] = 0
        places[key] = key * padded


@compiled
def _block(places: Any, at: Any, start: int, keys: int, pitch: int, span: int, low: int,
           factor: int) -> None:  # fmt: skip
    """Places of rows for some lanes; what is not fetched is where the first row is."""
    for key in range(keys):
        for i in range(span):
            place = at[key * pitch + start + i]
            places[i, key] = (max(place, low) - low) * factor


@compiled
def _span(keys: int) -> int:
    """Lanes whose places are found at once: enough for long runs, but they stay in the caches."""
    return min(64, max(8, (1 << 14) // max(keys, 1)))


@compiled
def _exactly(a: Real, a0: int, b: Real, b0: int, n: int) -> Real:
    """A product of two rows as the language has it."""
    total = a.dtype.type(0)
    for x in range(n):
        total += mul(a[a0 + x], b[b0 + x])
    return total


@behind("dots", "vwwvwpwvpwww")
def _dots_of(of_a: Any, al: int, ax: int, of_b: Any, bx: int, of_at: Any, pitch: int,
                   of_c: Any, of_to: Any, keys: int, lanes: int, n: int,
                   block: int) -> None:  # fmt: skip
    a, b, c = carray(of_a, (1,)), carray(of_b, (1,)), carray(of_c, (1,))
    at, to = carray(of_at, (1,)), carray(of_to, (1,))
    low, high = _reach(at, keys, pitch, lanes)
    if high < 0:
        return
    width = block // 2
    padded = -(-n // width) * width
    kind, rows = _rows(b, bx, n, padded, low, high, keys, lanes)
    source = b if kind == DIRECT else rows
    low, factor = (low, padded) if kind == TURNED else (0, 1)
    # Not a power of two, lest rows share sets of the caches.
    more = -(-keys // width) * width + width
    most = _span(keys)
    left, places = np.empty(most * padded, a.dtype), np.zeros((most, more), np.int64)
    found = np.empty((most, more), a.dtype)
    for start in range(0, lanes, most):
        span = min(most, lanes - start)
        _turn(left, a, start * al, al, span, ax, n, padded)
        _block(places, at, start, keys, pitch, span, low, factor)
        for i in range(span):
            own, result = places[i], found[i]
            if kind == APART:
                _pack(rows, b, own, keys, bx, n, padded)
            for j in range(0, keys, width):
                if _dots(left, i * padded, source, own, j, padded // width, result, j):
                    for one in range(j, j + width):
                        result[one] = _exactly(left, i * padded, source, own[one], n)
        for key in range(keys):
            for i in range(span):
                c[to[key] + start + i] = found[i, key]


@behind("mixes", "vwpvwpwvwwww")
def _mixes_of(of_a: Any, al: int, of_from: Any, of_b: Any, bx: int, of_at: Any, pitch: int,
                    of_c: Any, cx: int, keys: int, lanes: int, n: int,
                    block: int) -> None:  # fmt: skip
    a, b, c = carray(of_a, (1,)), carray(of_b, (1,)), carray(of_c, (1,))
    at, begin = carray(of_at, (1,)), carray(of_from, (1,))
    low, high = _reach(at, keys, pitch, lanes)
    if high < 0:
        for x in range(n):
            for i in range(lanes):
                c[x * cx + i] = 0
        return
    width = block // 2
    padded = -(-n // width) * width
    kind, rows = _rows(b, bx, n, padded, low, high, keys, lanes)
    source = b if kind == DIRECT else rows
    low, factor = (low, padded) if kind == TURNED else (0, 1)
    # Not a power of two, lest rows share sets of the caches.
    more = keys + width
    most = _span(keys)
    places = np.empty((most, more), np.int64)
    weights, found = np.empty((most, more), a.dtype), np.empty((most, padded), a.dtype)
    for start in range(0, lanes, most):
        span = min(most, lanes - start)
        _block(places, at, start, keys, pitch, span, low, factor)
        for key in range(keys):
            first, row = begin[key] + start * al, key * pitch + start
            for i in range(span):
                weights[i, key] = a[first + i * al] if at[row + i] >= 0 else 0
        for i in range(span):
            left, own, result = weights[i], places[i], found[i]
            if kind == APART:
                _pack(rows, b, own, keys, bx, n, padded)
            x = 0
            while x < padded:
                size = HELD * width
                if padded - x >= size:
                    is_bad = _mix(left, source, x, own, keys, result, x)
                else:
                    size = width
                    is_bad = _mix_one(left, source, x, own, keys, result, x)
                if is_bad:
                    for one in range(x, x + size):
                        total = a.dtype.type(0)
                        for key in range(keys):
                            if at[key * pitch + start + i] >= 0:
                                total += mul(left[key], source[own[key] + one])
                        result[one] = total
                x += size
        for x in range(n):
            for i in range(span):
                c[x * cx + start + i] = found[i, x]


def install(dtype: str) -> None:
    """Make `dots` and `mixes` known for a dtype."""
    for symbol in (_dots_of, _mixes_of):
        symbol.install(dtype)


@intrinsic
def dots(typing: Any, a: Any, a0: Any, al: Any, ax: Any, b: Any, b0: Any, bx: Any, at: Any,
         pitch: Any, c: Any, c0: Any, to: Any, keys: Any, lanes: Any, n: Any) -> Any:  # fmt: skip
    """c[to[key] + lane] = sum over x < n of a[lane*al + x*ax] * b[at[key*pitch + lane] + x*bx].

    Arrays are flat, and those of values begin at a0, b0 and c0; where at is negative, c becomes
    anything. `install` comes first.
    """
    return _dots_of.call(a, a0, al, ax, b, b0, bx, at, pitch, c, c0, to, keys, lanes, n)


@intrinsic
def mixes(typing: Any, a: Any, a0: Any, al: Any, begin: Any, b: Any, b0: Any, bx: Any, at: Any,
          pitch: Any, c: Any, c0: Any, cx: Any, keys: Any, lanes: Any,
          n: Any) -> Any:  # fmt: skip
    """c[x*cx + lane] = sum over keys of a[begin[key] + lane*al] * b[at[key*pitch + lane] + x*bx].

    Arrays are flat, and those of values begin at a0, b0 and c0; keys whose at is negative are left
    out. `install` comes first.
    """
    return _mixes_of.call(a, a0, al, begin, b, b0, bx, at, pitch, c, c0, cx, keys, lanes, n)
