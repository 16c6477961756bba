"""How fast tiles of neighbourhood attention are counted: `python benchmarks/neighborhoods.py`.

One tile shape of HunyuanVideo, with nothing known before; ten thousand pairs of tile shapes and
strides; a sweep over all strides of a window; the whole reproduction of the paper. Seconds of one
core, medians where a run is short; nothing here is a test.
"""

import time
from collections.abc import Callable
from itertools import islice, product
from statistics import median

from archsim.gna_reproduction import reproduce_gna
from archsim.stride_sweep import sweep_strides
from archsim.tile_search import search_tiles, tile_shapes
from einsum_cascade.neighborhood import Neighborhood
from einsum_cascade.neighborhood_tiles import count_line

SHAPE, WINDOW = (30, 48, 80), (18, 24, 24)
CANDIDATES = 10_000


def cold_s(job: Callable[[], object], times: int = 1) -> float:
    """Median seconds of a job that finds every cache empty."""
    found = []
    for _ in range(times):
        count_line.cache_clear()
        start = time.perf_counter()
        job()
        found.append(time.perf_counter() - start)
    return median(found)


def every_candidate() -> None:
    """Count tiles of ten thousand pairs of shapes and strides, one after the other."""
    strides = product((1, 2, 16), (1, 8), (1, 8))
    shapes = product(tile_shapes(256, 3), tile_shapes(128, 3))
    for stride, (q_tile, kv_tile) in islice(product(strides, list(shapes)), CANDIDATES):
        Neighborhood(SHAPE, WINDOW, stride).tiles(q_tile, kv_tile)


def searched() -> None:
    """Search among as many, dimension by dimension."""
    neighborhoods = [
        Neighborhood(SHAPE, WINDOW, stride)
        for stride in islice(product((1, 2, 16), (1, 8), (1, 8)), 7)
    ]
    choice = search_tiles(neighborhoods, tile_shapes(256, 3), tile_shapes(128, 3))
    assert choice.evaluated >= CANDIDATES


def main() -> None:
    """Measure and print a line for each."""
    one = Neighborhood(SHAPE, WINDOW, (16, 8, 8))
    rows = (
        ("one tile shape", cold_s(lambda: one.tiles((4, 8, 8), (2, 8, 8)), 21)),
        (f"{CANDIDATES:,} shapes and strides, one by one", cold_s(every_candidate)),
        ("the same, searched", cold_s(searched, 3)),
        (
            "all 48,000 strides of a window of 30x40x40",
            cold_s(
                lambda: sweep_strides(Neighborhood(SHAPE, (30, 40, 40)), (2, 16, 8), (2, 8, 8)), 3
            ),
        ),
        ("the paper's evaluation", cold_s(reproduce_gna)),
    )
    for name, seconds in rows:
        print(f"{name:50} {seconds * 1e3:10.1f} ms")


if __name__ == "__main__":
    main()
