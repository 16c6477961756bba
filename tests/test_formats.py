"""Number formats and exp units: exhaustive oracles, error tables, and NumPy against numba."""

import ml_dtypes
import mpmath
import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from einsum_cascade import exp_units, format_kernels, formats
from einsum_cascade.exp_units import POLYNOMIALS, UNITS, coefficients
from einsum_cascade.formats import FORMATS, MULTIPLIERS, decode, encode, fixed_point, quantize

DTYPES = {
    "fp16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "fp8_e4m3": ml_dtypes.float8_e4m3fn,
    "fp8_e5m2": ml_dtypes.float8_e5m2,
}
SPECIAL = np.array(
    [0, -0.0, 1, -1, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 2.0**-126, 3e38, -3e38, 1 + 2**-23],
    dtype=np.float32,
)


def same_bits(a, b) -> bool:
    a, b = np.asarray(a, dtype=np.float32), np.asarray(b, dtype=np.float32)
    return bool((a.view(np.uint32) == b.view(np.uint32)).all())


def all_codes(name: str):
    bits = FORMATS[name].bits
    return np.arange(2**bits, dtype=np.uint32)


@pytest.mark.parametrize("name", DTYPES)
def test_every_code_decodes_as_in_ml_dtypes(name):
    codes = all_codes(name)
    storage = np.uint8 if FORMATS[name].bits == 8 else np.uint16
    with np.errstate(invalid="ignore"):  # signalling NaNs
        expected = codes.astype(storage).view(DTYPES[name]).astype(np.float64)
    if FORMATS[name].flushes:
        small = np.abs(expected) < 2.0 ** FORMATS[name].least_exponent
        expected = np.where(small, np.copysign(0.0, expected), expected)
    found = decode(codes, FORMATS[name])
    assert np.array_equal(found, expected, equal_nan=True)
    signs = ~np.isnan(found)
    assert np.array_equal(np.signbit(found[signs]), np.signbit(expected[signs]))


@pytest.mark.parametrize("name", FORMATS)
def test_every_value_encodes_to_its_code(name):
    kept = FORMATS[name]
    step = 1 if kept.bits <= 16 else 9973
    codes = np.arange(0, 2**kept.bits, step, dtype=np.uint32)
    values = decode(codes, kept)
    again = encode(values, kept)
    stored = (codes >> kept.fraction) & (2**kept.exponent - 1)
    plain = ~np.isnan(values) & ~(kept.flushes & (stored == 0))
    assert np.array_equal(again[plain], codes[plain])
    # One NaN, and it decodes as one.
    assert len(set(again[np.isnan(values)].tolist())) <= 1
    assert np.isnan(decode(encode(np.nan, kept), kept))


@pytest.mark.parametrize("name", DTYPES)
def test_rounding_is_that_of_ml_dtypes(name):
    """All neighbours' midpoints, a little beside them, and random values."""
    kept = FORMATS[name]
    values = decode(all_codes(name), kept)
    finite = np.unique(values[np.isfinite(values)])
    middle = ((finite[1:] + finite[:-1]) / 2).astype(np.float32)
    beside = [np.nextafter(middle, np.float32(end)) for end in (1e9, -1e9)]
    random = np.random.default_rng(1).standard_normal(100_000)
    scaled = random * np.exp2(np.random.default_rng(2).integers(-30, 30, 100_000))
    # Oracles round from fp32, and so twice from anything wider.
    x = np.concatenate([middle, *beside, scaled.astype(np.float32)])
    with np.errstate(over="ignore", invalid="ignore"):
        expected = x.astype(DTYPES[name]).astype(np.float64)
    if kept.flushes:
        expected = np.where(np.abs(expected) < 2.0**kept.least_exponent, 0, expected)
    assert np.array_equal(quantize(x, kept), expected, equal_nan=True)


@pytest.mark.torch
def test_fp8_is_that_of_pytorch():
    import torch

    for name, dtype in (("fp8_e4m3", torch.float8_e4m3fn), ("fp8_e5m2", torch.float8_e5m2)):
        codes = torch.arange(256, dtype=torch.uint8)
        expected = codes.view(dtype).to(torch.float64).numpy()
        assert np.array_equal(decode(codes.numpy(), FORMATS[name]), expected, equal_nan=True)
    codes = torch.arange(65536, dtype=torch.int32).to(torch.int16)
    expected = codes.view(torch.bfloat16).to(torch.float64).numpy()
    expected = np.where(np.abs(expected) < 2.0**-126, 0, expected)
    found = decode(np.arange(65536), FORMATS["bf16"])
    assert np.array_equal(found, expected, equal_nan=True)


