"""Derived cascades: the table of expected rewrites, independent formulas, options, refusals."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import archsim
import einsum_cascade as ec
from einsum_cascade.correspondence import correspondence
from einsum_cascade.derivation import checker
from einsum_cascade.derivation.certificate import Certificate
from einsum_cascade.derivation.checker import check
from einsum_cascade.derivation.comparison import largest_difference

TABLE = yaml.safe_load((Path(__file__).parent / "golden" / "pass_numbers.yaml").read_text())[
    "cases"
]
ROWS = [(case, row) for case in TABLE for row in case.get("rewritten", [])]
NAMES = [f"{case['name']}-{row['reduced_variable']}" for case, row in ROWS]
# Every value of every option, and every pair of tile and split.
WAYS = [
    {"tile": tile, "split": split, "reference": reference}
    for tile, split, reference in [
        (False, False, "prefix"),
        (True, False, "prefix"),
        (False, True, "prefix"),
        (True, True, "lazy"),
        (False, False, "lazy"),
        (True, False, "power-of-two"),
    ]
]


def text_of(name):
    return next(case["cascade"] for case in TABLE if case["name"] == name)


@pytest.mark.parametrize("tile", [False, True])
@pytest.mark.parametrize(("case", "row"), ROWS, ids=NAMES)
def test_expected_rewrites(case, row, tile):
    source = ec.parse(case["cascade"], case["name"])
    found = ec.derive(source, row["reduced_variable"], tile)
    if row["passes_after"] == "refused":
        assert found.refused
        assert found.passes_after == found.passes_before
        assert found.cascade == source
        return
    assert row["passes_after"] == found.passes_after
    assert row["rules"] == [rule for rule, _ in found.rules]
    assert found.max_error <= 1e-12
    assert set(found.cascade.inputs) == set(source.inputs)
    assert set(found.cascade.outputs) == set(source.outputs)
    # What is printed is what was checked.
    assert ec.parse(found.text).einsums == found.cascade.einsums


def test_all_rewrites_are_there():
    assert len(ROWS) == 28


# ---- the one-pass cascade is derived, not transcribed ----


@pytest.mark.parametrize(
    ("name", "variable"), [("softmax-3pass", "m"), ("softmax-3pass-deferred", "m")]
)
def test_the_derived_cascade_is_the_shipped_one_pass_cascade(name, variable):
    """Equal up to names, inlined maps and rank order."""
    derived = ec.derive(ec.load(name), variable, tile=True).cascade
    shipped = ec.load("softmax-1pass")
    pairs = correspondence(derived, shipped)
    assert pairs is not None
    assert {"K": "K", "RGM": "RM", "RSD": "RD", "LGM": "LM", "AV": "AV"}.items() <= pairs.items()
    assert correspondence(shipped, derived) is not None


def test_what_differs_does_not_correspond():
    one = ec.load("softmax-1pass")
    for old, new in [
        ("max[m0]", "min[m0]"),
        ("RM[m1,p] - RM[m1+1,p]", "RM[m1+1,p] - RM[m1,p]"),
        ("SLN[m1,m0,p]*V", "QK[m1,m0,p]*V"),
        ("RNV[M1,f,p]/RD[M1,p]", "RNV[M1,f,p]*RD[M1,p]"),
        ("QK[m1,m0,p] - RM[m1+1,p]", "QK[m1,m0,p] - RM[m1,p]"),
        ("RD[0,p] = 0", "RD[0,p] = 1"),
    ]:
        other = ec.parse(str(one).replace(old, new))
        assert str(other) != str(one)
        assert correspondence(one, other) is None
    renamed = ec.parse(
        str(one)
        .replace("SLNV", "TMP")
        .replace("p]", "q]")
        .replace(",p", ",q")
        .replace("Q[e,q]", "Q[e,p]")
    )
    assert correspondence(one, renamed) is None  # Q over another rank is another input


def test_the_derived_file_lowers_to_the_program_of_the_shipped_cascade(tmp_path, archsim_command):
    path = tmp_path / "mine.yaml"
    archsim_command("derive", "softmax-3pass", "--reduce", "m", "--tile", "-o", str(path))
    mine, shipped = ec.load(str(path)), ec.load("softmax-1pass")
    assert (mine.name, ec.passes(mine, "M").passes, ec.passes(mine, "M0").passes) == ("mine", 1, 2)
    for arch, mapping, sizes in [
        ("fusemax-4x4", "fusemax-serial", {"M": 8, "P": 4, "E": 4, "F": 4}),
        ("fusemax-4x4", "fusemax-ahead", {"M": 8, "P": 4, "E": 4, "F": 4}),
        ("fusemax", "fusemax", {"M": 1024, "P": 512, "E": 64, "F": 64}),
    ]:
        work = ec.workload(**sizes)
        one = archsim.lower(
            mine, work, archsim.load_architecture(arch), archsim.load_mapping(mapping)
        )
        other = archsim.lower(
            shipped, work, archsim.load_architecture(arch), archsim.load_mapping(mapping)
        )
        assert str(one).replace("program mine", "program softmax-1pass") == str(other)
    report = archsim.run(
        mine, ec.workload(M=8, P=4, E=4, F=4), "fusemax-4x4", "fusemax-serial", level="pe"
    )
    assert report.cycles == 59


SMALL = "--arch fusemax-4x4 --mapping fusemax-ahead --set M=8,P=4,E=4,F=4"


@pytest.mark.parametrize(
    "line",
    [
        "passes {}",
        "bounds {}",
        "derive {} --reduce m",
        "run {} --model bert --arch fusemax --mapping fusemax --set M=4096,P=4096",
        f"run {{}} {SMALL} --level tile",
        f"lower {{}} {SMALL}",
        f"explain {{}} {SMALL}",
    ],
)
def test_every_command_takes_a_derived_file(tmp_path, archsim_command, line):
    path = tmp_path / "mine.yaml"
    archsim_command("derive", "softmax-3pass", "--reduce", "m", "--tile", "-o", str(path))
    done = archsim_command(*line.format(path).split())
    assert done.returncode == 0
    assert "mine" in done.stdout


@pytest.mark.parametrize("name", ["softmax-1pass", "softmax-naive-deferred", "toy-iterative"])
def test_one_pass_cascades_stay_as_they_are(name):
    source = ec.load(name)
    found = ec.derive(source, "k" if name.startswith("toy") else "m", tile=True)
    assert found.cascade == source
    assert (found.rules, found.refused, found.certificates) == ((), (), ())


@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(map(str, way.values())))
def test_deriving_again_changes_nothing(way):
    once = ec.derive(ec.load("softmax-3pass"), "m", **way)
    again = ec.derive(once.cascade, "m", **way)
    assert (once.passes_after, again.passes_before, again.passes_after) == (1, 1, 1)
    assert again.cascade == once.cascade


def test_the_two_pass_cascade_runs_along_its_tiles():
    found = ec.derive(ec.load("softmax-2pass"), "m")
    assert (found.reduce, found.passes_before, found.passes_after) == ("m1", 2, 1)
    assert [rule for rule, _ in found.rules] == ["rescale", "hoist", "rescale"]


# ---- values against formulas of our own ----

CAUSAL = """
QK[m,p] = Q[e,p]*K[e,m] where m <= p
GM[p] = max[m](QK[m,p])
SN[m,p] = exp(QK[m,p] - GM[p])
SD[p] = sum[m](SN[m,p])
AV[f,p] = SN[m,p]*V[f,m]/SD[p]
"""
WINDOW = """
QK[h,m,p] = Q[h,e,p]*K[e,m] where m > p - WH[h] and m <= p
GM[h,p] = max[m](QK[h,m,p])
SN[h,m,p] = exp(QK[h,m,p] - GM[h,p])
SD[h,p] = sum[m](SN[h,m,p])
AV[h,f,p] = SN[h,m,p]*V[f,m]/SD[h,p]
"""
UNION = """
rank M = T + N
L[t,p] = Q[e,p]*KT[e,t]
L[T+n,p] = Q[e,p]*KN[e,n]
V[f,t] = VT[f,t]
V[f,T+n] = VN[f,n]
GM[p] = max[m](L[m,p])
SN[m,p] = exp(L[m,p] - GM[p])
SD[p] = sum[m](SN[m,p])
AV[f,p] = SN[m,p]*V[f,m]/SD[p]
"""
SELF = """
var m, p in N
QK[m,p] = X[p,e]*X[m,e]
GM[p] = max[m](QK[m,p])
SN[m,p] = exp(QK[m,p] - GM[p])
SD[p] = sum[m](SN[m,p])
AV[f,p] = SN[m,p]/SD[p]*V[f,m]
"""
MASKED = """
QK[m,p] = Q[e,p]*K[e,m]
L[m,p] = where(m <= p, QK[m,p], -inf)
GM[p] = max[m](L[m,p])
SN[m,p] = where(m <= p, exp(QK[m,p] - GM[p]), 0)
SD[p] = sum[m](SN[m,p])
AV[f,p] = SN[m,p]*V[f,m]/SD[p]
"""
PERFORMER = """
KP[m,j] = K[m,e]*W[e,j] where m > 2
MX = max[m,j](KP[m,j])
KF[m,j] = exp(KP[m,j] - MX) + eps
KV[j,f] = sum[m](KF[m,j]*V[m,f])
Z[j] = sum[m](KF[m,j])
O[j,f] = KV[j,f]/Z[j]
"""


def softmax(logits, values, keep):
    """Rows that see no key give 0."""
    out = np.zeros((values.shape[0], logits.shape[1]))
    for p in range(logits.shape[1]):
        seen = [m for m in range(logits.shape[0]) if keep(m, p)]
        if seen:
            weights = np.exp(logits[seen, p] - logits[seen, p].max())
            out[:, p] = values[:, seen] @ weights / weights.sum()
    return out


@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(map(str, way.values())))
@pytest.mark.parametrize("keys", [1, 5, 13])
def test_causal_attention_against_a_loop(way, keys):
    draw = np.random.default_rng(keys)
    q, k, v = (draw.normal(size=(3, n)) for n in (7, keys, keys))
    found = ec.derive(ec.parse(CAUSAL, "causal"), "m", **way)
    assert (found.passes_before, found.passes_after) == (3, 1)
    for m0 in (1, 4, 16):
        sizes = {"M0": m0} if found.cascade.splits else {}
        if found.cascade.splits and len(found.cascade.splits[0][1]) == 3:
            sizes["M1"] = 2
        out = ec.evaluate(found.cascade, Q=q, K=k, V=v, sizes=sizes)["AV"]
        expected = softmax(k.T @ q, v, lambda m, p: m <= p)
        np.testing.assert_allclose(out, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(map(str, way.values())))
def test_windows_per_head_against_a_loop(way):
    draw = np.random.default_rng(5)
    q, k, v = draw.normal(size=(3, 2, 9)), draw.normal(size=(2, 9)), draw.normal(size=(4, 9))
    windows = np.array([1, 3, 20])
    found = ec.derive(ec.parse(WINDOW, "window"), "m", **way)
    out = ec.evaluate(found.cascade, Q=q, K=k, V=v, WH=windows, sizes=_tiles(found))["AV"]
    for h, width in enumerate(windows):
        expected = softmax(k.T @ q[h], v, lambda m, p, width=width: p - width < m <= p)
        np.testing.assert_allclose(out[h], expected, rtol=1e-12, atol=1e-14)


def _tiles(found):
    parts = found.cascade.splits[0][1][1:] if found.cascade.splits else ()
    return {part: 2 + i for i, part in enumerate(parts)}


@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(map(str, way.values())))
@pytest.mark.parametrize(
    ("text", "rules"),
    [
        (UNION, ["rescale", "hoist", "rescale"]),
        (SELF, ["rescale", "hoist", "rescale"]),
        (MASKED, ["rescale", "hoist", "rescale"]),
        (PERFORMER, ["module(2)", "module(2)"]),
        (text_of("differential-attention"), ["rescale", "rescale", "module(2)"]),
        (text_of("covariance-centred"), ["module(4)"]),
        (text_of("layernorm"), ["module(3)"]),
    ],
    ids=["union", "self", "masked", "performer", "differential", "covariance", "layernorm"],
)
def test_every_form_of_every_rule(way, text, rules):
    """`derive` itself compares values; here other sizes of tiles than it took."""
    source = ec.parse(text, "mine")
    variable = next(v for v in "ndm" if any(v in e.over for e in source.einsums))
    found = ec.derive(source, variable, **way)
    assert [rule for rule, _ in found.rules] == rules
    assert found.passes_after < found.passes_before
    assert found.max_error < 1e-12
    assert largest_difference(source, found.cascade, source.rank_of(variable)) < 1e-12


def test_one_softmax_over_two_key_sources():
    """A concatenated rank lets the derivation see one softmax over text and image keys."""
    draw = np.random.default_rng(0)
    found = ec.derive(ec.parse(UNION, "union"), "m")
    arrays = {
        n: draw.normal(size=(2, s)) for n, s in {"Q": 3, "KT": 4, "KN": 5, "VT": 4, "VN": 5}.items()
    }
    out = ec.evaluate(found.cascade, **arrays)["AV"]
    keys = np.concatenate([arrays["KT"], arrays["KN"]], axis=1)
    values = np.concatenate([arrays["VT"], arrays["VN"]], axis=1)
    expected = softmax(keys.T @ arrays["Q"], values, lambda m, p: True)
    np.testing.assert_allclose(out, expected, rtol=1e-12)
    assert (found.passes_before, found.passes_after) == (3, 1)


# ---- reference trajectories ----


def _references(reference, logits):
    """The reference after each key, from the derived cascade's own recurrence."""
    found = ec.derive(ec.parse(text_of("logsumexp"), "lse"), "m", reference=reference)
    text = found.text.replace("output L", f"output L, {'R' if reference == 'prefix' else 'F'}GM")
    out = ec.evaluate(ec.parse(text), Q=np.ones((1, 1)), K=logits[None, :])
    assert abs(out["L"][0] - np.logaddexp.reduce(logits)) < 1e-12
    return out["RGM" if reference == "prefix" else "FGM"][1:, 0]


