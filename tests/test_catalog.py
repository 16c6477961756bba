"""Shipped cascades and models: each can be listed and loaded, and softmax attention is one.

Attention is compared with NumPy's own float64, at sizes so awkward that a swapped axis shows.
"""

import numpy as np
import pytest

from einsum_cascade.catalog import load, names, workload
from einsum_cascade.errors import CascadeError
from einsum_cascade.interpreter import evaluate
from einsum_cascade.legality import parse

# Plain attention, in one way or another: nothing but queries, keys and values goes in or comes out.
SOFTMAX = [
    name
    for name in names("cascades")
    if name.startswith("softmax-") and name not in ("softmax-sink", "softmax-entropy")
]
STABLE = [name for name in SOFTMAX if "naive" not in name]
TILED = [name for name in SOFTMAX if dict(load(name).splits)]
CLOSE = {"rtol": 1e-13, "atol": 1e-13}
INF = float("inf")


# ---- names ----


def test_names_are_sorted_and_complete():
    cascades = ["softmax-1pass", "softmax-2pass", "softmax-3pass", "softmax-3pass-deferred"]
    cascades += ["softmax-naive", "softmax-naive-deferred"]
    cascades += ["toy-deferred", "toy-iterative", "toy-two-pass"]
    assert set(cascades) <= set(names("cascades"))
    assert {"bert", "t5", "trxl", "xlm"} <= set(names("models"))
    for kind in ("cascades", "models"):
        assert sorted(names(kind)) == names(kind)
    with pytest.raises(CascadeError, match=r"unknown kind 'cascade'; .* did you mean 'cascades'"):
        names("cascade")


@pytest.mark.parametrize("name", names("cascades"))
def test_cascade_says_what_it_is(name):
    cascade = load(name)
    assert name == cascade.name
    assert cascade.description
    assert cascade.paper


@pytest.mark.parametrize("name", SOFTMAX)
def test_attention_has_one_interface(name):
    cascade = load(name)
    assert {"Q", "K", "V"} == set(cascade.inputs)
    assert ("AV",) == cascade.outputs
    assert ("F", "P") == cascade.tensor("AV").ranks


@pytest.mark.parametrize("name", names("models"))
def test_model_has_the_ranks_of_attention(name):
    model = workload(name, M=4096, P=1024)
    assert all(model.size(rank) > 0 for rank in "BHEFDS")
    assert (4096, 1024) == (model.size("M"), model.size("P"))


def test_workload_sizes():
    assert "custom: M=8 P=4" == str(workload(M=8, P=4))
    assert 3 == workload(M=8).size("H", 3)
    assert 1 == workload("bert", B=1).size("B")
    with pytest.raises(CascadeError, match=r"size of rank P is not set; known: M=8; .*--set P="):
        workload(M=8).size("P")
    for sizes in ({"M": 0}, {"M": 2.5}, {"M": True}, {"m": 4}):
        with pytest.raises(CascadeError, match="sizes are positive integers of ranks"):
            workload(**sizes)


def test_unknown_names():
    with pytest.raises(CascadeError, match=r"unknown cascade 'softmax-1p'.*\n.*'softmax-1pass'"):
        load("softmax-1p")
    with pytest.raises(CascadeError, match=r"unknown model 'berd'.*\n.* did you mean 'bert'"):
        workload("berd")
    with pytest.raises(CascadeError, match=r"^no/such.yaml: no such cascade file"):
        load("no/such.yaml")


def test_a_file_in_the_folder_needs_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").write_text("name: mine\ncascade: Z = A[k]*B[k]\n", encoding="utf-8")
    with pytest.raises(CascadeError, match=r"to read the file write ./mine"):
        load("mine")
    assert "mine" == load("./mine").name


# ---- attention ----


def attention(Q, K, V, mask=0.0):
    """Softmax attention over batches: Q[...,e,p], K[...,e,m], V[...,f,m] -> AV[...,f,p]."""
    logits = np.einsum("...ep,...em->...mp", Q, K) / np.sqrt(Q.shape[-2]) + mask
    weights = np.exp(logits - logits.max(axis=-2, keepdims=True))
    return np.einsum("...mp,...fm->...fp", weights / weights.sum(axis=-2, keepdims=True), V)


