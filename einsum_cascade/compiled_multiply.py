"""Contractions of any size, c[i, lane] += sum over k of a[i, k] * b[k, lane], behind a symbol.

Generated functions call `multiply` through the address of a C function, under a name that LLVM
knows. So its kernels are compiled once, and not once more inside every function that calls them.
b is copied panel by panel, a in blocks of rows where its rows are next to each other: what lies far
apart in memory shares a few sets of the caches.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numba
import numpy as np
from llvmlite import binding, ir
from numba import njit, types
from numba.extending import intrinsic

from einsum_cascade.compiled_kernels import Real, compiled, mul
from einsum_cascade.compiled_products import BLOCK_BYTES, kernel6

# Points of a chunk of the sum, lanes of a panel, rows of a block: what stays in the L2 cache.
CHUNK, PANEL, ROWS = 256, 128, 96
# Rows of the kernel.
FEW = 6
# Both of them without types.
carray: Any = numba.carray  # type: ignore[attr-defined]
pointer_to: Any = types.CPointer


def _multiply_pointers(of_a: Any, ai: int, ak: int, of_b: Any, bk: int, bl: int, of_c: Any,
                       ci: int, rows: int, n: int, width: int, adds: int,
                       lanes: int) -> None:  # fmt: skip
    # The lengths are not checked, hence not told; nor are lanes, lest LLVM unrolls loops over them.
    a, b, c = carray(of_a, (1,)), carray(of_b, (1,)), carray(of_c, (1,))
    longest = max(min(n, CHUNK), 1)
    panel = np.empty(longest * PANEL, a.dtype)
    left = np.empty(longest * ROWS, a.dtype)
    last = np.empty(FEW * lanes, a.dtype)
    for k0 in range(0, max(n, 1), CHUNK):
        depth = min(CHUNK, n - k0)
        more = adds != 0 or k0 > 0
        for start in range(0, width, PANEL):
            span = min(PANEL, width - start)
            _copy_lanes(panel, b, k0 * bk + start * bl, bk, bl, depth, span)
            for i0 in range(0, rows, ROWS):
                high = min(ROWS, rows - i0)
                _copy_rows(left, a, i0 * ai + k0 * ak, ak, ai, depth, high)
                for i in range(0, high, FEW):
                    for lane in range(0, span, lanes):
                        at = (i0 + i) * ci + start + lane
                        is_part = i + FEW > high or lane + lanes > span
                        to, begin, step, plus = c, at, ci, more
                        if is_part:
                            to, begin, step, plus = last, 0, lanes, False
                        x, y = i * depth, lane * depth
                        if kernel6(left, x, 1, FEW, panel, y, lanes, to, begin, step, depth, plus):
                            _exactly(left, x, panel, y, to, begin, step, depth, plus, lanes)
                        if is_part:
                            for row in range(min(FEW, high - i)):
                                for one in range(min(lanes, span - lane)):
                                    old = c[at + row * ci + one] if more else c.dtype.type(0)
                                    c[at + row * ci + one] = old + last[row * lanes + one]


@compiled
def _exactly(a: Real, a0: int, b: Real, b0: int, c: Real, c0: int, ci: int, n: int, adds: bool,
             lanes: int) -> None:  # fmt: skip
    """A block with the language's product, where -0.0 in b is nothing whatever a is."""
    for i in range(FEW):
        for lane in range(lanes):
            at = c0 + i * ci + lane
            total = c[at] if adds else c.dtype.type(0)
            for k in range(n):
                right = b[b0 + k * lanes + lane]
                if right != 0 or not np.signbit(right):
                    total += mul(a[a0 + i + k * FEW], right)
            c[at] = total