def test_references_move_less_often_and_give_the_same():
    """Random walk of 400 logits; corrections of power-of-two references are powers of two."""
    logits = np.cumsum(np.random.default_rng(1).normal(size=400))
    moves = {
        r: int(np.count_nonzero(np.diff(_references(r, logits))))
        for r in ("prefix", "lazy", "power-of-two")
    }
    assert moves["lazy"] < moves["power-of-two"] < moves["prefix"]
    steps = np.diff(_references("power-of-two", logits)) / np.log(2)
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-9)
    lazy, prefix = _references("lazy", logits), _references("prefix", logits)
    assert (prefix - lazy <= 8).all()
    assert (prefix >= lazy).all()


def test_splits_merge_by_the_action_of_the_certificate():
    """The merge of FlashDecoding: each split keeps its own maximum and sums."""
    found = ec.derive(ec.load("softmax-3pass"), "m", split=True, tile=True)
    lines = found.text.splitlines()
    assert "rank M = M2*M1*M0" in lines
    assert "MGM[p] = max[m2](RGM[m2,M1,p])" in lines
    assert "MSD[p] = sum[m2](RSD[m2,M1,p]*exp(RGM[m2,M1,p] - MGM[p]))" in lines
    assert "AV[f,p] = MAV[f,p]/MSD[p]" in lines


