"""Cascades against PyTorch: the references themselves, the inputs, the tolerances, the command."""

import json
import math

import numpy as np
import pytest
from typer.testing import CliRunner

import einsum_cascade as ec
from archsim import verification
from archsim.cli import app
from archsim.references import ORACLES
from archsim.verification import ENGINES, roundings, verify, word_roundings
from archsim.verification_inputs import FAMILIES, cases, made

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

NAIVE = tuple(engine for engine in ENGINES if engine.name == "naive")
ALL = ec.names("cascades")
SHIPPED = {name: ec.load(name) for name in ALL}


# ---- every cascade ----


def test_every_shipped_cascade_has_a_reference():
    assert set(ALL) == set(ORACLES)


@pytest.mark.parametrize("name", ALL)
def test_interpreted_cascade_equals_its_reference(name):
    """In float64 and in hardware numbers; a row for each, and at least three families in it."""
    rows = list(verify(SHIPPED[name], engines=NAIVE))
    assert ["float64", "bf16"] == [row.dtype for row in rows]
    for row in rows:
        assert row.passed, row.worst
        assert {"random", "ones", "strided"} <= {one.inputs for one in row.comparisons}
        assert set(FAMILIES) == {one.inputs for one in row.comparisons} | row.excluded.keys()
    assert max(one.tolerance for one in rows[0].comparisons) < 1e-11


@pytest.mark.parametrize(
    "name",
    [
        name if name == "softmax-3pass" else pytest.param(name, marks=pytest.mark.slow)
        for name in ALL
    ],
)
def test_compiled_cascade_equals_its_reference(name):
    rows = list(verify(SHIPPED[name]))
    assert ["float64", "float32", "bf16"] == [row.dtype for row in rows]
    for row in rows:
        assert row.passed, row.worst
        assert "compiled" in {one.engine for one in row.comparisons}


# ---- what is left out ----

BY_DESIGN = [
    (name, family)
    for name, oracle in ORACLES.items()
    for family in (*oracle.excluded, *oracle.narrow)
    if family in ("large", "outlier", "infinite", "empty") and "K" in SHIPPED[name].inputs
]


@pytest.mark.parametrize(("name", "family"), BY_DESIGN)
def test_what_is_left_out_has_no_answer(name, family):
    """Refused, not finite in float64, or nothing that PyTorch gets right in float32 itself."""
    from archsim.torch_oracle import reference

    oracle, cascade = ORACLES[name], SHIPPED[name]
    case = FAMILIES[family][1](cascade, oracle)
    if 0 in case.sizes.values():
        with pytest.raises(ec.CascadeError, match="is a positive integer, not 0"):
            ec.evaluate(cascade, sizes=case.sizes, **case.arrays, **case.parameters)
        return
    found = ec.evaluate(cascade, sizes=case.sizes, **case.arrays, **case.parameters)["AV"]
    if np.isfinite(found).all():
        single = reference(cascade, oracle, case, "float32")["AV"]
        assert verification.relative_error(single, found) > 1e-2


def test_no_family_is_forgotten():
    for name, oracle in ORACLES.items():
        made_ones = [case.family for case in cases(SHIPPED[name], oracle)]
        assert set(FAMILIES) == set(made_ones) | set(oracle.excluded)


# ---- inputs are what they say ----


def test_inputs_are_bf16_numbers():
    for name in ("softmax-3pass", "logit-bias", "hetero-window", "mla-latent", "delta-rule"):
        for case in cases(SHIPPED[name], ORACLES[name]):
            for array in case.arrays.values():
                again = torch.from_numpy(np.array(array)).to(torch.bfloat16).double().numpy()
                assert np.array_equal(array, again)


def logits(case):
    q, k = case.arrays["Q"], case.arrays["K"]
    return k.T @ q / math.sqrt(len(q))


