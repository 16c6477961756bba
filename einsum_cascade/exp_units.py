"""Hardware units for 2**x in fp32, bit by bit.

x is split into an integer n and a fraction f; 2**f is approximated, and n is added to the exponent.
`poly3` to `poly6` (and 1, 2, 7) are Horner's scheme with minimax coefficients on f in [-1/2, 1/2],
one multiply-accumulate each. `chord8`, 16, 32 interpolate between equally spaced points of [0, 1];
`shifted8`, 16, 32 are the same lines lowered by half their largest error, which halves it at no
cost. `fixed` is quadratic in 8 pieces in 18-bit integers. `reference` rounds the exact value once.

-inf gives 0, beyond the largest number infinity, below the smallest normal one 0, NaN stays NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from einsum_cascade.formats import Array, Float32, flush, mac

# Coefficients c0 ... cd of 2**f on [-1/2, 1/2] with the least relative error, rounded to fp32;
# found by Remez's exchange (tests repeat it). c0 is 1 where that costs less than fp32 resolves.
POLYNOMIALS: dict[int, tuple[str, ...]] = {
    1: ("0x1.076e82p+0", "0x1.5f3e04p-1"),
    2: ("0x1.001d0ap+0", "0x1.682a56p-1", "0x1.e84d6ep-3"),
    3: ("0x1.fff692p-1", "0x1.62f31ap-1", "0x1.f0de1ap-3", "0x1.c3f760p-5"),
    4: ("0x1.ffffe8p-1", "0x1.62e0dcp-1", "0x1.ec06dap-3", "0x1.ca1440p-5", "0x1.3997d6p-7"),
    5: (
        "0x1.000000p+0", "0x1.62e428p-1", "0x1.ebf918p-3", "0x1.c6b6e4p-5", "0x1.3d0c52p-7",
        "0x1.5c08e6p-10",
    ),
    6: (
        "0x1.000000p+0", "0x1.62e430p-1", "0x1.ebfbdap-3", "0x1.c6aed4p-5", "0x1.3b2dbcp-7",
        "0x1.5f456ap-10", "0x1.41d334p-13",
    ),
    7: (
        "0x1.000000p+0", "0x1.62e430p-1", "0x1.ebfbe0p-3", "0x1.c6b08ap-5", "0x1.3b29dcp-7",
        "0x1.5d8a70p-10", "0x1.446a20p-13", "0x1.fe1786p-17",
    ),
}  # fmt: skip
# Fixed point with 16 bits of fraction: c0, c1, c2 of each eighth of [0, 1), found by interpolation
# at Chebyshev's points, which is minimax to this width.
FIXED_FRACTION = 16
FIXED_PIECES = (
    (65536, 45393, 16442),
    (71468, 49502, 17931),
    (77936, 53982, 19553),
    (84990, 58868, 21323),
    (92682, 64196, 23253),
    (101071, 70006, 25358),
    (110218, 76342, 27653),
    (120194, 83251, 30156),
)
PIECES = (8, 16, 32)


@dataclass(frozen=True, slots=True)
class ExpUnit:
    """One unit: its method, and its degree or number of pieces."""

    name: str
    method: str
    size: int
    # Multiply-accumulates, or broadcast cycles of a line's pieces.
    slots: int


UNITS = {
    unit.name: unit
    for unit in (
        *(ExpUnit(f"poly{degree}", "poly", degree, degree) for degree in POLYNOMIALS),
        *(ExpUnit(f"chord{count}", "chord", count, count) for count in PIECES),
        *(ExpUnit(f"shifted{count}", "shifted", count, count) for count in PIECES),
        ExpUnit("fixed", "fixed", len(FIXED_PIECES), 2),
        ExpUnit("reference", "reference", 0, 1),
    )
}


def coefficients(degree: int) -> Float32:
    """Coefficients of a polynomial, the constant first."""
    return np.array([float.fromhex(text) for text in POLYNOMIALS[degree]], dtype=np.float32)


def lines(count: int, *, shifted: bool) -> tuple[Float32, Float32]:
    """Slopes and intercepts of the pieces over [0, 1], for y = slope * f + intercept."""
    ends = np.exp2(np.arange(count + 1) / count)
    slopes = (ends[1:] - ends[:-1]) * count
    intercepts = ends[:-1] - slopes * np.arange(count) / count
    if shifted:
        # A chord lies above by up to the same share in every piece: where its slope is the curve's.
        touch = np.log2(slopes[0] / np.log(2))
        gap = (slopes[0] * touch + intercepts[0]) / np.exp2(touch) - 1
        slopes, intercepts = slopes / (1 + gap / 2), intercepts / (1 + gap / 2)
    return slopes.astype(np.float32), intercepts.astype(np.float32)


def exp2(x: Array, unit: ExpUnit, multiplier: str = "fp32") -> Float32:
    """2**x as a unit computes it.

    Args:
        x: fp32 of any shape.
        unit: one of UNITS.
        multiplier: of its multiply-accumulates, "fp32" or "bf16".
    """
    x = flush(x)
    # Beyond these nothing changes any more, and integers stay small.
    bounded = np.clip(np.where(np.isfinite(x), x, np.float32(0)), np.float32(-200), np.float32(200))
    if unit.method == "poly":
        whole = np.rint(bounded)
        p, fraction = _horner(bounded - whole, unit.size, multiplier), whole
    elif unit.method == "fixed":
        p, fraction = _fixed(bounded)
    elif unit.method == "reference":
        p, fraction = np.exp2(bounded.astype(np.float64)), np.zeros_like(bounded)
    else:
        fraction = np.floor(bounded)
        p = _line(bounded - fraction, unit, multiplier)
    with np.errstate(over="ignore", under="ignore"):
        result = flush(np.ldexp(p.astype(np.float64), fraction.astype(np.int32)).astype(np.float32))
    result = np.where(x == np.inf, np.float32(np.inf), result)
    result = np.where(x == -np.inf, np.float32(0), result)
    return np.where(np.isnan(x), np.float32(np.nan), result)


def _horner(f: Float32, degree: int, multiplier: str) -> Float32:
    found = coefficients(degree)
    p = np.full_like(f, found[degree])
    for k in range(degree - 1, -1, -1):
        p = mac(p, f, np.full_like(f, found[k]), multiplier)
    return p


def _line(f: Float32, unit: ExpUnit, multiplier: str) -> Float32:
    slopes, intercepts = lines(unit.size, shifted=unit.method == "shifted")
    # f may round up to 1, which belongs to the last piece.
    piece = np.minimum((f * unit.size).astype(np.int64), unit.size - 1)
    return mac(slopes[piece], f, intercepts[piece], multiplier)


def _fixed(x: Float32) -> tuple[Array, Array]:
    table = np.array(FIXED_PIECES, dtype=np.int64)
    scale = FIXED_FRACTION
    fixed = np.rint(x.astype(np.float64) * 2.0**scale).astype(np.int64)
    whole, f = fixed >> scale, fixed & (2**scale - 1)
    bits = scale - 3
    piece, t = f >> bits, f & (2**bits - 1)
    half = 1 << (scale - 1)
    p = ((table[piece, 2] * t + half) >> scale) + table[piece, 1]
    p = ((p * t + half) >> scale) + table[piece, 0]
    return p * 2.0**-scale, whole