@given(st.floats(width=32, allow_subnormal=False))
def test_fp32_keeps_fp32(x):
    assert same_bits(quantize(x, FORMATS["fp32"]).astype(np.float32), np.float32(x)) or np.isnan(x)


@given(st.floats(-300, 300), st.integers(1, 8), st.integers(0, 12))
def test_fixed_point_rounds_and_saturates(x, integer, fraction):
    kept = fixed_point(integer, fraction)
    found = float(quantize(x, kept))
    low, high = -(2.0 ** (integer - 1)), kept.largest
    assert low <= found <= high
    assert float(decode(encode(x, kept), kept)) == found
    if low <= x <= high:
        assert abs(found - x) <= 2.0**-fraction / 2


def test_tf32_drops_13_bits():
    assert quantize(1 + 2.0**-11, FORMATS["tf32"]) == 1
    assert quantize(1 + 3 * 2.0**-11, FORMATS["tf32"]) == 1 + 2 * 2.0**-10
    assert quantize(1 + 2.0**-10, FORMATS["tf32"]) == 1 + 2.0**-10


def operands(count: int):
    """Any bits, numbers of ordinary size, and every triple of special values."""
    generator = np.random.default_rng(5)
    raw = generator.integers(0, 2**32, (3, count), dtype=np.uint64).astype(np.uint32)
    plain = generator.standard_normal((3, count)).astype(np.float32)
    special = np.array(np.meshgrid(SPECIAL, SPECIAL, SPECIAL), dtype=np.float32).reshape(3, -1)
    mixed = np.stack([raw[0].view(np.float32), plain[0], plain[1]])
    return np.concatenate([raw.view(np.float32), plain, mixed, special], axis=1)


@numba.njit
def each2(function, a, b):
    out = np.empty(len(a), np.float32)
    for i in range(len(a)):
        out[i] = function(a[i], b[i])
    return out


@numba.njit
def each_mac(a, b, c, multiplier):
    out = np.empty(len(a), np.float32)
    for i in range(len(a)):
        out[i] = format_kernels.mac(a[i], b[i], c[i], multiplier)
    return out


@numba.njit
def each_exp2(x, method, table, multiplier):
    out = np.empty(len(x), np.float32)
    for i in range(len(x)):
        out[i] = format_kernels.exp2(x[i], method, table, multiplier)
    return out


@pytest.mark.parametrize("name", ["add", "subtract", "divide", "maximum"])
def test_numba_computes_the_same_bits(name):
    a, b, _ = operands(340_000)
    found = each2(getattr(format_kernels, name), a, b)
    assert len(a) > 10**6
    assert same_bits(found, getattr(formats, name)(a, b))


@pytest.mark.parametrize("multiplier", MULTIPLIERS)
def test_numba_multiplies_and_adds_the_same_bits(multiplier):
    a, b, c = operands(340_000)
    found = each_mac(a, b, c, MULTIPLIERS.index(multiplier))
    assert same_bits(found, formats.mac(a, b, c, multiplier))


@pytest.mark.parametrize("multiplier", MULTIPLIERS)
@pytest.mark.parametrize("name", UNITS)
def test_numba_exponentiates_the_same_bits(name, multiplier):
    random = (-126 * np.random.default_rng(3).random(60_000)).astype(np.float32)
    codes = np.arange(65536, dtype=np.uint32) << 16
    x = np.concatenate([random, codes.view(np.float32), SPECIAL])
    unit = UNITS[name]
    table = format_kernels.unit_table(unit)
    found = each_exp2(x, *table, MULTIPLIERS.index(multiplier))
    assert same_bits(found, exp_units.exp2(x, unit, multiplier))


def test_a_bf16_product_is_exact():
    """All pairs of significands: the product of two bf16 numbers is an fp32 number."""
    significands = np.arange(128, 256, dtype=np.float64)
    a, b = np.meshgrid(significands, significands)
    assert np.array_equal(formats.multiply(a, b, "bf16"), a * b)
    assert np.array_equal(formats.multiply(a, b, "fp32"), a * b)


def test_empty_values_stay_empty():
    inf, zero = np.float32(np.inf), np.float32(0)
    assert formats.subtract(-inf, -inf) == -inf
    assert formats.multiply(zero, inf) == 0
    assert formats.divide(zero, zero) == 0
    assert np.isnan(formats.subtract(inf, inf))
    assert np.isnan(formats.add(inf, -inf))
    assert formats.reciprocal(np.float32(4)) == 0.25


