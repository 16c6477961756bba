"""Number formats, bit by bit: rounding to nearest even, flushing of subnormals, codes, arithmetic.

A value of any format is held as float64 or float32, which contain them all. `quantize` rounds to
the nearest value of a format, ties to even; `encode` and `decode` go to codes and back. Arithmetic
is that of the hardware: fp32 results, subnormals taken and made as zero (DAZ, FTZ), every NaN the
same quiet one. A multiplier is "bf16" (operands rounded to bf16, so that the product is exact and
only the sum rounds) or "fp32" (the product rounds, then the sum). Empty values follow the
cascade language: 0 * inf = 0, 0 / 0 = 0, -inf - -inf = -inf.

`format_kernels` has the same arithmetic for numba; tests hold the two together bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Float32 = NDArray[np.float32]

# Smallest normal number of fp32; what is smaller counts as zero.
TINY = np.float32(2.0**-126)
MULTIPLIERS = ("bf16", "fp32")


@dataclass(frozen=True, slots=True)
class Format:
    """A binary floating-point format, or fixed point with `fraction` bits and no exponent."""

    name: str
    exponent: int
    fraction: int
    # True if the largest exponent holds infinities and NaNs, as in IEEE 754; else the one code with
    # all bits set is NaN and there is no infinity (OCP e4m3).
    is_ieee: bool = True
    # Subnormals count as zero.
    flushes: bool = False
    # Fixed point: bits before the point, sign included.
    integer: int = 0

    @property
    def bits(self) -> int:
        """Width of a code."""
        return self.integer + self.fraction if self.integer else 1 + self.exponent + self.fraction

    @property
    def bias(self) -> int:
        """What is added to an exponent to store it."""
        return int(2 ** (self.exponent - 1)) - 1

    @property
    def least_exponent(self) -> int:
        """Exponent of the smallest normal number."""
        return 1 - self.bias

    @property
    def largest(self) -> float:
        """The largest finite value."""
        if self.integer:
            return float(2 ** (self.integer - 1)) - 2.0**-self.fraction
        if self.is_ieee:
            return (2 - 2.0**-self.fraction) * 2.0**self.bias
        # The code with every bit set is NaN, so the largest has its last bit clear.
        return (2 - 2 * 2.0**-self.fraction) * 2.0 ** (self.bias + 1)

    def __str__(self) -> str:
        """Print its name."""
        return self.name


FORMATS = {
    one.name: one
    for one in (
        Format("fp32", 8, 23, flushes=True),
        Format("tf32", 8, 10, flushes=True),
        Format("bf16", 8, 7, flushes=True),
        Format("fp16", 5, 10),
        Format("fp8_e4m3", 4, 3, is_ieee=False),
        Format("fp8_e5m2", 5, 2),
    )
}


def fixed_point(integer: int, fraction: int) -> Format:
    """A two's-complement fixed-point format; values beyond its ends saturate."""
    return Format(f"fixed{integer}.{fraction}", 0, fraction, integer=integer)


def quantize(values: Any, target: Format, *, flush: bool | None = None) -> NDArray[np.float64]:
    """Round to the nearest value of a format, ties to even.

    Args:
        values: numbers of any shape, taken as float64.
        target: the format.
        flush: take and make subnormals as zero; as the format says if None.

    Returns: float64 of the same shape. Beyond the largest value: infinity, or NaN where a format
        has no infinity; fixed point saturates and turns NaN into 0.
    """
    x = np.asarray(values, dtype=np.float64)
    if target.integer:
        scaled = np.rint(np.nan_to_num(x, nan=0.0) * 2.0**target.fraction)
        ends = (-(2.0 ** (target.bits - 1)), 2.0 ** (target.bits - 1) - 1)
        return np.asarray(np.clip(scaled, *ends) * 2.0**-target.fraction)
    _, exponent = np.frexp(np.where(np.isfinite(x), x, 0.0))
    step = np.ldexp(1.0, np.maximum(exponent - 1, target.least_exponent) - target.fraction)
    with np.errstate(invalid="ignore"):
        rounded = np.where(np.isfinite(x), np.rint(x / step) * step, x)
    over = np.abs(rounded) > target.largest
    beyond = np.copysign(np.inf, x) if target.is_ieee else np.full_like(x, np.nan)
    rounded = np.where(over, beyond, rounded)
    if target.flushes if flush is None else flush:
        small = np.abs(rounded) < 2.0**target.least_exponent
        rounded = np.where(small, np.copysign(0.0, x), rounded)
    return np.asarray(rounded)


