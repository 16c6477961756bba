"""Linear attention in PyTorch, as weights of every query and key: no state, no recurrence.

A third set of oracles of `archsim verify`. Cascades of linear attention carry states; here each is
the quadratic form its paper starts from, so that the two share nothing but the formula.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from archsim.torch_attention import Given, Outputs, Tensor, logits, tiled


def _elu(x: Tensor) -> Tensor:
    """The feature map elu + 1; PyTorch's elu ends at -1, and adding 1 would leave its noise."""
    return torch.where(x > 0, x + 1, torch.exp(x.clamp(max=0)))


def _ratio(weights: Tensor, v: Tensor) -> Tensor:
    """Weights [p,m] divided by their sums, times values [f,m]; nothing of nothing is 0."""
    total = weights.sum(1)
    return (v @ weights.T) / torch.where(total == 0, 1.0, total)


def linear(x: Given) -> Outputs:
    """Products of features as weights."""
    return {"AV": _ratio(_elu(x["Q"]).T @ _elu(x["K"]), x["V"])}


def linear_causal(x: Given) -> Outputs:
    """The same, up to the own token."""
    return {"AV": _ratio((_elu(x["Q"]).T @ _elu(x["K"])).tril(), x["V"])}


def _decayed(x: Given) -> Tensor:
    """Products times gamma to the distance."""
    at = torch.arange(x["K"].shape[1])
    distance = (at[:, None] - at[None, :]).clamp(min=0)
    decay = (x.parameters["gamma"] ** distance.double()).to(x["K"].dtype)
    return x["V"] @ ((x["Q"].T @ x["K"]) * decay).tril().T


def decay(x: Given) -> Outputs:
    """Products that fade."""
    return {"AV": _decayed(x)}


def decay_in_blocks(x: Given) -> Outputs:
    """The same, as the blocks of the cascade hold it."""
    return {"AV": tiled(_decayed(x), x.sizes["M0"])}


def normed(x: Given) -> Outputs:
    """RMSNorm of the weighted sum, over its features."""
    found = _elu(x["Q"]).T @ _elu(x["K"]) @ x["V"].T
    return {"AV": functional.rms_norm(found, found.shape[1:], eps=x.parameters["eps"]).T}


def means(x: Given) -> Outputs:
    """Means over tokens, and a denominator with eps."""
    weights = _elu(x["Q"]).T @ _elu(x["K"]) / max(1, x["K"].shape[1])
    return {"AV": x["V"] @ weights.T / (weights.sum(1) + x.parameters["eps"])}


def cosine(x: Given) -> Outputs:
    """ReLU features and the cosine of the distance."""
    p, m = (torch.arange(x[name].shape[1], dtype=x["K"].dtype) for name in "QK")
    angle = math.pi / 2 * (p[:, None] - m[None, :]) / max(1, len(m))
    return {"AV": _ratio(torch.relu(x["Q"]).T @ torch.relu(x["K"]) * torch.cos(angle), x["V"])}


def random_features(x: Given) -> Outputs:
    """Sums over features of exp(w.q + w.k - |k|^2/2), as logits of a softmax over keys."""
    scale = x["K"].shape[0] ** 0.25
    q, k, w = x["Q"] / scale, x["K"] / scale, x["W"]
    exponents = (w.T @ q)[:, :, None] + (w.T @ k - k.square().sum(0) / 2)[:, None, :]
    weights = torch.softmax(torch.logsumexp(exponents, 0), 1)
    return {"AV": x["V"] @ weights.T}


def taylor(x: Given) -> Outputs:
    """The Taylor series of exp, up to the own token."""
    s = logits(x["Q"], x["K"])
    return {"AV": _ratio((1 + s + s.square() / 2).tril(), x["V"])}


def delta(x: Given) -> Outputs:
    """The values that each key writes solve a triangular system; queries then sum them."""
    k, beta = x["K"], x["B"]
    system = torch.eye(len(beta), dtype=k.dtype) + (beta[:, None] * (k.T @ k)).tril(-1)
    written = torch.linalg.solve_triangular(
        system, beta[:, None] * x["V"].T, upper=False, unitriangular=True
    )
    return {"AV": ((x["Q"].T @ k).tril() @ written).T}


def flow(x: Given) -> Outputs:
    """Flows in and out of every token, conserved."""
    q, k = torch.sigmoid(x["Q"].T), torch.sigmoid(x["K"].T)
    if not len(k):
        return {"AV": x["V"].new_zeros(len(x["V"]), len(q))}
    incoming, outgoing = q @ k.sum(0), k @ q.sum(0)
    conserved_in = q @ (k / outgoing[:, None]).sum(0)
    conserved_out = k @ (q / incoming[:, None]).sum(0)
    values = torch.softmax(conserved_out, 0)[:, None] * x["V"].T
    found = torch.sigmoid(conserved_in)[:, None] * ((q / incoming[:, None]) @ (k.T @ values))
    return {"AV": found.T}


def cross_covariance(x: Given) -> Outputs:
    """Features attend to features, by the cosine of their rows."""
    q, k = (functional.normalize(x[name], dim=1, eps=0.0) for name in "QK")
    weights = torch.softmax(k @ q.T / x.parameters["tau"], 0)
    return {"AV": weights.T @ x["V"]}


# ---- what is no attention ----


def projection(x: Given) -> Outputs:
    """A matrix product."""
    return {"Z": x["X"] @ x["W"]}


def toy(x: Given) -> Outputs:
    """The product of A and B times the sum of A."""
    return {"Z": torch.dot(x["A"], x["B"]) * x["A"].sum()}