@pytest.mark.parametrize("name", ["softmax-3pass", "causal-1pass"])
def test_families(name):
    found = {case.family: case for case in cases(SHIPPED[name], ORACLES[name])}
    assert (-1e4, 1e4) == (logits(found["large"]).min(), logits(found["large"]).max())
    assert np.abs(logits(found["outlier"])).max() > 1e3
    assert np.ptp(logits(found["ties"]), axis=0).max() == 0
    assert set(np.isneginf(logits(found["infinite"])).mean(axis=0)) == {10 / 31}
    assert not found["strided"].arrays["K"].flags.contiguous
    assert found["strided"].arrays["K"].shape == (7, 31)
    assert found["heads"].arrays["Q"].shape[0] == 4
    assert found["heads"].arrays["K"].shape[0] == 2
    assert found["empty"].arrays["V"].shape == (5, 0)
    assert {1} == {size for array in found["ones"].arrays.values() for size in array.shape}
    if name == "causal-1pass":
        assert found["masked"].arrays["Q"].shape[1] > found["masked"].arrays["K"].shape[1]


# ---- tolerances ----


def test_roundings_of_a_dot_product():
    """3 products and 2 additions."""
    assert 1 + 2 == roundings(ec.parse("Z = A[k]*B[k]"), {"K": 3})


def test_roundings_of_softmax():
    """Q/sqrt(E): 2. A logit: 1 + 6. exp(a - b): 1 + 2. Their sum: 30. A/SD: 1. With values: 31."""
    extents = {"E": 7, "F": 5, "M": 31, "P": 17}
    assert 2 + 7 + 3 + 30 + 1 + 31 == roundings(SHIPPED["softmax-3pass"], extents)
    # SQ and A are words; exponentials and sums are fp32, and so is the division in A: 1 + 2.
    assert 1 + (1 + 1) == word_roundings(SHIPPED["softmax-3pass"], extents)


def test_a_recurrence_rounds_in_every_step():
    assert 2 * 9 == roundings(ec.parse("S[0] = 0\nS[n+1] = S[n]/2 + A[n]"), {"N": 9})


def test_condition_number_of_a_dot_product():
    """Z = (A.B) S with S = 3 + 4 = 7 and A.B = 15 - 8 = 7.

    dZ/dA = B S + A.B is 42 and -7, dZ/dB = A S is 21 and 28. So 3*42 + 4*7 + 5*21 + 2*28 = 315, of
    49.
    """
    from archsim.references import Oracle
    from archsim.torch_oracle import condition
    from archsim.verification_inputs import Case

    case = Case("mine", {"A": np.array([3.0, 4.0]), "B": np.array([5.0, -2.0])}, {}, {}, {})
    oracle = Oracle("torch_linear.toy", "")
    found = condition(ec.load("toy-two-pass"), oracle, case)
    assert found == pytest.approx(315 / 49)


@pytest.mark.parametrize("dtype", ["float64", "bf16"])
def test_a_wrong_scale_is_seen_in_every_dtype(dtype):
    text = str(SHIPPED["softmax-3pass"]).replace("/sqrt(E)", "/sqrt(E + 1)")
    broken = ec.parse(text, "softmax-3pass")
    engines = tuple(engine for engine in NAIVE if engine.dtype == dtype)
    (row,) = verify(broken, engines=engines)
    assert not row.passed
    assert row.worst.max_error > row.worst.tolerance


def test_not_finite_is_failed():
    broken = ec.parse(str(SHIPPED["softmax-naive"]), "softmax-3pass")
    (row, _) = verify(broken, ORACLES["softmax-3pass"], NAIVE)
    assert not row.passed
    assert math.isinf(row.worst.max_error)


def test_error_measures():
    expected = np.array([4.0, 1e-3, 0.0])
    assert 0.25 == verification.relative_error(np.array([4.0, 1e-3, 1.0]), expected)
    assert math.isinf(verification.relative_error(np.array([4.0, np.nan, 0.0]), expected))
    assert math.isinf(verification.relative_error(np.zeros(2), expected))
    assert 0.0 == verification.relative_error(np.zeros((2, 0)), np.zeros((2, 0)))
    # With 24 bits, 4.0 has units of 2**-21.
    found = np.array([4.0 + 3 * 2.0**-21, 1e-3, 0.0])
    assert 3.0 == verification.ulps(found, expected, 24)