def test_variance_is_moved_by_taylor_not_by_sums_of_powers():
    """With a mean of 1e6, sums of squares lose all digits; the derived form keeps ten."""
    text = "S[n] = sum[d](X[n,d])\nV[n] = sum[d]((X[n,d] - S[n]/D)**2)"
    found = ec.derive(ec.parse(f"{text}\nY[n] = V[n]/D + 0*S[n]", "variance"), "d")
    assert found.rules == (("module(3)", "V"),)
    (certificate,) = found.certificates
    assert certificate.basis[0] == "(X[n,d] - S[n]/D)**2"


# ---- refusals ----


def test_refusals_name_the_einsum_and_the_reason():
    found = ec.derive(ec.parse(text_of("softmax-temperature-data"), "temperature"), "m")
    ((einsum, reason),) = found.refused
    assert einsum == "SD"
    assert reason.startswith("it waits for TS[p]: the maps for different values span more than 4")
    found = ec.derive(ec.parse(text_of("topk-selected"), "topk"), "m")
    assert found.refused == (("I", "argtopk over m selects coordinates by the data"),)
    assert "refused    I: argtopk over m" in str(found)


def test_what_a_sum_over_another_index_hides_is_not_rewritten():
    """Y reaches QK through a sum over e: K must be normalised before the first logit."""
    text = """
S[e] = sum[m](K[e,m]**2)
QK[m,p] = sum[e](Q[e,p]*K[e,m]/S[e])
Z[p] = sum[m](exp(QK[m,p]))
"""
    found = ec.derive(ec.parse(text, "columns"), "m")
    assert found.refused == (("Z", "it reaches S through more than maps"),)
    assert (found.passes_before, found.passes_after) == (2, 2)


