"""Compiled cascades against the naive interpreter: shipped ones at awkward sizes, random ones."""

import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numba import njit
from random_cascades import STEPS, cascades

import archsim
import einsum_cascade as ec
from archsim.elements import random_inputs
from archsim.lowering import lower
from archsim.values import compute
from einsum_cascade import (
    compiled_cache,
    compiled_kernels,
    compiled_multiply,
    compiled_products,
    compiled_run,
)
from einsum_cascade.array_shapes import array_ranks
from einsum_cascade.compiled_empty import empty_causes
from einsum_cascade.compiled_groups import groups
from einsum_cascade.compiled_plan import stages
from einsum_cascade.operator_values import VALUES
from einsum_cascade.operators import OPERATORS
from einsum_cascade.ordering import Loop

INF, NAN = float("inf"), float("nan")
SIZES = {"M": 37, "P": 23, "E": 5, "F": 7, "K": 11, "N": 6, "D": 9, "S": 13}
# Largest difference, relative to the largest value.
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}
# One of each form; all others are compared by `archsim verify`, in the slow suite.
SHIPPED = [
    "causal-1pass",
    "causal-gqa-1pass",
    "linear-attention",
    "projection",
    "relu-attention",
    "sigmoid-attention",
    "softmax-1pass",
    "softmax-2pass",
    "softmax-3pass",
    "softmax-3pass-deferred",
    "softmax-naive",
    "softmax-naive-deferred",
    "softmax-split-k",
    "toy-deferred",
    "toy-iterative",
    "toy-two-pass",
    "window-1pass",
    "window-gqa-1pass",
]
ATTENTION = [name for name in SHIPPED if "Q" in ec.load(name).inputs]


def arrays(cascade, sizes, batch=(), seed=0):
    rng = np.random.default_rng(seed)
    shapes = {n: array_ranks(cascade, cascade.tensor(n), False) for n in cascade.inputs}
    return {n: rng.standard_normal((*batch, *(sizes[r] for r in s))) for n, s in shapes.items()}


def open_sizes(cascade, **sizes):
    found = {"G": 1, "W": 9, "M0": 8, **sizes}
    return {rank: size for rank, size in found.items() if rank in cascade.ranks}


def check(cascade, given, sizes, dtype="float64"):
    expected = ec.evaluate(cascade, sizes=sizes, **given)
    found = ec.compile(cascade, dtype=dtype)(sizes=sizes, **given)
    assert list(found) == list(expected)
    for name, values in expected.items():
        assert found[name].dtype == dtype
        assert found[name].shape == values.shape
        largest = np.abs(values[np.isfinite(values)]).max(initial=1.0)
        np.testing.assert_allclose(found[name], values, rtol=0, atol=TOLERANCE[dtype] * largest)


def test_generated_modules_are_named_by_everything_they_import():
    """Else a new version would run what an old one left on disk."""
    home = Path(ec.__file__).parent
    generated = ec.compile(ec.parse("Z = A[k]*B[k]")).source()
    waiting = set(re.findall(r"from einsum_cascade import (\w+) as", generated))
    found = set()
    while waiting:
        found.add(name := waiting.pop())
        text = (home / f"{name}.py").read_text()
        waiting |= (
            set(re.findall(r"^from einsum_cascade\.(\w+) import", text, re.MULTILINE)) - found
        )
    assert found == set(compiled_cache.RUNTIME)


# ---- shipped cascades ----


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_cascades(name):
    """Primes, ragged tiles, one of everything, many tiles of lanes, M0 beyond M, P beyond M."""
    cascade = ec.load(name)
    for sizes, tile in [
        ({}, 8),
        (dict.fromkeys(SIZES, 1), 1),
        ({"M": 3}, 5),
        ({"P": 1, "S": 1}, 37),
        ({"P": 150, "M": 41, "S": 131}, 1),
        ({"P": 130, "M": 257, "K": 300, "N": 19}, 64),
    ]:
        check(cascade, arrays(cascade, SIZES | sizes, (2,)), open_sizes(cascade, M0=tile))


@pytest.mark.parametrize("name", ["softmax-1pass", "causal-1pass", "softmax-3pass", "toy-two-pass"])
def test_float32(name):
    cascade = ec.load(name)
    check(cascade, arrays(cascade, SIZES, (2, 3)), open_sizes(cascade), "float32")


