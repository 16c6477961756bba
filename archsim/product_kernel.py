"""A matrix product whose sums are formed in a given order, to the last bit; for numba."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@numba.njit(cache=True)
def add_fold(sums: Floats, a: Floats, row: int, b: Floats, first: int, last: int) -> None:
    """Add a row of A times B to sums [N], for k from `first` to before `last`, one by one."""
    k = first
    # Four at a time, so that a sum is read and written once for all of them.
    while k + 4 <= last:
        w, x, y, z = a[row, k], a[row, k + 1], a[row, k + 2], a[row, k + 3]
        for c in range(sums.shape[0]):
            total = sums[c] + w * b[k, c]
            total += x * b[k + 1, c]
            total += y * b[k + 2, c]
            sums[c] = total + z * b[k + 3, c]
        k += 4
    while k < last:
        for c in range(sums.shape[0]):
            sums[c] += a[row, k] * b[k, c]
        k += 1


@numba.njit(cache=True)
def sum_in_order(a: Floats, b: Floats, fold: int) -> Floats:
    """A[M,K] x B[K,N]: one k after the other within a fold of `fold` of them, then fold by fold."""
    M, K = a.shape
    result, partial = np.zeros((M, b.shape[1])), np.zeros(b.shape[1])
    # What a fold reads of B stays in a cache while the rows of A go by.
    for first in range(0, K, fold):
        for row in range(M):
            for c in range(partial.shape[0]):
                partial[c] = 0.0
            add_fold(partial, a, row, b, first, min(K, first + fold))
            for c in range(partial.shape[0]):
                result[row, c] += partial[c]
    return result