# ---- references against numbers by hand, and against second formulas ----


def result(name, sizes=None, parameters=None, **arrays):
    """A reference's outputs for arrays as the cascade takes them."""
    from archsim.torch_oracle import reference
    from archsim.verification_inputs import Case

    arrays = {key: np.array(value, dtype=float) for key, value in arrays.items()}
    case = Case("mine", arrays, {}, sizes or {}, parameters or {})
    return reference(SHIPPED[name], ORACLES[name], case)


TWO = {"Q": [[0.0]], "K": [[1.0, 1.0]], "V": [[2.0, 6.0]]}
LOG2 = math.log(2)


@pytest.mark.parametrize(
    ("name", "more", "expected", "why"),
    [
        ("softmax-3pass", {}, 4, "equal logits: the mean"),
        ("softmax-sink", {"B": 0.0}, 8 / 3, "the sink has a third of the weight"),
        ("softmax-sink", {"B": LOG2}, 2, "the sink has half of it"),
        ("logit-bias", {"B": [[LOG2], [0.0]]}, 10 / 3, "the first key counts twice"),
        ("sigmoid-attention", {}, 4, "sigmoid(0) = 1/2 of each"),
        ("sigmoid-norm", {}, 4, "equal weights"),
        ("relu-attention", {}, 0, "relu(0) = 0"),
        ("kv-bias", {"KB": [[1.0]], "VB": [[1.0]]}, 3, "the mean of 1, 2 and 6"),
        ("razor-compensation", {"KD": [[1, 1]], "VD": [[0, 4]]}, 3, "2 counts twice: (4 + 8)/4"),
        ("group-scaled", {"S": [1, 0], "I": [0, 1]}, 4.8, "weights 0.5 0.6 and 0.5 + 0.2"),
        ("linear-attention", {}, 4, "equal features"),
        ("hopfield-2-iterations", {}, 1, "the keys are all 1"),
    ],
)
def test_reference_by_hand(name, more, expected, why):
    arrays = TWO | more
    found = result(name, **{key: arrays[key] for key in SHIPPED[name].inputs})
    assert found["AV"].item() == pytest.approx(expected), why


def test_more_references_by_hand():
    q, k, v = [[1.0]], [[1.0, 3.0]], [[2.0, 6.0]]
    relu = result("relu-attention", Q=q, K=k, V=v)["AV"].item()
    assert relu == (1 * 2 + 3 * 6) / 2
    assert result("softmax-entropy", Q=[[0.0]], K=k, V=v)["H"].item() == pytest.approx(LOG2)
    # lam = 1/2 of an equal share taken from equal shares.
    both = {"Q1": [[0.0]], "Q2": [[0.0]], "K1": k, "K2": k, "V": v}
    half = result("differential-attention", parameters={"lam": 0.5}, **both)["AV"].item()
    assert half == pytest.approx(2)
    # The state forgets by half: 1/2 * 1*2 + 3*6 at the second token.
    decay = {"parameters": {"gamma": 0.5}, "Q": [[1.0, 1.0]], "K": k, "V": v}
    assert result("linear-decay-recurrent", **decay)["AV"].tolist() == [[2, 19]]
    # S = 1 * 2; then the key 3 recalls 6, which is what it should: nothing changes but 6 - 6.
    delta = result("delta-rule", Q=[[1.0, 1.0]], K=k, V=v, B=[1.0, 1.0])["AV"]
    assert delta.tolist() == [[2, 2]]
    # s = 1 at the first token: it is alone.
    assert result("based-taylor2", Q=[[1.0, 1.0]], K=k, V=v)["AV"][0, 0] == 2
    # The second query weighs keys by 1 + 1 + 1/2 and 1 + 3 + 9/2.
    weights = np.array([2.5, 8.5])
    taylor = result("based-taylor2", Q=[[1.0, 1.0]], K=k, V=v)["AV"][0, 1]
    assert taylor == pytest.approx((weights * [2, 6]).sum() / 11)


