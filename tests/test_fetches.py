"""Products with rows that are fetched one by one: the kernels, and cascades that call them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

import einsum_cascade as ec
from einsum_cascade import compiled_fetches
from einsum_cascade.array_shapes import array_ranks

INF, NAN = float("inf"), float("nan")


@njit
def dots(a, al, ax, b, bx, at, pitch, c, to, lanes, n):
    compiled_fetches.dots(a, 0, al, ax, b, 0, bx, at, pitch, c, 0, to, len(to), lanes, n)


@njit
def mixes(a, al, begin, b, bx, at, pitch, c, cx, lanes, n):
    compiled_fetches.mixes(a, 0, al, begin, b, 0, bx, at, pitch, c, 0, cx, len(begin), lanes, n)


def product(x, y):
    """The language's product, in which nothing times infinity is nothing."""
    is_nothing = (x == 0 and np.isinf(y)) or (y == 0 and np.isinf(x))
    return 0.0 if is_nothing else float(x) * float(y)


@st.composite
def fetches(draw):
    """Sizes, places with holes, whether rows are next to each other, and a seed."""
    keys, lanes = draw(st.sampled_from([(1, 1), (3, 70), (9, 7), (300, 5), (8, 64)]))
    n, rows = draw(st.sampled_from([0, 1, 5, 8, 64, 67])), draw(st.sampled_from([1, 11, 500, 9000]))
    return keys, lanes, n, rows, draw(st.booleans()), draw(st.integers(0, 9))


@settings(max_examples=60, deadline=None)
@given(fetches(), st.sampled_from(["float32", "float64"]), st.sampled_from([0.0, INF, NAN]))
def test_fetched_products_are_those_of_the_language(case, dtype, odd):
    keys, lanes, n, rows, is_row, seed = case
    compiled_fetches.install(dtype)
    rng = np.random.default_rng(seed)
    table = rng.standard_normal((rows, n)).astype(dtype)
    table[rng.random(table.shape) < 0.02] = odd
    at = rng.integers(0, rows, (keys, lanes + 8))
    if seed % 2:
        at[rng.random(at.shape) < 0.3] = -1
    if seed == 9:
        at[:] = -1
    b, bx, step = (table, 1, n) if is_row else (table.T, rows, 1)
    flat = np.ascontiguousarray(b).reshape(-1)
    places = np.where(at < 0, -1, at * step).reshape(-1)
    inside = at[:, :lanes] >= 0
    query = rng.standard_normal((n, lanes)).astype(dtype)
    weight = rng.standard_normal((keys, lanes)).astype(dtype)
    for values in (query, weight):
        values[rng.random(values.shape) < 0.1] = 0
    begin = np.arange(keys) * lanes
    found = np.empty((keys, lanes), dtype)
    dots(
        query.reshape(-1), 1, lanes, flat, bx, places, lanes + 8, found.reshape(-1), begin, lanes, n
    )
    mixed = np.empty((n, lanes), dtype)
    mixes(
        weight.reshape(-1),
        1,
        begin,
        flat,
        bx,
        places,
        lanes + 8,
        mixed.reshape(-1),
        lanes,
        lanes,
        n,
    )
    scale = 1e-5 if dtype == "float32" else 1e-13
    with np.errstate(all="ignore"):
        for key, lane in zip(*np.nonzero(inside), strict=True):
            row = table[at[key, lane]]
            expected = sum((product(q, r) for q, r in zip(query[:, lane], row, strict=True)), 0.0)
            np.testing.assert_allclose(found[key, lane], expected, rtol=0, atol=scale * (n + 1))
        for lane in range(lanes):
            own = [key for key in range(keys) if inside[key, lane]]
            total = np.zeros(n)
            for key in own:
                total += [product(weight[key, lane], r) for r in table[at[key, lane]]]
            np.testing.assert_allclose(mixed[:, lane], total, rtol=0, atol=scale * (keys + 1))


