"""PyTorch formulations of every shipped cascade, written from the formula each one states.

A case says which sizes it runs at and offers formulations; the fastest one on this machine counts.
Tensors come with tokens before features. Masks and indices that depend on sizes only are made once,
outside of what is timed. Windows are given as a dense mask and as blocks of queries with the keys
that any of them sees, which is what kernels for sparse attention do.
"""

import math
import os
from dataclasses import dataclass, field

import torch
from torch.nn import functional

TOKENS, HEADS, E = int(os.environ.get("TOKENS", 2048)), int(os.environ.get("HEADS", 4)), 64


def sdpa(q, k, v, attn_mask=None, **how):
    """PyTorch's, with a batch axis in front of heads: it has no fast kernel for three axes."""
    if q.dim() > 3:
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask, **how)
    q, k, v = (x[None] for x in (q, k, v))
    if attn_mask is not None and attn_mask.dim() == 3:
        attn_mask = attn_mask[None]
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask, **how)[0]


@dataclass(frozen=True)
class Case:
    """Sizes of ranks, those of them that no array shows, parameters, and formulations."""

    formulations: tuple
    sizes: dict = field(default_factory=dict)
    shown: tuple = ()
    parameters: dict = field(default_factory=dict)
    batch: tuple = (HEADS,)


def attention(x):
    """Softmax attention."""
    q, k, v = (x[name] for name in "QKV")
    return lambda: sdpa(q, k, v)


def causal(x):
    """The same, causal."""
    q, k, v = (x[name] for name in "QKV")
    return lambda: sdpa(q, k, v, is_causal=True)


def with_bias(bias):
    """A bias of the logits that is known beforehand, or a mask."""

    def run(x):
        q, k, v = (x[name] for name in "QKV")
        made = bias(x)
        return lambda: sdpa(q, k, v, attn_mask=made)

    return run


def alibi_bias(x):
    """The slope times the distance."""
    i = torch.arange(x["Q"].shape[-2])
    distance = (i[:, None] - i[None, :]).float()
    return torch.where(distance >= 0, -x["SL"][..., None, None] * distance, -torch.inf)


def weights_of(function):
    """Another function of the logits instead of softmax."""

    def run(x):
        q, k, v = (x[name] for name in "QKV")
        return lambda: function(q @ k.mT / E**0.5) @ v

    return run


def dense(mask_of):
    """One mask over all tokens."""

    def run(x):
        q, k, v = (x[name].reshape(HEADS, -1, E) for name in "QKV")
        mask = mask_of(x)
        return lambda: sdpa(q, k, v, attn_mask=mask)

    return run


