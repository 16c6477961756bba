"""Operations and points: closed forms against a walk over every point."""

import itertools
from collections import Counter

import pytest
from point_walker import walk_points

import einsum_cascade as ec
from archsim.arch import load_architecture
from archsim.mapping import load_mapping
from archsim.placement import place
from einsum_cascade.index_limits import regions
from einsum_cascade.operation_counts import operations
from einsum_cascade.point_counts import points
from einsum_cascade.rank_symbols import exact, names_in, sizes_of

CAUSAL = """QK[m,p] = Q[e,p]*K[e,m] where m <= p
GM[p] = max[m](QK[m,p])
SN[m,p] = exp(QK[m,p] - GM[p])
SD[p] = sum[m](SN[m,p])
AV[f,p] = sum[m](SN[m,p]*V[f,m]/SD[p])"""
WINDOW = """var n, p in N
input K[n,e], V[n,f]
QK[p,w] = Q[p,e]*K[p+w-W//2,e]
GM[p] = max[w](QK[p,w])
SN[p,w] = exp(QK[p,w] - GM[p])
SD[p] = sum[w](SN[p,w])
O[p,f] = sum[w](SN[p,w]*V[p+w-W//2,f]/SD[p])"""
BAND = "Z[p] = sum[m](exp(Q[p]*K[m])) where m <= p and p - m < W\nY[w] = X[w]*2"
SPLIT_CAUSAL = """rank M = M1*M0
QK[m1,m0,p] = Q[p]*K[m1,m0] where m1*M0 + m0 <= p
LM[m1,p] = max[m0](QK[m1,m0,p])
Z[p] = sum[m1](exp(LM[m1,p]))"""
DECAY = """S[0,e,f] = 0
S[n+1,e,f] = gamma*S[n,e,f] + K[n,e]*V[n,f]
O[n,f] = Q[n,e]*S[n+1,e,f]"""
LAGGED = "Z[n] = X[n]*X[n-1] - X[n-2]"
CORNER = "Z[m,p] = A[m]*B[p] where m + p >= 3 and m >= 1 and p < P - 1\nY = sum[m,p](abs(Z[m,p]))"
EQUAL = "T[m,p] = A[m]*B[p] where m == p\nZ[m] = max[p](T[m,p])"
CHOICE = "Z[m] = where(m > 2 and A[m] < 0.5, A[m]*B[m], B[m] - 1)"
CASES = {
    "causal": (CAUSAL, "MPEF"),
    "window": (WINDOW, "NWEF"),
    "band": (BAND, "MPW"),
    "split-causal": (SPLIT_CAUSAL, ("M", "M0", "P")),
    "decay": (DECAY, "NEF"),
    "lagged": (LAGGED, "N"),
    "corner": (CORNER, "MP"),
    "equal": (EQUAL, "MP"),
    "choice": (CHOICE, "M"),
}


def numbers(found, cascade, sizes):
    full = sizes_of(cascade, sizes, names_in(*found.values()))
    return {name: exact(formula, full) for name, formula in found.items()}, full


@pytest.mark.parametrize("name", CASES)
def test_counts_equal_a_walk_over_every_point(name):
    text, ranks = CASES[name]
    cascade = ec.parse(text, name)
    found, is_exact = operations(cascade)
    assert is_exact
    formulas = {str(e): points(cascade, e, region)[0] for e, region in regions(cascade)}
    # The first two ranks are those that filters and windows are about.
    for extents in itertools.product(*([(1, 2, 3, 5, 7)] * 2), *([(1, 3)] * len(ranks[2:]))):
        sizes = dict(zip(ranks, extents, strict=len(ranks) > 1))
        counted, full = numbers(found, cascade, sizes)
        walked = walk_points(cascade, full)
        assert dict(walked.ops) == {k: v for k, v in counted.items() if v}, sizes
        for line, formula in formulas.items():
            assert walked.points[line] == exact(formula, full), (sizes, line)


SHIPPED = {
    "softmax-naive": "MPEF",
    "softmax-3pass": "MPEF",
    "softmax-2pass": ("M", "M0", "P", "E", "F"),
    "softmax-1pass": ("M", "M0", "P", "E", "F"),
    "projection": "NDS",
    "toy-iterative": "K",
}


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize(
    "extents", [(1, 1, 1, 1, 1), (7, 3, 2, 3, 2), (5, 2, 3, 1, 4), (2, 5, 1, 2, 3)]
)
def test_shipped_cascades_with_ragged_tiles(name, extents):
    cascade = ec.load(name)
    ranks = SHIPPED[name]
    sizes = dict(zip(ranks, extents[: len(ranks)], strict=True))
    counted, full = numbers(operations(cascade)[0], cascade, sizes)
    assert dict(walk_points(cascade, full).ops) == counted


def test_softmax_on_paper():
    """M P exponentials; E M P + F M P products, each added up, and M P terms of the denominator."""
    found, _ = operations(ec.load("softmax-3pass"))
    assert {
        "div": "E*P + M*P",
        "mul": "E*M*P + F*M*P",
        "add": "E*M*P + F*M*P + M*P",
        "max": "M*P",
        "exp": "M*P",
        "sub": "M*P",
    } == {name: str(formula) for name, formula in found.items()}


def test_causal_count_on_paper():
    """Row p has min(M, p + 1) keys: for M = P = 4 there are 1 + 2 + 3 + 4 = 10."""
    found, _ = operations(ec.parse(CAUSAL))
    assert "M*Max(0, -M + P) + (Min(M, P) + 1)*Min(M, P)/2" == str(found["exp"])
    assert 10 == exact(found["exp"], {"M": 4, "P": 4})
    assert 9 == exact(found["exp"], {"M": 3, "P": 4})


@pytest.mark.parametrize(
    ("cascade", "hardware"), [("softmax-1pass", "fusemax"), ("softmax-3pass", "flat")]
)
def test_agrees_with_what_a_mapping_places(cascade, hardware):
    """A multiply-accumulate is one `mul` and one `add`; SQ is computed at load, for no slots."""
    sizes = {"M": 1024, "P": 512}
    placed = place(
        ec.load(cascade),
        ec.workload("bert", **sizes),
        load_architecture(hardware),
        load_mapping(hardware),
    )
    there = Counter()
    for work in placed.work:
        there.update(dict(work.operations))
    ours = ec.bounds(ec.load(cascade)).at(**sizes, E=64, F=64, S=1).ops
    assert ours["mul"] == there["mac"] + there["mul"]
    assert ours["add"] == there["mac"] + there["add"]
    assert ours["div"] == there["div"] + 64 * 512
    for operator in ("exp", "max", "sub"):
        assert ours[operator] == there[operator]


@pytest.mark.parametrize(
    "text",
    [
        "Z[m] = A[m]*2 where A[m] > 0.5",
        "Z[m,p] = A[m]*B[p] where m <= p or m == 3",
        "Z[m,p] = A[m]*B[p] where m != p",
        "Z[m,p] = A[m]*B[p] where 2*m <= p",
        "Z[m,p,q] = A[m]*B[p]*C[q] where m + p <= q",
        "Z[m,p,q] = A[m]*B[p]*C[q] where m <= p and p <= q",
    ],
)
def test_other_filters_give_an_upper_bound(text):
    cascade = ec.parse(text)
    found, is_exact = operations(cascade)
    assert not is_exact
    sizes = dict.fromkeys(cascade.ranks, 5)
    for name, number in walk_points(cascade, sizes).ops.items() if "0.5" not in text else ():
        assert number <= exact(found[name], sizes)
