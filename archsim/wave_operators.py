"""The scalar operators of a PE over a whole row of PEs at once, to the bit those of pe_operators.

All words of a unit are lines [line, column] of one array, so that operands are numbers of lines and
no view is made for any of them. The operators that a machine spends its time with are written so
that they vectorise: choices by selection, no calls. Any other goes element by element through
pe_operators. In hardware numbers lines are fp32, which holds every word.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from archsim.pe_operators import ADD, COPY, EXACT, MAC, MAX, MUL, SUB, compute, rounded
from einsum_cascade.format_kernels import BF16
from einsum_cascade.formats import TINY

# Words [line, column], float64 or float32.
Lines = NDArray[Any]
Floats = NDArray[np.float64]
_TINY, _ZERO, _LEAST = np.float32(TINY), np.float32(0), np.float32(-np.inf)


@numba.njit(cache=True)
def product(x: Any, y: Any) -> Any:
    """A product in float64: only zero times infinity makes NaN of two numbers, and that is 0."""
    found = x * y
    return 0.0 if (found != found) & (x == x) & (y == y) else found


@numba.njit(cache=True)
def exact_line(words: Lines, function: int, a: int, b: int, c: int, out: int) -> None:
    """One operator on lines in float64."""
    count = words.shape[1]
    if function == MAC:
        for i in range(count):
            words[out, i] = product(words[a, i], words[b, i]) + words[c, i]
    elif function == MUL:
        for i in range(count):
            words[out, i] = product(words[a, i], words[b, i])
    elif function == ADD:
        for i in range(count):
            words[out, i] = words[a, i] + words[b, i]
    elif function == SUB:
        for i in range(count):
            x, y = words[a, i], words[b, i]
            words[out, i] = x if (x == -math.inf) & (y == -math.inf) else x - y
    elif function == MAX:
        for i in range(count):
            x, y = words[a, i], words[b, i]
            words[out, i] = x if (x != x) | (x >= y) else y
    elif function == COPY:
        for i in range(count):
            words[out, i] = words[a, i]
    else:
        for i in range(count):
            words[out, i] = compute(function, words[a, i], words[b, i], words[c, i])


@numba.njit(cache=True)
def flushed(x: Any) -> Any:
    """`flush` without a branch; a NaN stays as it is."""
    return x * _ZERO if abs(x) < _TINY else x


@numba.njit(cache=True)
def nearest_bf16(x: Any) -> Any:
    """`to_bf16` without a branch: half of the last bit that is kept is added, ties go to even."""
    x = flushed(x)
    bits = np.float32(x).view(np.uint32)
    half = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    near = np.uint32((bits + half) & np.uint32(0xFFFF0000)).view(np.float32)
    return near if x == x else x


@numba.njit(cache=True)
def multiplied(a: Any, b: Any) -> Any:
    """`multiply` of an fp32 multiplier without a branch."""
    a, b = flushed(a), flushed(b)
    product = a * b
    invented = (product != product) & (a == a) & (b == b)
    sign = (np.float32(a).view(np.uint32) ^ np.float32(b).view(np.uint32)) & np.uint32(0x80000000)
    return np.uint32(sign).view(np.float32) if invented else flushed(product)


@numba.njit(cache=True)
def added(a: Any, b: Any) -> Any:
    """`add` without a branch."""
    return flushed(flushed(a) + flushed(b))


@numba.njit(cache=True)
def hardware_line(
    words: Lines, function: int, a: int, b: int, c: int, out: int, multiplier: int, method: int,
    table: Floats, is_constant: tuple[bool, bool, bool], constants: tuple[float, float, float],
) -> None:  # fmt: skip
    """One operator on lines in hardware numbers; constants may be such that no fp32 holds."""
    count = words.shape[1]
    if function == MAC and multiplier == BF16:
        for i in range(count):
            x, y = nearest_bf16(words[a, i]), nearest_bf16(words[b, i])
            words[out, i] = added(multiplied(x, y), words[c, i])
    elif function == MAC:
        for i in range(count):
            words[out, i] = added(multiplied(words[a, i], words[b, i]), words[c, i])
    elif function == MUL and multiplier == BF16:
        for i in range(count):
            words[out, i] = multiplied(nearest_bf16(words[a, i]), nearest_bf16(words[b, i]))
    elif function == MUL:
        for i in range(count):
            words[out, i] = multiplied(words[a, i], words[b, i])
    elif function == ADD:
        for i in range(count):
            words[out, i] = added(words[a, i], words[b, i])
    elif function == SUB:
        for i in range(count):
            x, y = flushed(words[a, i]), flushed(words[b, i])
            words[out, i] = x if (x == _LEAST) & (y == _LEAST) else flushed(x - y)
    elif function == MAX:
        for i in range(count):
            x, y = flushed(words[a, i]), flushed(words[b, i])
            words[out, i] = x if (x != x) | (x >= y) else y
    elif function == COPY:
        for i in range(count):
            words[out, i] = flushed(words[a, i])
    else:
        for i in range(count):
            x = constants[0] if is_constant[0] else float(words[a, i])
            y = constants[1] if is_constant[1] else float(words[b, i])
            z = constants[2] if is_constant[2] else float(words[c, i])
            words[out, i] = rounded(function, x, y, z, multiplier, method, table)


@numba.njit(cache=True)
def narrow_line(words: Lines, line: int) -> None:
    """Round a line to 16-bit words."""
    for i in range(words.shape[1]):
        words[line, i] = nearest_bf16(words[line, i])


@numba.njit(cache=True)
def prepare_line(words: Lines, line: int, multiplier: int) -> bool:
    """Round a line as a multiplier does first. Returns if it has neither infinities nor NaN."""
    count = words.shape[1]
    if multiplier == BF16:
        for i in range(count):
            words[line, i] = nearest_bf16(words[line, i])
    elif multiplier != EXACT:
        for i in range(count):
            words[line, i] = flushed(words[line, i])
    others = 0
    for i in range(count):
        others += words[line, i] - words[line, i] != 0
    return others == 0


@numba.njit(cache=True)
def accumulate(words: Lines, first: int, left: Lines, top: int, is_exact: bool) -> None:
    """A multiply-accumulate in every PE at once: line first + r gets left[0, r] * top line more.

    Factors are finite, and rounded for the multiplier already.
    """
    for r in range(left.shape[1]):
        word, line = left[0, r], first + r
        if is_exact:
            for i in range(words.shape[1]):
                words[line, i] += word * words[top, i]
        else:
            for i in range(words.shape[1]):
                words[line, i] = flushed(flushed(word * words[top, i]) + words[line, i])
