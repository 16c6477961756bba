"""Odd forms of cascades: random ones against the naive interpreter, and those it once found."""

import random
import re

import numpy as np
import pytest
from plain_modules import plain_module
from random_forms import KINDS, draw_call, random_form

import einsum_cascade as ec
from einsum_cascade import compiled

INF, NAN = float("inf"), float("nan")


def same(found, expected):
    """Equal up to rounding; NaN is NaN."""
    for name, values in expected.items():
        largest = np.abs(values[np.isfinite(values)]).max(initial=1.0)
        atol = 1e-10 * min(largest, 1e3)
        np.testing.assert_allclose(found[name], values, rtol=1e-8, atol=atol, err_msg=name)


def agree(text, sizes=None, **given):
    """Compiled and interpreted cascades give the same; return that."""
    cascade = ec.parse(text)
    expected = ec.evaluate(cascade, sizes=sizes, **given)
    same(ec.compile(cascade)(sizes=sizes, **given), expected)
    return expected


# ---- random forms ----


def is_rounded(cascade, sizes, given, expected):
    """True if rounding of inputs alone changes the result as much: it says nothing then."""
    shaken = {n: x if n[0] in "IX" else x * (1 + 2.0**-40) for n, x in given.items()}
    try:
        same(ec.evaluate(cascade, sizes=sizes, **shaken), expected)
    except AssertionError:
        return True
    return False


def check_forms(seeds, unseen=()):
    """Compile a cascade of each seed once, and call it with arrays of each kind.

    `unseen` may be raised where there is nothing at all to compute with.
    """
    for seed in seeds:
        cascade = random_form(random.Random(seed))
        function = ec.compile(cascade)
        for i, kind in enumerate(KINDS):
            given, sizes = draw_call(cascade, np.random.default_rng([seed, i]), kind)
            try:
                expected = ec.evaluate(cascade, sizes=sizes, **given)
            except ec.CascadeError as error:
                with pytest.raises(ec.CascadeError, match=re.escape(str(error))):
                    function(sizes=sizes, **given)
                continue
            try:
                found = function(sizes=sizes, **given)
            except unseen:
                assert 0 in [*sizes.values(), *(x.size for x in given.values())]
                continue
            try:
                same(found, expected)
            except AssertionError as error:
                if not is_rounded(cascade, sizes, given, expected):
                    raise AssertionError(f"{error}\nseed {seed}, {kind}:\n{cascade}") from error


def test_random_forms():
    check_forms(range(4))


@pytest.mark.slow
def test_many_random_forms():
    check_forms(range(100, 250))


@pytest.mark.parametrize(
    "seeds", [range(1000, 1080), pytest.param(range(2000, 5000), marks=pytest.mark.slow)]
)
def test_random_forms_as_plain_python(seeds, monkeypatch):
    """What is generated, without numba: unset names and places outside of arrays raise, too."""
    monkeypatch.setattr(compiled, "module_from", plain_module)
    # Warnings of Python's arithmetic are told apart by thread.
    monkeypatch.setenv("NUMBA_NUM_THREADS", "1")
    with np.errstate(all="ignore"):
        check_forms(seeds, (IndexError, UnboundLocalError))


# ---- arrays ----


@pytest.mark.parametrize("order", ["m1,m0,e", "m0,e,m1", "e,m0,m1"])
@pytest.mark.parametrize("count", [6, 5])
def test_parts_of_a_split_rank_in_any_order(order, count):
    """An array over the whole rank has its axis where the first part is written."""
    axes = order.replace("m1", "m").replace("m0", "m").split(",")
    shape = [4 if v == "e" else count for v in dict.fromkeys(axes)]
    array = np.arange(4.0 * count).reshape(shape)
    text = f"rank M = M1*M0\ninput K[{order}]\nZ[m1,m0,e] = 2*K[{order}]"
    found = agree(text, {"M0": 3}, K=array)["Z"].reshape(6, 4)[:count]
    whole = array if axes[0] == "m" else array.T
    np.testing.assert_array_equal(found, 2 * whole)


def test_a_split_rank_and_the_whole_of_it():
    """A bias between tokens of which one is split; each pair of parts is an axis."""
    rng = np.random.default_rng(0)
    bias = rng.standard_normal((5, 5))
    for order in ("m1,m0,n", "n,m1,m0", "m1,n,m0"):
        text = f"rank M = M1*M0\nvar n in M\ninput B[{order}]\nZ[m1,m0] = B[{order}]*A[n]"
        found = agree(text, {"M0": 2}, B=bias, A=np.arange(5.0))["Z"].reshape(-1)[:5]
        whole = bias.T if order[0] == "n" else bias
        np.testing.assert_allclose(found, whole @ np.arange(5.0))
    text = "rank M = M1*M0\nvar i in M1\nvar j in M0\ninput B[m1,m0,i,j]\nZ[m1,m0] = B[m1,m0,i,j]"
    found = agree(text, {"M0": 2}, B=bias)["Z"].reshape(-1)[:5]
    np.testing.assert_allclose(found, bias.sum(1))


