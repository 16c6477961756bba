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

from einsum_cascade.compiled_kernels import Real, compiled
from einsum_cascade.compiled_packing import BLOCK_BYTES, FEW, pack_lanes, pack_rows
from einsum_cascade.compiled_products import exactly, kernel1, kernel2, kernel4, kernel6

# Points of a chunk of the sum, lanes of a panel, rows of a block: what stays in the L2 cache.
CHUNK, PANEL, ROWS = 256, 128, 192
# Rows that are too few to copy lanes for.
SPARSE = 12
# Both of them without types.
carray: Any = numba.carray  # type: ignore[attr-defined]
pointer_to: Any = types.CPointer


def _multiply_pointers(of_a: Any, ai: int, ak: int, of_b: Any, bk: int, bl: int, of_c: Any,
                       ci: int, rows: int, n: int, width: int, adds: int,
                       lanes: int) -> None:  # fmt: skip
    # The lengths are not checked, hence not told; nor are lanes, lest LLVM unrolls loops over them.
    a, b, c = carray(of_a, (1,)), carray(of_b, (1,)), carray(of_c, (1,))
    longest = max(min(n, CHUNK), 1)
    # Rows along the sum are read where they are; so are lanes that are near each other.
    is_direct = bl == 1 and (rows <= SPARSE or bk * a.itemsize < 4096)
    panel = np.empty(longest * min(PANEL, width + lanes), a.dtype)
    left = np.empty(longest * (min(ROWS, rows) + FEW) if ak != 1 else 0, a.dtype)
    last = np.empty(FEW * lanes, a.dtype)
    for i0 in range(0, rows, ROWS):
        high = min(ROWS, rows - i0)
        for k0 in range(0, max(n, 1), CHUNK):
            depth = min(CHUNK, n - k0)
            more = adds != 0 or k0 > 0
            x, x0, xi, xf, xk = a, i0 * ai + k0, ai, ai * FEW, 1
            if ak != 1:
                pack_rows(left, a, i0 * ai + k0 * ak, ak, ai, depth, high)
                x, x0, xi, xf, xk = left, 0, 1, depth * FEW, FEW
            for start in range(0, width, PANEL):
                span = min(PANEL, width - start)
                y0 = k0 * bk + start * bl
                whole = span // lanes * lanes if is_direct else 0
                if whole < span:
                    pack_lanes(panel, b, y0 + whole * bl, bk, bl, depth, span - whole)
                for lane in range(0, span, lanes):
                    y, at_y, yk = b, y0 + lane, bk
                    if lane >= whole:
                        y, at_y, yk = panel, (lane - whole) * depth, lanes
                    is_part = lane + lanes > span
                    few, i = FEW, 0
                    while i < high:
                        while i + few > high:
                            few = 4 if few == FEW else few // 2
                        at = (i0 + i) * ci + start + lane
                        at_x = x0 + i // FEW * xf + i % FEW * xi
                        if is_part:
                            _block(few, x, at_x, xi, xk, y, at_y, yk, last, 0, lanes, depth, False)
                            for row in range(few):
                                for one in range(span - lane):
                                    old = c[at + row * ci + one] if more else c.dtype.type(0)
                                    c[at + row * ci + one] = old + last[row * lanes + one]
                        else:
                            _block(few, x, at_x, xi, xk, y, at_y, yk, c, at, ci, depth, more)
                        i += few


@compiled
def _block(rows: int, a: Real, a0: int, ai: int, ak: int, b: Real, b0: int, bk: int, c: Real,
           c0: int, ci: int, n: int, adds: bool) -> None:  # fmt: skip
    """So many rows (6, 4, 2 or 1) of one block of lanes, with the language's product."""
    if rows == 6:
        is_bad = kernel6(a, a0, ai, ak, b, b0, bk, c, c0, ci, n, adds)
    elif rows == 4:
        is_bad = kernel4(a, a0, ai, ak, b, b0, bk, c, c0, ci, n, adds)
    elif rows == 2:
        is_bad = kernel2(a, a0, ai, ak, b, b0, bk, c, c0, ci, n, adds)
    else:
        is_bad = kernel1(a, a0, ai, ak, b, b0, bk, c, c0, ci, n, adds)
    if is_bad:
        exactly(a, a0, ai, ak, b, b0, bk, c, c0, ci, n, adds, rows)


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
