"""How fast runs at tile level are: `python benchmarks/tiles.py`.

A layer of BERT from 1K to 1M tokens, and a thousand design points (lengths, heads, array sizes and
bandwidths in turn) on two processes, each point lowered, simulated and reported. Medians after a
first run to warm up; nothing here is a test.
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


def run_point(point: tuple[int, int, int, int]) -> int:
    """Cycles of one point."""
    tokens, heads, size, rate = point
    chip = with_bandwidth(with_shape(CHIP, size, size), rate)
    workload = ec.workload(H=heads, E=64, F=64, M=tokens, P=tokens)
    timeline = simulate(lower(CASCADE, workload, chip, MAPPING))
    return archsim.report(timeline).cycles


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
    chosen = points()
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(run_point, chosen[:8], chunksize=4))
        start = time.perf_counter()
        list(pool.map(run_point, chosen, chunksize=20))
        print(f"{len(chosen)} points on two processes: {time.perf_counter() - start:.1f} s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {peak:,.0f} MiB")


if __name__ == "__main__":
    main()
