"""Ways to stream: formulas on paper, and schedules executed word by word with a buffer."""

import itertools
import math
from pathlib import Path

import pytest
import sympy
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import einsum_cascade as ec
from einsum_cascade.rank_symbols import buffer_name, symbol

E, F, M, P, S, P_0, M0 = (symbol(name) for name in ("E", "F", "M", "P", "S", "P_0", "M0"))
SHIPPED = {name: ec.bounds(ec.load(name)) for name in ("softmax-3pass", "softmax-1pass")}


def ways(name):
    return {one.name: one for one in SHIPPED[name].alternatives}


def test_formulas_of_three_passes():
    """Live: P_0 rows of Q, AV, GM and SD, and one key and value; k = 3 multiplies K alone."""
    found = ways("softmax-3pass")
    assert ["re-read", "keep", "spill", "hold"] == list(found)
    blocks = sympy.ceiling(P / P_0)
    rows = E * P + F * P
    live = P_0 * (E + F + 2) + E + F
    assert 0 == sympy.expand(found["re-read"].live - live)
    assert 0 == sympy.expand(found["re-read"].traffic - (3 * E * M + F * M) * blocks - rows)
    assert 0 == sympy.expand(found["keep"].live - live - P_0 * M)
    assert 0 == sympy.expand(found["keep"].traffic - (E + F) * M * blocks - rows)
    assert 0 == sympy.expand(found["spill"].live - live)
    spilled = (E + F) * M * blocks + 3 * M * P + rows
    assert 0 == sympy.expand(found["spill"].traffic - spilled)
    assert 0 == sympy.expand(found["hold"].traffic - (E + F) * M - rows)
    assert 0 == found["re-read"].rows - sympy.Min(P, sympy.floor((S - E - F) / (E + F + 2)))


def test_formulas_of_one_pass():
    found = ways("softmax-1pass")
    assert ["re-read", "hold"] == list(found)
    assert 0 == sympy.expand(found["re-read"].live - P_0 * (E + F + 2) - (E + F) * M0)
    traffic = (E + F) * M * sympy.ceiling(P / P_0) + (E + F) * P
    assert 0 == sympy.expand(found["re-read"].traffic - traffic)


def test_crossover_on_paper():
    """Keeping pays for M < (k-1) E (E+F+2)/(E+F): 2 * 64 * 130/128 = 130 keys."""
    found = SHIPPED["softmax-3pass"]
    assert 0 == sympy.simplify(found.crossover - 2 * E * (E + F + 2) / (E + F))
    assert 130 == found.at(M=1, P=1, E=64, F=64, S=1).crossover
    two = ec.bounds(ec.load("softmax-3pass-deferred"))
    assert 65 == two.at(M=1, P=1, E=64, F=64, S=1).crossover
    assert SHIPPED["softmax-1pass"].crossover is None


@pytest.mark.parametrize(
    ("keys", "expected"), [(64, "keep"), (129, "keep"), (131, "re-read"), (256, "re-read")]
)
def test_crossover_decides_for_many_rows(keys, expected):
    """With rows without end, what a block does not fill, and rounding, do not count."""
    words, rows = 10**7, 10**12
    found = SHIPPED["softmax-3pass"].at(M=keys, P=rows, E=64, F=64, S=words)
    costs = {one.name: one.traffic for one in found.alternatives if one.name in ("keep", "re-read")}
    assert expected == min(costs, key=costs.get)


def test_too_small_a_buffer_is_said():
    found = SHIPPED["softmax-3pass"].at(M=8, P=8, E=4, F=4, S=10)
    assert found.best() is None
    first = found.alternatives[0]
    assert (None, None) == (first.traffic, first.rows)
    assert "needs 18 words, the buffer has 10" == first.reason


