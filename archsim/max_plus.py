"""Matrices over the semiring (max, +): sums are maxima, products are sums, exactly, in integers.

(A x B)[i, j] = max over k of A[i, k] + B[k, j]. Read A[i, k] as a delay: event i happens at least
that long after event k; `NEVER` says that it does not wait for it. Then A x v is when events happen
if those before happened at v, the power A^n is n rounds, and squaring gives it in log n products.
The eigenvalue of A, what a round takes in the long run, is the largest mean weight of a circuit.

Source: Baccelli, Cohen, Olsder, Quadrat, "Synchronization and Linearity" (1992), chapters 2 and 3;
Karp, "A characterization of the minimum cycle mean in a digraph" (1978).
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.int64]

# Minus infinity, the neutral element of the maximum: what lies below half of it is it, too.
NEVER = -(1 << 60)


def identity(size: int) -> Matrix:
    """The matrix that changes nothing: 0 on the diagonal, NEVER elsewhere."""
    found = np.full((size, size), NEVER, np.int64)
    np.fill_diagonal(found, 0)
    return found


def product(a: Matrix, b: Matrix) -> Matrix:
    """Multiply: what b does, then what a does.

    Args:
        a: delays [rows, inner].
        b: delays [inner, columns].

    Raises:
        OverflowError: a delay of more than 2^58.
    """
    found = np.full((a.shape[0], b.shape[1]), NEVER, np.int64)
    for k in range(a.shape[1]):
        np.maximum(found, a[:, k, None] + b[k], out=found)
    found[found < NEVER // 2] = NEVER
    if found.max(initial=0) > 1 << 58:
        raise OverflowError("a delay of more than 2^58")
    return found


def power(a: Matrix, times: int) -> Matrix:
    """Multiply a square matrix with itself, in log2(times) squarings."""
    found = identity(len(a))
    while times:
        if times & 1:
            found = product(a, found)
        times >>= 1
        if times:
            a = product(a, a)
    return found


def eigenvalue(a: Matrix) -> Fraction | None:
    """The largest mean weight of a circuit of a square matrix; None if it has no circuit.

    Walks of exactly k steps into each event, of which F[k] are the heaviest, n events: Karp's
    theorem says it is max over v of min over k < n of (F[n, v] - F[k, v]) / (n - k).
    """
    size = len(a)
    walks = [np.zeros((size, 1), np.int64)]
    for _ in range(size):
        walks.append(product(a, walks[-1]))
    last = walks[-1][:, 0].tolist()
    table = np.hstack(walks[:-1])
    means = [
        min(
            Fraction(end - weight, size - k)
            for k, weight in enumerate(table[v].tolist())
            if weight != NEVER
        )
        for v, end in enumerate(last)
        if end != NEVER
    ]
    return max(means, default=None)
