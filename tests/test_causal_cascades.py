"""Causal, windowed and grouped-query attention: against formulas in NumPy, and PyTorch."""

import numpy as np
import pytest

import archsim
import einsum_cascade as ec
from archsim.elements import random_inputs
from archsim.errors import ArchError
from archsim.lowering import lower
from archsim.mapping import load_mapping
from archsim.packing import packed
from archsim.pe import simulate_pe
from archsim.placement import place

NAMES = ("causal-1pass", "window-1pass", "causal-gqa-1pass", "window-gqa-1pass")
SIZES = [
    # Heads of keys, heads that share one, E, F, M, P, W, M0.
    (1, 1, 1, 1, 1, 1, 1, 4),
    (2, 3, 8, 5, 31, 17, 7, 4),
    (2, 4, 16, 16, 64, 1, 9, 16),
    (3, 2, 4, 3, 13, 13, 40, 5),
    (1, 2, 4, 3, 6, 11, 3, 4),
]
IDS = ["ones", "primes", "decode", "square", "more-queries-than-keys"]


def arrays(heads, group, E, F, M, P):
    rng = np.random.default_rng(E + M + P)
    shapes = ((heads, group, E, P), (heads, E, M), (heads, F, M))
    return tuple(rng.normal(size=shape) for shape in shapes)


def kept(name: str, M: int, P: int, W: int):
    """Which keys a query sees, [key, query], the last query at the last key."""
    m, t = np.arange(M)[:, None], np.arange(P)[None, :] + M - P
    mask = m <= t
    return mask & (m > t - W) if name.startswith("window") else mask


def formula(q, k, v, mask):
    """[head, of its group, f, query]: softmax over the kept keys, 0 for a query without any."""
    logits = np.einsum("hgep,hem->hgmp", q, k) / np.sqrt(k.shape[1])
    logits = np.where(mask, logits, -np.inf)
    top = logits.max(axis=2, keepdims=True)
    weights = np.where(mask, np.exp(logits - np.where(np.isfinite(top), top, 0.0)), 0.0)
    total = weights.sum(axis=2, keepdims=True)
    return np.einsum("hgmp,hfm->hgfp", weights / np.where(total > 0, total, 1.0), v)


def pack(q):
    """Columns p = t G + g."""
    heads, group, e, p = q.shape
    return np.moveaxis(q, 1, 3).reshape(heads, e, p * group)


def evaluated(name: str, q, k, v, W: int, M0: int):
    """Our result, [head, of its group, f, query]."""
    cascade = ec.load(name)
    heads, group, _, P = q.shape
    sizes = {"W": W, "M0": M0, "G": group}
    sizes = {rank: size for rank, size in sizes.items() if rank in cascade.ranks}
    if "G" in sizes:
        found = ec.evaluate(cascade, sizes=sizes, Q=pack(q), K=k, V=v)["AV"]
        return np.moveaxis(found.reshape(heads, v.shape[1], P, group), 3, 1)
    return np.stack(
        [ec.evaluate(cascade, sizes=sizes, Q=q[:, g], K=k, V=v)["AV"] for g in range(group)], 1
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("heads", "group", "E", "F", "M", "P", "W", "M0"), SIZES, ids=IDS)
def test_equals_the_formula(name, heads, group, E, F, M, P, W, M0):
    q, k, v = arrays(heads, group, E, F, M, P)
    found = evaluated(name, q, k, v, W, M0)
    np.testing.assert_allclose(found, formula(q, k, v, kept(name, M, P, W)), rtol=0, atol=1e-12)


