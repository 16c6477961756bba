"""Neighbourhood attention as cascades, against outputs of NATTEN's own code.

The arrays are in fp32, so agreement ends at their own error, which is at most 1e-6.
"""

import json
from math import prod
from pathlib import Path

import numpy as np
import pytest

import einsum_cascade as ec

GOLDEN = Path(__file__).parent / "golden" / "gna"
CASES = json.loads((GOLDEN / "numerics.json").read_text(encoding="utf-8"))
AXES = {1: ("",), 2: ("X", "Y"), 3: ("X", "Y", "Z")}


def sizes_of(case):
    """Sizes and parameters of a cascade for one of NATTEN's cases."""
    axes = AXES[len(case["input"])]
    names = ("input", "window", "stride", "dilation", "causal")
    rows = zip(axes, *(case[name] for name in names), strict=True)
    sizes, parameters = {}, {}
    for axis, size, window, stride, dilation, causal in rows:
        sizes |= {"W" + axis: window, "S" + axis: stride, "D" + axis: dilation}
        parameters["causal" + axis.lower()] = float(causal)
        if axis in ("Y", "Z"):
            sizes[axis] = size
    return sizes, parameters


def by_head(array, tokens):
    """[1, *layout, head, feature] as [head, feature, token]."""
    return array.reshape(tokens, *array.shape[-2:]).transpose(1, 2, 0).astype(np.float64)


@pytest.mark.parametrize("form", ["", "-gather"])
@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_equals_natten(case, form):
    arrays, tokens = np.load(GOLDEN / "numerics.npz"), prod(case["input"])
    q, k, v, out = (
        by_head(arrays[f"{case['id']}_{name}"], tokens) for name in ["q", "k", "v", "out"]
    )
    sizes, parameters = sizes_of(case)
    cascade = ec.load(f"gna-{len(case['input'])}d{form}")
    found = ec.evaluate(cascade, Q=q, K=k, V=v, sizes=sizes, **parameters)["AV"]
    np.testing.assert_allclose(found, out, rtol=0, atol=2e-6)


@pytest.mark.parametrize("causal", [False, True])
def test_the_mask_is_that_of_neighborhood(causal):
    """With one feature that tells keys apart, the weights of a cascade are those of the mask."""
    window = ec.Neighborhood((5, 8), (3, 2), (2, 1), (1, 3), (causal, False))
    sizes = {"Y": 8, "WX": 3, "WY": 2, "SX": 2, "SY": 1, "DX": 1, "DY": 3}
    zeros, keys = np.zeros((1, 40)), np.eye(40)
    found = ec.evaluate(
        ec.load("gna-2d"), Q=zeros, K=zeros, V=keys, sizes=sizes, causalx=float(causal)
    )["AV"]
    assert ((found.T > 0) == window.mask()).all()