WINDOWS = {"Q": [[0.0] * 5], "K": [[0.0] * 5], "V": [[1.0, 2.0, 4.0, 8.0, 16.0]]}


@pytest.mark.parametrize(
    ("name", "sizes", "parameters", "expected"),
    [
        ("sliding-window", {"W": 3}, {}, [1.5, 7 / 3, 14 / 3, 28 / 3, 12]),
        ("na-1d", {"W": 3}, {}, [7 / 3, 7 / 3, 14 / 3, 28 / 3, 28 / 3]),
        ("na-1d", {"W": 9}, {}, [31 / 5] * 5),
        # Tokens 0, 2, 4 and 1, 3.
        ("na-1d-dilated", {"W": 2, "D": 2}, {}, [2.5, 5, 2.5, 5, 10]),
        # Nearest keys by hand: the two first of equal scores.
        ("topk-selected", {"K": 2}, {}, [1.5] * 5),
        ("quest-page", {"K": 1, "M0": 2}, {}, [1.5] * 5),
    ],
)
def test_windows_by_hand(name, sizes, parameters, expected):
    found = result(name, sizes, parameters, **WINDOWS)["AV"]
    np.testing.assert_allclose(found.reshape(-1), expected)


def test_blocks_disks_and_regions_by_hand():
    blocks = result("block-diagonal", {"M0": 2}, **WINDOWS)["AV"]
    assert [[1.5, 1.5], [6, 6], [16, 0]] == blocks[0].tolist()
    # An image of 2 by 3 pixels; below distance 2 are all but the far corner... of row 0: 2 columns.
    image = {"Q": [[0.0] * 6], "K": [[0.0] * 6], "V": [[1.0, 2, 4, 8, 16, 32]]}
    text = {"KT": [[0.0]], "VT": [[0.0]]}
    disk = result("clear-disk", {}, {"width": 3, "radius": 2}, **image, **text)["AV"][0]
    # (0,0): itself, right, below, diagonal: 1 + 2 + 8 + 16 over 4 and the text.
    assert disk[0] == pytest.approx(27 / 5)
    assert disk[4] == pytest.approx(63 / 7)
    regions = {"Q": [[1.0, 1, 1, 1]], "K": [[0.0, 0, 5, 5]], "V": [[1.0, 2, 4, 8]]}
    found = result("bra-biformer", {"M0": 2, "K": 1}, **regions)["AV"]
    assert [[6, 6], [6, 6]] == found[0].tolist()


def test_a_window_of_heads_by_hand():
    """Head 0 sees 2 last keys; head 1 the first and itself."""
    arrays = {name: [values, values] for name, values in WINDOWS.items()}
    found = result("hetero-window", WH=[2.0, 1.0], WS=[0.0, 1.0], **arrays)["AV"]
    assert [1, 1.5, 3, 6, 12] == found[0, 0].tolist()
    assert [1, 1.5, 2.5, 4.5, 8.5] == found[1, 0].tolist()


def test_causal_references_agree_with_is_causal():
    rng = np.random.default_rng(1)
    q, k, v = (rng.normal(size=(size, 9)) for size in (4, 4, 3))
    found = result("causal-1pass", Q=q, K=k, V=v)["AV"]
    tensors = [torch.from_numpy(x.T.copy())[None] for x in (q, k, v)]
    same = torch.nn.functional.scaled_dot_product_attention(*tensors, is_causal=True)
    np.testing.assert_allclose(found, same[0].numpy().T, atol=1e-14)
    wide = result("window-1pass", {"W": 100}, Q=q, K=k, V=v)["AV"]
    np.testing.assert_allclose(found, wide, atol=1e-14)


def numbers(*shape, seed=3):
    return np.random.default_rng((seed, *shape)).normal(size=shape)


