"""Forms of Einsums in rows and tables, against NumPy and the naive interpreter."""

from dataclasses import replace

import numpy as np
import pytest
from numba import njit

import einsum_cascade as ec
from einsum_cascade import compiled_folds, compiled_packing
from einsum_cascade.compiled_plan import Stage, stages
from einsum_cascade.compiled_reductions import folded_of

INF, NAN = float("inf"), float("nan")


def in_rows(text, dtype="float64"):
    """A cascade compiled in rows, whatever is planned."""
    compiled = ec.compile(ec.parse(text), dtype)
    return replace(compiled, stages=(Stage(compiled.cascade, None),), modules={})


def check(text, given, dtype="float64", sizes=None, form=""):
    """A cascade in rows computes what the interpreter does, and its source shows a form."""
    compiled = in_rows(text, dtype)
    found = compiled(sizes=sizes, **given)
    with np.errstate(all="ignore"):
        expected = ec.evaluate(compiled.cascade, sizes=sizes, **given)
    for name, values in expected.items():
        bound = {"float32": 1e-4, "float64": 1e-11}[dtype]
        np.testing.assert_allclose(found[name], values, rtol=bound, atol=bound)
    assert form in compiled.source()


# ---- rows folded into one number ----


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [0, 1, 31, 32, 33, 100])
def test_folds(n, dtype):
    """Vectors side by side and what is left of them; NaN stays, infinities meet."""
    row = np.random.default_rng(n).standard_normal(n).astype(dtype)

    @njit
    def folds(row, first):
        return (
            compiled_folds.fold_sum(row, first),
            compiled_folds.fold_max(row, first),
            compiled_folds.fold_min(row, first),
        )

    first = row.dtype.type(0.5)
    whole = np.append(row, first)
    np.testing.assert_allclose(
        folds(row, first), [whole.sum(), whole.max(), whole.min()], rtol=1e-4, atol=1e-4
    )
    for at in {0, n // 2, n - 1} if n else ():
        row[at] = INF
        assert folds(row, first)[:2] == (INF, INF)
        row[at] = NAN
        assert np.isnan(folds(row, first)).all()
        row[at] = 0


@pytest.mark.parametrize("n", [0, 1, 70])
@pytest.mark.parametrize(
    "text",
    [
        "Z[e] = sum[m](A[e,m])",
        "Z[e] = max[m](A[e,m] - A[e,m]**2)",
        "Z = min[e,m](A[e,m])",
        "Z = sum[m](B[m])",
        "Z[e] = sum[m](A[e,m]/B[m])",
        "rank M = M1*M0\nZ[e,m1] = sum[m0](A[e,m1,m0])",
    ],
)
def test_sums_along_memory(text, n):
    """Empty rows give what adds nothing, and a ragged last tile counts as far as it goes."""
    rng = np.random.default_rng(n)
    given = {"A": rng.standard_normal((3, n)), "B": rng.standard_normal(n)}
    cascade = ec.parse(text)
    given = {name: given[name] for name in cascade.inputs}
    for tile in (5, 7) if cascade.splits else (None,):
        check(text, given, sizes=tile and {"M0": tile}, form="d.fold_")


def test_which_variable_is_folded():
    """Memory must run along with it wherever it is read, and a contraction is none."""

    def folded(text):
        cascade = ec.parse(text)
        return folded_of(cascade, cascade.einsums[0], ())

    assert folded("Z[e] = sum[m](A[e,m])") == "m"
    assert folded("Z[m] = sum[e](A[e,m])") is None
    assert folded("Z[e] = sum[m](A[e,m]*B[m,e])") is None
    assert folded("Z[e,f] = A[e,m]*B[f,m]") is None
    assert folded("Z[e] = sum[m](A[e,m]) where m < 2") is None


# ---- parts of maps that are computed less often ----


@pytest.mark.parametrize(
    "text",
    [
        "param gam = 0.9\nvar p in M\nZ[e,m,p] = A[e,m]*B[p]*gam**(p - m)",
        "param gam = 0.9\nvar p in M\nZ[e,p] = sum[m](A[e,m]*B[p]*gam**(p - m))",
        "Z[e,m] = A[e,m]*cos(m/M)*exp(e)*sin(e*m)",
        "param gam = 0.9\nvar p in M\nS[m,p] = B[m]*B[p] where m <= p\n"
        "T[m,p] = S[m,p]*gam**(p - m)\nZ[e,p] = A[e,m]*T[m,p]",
    ],
)
def test_parts_of_few_variables(text):
    """The table of a part is read where it belongs; what has all variables has no table."""
    rng = np.random.default_rng(0)
    given = {"A": rng.standard_normal((3, 7)), "B": rng.standard_normal(7)}
    cascade = ec.parse(text)
    check(text, {name: given[name] for name in cascade.inputs})


def test_tables_are_of_few_variables():
    """One table for both, one number for each row, nothing for what has all variables."""
    source = in_rows("param gam = 1\nZ[e,f,m] = A[e,f,m]*gam**(f - m)*exp(f)").source()
    assert source.count("power") == source.count(", lanes,), F)") == 1
    source = in_rows("param gam = 1\nZ[f,m] = A[f,m]*gam**(f - m)").source()
    assert ", lanes,), F)" not in source


# ---- sums of products that are scaled ----

SCALED = "Z[f,p] = sum[m](A[m,p]*V[f,m]/(M*D[p]))"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_scaled_products(dtype):
    """A contraction first, then the scale."""
    rng = np.random.default_rng(0)
    given = {"A": rng.random((9, 21)), "V": rng.random((5, 9)), "D": rng.random(21) + 1}
    check(SCALED, given, dtype, form="is_lost")


@pytest.mark.parametrize("scale", [0.0, -0.0, INF, -INF, NAN, 1e-320, 1e300])
@pytest.mark.parametrize("form", ["/D[p]", "*D[p]", "/(D[p]*D[p])"])
def test_scales_at_the_edges(scale, form):
    """Where a scale is zero or not finite, points are scaled one by one, as the language does."""
    rng = np.random.default_rng(0)
    a, v = rng.standard_normal((4, 5)), rng.standard_normal((3, 4))
    # A sum that cancels, one of zeros, and one that overflows.
    a[:, 1], v[0] = (1, -1, 2, -2), 1
    a[:, 2] = 0
    a[:, 3] = 1e308
    d = np.full(5, scale)
    d[4] = 2
    check(f"Z[f,p] = sum[m](A[m,p]*V[f,m]{form})", {"A": a, "V": v, "D": d}, form="is_lost")


# ---- copies ----


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1), (8, 8), (13, 70), (70, 13), (65, 129)])
def test_rows_for_lanes(shape, dtype):
    """Blocks and what is left of them, between parts of larger arrays."""
    x = np.random.default_rng(0).standard_normal((shape[0] + 1, shape[1] + 2)).astype(dtype)
    to = np.zeros((shape[1] + 3, shape[0] + 4), dtype)

    @njit
    def turn_over(to, x):
        compiled_packing.turn_over(to, x)

    turn_over(to[1:], x[1:, 1:-1])
    expected = np.zeros_like(to)
    expected[1:-2, : shape[0]] = x[1:, 1:-1].T
    np.testing.assert_array_equal(to, expected)