def blocked(mask_of, rows):
    """Blocks of queries, each with the keys that any of its queries sees."""

    def run(x):
        q, k, v = (x[name].reshape(HEADS, -1, E) for name in "QKV")
        mask = mask_of(x)
        mask = mask.expand(HEADS, *mask.shape[-2:])
        tokens, keys = mask.shape[1:]
        parts = mask.reshape(HEADS, tokens // rows, rows, keys)
        seen = parts.any(2)
        most = int(seen.sum(-1).max())
        at = torch.sort(seen.float(), dim=-1, descending=True, stable=True).indices[..., :most]
        inside = parts.gather(3, at[:, :, None].expand(-1, -1, rows, -1))
        flat = (at + keys * torch.arange(HEADS)[:, None, None]).reshape(-1)

        def attend():
            kk, vv = (
                y.reshape(-1, E).index_select(0, flat).reshape(HEADS, -1, most, E) for y in (k, v)
            )
            return sdpa(q.reshape(HEADS, -1, rows, E), kk, vv, attn_mask=inside).flatten(1, 2)

        return attend

    return run


def masked(mask_of, rows=(32, 64, 128, 256)):
    """All formulations of a sparse mask."""
    return (dense(mask_of), *(blocked(mask_of, count) for count in rows))


def places(tokens=TOKENS):
    """Positions of queries and of keys."""
    i = torch.arange(tokens)
    return i[:, None], i[None, :]


def last_keys(width, tokens=TOKENS):
    """The last keys up to the query's own."""

    def mask(x):
        p, m = places(tokens)
        return (m <= p) & (m > p - width)

    return mask


def around(width):
    """The tokens around, fewer at the ends."""

    def mask(x):
        p, m = places()
        return (m - p + width // 2 >= 0) & (m - p + width // 2 < width)

    return mask


def line(count, width, step=1):
    """Neighbours along a line of tokens: as many at the ends."""
    p, m = places(count)
    length = (count - p % step + step - 1) // step
    start = (p // step - width // 2).clamp(min=0)
    start = torch.minimum(start, (length - width).clamp(min=0))
    return (p % step == m % step) & (m // step >= start) & (m // step < start + width)


def grid(*axes):
    """Neighbours in several dimensions: (size, window) of each."""

    def mask(x):
        found = torch.ones(1, 1, dtype=torch.int)
        for size, width in axes:
            found = torch.kron(found, line(size, width).int())
        return found.bool()

    return mask


def with_more_keys(mask_of):
    """Additional keys that every query sees, in front of those of a mask."""

    def run(x):
        q, mask = x["Q"], mask_of(x)
        k = torch.cat([x["KA"], x["K"]], -2)
        v = torch.cat([x["VA"], x["V"]], -2)
        more = torch.ones(len(mask), x["KA"].shape[-2], dtype=torch.bool)
        made = torch.cat([more, mask], 1)
        return lambda: sdpa(q, k, v, attn_mask=made)

    return run


def dilated(x):
    """Neighbours two tokens apart."""
    return line(TOKENS, 7, 2)


def hetero(x):
    """Last and first keys of each head."""
    p, m = places()
    last, first = (x[name].reshape(-1, 1, 1) for name in ("WH", "WS"))
    return (m <= p) & ((m > p - last) | (m < first))


def disk(x):
    """Image tokens near each other, and all text."""
    p, m = places()
    near = (m // 64 - p // 64) ** 2 + (m % 64 - p % 64) ** 2 < 64
    return torch.cat([torch.ones(TOKENS, x["KT"].shape[-2], dtype=torch.bool), near], 1)


def with_text(formulation):
    """Text before image tokens."""

    def run(x):
        keys = {n: torch.cat([x[n + "T"], x[n]], -2) for n in "KV"}
        attend = formulation({**x, **keys})
        return lambda: (torch.cat([x["KT"], x["K"]], -2), attend())[1]

    return run


def kv_bias(x):
    """Learnt keys and values in front."""
    return lambda: sdpa(x["Q"], torch.cat([x["KB"], x["K"]], -2), torch.cat([x["VB"], x["V"]], -2))


def blocks(x):
    """A batch of blocks."""
    q, k, v = (x[name].reshape(HEADS, -1, 64, E) for name in "QKV")
    return lambda: sdpa(q, k, v).flatten(1, 2)


def coarse_fine(x):
    """Means of blocks, and the own block."""
    q, k, v = (x[name] for name in "QKV")

    def run():
        means = [y.reshape(HEADS, -1, 64, E).mean(2) for y in (k, v)]
        fine = sdpa(*(y.reshape(HEADS, -1, 64, E) for y in (q, k, v))).flatten(1, 2)
        return x["GC"][..., None] * sdpa(q, *means) + x["GL"][..., None] * fine

    return run


def biformer(x):
    """Keys of the best regions, gathered."""
    q, k, v = (x[name].reshape(HEADS, -1, 64, E) for name in "QKV")

    def run():
        at = (q.mean(2) @ k.mean(2).mT).topk(4).indices
        kk, vv = (torch.stack([y[h][at[h]] for h in range(HEADS)]).flatten(2, 3) for y in (k, v))
        return sdpa(q, kk, vv).flatten(1, 2)

    return run


def corners(x, tile):
    """Bounds of the logits of each page."""
    q, k = x["Q"], x["K"].reshape(*x["K"].shape[:-2], -1, tile, E)
    return torch.relu(q) @ k.amax(-2).mT - torch.relu(-q) @ k.amin(-2).mT


def pages_gathered(x):
    """Keys of the best pages, gathered."""
    q, k, v = (x[name] for name in "QKV")
    pages = k.shape[-2] // 16

    def run():
        at = corners(x, 16).topk(64).indices
        flat = (at + pages * torch.arange(len(q))[:, None, None]).reshape(-1)
        kk, vv = (
            y.reshape(-1, 16 * E).index_select(0, flat).reshape(*q.shape[:2], 64 * 16, E)
            for y in (k, v)
        )
        return sdpa(q[:, :, None], kk, vv)[:, :, 0]

    return run


def pages_masked(x):
    """The same as a mask."""
    q, k, v = (x[name] for name in "QKV")

    def run():
        bound = corners(x, 16)
        seen = torch.zeros_like(bound, dtype=torch.bool).scatter_(2, bound.topk(64).indices, True)
        return sdpa(q, k, v, attn_mask=seen.repeat_interleave(16, 2))

    return run


def topk_scattered(x):
    """Softmax of the best logits, as a matrix."""
    q, k, v = (x[name] for name in "QKV")

    def run():
        best, at = (q @ k.mT / E**0.5).topk(64)
        return torch.zeros(HEADS, TOKENS, TOKENS).scatter_(2, at, torch.softmax(best, -1)) @ v

    return run


def topk_gathered(x):
    """The same with the values gathered."""
    q, k, v = (x[name] for name in "QKV")

    def run():
        best, at = (q @ k.mT / E**0.5).topk(64)
        flat = (at + TOKENS * torch.arange(HEADS)[:, None, None]).reshape(-1, 64)
        weights = torch.softmax(best, -1).reshape(-1, 64)
        bag = functional.embedding_bag(
            flat, v.reshape(-1, E), per_sample_weights=weights, mode="sum"
        )
        return bag.reshape(HEADS, TOKENS, E)

    return run


def decode(x):
    """One token; G heads share keys."""
    q = x["Q"].reshape(8, 4, E)
    return lambda: sdpa(q, x["K"], x["V"])


def agent(x):
    """Through agents."""
    q, k, v = (x[name] for name in "QKV")

    def run():
        agents = q.reshape(HEADS, 64, -1, E).mean(2) / E**0.5
        return sdpa(q, agents, sdpa(agents, k, v, scale=1.0), scale=1.0)

    return run


def cross_covariance(x):
    """Features attend to features."""
    q, k, v = (x[name] for name in "QKV")

    def run():
        normal = [functional.normalize(y, dim=-2) for y in (q, k)]
        return v @ torch.softmax(normal[1].mT @ normal[0], -2)

    return run


def elu(x):
    """The feature map elu + 1."""
    return functional.elu(x) + 1


def linear(x):
    """Keys and values first."""
    q, k, v = (x[name] for name in "QKV")

    def run():
        fq, fk = elu(q), elu(k)
        return fq @ (fk.mT @ v) / (fq @ fk.sum(-2)[..., None])

    return run


def linear_means(x):
    """The same with means, and eps."""
    q, k, v = (x[name] for name in "QKV")

    def run():
        fq, fk = elu(q), elu(k)
        m = k.shape[-2]
        return fq @ (fk.mT @ v) / m / (fq @ fk.sum(-2)[..., None] / m + 1e-4)

    return run


def linear_normed(x):
    """RMSNorm of the sum."""
    q, k, v = (x[name] for name in "QKV")
    return lambda: functional.rms_norm(elu(q) @ (elu(k).mT @ v), (E,), eps=1e-6)


def cosine(x):
    """ReLU features, and the cosine of the distance."""
    q, k, v = (x[name] for name in "QKV")

    def run():
        angle = (math.pi / 2 / k.shape[-2] * torch.arange(k.shape[-2]))[:, None]
        fq, fk = (
            torch.cat([torch.relu(y) * angle.cos(), torch.relu(y) * angle.sin()], -1)
            for y in (q, k)
        )
        return fq @ (fk.mT @ v) / (fq @ fk.sum(-2)[..., None])

    return run


def flow(x):
    """Flows in and out, conserved."""
    q, k, v = (x[name] for name in "QKV")

    def run():
        fq, fk = torch.sigmoid(q), torch.sigmoid(k)
        given = fq @ fk.sum(-2)[..., None]
        taken = fk @ fq.sum(-2)[..., None]
        conserved = fq @ (fk / taken).sum(-2)[..., None]
        weight = torch.softmax(fk @ (fq / given).sum(-2)[..., None], -2)
        return torch.sigmoid(conserved) * ((fq / given) @ (fk.mT @ (weight * v)))

    return run


def performer(x):
    """Random features."""
    q, k, v, w = (x[name] for name in "QKVW")

    def run():
        fq, fk = ((y / E**0.25) @ w.mT for y in (q, k))
        fk = fk - (k / E**0.25).square().sum(-1, keepdim=True) / 2
        fq = torch.exp(fq - fq.amax(-1, keepdim=True))
        fk = torch.exp(fk - fk.amax((-1, -2), keepdim=True))
        return fq @ (fk.mT @ v) / (fq @ fk.sum(-2)[..., None])

    return run


def in_chunks(feature, rows, *, decay=None, is_normal=False):
    """Linear attention with products inside of chunks of tokens, and states between them."""

    def run(x):
        q, k, v = (x[name] for name in "QKV")
        gamma = 1.0 if decay is None else decay
        i = torch.arange(rows)
        distance = i[:, None] - i[None, :]
        inside = torch.where(distance >= 0, gamma ** distance.clamp(min=0).float(), 0.0)
        to_end = (gamma ** (rows - 1 - i).float())[:, None]
        from_start = (gamma ** (i + 1).float())[:, None]
        count = q.shape[-2] // rows
        c = torch.arange(count)
        apart = c[:, None] - c[None, :] - 1
        between = torch.where(apart >= 0, gamma ** (rows * apart.clamp(min=0)).float(), 0.0)

        def attend():
            fq, fk, vv = (
                y.reshape(HEADS, count, rows, y.shape[-1]) for y in (feature(q), feature(k), v)
            )
            if is_normal:
                vv = torch.cat([vv, torch.ones(*vv.shape[:-1], 1)], -1)
            states = (fk * to_end).mT @ vv
            states = (between @ states.flatten(2)).reshape(states.shape)
            found = ((fq @ fk.mT) * inside) @ vv + (fq * from_start) @ states
            found = found.flatten(1, 2)
            return found[..., :-1] / found[..., -1:] if is_normal else found

        return attend

    return run


def plain(x):
    """No feature map."""
    return x


def taylor_features(x):
    """1, x and all products of two elements, whose products are the Taylor series."""
    y = x / x.shape[-1] ** 0.25
    square = (y[..., :, None] * y[..., None, :]).flatten(-2) / 2**0.5
    return torch.cat([torch.ones_like(y[..., :1]), y, square], -1)


def taylor_quadratic(x):
    """The Taylor series of all logits."""
    q, k, v = (x[name] for name in "QKV")

    def run():
        s = q @ k.mT / q.shape[-1] ** 0.5
        weights = (1 + s + s.square() / 2).tril()
        return weights @ v / weights.sum(-1, keepdim=True)

    return run


def delta(x):
    """What each key writes solves a triangular system."""
    q, k, v, beta = (x[name] for name in "QKVB")

    def run():
        system = (beta[..., None] * (k @ k.mT)).tril(-1)
        written = torch.linalg.solve_triangular(
            system, beta[..., None] * v, upper=False, unitriangular=True
        )
        return (q @ k.mT).tril() @ written

    return run


def delta_in_chunks(rows):
    """The same chunk by chunk, with a state between them."""

    def formulation(x):
        q, k, v, beta = (x[name] for name in "QKVB")
        cut = range(0, q.shape[-2], rows)

        def run():
            state, found = torch.zeros(HEADS, q.shape[-1], v.shape[-1]), []
            for at in cut:
                qc, kc, vc, step = (y[:, at : at + rows] for y in (q, k, v, beta[..., None]))
                system = (step * (kc @ kc.mT)).tril(-1)
                written = torch.linalg.solve_triangular(
                    system, step * (vc - kc @ state), upper=False, unitriangular=True
                )
                found.append(qc @ state + (qc @ kc.mT).tril() @ written)
                state = state + kc.mT @ written
            return torch.cat(found, -2)

        return run

    return formulation


def differential(x):
    """Attention minus attention."""
    return lambda: sdpa(x["Q1"], x["K1"], x["V"]) - 0.5 * sdpa(x["Q2"], x["K2"], x["V"])


def group_scaled(x):
    """Weights of the important keys take from the others."""
    q, k, v = (x[name] for name in "QKV")

    def run():
        a = torch.softmax(q @ k.mT / E**0.5, -1)
        s, i = x["S"][:, None, :], x["I"][:, None, :]
        moved = 0.4 * (a @ s.mT) / (a @ i.mT)
        return (a * (1 - 0.4 * s + moved * i)) @ v

    return run


def head_scaled(x):
    """A gate for each head, and the output's linear layer."""

    def run():
        found = x["G"][:, None, None] * sdpa(x["Q"], x["K"], x["V"])
        return (found @ x["WO"].mT).sum(0)

    return run


def hopfield(x):
    """Two retrievals."""
    q, k = x["Q"], x["K"]
    return lambda: sdpa(sdpa(q, k, k), k, k)


def pooling(x):
    """Gated attention pooling."""

    def run():
        u, t, values, w = (x[name].mT for name in ("U", "T", "X", "W"))
        gate = torch.tanh(u @ values) * torch.sigmoid(t @ values)
        return torch.softmax(w @ gate, -1) @ values.mT

    return run


def latent(x):
    """Keys and values of all heads from latents, rotary parts appended."""

    def run():
        keys = x["C"] @ x["WK"]
        keys = torch.cat([keys, x["KR"].expand(HEADS, -1, -1)], -1)
        return sdpa(torch.cat([x["Q"], x["QR"]], -1), keys, x["C"] @ x["WV"])

    return run


def absorbed(x):
    """The same, in the space of latents."""

    def run():
        q = torch.cat([x["Q"] @ x["WK"].mT, x["QR"]], -1)
        keys = torch.cat([x["C"], x["KR"]], -1).expand(HEADS, -1, -1)
        values = x["C"].expand(HEADS, -1, -1)
        return sdpa(q, keys, values, scale=(E + 32) ** -0.5) @ x["WV"]

    return run


def qk_norm(x):
    """Cosines as logits."""
    q, k, v = (x[name] for name in "QKV")
    return lambda: sdpa(
        functional.normalize(q, dim=-1), functional.normalize(k, dim=-1), v, scale=8.0
    )


def razor(x):
    """One key more, which is the mean of many."""
    q, k, v = (x[name] for name in "QKV")

    def run():
        keys = torch.cat([k, x["KD"].mean(-2, keepdim=True)], -2)
        values = torch.cat([v, x["VD"].mean(-2, keepdim=True)], -2)
        bias = torch.zeros(1, keys.shape[-2])
        bias[:, -1] = math.log(x["KD"].shape[-2])
        return sdpa(q, keys, values, attn_mask=bias)

    return run


def entropy(x):
    """Attention; the entropy is left out of the comparison of values, not of time."""
    q, k, v = (x[name] for name in "QKV")

    def run():
        a = torch.softmax(q @ k.mT / E**0.5, -1)
        torch.special.entr(a).sum(-1)
        return a @ v

    return run


def sink(x):
    """One more logit, whose value is 0."""
    q, k, v = (x[name] for name in "QKV")

    def run():
        keys, values = (functional.pad(y, (0, 0, 1, 0)) for y in (k, v))
        bias = torch.zeros(HEADS, 1, keys.shape[-2])
        bias[..., 0] = x["B"][:, None]
        return sdpa(q, keys, values, attn_mask=bias)

    return run


def temperature(x):
    """Queries with a temperature, values with a gate."""
    q, k, v = (x[name] for name in "QKV")

    def run():
        position = torch.arange(1, q.shape[-2] + 1)
        scale = torch.tanh(x["FQ"]) + 1 + 0.5 * torch.log(position)
        return sdpa(scale[..., None] * q, k, x["TV"][..., None] * v, is_causal=True)

    return run


def product(x):
    """A linear layer."""
    return lambda: x["X"].mT @ x["W"].mT


def toy(x):
    """The product of A and B times the sum of A."""
    return lambda: torch.linalg.vecdot(x["A"], x["B"]) * x["A"].sum(-1)


def norm(x):
    """Weights divided by their sum."""
    return x / x.sum(-1, keepdim=True)


SOFTMAX = Case((attention,))
LINEAR_CHUNKS = tuple(in_chunks(elu, rows, is_normal=True) for rows in (64, 128, 256))
DECAY_CHUNKS = tuple(in_chunks(plain, rows, decay=0.98) for rows in (64, 128, 256))
TOY = Case((toy,), {"K": 1 << 20}, batch=(8,))
IMAGE = {"M": 2048, "P": 2048}
CASES = {
    "agent": Case((agent,), {"A": 64}, ("A",)),
    "alibi": Case((with_bias(alibi_bias),)),
    "based-taylor2": Case(
        (taylor_quadratic, *(in_chunks(taylor_features, r, is_normal=True) for r in (64, 256))),
        {"E": 16},
    ),
    "block-diagonal": Case((blocks,), {"M0": 64}, ("M0",)),
    "bra-biformer": Case((biformer,), {"M0": 64, "K": 4}, ("M0", "K")),
    "causal-1pass": Case((causal,)),
    "causal-gqa-1pass": Case((causal,), {"G": 1}, ("G",)),
    "clear-disk": Case(tuple(with_text(one) for one in masked(disk)), {"T": 128}),
    "cosformer": Case((cosine,)),
    "cross-covariance": Case((cross_covariance,), parameters={"tau": 1.0}),
    "decode-gqa": Case((decode,), {"J": 8, "H": 32, "G": 4, "M": 8192}, ("G",), batch=()),
    "delta-rule": Case((delta, *(delta_in_chunks(rows) for rows in (32, 64, 128)))),
    "differential-attention": Case((differential,), parameters={"lam": 0.5}),
    "flow-attention": Case((flow,)),
    "gna-1d": Case(masked(lambda x: line(TOKENS, 256)), {"W": 256}, ("W",)),
    "gna-1d-gather": Case(masked(lambda x: line(TOKENS, 256)), {"W": 256}, ("W",)),
    "gna-2d": Case(masked(grid((32, 9), (64, 9))), {"Y": 64, "WX": 9, "WY": 9}, ("Y", "WX", "WY")),
    "gna-2d-additional": Case(
        (with_more_keys(grid((32, 9), (64, 9))),),
        {"Y": 64, "WX": 9, "WY": 9, "T": 256},
        ("Y", "WX", "WY"),
    ),
    "gna-2d-gather": Case(
        masked(grid((32, 9), (64, 9))), {"Y": 64, "WX": 9, "WY": 9}, ("Y", "WX", "WY")
    ),
    "gna-3d": Case(
        masked(grid((8, 4), (16, 4), (16, 4))),
        {"Y": 16, "Z": 16, "WX": 4, "WY": 4, "WZ": 4},
        ("Y", "Z", "WX", "WY", "WZ"),
    ),
    "gna-3d-gather": Case(
        masked(grid((8, 4), (16, 4), (16, 4))),
        {"Y": 16, "Z": 16, "WX": 4, "WY": 4, "WZ": 4},
        ("Y", "Z", "WX", "WY", "WZ"),
    ),
    "group-scaled": Case((group_scaled,)),
    "head-scaled": Case((head_scaled,), {"H": HEADS, "D": 256}, batch=()),
    "hetero-window": Case(masked(hetero), {"H": HEADS}, batch=()),
    "hierarchical-coarse-fine": Case((coarse_fine,), {"M0": 64}, ("M0",)),
    "hopfield-2-iterations": Case((hopfield,)),
    "kv-bias": Case((kv_bias,), {"T": 4}),
    "lightning2-chunked": Case(DECAY_CHUNKS, {"M0": 64}, ("M0",), parameters={"gamma": 0.98}),
    "linear-attention": Case((linear,)),
    "linear-causal": Case(LINEAR_CHUNKS),
    "linear-decay-recurrent": Case(DECAY_CHUNKS, parameters={"gamma": 0.98}),
    "linfusion": Case((linear_means,)),
    "logit-bias": Case((with_bias(lambda x: x["B"]),)),
    "logit-softcap": Case((weights_of(lambda s: torch.softmax(50 * torch.tanh(s / 50), -1)),)),
    "mil-gated-pool": Case((pooling,), {"N": 4096, "D": 512, "L": 128, "K": 1}),
    "mla-absorbed": Case((absorbed,), {"H": HEADS, "D": 32, "R": 128}, batch=()),
    "mla-latent": Case((latent,), {"H": HEADS, "D": 32, "R": 128}, batch=()),
    "na-1d": Case(masked(lambda x: line(TOKENS, 7)), {"W": 7}, ("W",)),
    "na-1d-dilated": Case(masked(dilated), {"W": 7, "D": 2}, ("W", "D")),
    "na-2d": Case(
        masked(grid((48, 7), (48, 7)), (48, 96)), {"Y": 48, "X": 48, "U": 7, "W": 7}, ("U", "W")
    ),
    "norm-linear": Case((linear_normed,)),
    "performer": Case((performer,), {"R": 128}),
    "projection": Case((product,), {"N": 2048, "D": 1024, "S": 1024}, batch=(1,)),
    "qk-norm": Case((qk_norm,), parameters={"scale": 8.0}),
    "quest-page": Case(
        (pages_gathered, pages_masked), {"M": 8192, "P": 64, "M0": 16, "K": 64}, ("M0", "K")
    ),
    "razor-compensation": Case((razor,), {"D": 512}),
    "relu-attention": Case((weights_of(lambda s: torch.relu(s) / s.shape[-1]),)),
    "sigmoid-attention": Case((weights_of(torch.sigmoid),)),
    "sigmoid-norm": Case((weights_of(lambda s: norm(torch.sigmoid(s))),)),
    "sliding-window": Case(masked(around(257)), {"W": 257}, ("W",)),
    "softmax-1pass": SOFTMAX,
    "softmax-1pass-fma": SOFTMAX,
    "softmax-2pass": SOFTMAX,
    "softmax-3pass": SOFTMAX,
    "softmax-3pass-deferred": SOFTMAX,
    "softmax-entropy": Case((entropy,)),
    "softmax-naive": SOFTMAX,
    "softmax-naive-deferred": SOFTMAX,
    "softmax-sink": Case((sink,)),
    "softmax-split-k": SOFTMAX,
    "ssa-temperature": Case((temperature,)),
    "topk-selected": Case((topk_scattered, topk_gathered), {"K": 64}, ("K",)),
    "toy-deferred": TOY,
    "toy-iterative": TOY,
    "toy-two-pass": TOY,
    "window-1pass": Case(masked(last_keys(256)), {"W": 256}, ("W",)),
    "window-gqa-1pass": Case(masked(last_keys(256)), {"W": 256, "G": 1}, ("W", "G")),
}
