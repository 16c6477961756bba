"""Contractions: c[i, lane] = sum over k of a[i, k] * b[k, lane], with many rows of lanes at once.

b and c are tile-local and lanes are contiguous, so a vector register holds neighbouring lanes and
a's elements are broadcast. The innermost kernel keeps 6 rows by two vectors of c in registers while
it runs through all of k: 12 accumulators, 2 loads and 6 broadcasts for 12 multiply-adds, which is
what the load ports of common CPUs feed. It is written as LLVM vectors, since numba keeps no array
in registers.

IEEE arithmetic differs from the language's (0 * inf = 0) only where it gives NaN: such a block is
summed again with the language's own product. There -0.0 in b stands for an empty point, which adds
nothing whatever a is.
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

# Untyped: where a value lives in the function's frame.
local: Any = cgutils.alloca_once_value


def _kernel(rows: int) -> Any:
    """A kernel for so many rows of c: True if its block has a NaN, which is then not stored."""

    def typed(typing: Any, a: Any, a0: Any, ai: Any, ak: Any, b: Any, b0: Any, bk: Any, c: Any,
              c0: Any, ci: Any, n: Any, adds: Any) -> Any:  # fmt: skip
        index = types.intp
        signature = types.boolean(
            a, index, index, index, b, index, index, c, index, index, index, types.boolean
        )
        return signature, _generate

    def _generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, a0, ai, ak, b, b0, bk, c, c0, ci, n, adds = arguments
        of_a, of_b, of_c = signature.args[0], signature.args[4], signature.args[7]
        real = context.get_value_type(of_a.dtype)
        size = of_a.dtype.bitwidth // 8
        lanes = BLOCK_BYTES // 2 // size
        vector = ir.VectorType(real, lanes)
        word = context.get_value_type(types.intp)

        def data(kind: Any, value: Any) -> Any:
            return context.make_array(kind)(context, builder, value=value).data

        def number(value: int) -> Any:
            return ir.Constant(word, value)

        def wide(base: Any, at: Any) -> Any:
            return builder.bitcast(builder.gep(base, [at]), vector.as_pointer())

        def load(base: Any, at: Any) -> Any:
            found = builder.load(wide(base, at))
            found.align = size
            return found

        def fetch(base: Any, at: Any) -> None:
            byte, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
            kind = ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
            function = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
            # To be written, to stay, and data.
            how = [ir.Constant(flag, value) for value in (1, 3, 1)]
            builder.call(function, [builder.bitcast(builder.gep(base, [at]), byte), *how])

        flags = ("contract",)
        zero = ir.Constant(vector, [0.0] * lanes)
        sums = [[local(builder, zero) for _ in range(2)] for _ in range(rows)]
        base_a, base_b, base_c = data(of_a, a), data(of_b, b), data(of_c, c)

        def of_block() -> Any:
            for i, row in enumerate(sums):
                at_c = builder.add(c0, builder.mul(ci, number(i)))
                for v, place in enumerate(row):
                    yield place, builder.add(at_c, number(v * lanes))

        # It takes as long as memory does until c is there, so it is asked for first.
        for _, at in list(of_block())[::2]:
            fetch(base_c, at)
        with cgutils.for_range(builder, n) as loop:
            at_b = builder.add(b0, builder.mul(loop.index, bk))
            right = [load(base_b, builder.add(at_b, number(v * lanes))) for v in range(2)]
            at_a = builder.add(a0, builder.mul(loop.index, ak))
            for i in range(rows):
                at = builder.add(at_a, builder.mul(ai, number(i)))
                one = builder.load(builder.gep(base_a, [at]))
                left = builder.insert_element(
                    ir.Constant(vector, ir.Undefined), one, ir.Constant(ir.IntType(32), 0)
                )
                mask = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
                left = builder.shuffle_vector(left, left, mask)
                for v in range(2):
                    product = builder.fmul(left, right[v], flags=flags)
                    total = builder.fadd(builder.load(sums[i][v]), product, flags=flags)
                    builder.store(total, sums[i][v])
        bad = None
        for row in sums:
            for place in row:
                total = builder.load(place)
                here = builder.fcmp_unordered("uno", total, total)
                bad = here if bad is None else builder.or_(bad, here)
        is_bad = builder.icmp_unsigned(
            "!=", builder.bitcast(bad, ir.IntType(lanes)), ir.Constant(ir.IntType(lanes), 0)
        )
        with builder.if_then(builder.not_(is_bad)):
            with builder.if_then(adds):
                for place, at in of_block():
                    total = builder.fadd(load(base_c, at), builder.load(place))
                    builder.store(total, place)
            for place, at in of_block():
                builder.store(builder.load(place), wide(base_c, at)).align = size
        return is_bad

    typed.__name__ = f"kernel{rows}"
    return intrinsic(typed)


kernel6, kernel4, kernel2, kernel1 = _kernel(6), _kernel(4), _kernel(2), _kernel(1)


@compiled
def exactly(a: Real, a0: int, ai: int, ak: int, b: Real, b0: int, bk: int, c: Real,
             c0: int, ci: int, n: int, adds: bool, rows: int) -> None:  # fmt: skip
    """The same block with the language's product."""
    lanes = BLOCK_BYTES // a.itemsize
    for i in range(rows):
        for lane in range(lanes):
            total = a.dtype.type(0)
            for k in range(n):
                right = b[b0 + k * bk + lane]
                if right != 0 or not np.signbit(right):
                    total += mul(a[a0 + i * ai + k * ak], right)
            at = c0 + i * ci + lane
            c[at] = c[at] + total if adds else total


