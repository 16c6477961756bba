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


def test_additional_keys_equal_natten():
    """Ten keys that every query sees, in one softmax with a window of 4 x 4 and stride 2 x 2."""
    arrays = np.load(GOLDEN / "numerics_additional_kv.npz")
    q, k, v, out = (by_head(arrays[name], 64) for name in ["q", "k", "v", "out"])
    more = {"KA": by_head(arrays["additional_keys"], 10)}
    more["VA"] = by_head(arrays["additional_values"], 10)
    sizes = {"Y": 8, "WX": 4, "WY": 4, "SX": 2, "SY": 2, "DX": 1, "DY": 1}
    cascade = ec.load("gna-2d-additional")
    found = ec.evaluate(cascade, Q=q, K=k, V=v, **more, sizes=sizes)
    np.testing.assert_allclose(found["AV"], out, rtol=0, atol=2e-6)
    # Merged by their LSE, attention to the window and to the other keys is attention to both.
    nobody = {name: array[..., :0] for name, array in more.items()}
    window = ec.evaluate(cascade, Q=q, K=k, V=v, **nobody, sizes=sizes)
    logits = np.einsum("hep,het->htp", q, more["KA"]) / np.sqrt(len(q[0]))
    share = np.exp(window["LSE"] - found["LSE"])
    rest = np.einsum("htp,hft->hfp", np.exp(logits - found["LSE"][:, None]), more["VA"])
    merged = share[:, None] * window["AV"] + rest
    np.testing.assert_allclose(merged, found["AV"], rtol=0, atol=1e-12)


PLANES = [case for case in CASES if len(case["input"]) == 2]


@pytest.mark.parametrize("case", PLANES, ids=[case["id"] for case in PLANES])
def test_lse_equals_natten(case):
    """Without additional keys, LSE is that of the window."""
    arrays, tokens = np.load(GOLDEN / "numerics.npz"), prod(case["input"])
    q, k, v, out = (
        by_head(arrays[f"{case['id']}_{name}"], tokens) for name in ["q", "k", "v", "out"]
    )
    sizes, parameters = sizes_of(case)
    nobody = {"KA": k[..., :0], "VA": v[..., :0]}
    cascade = ec.load("gna-2d-additional")
    found = ec.evaluate(cascade, Q=q, K=k, V=v, **nobody, sizes=sizes, **parameters)
    np.testing.assert_allclose(found["AV"], out, rtol=0, atol=2e-6)
    lse = arrays[f"{case['id']}_lse"].reshape(tokens, -1).T
    np.testing.assert_allclose(found["LSE"], lse, rtol=0, atol=2e-6)


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
