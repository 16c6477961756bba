"""How long analyses take: `python benchmarks/analyses.py`.

Medians of several runs after one to warm up, for every shipped cascade: passes over each of its
ranks (the slowest rank is shown), bounds, and derivation over the keys in tiles. The first
derivation of a process is shown apart, since it imports SymPy. Times are measured, never asserted.
"""

import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import einsum_cascade as ec

RUNS = 5


def seconds(action: Callable[[], Any]) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def median_s(action: Callable[[], Any]) -> float:
    """Median wall-clock time of an action in seconds, after one call to warm up."""
    action()
    return statistics.median(seconds(action) for _ in range(RUNS))


def slowest_rank(cascade: ec.Cascade) -> tuple[float, str]:
    """Median time of `passes` for the rank that takes longest."""
    found = []
    for rank in cascade.ranks:
        try:
            found.append((median_s(lambda r=rank: ec.passes(cascade, r)), rank))
        except ec.CascadeError:
            continue  # only states run along it
    return max(found)


def main() -> None:
    """Measure and print one line for each cascade."""
    first = seconds(lambda: ec.derive(ec.load("softmax-3pass"), "m", tile=True))
    print(f"first derivation of a process {first:.2f} s")
    print(f"{'cascade':24} {'passes ms':>9}  {'over':4} {'bounds ms':>9} {'derive ms':>9}  rules")
    for name in ec.names("cascades"):
        cascade = ec.load(name)
        took, rank = slowest_rank(cascade)
        variable = next(v for v in "mykn" if v.upper() in cascade.ranks)
        rules = [rule for rule, _ in ec.derive(cascade, variable, tile=True).rules]
        derived = median_s(lambda c=cascade, v=variable: ec.derive(c, v, tile=True))
        bounded = median_s(lambda c=cascade, r=rank: ec.bounds(c, r))
        print(
            f"{name:24} {took * 1e3:9.1f}  {rank:4} {bounded * 1e3:9.0f} {derived * 1e3:9.0f}  "
            + ", ".join(rules)
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {peak:,.0f} MiB")


if __name__ == "__main__":
    main()