def random(*shape, seed=0):
    return np.random.default_rng((seed, *shape)).normal(size=shape)


def inputs(E=3, M=7, P=5, F=2, batch=(), groups=()):
    """Q with batch axes, K and V with theirs."""
    return {
        "Q": random(*batch, E, P),
        "K": random(*(groups or batch), E, M, seed=1),
        "V": random(*(groups or batch), F, M, seed=2),
    }


@pytest.mark.parametrize("name", SOFTMAX)
@pytest.mark.parametrize(
    "sizes",
    [{"E": 1, "M": 1, "P": 1, "F": 1}, {"E": 2, "M": 13, "P": 11, "F": 3}, {"M": 1}, {"P": 1}],
    ids=["ones", "primes", "one key", "one query"],
)
def test_attention(name, sizes):
    arrays = inputs(**sizes)
    np.testing.assert_allclose(attention(**arrays), evaluate(load(name), **arrays)["AV"], **CLOSE)


@pytest.mark.parametrize("name", ["softmax-2pass", "softmax-1pass"])
@pytest.mark.parametrize("tile", [1, 2, 3, 4, 6, 7, 12, 13, 100])
def test_attention_in_tiles_that_divide_leave_a_rest_or_exceed(name, tile):
    arrays = inputs(M=12)
    out = evaluate(load(name), sizes={"M0": tile}, **arrays)["AV"]
    np.testing.assert_allclose(attention(**arrays), out, **CLOSE)


@pytest.mark.parametrize("name", ["softmax-2pass", "softmax-1pass"])
def test_attention_with_keys_given_split(name):
    """[E, M1, M0] next to a whole V, both split, and a number of tiles instead of their size."""
    arrays = inputs(M=12)
    split = {n: arrays[n].reshape(*arrays[n].shape[:-1], 3, 4) for n in "KV"}
    expected = attention(**arrays)
    for given in ({**arrays, "K": split["K"]}, {**arrays, **split}):
        np.testing.assert_allclose(expected, evaluate(load(name), **given)["AV"], **CLOSE)
    out = evaluate(load(name), sizes={"M1": 5}, **arrays)["AV"]
    np.testing.assert_allclose(expected, out, **CLOSE)