@compiled
def contract(a: Real, a0: int, ai: int, ak: int, b: Real, b0: int, bk: int, c: Real,
             c0: int, ci: int, rows: int, n: int, width: int, adds: bool) -> None:  # fmt: skip
    """c[c0 + i*ci + lane] = (adds: +=) sum over k < n of a[a0 + i*ai + k*ak] * b[b0 + k*bk + lane].

    All arrays are flat; offsets and steps are in elements. `width` lanes are a multiple of a block.
    """
    lanes = BLOCK_BYTES // a.itemsize
    if ai == 1 and ak * a.itemsize % 4096 == 0 and n > 1:
        # Rows a page apart share a few sets of the caches, so they are copied next to each other.
        step = rows + lanes
        packed = np.empty(n * step, a.dtype)
        for k in range(n):
            for i in range(rows):
                packed[k * step + i] = a[a0 + k * ak + i]
        a, a0, ak = packed, 0, step
    for lane in range(0, width, lanes):
        i = 0
        while i < rows:
            count = 6 if rows - i >= 6 else (4 if rows - i >= 4 else 1)
            at_a, at_b, at_c = a0 + i * ai, b0 + lane, c0 + i * ci + lane
            if count == 6:
                bad = kernel6(a, at_a, ai, ak, b, at_b, bk, c, at_c, ci, n, adds)
            elif count == 4:
                bad = kernel4(a, at_a, ai, ak, b, at_b, bk, c, at_c, ci, n, adds)
            else:
                bad = kernel1(a, at_a, ai, ak, b, at_b, bk, c, at_c, ci, n, adds)
            if bad:
                exactly(a, at_a, ai, ak, b, at_b, bk, c, at_c, ci, n, adds, count)
            i += count


@compiled
def narrow(low: int, high: int, factor: int, rest: int) -> tuple[int, int]:
    """The part of low <= v < high where factor * v + rest >= 0."""
    if factor > 0:
        low = max(low, -(rest // factor))
    elif factor < 0:
        high = min(high, rest // -factor + 1)
    elif rest < 0:
        high = low
    return low, max(low, high)


@compiled
def most(factor: int, low: int, high: int) -> int:
    """The largest factor * v for low <= v < high, which is not empty."""
    return max(factor * low, factor * (high - 1))


@compiled
def least(factor: int, low: int, high: int) -> int:
    """The smallest factor * v for low <= v < high, which is not empty."""
    return min(factor * low, factor * (high - 1))


@compiled
def is_settled(table: Real) -> bool:
    """True if a state of the present step is that of the next."""
    half = table.shape[0] // 2
    for i in range(half):
        for lane in range(table.shape[1]):
            x, y = table[i, lane], table[half + i, lane]
            if not (x == y or (x != x and y != y)):
                return False
    return True


@compiled
def start(row: Real, value: Real) -> None:
    """Set all lanes of a row."""
    for lane in range(row.shape[0]):
        row[lane] = value


@compiled
def leave_empty(row: Real, low: int, high: int, nothing: Real) -> None:
    """Set the lanes outside low <= lane < high."""
    for lane in range(min(low, row.shape[0])):
        row[lane] = nothing
    for lane in range(high, row.shape[0]):
        row[lane] = nothing