def test_linear_references_against_their_recurrences():
    """The states that the quadratic forms leave out, step by step in NumPy."""
    q, k, v, beta = numbers(4, 9), numbers(4, 9, seed=4) / 4, numbers(3, 9), np.full(9, 0.5)
    state, norm, replaced = np.zeros((4, 3)), np.zeros(4), np.zeros((4, 3))
    faded = np.zeros((4, 3))
    phi = np.vectorize(lambda x: x + 1 if x > 0 else math.exp(x))
    causal, delta, decay = [], [], []
    for m in range(9):
        state, norm = state + np.outer(phi(k[:, m]), v[:, m]), norm + phi(k[:, m])
        causal.append(phi(q[:, m]) @ state / (phi(q[:, m]) @ norm))
        wrong = v[:, m] - replaced.T @ k[:, m]
        replaced = replaced + beta[m] * np.outer(k[:, m], wrong)
        delta.append(replaced.T @ q[:, m])
        faded = 0.75 * faded + np.outer(k[:, m], v[:, m])
        decay.append(faded.T @ q[:, m])
    given = {"Q": q, "K": k, "V": v}
    gamma = {"parameters": {"gamma": 0.75}}
    close = {"atol": 1e-13}
    np.testing.assert_allclose(result("linear-causal", **given)["AV"].T, causal, **close)
    np.testing.assert_allclose(result("delta-rule", **given, B=beta)["AV"].T, delta, **close)
    found = result("linear-decay-recurrent", **gamma, **given)["AV"]
    np.testing.assert_allclose(found.T, decay, **close)
    tiles = result("lightning2-chunked", {"M0": 4}, **gamma, **given)["AV"]
    np.testing.assert_allclose(tiles.reshape(3, 12)[:, :9].T, decay, **close)


def test_limits_that_are_plain_attention():
    """A cap that is far away, a temperature of 1, no bias, a wide window, all keys selected."""
    q, k, v = numbers(4, 6), numbers(4, 6, seed=5), numbers(3, 6)
    plain = result("softmax-3pass", Q=q, K=k, V=v)["AV"]
    close = {"atol": 1e-9}
    given = {"Q": q, "K": k, "V": v}
    same = {
        "logit-softcap": ({}, {"cap": 1e7}, {}),
        "logit-bias": ({}, {}, {"B": np.zeros((6, 6))}),
        "softmax-sink": ({}, {}, {"B": -100.0}),
        "na-1d": ({"W": 6}, {}, {}),
        "topk-selected": ({"K": 6}, {}, {}),
        "quest-page": ({"K": 3, "M0": 2}, {}, {}),
        "group-scaled": ({}, {"keep": 1.0}, {"S": np.eye(6)[0], "I": np.eye(6)[1]}),
        "kv-bias": ({}, {}, {"KB": np.zeros((4, 0)), "VB": np.zeros((3, 0))}),
    }
    for name, (sizes, parameters, more) in same.items():
        found = result(name, sizes, parameters, **given, **more)["AV"]
        np.testing.assert_allclose(found, plain, **close, err_msg=name)
    heads = {"Q": q[None], "K": k[None], "V": v[None], "WH": [6.0], "WS": [0.0]}
    causal = result("causal-1pass", **given)["AV"]
    np.testing.assert_allclose(result("hetero-window", **heads)["AV"][0], causal, **close)
    slope = result("alibi", **given, SL=0.0)["AV"]
    np.testing.assert_allclose(slope, causal, **close)


def test_two_ways_to_one_result():
    """Latents absorbed or not, and the agents of one agent."""
    oracle, cascade = ORACLES["mla-latent"], SHIPPED["mla-latent"]
    case = made(cascade, oracle, {"H": 2, "E": 3, "D": 2, "R": 4, "F": 3, "M": 5, "P": 4})
    found = ec.evaluate(SHIPPED["mla-absorbed"], **case.arrays)["AV"]
    np.testing.assert_allclose(found, ec.evaluate(cascade, **case.arrays)["AV"], atol=1e-13)
    q, k, v = numbers(4, 6), numbers(4, 8, seed=6), numbers(3, 8)
    one = result("agent", {"A": 1}, Q=q, K=k, V=v)["AV"]
    mean = result("softmax-3pass", Q=q.mean(1, keepdims=True), K=k, V=v)["AV"]
    np.testing.assert_allclose(one.reshape(3, 6), np.repeat(mean, 6, 1), atol=1e-14)