@pytest.mark.parametrize("lanes", [1, 15, 40, 100, 130])
@pytest.mark.parametrize("steps", [1, 16, 37])
def test_sweeps_that_memory_runs_along(lanes, steps):
    """Inputs are read many steps at once, and outputs are written so, in either direction."""
    rng = np.random.default_rng(0)
    given = {"V": rng.standard_normal((lanes, steps)), "K": rng.standard_normal((3, steps))}
    for first, last, next_ in (("0", "m", "m+1"), ("M", "m+1", "m")):
        compiled = ec.compile(
            ec.parse(
                f"S[{first},e,f] = 0\nS[{next_},e,f] = S[{last},e,f]/2 + K[e,m]*V[f,m]\n"
                f"AV[f,m] = K[e,m]*S[{next_},e,f]"
            )
        )
        assert compiled.source().count("h.turn_over") == 2
        expected = ec.evaluate(compiled.cascade, **given)["AV"]
        np.testing.assert_allclose(compiled(**given)["AV"], expected, atol=1e-12)


@pytest.mark.parametrize("order", ["m,p", "p,m", "n,m,p", "m,n,p", "p,n,m"])
@pytest.mark.parametrize("lanes", [1, 17, 130])
def test_inputs_that_a_sweep_does_not_read_alone(lanes, order):
    """What is summed before or behind the sweep sees all steps of an input, not the present one."""
    sizes = {"m": 7, "n": 3, "p": lanes}
    rng = np.random.default_rng(0)
    given = {"A": rng.standard_normal([sizes[v] for v in order.split(",")])}
    kept = ",n" if "n" in order else ""
    for first, last, next_, end in (("0", "m", "m+1", "M"), ("M", "m+1", "m", "0")):
        compiled = ec.compile(
            ec.parse(
                f"R[p] = sum[m{kept}](A[{order}]) where m <= p\n"
                f"S[{first}{kept},p] = 0\n"
                f"S[{next_}{kept},p] = S[{last}{kept},p]/2 + A[{order}] - R[p]\n"
                f"Z[p] = sum[m{kept}](A[{order}]*S[{end}{kept},p])"
            )
        )
        assert [(stage.lane, stage.sweep) for stage in compiled.stages] == [("P", "M")]
        expected, found = ec.evaluate(compiled.cascade, **given), compiled(**given)
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, rtol=1e-11, atol=1e-11)