# ---- products ----


def test_a_product_of_nothing_and_infinity():
    """It is nothing in a reduction, too, and NaN stays."""
    rows = np.array([[0, INF, 2], [INF, -0.0, 2], [INF, 0, NAN], [INF, -2, 1]])
    found = agree("Z[m] = prod[e](A[m,e])", A=rows)["Z"]
    np.testing.assert_array_equal(found, [0, 0, NAN, -INF])


# ---- recurrences ----


def test_a_state_that_nothing_reads():
    """It is set in one place and goes on in another, output or not."""
    text = """
        input A[m,p]
        output Z
        S[0,p] = -inf
        S[m+1,p] = max(S[m,p], A[m-2,p])
        Z[m] = A[m,0] where m%2 != 1
    """
    agree(text, A=np.ones((4, 5)))


@pytest.mark.parametrize("tokens", [0, 3])
def test_a_recurrence_without_steps(tokens):
    """What is computed in its loop has no elements then."""
    text = "Y[m] = sum[p](S[m,p])\nS[0,p] = 1\nS[m+1,p] = S[m,p]/2 + Y[m] + A[m,p]\nZ[m] = 2*Y[m]"
    assert agree(text, A=np.ones((tokens, 5)))["Z"].shape == (tokens,)


# ---- what is empty ----


def test_everything_empty():
    """What is left is empty along m as well, though no row has anything: a maximum of nothing."""
    lines = ["X[m,p] = A[m,p] where p < 0", "B[m] = A[m,0] where m*m < 3"]
    made = [
        "2*X[m,p] where m < 3",
        "2*X[m,p] where m < 100 and m < 3",
        "2*X[m,p] where m < 100 and m > A[0,0] + 1",
        "X[m,p]*A[m+3,p]",
        "X[m,p]*B[m]",
    ]
    for i, right in enumerate(made):
        lines += [f"T{i}[m,p] = {right}", f"G{i}[p] = max[m](T{i}[m,p])"]
    for lanes in (4, 17):
        for values in agree("\n".join(lines), A=np.ones((5, lanes))).values():
            assert (values == -INF).all()


@pytest.mark.parametrize("features", [1, 3])
def test_one_operand_empty_in_all_steps_of_a_sum(features):
    """The other one decides which elements of the sum are empty."""
    text = """
        var n in M
        input A[m,e]
        C[m,w,e] = A[m,e] where w <= W//2
        B[e,m,w] = A[m,e] where e == 1
        S[n,w] = C[n+w,w,e]*B[e,n,w]
        G[w] = max[n](S[n,w])
    """
    found = agree(text, {"W": 5}, A=np.ones((5, features)))["G"]
    assert (found[3:] == -INF).all()
    assert np.isfinite(found[:3]).all()


def test_a_condition_that_reads_nothing_chooses_nothing():
    """Keys behind the end are empty along m, whatever their queries are: maxima are, too."""
    text = """
        rank M = M1*M0
        B[m1,m0,p] = where(A[m1,m0] > R[p], A[m1,m0], 2*R[p])
        Z[m1,m0] = max[p](B[m1,m0,p])
    """
    found = agree(text, {"M0": 5}, A=np.ones(3), R=[-1.0, 2, 0])["Z"]
    np.testing.assert_array_equal(found, [[4, 4, 4, 0, 0]])


@pytest.mark.parametrize("features", [0, 2])
def test_fetched_dots_of_no_terms(features):
    """They are 0 where a key lies outside, too: nothing was read there."""
    text = """
        input A[e,m], B[p,e]
        S[w,p] = B[p,e]*A[e,I[p]+w-1] where I[p] >= p
        N[w,p] = exp(S[w,p])
    """
    given = {"A": np.ones((features, 3)), "B": np.ones((3, features))}
    found = agree(text, {"W": 3}, I=[-1.0, 1, 3], **given)["N"]
    assert features or (found == 1).all()


# ---- selections ----


def test_a_selection_that_a_filter_tells_apart():
    """The largest values so far: only the filter knows of p, which is kept all the same."""
    text = "var n in M\nJ[p,k] = argtopk[n](S[n]) where n <= p\nZ[p] = sum[k](S[J[p,k]])"
    found = agree(text, {"K": 2, "P": 4}, S=[1.0, 5, 3, 7])["Z"]
    np.testing.assert_array_equal(found, [1, 6, 8, 12])


