"""The load bound: against every execution of small chains, and against a walk over all points."""

import heapq

import pytest
from point_walker import walk_points

import einsum_cascade as ec
from einsum_cascade.rank_symbols import exact, names_in, sizes_of
from einsum_cascade.traffic_bounds import compulsory

SIZES = {"M": 4096, "P": 4096, "E": 64, "F": 64}


def fewest_loads(n, levels, words):
    """Search all executions of a chain: v[l,i] needs v[l-1,i] and everything of level l-1.

    Position i has at most one value on chip, at some level (0: the element itself); a lower one
    can do all that a higher one can, so a second would be wasted. Values of every level may be
    spilled, which is free, and loaded again; those of lower levels may be recomputed. Positions
    are alike, so a state is a multiset of (level on chip, has been visited at this level).
    """
    start = (1, ((None, False),) * n)
    best = {start: 0}
    queue = [(0, 0, start)]
    while queue:
        loads, _, state = heapq.heappop(queue)
        level, positions = state
        if level > levels:
            return loads
        if loads > best[state]:
            continue
        for cost, after in steps(level, positions, words):
            if loads + cost < best.get(after, 10**9):
                best[after] = loads + cost
                heapq.heappush(queue, (loads + cost, len(best), after))
    raise AssertionError("no execution")


def steps(level, positions, words):
    """Load, drop, or compute one value; the level is over when all positions were visited."""
    resident = sum(held is not None for held, _ in positions)
    for i, (held, visited) in enumerate(positions):
        changes = []
        if held is None:
            if resident < words:
                spilled = range(level + visited)
                changes += [(1, (at, visited)) for at in spilled]
        else:
            changes.append((0, (None, visited)))
            if held < level:
                # Everything below this level is finished, so the chain can be climbed one by one.
                changes.append((0, (held + 1, visited or held + 1 == level)))
        for cost, position in changes:
            others = [*positions[:i], position, *positions[i + 1 :]]
            done = all(visited for _, visited in others)
            if done:
                others = [(held, False) for held, _ in others]
            key = sorted(others, key=lambda p: (-1 if p[0] is None else p[0], p[1]))
            yield cost, (level + done, tuple(key))


@pytest.mark.parametrize("n", range(1, 7))
@pytest.mark.parametrize("levels", range(1, 5))
@pytest.mark.parametrize("words", range(1, 4))
def test_theorem_against_all_executions(n, levels, words):
    assert n + (levels - 1) * max(0, n - words) == fewest_loads(n, levels, words)


@pytest.mark.parametrize("n", [4, 5, 6])
def test_footprint_against_all_executions(n):
    """Loading once takes n words, and no fewer do."""
    assert n == fewest_loads(n, 3, n)
    assert n < fewest_loads(n, 3, n - 1)


@pytest.mark.parametrize(
    ("name", "traffic", "footprint"),
    [
        ("softmax-3pass", "E*M + 2*Max(0, M - S)", "M"),
        ("softmax-3pass-deferred", "E*M + Max(0, M - S)", "M"),
        ("softmax-naive", "E*M + Max(0, M - S)", "M"),
        ("softmax-naive-deferred", "E*M", "1"),
        ("softmax-1pass", "E*M + Max(0, M0 - S)", "M0"),
    ],
)
def test_softmax(name, traffic, footprint):
    """The surplus of passes 2 and 3; one pass revisits only the tile it is at."""
    found = ec.bounds(ec.load(name))
    assert traffic == str(found.traffic["K"])
    assert footprint == str(found.footprint["K"])
    assert "F*M" == str(found.traffic["V"])
    assert "1" == str(found.footprint["V"])
    assert "E*P" == str(found.traffic["Q"])
    assert "F*P" == str(found.traffic["AV"])


def test_on_paper():
    """64 x 4096 words of K; passes 2 and 3 miss 4096 - 1096 = 3000 positions each."""
    found = ec.bounds(ec.load("softmax-3pass")).at(**SIZES, S=1096)
    assert 64 * 4096 + 2 * 3000 == found.traffic["K"]
    assert 4 * 64 * 4096 + 6000 == found.total
    assert all(type(words) is int for words in found.traffic.values())


def test_a_tile_is_no_longer_than_its_rank():
    found = ec.bounds(ec.load("softmax-1pass")).at(M=100, P=8, E=4, F=4, S=10)
    assert 100 == found.footprint["K"]
    assert 4 * 100 + 90 == found.traffic["K"]


def test_one_slow_rank_of_several_decides():
    """E of K is read twice to normalise it, M three times: the larger surplus counts, not both."""
    text = """NK[m] = sum[e](K[e,m]*K[e,m])
    KN[e,m] = K[e,m]/sqrt(NK[m])
    QK[m,p] = Q[e,p]*KN[e,m]
    GM[p] = max[m](QK[m,p])
    SN[m,p] = exp(QK[m,p] - GM[p])
    SD[p] = sum[m](SN[m,p])
    Z[m,p] = SN[m,p]/SD[p]"""
    found = ec.bounds(ec.parse(text), "M")
    numbers = found.at(M=10, E=100, P=3, S=4)
    assert 1000 + 96 == numbers.traffic["K"]
    assert 100 == numbers.footprint["K"]
    assert 1000 + 2 * 96 == found.at(M=100, E=10, P=3, S=4).traffic["K"]