GATHERED = {
    "na-1d": {"M": 37, "E": 5, "F": 7, "W": 7},
    "na-2d": {"Y": 9, "X": 11, "E": 5, "F": 8, "U": 3, "W": 5},
    "sliding-window": {"M": 61, "E": 16, "F": 64, "W": 9},
    "gna-1d-gather": {"M": 41, "E": 5, "F": 7, "W": 5, "S": 3, "D": 2},
    "quest-page": {"M": 53, "P": 13, "E": 5, "F": 7, "M0": 4, "K": 3},
}


def arrays(cascade, sizes, batch):
    rng = np.random.default_rng(3)
    shapes = {n: array_ranks(cascade, cascade.tensor(n), False) for n in cascade.inputs}
    return {
        n: rng.standard_normal((*batch, *(sizes[r] for r in ranks))) for n, ranks in shapes.items()
    }


@pytest.mark.parametrize("name", GATHERED)
@pytest.mark.parametrize("odd", [None, INF, NAN])
def test_gathered_cascades_agree_with_the_interpreter(name, odd):
    cascade = ec.load(name)
    sizes = {"P": GATHERED[name].get("M", 0)} | GATHERED[name]
    given = arrays(cascade, sizes, (2,))
    if odd is not None:
        for tensor in ("K", "V"):
            given[tensor].reshape(-1)[::17] = odd
    shown = {r: s for r, s in sizes.items() if r in cascade.ranks}
    with np.errstate(all="ignore"):
        expected = ec.evaluate(cascade, sizes=shown, **given)
        found = ec.compile(cascade)(sizes=shown, **given)
    for output, values in expected.items():
        np.testing.assert_allclose(found[output], values, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", GATHERED)
def test_windows_and_gathers_are_fetched_row_by_row(name):
    text = ec.compile(ec.load(name)).source()
    assert "f.dots(" in text
    assert "f.mixes(" in text


def test_a_region_that_all_its_queries_share_is_a_contraction():
    """Where the lanes of a product do not decide what is fetched, it is multiplied as a whole."""
    text = ec.compile(ec.load("bra-biformer")).source()
    logits = text[text.index("_QK(") : text.index("_GM(")]
    assert "m.multiply(" in logits
    assert "f.dots(" not in logits


CASES = {
    # A window over the other axis, and a key that is empty for every lane.
    "shifted": "Y[w,p] = sum[e](A[e,p]*B[e,p+w-W])",
    # The fetched operand first, and its rows next to each other in memory.
    "rows": "Y[w,p] = sum[e](B[p+w,e]*A[e,p])",
    # A kept variable that both have, around the keys.
    "outer": "Y[h,w,p] = sum[e](A[h,e,p]*B[h,e,p+w])",
    # Two keys, one of them reduced with a filter.
    "mixed": "Y[f,p] = sum[w](A[w,p]*B[f,p+w-1]) where w != 1",
    # An index that is fetched itself.
    "fetched": "Y[f,p] = sum[w](A[w,p]*B[f,I[w,p]])",
    # All but one row outside.
    "outside": "Y[f,p] = sum[w](A[w,p]*B[f,p-w-20])",
}


@pytest.mark.parametrize("name", CASES)
def test_forms_of_gathered_products(name):
    cascade = ec.parse(CASES[name])
    sizes = {"E": 5, "F": 9, "P": 21, "W": 4, "H": 3, "M": 12, "N": 30}
    rng, given = np.random.default_rng(0), {}
    for tensor in cascade.inputs:
        ranks = cascade.tensor(tensor).ranks
        if tensor == "I":
            given[tensor] = rng.integers(-2, 22, (sizes["W"], sizes["P"])).astype(float)
        else:
            given[tensor] = rng.standard_normal([sizes.get(rank or "P", 21) for rank in ranks])
    shown = {rank: sizes[rank] for rank in cascade.ranks if rank in ("W",)}
    expected = ec.evaluate(cascade, sizes=shown, **given)["Y"]
    compiled = ec.compile(cascade)
    np.testing.assert_allclose(compiled(sizes=shown, **given)["Y"], expected, atol=1e-13)
    assert "f.dots(" in compiled.source() or "f.mixes(" in compiled.source()