LINEAR = """KV[e,f] = K[m,e]*V[m,f]
O[p,f] = Q[p,e]*KV[e,f]"""
HEADS = """QK[h,m,p] = Q[h,e,p]*K[h,e,m]
GM[h,p] = max[m](QK[h,m,p])
SN[h,m,p] = exp(QK[h,m,p] - GM[h,p])
SD[h,p] = sum[m](SN[h,m,p])
AV[h,f,p] = sum[m](SN[h,m,p]*V[h,f,m]/SD[h,p])"""
GROUPED = HEADS.replace("[h,m,p]", "[h,g,m,p]").replace("[h,p]", "[h,g,p]")
GROUPED = GROUPED.replace("Q[h,e,p]", "Q[h,g,e,p]").replace("AV[h,f,p]", "AV[h,g,f,p]")
LATENT = """KU[m,h,e] = C[m,r]*WK[r,h,e]
QK[m,h,p] = Q[h,e,p]*KU[m,h,e]
GM[h,p] = max[m](QK[m,h,p])
SN[m,h,p] = exp(QK[m,h,p] - GM[h,p])
SD[h,p] = sum[m](SN[m,h,p])"""


def test_linear_attention_has_no_factor():
    """No value of a position carries a query, so K and V cross once, whatever P is."""
    (way, _) = ec.bounds(ec.parse(LINEAR), "M").alternatives
    assert 0 == sympy.expand(way.traffic - (E + F) * M - (E + F) * P)
    assert 1 == way.rows


def test_heads_go_one_after_the_other():
    """A slice of one head takes E + F + 2 words a row, as without heads; traffic is H times."""
    found = {one.name: one for one in ec.bounds(ec.parse(HEADS), "M").alternatives}
    alone = ways("softmax-3pass")
    for name, one in found.items():
        assert 0 == sympy.expand(one.live - alone[name].live), name
        assert 0 == sympy.expand(one.traffic - symbol("H") * alone[name].traffic), name


def test_groups_share_keys():
    """Rows are pairs of group and query: G P of them read the same keys."""
    found = ec.bounds(ec.parse(GROUPED), "M").alternatives[0]
    rows = symbol("rows_0")
    blocks = sympy.ceiling(symbol("G") * P / rows)
    assert 0 == sympy.expand(found.live - rows * (E + F + 2) - E - F)
    once = symbol("H") * symbol("G") * P * (E + F)
    assert 0 == sympy.expand(found.traffic - symbol("H") * (3 * E * M + F * M) * blocks - once)


def test_latent_keys_are_read_by_every_head():
    """C has no heads, so each head sweeps it; its weights stay while the head runs."""
    found = ec.bounds(ec.parse(LATENT), "M").alternatives[0]
    head, latent = symbol("H"), symbol("R")
    assert 0 == sympy.expand(found.live - P_0 * (E + 2) - E * latent - latent)
    blocks = sympy.ceiling(P / P_0)
    once = head * E * latent + head * E * P + head * P
    # SD is the output; C is read for the maximum and for the sum.
    assert 0 == sympy.expand(found.traffic - 2 * head * M * latent * blocks - once)


@pytest.mark.parametrize(
    ("text", "rank", "reason"),
    [
        ("Y = A[k]*B[k]\nZ[n] = X[n-1]*Y", "K", "Z reads a window, X[n-1]"),
        ("R[m] = sum[p](S[m,p])\nC[m,p] = S[m,p]/R[m]\nZ[p] = sum[m](C[m,p])", "M", ""),
        (
            "QK[m,p] = Q[e,p]*K[e,m]\nD[m] = sum[p](QK[m,p])\nZ[p] = sum[m](QK[m,p]/D[m])",
            "M",
            "D reduces over p, along the rows",
        ),
        (
            "var a, b in M\nZ[a] = max[b](X[a]*X[b])",
            "M",
            "Z pairs coordinates of M with one another",
        ),
        (
            "S[0] = 0\nS[n+1] = S[n] + X[n]\nZ = A[k]*S[3]*B[k]",
            "K",
            "S is a recurrence along N",
        ),
        (
            "F[0] = 0\nF[n+1] = F[n] + X[n]\nG[N] = 0\nG[n] = G[n+1] + X[n]\nZ[n] = F[n]*G[n]",
            "N",
            "G runs against another recurrence",
        ),
        (
            "F[0] = 0\nF[n+1] = F[n] + X[n]\nZ[n] = F[n+1]/F[N]",
            "N",
            "Z reads F[n+1] in a later sweep",
        ),
    ],
)
def test_what_does_not_stream_says_why(text, rank, reason):
    found = ec.bounds(ec.parse(text), rank)
    assert reason == found.reason
    assert bool(found.alternatives) == (not reason)


