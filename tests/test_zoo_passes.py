"""Passes of the shipped attention operators: by hand, by analysis and by counting on elements.

Each row says why. `softmax` is short for: the maximum and then the sum need all keys, and the
weights come after both, so that keys are met three times and values once.
"""

import pytest

import einsum_cascade as ec
from einsum_cascade.element_passes import count_passes

SOFTMAX = "maximum and sum each need all keys; weights come after both"
STATE = "a state takes in token by token"
WINDOW = "a window is a lookback of W tokens, whatever is done inside of it"
MASKED = "as far as the mask, which is data, leaves keys out; all keys would need three"
SUMS = "keys and values are summed up once"
# (cascade, rank): (passes of inputs, why); a pair is an interval.
ROWS: dict[tuple[str, str], tuple[dict[str, int | tuple[int, int]], str]] = {
    ("softmax-sink", "M"): ({"K": 3, "V": 1}, SOFTMAX),
    ("logit-bias", "M"): ({"K": 3, "B": 3, "V": 1}, SOFTMAX + "; the bias goes with the keys"),
    ("alibi", "M"): ({"K": 3, "V": 1}, SOFTMAX),
    ("logit-softcap", "M"): ({"K": 3, "V": 1}, SOFTMAX),
    ("kv-bias", "M"): ({"K": 3, "V": 1}, SOFTMAX),
    ("kv-bias", "N"): ({"KB": 3, "K": 3, "VB": 1, "V": 1}, SOFTMAX + ", of both sources"),
    ("ssa-temperature", "M"): ({"K": 3, "TV": 1, "V": 1}, SOFTMAX + "; tau is of the query"),
    ("softmax-entropy", "M"): ({"K": 3, "V": 1}, SOFTMAX + "; the entropy is one more sum"),
    ("head-scaled", "M"): ({"K": 3, "V": 1}, SOFTMAX),
    ("decode-gqa", "M"): ({"K": 3, "V": 1}, SOFTMAX),
    ("qk-norm", "M"): ({"K": 3, "V": 1}, SOFTMAX + "; the length of a key is its own"),
    ("differential-attention", "M"): ({"K1": 3, "K2": 3, "V": 1}, SOFTMAX + ", side by side"),
    ("mla-latent", "M"): ({"C": 3, "KR": 3}, SOFTMAX + "; latents are keys and values"),
    ("mla-absorbed", "M"): ({"C": 3, "KR": 3}, SOFTMAX + "; latents are keys and values"),
    ("group-scaled", "M"): (
        {"K": 4, "S": 2, "I": 2, "V": 1},
        "what sinks give away is a sum of weights, and the keys take it after that",
    ),
    ("razor-compensation", "M"): ({"K": 2, "V": 1}, "divided at the end: only the maximum waits"),
    ("razor-compensation", "D"): ({"KD": 1, "VD": 1}, "means are sums"),
    ("sigmoid-norm", "M"): ({"K": 2, "V": 1}, "no maximum: only the sum waits"),
    ("hopfield-2-iterations", "M"): ({"K": 6}, "two softmaxes, one after the other"),
    ("agent", "M"): ({"K": 3, "V": 1}, SOFTMAX),
    ("agent", "P"): ({"Q": 2}, "the agents need all queries, and the queries come back to them"),
    ("sliding-window", "M"): ({"Q": 1, "K": 1, "V": 1}, WINDOW),
    ("na-1d", "M"): ({"Q": 1, "K": 1, "V": 1}, WINDOW),
    ("na-1d-dilated", "M"): ({"Q": 1, "K": 1, "V": 1}, WINDOW),
    ("na-2d", "X"): ({"Q": 1, "K": 1, "V": 1}, WINDOW),
    ("na-2d", "Y"): ({"Q": 1, "K": 1, "V": 1}, WINDOW),
    ("gna-1d", "M"): ({"K": (1, 3), "V": 1}, MASKED),
    ("gna-2d", "M"): ({"K": (1, 3), "V": 1}, MASKED),
    ("gna-2d-additional", "M"): ({"K": (1, 3), "V": 1}, MASKED),
    ("gna-2d-additional", "N"): (
        {"KA": (1, 3), "K": (1, 3), "VA": 1, "V": 1},
        "a softmax of both sources; the analysis takes the mask to be one of all of them",
    ),
    ("gna-3d", "M"): ({"K": (1, 3), "V": 1}, MASKED),
    ("gna-1d-gather", "M"): ({"Q": 1, "K": 1, "V": 1}, WINDOW),
    ("gna-2d-gather", "M"): ({"Q": 1, "K": 1, "V": 1}, WINDOW),
    ("gna-3d-gather", "M"): ({"Q": 1, "K": 1, "V": 1}, WINDOW),
    ("block-diagonal", "M"): ({"Q": 1, "K": 1, "V": 1}, "a block is a lookback of M0 tokens"),
    ("block-diagonal", "M0"): ({"Q": 1, "K": 3, "V": 1}, "inside of a block: " + SOFTMAX),
    ("hetero-window", "M"): (
        {"K": (1, 3), "V": 1},
        "as far as windows, which are data, leave keys out; all keys would need three",
    ),
    ("clear-disk", "M"): (
        {"Q": 1, "K": (1, 3), "V": 1},
        "a small disk is a window, one of the size of the image sees all keys",
    ),
    ("topk-selected", "M"): ({"K": 2, "V": 1}, "the selection needs all keys, some come back"),
    ("bra-biformer", "M"): ({"Q": 1, "K": 2, "V": 1}, "selected regions come back"),
    ("quest-page", "M"): ({"K": 2, "V": 1}, "selected pages come back"),
    ("hierarchical-coarse-fine", "M"): (
        {"Q": 1, "K": 1, "V": 1, "GC": 1, "GL": 1},
        "means of blocks are summaries, and the own block is a lookback",
    ),
    ("hierarchical-coarse-fine", "M0"): (
        {"Q": 1, "K": 3, "V": 1, "GC": 1, "GL": 1},
        "the own block: " + SOFTMAX,
    ),
    ("linear-causal", "M"): ({"Q": 1, "K": 1, "V": 1}, STATE),
    ("linear-decay-recurrent", "M"): ({"Q": 1, "K": 1, "V": 1}, STATE),
    ("lightning2-chunked", "M"): ({"Q": 1, "K": 1, "V": 1}, "a state takes in block by block"),
    ("based-taylor2", "M"): ({"Q": 1, "K": 1, "V": 1}, STATE),
    ("delta-rule", "M"): ({"Q": 1, "K": 1, "V": 1, "B": 1}, STATE + ", and is asked before"),
    ("norm-linear", "M"): ({"K": 1, "V": 1}, SUMS),
    ("linfusion", "M"): ({"K": 1, "V": 1}, SUMS),
    ("cosformer", "M"): ({"K": 1, "V": 1}, SUMS + "; the position is a number"),
    ("performer", "M"): ({"K": 2, "V": 1}, "exponents wait for their maximum"),
    ("flow-attention", "M"): (
        {"K": 4, "V": 1},
        "sum of features; the flow of queries that follows from it; maximum and sum of a softmax",
    ),
    ("flow-attention", "P"): ({"Q": 2}, "the outgoing flow needs all queries, and sends it back"),
    ("cross-covariance", "M"): (
        {"Q": 2, "K": 2, "V": 1},
        "rows are divided by their lengths, then multiplied; the map waits for that",
    ),
    ("mil-gated-pool", "N"): ({"X": 3}, "a patch is key and value: " + SOFTMAX),
}
IDS = [f"{name}-{rank}" for name, rank in ROWS]