@pytest.mark.torch
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("heads", "group", "E", "F", "M", "P", "W", "M0"), SIZES[:-1], ids=IDS[:-1]
)
def test_equals_scaled_dot_product_attention(name, heads, group, E, F, M, P, W, M0):
    torch = pytest.importorskip("torch")
    q, k, v = arrays(heads, group, E, F, M, P)
    flat = q.reshape(heads * group, E, P)
    tensors = [torch.from_numpy(np.ascontiguousarray(x.swapaxes(1, 2)))[None] for x in (flat, k, v)]
    mask = torch.from_numpy(np.ascontiguousarray(kept(name, M, P, W).T))
    attention = torch.nn.functional.scaled_dot_product_attention
    expected = attention(*tensors, attn_mask=mask, enable_gqa=True)[0].numpy().swapaxes(1, 2)
    found = evaluated(name, q, k, v, W, M0).reshape(heads * group, F, P)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    if name.startswith("causal") and P == M:
        same = attention(*tensors, is_causal=True, enable_gqa=True)[0].numpy().swapaxes(1, 2)
        np.testing.assert_allclose(found, same, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_one_pass_over_keys_and_over_queries(name):
    cascade = ec.load(name)
    for rank in ("M", "P"):
        found = ec.passes(cascade, rank)
        assert found.passes == 1
        assert set(found.tensors.values()) == {1}


@pytest.mark.parametrize("name", NAMES)
def test_the_file_says_where_it_comes_from(name):
    assert "arXiv" in ec.load(name).paper


# ---- models whose heads share keys ----


@pytest.mark.parametrize("model", ["llama-3-8b", "mistral-7b"])
def test_a_model_packs_the_heads_that_share_keys(model):
    cascade, workload = packed(ec.load("causal-1pass"), ec.workload(model, M=100, P=10))
    sizes = dict(workload.sizes)
    assert (sizes["H"], sizes["G"], sizes["P"]) == (8, 4, 40)
    assert "KV" not in sizes
    assert "where m1*M0 + m0 <= p//4 + M - P//4" in str(cascade)
    assert packed(cascade, workload) == (cascade, workload)


@pytest.mark.parametrize("name", ["softmax-1pass", "causal-1pass", "window-1pass"])
@pytest.mark.parametrize(("M", "P"), [(10, 10), (13, 1)], ids=["prefill", "decode"])
def test_packed_heads_compute_what_each_head_does(name, M, P):
    """Registers, with three query heads for each of two heads of keys."""
    sizes = {"H": 6, "KV": 2, "E": 3, "F": 2, "M": M, "P": P}
    sizes |= {"W": 4} if name == "window-1pass" else {}
    program = lower(name, ec.workload(**sizes), "fusemax-4x4", "fusemax")
    q, k, v = arrays(2, 3, 3, 2, M, P)
    inputs = {"Q": pack(q)[None], "K": k[None], "V": v[None]}
    assert {n: x.shape for n, x in random_inputs(program).items()} == {
        n: x.shape for n, x in inputs.items()
    }
    found = simulate_pe(program, inputs).outputs["AV"]
    mask = np.ones((M, P), bool) if name == "softmax-1pass" else kept(name, M, P, 4)
    expected = np.moveaxis(formula(q, k, v, mask), 1, 3).reshape(1, 2, 2, P * 3)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("model", ["llama-3-8b", "mistral-7b"])
@pytest.mark.parametrize("level", ["tile", "pe"])
@pytest.mark.parametrize("P", [9, 1], ids=["prefill", "decode"])
def test_a_step_of_a_model_runs_on_a_small_array(model, level, P):
    name = "window-1pass" if model == "mistral-7b" else "causal-1pass"
    sizes = {"M": 9, "P": P, "H": 8, "KV": 2, "E": 4, "F": 4}
    sizes |= {"W": 4} if model == "mistral-7b" else {}
    report = archsim.run(name, model, "fusemax-4x4", "fusemax", sizes=sizes, level=level)
    assert report.sizes["H"] == 2
    assert report.sizes["P"] == 4 * P
    assert report.lower_bound_cycles <= report.cycles


def test_a_decode_step_on_fusemax_fills_the_columns_of_one_group():
    sizes = {"M": 1024, "P": 1, "H": 8, "KV": 2}
    report = archsim.run(
        "causal-1pass", "llama-3-8b", "fusemax", "fusemax", sizes=sizes, level="tile"
    )
    assert report.lower_bound_cycles <= report.cycles
    # Four columns of 256 hold queries; keys and values of 2 heads come in once.
    assert report.utilization["array_2d"] <= 4 / 256
    assert report.traffic_bytes["by_tensor"]["K"] == 2 * 1024 * 128 * 2


def test_a_cascade_that_names_its_groups_is_left_as_it_is():
    cascade, workload = packed(ec.load("causal-gqa-1pass"), ec.workload("llama-3-8b", M=8, P=2))
    assert cascade == ec.load("causal-gqa-1pass")
    assert dict(workload.sizes)["P"] == 8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Z[f,p] = S[m,p]*V[f,m]\nS[m,p] = sum[e]((Q[e,p] - p)*K[e,m])", "positions of queries"),
        ("rank P = P1*P0\nZ[p1,p0] = Q[e,p1,p0]*K[e,m]", "P is not split in it"),
        ("Z[h,p] = Q[h,e,p]*K[h,e,m]", "H is no rank of the cascade"),
    ],
)
def test_what_cannot_be_packed_is_refused(text, message):
    with pytest.raises(ArchError, match=message):
        packed(ec.parse(text, "mine"), ec.workload(H=4, KV=2, P=6))


def test_heads_of_keys_divide_heads():
    with pytest.raises(ArchError, match="6 query heads can't share 4 heads of keys"):
        place(
            ec.load("causal-1pass"),
            ec.workload(H=6, KV=4, M=4, P=4, E=2, F=2),
            archsim.load_architecture("fusemax-4x4"),
            load_mapping("fusemax"),
        )