@pytest.mark.parametrize("name", ATTENTION)
def test_attention_with_nothing_to_see(name):
    """No keys at all, keys that are all -inf, one that is NaN, and heads that share keys."""
    cascade = ec.load(name)
    sizes = open_sizes(cascade)
    check(cascade, arrays(cascade, SIZES | {"M": 0}), sizes)
    check(cascade, arrays(cascade, SIZES | {"P": 0}), sizes)
    given = arrays(cascade, SIZES | {"E": 1}, (2,))
    given["Q"] = np.abs(given["Q"])
    given["K"][0, 0, :] = -INF
    given["K"][1, 0, :9] = -INF
    check(cascade, given, sizes)
    given["V"][1, 0, 5] = NAN
    given["V"][1, 1, 3] = INF
    check(cascade, given, sizes)
    given = arrays(cascade, SIZES, (1, 4))
    given |= {n: x[:, ::2] for n, x in arrays(cascade, SIZES, (1, 4), 1).items() if n in "KV"}
    check(cascade, given, sizes)


def test_arrays_in_other_forms():
    """Transposed, negative strides, integers, lists; K split, V whole."""
    cascade = ec.load("softmax-1pass")
    rng = np.random.default_rng(0)
    given = {
        "Q": rng.standard_normal((11, 5)).T,
        "K": rng.integers(-3, 3, (5, 4, 3))[:, ::-1],
        "V": rng.standard_normal((2, 12)).tolist(),
    }
    check(cascade, given, {})


def test_errors_are_those_of_the_interpreter():
    f = ec.compile(ec.load("softmax-1pass"))
    x = np.ones((2, 2))
    with pytest.raises(ec.CascadeError, match="softmax-1pass needs V"):
        f(Q=x, K=x)
    with pytest.raises(ec.CascadeError, match="rank M is 2 in K and 3 in V"):
        f(Q=x, K=x, V=np.ones((2, 3)))
    with pytest.raises(ec.CascadeError, match="unknown dtype 'float16'; dtypes: float32, float64"):
        ec.compile(ec.load("softmax-1pass"), dtype="float16")


# ---- random cascades ----


def draw_arrays(cascade, rng):
    sizes = {"T": STEPS} if "T" in cascade.ranks and not cascade.concatenations else {}

    def size(rank):
        return sizes.setdefault(rank, int(rng.integers(1, 8)))

    for whole, parts in cascade.concatenations:
        sizes[whole] = sum(size(part) for part in parts)
    given, shown = {}, set()
    for name in cascade.inputs:
        ranks = array_ranks(cascade, cascade.tensor(name), False)
        shown |= set(ranks)
        shape = [size(r) if r else int(rng.integers(1, 8)) for r in ranks]
        given[name] = np.round(rng.standard_normal(shape), 2)
        if ranks == ["K"]:
            given[name] = rng.integers(-1, size("M") + 1, size=shape).astype(float)
    left = {r: size(r) for r in ("W", "K", "P", "E", "T") if r in cascade.ranks and r not in shown}
    if cascade.splits:
        left["M0"] = int(rng.integers(1, 6))
    return given, left


def run(examples):
    seen = {True: 0, False: 0}

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(cascades(), st.integers(0, 1 << 20))
    def check_one(cascade, seed):
        given, sizes = draw_arrays(cascade, np.random.default_rng(seed))
        try:
            expected = ec.evaluate(cascade, sizes=sizes, **given)
        except ec.CascadeError:
            with pytest.raises(ec.CascadeError):
                ec.compile(cascade)(sizes=sizes, **given)
            return
        found = ec.compile(cascade)(sizes=sizes, **given)
        for name, values in expected.items():
            np.testing.assert_allclose(
                found[name], values, rtol=1e-8, atol=1e-10, err_msg=f"{name} of\n{cascade}"
            )
        seen[any(stage.lane for stage in stages(cascade))] += 1

    check_one()
    assert min(seen.values()) >= examples // 10, seen


def test_random_cascades():
    run(8)


@pytest.mark.slow
def test_many_random_cascades():
    run(300)


