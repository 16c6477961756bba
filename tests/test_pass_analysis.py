"""Pass numbers: the table of expected values, properties that must hold, and the witness."""

import itertools
from pathlib import Path

import pytest
import yaml

import einsum_cascade as ec
from einsum_cascade.element_passes import count_passes
from einsum_cascade.pass_counts import is_pointwise

TABLE = yaml.safe_load((Path(__file__).parent / "golden" / "pass_numbers.yaml").read_text())[
    "cases"
]
ROWS = [(case, row) for case in TABLE for row in case["passes"]]


@pytest.mark.parametrize(
    ("case", "row"), ROWS, ids=[f"{c['name']}-{r['rank']}-{r['tensor']}" for c, r in ROWS]
)
def test_expected_passes(case, row):
    report = ec.passes(ec.parse(case["cascade"], case["name"]), row["rank"])
    assert row["all_tensors"] == {name: report.tensors[name] for name in row["all_tensors"]}
    assert row["passes"] == report.tensors[row["tensor"]]
    assert report.passes == max(report.tensors.values())


def test_all_rows_are_there():
    assert len(ROWS) == 53


@pytest.mark.parametrize(
    ("name", "rank", "expected"),
    [
        ("softmax-naive", "M", 2),
        ("softmax-naive-deferred", "M", 1),
        ("softmax-3pass", "M", 3),
        ("softmax-3pass", "P", 1),
        ("softmax-3pass-deferred", "M", 2),
        ("softmax-2pass", "M", 2),
        ("softmax-2pass", "M0", 3),
        ("softmax-1pass", "M", 1),
        ("softmax-1pass", "M0", 2),
        ("softmax-1pass", None, 1),
        ("toy-two-pass", None, 2),
        ("toy-deferred", None, 1),
        ("toy-iterative", "K", 1),
    ],
)
def test_shipped_cascades(name, rank, expected):
    report = ec.passes(ec.load(name), rank)
    assert expected == report.passes
    assert report.tight


def test_witness_is_the_chain_of_reads():
    report = ec.passes(ec.load("softmax-3pass"), "M")
    assert report.tensor == "K"
    assert report.witness == (
        "pass 1 reads K[e,m] in QK[m,p] = SQ[e,p]*K[e,m]",
        "barrier: GM[p] = max[m](QK[m,p]) needs all of M",
        "pass 2 reads QK[m,p] (from K) in SN[m,p] = exp(QK[m,p] - GM[p])",
        "barrier: SD[p] = sum[m](SN[m,p]) needs all of M",
        "pass 3 reads SN[m,p] (from K) in A[m,p] = SN[m,p]/SD[p]",
    )
    assert report.tensors == {"QK": 3, "K": 3, "SN": 2, "A": 1, "V": 1}
    assert str(report).startswith("softmax-3pass over M: 3 passes")


ONE_PASS = str(ec.load("softmax-1pass"))


def test_a_filter_leaves_no_chain():
    """Nobody knows whether a filter lets through more than half: the report says so."""
    report = ec.passes(ec.load("causal-1pass"))
    assert () == report.witness
    why = str(report).split("why K needs 1:\n")[1].split("\n\n")[0]
    assert (
        "  what is read is read once; behind filters and gathers no chain is sure to force more"
        == why
    )


def test_a_lagged_maximum_needs_no_second_read_of_a_tile():
    """With the maximum of the tiles before, a tile's logits are used as soon as they are known."""
    lagged = ONE_PASS.replace("QK[m1,m0,p] - RM[m1+1,p]", "QK[m1,m0,p] - RM[m1,p]")
    assert lagged != ONE_PASS
    assert ec.passes(ec.parse(lagged), "M0").passes == 1
    assert ec.passes(ec.parse(ONE_PASS), "M0").passes == 2


