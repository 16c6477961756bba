"""Windows and selected keys in PyTorch: which keys a query sees is written out, then it attends.

A second set of oracles of `archsim verify`, written from the papers' words on which keys are seen
and not from cascades: a window is a list of tokens, a selection a list of the best. Attention is
PyTorch's own, with that mask.
"""

from __future__ import annotations

import math

import torch

from archsim.torch_attention import Given, Outputs, Tensor, attend, logits, tiled


def _seen(lists: list[list[int]], keys: int) -> Tensor:
    """Mask [p,m] of the keys each query lists."""
    mask = torch.zeros(len(lists), keys, dtype=torch.bool)
    for row, found in zip(mask, lists, strict=True):
        row[found] = True
    return mask


def _neighbours(tokens: list[int], width: int) -> list[list[int]]:
    """For each token of a line the window around it, moved inwards at the ends."""
    lists = []
    for at in range(len(tokens)):
        start = min(max(at - width // 2, 0), max(len(tokens) - width, 0))
        lists.append(tokens[start : start + width])
    return lists


def sliding(x: Given) -> Outputs:
    """The W tokens around a query as far as they exist."""
    count, width = x["K"].shape[1], x.sizes["W"]
    around = [range(p - width // 2, p - width // 2 + width) for p in range(count)]
    mask = _seen([[m for m in one if 0 <= m < count] for one in around], count)
    return {"AV": attend(x["Q"], x["K"], x["V"], mask)}


def neighbourhood(x: Given) -> Outputs:
    """W tokens of the line, or of every D-th token of it."""
    count, step = x["K"].shape[1], x.sizes.get("D", 1)
    lists: list[list[int]] = [[] for _ in range(count)]
    for first in range(min(step, count)):
        group = list(range(first, count, step))
        for token, found in zip(group, _neighbours(group, x.sizes["W"]), strict=True):
            lists[token] = found
    return {"AV": attend(x["Q"], x["K"], x["V"], _seen(lists, count))}


def neighbourhood_2d(x: Given) -> Outputs:
    """U rows times W columns of an image."""
    _, height, width = x["K"].shape
    rows = _seen(_neighbours(list(range(height)), x.sizes["U"]), height)
    columns = _seen(_neighbours(list(range(width)), x.sizes["W"]), width)
    mask = torch.kron(rows.int(), columns.int()).bool()
    q, k, v = (x[name].flatten(1) for name in "QKV")
    found = attend(q, k, v, mask)
    return {"AV": found.reshape(len(found), height, width)}


def _means(x: Tensor, tile: int) -> Tensor:
    """Means of whole blocks: [e,m] to [e,m1]."""
    return x.reshape(len(x), x.shape[1] // tile, tile).mean(2)


def _own(tokens: int, tile: int) -> Tensor:
    """Mask [p,m] of the tokens in the same block."""
    block = torch.arange(tokens) // tile
    return block[:, None] == block[None, :]


def _strided(size: int, window: int, stride: int, step: int, causal: bool) -> Tensor:
    """Mask along one axis: tokens `step` apart are neighbours, `stride` of them share a window."""
    lists: list[list[int]] = [[] for _ in range(size)]
    for first in range(min(step, size)):
        tokens = list(range(first, size, step))
        around = _neighbours(tokens, window)
        for at, token in enumerate(tokens):
            sharing = tokens[at // stride * stride :][:stride]
            if causal:
                until = tokens.index(sharing[-1]) + 1
                lists[token] = [m for m in tokens[max(until - window, 0) : until] if m <= token]
            else:
                leader = sharing[min(stride // 2, len(sharing) - 1)]
                lists[token] = around[tokens.index(leader)]
    return _seen(lists, size)


def generalised(x: Given) -> Outputs:
    """Windows with strides and dilation in one to three dimensions of row-major tokens."""
    return {"AV": attend(x["Q"], x["K"], x["V"], _windows(x))}


def generalised_additional(x: Given) -> Outputs:
    """The same windows, and keys KA with values VA that every query sees; LSE of all logits."""
    keys, values = torch.cat([x["KA"], x["K"]], 1), torch.cat([x["VA"], x["V"]], 1)
    window = _windows(x)
    mask = torch.cat([torch.ones(len(window), x["KA"].shape[1], dtype=torch.bool), window], 1)
    lse = torch.logsumexp(logits(x["Q"], keys).masked_fill(~mask, -math.inf), -1)
    return {"AV": attend(x["Q"], keys, values, mask), "LSE": lse}


def _windows(x: Given) -> Tensor:
    """Mask [p,m] of the windows."""
    tokens = x["K"].shape[-1]
    inner = [x.sizes[name] for name in ("Y", "Z") if name in x.sizes]
    axes = ["X", "Y", "Z"][: 1 + len(inner)] if inner else [""]
    shape = [tokens // max(math.prod(inner), 1), *inner]
    mask = torch.ones(1, 1, dtype=torch.int)
    for name, size in zip(axes, shape, strict=True):
        causal = bool(x.parameters.get("causal" + name.lower(), 0.0))
        sizes = (x.sizes["W" + name], x.sizes["S" + name], x.sizes["D" + name])
        mask = torch.kron(mask, _strided(size, *sizes, causal).int())
    return mask.bool()[: x["Q"].shape[-1]]


def block_diagonal(x: Given) -> Outputs:
    """The tokens of the own block."""
    tile = x.sizes["M0"]
    mask = _own(x["K"].shape[1], tile)
    return {"AV": tiled(attend(x["Q"], x["K"], x["V"], mask), tile)}


def coarse_fine(x: Given) -> Outputs:
    """Attention to means of blocks and attention to the own block, added with gates."""
    tile = x.sizes["M0"]
    means = [_means(x[name], tile) for name in ("K", "V")]
    coarse = attend(x["Q"], *means)
    fine = attend(x["Q"], x["K"], x["V"], _own(x["K"].shape[1], tile))
    return {"AV": tiled(x["GC"] * coarse + x["GL"] * fine, tile)}


def hetero_window(x: Given) -> Outputs:
    """Causal; each head has its own number of first and of last keys."""
    queries, keys = x["Q"].shape[2], x["K"].shape[2]
    masks = []
    for last, first in zip(x["WH"].tolist(), x["WS"].tolist(), strict=True):
        lists = [
            [m for m in range(min(p + 1, keys)) if m < first or p - m < last]
            for p in range(queries)
        ]
        masks.append(_seen(lists, keys))
    return {"AV": attend(x["Q"], x["K"], x["V"], torch.stack(masks)[None])}


def disk(x: Given) -> Outputs:
    """All text, and image tokens closer than R in the plane."""
    width, radius = (round(x.parameters[name]) for name in ("width", "radius"))
    at = torch.arange(x["K"].shape[1])
    place = torch.stack([at // width, at % width], 1).double()
    near = torch.cdist(place, place, compute_mode="donot_use_mm_for_euclid_dist").square().round()
    text = torch.ones(len(at), x["KT"].shape[1], dtype=torch.bool)
    mask = torch.cat([text, near < radius**2], 1)
    keys, values = torch.cat([x["KT"], x["K"]], 1), torch.cat([x["VT"], x["V"]], 1)
    return {"AV": attend(x["Q"], keys, values, mask)}


# ---- selections: the earlier of equal scores ----


def _best(scores: Tensor, count: int) -> list[list[int]]:
    """The largest of each row; the first of equal ones."""
    order = torch.sort(scores.detach(), dim=-1, descending=True, stable=True).indices
    return [row[:count].tolist() for row in order]


def topk(x: Given) -> Outputs:
    """The K keys with the largest products."""
    scores = x["Q"].T @ x["K"]
    mask = _seen(_best(scores, x.sizes["K"]), x["K"].shape[1])
    return {"AV": attend(x["Q"], x["K"], x["V"], mask)}


def regions(x: Given) -> Outputs:
    """All tokens of the K regions whose mean keys suit the mean query of the own region."""
    tile = x.sizes["M0"]
    q, k = (_means(x[name], tile) for name in ("Q", "K"))
    chosen = _seen(_best(q.T @ k, x.sizes["K"]), k.shape[1])
    mask = torch.kron(chosen.int(), torch.ones(tile, tile).int()).bool()
    return {"AV": tiled(attend(x["Q"], x["K"], x["V"], mask), tile)}


def pages(x: Given) -> Outputs:
    """All keys of the K pages with the best bound on a product, corner by corner."""
    tile = x.sizes["M0"]
    if not x["K"].shape[1]:
        return {"AV": attend(x["Q"], x["K"], x["V"])}
    blocks = x["K"].split(tile, 1)
    corners = [(block.amin(1), block.amax(1)) for block in blocks]
    bounds = [torch.maximum(x["Q"].T * low, x["Q"].T * high).sum(1) for low, high in corners]
    chosen = _seen(_best(torch.stack(bounds, 1), x.sizes["K"]), len(blocks))
    mask = chosen.repeat_interleave(tile, 1)[:, : x["K"].shape[1]]
    return {"AV": attend(x["Q"], x["K"], x["V"], mask)}