@pytest.mark.parametrize("name", SOFTMAX)
@pytest.mark.parametrize(
    ("batch", "groups"), [((3,), ()), ((2, 3), ()), ((2, 4), (2, 2)), ((2, 6), (1, 3))], ids=str
)
def test_attention_with_batches_and_grouped_heads(name, batch, groups):
    arrays = inputs(batch=batch, groups=groups)
    whole = {
        n: np.repeat(np.repeat(a, batch[0] // a.shape[0], 0), batch[-1] // a.shape[-3], -3)
        for n, a in arrays.items()
    }
    np.testing.assert_allclose(attention(**whole), evaluate(load(name), **arrays)["AV"], **CLOSE)


def test_keys_without_a_batch_axis_serve_every_batch():
    arrays = inputs(batch=(3,))
    arrays["K"], arrays["V"] = arrays["K"][0], arrays["V"][0]
    out = evaluate(load("softmax-3pass"), **arrays)["AV"]
    np.testing.assert_allclose(attention(**arrays), out, **CLOSE)


@pytest.mark.parametrize("name", STABLE)
@pytest.mark.parametrize("logit", [1e4, -1e4])
def test_large_logits(name, logit):
    """Without a maximum exp(1e4) is infinite and exp(-1e4) zero; with it only differences count."""
    arrays = inputs(E=1, M=7)
    arrays["Q"] = np.ones((1, 5))
    arrays["K"] = logit + arrays["K"]
    np.testing.assert_allclose(attention(**arrays), evaluate(load(name), **arrays)["AV"], **CLOSE)


def test_no_keys_give_zero():
    arrays = inputs()
    arrays["K"], arrays["V"] = arrays["K"][:, :0], arrays["V"][:, :0]
    for name in SOFTMAX:
        assert np.array_equal(np.zeros((2, 5)), evaluate(load(name), **arrays)["AV"])


def masked(name, change, extra=""):
    """A shipped cascade whose logits are filtered or added to."""
    lines = [
        change(line) if line.startswith("QK[") else line for line in str(load(name)).split("\n")
    ]
    return parse("\n".join(lines) + extra)


@pytest.mark.parametrize("name", STABLE)
@pytest.mark.parametrize("tile", [3, 7, 100])
def test_causal_filter_with_a_query_that_sees_nothing(name, tile):
    """Key m is seen by p > m: the first query sees no key and gives 0, never NaN."""
    key = "m1*M0 + m0" if "m1" in str(load(name)) else "m"
    cascade = masked(name, lambda line: f"{line} where {key} < p")
    arrays = inputs(M=7, P=7)
    sizes = {"M0": tile} if key != "m" else {}
    out = evaluate(cascade, sizes=sizes, **arrays)["AV"]
    mask = np.where(np.arange(7)[:, None] < np.arange(1, 7), 0, -INF)
    expected = attention(arrays["Q"][:, 1:], arrays["K"], arrays["V"], mask)
    assert np.array_equal(np.zeros(2), out[:, 0])
    np.testing.assert_allclose(expected, out[:, 1:], **CLOSE)


@pytest.mark.parametrize("name", STABLE)
def test_additive_mask_of_minus_infinity(name):
    """The same mask as numbers: -inf - (-inf) counts as -inf, so that nothing stays nothing."""
    text = str(load(name))
    index = text.split("QK[", 1)[1].split("]", 1)[0]
    text = text.replace(
        f"QK[{index}] = ", f"QK[{index}] = LM0[{index}] + XX[{index}]\nXX[{index}] = "
    )
    arrays = inputs(M=7, P=7)
    mask = np.where(np.arange(7)[:, None] < np.arange(7), 0, -INF)
    parts = {part for _, split in load(name).splits for part in split[1:]}
    sizes = {part: size for part, size in (("M0", 3), ("M1", 2)) if part in parts}
    out = evaluate(parse(text), sizes=sizes, LM0=mask, **arrays)["AV"]
    expected = attention(arrays["Q"][:, 1:], arrays["K"], arrays["V"], mask[:, 1:])
    assert np.array_equal(np.zeros(2), out[:, 0])
    np.testing.assert_allclose(expected, out[:, 1:], **CLOSE)


def test_sliding_window():
    """Query p sees keys p-1, p, p+1 as far as they exist, here against a band of a full mask."""
    text = """
        var n, p in N
        input K[n,e], V[n,f]
        QK[p,w] = Q[p,e]*K[p+w-W//2,e]
        GM[p] = max[w](QK[p,w])
        SN[p,w] = exp(QK[p,w] - GM[p])
        SD[p] = sum[w](SN[p,w])
        O[p,f] = sum[w](SN[p,w]*V[p+w-W//2,f]/SD[p])"""
    Q, K, V = random(7, 4), random(7, 4, seed=1), random(7, 3, seed=2)
    out = evaluate(parse(text), Q=Q, K=K, V=V, sizes={"W": 3})["O"]
    band = np.where(abs(np.subtract.outer(np.arange(7), np.arange(7))) <= 1, 0, -INF)
    np.testing.assert_allclose(attention(2 * Q.T, K.T, V.T, band).T, out, **CLOSE)


def test_written_order_and_order_of_ranks_change_nothing():
    cascade = load("softmax-1pass")
    lines = str(cascade).split("\n")
    backwards = parse("\n".join([lines[0], *reversed(lines[1:])]))
    arrays, sizes = inputs(), {"M0": 3}
    expected = evaluate(cascade, sizes=sizes, **arrays)["AV"]
    assert np.array_equal(expected, evaluate(backwards, sizes=sizes, **arrays)["AV"])
    turned = parse(str(cascade).replace("K[e,m1,m0]", "K[m1,m0,e]"))
    arrays["K"] = arrays["K"].T
    np.testing.assert_allclose(expected, evaluate(turned, sizes=sizes, **arrays)["AV"], **CLOSE)
