"""Forty cascades whose pass numbers take some thought; each row says why its numbers are right.

A number is exact, a pair is an honest interval: what is certain for every schedule, and what a
schedule needs. Symbolic analysis and element counts must both agree with what is written here.
"""

import pytest

import einsum_cascade as ec
from einsum_cascade.element_passes import count_passes

# name: (text, rank, passes of tensors, why)
CASES: dict[str, tuple[str, str, dict[str, int | tuple[int, int]], str]] = {
    "opposed scans that meet": (
        "P[0] = 0\nP[n+1] = P[n] + X[n]\nS[N] = 0\nS[n] = S[n+1] + X[n]\nZ[n] = P[n]*S[n]",
        "N",
        {"X": 2},
        "P[n] and S[n] together have seen every X before any Z[n] is there",
    ),
    "opposed scans that leave a hole": (
        "P[0] = 0\nP[n+1] = P[n] + X[n]\nS[N] = 0\nS[n] = S[n+1] + X[n]\nZ[n] = P[n]*S[n+1]",
        "N",
        {"X": (1, 2)},
        "Z[n] never sees X[n]: no element must wait for all others, yet two directions are needed",
    ),
    "opposed scans, hole filled": (
        "P[0] = 0\nP[n+1] = P[n] + X[n]\nS[N] = 0\nS[n] = S[n+1] + X[n]\nZ[n] = P[n]*S[n+1]*X[n]",
        "N",
        {"X": 2},
        "X[n] itself fills the hole",
    ),
    "two ends of opposed scans": (
        "P[0] = 0\nP[n+1] = P[n]/2 + X[n]\nS[N] = 0\nS[n] = S[n+1]/2 + X[n]\nZ = P[N]*S[0]",
        "N",
        {"X": (1, 2)},
        "only two final values are used, but one sweep has one direction",
    ),
    "suffix alone": (
        "S[N] = 0\nS[n] = S[n+1]/2 + X[n]\nZ[n] = S[n]*X[n]",
        "N",
        {"X": 1},
        "one downward sweep",
    ),
    "suffix, then used from its end": (
        "S[N] = 0\nS[n] = S[n+1]/2 + X[n]\nZ[n] = S[0]*X[n]",
        "N",
        {"X": 2},
        "S[0] is known when all of X was seen",
    ),
    "prefix fed by a suffix": (
        "S[N] = 0\nS[n] = S[n+1]/2 + X[n]\nP[0] = 0\nP[n+1] = P[n]/2 + S[n]\nZ = P[N]*1",
        "N",
        {"X": 2},
        "P starts with S[0], which has seen everything",
    ),
    "cumulative sum normalised by its last": (
        "C[0] = 0\nC[n+1] = C[n] + X[n]\nZ[n] = C[n+1]/C[N]",
        "N",
        {"X": 2},
        "C[N] is known after the sweep, every C[n+1] is needed again",
    ),
    "cumulative sum normalised as it goes": (
        "C[0] = 0\nC[n+1] = C[n] + X[n]\nZ[n] = X[n]/C[n+1]",
        "N",
        {"X": 1},
        "a prefix is known at its position",
    ),
    "running maximum with correction": (
        "R[0] = -inf\nR[m+1] = max(R[m], X[m])\nD[0] = 0\n"
        "D[m+1] = D[m]*exp(R[m] - R[m+1]) + exp(X[m] - R[m+1])\nZ = log(D[M]) + R[M]",
        "M",
        {"X": 1},
        "online log-sum-exp",
    ),
    "online statistics, then probabilities": (
        "R[0] = -inf\nR[m+1] = max(R[m], X[m])\nD[0] = 0\n"
        "D[m+1] = D[m]*exp(R[m] - R[m+1]) + exp(X[m] - R[m+1])\nY[m] = exp(X[m] - R[M])/D[M]",
        "M",
        {"X": 2},
        "one sweep for the statistics, one for the outputs",
    ),
    "three chained barriers": (
        "Y1 = sum[k](A[k])\nY2 = sum[k](A[k]*exp(Y1))\nY3 = sum[k](A[k]*exp(Y2))\nZ[k] = A[k]/Y3",
        "K",
        {"A": 4, "Z": 1},
        "each sum needs the one before it, and Z all three",
    ),
    "barrier of another tensor": (
        "Y = sum[m](A[m])\nZ = sum[m](B[m]*exp(Y))\nW[m] = B[m]*Z",
        "M",
        {"A": 1, "B": 2},
        "A is only summed; B is summed and then scaled",
    ),
    "two-level softmax": (
        "rank M = M1*M0\nL[m1] = max[m0](X[m1,m0])\nS[m1,m0] = exp(X[m1,m0] - L[m1])\n"
        "T[m1] = sum[m0](S[m1,m0])\nG = max[m1](L[m1])\nU[m1] = T[m1]*exp(L[m1] - G)\n"
        "D = sum[m1](U[m1])\nY[m1,m0] = S[m1,m0]*exp(L[m1] - G)/D",
        "M",
        {"X": 2, "S": 2},
        "tile statistics are kept; the elements wait once, for the global ones",
    ),
    "two-level softmax within a tile": (
        "rank M = M1*M0\nL[m1] = max[m0](X[m1,m0])\nS[m1,m0] = exp(X[m1,m0] - L[m1])\n"
        "T[m1] = sum[m0](S[m1,m0])\nY[m1,m0] = S[m1,m0]/T[m1]",
        "M0",
        {"X": 3, "S": 2},
        "a whole softmax inside each tile",
    ),
    "softmax of each tile is streaming": (
        "rank M = M1*M0\nL[m1] = max[m0](X[m1,m0])\nS[m1,m0] = exp(X[m1,m0] - L[m1])\n"
        "T[m1] = sum[m0](S[m1,m0])\nY[m1,m0] = S[m1,m0]/T[m1]",
        "M",
        {"X": 1, "Y": 1},
        "over the whole rank a tile is a lookback",
    ),
    "columns of tiles": (
        "rank M = M1*M0\nC[m0] = sum[m1](X[m1,m0])\nY[m1,m0] = X[m1,m0]/C[m0]",
        "M",
        {"X": (1, 2)},
        "C[m0] has seen one element of each tile only: nobody waits for all of X",
    ),
    "columns of tiles, for all": (
        "rank M = M1*M0\nC[m0] = sum[m1](X[m1,m0])\nG = max[m0](C[m0])\nY[m1,m0] = X[m1,m0]/G",
        "M",
        {"X": 2},
        "the columns together have seen everything",
    ),
    "columns of tiles by outer coordinate": (
        "rank M = M1*M0\nC[m0] = sum[m1](X[m1,m0])\nY[m1,m0] = X[m1,m0]/C[m0]",
        "M1",
        {"X": 2},
        "at fixed m0 the column is the fiber",
    ),
    "lagged tile statistics": (
        "rank M = M1*M0\nL[m1] = max[m0](X[m1,m0])\nR[0] = -inf\nR[m1+1] = max(R[m1], L[m1])\n"
        "S[m1,m0] = exp(X[m1,m0] - R[m1])\nT[m1] = sum[m0](S[m1,m0])",
        "M0",
        {"X": 1},
        "a tile is scaled by the maximum of the tiles before: its own is not waited for",
    ),
    "tile statistics without a lag": (
        "rank M = M1*M0\nL[m1] = max[m0](X[m1,m0])\nR[0] = -inf\nR[m1+1] = max(R[m1], L[m1])\n"
        "S[m1,m0] = exp(X[m1,m0] - R[m1+1])\nT[m1] = sum[m0](S[m1,m0])",
        "M0",
        {"X": 2},
        "R[m1+1] includes the tile's own maximum",
    ),
    "opposed scans of tile statistics": (
        "rank M = M1*M0\nL[m1] = max[m0](X[m1,m0])\nP[0] = 0\nP[m1+1] = P[m1] + L[m1]\n"
        "S[M1] = 0\nS[m1] = S[m1+1] + L[m1]\nZ[m1,m0] = X[m1,m0]*P[m1]*S[m1]",
        "M",
        {"X": 2},
        "before and from a tile on is everywhere",
    ),
    "self-normalised window": (
        "var n, p in N\ninput K[n]\nA[p,w] = 2*K[p+w-W//2]\nG[p] = max[w](A[p,w])\n"
        "S[p,w] = exp(A[p,w] - G[p])\nD[p] = sum[w](S[p,w])\nO[p,w] = S[p,w]/D[p]",
        "N",
        {"K": 1, "O": 1},
        "a window is a lookback of W",
    ),
    "self-normalised window over itself": (
        "var n, p in N\ninput K[n]\nA[p,w] = 2*K[p+w-W//2]\nG[p] = max[w](A[p,w])\n"
        "S[p,w] = exp(A[p,w] - G[p])\nD[p] = sum[w](S[p,w])\nO[p,w] = S[p,w]/D[p]",
        "W",
        {"A": 3, "S": 2, "O": 1},
        "the window's own fiber is a whole softmax",
    ),
    "window, then the whole": (
        "var n, p in N\ninput X[n]\nC[p] = sum[w](X[p+w-W//2]*F[w])\nG = max[p](C[p])\n"
        "Y[p] = exp(C[p] - G)",
        "N",
        {"X": 2, "C": 2, "Y": 1},
        "a convolution has full resolution: used again after its maximum, it is a second visit",
    ),
    "dilated window": (
        "var n, p in N\ninput X[n]\nC[p] = sum[w](X[p+2*w-W]*F[w])\nY[p] = C[p]*X[p]",
        "N",
        {"X": 1},
        "a wider lookback",
    ),
    "strided neighbourhood": (
        "rank N = P1*P0\nvar n in N\ninput K[n]\nA[p1,p0,w] = Q[p1,p0]*K[p1*P0+w-W//2]\n"
        "G[p1,p0] = max[w](A[p1,p0,w])\nS[p1,p0,w] = exp(A[p1,p0,w] - G[p1,p0])\n"
        "O[p1,p0] = sum[w](S[p1,p0,w]*K[p1*P0+w-W//2])",
        "N",
        {"K": 1, "Q": 1},
        "queries of a tile share a window that moves on with the tile",
    ),
    "causal softmax": (
        "A[m,p] = Q[p]*K[m] where m <= p\nG[p] = max[m](A[m,p])\nS[m,p] = exp(A[m,p] - G[p])\n"
        "D[p] = sum[m](S[m,p])\nO[p] = sum[m](S[m,p]/D[p])",
        "M",
        {"K": 3, "A": 3, "S": 2},
        "the last row sees every key",
    ),
    "strictly causal softmax": (
        "A[m,p] = Q[p]*K[m] where m < p\nG[p] = max[m](A[m,p])\nS[m,p] = exp(A[m,p] - G[p])",
        "M",
        {"K": 2},
        "the last row sees every key that anybody reads",
    ),
    "causal softmax by query": (
        "A[m,p] = Q[p]*K[m] where m <= p\nG[p] = max[m](A[m,p])\nS[m,p] = exp(A[m,p] - G[p])",
        "P",
        {"Q": 1},
        "rows do not meet",
    ),
    "band": (
        "A[m,p] = Q[p]*K[m] where m <= p and p - m < 3\nG[p] = max[m](A[m,p])\n"
        "S[m,p] = exp(A[m,p] - G[p])",
        "M",
        {"K": (1, 2)},
        "no row sees more than three keys; that they move on steadily the rules do not know",
    ),
    "two halves": (
        "Y = sum[m](A[m]) where m < M//2\nZ = sum[m](A[m]*Y) where m >= M//2",
        "M",
        {"A": (1, 2)},
        "the half that waits is not the half that is waited for",
    ),
    "columns and rows": (
        "A[m,p] = Q[p]*K[m]\nC[m] = sum[p](exp(A[m,p]))\nR[p] = sum[m](exp(A[m,p]))\n"
        "Z[m,p] = A[m,p]/C[m]/R[p]",
        "M",
        {"K": 2, "A": 2, "C": 1},
        "row sums over M are a barrier, column sums are tied to their own m",
    ),
    "attention with column statistics": (
        "A[m,p] = Q[p]*K[m]\nC[m] = max[p](A[m,p])\nS[m,p] = exp(A[m,p] - C[m])\n"
        "G[p] = max[m](S[m,p])\nT[m,p] = S[m,p]/G[p]\nD[p] = sum[m](T[m,p])\nO[m,p] = T[m,p]/D[p]",
        "M",
        {"K": 3, "A": 3, "C": 3, "S": 3, "T": 2},
        "C costs nothing along M; maximum and sum over M cost a sweep each",
    ),
    "block sparse gather": (
        "input B[j]\nG[j,w] = 2*K[B[j],w]\nX = max[j,w](G[j,w])\nS[j,w] = exp(G[j,w] - X)",
        "J",
        {"G": 2, "B": 2, "S": 1},
        "the gathered blocks are a fiber of their own",
    ),
    "static gather makes no barrier": (
        "input B[k]\nvar m in M\ninput X[m]\nG[k] = 2*X[B[k]]\nD = sum[k](G[k])\nY[m] = X[m]/D",
        "M",
        {"X": (1, 2)},
        "B may select one element only; the schedule cannot count on that",
    ),
    "top-k of a top-k": (
        "var j in J\nT[k] = topk[m](X[m])\nU[j] = topk[k](T[k])\nY[m] = X[m]*step(X[m] - U[0])",
        "M",
        {"X": 2},
        "the second selection works on k kept values",
    ),
    "gather what a top-k chose": (
        "input B[m]\nI[k] = argtopk[m](A[m])\nZ[k] = 2*B[I[k]]\nW[k] = A[I[k]]*Z[k]",
        "M",
        {"A": 2, "B": 1},
        "A is read to choose and then at what it chose; B only at what was chosen",
    ),
    "layernorm in two sweeps": (
        "S[n] = sum[d](X[n,d])\nT[n] = sum[d](X[n,d]*X[n,d])\n"
        "Y[n,d] = (X[n,d] - S[n]/D)/sqrt(T[n]/D - (S[n]/D)**2)",
        "D",
        {"X": 2},
        "both moments in one sweep",
    ),
    "group norm": (
        "rank D = D1*D0\nS[d1] = sum[d0](X[d1,d0])\nV[d1] = sum[d0]((X[d1,d0] - S[d1])**2)\n"
        "Y[d1,d0] = (X[d1,d0] - S[d1])/sqrt(V[d1])",
        "D0",
        {"X": 3},
        "mean, variance, output, inside each group",
    ),
    "agent attention with a prefix": (
        "A[b,m] = G[b]*K[m]\nX[b] = max[m](A[b,m])\nS[b,m] = exp(A[b,m] - X[b])\n"
        "C[0,b] = 0\nC[m+1,b] = C[m,b] + S[b,m]\nO[b,m] = S[b,m]/C[m+1,b]",
        "M",
        {"K": 2, "S": 1},
        "the normaliser runs along, the maximum does not",
    ),
    "sinkhorn, three steps": (
        "V[0,m] = Z[m]\nRU[t,p] = sum[m](E[m,p]*V[t,m])\nRV[t,m] = sum[p](E[m,p]/RU[t,p])\n"
        "V[t+1,m] = 1/RV[t,m]\nA[m,p] = E[m,p]*V[3,m]/RU[2,p]",
        "M",
        {"E": 4},
        "T + 1 with T = 3: each step ends with a barrier over M",
    ),
    "power iteration": (
        "X[0,e] = Y[e]\nX[t+1,e] = sum[m](X[t,e]*K[m,e])\nO[e] = X[3,e]*1",
        "M",
        {"K": 3},
        "one barrier a step",
    ),
    "momentum that never looks back": (
        "S[0,e] = 0\nS[n+1,e] = S[n,e]/2 + K[n,e]\nO[n] = sum[e](Q[n,e]*S[n+1,e])",
        "N",
        {"K": 1, "Q": 1, "O": 1},
        "linear attention with decay",
    ),
    "delta rule reads its state along E": (
        "S[0,e] = 0\nU[n] = sum[e](S[n,e]*K[n,e])\nS[n+1,e] = S[n,e] + K[n,e]*(V[n] - U[n])",
        "E",
        {"K": 3},
        "two steps: the write of each needs the whole product of state and key",
    ),
    "grouped heads": (
        "input K[g,m]\nA[h,m] = Q[h]*K[h//2,m]\nX[h] = max[m](A[h,m])\nS[h,m] = exp(A[h,m] - X[h])",
        "M",
        {"K": 2},
        "which group a head reads changes nothing along M",
    ),
    "every element against every other": (
        "var n, p in N\nA[n,p] = X[n]*X[p]\nG[p] = max[n](A[n,p])\nS[n,p] = exp(A[n,p] - G[p])",
        "N",
        {"X": (2, 4)},
        "maxima over all n; the schedule first needs one whole X beside the other",
    ),
    "reversal": (
        "Z[m] = X[m]*X[M-1-m]",
        "M",
        {"X": (1, 2)},
        "the partner comes late, but nothing waits for everything",
    ),
    "one softmax over two sources of keys": (
        "rank M = T + N\nL[t,p] = Q[p]*A[t]\nL[T+n,p] = Q[p]*B[n]\nG[p] = max[m](L[m,p])\n"
        "S[m,p] = exp(L[m,p] - G[p])\nD[p] = sum[m](S[m,p])\nY[m,p] = S[m,p]/D[p]",
        "M",
        {"A": 3, "B": 3, "L": 3, "S": 2, "Y": 1},
        "each source waits for both",
    ),
    "two sources, one by itself": (
        "rank M = T + N\nL[t,p] = Q[p]*A[t]\nL[T+n,p] = Q[p]*B[n]\nG[p] = max[m](L[m,p])\n"
        "S[m,p] = exp(L[m,p] - G[p])",
        "N",
        {"B": 2},
        "the part has a fiber of its own",
    ),
    "a barrier in one of two sources": (
        "rank M = T + N\nL[t] = 2*A[t]\nL[T+n] = 2*B[n]\nG = max[n](L[T+n])\n"
        "S[m] = exp(L[m] - G)\nH = max[t](S[t])\nU[n] = B[n]*H",
        "M",
        {"A": 1, "B": 2, "L": (1, 2), "S": 1},
        "A is scaled by what B says, and waits for nothing of its own; L waits for a part of L",
    ),
    "wrapped window": (
        "var n, p in N\ninput X[n]\nC[p] = sum[w](X[(p+w)%N]*F[w])",
        "N",
        {"X": 1},
        "the first W elements are kept until the end",
    ),
    "clamped window, then its maximum": (
        "var n, p in N\ninput X[n]\nC[p] = sum[w](X[clamp(p+w-W//2, 0, N-1)]*F[w])\n"
        "G = max[p](C[p])\nY[p] = C[p]/G",
        "N",
        {"X": 2, "C": 2},
        "edges repeat elements that are at hand",
    ),
    "chosen by data": (
        "G = max[m](X[m])\nY[m] = where(X[m] > G/2, X[m], A[m])",
        "M",
        {"X": 2, "A": 1},
        "the condition reads X again, whatever it says",
    ),
    "filtered by data": (
        "G = max[m](X[m])\nY[m] = X[m]*2 where X[m] > G",
        "M",
        {"X": (1, 2)},
        "how many points there are only data knows",
    ),
    "minimum of indices": (
        "var n, p in N\ninput X[n]\nY[p] = X[p]*X[min(p+1, N-1)]",
        "N",
        {"X": 1},
        "a neighbour",
    ),
    "causal mask by choice": (
        "A[m,p] = where(m <= p, Q[p]*K[m], -inf)\nG[p] = max[m](A[m,p])\n"
        "S[m,p] = exp(A[m,p] - G[p])\nD[p] = sum[m](S[m,p])\nO[p] = sum[m](S[m,p]/D[p])",
        "M",
        {"K": 3, "A": 3},
        "as the filter, though masked elements exist",
    ),
    "choice by position": (
        "D = sum[m](X[m])\nY[m] = where(m < 2, X[m], X[m]/D)",
        "M",
        {"X": (1, 2)},
        "how many elements need D is not decided here",
    ),
}
# Steps of recurrences that add passes.
STEPS = {
    "sinkhorn, three steps": {"T": 3},
    "power iteration": {"T": 3},
    "delta rule reads its state along E": {"N": 2},
}


def _interval(number):
    return number if isinstance(number, tuple) else (number, number)


@pytest.mark.parametrize("name", CASES)
def test_hard_cascade(name):
    text, rank, expected, _ = CASES[name]
    report = ec.passes(ec.parse(text, name), rank, sizes=STEPS.get(name))
    found = {tensor: (report.tensors[tensor], report.upper[tensor]) for tensor in expected}
    assert {tensor: _interval(number) for tensor, number in expected.items()} == found


@pytest.mark.parametrize("name", CASES)
def test_elements_agree(name):
    text, rank, expected, _ = CASES[name]
    cascade = ec.parse(text, name)
    found = count_passes(cascade, rank, sizes=STEPS.get(name))
    for tensor, number in expected.items():
        low, high = _interval(number)
        assert low <= found[tensor].lower <= high
        assert low <= found[tensor].upper
        if low == high:
            assert found[tensor].upper == high


def test_there_are_many():
    assert len(CASES) >= 40