def test_a_recurrence_without_lanes_on_what_may_be_empty():
    """Its Einsums are written for tensors with empty elements and for complete ones."""
    text = """
        rank M = M1*M0
        R[m1] = max[m0](A[m1,m0])
        S[0] = 0
        S[m1+1] = S[m1]*exp(R[m1])
        T[0] = 0
        T[m1+1] = T[m1]*exp(S[m1] - S[m1+1]) + exp(R[m1] - S[m1+1])
    """
    cascade = ec.parse(text)
    for count, part in ((6, 4), (8, 4), (1, 1), (7, 2)):
        given = {"A": np.random.default_rng(count).standard_normal(count)}
        expected = ec.evaluate(cascade, sizes={"M0": part}, **given)
        found = ec.compile(cascade)(sizes={"M0": part}, **given)
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, rtol=1e-12)


def test_what_was_not_selected_is_empty_in_later_stages():
    """Five of three tokens: two elements are empty, which tiles would know nothing of."""
    cascade = ec.parse("""
        I[k] = argtopk[m](R[m])
        G[k] = 2*R[I[k]]
        S[M,e] = 0
        S[m,e] = S[m+1,e]/2 + B[m,e]
        Z[m,e,k] = A[m,e]/(2 + G[k])
    """)
    rng = np.random.default_rng(0)
    given = {name: rng.standard_normal((3, 4)) for name in "AB"} | {"R": rng.standard_normal(3)}
    for lanes in (5, 2):
        expected = ec.evaluate(cascade, sizes={"K": lanes}, **given)
        found = ec.compile(cascade)(sizes={"K": lanes}, **given)
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, rtol=1e-12)
    assert (expected["Z"] != 0).all()


def test_few_lanes_are_no_tiles():
    """Heads are lanes of all Einsums, but four of them fill no vector."""
    cascade = ec.load("mla-latent")
    assert [stage.lane for stage in stages(cascade)] == ["H"]
    sizes = {"P": 7, "M": 9, "E": 4, "F": 5, "R": 6, "D": 2}
    rng = np.random.default_rng(0)
    for heads, width in ((4, 0), (16, 16)):
        given = {
            name: rng.standard_normal([sizes.get(rank, heads) for rank in tensor.ranks])
            for name, tensor in ((name, cascade.tensor(name)) for name in cascade.inputs)
        }
        compiled = ec.compile(cascade)
        found, expected = compiled(**given)["AV"], ec.evaluate(cascade, **given)["AV"]
        np.testing.assert_allclose(found, expected, rtol=1e-10)
        assert list(compiled.modules) == [(width, ())]


def test_calls_of_other_sizes():
    """What a call has found out is for its shapes and sizes only; a wrong size is still refused."""
    compiled = ec.compile(ec.parse("rank M = M1*M0\nZ[m1] = sum[m0](A[m1,m0])"))
    for n, tile in ((12, 3), (12, 4), (8, 4), (12, 3)):
        a = np.arange(float(n))
        expected = a.reshape(-1, tile).sum(1)
        for _ in range(2):
            np.testing.assert_array_equal(compiled(A=a, sizes={"M0": tile})["Z"], expected)
    for _ in range(2):
        with pytest.raises(ec.CascadeError, match="do not cover M=12"):
            compiled(A=np.ones(12), sizes={"M0": 3, "M1": 2})