def bf16_inputs():
    """Every bf16 number whose power of two is a normal number."""
    values = np.unique(decode(np.arange(65536), FORMATS["bf16"]))
    return values[(values > -126) & (values < 128)].astype(np.float32)


def error(name: str, multiplier: str = "fp32") -> float:
    """Largest relative error over all bf16 inputs, as a power of two."""
    x = bf16_inputs()
    found = exp_units.exp2(x, UNITS[name], multiplier).astype(np.float64)
    return float(np.log2(np.abs(found / np.exp2(x.astype(np.float64)) - 1).max()))


@pytest.mark.parametrize(
    ("name", "power"),
    [
        # Largest relative errors measured by the authors of the units' descriptions.
        ("poly3", -13.7), ("poly4", -18.5), ("poly5", -22.2), ("poly6", -23.6),
        ("chord8", -10.05), ("shifted8", -11.0), ("shifted16", -13.0), ("shifted32", -15.0),
        ("fixed", -15.8), ("reference", -24.0),
    ],
)  # fmt: skip
def test_every_bf16_input_meets_the_error_table(name, power):
    assert error(name) <= power + 0.05


@pytest.mark.parametrize("name", ["poly3", "poly4", "poly5", "poly6"])
def test_a_bf16_multiplier_stops_at_2_to_the_minus_9(name):
    """Each step rounds its product's operands to 8 bits, the last one as much as the first."""
    assert -10 < error(name, "bf16") < -9


@pytest.mark.parametrize("name", UNITS)
def test_exp_units_at_the_ends_and_in_order(name):
    unit = UNITS[name]

    def exp2(x, multiplier="fp32"):
        return exp_units.exp2(np.asarray(x, dtype=np.float32), unit, multiplier)

    assert exp2(-np.inf) == 0
    assert exp2(np.inf) == np.inf
    assert np.isnan(exp2(np.nan))
    assert exp2(-150.0) == 0
    assert exp2(128.5) == np.inf
    values = np.unique(decode(np.arange(65536), FORMATS["bf16"]))
    results = exp2(values[np.isfinite(values)])
    steps = results[1:][np.isfinite(results[1:])] - results[:-1][np.isfinite(results[1:])]
    assert (steps >= 0).all()
    if name not in ("poly1", "poly2"):
        # Rounded to a bf16 word, as exponentials leave a PE.
        assert formats.to_bf16(exp2(0.0)) == 1
    if name in ("poly5", "poly6", "poly7", "chord8", "chord16", "chord32", "fixed", "reference"):
        assert exp2(0.0) == 1


@pytest.mark.parametrize("degree", POLYNOMIALS)
def test_polynomials_are_minimax(degree):
    """The error of the coefficients before rounding alternates with equal height: Remez again."""
    with mpmath.workdps(40):
        points = [-mpmath.cos(mpmath.pi * i / (degree + 1)) / 2 for i in range(degree + 2)]
        for _ in range(12):
            weights = mpmath.matrix(degree + 2, degree + 2)
            ones = mpmath.matrix(degree + 2, 1)
            for i, x in enumerate(points):
                for k in range(degree + 1):
                    weights[i, k] = x**k * 2**-x
                weights[i, degree + 1] = (-1) ** i
                ones[i] = 1
            solved = mpmath.lu_solve(weights, ones)
            found = [solved[k] for k in range(degree + 1)]

            def error(x, found=found):
                return mpmath.polyval(found[::-1], x) * 2**-x - 1

            grid = [mpmath.mpf(i) / 1000 - mpmath.mpf(1) / 2 for i in range(1001)]
            values = [error(x) for x in grid]
            peaks = [
                grid[i]
                for i in range(1001)
                if abs(values[i]) >= max(abs(values[max(i - 1, 0)]), abs(values[min(i + 1, 1000)]))
            ]
            assert len(peaks) >= degree + 2
            points = peaks[: degree + 2]
    stored = coefficients(degree).astype(np.float64)
    exact = np.array([float(c) for c in found])
    # Rounded to fp32; c0 of the higher degrees is 1, less than a rounding error away.
    assert np.abs(stored - exact).max() <= 2.0**-23
    assert np.abs(stored[1:] / exact[1:] - 1).max() <= 2.0**-20