@compiled
def _copy_rows(to: Real, x: Real, at: int, xk: int, xi: int, n: int, rows: int) -> None:
    """to[i // FEW][k][i % FEW] = x[at + k*xk + i*xi], and zeros after the last row."""
    # Few steps at a time, whose rows stay in the cache even if they are a page apart.
    for k0 in range(0, n, 8):
        for i0 in range(0, rows, FEW):
            base, source = i0 * n, at + i0 * xi
            if rows - i0 >= FEW:
                for k in range(k0, min(k0 + 8, n)):
                    for i in range(FEW):
                        to[base + k * FEW + i] = x[source + k * xk + i * xi]
            else:
                for k in range(k0, min(k0 + 8, n)):
                    for i in range(FEW):
                        inside = i < rows - i0
                        to[base + k * FEW + i] = x[source + k * xk + i * xi] if inside else 0


@compiled
def _copy_lanes(to: Real, x: Real, at: int, xk: int, xl: int, n: int, width: int) -> None:
    """to[lane // lanes][k][lane % lanes] = x[at + k*xk + lane*xl], and zeros after the last."""
    lanes = BLOCK_BYTES // x.itemsize
    for start in range(0, width, lanes):
        base, source = start * n, at + start * xl
        high = min(lanes, width - start)
        if high < lanes:
            for i in range(n * lanes):
                to[base + i] = 0
        if xl == 1 and high == lanes:
            for k in range(n):
                for lane in range(lanes):
                    to[base + k * lanes + lane] = x[source + k * xk + lane]
            continue
        for k0 in range(0, n, lanes):
            for lane in range(high):
                for k in range(k0, min(k0 + lanes, n)):
                    to[base + k * lanes + lane] = x[source + k * xk + lane * xl]


_WORD = types.int64
_options: Any = {"cache": True, "error_model": "numpy", "no_cpython_wrapper": True}
_flat: Any = njit(**_options)(_multiply_pointers)


@cache
def install(dtype: str) -> None:
    """Compile the contraction of a dtype, or find it on disk, and tell LLVM where it is."""
    real = {"float32": types.float32, "float64": types.float64}[dtype]
    pointer = pointer_to(real)
    words = (_WORD,) * 2
    kinds = (pointer, *words, pointer, *words, pointer, _WORD, *words, *words, _WORD)
    _flat.compile(kinds)
    found = _flat.overloads[kinds]
    address = found.library.get_pointer_to_function(found.fndesc.llvm_cfunc_wrapper_name)
    binding.add_symbol(_symbol(real), address)


def _symbol(real: Any) -> str:
    return f"einsum_cascade_multiply_{real}"


@intrinsic
def multiply(typing: Any, a: Any, a0: Any, ai: Any, ak: Any, b: Any, b0: Any, bk: Any, bl: Any,
             c: Any, c0: Any, ci: Any, rows: Any, n: Any, width: Any,
             adds: Any) -> Any:  # fmt: skip
    """c[i, lane] = (adds: +=) sum over k < n of a[i, k] * b[k, lane], with sizes rows, n, width.

    a[i, k] is a[a0 + i*ai + k*ak], b[k, lane] is b[b0 + k*bk + lane*bl], c[i, lane] is
    c[c0 + i*ci + lane]. Arrays are flat, steps are in elements, and `install` comes first.
    """
    words = (_WORD,) * 3
    # a0, ai, ak; b0, bk, bl; c0, ci; rows, n, width.
    signature = types.void(a, *words, b, *words, c, *words[:2], *words, types.boolean)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def start(at: int) -> Any:
            kind = signature.args[at]
            data = context.make_array(kind)(context, builder, value=arguments[at]).data
            return builder.gep(data, [arguments[at + 1]])

        (pa, pb, pc), of = (start(0), start(4), start(8)), arguments
        values = [pa, of[2], of[3], pb, of[6], of[7], pc, *of[10:14]]
        values.append(builder.zext(of[14], values[-1].type))
        size = signature.args[0].dtype.bitwidth // 8
        values.append(ir.Constant(values[-1].type, BLOCK_BYTES // size))
        kind = ir.FunctionType(ir.VoidType(), [value.type for value in values])
        name = _symbol(signature.args[0].dtype)
        function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
        builder.call(function, values)
        return context.get_dummy_value()

    return signature, generate
