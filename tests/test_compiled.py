"""Compiled cascades against the naive interpreter: shipped ones at awkward sizes, random ones."""

import numpy as np
import pytest

import einsum_cascade as ec
from einsum_cascade.array_shapes import array_ranks

SIZES = {"M": 37, "P": 23, "E": 5, "F": 7, "K": 11, "N": 6, "D": 9, "S": 13}
# Largest difference, relative to the largest value.
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}


def arrays(cascade, sizes, batch=(), seed=0):
    rng = np.random.default_rng(seed)
    shapes = {n: array_ranks(cascade, cascade.tensor(n), False) for n in cascade.inputs}
    return {n: rng.standard_normal((*batch, *(sizes[r] for r in s))) for n, s in shapes.items()}


def open_sizes(cascade):
    found = {"G": 1, "W": 9, "M0": 8}
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


@pytest.mark.parametrize("name", ec.names("cascades"))
def test_shipped_cascades(name):
    cascade = ec.load(name)
    check(cascade, arrays(cascade, SIZES, (2,)), open_sizes(cascade))
