"""The arithmetic of `formats` and `exp_units` for numba: the same bits, one value at a time.

Every function takes and gives fp32; multipliers are numbered as in formats.MULTIPLIERS. No fast
maths and no fused multiply-add: both would change bits.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from einsum_cascade.exp_units import (
    FIXED_FRACTION,
    FIXED_PIECES,
    POLYNOMIALS,
    ExpUnit,
    coefficients,
    lines,
)
from einsum_cascade.formats import TINY

BF16, FP32 = range(2)
POLY, LINE, FIXED, REFERENCE = range(4)
_METHODS = {"poly": POLY, "chord": LINE, "shifted": LINE, "fixed": FIXED, "reference": REFERENCE}
_ZERO, _NAN, _INF, _ONE = np.float32(0), np.float32(np.nan), np.float32(np.inf), np.float32(1)
_HALF = 1 << (FIXED_FRACTION - 1)
_PIECE_BITS = FIXED_FRACTION - 3

Table = NDArray[np.float64]
# An fp32 number, which numba types and mypy can not.
Real = Any


def unit_table(unit: ExpUnit) -> tuple[int, Table]:
    """Method and constants of a unit, as `exp2` takes them."""
    method = _METHODS[unit.method]
    if method == POLY:
        assert unit.size in POLYNOMIALS
        return method, coefficients(unit.size).astype(np.float64)[None, :]
    if method == LINE:
        slopes, intercepts = lines(unit.size, shifted=unit.method == "shifted")
        return method, np.stack([slopes, intercepts]).astype(np.float64)
    if method == FIXED:
        return method, np.array(FIXED_PIECES, dtype=np.float64)
    return method, np.zeros((1, 1))


@numba.njit(cache=True)
def flush(x: Real) -> Real:
    """Subnormals as zero, every NaN the same."""
    x = np.float32(x)
    if math.isnan(x):
        return _NAN
    if abs(x) < TINY:
        return np.float32(math.copysign(0.0, x))
    return x


@numba.njit(cache=True)
def to_bf16(x: Real) -> Real:
    """The nearest bf16, ties to even."""
    x = flush(x)
    if not math.isfinite(x) or x == _ZERO:
        return x
    # 8 significant bits: scale so that they are the integer part, and round that.
    mantissa, exponent = math.frexp(x)
    return flush(np.float32(math.ldexp(np.rint(math.ldexp(mantissa, 8)), exponent - 8)))


@numba.njit(cache=True)
def add(a: Real, b: Real) -> Real:
    """A sum, rounded once."""
    return flush(np.float32(flush(a)) + np.float32(flush(b)))


@numba.njit(cache=True)
def subtract(a: Real, b: Real) -> Real:
    """A difference; -inf less -inf is -inf."""
    a, b = np.float32(flush(a)), np.float32(flush(b))
    if a == -_INF and b == -_INF:
        return a
    return flush(a - b)


@numba.njit(cache=True)
def multiply(a: Real, b: Real, multiplier: int) -> Real:
    """A product, rounded once; zero times infinity is zero."""
    if multiplier == BF16:
        a, b = to_bf16(a), to_bf16(b)
    a, b = np.float32(flush(a)), np.float32(flush(b))
    if (a == _ZERO and not math.isnan(b)) or (b == _ZERO and not math.isnan(a)):
        return np.float32(math.copysign(0.0, math.copysign(1.0, a) * math.copysign(1.0, b)))
    return flush(a * b)


@numba.njit(cache=True)
def mac(a: Real, b: Real, c: Real, multiplier: int) -> Real:
    """A product and a sum."""
    return add(multiply(a, b, multiplier), c)


@numba.njit(cache=True)
def divide(a: Real, b: Real) -> Real:
    """A quotient, rounded once; 0 / 0 is 0."""
    a, b = np.float32(flush(a)), np.float32(flush(b))
    if b == _ZERO:
        if math.isnan(a):
            return _NAN
        if a == _ZERO:
            return _ZERO
        return np.float32(math.copysign(np.inf, math.copysign(1.0, a) * math.copysign(1.0, b)))
    return flush(a / b)


@numba.njit(cache=True)
def maximum(a: Real, b: Real) -> Real:
    """The larger operand, the first if they are equal."""
    a, b = flush(a), flush(b)
    return a if math.isnan(a) or a >= b else b


@numba.njit(cache=True)
def exp2(x: Real, method: int, table: Table, multiplier: int) -> Real:
    """2**x as a unit computes it; `method` and `table` are those of `unit_table`."""
    x = np.float32(flush(x))
    if math.isnan(x):
        return _NAN
    if x == _INF:
        return _INF
    if x == -_INF:
        return _ZERO
    x = min(max(x, np.float32(-200)), np.float32(200))
    if method == POLY:
        whole = np.float32(np.rint(x))
        f = np.float32(x - whole)
        degree = table.shape[1] - 1
        p = np.float32(table[0, degree])
        for k in range(degree - 1, -1, -1):
            p = np.float32(mac(p, f, np.float32(table[0, k]), multiplier))
        value = float(p)
    elif method == LINE:
        whole = np.float32(np.floor(x))
        f = np.float32(x - whole)
        count = table.shape[1]
        piece = min(int(np.float32(f * np.float32(count))), count - 1)
        slope, intercept = np.float32(table[0, piece]), np.float32(table[1, piece])
        value = float(np.float32(mac(slope, f, intercept, multiplier)))
    elif method == FIXED:
        fixed = int(np.rint(float(x) * 2.0**FIXED_FRACTION))
        whole = np.float32(fixed >> FIXED_FRACTION)
        rest = fixed & ((1 << FIXED_FRACTION) - 1)
        piece, t = rest >> _PIECE_BITS, rest & ((1 << _PIECE_BITS) - 1)
        total = ((int(table[piece, 2]) * t + _HALF) >> FIXED_FRACTION) + int(table[piece, 1])
        total = ((total * t + _HALF) >> FIXED_FRACTION) + int(table[piece, 0])
        value = total * 2.0**-FIXED_FRACTION
    else:
        whole = _ZERO
        value = 2.0 ** float(x)
    return flush(np.float32(math.ldexp(value, int(whole))))