def test_a_product_of_running_maps_is_refused():
    found = ec.derive(ec.parse("S = sum[k](A[k])\nZ = prod[k](A[k] + S)", "product"), "k")
    assert found.refused[0][0] == "Z"
    assert found.passes_after == 2


def test_wrong_arguments_name_what_is_legal():
    source = ec.load("softmax-3pass")
    with pytest.raises(
        ec.CascadeError, match=r"no variable 'n'.*\n.*variables of softmax-3pass: e"
    ):
        ec.derive(source, "n")
    with pytest.raises(
        ec.CascadeError, match=r"reference: unknown reference 'lasy'(.|\n)*did you mean 'lazy'"
    ):
        ec.derive(source, "m", reference="lasy")
    assert ec.derive(source, "M").reduce == "m"


# ---- inputs on which a careless rewrite goes wrong ----


@pytest.mark.parametrize("tile", [False, True])
def test_sums_that_vanish_on_the_way(tile):
    """The weighted variance of 0, 1, 2, 5 is 3.5; so is a quotient with a prefix sum of zero."""
    text = """
SW = sum[m](W[m])
MU = sum[m](W[m]*X[m])
ME = MU/SW
VA = sum[m](W[m]*(X[m] - ME)**2)
O = VA/SW
"""
    found = ec.derive(ec.parse(text), "m", tile)
    for values, expected in [([0, 1, 2, 5], 3.5), ([1, -1, 2, 5], 4.6875)]:
        out = ec.evaluate(found.cascade, W=np.ones(4), X=np.array(values))["O"]
        assert abs(out - expected) < 1e-12
    ratio = ec.derive(ec.parse("S = sum[m](X[m])\nY = sum[m](X[m]/S + X[m]**2)"), "m", tile)
    assert ec.evaluate(ratio.cascade, X=np.array([1, -1, 2, 5]))["Y"] == 32