@pytest.mark.parametrize(("name", "rank"), ROWS, ids=IDS)
def test_passes_by_hand_and_by_analysis(name, rank):
    expected, why = ROWS[name, rank]
    cascade = ec.load(name)
    found = ec.passes(cascade, rank)
    for tensor, number in expected.items():
        low, high = number if isinstance(number, tuple) else (number, number)
        assert (low, high) == (found.tensors[tensor], found.upper[tensor]), why
    assert expected.keys() == {name for name in found.tensors if name in cascade.inputs}


# These have graphs of a hundred thousand elements and more.
LARGE = {("na-2d", "X"), ("na-2d", "Y"), ("block-diagonal", "M0")}
LARGE |= {("hierarchical-coarse-fine", "M"), ("hierarchical-coarse-fine", "M0")}


@pytest.mark.parametrize(
    ("name", "rank"),
    [pytest.param(*row, marks=[pytest.mark.slow] * (row in LARGE)) for row in ROWS],
    ids=IDS,
)
def test_passes_counted_on_elements(name, rank):
    expected, why = ROWS[name, rank]
    # A window of 3 tokens that are 2 apart reaches 4 back.
    far = {"length": 20, "lookback": 5} if name == "na-1d-dilated" else {"length": 12}
    found = count_passes(ec.load(name), rank, **far)
    for tensor, number in expected.items():
        low, high = number if isinstance(number, tuple) else (number, number)
        assert low <= found[tensor].lower <= found[tensor].upper <= high, why


def test_every_attention_operator_has_a_row():
    elsewhere = ("softmax-", "toy-", "causal-", "window-")
    own = {name for name in ec.names("cascades") if not name.startswith(elsewhere)}
    own -= {"linear-attention", "sigmoid-attention", "relu-attention", "projection"}
    assert own <= {name for name, _ in ROWS}


# cascade: (variable, passes after the derivation, why not 1)
DERIVED = {
    "softmax-sink": ("m", 1, ""),
    "kv-bias": ("n", 1, ""),
    "clear-disk": ("n", 1, ""),
    "qk-norm": ("m", 1, ""),
    "mla-absorbed": ("m", 1, ""),
    "razor-compensation": ("m", 1, ""),
    "performer": ("m", 1, ""),
    "sigmoid-norm": ("m", 1, ""),
    "group-scaled": ("m", 1, ""),
    "cross-covariance": ("m", 1, ""),
    "softmax-entropy": ("m", 2, "the condition exp(QK[m,p] - GM[p])"),
    "flow-attention": ("m", 2, "it reaches SK through more than maps"),
    "topk-selected": ("m", 2, "argtopk over m selects coordinates by the data"),
    "hierarchical-coarse-fine": ("m", 3, "a recurrence steps along M1, which MC has twice"),
}


@pytest.mark.parametrize("name", DERIVED)
def test_what_can_be_derived_and_what_is_refused(name):
    variable, passes, reason = DERIVED[name]
    found = ec.derive(ec.load(name), variable)
    assert passes == found.passes_after <= found.passes_before
    assert found.max_error < 1e-12
    assert bool(reason) == bool(found.refused)
    assert reason in "".join(why for _, why in found.refused)


def test_a_size_in_a_filter_stays_in_a_derived_cascade():
    """G is the rank of a variable that nothing uses: it is there for the filter alone."""
    text = """
        var g in G
        S[m,p] = Q[e,p]*K[e,m] where G*m <= p
        GM[p] = max[m](S[m,p])
        N[m,p] = exp(S[m,p] - GM[p])
        D[p] = sum[m](N[m,p])"""
    found = ec.derive(ec.parse(text), "m")
    assert (2, 1) == (found.passes_before, found.passes_after)
    assert "var g in G" in str(found.cascade).splitlines()
