"""Softmax attention and its relatives in PyTorch: references written from the papers' formulas.

Oracles of `archsim verify`. Nothing here reads a cascade. Wherever a variant is softmax attention
with other keys, another mask or another bias, PyTorch's own `scaled_dot_product_attention` computes
it, whose rows without keys are 0. Arrays come as the cascade writes them (`Q[e,p]`); tensors here
have tokens before features, as PyTorch has them, so each is turned once on the way in and out.

PyTorch is imported when this module is, which only `verify` does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

Tensor = Any


@dataclass(frozen=True, slots=True)
class Given:
    """What a reference is computed from: tensors by name, sizes of ranks, parameters."""

    tensors: Mapping[str, Tensor]
    sizes: Mapping[str, int]
    parameters: Mapping[str, float]

    def __getitem__(self, name: str) -> Tensor:
        """Return a tensor by name."""
        return self.tensors[name]


Outputs = dict[str, Tensor]


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor = None, **options: Any) -> Tensor:
    """Attention of [e,p], [e,m] and [f,m], axes before them shared; the mask is [p,m]."""
    q, k, v = (x.transpose(-1, -2) for x in (q, k, v))
    leading = (1,) * (4 - q.dim())
    q, k, v = (x.reshape(*leading, *x.shape) for x in (q, k, v))
    found = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, **options)
    return found.reshape(found.shape[len(leading) :]).transpose(-1, -2)


def logits(q: Tensor, k: Tensor) -> Tensor:
    """Return [p,m] products divided by the root of the number of features."""
    return q.transpose(-1, -2) @ k / q.shape[-2] ** 0.5


def _weighted(weights: Tensor, v: Tensor) -> Tensor:
    """[p,m] and [f,m] to [f,p]."""
    return v @ weights.transpose(-1, -2)


def _softmax(x: Tensor) -> Tensor:
    """Softmax over the last axis in which a row of nothing but -inf, or an empty one, is 0."""
    return torch.softmax(x, -1).nan_to_num(0.0) if x.shape[-1] else x


def tiled(found: Tensor, tile: int) -> Tensor:
    """[f,p] as [f,p1,p0], the last tile filled up with zeros."""
    rest = -found.shape[1] % tile if found.shape[1] else tile
    return functional.pad(found, (0, rest)).reshape(len(found), -1, tile)


def behind(queries: int, keys: int, window: int | None = None) -> Tensor:
    """Mask [p,m] of keys up to the query's own place, the last query at the last key."""
    distance = torch.arange(queries)[:, None] + keys - queries - torch.arange(keys)[None, :]
    seen = distance >= 0
    return seen if window is None else seen & (distance < window)


# ---- the softmax family ----


def softmax(x: Given) -> Outputs:
    """Plain attention."""
    return {"AV": attend(x["Q"], x["K"], x["V"])}


def causal(x: Given) -> Outputs:
    """Causal attention, or the last W keys if there is a window."""
    mask = behind(x["Q"].shape[1], x["K"].shape[1], x.sizes.get("W"))
    return {"AV": attend(x["Q"], x["K"], x["V"], mask)}


def packed_causal(x: Given) -> Outputs:
    """G query heads in columns p = t G + g, which share keys."""
    groups = x.sizes["G"]
    q = x["Q"].reshape(len(x["Q"]), -1, groups).permute(2, 0, 1)
    mask = behind(q.shape[2], x["K"].shape[1], x.sizes.get("W"))
    found = attend(q, x["K"][None], x["V"][None], mask, enable_gqa=True)
    return {"AV": found.permute(1, 2, 0).reshape(found.shape[1], -1)}


def decode_gqa(x: Given) -> Outputs:
    """One token; head j G + g has the keys of j."""
    found = attend(x["Q"][:, :, None], x["K"], x["V"], enable_gqa=True)
    return {"AV": found.reshape(len(x["K"]), -1, found.shape[1])}


def biased(x: Given) -> Outputs:
    """A number added to each logit."""
    return {"AV": attend(x["Q"], x["K"], x["V"], x["B"].T)}


def alibi(x: Given) -> Outputs:
    """Causal, minus the slope times the distance; query p stands at key p."""
    distance = torch.arange(x["Q"].shape[1])[:, None] - torch.arange(x["K"].shape[1])[None, :]
    bias = torch.where(distance >= 0, -x["SL"] * distance, -torch.inf)
    return {"AV": attend(x["Q"], x["K"], x["V"], bias.to(x["Q"].dtype))}


def sink(x: Given) -> Outputs:
    """Softmax over the sink and the keys, of which the sink's weight is dropped."""
    s = logits(x["Q"], x["K"])
    weights = torch.softmax(torch.cat([x["B"].expand(len(s), 1), s], 1), 1)
    return {"AV": _weighted(weights[:, 1:], x["V"])}


def softcap(x: Given) -> Outputs:
    """Logits between -cap and cap."""
    cap = x.parameters["cap"]
    weights = _softmax(cap * torch.tanh(logits(x["Q"], x["K"]) / cap))
    return {"AV": _weighted(weights, x["V"])}


