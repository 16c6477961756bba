"""Empty elements that sizes alone decide are found once for all batch elements of a chunk."""

import numpy as np
import pytest

import einsum_cascade as ec
from einsum_cascade.compiled_empty import is_sized, sized_tensors
from einsum_cascade.compiled_steps import steps_of

# Every query sees the keys of a block that is found from its place, in two ways of adding them up.
SIZED = """
A[p] = p//4*4
QK[m,p] = sum[e](Q[e,p]*K[e,m]) where m >= A[p] and m%3 != p%3
G[p] = max[m](QK[m,p])
N[m,p] = exp(QK[m,p] - G[p])
AV[f,p] = sum[m](N[m,p]*V[f,m])
"""
FETCHED = """
var w in W
var p in M
input K[e,m]
B[p] = p - p%3
QK[w,p] = sum[e](Q[e,p]*K[e,B[p] + w]) where w != p%2
N[w,p] = exp(QK[w,p])
AV[f,p] = sum[w](N[w,p]*V[f,B[p] + w])
"""
# The first query sees what its own array says.
GIVEN = SIZED.replace("A[p] = p//4*4", "A[p] = X[p]")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (SIZED, True),
        (FETCHED, True),
        (GIVEN, False),
        (GIVEN.replace("X[p]", "where(p > 1, p, X[p])"), False),
        (SIZED.replace("m >= A[p]", "Q[0,p] > 0"), False),
        ("Z[p] = A[B[p]]", False),
        ("Z[p] = where(A[p] > 0, A[p], B[p+1])", False),
        ("Z[p] = where(p > 0, A[p], B[p+1])", True),
        ("K[k,p] = argtopk[m](A[m,p])\nZ[k,p] = A[K[k,p],p]", False),
    ],
)
def test_what_inputs_decide_differs(text, found):
    """Inputs decide by filters, by what is fetched, by branches and by what is selected."""
    assert is_sized(ec.parse(text)) is found


def test_sized_tensors():
    """Tensors are sized if everything behind them is."""
    cascade = ec.parse("A[p] = p//2\nB[p] = A[p] + 1\nC[p] = B[p]*X[p]\nD[p] = C[p]")
    assert sized_tensors(cascade) == {"A", "B"}


@pytest.mark.parametrize("threads", ["1", "2", "3"])
@pytest.mark.parametrize("tokens", [1, 7, 150, 300])
@pytest.mark.parametrize("heads", [(), (1,), (2, 3), (0,)])
@pytest.mark.parametrize("text", [SIZED, FETCHED, GIVEN])
def test_batches(monkeypatch, text, heads, tokens, threads):
    """Every batch element gets its own values, with more chunks than threads and with fewer."""
    monkeypatch.setenv("NUMBA_NUM_THREADS", threads)
    rng = np.random.default_rng(tokens)
    cascade = ec.parse(text)
    sizes = {"W": 5} if text is FETCHED else {}
    given = {name: rng.standard_normal((*heads, 6, tokens)) for name in "QKV"}
    if text is GIVEN:
        given["X"] = rng.integers(-1, tokens + 1, (*heads, tokens)).astype(float)
    compiled = ec.compile(cascade, "float64")
    (stage,) = compiled.stages
    assert stage.lane is None
    assert steps_of(stage.cascade, "stage0").is_shared is (text is not GIVEN)
    expected = ec.evaluate(cascade, sizes=sizes, **given)
    for _ in range(2):
        found = compiled(sizes=sizes, **given)
        np.testing.assert_allclose(found["AV"], expected["AV"], rtol=1e-11, atol=1e-11)


def test_inputs_of_some_batch_elements():
    """Heads that share keys find the same elements empty as those that do not."""
    rng = np.random.default_rng(0)
    given = {"Q": rng.standard_normal((4, 6, 40))}
    given |= {name: rng.standard_normal((2, 6, 40)) for name in "KV"}
    cascade = ec.parse(SIZED)
    found = ec.compile(cascade, "float64")(**given)
    expected = ec.evaluate(cascade, **given)
    np.testing.assert_allclose(found["AV"], expected["AV"], rtol=1e-11, atol=1e-11)
