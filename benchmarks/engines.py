"""How fast the engines are: `python benchmarks/engines.py`.

Medians of several runs after one to warm up; the ratio compares both register-level engines on the
same program within this run. Nothing here is a test: times are measured, never asserted.
"""

import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import archsim
import einsum_cascade as ec
from archsim.elements import random_inputs
from archsim.pe import simulate_pe
from archsim.slots import execute
from archsim.wave import simulate_waves

RUNS = 5
CASES = (
    ("fusemax-4x4", {"M": 128, "P": 64, "E": 16, "F": 16}),
    ("fusemax", {"M": 2048, "P": 1024, "E": 64, "F": 64}),
)


def median_s(action: Callable[[], Any], runs: int = RUNS) -> float:
    """Median wall-clock time of an action in seconds."""
    action()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    """Measure and print one line for each machine."""
    columns = ("micro-ops", "tile s", "per s", "pe s", "PE-cycles/s", "wave s", "ratio")
    print("{:12} {:>10} {:>8} {:>9} {:>8} {:>12} {:>8} {:>6}".format("machine", *columns))
    for arch, sizes in CASES:
        program = archsim.lower("softmax-1pass", ec.workload(**sizes), arch, "fusemax")
        count = sum(len(issues) for issues in execute(program).issued.values())
        tile = median_s(lambda p=program: execute(p))
        inputs = random_inputs(program)
        cycles = simulate_pe(program, inputs).timeline.cycles
        runs = RUNS if program.array.pes < 1000 else 1
        registers = median_s(lambda p=program, x=inputs: simulate_pe(p, x), runs)
        rate = cycles * program.array.pes / registers
        waves = median_s(lambda p=program, x=inputs: simulate_waves(p, x))
        print(
            f"{arch:12} {count:10,} {tile:8.3f} {count / tile:9,.0f} {registers:8.3f} {rate:12,.0f}"
            f" {waves:8.3f} {registers / waves:6.0f}"
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {peak:,.0f} MiB")


if __name__ == "__main__":
    main()