def kv_bias(x: Given) -> Outputs:
    """Learnt keys and values in front of the others."""
    keys, values = torch.cat([x["KB"], x["K"]], 1), torch.cat([x["VB"], x["V"]], 1)
    return {"AV": attend(x["Q"], keys, values)}


def temperature(x: Given) -> Outputs:
    """Causal; queries times tanh(FQ) + 1 + alpha log(position), values times TV."""
    position = torch.arange(1, x["Q"].shape[1] + 1, dtype=x["Q"].dtype)
    tau = torch.tanh(x["FQ"]) + 1 + x.parameters["alpha"] * torch.log(position)
    mask = torch.ones(x["Q"].shape[1], x["K"].shape[1], dtype=torch.bool).tril()
    return {"AV": attend(tau * x["Q"], x["K"], x["TV"] * x["V"], mask)}


def entropy(x: Given) -> Outputs:
    """Attention and the entropy of its weights."""
    weights = _softmax(logits(x["Q"], x["K"]))
    return {
        "AV": attend(x["Q"], x["K"], x["V"]),
        "H": torch.special.entr(weights).sum(1),
    }


def head_scaled(x: Given) -> Outputs:
    """Heads times G in the output projection."""
    heads = attend(x["Q"], x["K"], x["V"]) * x["G"][:, None, None]
    return {"O": torch.einsum("hfp,hfd->dp", heads, x["WO"])}


def group_scaled(x: Given) -> Outputs:
    """Sinks keep a part; the rest goes to other image keys in proportion."""
    weights = _softmax(logits(x["Q"], x["K"]))
    kept = weights * (1 - x["S"] + x["S"] * x.parameters["keep"])
    freed = (weights - kept).sum(1, keepdim=True)
    image = weights * x["I"]
    share = torch.nan_to_num(image / image.sum(1, keepdim=True), 0.0)
    return {"AV": _weighted(kept + freed * share, x["V"])}


def qk_norm(x: Given) -> Outputs:
    """Cosines of queries and keys as logits, times the scale."""
    q, k = (functional.normalize(x[name], dim=0, eps=0.0) for name in ("Q", "K"))
    return {"AV": attend(q, k, x["V"], scale=x.parameters["scale"])}


def differential(x: Given) -> Outputs:
    """One attention minus lam times another."""
    second = attend(x["Q2"], x["K2"], x["V"])
    return {"AV": attend(x["Q1"], x["K1"], x["V"]) - x.parameters["lam"] * second}


def latent(x: Given) -> Outputs:
    """Multi-head attention on keys and values made from latents, rotary parts appended."""
    keys = x["WK"] @ x["C"]
    keys = torch.cat([keys, x["KR"].expand(len(keys), *x["KR"].shape)], 1)
    return {"AV": attend(torch.cat([x["Q"], x["QR"]], 1), keys, x["WV"] @ x["C"])}


def agent(x: Given) -> Outputs:
    """Agents, which are means of queries, attend to keys; queries attend to agents."""
    e, p = x["Q"].shape
    agents = x["Q"].reshape(e, x.sizes["A"], -1).mean(2)
    found = attend(x["Q"], agents, attend(agents, x["K"], x["V"]))
    return {"AV": found.reshape(len(found), x.sizes["A"], p // x.sizes["A"])}


def hopfield(x: Given) -> Outputs:
    """Two retrievals of keys."""
    return {"AV": attend(attend(x["Q"], x["K"], x["K"]), x["K"], x["K"])}


def compensated(x: Given) -> Outputs:
    """One more key and value, the means of the dropped ones, with log of their number."""
    keys = torch.cat([x["K"], x["KD"].mean(1, keepdim=True)], 1)
    values = torch.cat([x["V"], x["VD"].mean(1, keepdim=True)], 1)
    bias = torch.zeros(x["Q"].shape[1], keys.shape[1], dtype=keys.dtype)
    bias[:, -1] = math.log(x["KD"].shape[1])
    return {"AV": attend(x["Q"], keys, values, bias)}


def pooling(x: Given) -> Outputs:
    """Gated attention pooling of a bag."""
    gate = torch.tanh(x["U"] @ x["X"]) * torch.sigmoid(x["T"] @ x["X"])
    return {"Z": x["X"] @ torch.softmax(x["W"] @ gate, 1).T}


# ---- other normalisations ----


def sigmoid(x: Given) -> Outputs:
    """A sigmoid for each logit."""
    return {"AV": _weighted(torch.sigmoid(logits(x["Q"], x["K"])), x["V"])}


def sigmoid_norm(x: Given) -> Outputs:
    """Sigmoids divided by their sum."""
    weights = torch.sigmoid(logits(x["Q"], x["K"]))
    return {"AV": _weighted(functional.normalize(weights, p=1.0, dim=1, eps=0.0), x["V"])}


def relu(x: Given) -> Outputs:
    """ReLU of the logits, divided by the number of keys."""
    weights = torch.relu(logits(x["Q"], x["K"])) / max(1, x["K"].shape[1])
    return {"AV": _weighted(weights, x["V"])}