# ---- the command ----


@pytest.fixture
def command(monkeypatch):
    """Run the command in this process, interpreted only: compiling takes long."""
    monkeypatch.setattr(verification, "ENGINES", NAIVE)

    def run(*arguments):
        return CliRunner().invoke(app, ["verify", *map(str, arguments)])

    return run


def test_json_has_a_row_for_each_dtype(command):
    done = command("softmax-naive", "--json")
    assert done.exit_code == 0
    found = json.loads(done.stdout)["results"]
    assert [("softmax-naive", "float64"), ("softmax-naive", "bf16")] == [
        (row["cascade"], row["dtype"]) for row in found
    ]
    for row in found:
        assert row["passed"] is True
        assert 0 <= row["max_error"] <= row["tolerance"]
        assert "scaled_dot_product_attention" in row["reference"]
        assert "overflows" in row["excluded"]["large"]
        assert {"inputs", "engine", "max_error", "tolerance", "max_ulp"} <= row["cases"][0].keys()
    assert 1e-12 == found[0]["tolerance"]


def test_table(command):
    done = command("softmax-naive", "--jobs", "1")
    assert done.exit_code == 0
    assert "2 rows, 0 failed; forward computations only" in done.stdout
    assert "large: exp of a logit above 709 overflows" in done.stdout


@pytest.fixture
def broken(tmp_path):
    """Attention that divides by E instead of its root."""
    path = tmp_path / "broken.yaml"
    text = str(SHIPPED["softmax-3pass"]).replace("sqrt(E)", "E")
    lines = "\n".join(f"  {line}" for line in text.splitlines())
    path.write_text(f"name: broken\ncascade: |\n{lines}\n", encoding="utf-8")
    return path


def test_a_wrong_scale_ends_with_1(command, broken):
    done = command(broken, "--against", "softmax-3pass", "--json")
    assert done.exit_code == 1
    assert [False, False] == [row["passed"] for row in json.loads(done.stdout)["results"]]
    assert "FAILED" in command(broken, "--against", "softmax-3pass").stdout


def test_a_derived_cascade_meets_the_reference_of_its_source(command, tmp_path):
    from einsum_cascade.catalog import write_cascade

    path = tmp_path / "mine.yaml"
    write_cascade(ec.derive(ec.load("softmax-3pass"), "m", tile=True).cascade, path)
    done = command(path, "--against", "softmax-3pass", "--json")
    assert done.exit_code == 0


def test_a_cascade_of_ones_own_has_no_reference(command, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\ncascade: |\n  Z[p] = max[m](A[m,p])\n", encoding="utf-8")
    done = command(path, "--json")
    assert done.exit_code == 0
    (row,) = json.loads(done.stdout)["results"]
    assert row["reference"].startswith("none")
    assert {"compiled"} == {case["engine"] for case in row["cases"]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("softmax-3pas",), "unknown cascade 'softmax-3pas'"),
        (("all", "--against", "softmax-3pass"), "is for one cascade"),
        (("softmax-3pass", "--against", "softmax"), "no reference 'softmax'"),
        (("toy-deferred", "--against", "softmax-3pass"), "softmax-3pass has inputs Q, K, V"),
    ],
)
def test_bad_input(command, arguments, message):
    found = command(*arguments).exception
    assert message in str(found)


def test_without_pytorch(command, monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "torch" else find(name)
    )
    error = command("softmax-3pass").exception
    assert isinstance(error, ValueError)
    assert "PyTorch is the oracle, and is not installed" in str(error)
    assert 'pip install ".[torch]"' in str(error)
