"""Filters of compiled rows: decided by the extremes of a row, and rows that are left out."""

import itertools

import numpy as np
import pytest

import einsum_cascade as ec

INF, NAN = float("inf"), float("nan")
SIZES = {"M": 23, "P": 150, "E": 3, "F": 4}
BOUNDS = {
    # Of short integers, of none, beyond them, with odd values in it, and the same everywhere.
    "short": lambda rng: rng.integers(3, 17, 150),
    "fractions": lambda rng: rng.integers(3, 17, 150) + 0.5,
    "large": lambda rng: rng.integers(3, 17, 150) * 40000.0,
    "odd": lambda rng: np.where(rng.random(150) < 0.1, NAN, rng.integers(3, 17, 150)),
    "infinite": lambda rng: np.where(rng.random(150) < 0.1, INF, rng.integers(3, 17, 150)),
    "same": lambda rng: np.full(150, 7),
}
ATTENTION = """
param factor = 1
L[p] = B[p]*1
QK[m,p] = Q[e,p]*K[e,m] where {condition}
GM[p] = max[m](QK[m,p])
SN[m,p] = exp(QK[m,p] - GM[p])
SD[p] = sum[m](SN[m,p])
A[m,p] = SN[m,p]/SD[p]
AV[f,p] = A[m,p]*V[f,m]
"""


def given(bound):
    rng = np.random.default_rng(0)
    found = {
        name: rng.standard_normal((2, 3, SIZES[rank])) for name, rank in (("Q", "P"), ("K", "M"))
    }
    found["V"] = rng.standard_normal((2, 4, SIZES["M"]))
    return found | {"B": BOUNDS[bound](rng).astype(float)}


def agree(text, arrays, dtype="float64", **parameters):
    cascade = ec.parse(text)
    with np.errstate(all="ignore"):
        expected = ec.evaluate(cascade, **arrays, **parameters)
        found = ec.compile(cascade, dtype=dtype)(**arrays, **parameters)
    for name, values in expected.items():
        limit = 1e-12 if dtype == "float64" else 1e-5
        np.testing.assert_allclose(found[name], values, rtol=0, atol=limit)


def test_every_comparison_with_every_kind_of_row():
    """Half of the rows are all empty or all full, others are told lane by lane."""
    lines = ["param factor = 1"]
    for i, symbol in enumerate((">=", ">", "<=", "<", "==", "!=")):
        lines.append(f"X{i}[m,p] = A[m,p] where B[p] {symbol} m*factor")
        lines.append(f"Y{i}[m,p] = A[m,p] where m*factor {symbol} B[p]")
    array = np.random.default_rng(1).standard_normal((SIZES["M"], SIZES["P"]))
    for bound, factor in (*((name, 1) for name in BOUNDS), ("large", 40000), ("fractions", 0.5)):
        row = BOUNDS[bound](np.random.default_rng(0)).astype(float)
        agree("\n".join(lines), {"A": array, "B": row}, factor=factor)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_several_terms_and_nothing_left(dtype):
    condition = "m >= low and m <= L[p] and m <= high and p != 3 and m*2 > L[p] - p"
    text = "param low = 0\nparam high = 0\n" + ATTENTION.format(condition=condition)
    for low, high in itertools.product((-5, 4, 30), (-5, 9, 30)):
        agree(text, given("short"), dtype, low=low, high=high)


def test_rows_without_anything_are_not_written():
    text = ATTENTION.format(condition="m <= L[p] and m >= L[p] - 2")
    source = ec.compile(ec.parse(text)).source()
    for name in ("QK", "SN", "A"):
        assert f"a_{name}[v_m] = k.anything(el)" in source
    # A tensor that a selection reads has all of its rows.
    text += "TP[k,p] = topk[m](SN[m,p])\nZ[p] = sum[k](TP[k,p])\n"
    source = ec.compile(ec.parse(text)).source()
    assert "a_QK[" in source
    assert "a_SN[" not in source


def test_a_reduction_over_nothing_and_over_rows_that_are_all_empty():
    arrays = given("short")
    agree(ATTENTION.format(condition="m <= L[p]"), arrays | {"B": arrays["B"] - 100})
    none = arrays | {"Q": arrays["Q"][:, :0], "K": arrays["K"][:, :0]}
    agree(ATTENTION.format(condition="m <= L[p]"), none)
    no_keys = arrays | {"K": arrays["K"][:, :, :0], "V": arrays["V"][:, :, :0]}
    agree(ATTENTION.format(condition="m <= L[p]"), no_keys)