def test_removing_a_link_of_the_witness_lowers_the_number():
    text = str(ec.load("softmax-3pass"))
    without_sum = text.replace("A[m,p] = SN[m,p]/SD[p]", "A[m,p] = SN[m,p]")
    without_max = text.replace("exp(QK[m,p] - GM[p])", "exp(QK[m,p])")
    assert ec.passes(ec.parse(without_sum), "M").passes == 2
    assert ec.passes(ec.parse(without_max), "M").passes == 2


@pytest.mark.parametrize("name", ["softmax-3pass", "softmax-2pass", "softmax-1pass"])
def test_renaming_and_reordering_change_nothing(name):
    cascade = ec.load(name)
    lines = str(cascade).splitlines()
    head = [line for line in lines if line.startswith("rank")]
    body = [line for line in lines if not line.startswith("rank")]
    expected = ec.passes(cascade, "M").tensors
    backwards = ec.parse("\n".join(head + body[::-1]))
    assert expected == ec.passes(backwards, "M").tensors
    renamed = ec.parse("\n".join(lines).replace("p]", "q]").replace(",p", ",q"))
    assert expected == ec.passes(renamed, "M").tensors


@pytest.mark.parametrize(("name", "expected"), [("softmax-3pass", 3), ("softmax-2pass", 2)])
def test_copies_cost_nothing(name, expected):
    index = "m" if name == "softmax-3pass" else "m1,m0"
    text = str(ec.load(name)).replace(f"SQ[e,p]*K[e,{index}]", f"SQ[e,p]*KK[e,{index}]")
    report = ec.passes(ec.parse(f"{text}\nKK[e,{index}] = K[e,{index}]"), "M")
    assert report.tensors["K"] == report.tensors["KK"] == expected


@pytest.mark.parametrize("count", range(1, 6))
def test_chained_barriers_add_up(count):
    """Y0 = sum A; Yi = sum of A times Y(i-1): each needs the one before, so count + 1 reads."""
    lines = ["Y0 = sum[k](A[k])"]
    lines += [f"Y{i} = sum[k](A[k]*exp(Y{i - 1}))" for i in range(1, count + 1)]
    report = ec.passes(ec.parse("\n".join(lines)), "K")
    assert report.passes == count + 1
    assert len(report.witness) == 2 * count + 1


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_iterations_over_another_rank_are_unrolled(steps):
    """Hopfield retrieval reads its keys three times a step."""
    hopfield = next(case for case in TABLE if case["name"] == "hopfield-2-iterations")
    cascade = ec.parse(hopfield["cascade"].replace("X[2,e]", f"X[{steps},e]"))
    assert ec.passes(cascade, "M").tensors["K"] == 3 * steps


def test_opposed_scans_need_two_passes():
    scans = "P[0] = 0\nP[n+1] = P[n] + X[n]\nS[n] = S[n+1] + X[n]\nS[N] = 0\n"
    assert ec.passes(ec.parse(scans + "Z[n] = P[n]*S[n]"), "N").tensors["X"] == 2
    one_way = "P[0] = 0\nP[n+1] = P[n] + X[n]\nZ[n] = P[n]*X[n]"
    assert ec.passes(ec.parse(one_way), "N").tensors["X"] == 1


def test_errors_name_rank_and_cure():
    with pytest.raises(ec.CascadeError, match="did you mean 'M'") as error:
        ec.passes(ec.load("softmax-1pass"), "M2")
    assert "no rank 'M2'" in str(error.value)
    with pytest.raises(ec.CascadeError, match="say which rank to analyse"):
        ec.passes(ec.load("toy-iterative"))
    endless = ec.parse("X[0,e] = Y[e]\nX[t+1,e] = sum[m](X[t,e]*K[m,e])\nO[e] = X[T,e]")
    with pytest.raises(ec.CascadeError, match="how many steps the recurrence over T makes"):
        ec.passes(endless, "M")
    assert ec.passes(endless, "M", sizes={"T": 3}).tensors["K"] == 3