# ---- filters on what is read ----


def test_filters_read_inside_of_their_arrays():
    """Before and behind the ends of an array lies memory of others, if any."""
    rng = np.random.default_rng(0)
    given = {"A": rng.integers(-2, 3, 7), "B": rng.standard_normal(7)}
    lines = [
        "Z0[m] = 2*B[m] where A[m-1] > 0 and A[m+2] > 0",
        "Z1[m] = sum[p](B[m]*B[p]) where A[m-9] > 0 or A[p+9] > 0 or m > 2",
        "Z2[m,p] = B[m]*B[p] where A[p-1] > A[m]*B[p]",
        "C[m] = B[m] where m > 1",
        "Z3[m,p] = B[m]*B[p] where C[p+1] > A[m]*B[p]",
    ]
    agree("var p in M\ninput A[m], B[m]\n" + "\n".join(lines), **given)
    text = "rank M = M1*M0\ninput A[m1,m0]\nZ[m1] = sum[m0](A[m1,m0]) where A[m1,m0] > 0"
    agree(text, {"M0": 3}, A=given["A"])
    agree(text, {"M0": 3}, A=[])


# ---- tiles ----


@pytest.mark.parametrize("lanes", [1, 40])
def test_rows_of_a_split_rank_outside_of_its_sweep(lanes):
    """Each sum over all tiles finds how far the last one goes on its own."""
    text = """
        rank M = M1*M0
        R[p] = max[m1,m0](A[m1,m0,p])
        S[0,p] = 0
        S[m1+1,p] = S[m1,p]/2 + R[p]
        T[p] = max[m1,m0](A[m1,m0,p])
        Z[p] = sum[m1,m0](A[m1,m0,p]*S[M1,p])
    """
    (stage,) = ec.compile(ec.parse(text)).stages
    assert (stage.lane, stage.sweep) == ("P", "M1")
    rng = np.random.default_rng(0)
    agree(text, {"M0": 4}, A=rng.standard_normal((17, lanes)))


def test_tables_of_filters_find_their_indices():
    """What a filter reads is found where its table is written, before the loops find it again."""
    rng = np.random.default_rng(0)
    given = {"A": rng.integers(-2, 3, (3, 6)), "C": rng.standard_normal((2, 6))}
    text = """
        input A[w,p]
        var r in P
        S[p,r,w] = C[e,r]*A[w,p] where A[w-1,p] <= w and p >= e
        T[r,w,p] = C[e,r]*A[w,p] where A[I[p],r] <= w and A[w-1,p] > 0
        output S, T
    """
    agree(text, I=[2.0, 0, 1, -1, 2, 0], **given)


# ---- reductions ----


@pytest.mark.parametrize("op", ["sum", "max"])
def test_a_diagonal_is_no_row(op):
    """Memory does not run along with a variable that is an index twice."""
    given = {"A": np.random.default_rng(0).standard_normal((3, 5, 5))}
    agree(f"var n in M\ninput A[p,m,n]\nZ[p] = {op}[m](A[p,m,m])", **given)


def test_diagonals_in_tiles():
    """Rows of a table are found from both axes, and so is what a filter has left empty."""
    rng = np.random.default_rng(0)
    given = {"A": rng.standard_normal((33, 5, 5)), "B": rng.standard_normal((3, 5))}
    text = """
        var n in M
        input A[p,m,n]
        R[p] = max[m](A[p,m,m])
        D[m,n,p] = 2*A[p,m,n] where m <= n and m + n <= p
        S[p] = sum[m](D[m,m,p])
        Z[f,p] = B[f,m]*A[p,m,m]
        output R, S, Z
    """
    (stage,) = ec.compile(ec.parse(text)).stages
    assert stage.lane == "P"
    agree(text, **given)


@pytest.mark.parametrize("features", [0, 2])
def test_limits_of_a_reduction_without_points(features):
    """They exclude nothing, in tiles as anywhere else."""
    text = "R[n] = max[e](A[e,n]) where n <= 0\nS[0,n] = 1\nS[m+1,n] = S[m,n] + R[n]"
    found = agree(text, {"M": 3}, A=np.ones((features, 20)))["S"]
    assert found[3, 5] == (0 if features else -INF)


# ---- groups ----


@pytest.mark.parametrize("batch", [(), (2,)])
def test_chunks_of_a_part_are_not_chunks_of_the_whole(batch):
    """B is read along a part by one tensor, and as a whole by another."""
    text = "rank M = T + U\nB[m] = A[r]*1\nC[u,t] = 2*B[t]\nS = sum[m](B[m])"
    given = {"A": np.random.default_rng(0).standard_normal((*batch, 3))}
    agree(text, {"T": 4, "U": 6, "M": 10}, **given)
