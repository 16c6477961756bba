"""Every shipped softmax cascade against PyTorch's own attention, in float64."""

import numpy as np
import pytest

import einsum_cascade as ec

pytestmark = pytest.mark.torch

CASCADES = [
    name
    for name in ec.names("cascades")
    if name.startswith("softmax") and name not in ("softmax-sink", "softmax-entropy")
]


@pytest.mark.parametrize("name", CASCADES)
@pytest.mark.parametrize(
    ("heads", "kv_heads", "E", "F", "M", "P"),
    [(1, 1, 1, 1, 1, 1), (2, 2, 8, 5, 31, 17), (4, 2, 16, 16, 64, 3)],
    ids=["ones", "primes", "grouped-heads"],
)
def test_equals_scaled_dot_product_attention(name, heads, kv_heads, E, F, M, P):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(E + M)
    q = rng.normal(size=(heads, E, P))
    k = rng.normal(size=(kv_heads, E, M))
    v = rng.normal(size=(kv_heads, F, M))
    found = ec.evaluate(ec.load(name), Q=q, K=k, V=v)["AV"]
    # PyTorch has tokens before features.
    tensors = [torch.from_numpy(np.ascontiguousarray(x.swapaxes(1, 2)))[None] for x in (q, k, v)]
    expected = torch.nn.functional.scaled_dot_product_attention(*tensors, enable_gqa=True)
    np.testing.assert_allclose(found, expected[0].numpy().swapaxes(1, 2), rtol=0, atol=1e-13)