def test_the_order_of_einsums_never_matters():
    """All 120 orders of the five Einsums of a small two-pass cascade."""
    lines = [
        "Y[p] = sum[m](A[m,p])",
        "B[m,p] = A[m,p]*Y[p]",
        "C[m,p] = exp(B[m,p])",
        "D[p] = sum[m](C[m,p])",
        "Z[p] = D[p]/Y[p]",
    ]
    counts = {
        ec.passes(ec.parse("\n".join(order)), "M").tensors["A"]
        for order in itertools.permutations(lines)
    }
    assert counts == {2}


def test_schedule_says_what_each_sweep_does():
    report = ec.passes(ec.load("softmax-3pass"), "M")
    assert [str(sweep) for sweep in report.schedule] == [
        "sweep 1, m upwards: reads K; computes QK, GM",
        "sweep 2, m upwards: reads K; computes QK (again), SN, SD",
        "sweep 3, m upwards: reads K, V; computes QK (again), SN (again), A, AV",
    ]
    assert report.upper == report.tensors
    assert "how 3 suffice:\n  sweep 1, m upwards: reads K; computes QK, GM" in str(report)


def test_sweeps_have_directions():
    """S comes from the end, so it has a sweep of its own, in which P is read back."""
    text = "P[0] = 0\nP[n+1] = P[n] + X[n]\nS[n] = S[n+1] + X[n]\nS[N] = 0\nZ[n] = P[n]*S[n]"
    report = ec.passes(ec.parse(text), "N")
    assert [sweep.direction for sweep in report.schedule] == ["ascending", "descending"]
    assert report.schedule[1].reads == ("X", "P")
    assert report.schedule[1].computes == ("S", "Z")


def test_widths_of_every_tensor():
    """A gather touches K positions of the keys; everything else is as wide as its rank."""
    case = next(case for case in TABLE if case["name"] == "topk-selected")
    report = ec.passes(ec.parse(case["cascade"]), "M")
    assert {1: "M", 2: "K"} == report.widths_of["K"] == report.widths
    assert {1: "M"} == report.widths_of["S"]


def test_an_interval_says_so():
    """What waits is not what is waited for, but no rule knows that the halves do not meet."""
    halves = ec.parse("Y = sum[m](A[m]) where m < M//2\nZ = sum[m](A[m]*Y) where m >= M//2")
    report = ec.passes(halves, "M")
    assert not report.tight
    assert ({"A": 1}, {"A": 2}) == (report.tensors, report.upper)
    assert str(report).startswith("cascade over M: 1 to 2 passes\n\n  A  1 to 2\n")


def test_passes_that_grow_with_a_recurrence_need_its_length():
    """A delta rule reads its whole state in every step: one pass more for each."""
    delta = ec.parse(
        "S[0,e] = 0\nU[n] = sum[e](S[n,e]*K[n,e])\nS[n+1,e] = S[n,e] + K[n,e]*(V[n] - U[n])"
    )
    with pytest.raises(ec.CascadeError) as error:
        ec.passes(delta, "E")
    message = str(error.value)
    assert message.startswith("cascade:2:1: how many steps the recurrence over N makes decides")
    assert "say it: sizes={'N': 2}" in message
    numbers = [ec.passes(delta, "E", sizes={"N": n}).tensors["K"] for n in (1, 2, 3)]
    assert [2, 3, 4] == numbers


def test_queries_are_independent():
    """Nothing connects two queries: one tensor speaks for all, as counting each one shows."""
    cascade = ec.load("softmax-1pass")
    report = ec.passes(cascade, "P")
    assert set(report.tensors.values()) == set(report.upper.values()) == {1}
    assert report.tensors.keys() == count_passes(cascade, "P").keys()
    assert not is_pointwise(cascade, "M1")
    assert not is_pointwise(ec.parse("Z[p] = A[p]*A[P-1-p]"), "P")
    assert not is_pointwise(ec.parse("var p, q in P\nZ[p,q] = A[p]*A[q]"), "P")
