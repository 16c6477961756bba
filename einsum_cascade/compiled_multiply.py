"""Contractions of any size, c[i, lane] += sum over k of a[i, k] * b[k, lane], behind a symbol.

b is copied panel by panel, a in blocks of rows where its rows are next to each other: what lies far
apart in memory shares a few sets of the caches.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.extending import intrinsic

from einsum_cascade.compiled_dots import dots
from einsum_cascade.compiled_kernels import Real, compiled
from einsum_cascade.compiled_packing import FEW, pack_lanes, pack_rows
from einsum_cascade.compiled_products import exactly, kernel1, kernel2, kernel4, kernel6
from einsum_cascade.compiled_symbols import behind, carray

# Points of a chunk of the sum, lanes of a panel, rows of a block: what stays in the L2 cache.
CHUNK, PANEL, ROWS = 256, 128, 192
# Rows that are too few to copy lanes for.
SPARSE = 12
# Points of a sum that are worth a vector of them, whose elements are added up afterwards.
LONG = 64


@behind("multiply", "vwwvwwvwwwwb")
def _multiply(of_a: Any, ai: int, ak: int, of_b: Any, bk: int, bl: int, of_c: Any,
                       ci: int, rows: int, n: int, width: int, adds: int,
                       lanes: int) -> None:  # fmt: skip
    # The lengths are not checked, hence not told.
    a, b, c = carray(of_a, (1,)), carray(of_b, (1,)), carray(of_c, (1,))
    if ak == 1 and bk == 1 and rows <= SPARSE and n >= LONG:
        dots(a, 0, ai, b, 0, bl, c, 0, ci, rows, n, width, adds != 0)
        return
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
                        # A last part of a block comes to the target element by element.
                        to, at_to, step = (last, 0, lanes) if is_part else (c, at, ci)
                        _block(few, x, at_x, xi, xk, y, at_y, yk, to, at_to, step, depth,
                               more and not is_part)  # fmt: skip
                        if is_part:
                            for row in range(few):
                                for one in range(span - lane):
                                    old = c[at + row * ci + one] if more else c.dtype.type(0)
                                    c[at + row * ci + one] = old + last[row * lanes + one]
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


def install(dtype: str) -> None:
    """Make `multiply` known for a dtype."""
    _multiply.install(dtype)


@intrinsic
def multiply(typing: Any, a: Any, a0: Any, ai: Any, ak: Any, b: Any, b0: Any, bk: Any, bl: Any,
             c: Any, c0: Any, ci: Any, rows: Any, n: Any, width: Any,
             adds: Any) -> Any:  # fmt: skip
    """c[i, lane] = (adds: +=) sum over k < n of a[i, k] * b[k, lane], with sizes rows, n, width.

    a[i, k] is a[a0 + i*ai + k*ak], b[k, lane] is b[b0 + k*bk + lane*bl], c[i, lane] is
    c[c0 + i*ci + lane]. Arrays are flat, steps are in elements, and `install` comes first.
    """
    return _multiply.call(a, a0, ai, ak, b, b0, bk, bl, c, c0, ci, rows, n, width, adds)
