"""Which PyTorch reference a shipped cascade has, at which sizes it is tried, and what is left out.

The table is data: it names functions of the `torch_*` modules, so that reading it needs no PyTorch.
Where a family of inputs (`verification_inputs`) has no answer for a cascade, it is left out here,
with the reason; nothing is left out elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# Primes wherever a rank is free, and tiles that leave a rest.
SIZES = {"E": 7, "F": 5, "M": 31, "P": 17, "H": 3, "J": 2, "G": 3, "D": 3, "T": 3, "R": 6, "M0": 8}
SIZES |= {"S": 5, "L": 7, "W": 7}


@dataclass(frozen=True, slots=True)
class Oracle:
    """The reference of a cascade: which function it is, in words, and how it is tried."""

    # Module and function, of `archsim`.
    function: str
    words: str
    # What differs from SIZES; the value of each parameter that the cascade leaves open.
    sizes: Mapping[str, int] = field(default_factory=dict)
    parameters: Mapping[str, float] = field(default_factory=dict)
    # Inputs that are no plain numbers: one of `verification_inputs.KINDS` for each.
    kinds: Mapping[str, str] = field(default_factory=dict)
    # Families of inputs that are left out, and why.
    excluded: Mapping[str, str] = field(default_factory=dict)
    # Families left out where exponents have 8 bits, in float32 and bf16.
    narrow: Mapping[str, str] = field(default_factory=dict)
    # Sizes that belong to what is computed, and hold where all others are 1.
    fixed: Mapping[str, int] = field(default_factory=dict)


SDPA = "scaled_dot_product_attention"
OVERFLOW = "exp of a logit above 709 overflows (float32: 88): no maximum is taken off, by design"
SEEN = "no query of it is without keys"
INFINITE = "an infinite key makes a sum of features infinite: the formula has no value"
NORMED = "an infinite vector has no direction"
EMPTY = "a sum over no keys is divided by"
UNDERFLOW = "what is asked for are shares of weights that underflow"
GROWS = "keys longer than sqrt(2/B) make the state grow with every step; the paper normalises them"
NO_KEYS = "it has no keys"
WHOLE = "a layout has at least one token along each axis"
LOOKBACK = "no key in the window of a query: keys and queries are the same tokens"


A, W, L = "torch_attention.", "torch_windows.", "torch_linear."
_seen = {"masked": SEEN}
_naive = {**_seen, "large": OVERFLOW, "outlier": OVERFLOW}
_linear = {**_seen, "infinite": INFINITE}
_delta = {**_linear, "large": GROWS}
_none = dict.fromkeys(("masked", "infinite", "large", "outlier", "ties", "empty"), NO_KEYS)
_softmax = Oracle(A + "softmax", SDPA, excluded=_seen)
_causal = Oracle(A + "causal", SDPA + ", causal mask", {"W": 9})
_packed = Oracle(A + "packed_causal", SDPA + ", causal mask, enable_gqa", {"P": 18, "W": 9})
_latent = Oracle(A + "latent", SDPA + " on up-projected latents", excluded=_seen)

_second = {"causaly": 1.0}


def _axis(name: str, window: int, stride: int, dilation: int) -> dict[str, int]:
    """Sizes of a neighbourhood along an axis."""
    return {"W" + name: window, "S" + name: stride, "D" + name: dilation}


ORACLES: dict[str, Oracle] = {
    "softmax-3pass": _softmax,
    "softmax-3pass-deferred": _softmax,
    "softmax-2pass": _softmax,
    "softmax-1pass": _softmax,
    "softmax-1pass-fma": _softmax,
    "softmax-split-k": Oracle(A + "softmax", SDPA, {"M1": 2, "M0": 5}, excluded=_seen),
    "softmax-naive": Oracle(A + "softmax", SDPA, excluded=_naive),
    "softmax-naive-deferred": Oracle(A + "softmax", SDPA, excluded=_naive),
    "causal-1pass": _causal,
    "window-1pass": _causal,
    "causal-gqa-1pass": _packed,
    "window-gqa-1pass": _packed,
    "decode-gqa": Oracle(A + "decode_gqa", SDPA + ", enable_gqa", {"H": 6}, excluded=_seen),
    "softmax-sink": Oracle(A + "sink", "torch softmax over sink and keys", excluded=_seen),
    "logit-bias": Oracle(A + "biased", SDPA + ", attn_mask of numbers", kinds={"B": "bias"}),
    "alibi": Oracle(
        A + "alibi", SDPA + ", attn_mask of distances", kinds={"SL": "slope"}, excluded=_seen
    ),
    "logit-softcap": Oracle(A + "softcap", "torch softmax of tanh", excluded=_seen),
    "kv-bias": Oracle(A + "kv_bias", SDPA + " on more keys", excluded=_seen),
    "ssa-temperature": Oracle(
        A + "temperature", SDPA + ", scaled queries and values", excluded=_seen
    ),
    "softmax-entropy": Oracle(A + "entropy", SDPA + " and special.entr", excluded=_seen),
    "head-scaled": Oracle(A + "head_scaled", SDPA + " and einsum", excluded=_seen),
    "group-scaled": Oracle(
        A + "group_scaled",
        "torch softmax, weights moved",
        kinds={"S": "fifth", "I": "others"},
        excluded={**_seen, "outlier": UNDERFLOW},
        narrow={"large": UNDERFLOW},
    ),
    "qk-norm": Oracle(
        A + "qk_norm",
        SDPA + " of normalised vectors",
        parameters={"scale": 8.0},
        excluded={**_seen, "infinite": NORMED},
    ),
    "differential-attention": Oracle(
        A + "differential", SDPA + ", twice", parameters={"lam": 0.75}, excluded=_seen
    ),
    "mla-latent": _latent,
    "mla-absorbed": _latent,
    "agent": Oracle(A + "agent", SDPA + ", twice", {"A": 3, "P0": 5, "P": 15}, excluded=_seen),
    "hopfield-2-iterations": Oracle(
        A + "hopfield", SDPA + ", twice", excluded={**_seen, "infinite": INFINITE}, fixed={"T": 2}
    ),
    "razor-compensation": Oracle(A + "compensated", SDPA + " with one more key", excluded=_seen),
    "mil-gated-pool": Oracle(
        A + "pooling", "torch softmax of gates", {"N": 31, "K": 2, "D": 7}, excluded=_none
    ),
    "sigmoid-attention": Oracle(A + "sigmoid", "torch sigmoid of all logits", excluded=_seen),
    "sigmoid-norm": Oracle(A + "sigmoid_norm", "torch sigmoid, normalised", excluded=_seen),
    "relu-attention": Oracle(A + "relu", "torch relu of all logits", excluded=_seen),
    "sliding-window": Oracle(W + "sliding", SDPA + ", band mask", excluded={"masked": LOOKBACK}),
    "na-1d": Oracle(
        W + "neighbourhood", SDPA + ", mask of listed tokens", excluded={"masked": LOOKBACK}
    ),
    "na-1d-dilated": Oracle(
        W + "neighbourhood", SDPA + ", mask of listed tokens", excluded={"masked": LOOKBACK}
    ),
    "na-2d": Oracle(
        W + "neighbourhood_2d",
        SDPA + ", mask of listed pixels",
        {"Y": 5, "X": 7, "U": 3, "W": 4},
        excluded={"masked": LOOKBACK},
    ),
    **{
        f"gna-{dims}d{form}": Oracle(
            W + "generalised",
            SDPA + ", mask of listed tokens",
            sizes,
            parameters,
            excluded={"masked": LOOKBACK, **({"empty": WHOLE} if dims > 1 else {})},
        )
        for form in ("", "-gather")
        for dims, sizes, parameters in (
            (1, {"M": 31, "P": 31, "W": 6, "S": 4, "D": 3}, {}),
            (2, {"M": 35, "P": 35, "Y": 5, **_axis("X", 4, 3, 1), **_axis("Y", 2, 2, 2)}, _second),
            (
                3,
                {
                    "M": 60,
                    "P": 60,
                    "Y": 3,
                    "Z": 5,
                    **_axis("X", 3, 2, 1),
                    **_axis("Y", 2, 1, 1),
                    **_axis("Z", 2, 1, 2),
                },
                {},
            ),
        )
    },
    "gna-2d-additional": Oracle(
        W + "generalised_additional",
        SDPA + " on more keys, mask of listed tokens, and logsumexp",
        {"M": 35, "P": 35, "Y": 5, **_axis("X", 4, 3, 1), **_axis("Y", 2, 2, 2)},
        _second,
        excluded={"masked": SEEN, "empty": WHOLE},
    ),
    "block-diagonal": Oracle(
        W + "block_diagonal", SDPA + ", block mask", excluded={"masked": LOOKBACK}
    ),
    "hierarchical-coarse-fine": Oracle(
        W + "coarse_fine",
        SDPA + ", of means and with a block mask",
        {"M": 28, "M0": 7},
        excluded={"masked": LOOKBACK},
    ),
    "hetero-window": Oracle(
        W + "hetero_window", SDPA + ", a mask for each head", kinds={"WH": "count", "WS": "few"}
    ),
    "clear-disk": Oracle(
        W + "disk",
        SDPA + ", disk mask",
        {"M": 35, "T": 3},
        {"width": 7, "radius": 3},
        excluded={"masked": "text is seen by all"},
    ),
    "topk-selected": Oracle(W + "topk", SDPA + ", mask of a stable sort", {"K": 5}, excluded=_seen),
    "bra-biformer": Oracle(
        W + "regions", SDPA + ", mask of chosen regions", {"M": 28, "M0": 7, "K": 2}, excluded=_seen
    ),
    "quest-page": Oracle(W + "pages", SDPA + ", mask of chosen pages", {"K": 2}, excluded=_seen),
    "linear-attention": Oracle(L + "linear", "torch, quadratic form", excluded=_seen),
    "linear-causal": Oracle(L + "linear_causal", "torch, quadratic form", excluded=_seen),
    "linear-decay-recurrent": Oracle(
        L + "decay", "torch, quadratic form", parameters={"gamma": 0.875}, excluded=_linear
    ),
    "lightning2-chunked": Oracle(
        L + "decay_in_blocks",
        "torch, quadratic form",
        parameters={"gamma": 0.875},
        excluded=_linear,
    ),
    "norm-linear": Oracle(L + "normed", "torch, quadratic form and rms_norm", excluded=_seen),
    "linfusion": Oracle(L + "means", "torch, quadratic form", excluded=_seen),
    "cosformer": Oracle(L + "cosine", "torch, quadratic form", excluded={**_seen, "empty": EMPTY}),
    "performer": Oracle(
        L + "random_features",
        "torch logsumexp over features and softmax over keys",
        excluded=_linear,
    ),
    "based-taylor2": Oracle(L + "taylor", "torch, quadratic form", excluded=_linear),
    "delta-rule": Oracle(
        L + "delta", "torch solve_triangular", kinds={"K": "short", "B": "gate"}, excluded=_delta
    ),
    "flow-attention": Oracle(L + "flow", "torch, flows of all tokens", excluded=_seen),
    "cross-covariance": Oracle(
        L + "cross_covariance",
        "torch softmax of cosines",
        parameters={"tau": 0.5},
        excluded={**_seen, "infinite": NORMED},
    ),
    "projection": Oracle(L + "projection", "torch matmul", {"N": 31, "D": 13}, excluded=_none),
    "toy-two-pass": Oracle(L + "toy", "torch dot and sum", {"K": 11}, excluded=_none),
    "toy-deferred": Oracle(L + "toy", "torch dot and sum", {"K": 11}, excluded=_none),
    "toy-iterative": Oracle(L + "toy", "torch dot and sum", {"K": 11}, excluded=_none),
}
