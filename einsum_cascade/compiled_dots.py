"""Contractions along memory: c[i, lane] = sum over k of a[i, k] * b[lane, k], k contiguous in both.

Turning lanes that lie along the sum takes longer than the products with a few rows, so here a
vector register holds neighbouring points of the sum, and its elements are added up at the end.

As in `compiled_products`, what is NaN is summed again with the language's own product.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from einsum_cascade.compiled_kernels import Real, compiled, mul
from einsum_cascade.compiled_symbols import BLOCK_BYTES

# Points of a chunk of the sum: four rows of it stay in the L1 cache.
CHUNK = 1024
# Lanes that are summed at once.
PAIR = 2
# Untyped: where a value lives in the function's frame.
local: Any = cgutils.alloca_once_value


def _kernel(rows: int) -> Any:
    """A kernel for so many rows and two lanes: to[2*i + lane] = the sum over n whole vectors."""

    def typed(typing: Any, a: Any, a0: Any, ai: Any, b: Any, b0: Any, bl: Any, n: Any,
              to: Any) -> Any:  # fmt: skip
        index = types.intp
        return types.void(a, index, index, b, index, index, index, to), _generate

    def _generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, a0, ai, b, b0, bl, n, to = arguments
        of_a, of_b, of_to = signature.args[0], signature.args[3], signature.args[7]
        real = context.get_value_type(of_a.dtype)
        size = of_a.dtype.bitwidth // 8
        count = BLOCK_BYTES // 2 // size
        vector = ir.VectorType(real, count)
        word = context.get_value_type(types.intp)
        base_a, base_b, base_to = (
            context.make_array(kind)(context, builder, value=value).data
            for kind, value in ((of_a, a), (of_b, b), (of_to, to))
        )

        def number(value: int) -> Any:
            return ir.Constant(word, value)

        def load(base: Any, at: Any) -> Any:
            found = builder.load(builder.bitcast(builder.gep(base, [at]), vector.as_pointer()))
            found.align = size
            return found

        flags = ("contract",)
        zero = ir.Constant(vector, [0.0] * count)
        sums = [[local(builder, zero) for _ in range(PAIR)] for _ in range(rows)]
        with cgutils.for_range(builder, n) as loop:
            k = builder.mul(loop.index, number(count))
            lanes = [
                load(base_b, builder.add(builder.add(b0, k), builder.mul(bl, number(lane))))
                for lane in range(PAIR)
            ]
            for i, row in enumerate(sums):
                left = load(base_a, builder.add(builder.add(a0, k), builder.mul(ai, number(i))))
                for place, right in zip(row, lanes, strict=True):
                    product = builder.fmul(left, right, flags=flags)
                    total = builder.fadd(builder.load(place), product, flags=flags)
                    builder.store(total, place)
        for i, row in enumerate(sums):
            for lane, place in enumerate(row):
                total, half = builder.load(place), count // 2
                while half:
                    mask = [j + half if j < half else j for j in range(count)]
                    other = ir.Constant(ir.VectorType(ir.IntType(32), count), mask)
                    total = builder.fadd(total, builder.shuffle_vector(total, total, other))
                    half //= 2
                first = builder.extract_element(total, ir.Constant(ir.IntType(32), 0))
                at = number(PAIR * i + lane)
                builder.store(first, builder.gep(base_to, [at])).align = size
        return context.get_dummy_value()

    typed.__name__ = f"dots{rows}"
    return intrinsic(typed)


dots4, dots2, dots1 = _kernel(4), _kernel(2), _kernel(1)


@compiled
def dots(a: Real, a0: int, ai: int, b: Real, b0: int, bl: int, c: Real, c0: int, ci: int,
         rows: int, n: int, width: int, adds: bool) -> None:  # fmt: skip
    """c[c0 + i*ci + lane] = (adds: +=) sum over k < n of a[a0 + i*ai + k] * b[b0 + lane*bl + k]."""
    count = BLOCK_BYTES // 2 // a.itemsize
    found = np.empty(4 * PAIR, a.dtype)
    for k0 in range(0, max(n, 1), CHUNK):
        depth = min(CHUNK, n - k0)
        whole = depth // count
        more = adds or k0 > 0
        for lane in range(0, width, PAIR):
            span = min(PAIR, width - lane)
            at_b = b0 + lane * bl + k0
            # A last lane on its own is there twice.
            step = bl if span == PAIR else 0
            i = 0
            while i < rows:
                few = 4 if rows - i >= 4 else (2 if rows - i >= 2 else 1)
                at_a = a0 + i * ai + k0
                if few == 4:
                    dots4(a, at_a, ai, b, at_b, step, whole, found)
                elif few == 2:
                    dots2(a, at_a, ai, b, at_b, step, whole, found)
                else:
                    dots1(a, at_a, ai, b, at_b, step, whole, found)
                for row in range(few):
                    for one in range(span):
                        total = found[PAIR * row + one]
                        left, right = at_a + row * ai, at_b + one * bl
                        for k in range(whole * count, depth):
                            total += a[left + k] * b[right + k]
                        if total != total:
                            total = _exactly(a, left, b, right, depth)
                        at = c0 + (i + row) * ci + lane + one
                        c[at] = c[at] + total if more else total
                i += few


@compiled
def _exactly(a: Real, a0: int, b: Real, b0: int, n: int) -> Real:
    """The same sum with the language's product; -0.0 in b stands for an empty point."""
    total = a.dtype.type(0)
    for k in range(n):
        right = b[b0 + k]
        if right != 0 or not np.signbit(right):
            total += mul(a[a0 + k], right)
    return total