STREAMED = (
    "softmax-3pass",
    "softmax-2pass",
    "softmax-1pass",
    "softmax-naive",
    "toy-two-pass",
    "projection",
)
extents = st.integers(1, 40)
ALL = {name: ec.bounds(ec.load(name), "K" if "toy" in name else None) for name in STREAMED}


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(STREAMED),
    st.tuples(extents, extents, extents, extents, extents),
    st.integers(1, 5000),
    st.integers(1, 5000),
)
def test_bounds_below_alternatives_and_falling(name, drawn, first, second):
    """The lower bound never exceeds a schedule, and more buffer never costs more."""
    cascade, found = ec.load(name), ALL[name]
    ranks = dict(zip(["M", "P", "E", "F", "M0"], drawn, strict=True))
    ranks |= {"K": drawn[0], "N": drawn[0], "D": drawn[1], "S": drawn[2]}
    sizes = {rank: size for rank, size in ranks.items() if rank in cascade.ranks}
    small, large = sorted((first, second))
    reports = [found.at(**sizes, **{buffer_name(cascade): words}) for words in (small, large)]
    for report in reports:
        for one in report.alternatives:
            assert one.traffic is None or report.total <= one.traffic
    assert reports[1].total <= reports[0].total
    for before, after in zip(reports[0].alternatives, reports[1].alternatives, strict=True):
        assert before.traffic is None or after.traffic <= before.traffic


GOLDEN = yaml.safe_load((Path(__file__).parent / "golden" / "pass_numbers.yaml").read_text())[
    "cases"
]


@pytest.mark.parametrize("case", GOLDEN, ids=[case["name"] for case in GOLDEN])
def test_bounds_below_alternatives_of_many_cascades(case):
    """Along every analysed rank, for buffers from a word to plenty."""
    cascade = ec.parse(case["cascade"], case["name"])
    split = {part for _, parts in cascade.splits for part in parts}
    for row in case["passes"]:
        found = ec.bounds(cascade, row["rank"])
        name = buffer_name(cascade)
        for size, words in itertools.product((1, 3, 12), (1, 7, 40, 300, 10**4, 10**6)):
            sizes = {rank: size for rank in cascade.ranks if rank not in split}
            sizes |= {parts[-1]: 3 for _, parts in cascade.splits}
            report = found.at(**sizes, **{name: words})
            for one in report.alternatives:
                assert one.traffic is None or report.total <= one.traffic
                assert one.live is None or one.live <= words


def test_cliffs_are_where_the_figures_drop():
    found = SHIPPED["softmax-3pass"].at(M=4096, P=4096, E=64, F=64, S=1)
    drops = {cliff.what: cliff.words for cliff in found.cliffs}
    assert 4096 == drops["fiber of K over M fits"]
    assert 4096 + 258 == drops["keep fits"]
    for cliff in found.cliffs:
        before = SHIPPED["softmax-3pass"].at(M=4096, P=4096, E=64, F=64, S=cliff.words - 1)
        after = SHIPPED["softmax-3pass"].at(M=4096, P=4096, E=64, F=64, S=cliff.words)
        costs = [[one.traffic or math.inf for one in r.alternatives] for r in (before, after)]
        assert after.total < before.total or costs[1] < costs[0]


def test_best_changes_with_the_buffer():
    """Few words: spill; then many rows, read again; then everything stays."""
    found = SHIPPED["softmax-3pass"]
    sizes = {"M": 4096, "P": 4096, "E": 64, "F": 64}
    assert "spill" == found.best(**sizes, S=400).name
    assert "re-read" == found.best(**sizes, S=2**19).name
    assert "hold" == found.best(**sizes, S=2**20).name