# ---- scalar operators and kernels ----


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_are_those_of_the_table(name):
    """On all pairs of special values, NaN and infinities among them."""
    row = OPERATORS[name]
    values = np.array([0.0, -0.0, 1, -1, 2.5, -2.5, INF, -INF, NAN, 3, 7, -7, 0.3])
    grid = [x.ravel() for x in np.meshgrid(*[values] * row.arity)]
    function = getattr(compiled_kernels, compiled_kernels.FUNCTIONS[name])
    if row.arity == 1:
        run = njit(error_model="numpy")(lambda a: function(a))
    elif row.arity == 2:
        run = njit(error_model="numpy")(lambda a, b: function(a, b))
    else:
        run = njit(error_model="numpy")(lambda a, b, c: function(a, b, c))
    found = [run(*(float(x) for x in point)) for point in zip(*grid, strict=True)]
    np.testing.assert_allclose(found, VALUES[name](*grid), rtol=1e-15)


@pytest.mark.parametrize(("dtype", "bits"), [("float32", 1.01), ("float64", 1.0)])
def test_exp_is_right_to_one_unit_in_the_last_place(dtype, bits):
    """A million points of the range in which results are normal numbers, and what is special."""

    @njit(error_model="numpy")
    def run(x):
        out = np.empty_like(x)
        for i in range(len(x)):
            out[i] = compiled_kernels.exp(x[i])
        return out

    info = np.finfo(dtype)
    low, high = np.log(float(info.tiny)), np.log(float(info.max))
    x = np.linspace(low, high, 1_000_001).astype(dtype)[1:-1]
    exact = np.exp(x.astype(np.longdouble))
    error = np.abs(run(x) - exact) / np.spacing(exact.astype(dtype))
    assert error.max() < bits
    special = np.array([0, -0.0, -INF, INF, NAN, 1000, -1000, low - 1, high + 1], dtype)
    np.testing.assert_equal(run(special), np.array([1, 1, 0, INF, NAN, INF, 0, 0, INF], dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", [1, 4, 5, 13])
def test_contractions(dtype, rows):
    """Against NumPy; packed where rows are a page apart; 0 * inf is 0 and -0.0 is nothing."""
    rng = np.random.default_rng(rows)

    @njit
    def contract(*arguments):
        compiled_products.contract(*arguments)

    for pitch in (rows, 4096):
        a = rng.standard_normal((7, pitch)).astype(dtype)
        b = rng.standard_normal((7, 32)).astype(dtype)
        c = np.ones((rows, 32), dtype)
        size = (rows, 7, 32)
        contract(a.ravel(), 0, 1, pitch, b.ravel(), 0, 32, c.reshape(-1), 0, 32, *size, True)
        np.testing.assert_allclose(c, 1 + a[:, :rows].T @ b, rtol=1e-5, atol=1e-5)
        a[3, 0], b[3, 5], b[4, 6], a[4, 0] = INF, 0.0, -0.0, NAN
        contract(a.ravel(), 0, 1, pitch, b.ravel(), 0, 32, c.reshape(-1), 0, 32, *size, False)
        part = [0, 1, 2, 5, 6]
        assert np.isnan(c[0, 5])
        assert c[0, 6] in (INF, -INF)
        a[4, 0] = 0
        contract(a.ravel(), 0, 1, pitch, b.ravel(), 0, 32, c.reshape(-1), 0, 32, *size, False)
        np.testing.assert_allclose(c[0, 5], a[part, 0] @ b[part, 5], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("n", "width"), [(0, 5), (7, 1), (300, 37), (3, 300)])
def test_products_of_any_size(n, width, dtype):
    """Several chunks and panels, operands in either order, last blocks, and a sum that goes on."""
    compiled_multiply.install(dtype)
    rng = np.random.default_rng(n)

    @njit
    def multiply(*arguments):
        compiled_multiply.multiply(*arguments)

    for rows in (1, 11, 101):
        a = rng.standard_normal((n, rows)).astype(dtype)
        b = rng.standard_normal((n, width)).astype(dtype)
        c = np.ones((rows, width), dtype)
        for flat_a, ai, ak in ((a, 1, rows), (a.T.copy(), n, 1)):
            for flat_b, bk, bl in ((b, width, 1), (b.T.copy(), 1, n)):
                for adds in (True, False):
                    start = c.copy() * adds
                    multiply(flat_a.reshape(-1), 0, ai, ak, flat_b.reshape(-1), 0, bk, bl,
                             c.reshape(-1), 0, width, rows, n, width, adds)  # fmt: skip
                    np.testing.assert_allclose(c, start + a.T @ b, rtol=1e-4, atol=1e-4)


def test_products_of_any_size_are_those_of_the_language():
    """0 * inf is 0, and -0.0 on the right is nothing."""
    compiled_multiply.install("float64")

    @njit
    def multiply(*arguments):
        compiled_multiply.multiply(*arguments)

    a, b, c = np.ones(3 * 2), np.ones(3 * 5), np.zeros(2 * 5)
    a[0], b[0], a[2], b[6] = INF, 0.0, NAN, -0.0
    multiply(a, 0, 1, 2, b, 0, 5, 1, c, 0, 5, 2, 3, 5, False)
    np.testing.assert_equal(c, [NAN, INF, NAN, NAN, NAN, 2, 2, 3, 3, 3])


# ---- point loops, row by row ----


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (7, 1), (0, 3), (3, 0)])
@pytest.mark.parametrize(
    "text",
    [
        # Shifted keys that are missing at the ends, and what is computed from those.
        "var m, p in M\n"
        "input K[e,m], V[e,m]\n"
        "S[w,p] = Q[e,p]*K[e,p+w-1]\n"
        "Z[e,p] = S[w,p]*V[e,p+w-1]",
        # Filters on kept and on reduced variables, linear and not.
        "var p in M\n"
        "S[m,p] = Q[e,p]*K[e,m] where m <= p and (m > p - 2 or m < 1)\n"
        "Z[e,p] = S[m,p]*V[e,m]",
        "var p in M\n"
        "Z[e,p] = sum[m](Q[e,p]*K[e,m]*V[e,m]) where m*m < p",
        # A selection, and two operands that may be empty.
        "I[w,m] = argtopk[e](Q[e,m])\n"
        "Z[w,m] = exp(K[I[w,m],m])*V[I[w,m],m]",
        "var p in M\n"
        "A[e,m] = K[e,m] where e <= m\n"
        "B[e,p] = V[e,p]*Q[e,p] where e >= p\n"
        "Z[m,p] = A[e,m]*B[e,p]",
    ],
)  # fmt: skip
def test_rows(text, shape):
    """Empty elements and empty ranks are those of the interpreter."""
    cascade = ec.parse(text)
    rng = np.random.default_rng(0)
    given = {name: rng.standard_normal(shape) for name in cascade.inputs}
    check(cascade, given, {"W": 3} if "W" in cascade.ranks else {})


