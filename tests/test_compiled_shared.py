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
GIVEN_FETCHED = FETCHED.replace("B[p] = p - p%3", "B[p] = X[p]")


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
@pytest.mark.parametrize("text", [SIZED, FETCHED, GIVEN, GIVEN_FETCHED])
def test_batches(monkeypatch, text, heads, tokens, threads):
    """Every batch element gets its own values, with more chunks than threads and with fewer."""
    monkeypatch.setenv("NUMBA_NUM_THREADS", threads)
    rng = np.random.default_rng(tokens)
    cascade = ec.parse(text)
    # The last of two keys is one that only every other query sees.
    sizes = {"W": 2} if "W" in cascade.ranks else {}
    given = {name: rng.standard_normal((*heads, 6, tokens)) for name in "QKV"}
    if "X" in cascade.inputs:
        given["X"] = rng.integers(-1, tokens + 1, (*heads, tokens)).astype(float)
    compiled = ec.compile(cascade, "float64")
    *_, stage = compiled.parts(128)
    assert stage.lane is None
    assert steps_of(stage.cascade, "stage0", stage.given).is_shared is ("X" not in cascade.inputs)
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


def checked(text, sizes, **given):
    """A compiled cascade does what the interpreter does."""
    cascade = ec.parse(text)
    found = ec.compile(cascade)(sizes=sizes, **given)
    for name, values in ec.evaluate(cascade, sizes=sizes, **given).items():
        np.testing.assert_allclose(found[name], values, rtol=1e-12, atol=1e-12)
    return found


def test_fetched_keys_are_compared_one_by_one():
    """A filter on what is fetched is told key by key, if the result is an output, too."""
    rng = np.random.default_rng(0)
    given = {name: rng.standard_normal((4, 8)) for name in "QK"}
    text = """
        var w in W
        var p in M
        Z[w,p] = sum[e](Q[e,p]*K[e,p - p%3 + w]) where w != p%2
        input K[e,m]
    """
    for keys in (1, 2, 3):
        checked(text, {"W": keys}, **given)


@pytest.mark.parametrize(
    "text",
    [
        "var n in M\nC[m,p] = sum[n](A[n,p]*B[m,n])\nD[m,p] = C[m,p]",
        "var n in M\nC[m,p] = sum[n](A[n,p]*B[m,n])",
        "var n in M\nC[n,m] = A[m,0]*B[m,n]",
        "var n in M\nC[m] = sum[n](where(n > m, B[m,n], 0))",
        "var n in M\nS[0,p] = 0\nS[m+1,p] = S[m,p]/2 + A[m,p]\nC[m,p] = sum[n](A[n,p]*B[m,n])",
    ],
)
def test_a_rank_on_two_axes_is_no_diagonal(text):
    """Every axis of a bias between tokens has an index of its own."""
    rng = np.random.default_rng(0)
    given = {"A": rng.standard_normal((5, 20)), "B": rng.standard_normal((5, 5))}
    cascade = ec.parse(text)
    checked(text, None, **{name: given[name] for name in cascade.inputs})


@pytest.mark.parametrize("summed", ["A[n,p]", "D[n,p]", "T[n,p]"])
def test_sums_along_a_recurrence_inside_of_it(summed):
    """What is there step by step is no row to sum over."""
    text = f"""
        var n in M
        D[m,p] = exp(A[m,p])
        T[0,p] = 1
        T[m+1,p] = T[m,p]/2 + D[m,p]
        C[m,p] = sum[n]({summed}) where n <= m
        S[0,p] = 1
        S[m+1,p] = S[m,p]/2 + C[m,p] + D[m,p]
        Z[p] = S[M,p]
    """
    checked(text, None, A=np.random.default_rng(0).standard_normal((5, 20)))


def test_rows_of_sizes_at_the_edges():
    """No length, signed zeros, overflow; each call has its own rows."""
    text = "A[p] = p//2\nZ[f,p] = Y[f,p]*X[A[p]]"
    for features, tokens in ((0, 4), (3, 0), (2, 5)):
        assert checked(text, None, Y=np.ones((features, tokens)), X=np.arange(3.0))["Z"].shape == (
            features,
            tokens,
        )
    compiled = ec.compile(ec.parse("param gamma = 1\nA[p] = (p + 1)/gamma\nZ[p] = X[X[p]] + A[p]"))
    x = np.zeros(3)
    for _ in range(2):
        for gamma, found in ((0.0, np.inf), (-0.0, -np.inf), (1.0, 1.0)):
            assert compiled(X=x, gamma=gamma)["Z"][0] == found
    large = ec.compile(ec.parse("A[p] = exp(p)\nZ[p] = X[X[p]] + A[p]"), "float32")
    with np.errstate(all="raise"):
        assert np.isinf(large(X=np.zeros(120))["Z"][-1])
    # More sizes than are kept.
    rows = ec.compile(ec.parse("A[p] = p//2\nZ[p] = X[X[p]] + A[p]"))
    for tokens in [*range(1, 20), *range(1, 20)]:
        np.testing.assert_array_equal(rows(X=np.zeros(tokens))["Z"], np.arange(tokens) // 2)