READS = {
    "causal": ("Z[p] = sum[m](Q[p]*K[m]) where m <= p", "MP", True),
    "window": ("var n, p in N\ninput K[n]\nZ[p,w] = Q[p]*K[p+w-W//2]", "NW", True),
    "lagged": ("Z[n] = X[n-2]*Y[n]", "N", True),
    "diagonal": ("Z[m] = sum[p](A[m,p]) where m == p", "MP", True),
    "strided": (
        "rank N = P1*P0\nvar n in N\ninput K[n]\nZ[p1,p0,w] = Q[p1,p0]*K[p1*P0+w-W//2]",
        ("N", "P0", "W"),
        False,
    ),
    "split": (
        "rank M = M1*M0\nvar m in M\nZ[m1] = sum[m0](A[m1*M0+m0]*B[m1])\ninput A[m]",
        ("M", "M0"),
        True,
    ),
    "band": ("var w in W\nZ[p] = sum[m](Q[p]*K[m]) where m <= p and m > p - W", "MPW", True),
    "later": (
        "var w in W\nZ[p] = sum[m](Q[p]*K[m]) where m <= p + M - P and m > p + M - P - W",
        "MPW",
        True,
    ),
    "beyond": ("Z[p] = sum[m](Q[p]*K[m]) where m >= p + 2 and m - p <= W\nvar w in W", "MPW", True),
    "twofold": ("Z[p,g] = sum[m](Q[p,g]*K[m]) where m <= p + g and m >= p", "MPG", True),
    "stairs": ("Z[m,p] = A[m,p]*B[p] where m + p >= 3 and m + p <= 5", "MP", True),
    "data": ("Z[m] = A[m]*B[m] where C[m] > 0", "M", False),
}


@pytest.mark.parametrize("name", READS)
def test_compulsory_words_against_a_walk(name):
    """Never more than what is read; equal where filters and windows are of one kind."""
    text, ranks, is_equal = READS[name]
    cascade = ec.parse(text, name)
    formulas = {t: compulsory(cascade, t) for t in (*cascade.inputs, *cascade.outputs)}
    for first in (1, 2, 3, 5, 8):
        for second in (1, 2, 4):
            sizes = dict(zip(ranks, (first, second, 2), strict=False))
            full = sizes_of(cascade, sizes, names_in(*formulas.values()))
            if name == "data":
                assert 0 == formulas["A"]
                continue
            walked = walk_points(cascade, full)
            for tensor, formula in formulas.items():
                known = walked.read if tensor in cascade.inputs else walked.present
                number = exact(formula, full)
                assert number <= len(known[tensor]), (sizes, tensor)
                assert number == len(known[tensor]) or not is_equal, (sizes, tensor)


def test_causal_keys_beyond_the_last_query_are_never_read():
    text = """QK[m,p] = Q[e,p]*K[e,m] where m <= p
    GM[p] = max[m](QK[m,p])
    SN[m,p] = exp(QK[m,p] - GM[p])
    Z[p] = sum[m](SN[m,p])"""
    found = ec.bounds(ec.parse(text))
    assert "E*Min(M, P) + Max(0, -S + Min(M, P))" == str(found.traffic["K"])
    assert "Min(M, P)" == str(found.footprint["K"])


def test_keys_of_all_windows_are_read():
    """W keys for each query; together all that some query sees, not those of one query."""
    found = ec.bounds(ec.load("window-1pass"))
    at = found.at(M=1000, P=1000, E=8, F=8, W=10, S=512)
    assert 8 * 1000 == at.traffic["K"] == at.traffic["V"]
    assert 8 * (3 + 10 - 1) == found.at(M=1000, P=3, E=8, F=8, W=10, S=512).traffic["K"]


def test_a_banded_filter_promises_no_surplus():
    """Each row reads W keys: no row covers the rank, so nothing is known of a second pass."""
    text = """QK[m,p] = Q[p]*K[m] where m <= p and p - m < 4
    GM[p] = max[m](QK[m,p])
    Z[p] = sum[m](exp(QK[m,p] - GM[p]))"""
    found = ec.bounds(ec.parse(text))
    assert "S" not in {size.name for size in found.traffic["K"].free_symbols}


def test_gathered_rows_are_few():
    text = """S[p,m] = Q[p,e]*K[m,e]
    I[p,k] = argtopk[m](S[p,m])
    O[p,f] = sum[k](V[I[p,k],f])"""
    found = ec.bounds(ec.parse(text), "M")
    assert "F*Min(K, M)" == str(found.traffic["V"])