def test_a_sweep_does_not_read_what_it_ends_with():
    """B needs the last state, which no step of the sweep knows."""
    cascade = ec.parse(
        "input A[m,e], C[m]\nS[0,e] = 0\nS[m+1,e] = max(S[m,e], A[m,e])\nB[m,e] = C[m]*S[M,e]"
    )
    check(cascade, arrays(cascade, SIZES), {})


# ---- groups and chunks ----


def grouped(name):
    (stage,) = stages(ec.load(name))
    found = groups(stage.cascade, empty_causes(stage.cascade))
    return [
        ("".join(rank for rank, _ in group.chunks), [step.name for step in group.steps])
        for group in found
        if not any(isinstance(step, Loop) for step in group.steps)
    ]


def test_groups_share_what_they_keep():
    """Agents come first, then queries; values of text and image before queries that read them."""
    first, second = grouped("agent")
    assert first == ("A", ["SQ", "AS", "AG", "S1", "G1", "N1", "D1", "A1", "VA"])
    assert second == ("AP0", ["S2", "G2", "N2", "D2", "A2", "AV"])
    first, second = grouped("clear-disk")
    assert first == ("F", ["VN", "VN"])
    assert second == ("M", ["SQ", "QK", "QK", "GM", "SN", "SD", "A", "AV"])
    assert [ranks for ranks, _ in grouped("lightning2-chunked")] == ["M1E", "EF", "M1M0"]
    assert [ranks for ranks, _ in grouped("hetero-window")] == ["HP"]


@pytest.mark.parametrize("batch", [(), (2,), (3,)])
@pytest.mark.parametrize("name", ["na-1d", "block-diagonal"])
def test_small_chunks(name, batch, monkeypatch):
    """Several chunks of one batch element in threads, and batch elements in threads."""
    monkeypatch.setattr(compiled_run, "LANES", 4)
    monkeypatch.setattr(compiled_run, "BYTES", 0)
    monkeypatch.setenv("NUMBA_NUM_THREADS", "2")
    cascade = ec.load(name)
    check(cascade, arrays(cascade, SIZES, batch), open_sizes(cascade))