WINDOWED = """
var n, p in N
input K[n,e], V[n,f]
QK[p,w] = Q[p,e]*K[p+w-W//2,e]
GM[p] = max[w](QK[p,w])
SN[p,w] = exp(QK[p,w] - GM[p])
SD[p] = sum[w](SN[p,w])
O[p,f] = sum[w](SN[p,w]*V[p+w-W//2,f]/SD[p])
"""


@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(map(str, way.values())))
@pytest.mark.parametrize("width", [1, 3, 5])
def test_windows_in_tiles_that_are_longer(way, width):
    source = ec.parse(WINDOWED)
    found = ec.derive(source, "w", **way).cascade
    draw = np.random.default_rng(0)
    arrays = {n: draw.normal(size=(4, 2)) for n in ("Q", "K", "V")}
    expected = ec.evaluate(source, sizes={"W": width}, **arrays)["O"]
    for tile in (2, 3, 16):
        parts = found.splits[0][1][1:] if found.splits else ()
        sizes = {"W": width, **dict.fromkeys(parts, tile)}
        out = ec.evaluate(found, sizes=sizes, **arrays)["O"]
        np.testing.assert_allclose(out, expected, rtol=1e-12)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(map(str, way.values())))
def test_filters_that_read_labels(way):
    """Packed documents: attention within a document only, ragged splits."""
    text = CAUSAL.replace("where m <= p", "where DOC[m] == DQ[p] and m <= p")
    source = ec.parse(text)
    found = ec.derive(source, "m", **way).cascade
    draw = np.random.default_rng(0)
    q, k, v = (draw.normal(size=(3, 5)) for _ in range(3))
    labels = np.array([0, 0, 1, 1, 1])
    expected = softmax(k.T @ q, v, lambda m, p: labels[m] == labels[p] and m <= p)
    for tile in (2, 3):
        parts = found.splits[0][1][1:] if found.splits else ()
        out = ec.evaluate(
            found, Q=q, K=k, V=v, DOC=labels, DQ=labels, sizes=dict.fromkeys(parts, tile)
        )["AV"]
        np.testing.assert_allclose(out, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("reference", ["prefix", "lazy", "power-of-two"])
def test_a_maximum_that_is_divided_by_is_its_own_reference(reference):
    text = "L = max[m](abs(X[m]))\nY = sum[m]((X[m]/L + 1)*W[m])"
    found = ec.derive(ec.parse(text), "m", reference=reference).cascade
    out = ec.evaluate(found, X=np.array([0, 1, 2]), W=np.ones(3))["Y"]
    assert out == 4.5


@pytest.mark.parametrize("reference", ["lazy", "power-of-two"])
def test_powers_of_two_take_other_references_too(reference):
    """The exponential of hardware; its corrections are powers, not exp."""
    text = text_of("softmax-stable-3pass").replace("exp(QK[m,p] - GM[p])", "2**(QK[m,p] - GM[p])")
    found = ec.derive(ec.parse(text), "m", reference=reference)
    assert (found.passes_before, found.passes_after) == (3, 1)
    assert "2**(QK[m,p] - FGM[m+1,p])" in found.text


def test_a_map_read_elsewhere_waits():
    """exp(QK[m+1] - GM) would run ahead of a running maximum, and overflow."""
    text = CAUSAL.replace(" where m <= p", "").replace("SN[m,p]*V[f,m]", "SN[m+1,p]*V[f,m]")
    found = ec.derive(ec.parse(text), "m")
    assert found.refused == (("AV", "it reaches GM through more than maps"),)
    assert found.passes_after == 2


@pytest.mark.parametrize(
    ("text", "variable", "passes"),
    [
        # A softmax of a softmax.
        (
            text_of("softmax-stable-3pass").replace("AV[f,p] = A[m,p]*V[f,m]", "")
            + "G2[p] = max[m](A[m,p])\nS2[m,p] = exp(A[m,p] - G2[p])\n"
            "D2[p] = sum[m](S2[m,p])\nAV[f,p] = S2[m,p]*V[f,m]/D2[p]",
            "m",
            (5, 2),
        ),
        # Self-attention with its own queries and keys.
        ("var m, p in N\n" + text_of("softmax-stable-3pass"), "m", (3, 1)),
        # A softmax over gathered keys.
        (
            "S[p,t] = Q[p,e]*K[I[p,t],e]\nG[p] = max[t](S[p,t])\nN[p,t] = exp(S[p,t] - G[p])\n"
            "D[p] = sum[t](N[p,t])\nO[p,f] = sum[t](N[p,t]*V[I[p,t],f]/D[p])",
            "t",
            (3, 1),
        ),
        # Softmin: a running minimum starts at infinity.
        (
            text_of("logsumexp")
            .replace("max[m]", "min[m]")
            .replace("QK[m,p] - GM[p]", "GM[p] - QK[m,p]"),
            "m",
            (2, 1),
        ),
    ],
    ids=["softmax-of-softmax", "self-attention", "gathered", "softmin"],
)
@pytest.mark.parametrize("way", WAYS[:4], ids=lambda way: "-".join(map(str, way.values())))
def test_further_cascades(text, variable, passes, way):
    found = ec.derive(ec.parse(text), variable, **way)
    assert passes == (found.passes_before, found.passes_after)


# ---- the command ----


def test_json_of_the_command(archsim_command):
    done = archsim_command("derive", "softmax-3pass", "--reduce", "m", "--json")
    data = json.loads(done.stdout)
    assert {
        "cascade",
        "reduce",
        "passes_before",
        "passes_after",
        "rules",
        "refused",
        "text",
        "certificates",
    } <= data.keys()
    assert data["rules"] == [["rescale", "SD"], ["hoist", "AV"], ["rescale", "AV"]]
    assert ec.passes(ec.parse(data["text"]), "M").passes == data["passes_after"] == 1


def test_the_output_must_be_a_yaml_file(tmp_path, archsim_command):
    out = str(tmp_path / "mine.txt")
    done = archsim_command("derive", "softmax-3pass", "--reduce", "m", "-o", out)
    assert done.returncode == 2
    assert "a cascade is a YAML file" in done.stderr
    assert not list(tmp_path.iterdir())


# ---- random cascades ----

FACTORS = [
    "A[m]",
    "exp(A[m])",
    "B[m,p]",
    "C[p]",
    "relu(B[m,p])",
    "exp(A[m] - {r})",
    "{r}",
    "exp({r}*C[p])",
    "(B[m,p] - {r}/M)**2",
    "(B[m,p] + {r})",
    "1/(1 + {r}**2)",
    "where(m < 3, B[m,p], 1)",
    "exp(B[m,p] - max({r}, C[p]))",
    "exp(A[m] - {r})",
    "(exp(B[m,p] - {r}) + 0.5)",
]


@st.composite
def chains(draw):
    """Reductions over m, each of a random product that may read those before it."""
    lines, results = [], ["C[p]"]
    for i in range(draw(st.integers(2, 4))):
        op = draw(st.sampled_from(["sum", "sum", "max", "min"]))
        count = draw(st.integers(1, 3))
        factors = [
            draw(st.sampled_from(FACTORS)).format(r=draw(st.sampled_from(results)))
            for _ in range(count)
        ]
        if not any("m]" in f or "m," in f for f in factors):
            factors.append("B[m,p]")
        join = "*" if op == "sum" else "+"
        where = draw(st.sampled_from(["", "", " where m <= p", " where m != 2"]))
        lines.append(f"R{i}[p] = {op}[m]({join.join(factors)}){where}")
        results.append(f"R{i}[p]")
    lines.append("Z[p] = " + " + ".join(f"tanh({r})" for r in results[1:]))
    return "\n".join(lines)


@settings(max_examples=50, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(text=chains(), tile=st.booleans(), split=st.booleans())
def test_random_chains_of_reductions(text, tile, split):
    """`derive` raises if certificates, values or legality fail; passes never grow."""
    source = ec.parse(text, "chain")
    if not {"A", "B"} & set(source.inputs):
        return
    found = ec.derive(source, "m", tile, split=split)
    assert found.passes_after <= found.passes_before
    assert (
        ec.derive(
            found.cascade, found.reduce if not found.cascade.splits else "m", tile
        ).passes_after
        <= found.passes_after
    )


# ---- certificates ----

CERTIFIED = [
    (text_of(name), variable)
    for name, variable in [
        ("softmax-stable-3pass", "m"),
        ("differential-attention", "m"),
        ("covariance-centred", "n"),
        ("softmax-sink", "m"),
        ("fusemax-1-two-pass-toy", "k"),
        ("performer-stabilised", "m"),
    ]
]
MAXIMA = "R[p] = max[m](A[m,p])\nT[p] = max[m](B[m,p] - R[p])\nZ[p] = T[p]*R[p]", "m"


def changed(texts, i):
    """Every small change of one text of a tuple."""
    double = f"2*({texts[i]})" if texts[i] != "0" else "2"
    for new in (double, f"{texts[i]} + 1", f"exp({texts[i]})"):
        yield (*texts[:i], new, *texts[i + 1 :])


def mutants(one):
    """Certificates that claim something else."""
    for new in (f"2*({one.map})", f"{one.map} + 1", "QQ[", "0"):
        yield replace(one, map=new)
    yield replace(one, reduction="min")
    yield replace(one, references=())
    yield replace(one, einsum="NOTHING")
    for i in range(len(one.basis)):
        for basis in changed(one.basis, i):
            yield replace(one, basis=basis)
        for coefficients in changed(one.coefficients, i):
            yield replace(one, coefficients=coefficients)
    yield replace(one, basis=(*one.basis, one.basis[0]))
    yield replace(one, coefficients=())
    for i, row in enumerate(one.action):
        for j in range(len(row)):
            for new in changed(row, j):
                yield replace(one, action=(*one.action[:i], new, *one.action[i + 1 :]))
    if one.action:
        yield replace(one, action=one.action[:-1])
        yield replace(one, action=())


@pytest.mark.parametrize(("text", "variable"), [*CERTIFIED, MAXIMA])
def test_every_mutated_certificate_is_rejected(text, variable):
    source = ec.parse(text)
    found = ec.derive(source, variable)
    assert found.certificates
    assert check(source, found.certificates) == ()
    for i, one in enumerate(found.certificates):
        before, after = found.certificates[:i], found.certificates[i + 1 :]
        for mutant in mutants(one):
            if mutant != one and not (one.rule == "hoist" and mutant.references == ()):
                assert check(source, (*before, mutant, *after)), mutant


def test_certificates_of_another_cascade_are_rejected():
    found = ec.derive(ec.load("softmax-3pass"), "m")
    assert check(ec.load("softmax-3pass-deferred"), found.certificates)
    # A hoist alone leaves the running maximum in the reduction.
    (hoist,) = [one for one in found.certificates if one.rule == "hoist"]
    assert "AV still depends on GM[p]" in check(ec.load("softmax-3pass"), [hoist])


def test_the_checker_is_small_and_shares_no_code_with_the_derivation():
    text = Path(checker.__file__).read_text()
    assert len(text.splitlines()) <= 100
    imported = set(re.findall(r"from einsum_cascade\.derivation\.(\w+)", text))
    assert imported == {"certificate", "claims"}
    claims = Path(checker.__file__).with_name("claims.py").read_text()
    assert "einsum_cascade.derivation" not in claims


def certificate(**changes):
    """The rescaling of a sum of exponentials, with changes."""
    good = Certificate(
        "S",
        "rescale",
        "sum",
        "exp(X[m,p] - GM[p])",
        ("GM[p]",),
        (),
        ("exp(X[m,p] - GM[p])",),
        ("1",),
        (("exp(GM[p] - GM_new[p])",),),
    )
    return replace(good, **changes)


EXPONENTIALS = "GM[p] = max[m](X[m,p])\nS[p] = sum[m](exp(X[m,p] - GM[p]))"


@pytest.mark.parametrize(
    ("text", "changes", "expected"),
    [
        (EXPONENTIALS, {}, None),
        (EXPONENTIALS + " where X[m,p] > GM[p] - 1", {}, "GM[p] is neither"),
        (EXPONENTIALS, {"rule": "hoist"}, "hoist of a sum is no rule"),
        (EXPONENTIALS, {"basis": ("exp(X[m,p] - ZZZ[p])",)}, "there is no ZZZ"),
        (EXPONENTIALS, {"action": (("exp(GM[p] - GM_new[p]) + 0*X[m,p]",),)}, "changes along"),
        (
            "GM[p] = max[m](X[m,p])\nS[p] = prod[m](X[m,p] - GM[p])",
            {
                "reduction": "prod",
                "map": "X[m,p] - GM[p]",
                "basis": ("X[m,p] - GM[p]",),
                "coefficients": ("0",),
                "action": (("GM[p] - GM_new[p]",),),
            },
            "rescale of a prod is no rule",
        ),
        (
            "G[0,p] = 0\nG[m+1,p] = G[m,p] + X[m,p]\nS[p] = sum[m](exp(X[m,p] - G[M,p]))",
            {
                "map": "exp(X[m,p] - G[M,p])",
                "basis": ("exp(X[m,p] - G[M,p])",),
                "references": (),
                "action": (("1",),),
            },
            "G[M,p] is neither a reference nor finished",
        ),
        (
            "GM[p] = max[m](X[m,p])\nZS[p] = sum[e](exp(GM[p]*W[e]))\n"
            "S[p] = sum[m](exp(X[m,p] - ZS[p]))",
            {
                "map": "exp(X[m,p] - ZS[p])",
                "basis": ("exp(X[m,p] - ZS[p])",),
                "references": (),
                "action": (("1",),),
            },
            "ZS[p] is neither a reference nor finished",
        ),
    ],
)
def test_certificates_that_would_justify_a_wrong_rewrite(text, changes, expected):
    wrong = check(ec.parse(f"{text}\nO[p] = S[p]*1"), [certificate(**changes)])
    assert (wrong == ()) if expected is None else any(expected in line for line in wrong)


def test_a_reference_that_may_still_be_empty_is_refused():
    """R0 has seen nothing yet at keys that only R1 counts: exp(A - -inf) would be infinite."""
    text = """
R0[p] = max[m](A[m]) where m <= p
R1[p] = sum[m](exp(A[m] - R0[p]))
Z[p] = R1[p]*R0[p]
"""
    found = ec.derive(ec.parse(text, "late"), "m")
    assert found.passes_after == 2
    ((einsum, reason),) = found.refused
    assert einsum == "R1"
    assert "R0 is empty until m <= p, but there is something to reduce" in reason
    both = text.replace("R0[p]))", "R0[p])) where m <= p")
    assert ec.derive(ec.parse(both, "late"), "m").passes_after == 1


# ---- the page ----


def test_the_page_shows_what_the_command_prints(archsim_command):
    page = (Path(__file__).parents[1] / "docs" / "derivation.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```console\n\$ archsim (.*?)\n(.*?)```", page, re.DOTALL)
    # The error is that of this machine's exponential.
    blank = re.compile(r"within \S+ on")
    shown = archsim_command(*block[0].split()).stdout
    assert blank.sub("within ... on", block[1]) == blank.sub("within ... on", shown)
    found = ec.derive(ec.parse(text_of("softmax-temperature-data")), "m")
    assert f"    refused    {': '.join(found.refused[0])}\n" in page
