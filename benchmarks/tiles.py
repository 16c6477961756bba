"""How fast runs at tile level are: `python benchmarks/tiles.py`.

A layer of BERT from 1K to 1M tokens; a thousand design points (lengths, heads, array sizes and
bandwidths in turn) through `evaluate_many` on two processes; a thousand that have nothing in common
but the cascade and the chip, each of another length; and some of the first one at a time. Medians
after a first run to warm up; nothing here is a test.
"""

import itertools
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

from engines import median_s

import archsim
import einsum_cascade as ec
from archsim.arch import Architecture, with_shape
from archsim.engine import run_counted
from archsim.lowering import lower
from archsim.simulation import simulate

POINTS = 1000
CASCADE = ec.load("softmax-1pass")
MAPPING = archsim.load_mapping("fusemax")
CHIP = archsim.load_architecture("fusemax")


def with_bandwidth(architecture: Architecture, gib_per_s: int) -> Architecture:
    """The same architecture with another memory."""
    memories = tuple(
        replace(m, bandwidth_bytes_per_s=gib_per_s * 2**30) if m.parent is None else m
        for m in architecture.memories
    )
    return replace(architecture, memories=memories)


def points() -> list[tuple[int, int, int, int]]:
    """Tokens, heads, rows and columns, GiB/s."""
    lengths = (1024, 2048, 4096, 8192, 16384, 65536)
    every = itertools.product(lengths, (1, 12, 768), (128, 256), range(100, 400, 10))
    return list(every)[:POINTS]


def point(tokens: int, heads: int, size: int, rate: int) -> archsim.Point:
    """One point: everything that `run` takes."""
    chip = with_bandwidth(with_shape(CHIP, size, size), rate)
    workload = ec.workload(H=heads, E=64, F=64, M=tokens, P=tokens)
    return archsim.Point(CASCADE, workload, chip, MAPPING)


def lengths() -> list[archsim.Point]:
    """A thousand lengths, none of them divided by the tiles."""
    return [point(1000 + 61 * n, 12, 256, 400) for n in range(POINTS)]


def evaluate(points: list[archsim.Point]) -> list[int]:
    """Cycles of some points."""
    return list(archsim.evaluate_many(points, level="tile")["cycles"])


def time_points(pool: ProcessPoolExecutor, chosen: list[archsim.Point]) -> float:
    """Seconds for points on two processes, a family of points on one of them."""
    chunks = [chosen[n : n + 30] for n in range(0, len(chosen), 30)]
    start = time.perf_counter()
    list(pool.map(evaluate, chunks))
    return time.perf_counter() - start


def main() -> None:
    """Measure and print a line for each length, and one for the points."""
    print(f"{'BERT, tokens':>14} {'tiles':>18} {'looked at':>10} {'s':>8}")
    for tokens in (1 << 10, 1 << 14, 1 << 16, 1 << 20):
        workload = ec.workload("bert", M=tokens, P=tokens)
        program = lower(CASCADE, workload, CHIP, MAPPING)
        tiles = 64 * 12 * (tokens // 256) ** 2
        _, walked = run_counted(program)
        seconds = median_s(lambda p=program: simulate(p))
        print(f"{tokens:14,} {tiles:18,} {walked:10,} {seconds:8.3f}")
    grid = [point(*where) for where in points()]
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(evaluate, [grid[:2], grid[:2]]))
        print(f"{len(grid)} points, a grid: {time_points(pool, grid):.1f} s on two processes")
        seconds = time_points(pool, lengths())
        print(f"{POINTS} points, all lengths different: {seconds:.1f} s on two processes")
    one = median_s(lambda: archsim.report(simulate(lower(*grid[500]))))
    print(f"one point alone: {one * 1e3:.1f} ms")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {peak:,.0f} MiB")


if __name__ == "__main__":
    main()