def test_chunks_agree_on_what_varies(monkeypatch):
    """Late chunks have empty elements along p only, but S varies along m, too: there G is -inf."""
    monkeypatch.setattr(compiled_run, "LANES", 4)
    monkeypatch.setattr(compiled_run, "BYTES", 0)
    cascade = ec.parse("S[m,p] = Q[e,p]*K[e,m] where m < p + 3 and p != 19\nG[p] = max[m](S[m,p])")
    given = arrays(cascade, SIZES | {"M": 9})
    check(cascade, given, {})
    assert ec.compile(cascade)(**given)["G"][19] == -INF


# ---- hardware numbers ----


@pytest.mark.parametrize("format", ["bf16", "fp32"])
@pytest.mark.parametrize("name", ["softmax-1pass", "causal-1pass", "linear-attention"])
def test_hardware_numbers_are_those_of_the_interpreter(name, format):
    """Bit for bit, with masked keys and an outlier."""
    cascade = ec.load(name)
    given = arrays(cascade, SIZES | {"E": 3}, (2,))
    given["K"][0, 0, :9] = -INF if "1pass" in name else -8
    given["K"][1, 0, 11] = 1e4 if "1pass" in name else 8
    sizes = open_sizes(cascade)
    expected = ec.evaluate(cascade, sizes=sizes, format=format, **given)["AV"]
    found = ec.compile(cascade, format=format)(sizes=sizes, **given)["AV"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)
    exact = ec.evaluate(cascade, sizes=sizes, **given)["AV"]
    assert not np.array_equal(found, exact)


def test_hardware_numbers_are_those_of_the_machine():
    """The bits of a Program lowered for 4 x 4 PEs, whose tiles have as many keys as rows."""
    chip, mapping = archsim.load_architecture("fusemax-4x4"), archsim.load_mapping("fusemax")
    cascade = ec.load("softmax-1pass")
    program = lower(cascade, ec.workload(M=23, P=11, E=6, F=5, H=2), chip, mapping)
    inputs = random_inputs(program)
    expected = compute(program, inputs)["AV"]
    for run in (ec.compile(cascade, format="bf16"), partial(ec.evaluate, cascade, format="bf16")):
        assert np.array_equal(run(sizes={"M0": 4}, **inputs)["AV"], expected)


def test_hardware_numbers_of_anything():
    """Without a place for log2(e) at load, each exponent is multiplied by it."""
    cascade = ec.parse("Z[p] = sum[k](exp(A[p] + B[k])*tanh(A[p]))")
    given = {"A": [0.5, -1, 3], "B": [1, 0.25]}
    for exp in ("poly3", "chord8", "fixed", "reference"):
        expected = ec.evaluate(cascade, format="bf16", exp=exp, **given)["Z"]
        np.testing.assert_array_equal(
            ec.compile(cascade, format="bf16", exp=exp)(**given)["Z"], expected
        )
    with pytest.raises(ec.CascadeError, match="unknown format 'fp8'; formats: bf16, fp32"):
        ec.compile(cascade, format="fp8")
    with pytest.raises(ec.CascadeError, match="unknown exp unit 'poly9'"):
        ec.compile(cascade, format="bf16", exp="poly9")
    with pytest.raises(ec.CascadeError, match="hardware numbers are float32, not float64"):
        ec.compile(cascade, "float64", format="bf16")


# ---- memory and cache ----


def test_one_pass_needs_no_matrix_of_scores():
    """16K tokens would need 1 GiB for their scores; the process stays below a third of it."""
    code = """
import resource, numpy as np, einsum_cascade as ec
x = np.ones((1, 16384), np.float32)
ec.compile(ec.load("softmax-1pass"), "float32")(Q=x[:, :256], K=x[:, :64], V=x[:, :64])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
out = ec.compile(ec.load("softmax-1pass"), "float32")(Q=x, K=x, V=x)["AV"]
assert np.allclose(out, 1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 64 * 1024


def test_kernels_are_found_on_disk_by_other_processes(tmp_path):
    code = """
import numba, einsum_cascade as ec
f = ec.compile(ec.parse("Z[p] = A[p]*B[k]"))
f(A=list(range(16)), B=[3])
from einsum_cascade.compiled_cache import module_from
print(sum(module_from(f.source(16), f.cascade.name).stage0.stats.cache_hits.values()))
"""
    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    hits = [
        int(subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True,
                           check=True).stdout)
        for _ in range(2)
    ]  # fmt: skip
    assert hits == [0, 1]
    (module,) = (tmp_path / "einsum-archsim").glob("*.py")
    assert "Z[p] = A[p]*B[k]" in module.read_text()
