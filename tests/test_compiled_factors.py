"""Sums of products of several tensors, as contractions of what is made of all but one."""

import numpy as np
import pytest

import einsum_cascade as ec
from einsum_cascade.compiled_factors import factored

INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("Z[f,p] = A[m,p]*B[m]*V[f,m]", ["ZX0[m,p] = A[m,p]*B[m]"]),
        ("Z[f,p] = V[f,m]*(A[m,p]*B[m])", ["ZX0[m,p] = A[m,p]*B[m]"]),
        ("Z[f,p] = A[m,p]*B[m]*V[f,m] where m <= p", ["ZX0[m,p] = A[m,p]*B[m]"]),
        ("Z[f,p] = sum[m](exp(A[m,p])*V[f,m])", ["ZX0[m,p] = exp(A[m,p])"]),
        ("ZX0 = B[m]\nZ[f,p] = A[m,p]*B[m]*V[f,m]", ["ZX1[m,p] = A[m,p]*B[m]"]),
        # Nothing is gained: two tensors, no variable that the other one adds, another reduction.
        ("Z[f,p] = A[m,p]*V[f,m]", []),
        ("Z[p] = A[m,p]*B[m]*B[m]", []),
        ("Z[f,p] = sum[n](exp(A[0,p])*V[f,n])", []),
        ("Z[f,p] = sum[m,n](exp(A[m,p])*V[f,n])", []),
        ("Z[f,p] = max[m](A[m,p]*B[m]*V[f,m])", []),
        # A factor that may be empty somewhere stays where it is.
        ("Z[f,p] = A[m+1,p]*B[m]*V[f,m]", []),
    ],
)
def test_factors(text, made):
    """What becomes of a sum, and that it is worth it."""
    cascade = ec.parse(text)
    found = [str(e) for e in factored(cascade).einsums if e not in cascade.einsums]
    assert found[:-1] == made if made else found == []


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 13, 5), (40, 130, 17)])
@pytest.mark.parametrize(
    "text",
    [
        "Z[f,p] = A[m,p]*B[m]*V[f,m]",
        "Z[f,p] = V[f,m]*(A[m,p]*B[m]) where m <= p",
        "S[0,p] = 0\nS[m+1,p] = S[m,p]/2 + A[m,p]\nW[m,p] = A[m,p] - S[m,p]\n"
        "Z[f,p] = W[m,p]*B[m]*V[f,m] where m >= p - 3",
    ],
)
def test_values(text, shape, dtype):
    """As the interpreter, and zeros times infinities are nothing in each product."""
    rows, lanes, features = shape
    rng = np.random.default_rng(0)
    given = {
        "A": rng.standard_normal((rows, lanes)),
        "B": rng.standard_normal(rows),
        "V": rng.standard_normal((features, rows)),
    }
    cascade = ec.parse(text)
    given["A"][0, 0], given["B"][0], given["V"][0, -1] = 0, INF, INF
    bound = {"float32": 2e-5, "float64": 1e-12}[dtype]
    for odd in (False, True):
        if odd:
            given["V"][-1, -1] = NAN
        with np.errstate(all="ignore"):
            expected = ec.evaluate(cascade, **given)
        found = ec.compile(cascade, dtype)(**given)
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, rtol=bound, atol=bound)
