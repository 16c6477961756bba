"""Axes in other orders, whatever they are; and contractions along memory that follow from them."""

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numba import njit
from random_cascades import cascades
from test_compiled import draw_arrays

import einsum_cascade as ec
from einsum_cascade import compiled, compiled_multiply
from einsum_cascade.compiled_orders import in_order, orders_of

INF, NAN = float("inf"), float("nan")
TEXT = """\
param seen = 99
QK[m,j,g] = Q[j,g,e]*K[j,e,m]
GM[j,g] = max[m](QK[m,j,g])
SN[m,j,g] = exp(QK[m,j,g] - GM[j,g])
SD[j,g] = sum[m](SN[m,j,g])
A[m,j,g] = SN[m,j,g]/SD[j,g] where m < seen
Z[j,g,f] = A[m,j,g]*V[j,f,m]"""


@pytest.mark.parametrize(
    ("sizes", "turned"),
    [
        ({"M": 640, "J": 3, "G": 4}, ["A", "QK", "SN"]),
        # A whole vector is there, or nothing is much longer, or there are no heads.
        ({"M": 640, "J": 3, "G": 16}, []),
        ({"M": 60, "J": 3, "G": 4}, []),
        ({"M": 640, "J": 3, "G": 0}, ["A", "QK", "SN"]),
        # The longest is last already; heads are longest.
        ({"M": 1, "J": 3, "G": 90}, []),
        ({"M": 1, "J": 90, "G": 3}, ["A", "GM", "QK", "SD", "SN"]),
    ],
)
def test_what_is_turned(sizes, turned):
    """What is made and not an output, with the longest axis last."""
    cascade = ec.parse(TEXT)
    found = dict(orders_of(cascade, sizes | {"E": 5, "F": 7}))
    assert sorted(found) == turned
    if "GM" not in turned and turned:
        assert set(found.values()) == {(1, 2, 0)}
        text = str(in_order(cascade, tuple(found.items())))
        assert "A[j,g,m] = SN[j,g,m]/SD[j,g] where m < seen\nZ[j,g,f] = A[j,g,m]*V[j,f,m]" in text


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_heads_that_share_keys(dtype):
    """As the interpreter: with all keys, those of a window, and what is not finite."""
    cascade, rng = ec.parse(TEXT), np.random.default_rng(0)
    function = ec.compile(cascade, dtype)
    for count, seen, special in ((131, 200, 0), (131, 20, 0), (131, 99, INF), (131, 99, NAN)):
        given = {
            "Q": rng.standard_normal((2, 3, 4, 5)),
            "K": rng.standard_normal((2, 3, 5, count)),
            "V": rng.standard_normal((1, 3, 7, count)),
        }
        given["K"][1, 2, 0, 7], given["V"][0, 1, 2, 3] = special, special
        expected = ec.evaluate(cascade, seen=seen, **given)["Z"]
        found = function(seen=seen, **given)["Z"]
        np.testing.assert_allclose(found, expected, atol=1e-5 if dtype == "float32" else 1e-12)
    assert [[name for name, _ in orders] for _, orders in function.modules] == [["QK", "SN", "A"]]


@pytest.mark.slow
def test_any_order(monkeypatch):
    """Values do not depend on how axes lie in memory, whatever a cascade computes."""
    seen = set()

    @settings(
        max_examples=60,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(cascades(), st.integers(0, 1 << 20), st.randoms(use_true_random=False))
    def check(cascade, seed, chance):
        given, sizes = draw_arrays(cascade, np.random.default_rng(seed))

        def turned(part, extents):
            made = {e.name for e in part.einsums}
            own = [t for t in part.tensors if t.name in made and t.role == "intermediate"]
            orders = {t.name: list(itertools.permutations(range(len(t.dims)))) for t in own}
            found = tuple((name, chance.choice(order)) for name, order in orders.items())
            seen.update(found)
            return found

        try:
            expected = ec.evaluate(cascade, sizes=sizes, **given)
        except ec.CascadeError:
            return
        monkeypatch.setattr(compiled, "orders_of", turned)
        found = ec.compile(cascade)(sizes=sizes, **given)
        for name, values in expected.items():
            np.testing.assert_allclose(
                found[name], values, rtol=1e-8, atol=1e-10, err_msg=f"{name} of\n{cascade}"
            )

    check()
    assert len({order for _, order in seen if list(order) != sorted(order)}) > 2


def test_contractions_along_memory():
    """Against NumPy; 0 * inf is 0, and -0.0 on the right is nothing, in every chunk of the sum."""
    compiled_multiply.install("float64")

    @njit
    def multiply(*arguments):
        compiled_multiply.multiply(*arguments)

    for rows, width, n in itertools.product((1, 2, 3, 4, 7, 12), (1, 2, 5), (64, 67, 1100)):
        rng = np.random.default_rng(n)
        a, b = rng.standard_normal((rows, n)), rng.standard_normal((width, n))
        c = np.ones((rows, width))
        arguments = a.reshape(-1), 0, n, 1, b.reshape(-1), 0, 1, n, c.reshape(-1), 0, width
        for adds in (True, False):
            multiply(*arguments, rows, n, width, adds)
            np.testing.assert_allclose(c, adds + a @ b.T, rtol=1e-12, atol=1e-12)
        for k in (0, 40, n - 1):
            a[-1, k], b[-1, k] = INF, 0
        a[0, 40], b[-1, 40] = NAN, -0.0
        multiply(*arguments, rows, n, width, False)
        expected = np.where(np.isfinite(a), a, 0) @ b.T
        for i, lane in itertools.product(range(rows), range(width)):
            odd = ~np.isfinite(a[i]) & (b[lane] != 0)
            with np.errstate(invalid="ignore"):
                expected[i, lane] += (a[i, odd] * b[lane, odd]).sum()
        np.testing.assert_allclose(c, expected, rtol=1e-12, atol=1e-12)