ERRORS = {
    "unknown": ({"M": 4, "P": 4, "E": 4, "FF": 4, "S": 9}, "no rank 'FF'", "did you mean 'F'?"),
    "missing": (
        {"M": 4},
        "the size of E, F, P, S is not set; set: M=4",
        "E=..., F=..., P=..., S=...",
    ),
    "zero": ({"M": 0, "P": 4, "E": 4, "F": 4, "S": 9}, "the size of M is a positive integer", ""),
    "fraction": ({"M": 1.5, "P": 4, "E": 4, "F": 4, "S": 9}, "not 1.5", ""),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    sizes, message, hint = ERRORS[name]
    with pytest.raises(ec.CascadeError) as caught:
        SHIPPED["softmax-3pass"].at(**sizes)
    (problem,) = caught.value.problems
    assert "softmax-3pass" == problem.source.file
    assert message in problem.message
    assert hint in problem.hint


def test_missing_parts_are_asked_for_as_the_whole():
    with pytest.raises(ec.CascadeError, match="the size of E, F, M, P, S is not set"):
        SHIPPED["softmax-1pass"].at(M0=16)


def test_parts_that_do_not_cover_are_refused():
    with pytest.raises(ec.CascadeError, match="M1=2 x M0=3 do not cover M=7"):
        SHIPPED["softmax-1pass"].at(M=7, M1=2, M0=3, P=1, E=1, F=1, S=1)


def test_best_of_formulas_wants_sizes():
    with pytest.raises(ec.CascadeError, match=r"best\(M=\.\.\., S=\.\.\.\)"):
        SHIPPED["softmax-3pass"].best()


def test_a_rank_named_like_the_buffer():
    found = ec.bounds(ec.load("projection"))
    numbers = found.at(N=4, D=3, S=5, S_words=30)
    assert 3 * 5 == numbers.traffic["W"]
    with pytest.raises(ec.CascadeError, match="S_words"):
        found.at(N=4, D=3, S=5)


def test_numbers_are_exact():
    """2**70 words are not rounded; nothing is a float."""
    found = SHIPPED["softmax-3pass"].at(M=2**70 + 1, P=3, E=5, F=7, S=11)
    assert 5 * (2**70 + 1) + 2 * (2**70 + 1 - 11) == found.traffic["K"]
    assert 3 * (2**70 + 1) == found.ops["exp"]


def test_concatenated_ranks_add_up():
    text = """rank M = T + N
    L[t,p] = Q[e,p]*A[e,t]
    L[T+n,p] = Q[e,p]*B[e,n]
    GM[p] = max[m](L[m,p])
    Z[p] = sum[m](exp(L[m,p] - GM[p]))"""
    found = ec.bounds(ec.parse(text), "M")
    numbers = found.at(T=3, N=5, P=2, E=4, S=100)
    assert 2 * (3 + 5) == numbers.ops["exp"]
    assert 2 * 4 * (3 + 5) == numbers.ops["mul"]
    # The maximum needs all of both, so each part is read again after it.
    small = found.at(T=3, N=5, P=2, E=4, S=2)
    assert (4 * 3 + 1, 4 * 5 + 3) == (small.traffic["A"], small.traffic["B"])
    assert (3, 5) == (small.footprint["A"], small.footprint["B"])
    with pytest.raises(ec.CascadeError, match="M=9 is not T=3 \\+ N=5"):
        found.at(M=9, T=3, N=5, P=2, E=4, S=100)


def test_values_of_a_tile_keep_it_on_chip():
    """KC[m1,e] is a sum over a tile, whose keys stay; KC has no rows, so all of Q and Z stay."""
    text = """rank M = M1*M0
    KC[m1,e] = sum[m0](K[m1,m0,e])
    SC[p,m1] = Q[p,e]*KC[m1,e]
    Z[p] = max[m1](SC[p,m1])"""
    found = ec.bounds(ec.parse(text), "M").alternatives[0]
    assert 0 == sympy.expand(found.live - P * (E + 1) - E * M0)
