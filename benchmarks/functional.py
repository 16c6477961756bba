"""How fast compiled cascades are next to PyTorch: `python benchmarks/functional.py [CASCADE ...]`.

Both run on the same arrays in turns, on as many threads; ratios are medians over turns of this run,
since other work on the machine slows both: of elapsed time, and of the processor's time. PyTorch
gets the fastest of its formulations (`formulations`). The environment's TOKENS and HEADS are other
sizes. With `--processes`, compile times and memory are measured, too, in new processes: the first
compiles, the second finds the kernels on disk. Times are measured, never asserted.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time

import formulations
import numpy as np
import torch

import einsum_cascade as ec
from einsum_cascade.array_shapes import array_ranks

THREADS = 2
TURNS = 7


def inputs(name):
    """Arrays and sizes for us, and the same arrays for PyTorch, their last two axes swapped."""
    case, cascade, rng = formulations.CASES[name], ec.load(name), np.random.default_rng(0)
    sizes = {"E": formulations.E, "F": formulations.E} | case.sizes
    ours = {}
    for given in cascade.inputs:
        ranks = array_ranks(cascade, cascade.tensor(given), False)
        shape = [sizes.get(rank, formulations.TOKENS) for rank in ranks]
        array = rng.standard_normal((*case.batch, *shape)).astype(np.float32)
        ours[given] = np.abs(array) if len(ranks) < 2 else array
    if name == "delta-rule":
        # Keys of length 1 and steps below 1, or else what the state holds grows without bound.
        ours["K"] /= np.linalg.norm(ours["K"], axis=-2, keepdims=True)
        ours["B"] = 1 / (1 + np.exp(-ours["B"]))
    if name == "hetero-window":
        ours |= {"WH": np.array([128, 256, 512, 1024.0]), "WS": np.array([16, 64, 64, 64.0])}
    theirs = {}
    for given, array in ours.items():
        is_matrix = array.ndim >= 2 + len(case.batch)
        if name == "na-2d":
            turned = np.moveaxis(array, len(case.batch), -1)
        else:
            turned = array.swapaxes(-1, -2) if is_matrix else array
        theirs[given] = torch.from_numpy(np.ascontiguousarray(turned))
    if name == "decode-gqa":
        theirs["Q"] = torch.from_numpy(ours["Q"])
    shown = {rank: sizes[rank] for rank in case.shown}
    return ours | case.parameters, shown, theirs


def best_of(name, tensors):
    """The fastest formulation."""
    found = []
    for formulation in formulations.CASES[name].formulations:
        run = formulation(tensors)
        run()
        start = time.perf_counter()
        run()
        run()
        found.append((time.perf_counter() - start, run))
    return min(found, key=lambda pair: pair[0])[1]


OURS = """
import resource, sys, time
sys.path.insert(0, "benchmarks")
import functional
given, sizes, _ = functional.inputs(sys.argv[1])
start = time.perf_counter()
functional.ec.compile(functional.ec.load(sys.argv[1]), "float32")(sizes=sizes, **given)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(time.perf_counter() - start, peak)
"""
THEIRS = """
import resource, sys
sys.path.insert(0, "benchmarks")
import functional
functional.torch.set_num_threads(functional.THREADS)
functional.best_of(sys.argv[1], functional.inputs(sys.argv[1])[2])
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
    """Seconds of a call that compiles and one that finds kernels on disk; peak memory in MiB."""
    with tempfile.TemporaryDirectory() as folder:
        first, _ = process(OURS, name, folder)
        second, peak = process(OURS, name, folder)
        (theirs,) = process(THEIRS, name, folder)
    return first, second, peak, theirs


def measured(name):
    """Ratios of elapsed and of processor's time, shortest times, and the largest error."""
    given, sizes, tensors = inputs(name)
    compiled, theirs = ec.compile(ec.load(name), "float32"), best_of(name, tensors)
    outputs = compiled(sizes=sizes, **given)
    found = outputs.get("AV", next(iter(outputs.values())))
    expected = theirs().numpy()
    if name == "na-2d":
        expected = expected.reshape(formulations.HEADS, 48, 48, -1)
        expected = np.moveaxis(expected, -1, 1)
    elif found.shape != expected.shape or name not in ("projection", "decode-gqa"):
        expected = expected.swapaxes(-1, -2) if expected.ndim > 1 else expected
    error = np.abs(found - expected.reshape(found.shape)).max() / np.abs(expected).max()
    turns = []
    for _ in range(TURNS):
        clocks = [(time.perf_counter(), time.process_time())]
        for run in (lambda: compiled(sizes=sizes, **given), theirs):
            run()
            clocks.append((time.perf_counter(), time.process_time()))
        (w0, c0), (w1, c1), (w2, c2) = clocks
        turns.append((w1 - w0, w2 - w1, c1 - c0, c2 - c1))
    walls = statistics.median(turn[0] / turn[1] for turn in turns)
    works = statistics.median(turn[2] / turn[3] for turn in turns)
    ours, torchs = (min(turn[i] for turn in turns) for i in (0, 1))
    return walls, works, ours, torchs, error


def main() -> None:
    """Measure and print one line for each cascade."""
    torch.set_num_threads(THREADS)
    names = [word for word in sys.argv[1:] if not word.startswith("-")]
    head = f"{'cascade':24} {'ratio':>6} {'of CPU':>7} {'ours ms':>8} {'torch ms':>8} {'error':>8}"
    has_processes = "--processes" in sys.argv
    if has_processes:
        head += f" {'compile':>8} {'cached':>7} {'MiB':>6} {'torch':>6}"
    print(head)
    for name in names or formulations.CASES:
        wall, work, ours, theirs, error = measured(name)
        line = f"{name:24} {wall:6.2f} {work:7.2f} {1e3 * ours:8.1f} {1e3 * theirs:8.1f}"
        line += f" {error:8.1e}"
        if has_processes:
            first, second, peak, other = new_processes(name)
            line += f" {first:8.1f} {second:7.2f} {peak:6.0f} {other:6.0f}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
