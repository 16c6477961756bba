"""One matrix product on one array: cycles, operand reads and values under named conventions.

A (M x K) times B (K x N) is folded onto an array of R rows and C columns. At unit latencies a
wave needs R - 1 cycles down the rows and C - 1 across the columns behind the last slot, and one
more until the lane below has taken a word:

    dataflow   on the rows / columns   folds                    slots of a fold
    os         M / N                   ceil(M/R) * ceil(N/C)    K, and R if it is drained
    ws         K / N                   ceil(K/R) * ceil(N/C)    R to load B, then M
    is         K / M                   ceil(K/R) * ceil(M/C)    R to load A, then N

`drain` says where a fold ends. "none": with its last multiply-accumulate; the result stays in the
PEs (os) or is not waited for at the bottom (ws, is). "shift": with its last word in the lanes; os
shifts the sums down in R slots of its own. "shadow": as shift, but through a second set of
registers, so that the shift out (os) or the load (ws, is) goes on behind the next fold's slots.
`folds`: "serial" starts a fold when the one before has ended, "pipelined" as soon as the array has
a free slot. Edge folds take as long as full ones: the wave crosses the whole array.

("none", "serial") is SCALE-Sim's convention; it prints the index of the last cycle, one less.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.formulas import ceil_div

DATAFLOWS = ("os", "ws", "is")
DRAINS = ("none", "shift", "shadow")
FOLDS = ("serial", "pipelined")


@dataclass(frozen=True, slots=True)
class GemmReport:
    """What one product takes. Reads count words that enter the array from its edges."""

    cycles: int
    utilization: float
    operand_reads: dict[str, int]
    # Number of folds, and the product if values were given.
    folds: int
    result: NDArray[np.float64] | None = None


def gemm(
    M: int,
    N: int,
    K: int,
    *,
    rows: int = 16,
    cols: int = 16,
    dataflow: str = "os",
    drain: str = "none",
    folds: str = "serial",
    values: tuple[Any, Any] | None = None,
) -> GemmReport:
    """Count the cycles of A[M,K] x B[K,N] on one array.

    Args:
        M: rows of A and of the product.
        N: columns of B and of the product.
        K: columns of A and rows of B.
        rows: rows R of the array.
        cols: columns C of the array.
        dataflow: "os", "ws" or "is": which operand stays in the PEs.
        drain: "none", "shift" or "shadow": see the module.
        folds: "serial" or "pipelined".
        values: (A, B) to multiply, in the array's order of addition.

    Raises:
        ValueError: a size below 1, an unknown word, values of another shape.
    """
    for name, size in (("M", M), ("N", N), ("K", K), ("rows", rows), ("cols", cols)):
        if not isinstance(size, Integral) or isinstance(size, bool) or size < 1:
            raise ValueError(f"{name} = {size!r} is not a whole number of at least 1")
    for name, word, legal in (
        ("dataflow", dataflow, DATAFLOWS),
        ("drain", drain, DRAINS),
        ("folds", folds, FOLDS),
    ):
        if word not in legal:
            raise ValueError(f"{name} = {word!r}; legal: {', '.join(legal)}")
    M, N, K, rows, cols = (int(size) for size in (M, N, K, rows, cols))
    if dataflow == "os":
        down, across = ceil_div(M, rows), ceil_div(N, cols)
        busy, moving = K, 0 if drain == "none" else rows
        reads = {"A": across * M * K, "B": down * K * N}
    elif dataflow == "ws":
        down, across = ceil_div(K, rows), ceil_div(N, cols)
        busy, moving = M, rows
        reads = {"A": across * M * K, "B": K * N}
    else:
        down, across = ceil_div(K, rows), ceil_div(M, cols)
        busy, moving = N, rows
        reads = {"A": M * K, "B": across * K * N}
    count = down * across
    # Behind the last slot: the wave to the last PE, and one cycle more to the lane.
    wave = rows - 1 + cols - 1 + (0 if drain == "none" else 1)
    if folds == "serial":
        cycles = count * (busy + moving + wave)
    elif drain == "shadow":
        cycles = busy + moving + wave + (count - 1) * max(busy, moving)
    else:
        cycles = count * (busy + moving) + wave
    result = None
    if values is not None:
        result = _product(values, (M, N, K), rows, dataflow)
    used = M * N * K / (cycles * rows * cols)
    return GemmReport(cycles, used, reads, count, result)


def _product(
    values: tuple[Any, Any], sizes: tuple[int, int, int], rows: int, dataflow: str
) -> NDArray[np.float64]:
    """The product with sums in the order in which the array forms them."""
    from archsim.product_kernel import sum_in_order

    M, N, K = sizes
    a, b = (np.ascontiguousarray(value, dtype=np.float64) for value in values)
    if a.shape != (M, K) or b.shape != (K, N):
        raise ValueError(f"values of shapes {a.shape} and {b.shape}; due: {(M, K)} and {(K, N)}")
    # os adds one k after the other; ws and is add the rows of a fold first, then the folds.
    product: NDArray[np.float64] = sum_in_order(a, b, K if dataflow == "os" else rows)
    return product
