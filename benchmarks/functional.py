"""How fast compiled cascades are next to PyTorch: `python benchmarks/functional.py [CASCADE ...]`.

Both run on the same arrays in turns, on as many threads; the ratio is the median over turns of
this run, since other work on the machine slows both. PyTorch gets its best formulation of each
cascade: scaled_dot_product_attention for everything that is softmax attention. Compile times and
memory are those of new processes: the first compiles, the second finds the kernels on disk. Times
are measured, never asserted.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch

import einsum_cascade as ec

THREADS = 2
TURNS = 7
HEADS, E = 8, 64


def attention(causal=False, window=0):
    """PyTorch's softmax attention on [B, H, tokens, E]."""

    def run(given):
        q, k, v = (given[name] for name in "QKV")
        mask = None
        if window:
            i = torch.arange(q.shape[-2])
            mask = (i[None, :] <= i[:, None]) & (i[None, :] > i[:, None] - window)
        sdpa = torch.nn.functional.scaled_dot_product_attention
        return lambda: sdpa(q, k, v, attn_mask=mask, is_causal=causal)

    return run


def elementwise(function):
    """Attention with another function of the logits."""

    def run(given):
        q, k, v = (given[name] for name in "QKV")
        return lambda: function(q @ k.mT / E**0.5, k.shape[-2]) @ v

    return run


def linear(given):
    """Linear attention, keys and values first."""
    q, k, v = (given[name] for name in "QKV")

    def run():
        fq, fk = (torch.nn.functional.elu(x) + 1 for x in (q, k))
        return fq @ (fk.mT @ v) / (fq @ fk.sum(-2)[..., None])

    return run


def product(given):
    """A linear layer."""
    return lambda: given["X"] @ given["W"]


def toy(given):
    """Y = A.B; Z = Y * sum(A)."""
    a, b = given["A"], given["B"]
    return lambda: torch.linalg.vecdot(a, b) * a.sum(-1)


# What is run: tokens, sizes that the arrays leave open, and PyTorch's formulation.
CASES = {
    "softmax-1pass": (4096, {}, attention()),
    "causal-1pass": (4096, {}, attention(causal=True)),
    "window-1pass": (16384, {"W": 256}, attention(window=256)),
    "softmax-2pass": (4096, {}, attention()),
    "softmax-3pass": (4096, {}, attention()),
    "softmax-3pass-deferred": (4096, {}, attention()),
    "softmax-naive": (4096, {}, attention()),
    "softmax-naive-deferred": (4096, {}, attention()),
    "softmax-split-k": (4096, {}, attention()),
    "causal-gqa-1pass": (4096, {"G": 1}, attention(causal=True)),
    "window-gqa-1pass": (16384, {"G": 1, "W": 256}, attention(window=256)),
    "relu-attention": (4096, {}, elementwise(lambda x, m: torch.relu(x) / m)),
    "sigmoid-attention": (4096, {}, elementwise(lambda x, m: torch.sigmoid(x))),
    "linear-attention": (4096, {}, linear),
    "projection": (4096, {}, product),
    "toy-two-pass": (1 << 20, {}, toy),
    "toy-deferred": (1 << 20, {}, toy),
    "toy-iterative": (1 << 20, {}, toy),
}


def inputs(name, tokens):
    """Arrays for us and the same ones for PyTorch, whose last axis is the head's dimension."""
    rng = np.random.default_rng(0)
    if name.startswith("toy"):
        shapes = {"A": (HEADS, tokens), "B": (HEADS, tokens)}
    elif name == "projection":
        shapes = {"X": (1, tokens, 1024), "W": (1, 1024, 1024)}
    else:
        shapes = dict.fromkeys("QKV", (1, HEADS if tokens < 10000 else 1, E, tokens))
    ours = {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
    if name == "toy-iterative":
        ours = {n: np.abs(a) for n, a in ours.items()}
    theirs = {
        n: torch.from_numpy(np.ascontiguousarray(a.swapaxes(-1, -2) if n in "QKV" else a))
        for n, a in ours.items()
    }
    return ours, theirs


OURS = """
import json, resource, sys, time
import numpy as np, einsum_cascade as ec
name, sizes, shapes = json.loads(sys.argv[1])
given = {n: np.ones(s, np.float32) for n, s in shapes.items()}
start = time.perf_counter()
ec.compile(ec.load(name), "float32")(sizes=sizes, **given)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(time.perf_counter() - start, peak)
"""
THEIRS = """
import resource, sys
sys.path.insert(0, "benchmarks")
import functional
torch = functional.torch
torch.set_num_threads(functional.THREADS)
tokens, _, formulation = functional.CASES[sys.argv[1]]
formulation(functional.inputs(sys.argv[1], tokens)[1])()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def process(script, argument, folder):
    """Run a script in a new process; return the numbers it prints."""
    done = subprocess.run(
        [sys.executable, "-c", script, argument],
        env={**os.environ, "NUMBA_CACHE_DIR": folder},
        capture_output=True,
        text=True,
        check=True,
    )
    return [float(word) for word in done.stdout.split()]


def new_processes(name):
    """Seconds to compile and to find on disk, and peak memory of a process: ours, and PyTorch's."""
    tokens, sizes, _ = CASES[name]
    given, _ = inputs(name, tokens)
    few = {
        n: (*a.shape[:-2], min(512, a.shape[-2]), min(512, a.shape[-1])) for n, a in given.items()
    }
    many = {n: a.shape for n, a in given.items()}
    with tempfile.TemporaryDirectory() as folder:
        first, _ = process(OURS, json.dumps([name, sizes, few]), folder)
        second, _ = process(OURS, json.dumps([name, sizes, few]), folder)
        _, peak = process(OURS, json.dumps([name, sizes, many]), folder)
        (theirs,) = process(THEIRS, name, folder)
    return first, second, peak, theirs


def main() -> None:
    """Measure and print one line for each cascade."""
    torch.set_num_threads(THREADS)
    head = f"{'cascade':24} {'tokens':>8} {'ours s':>8} {'torch s':>8} {'ratio':>6}"
    print(f"{head} {'error':>8} {'ours MiB':>9} {'torch MiB':>9} {'compile':>8} {'cached':>7}")
    for name in sys.argv[1:] or CASES:
        tokens, sizes, formulation = CASES[name]
        given, tensors = inputs(name, tokens)
        compiled, theirs = ec.compile(ec.load(name), "float32"), formulation(tensors)
        (found,) = compiled(sizes=sizes, **given).values()
        expected = theirs().numpy()
        expected = expected.swapaxes(-1, -2) if "Q" in given else expected
        error = np.abs(found - expected).max() / np.abs(expected).max()
        pairs = []
        for _ in range(TURNS):
            start = time.perf_counter()
            compiled(sizes=sizes, **given)
            middle = time.perf_counter()
            theirs()
            pairs.append((middle - start, time.perf_counter() - middle))
        ratio = statistics.median(a / b for a, b in pairs)
        times = [min(side) for side in zip(*pairs, strict=True)]
        calls = new_processes(name)
        print(
            f"{name:24} {tokens:8} {times[0]:8.3f} {times[1]:8.3f} {ratio:6.2f} {error:8.1e} "
            f"{calls[2]:9.0f} {calls[3]:9.0f} {calls[0]:8.1f} {calls[1]:7.2f}",
            flush=True,
        )
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB")


if __name__ == "__main__":
    main()