def encode(values: Any, target: Format) -> NDArray[np.uint32]:
    """Codes of values, which are rounded first; every NaN becomes the one quiet NaN."""
    x = quantize(values, target)
    if target.integer:
        scaled = np.rint(x * 2.0**target.fraction).astype(np.int64)
        return np.asarray((scaled & (2**target.bits - 1)).astype(np.uint32))
    mantissa, exponent = np.frexp(np.abs(np.where(np.isfinite(x), x, 0.0)))
    is_normal = (exponent - 1 >= target.least_exponent) & (x != 0)
    power = np.where(is_normal, exponent - 1, target.least_exponent)
    fraction = np.ldexp(mantissa, exponent - power + target.fraction)
    stored = np.where(is_normal, exponent - 1 + target.bias, 0)
    code = np.where(
        is_normal,
        stored * 2**target.fraction + fraction - 2.0**target.fraction,
        fraction,
    )
    top = 2**target.exponent - 1
    if target.is_ieee:
        code = np.where(np.isinf(x), top * 2**target.fraction, code)
        quiet = top * 2**target.fraction + 2 ** (target.fraction - 1)
    else:
        quiet = 2 ** (target.exponent + target.fraction) - 1
    code = np.where(np.isnan(x), quiet, code).astype(np.uint32)
    sign = np.signbit(x) & ~np.isnan(x)
    return np.asarray(code | (sign.astype(np.uint32) << np.uint32(target.bits - 1)))


def decode(codes: Any, target: Format) -> NDArray[np.float64]:
    """Values of codes; subnormals are zero where the format flushes them."""
    code = np.asarray(codes).astype(np.int64)
    if target.integer:
        half = 2 ** (target.bits - 1)
        return np.asarray(((code + half) % (2 * half) - half) * 2.0**-target.fraction)
    fraction = code & (2**target.fraction - 1)
    stored = (code >> target.fraction) & (2**target.exponent - 1)
    power = np.where(stored > 0, stored - target.bias, target.least_exponent) - target.fraction
    value = np.ldexp((fraction + np.where(stored > 0, 2**target.fraction, 0)).astype(float), power)
    top = 2**target.exponent - 1
    if target.is_ieee:
        value = np.where(stored == top, np.where(fraction > 0, np.nan, np.inf), value)
    else:
        full = (stored == top) & (fraction == 2**target.fraction - 1)
        value = np.where(full, np.nan, value)
    if target.flushes:
        value = np.where(stored == 0, 0.0, value)
    sign = (code >> (target.bits - 1)) & 1
    return np.asarray(np.where(np.isnan(value), np.nan, np.where(sign > 0, -value, value)))


def flush(x: Array) -> Float32:
    """fp32 with subnormals as zero and every NaN the same."""
    x = np.asarray(x, dtype=np.float32)
    x = np.where(np.abs(x) < TINY, np.copysign(np.float32(0), x), x)
    return np.where(np.isnan(x), np.float32(np.nan), x)


def to_bf16(x: Array) -> Float32:
    """fp32 rounded to the nearest bf16, on its bits."""
    x = flush(x)
    bits = x.view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(
        0xFFFF0000
    )
    return flush(np.where(np.isfinite(x), rounded.view(np.float32), x))


def add(a: Array, b: Array) -> Float32:
    """fp32 sum, rounded once."""
    with np.errstate(over="ignore", invalid="ignore"):
        return flush(flush(a) + flush(b))


def subtract(a: Array, b: Array) -> Float32:
    """fp32 difference; -inf less -inf is -inf, so that nothing stays nothing."""
    a, b = flush(a), flush(b)
    with np.errstate(over="ignore", invalid="ignore"):
        return flush(np.where(np.isneginf(a) & np.isneginf(b), -np.inf, a - b))


def multiply(a: Array, b: Array, multiplier: str = "fp32") -> Float32:
    """fp32 product, rounded once; with a bf16 multiplier of operands rounded to bf16."""
    a, b = (to_bf16(a), to_bf16(b)) if multiplier == "bf16" else (flush(a), flush(b))
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        product = a * b
    zero = (a == 0) & ~np.isnan(b) | (b == 0) & ~np.isnan(a)
    sign = np.copysign(np.float32(1), a) * np.copysign(np.float32(1), b)
    return flush(np.where(zero, np.copysign(np.float32(0), sign), product))


def mac(a: Array, b: Array, c: Array, multiplier: str = "fp32") -> Float32:
    """A product and a sum, each rounded; a bf16 product is exact, so only the sum rounds then."""
    return add(multiply(a, b, multiplier), c)


def divide(a: Array, b: Array) -> Float32:
    """fp32 quotient, rounded once; 0 / 0 is 0."""
    a, b = flush(a), flush(b)
    with np.errstate(all="ignore"):
        return flush(np.where((a == 0) & (b == 0), np.float32(0), a / b))


def reciprocal(x: Array) -> Float32:
    """1 / x, rounded once."""
    return divide(np.ones_like(np.asarray(x, dtype=np.float32)), x)


def maximum(a: Array, b: Array) -> Float32:
    """The larger operand, the first if they are equal; NaN if either is."""
    a, b = flush(a), flush(b)
    return np.where(np.isnan(a) | (a >= b), a, b)
