"""Passes counted element by element: the table of expected values, and graphs small enough to draw.

The table was set by hand (its `all_tensors` computed), so it checks the definition as implemented
here; the symbolic analysis is then compared with these counts on random cascades.
"""

from pathlib import Path

import pytest
import yaml

import einsum_cascade as ec
from einsum_cascade.element_fibers import fibers
from einsum_cascade.element_graph import Node, element_graph
from einsum_cascade.element_passes import count, count_passes
from einsum_cascade.element_shapes import small_extents

TABLE = yaml.safe_load((Path(__file__).parent / "golden" / "pass_numbers.yaml").read_text())[
    "cases"
]
ROWS = [(case, row) for case in TABLE for row in case["passes"]]
IDS = [f"{c['name']}-{r['rank']}-{r['tensor']}" for c, r in ROWS]


@pytest.mark.parametrize(("case", "row"), ROWS, ids=IDS)
def test_expected_passes_from_below_and_above(case, row):
    found = count_passes(ec.parse(case["cascade"], case["name"]), row["rank"])
    assert row["all_tensors"] == {name: one.lower for name, one in found.items()}
    assert row["all_tensors"] == {name: one.upper for name, one in found.items()}


@pytest.mark.parametrize(("case", "row"), ROWS[::4], ids=IDS[::4])
def test_longer_fibers_need_as_many_passes(case, row):
    cascade = ec.parse(case["cascade"], case["name"])
    found = count_passes(cascade, row["rank"], length=36)
    assert row["all_tensors"] == {name: one.lower for name, one in found.items()}


def test_witness_of_three_passes():
    softmax = next(case for case in TABLE if case["name"] == "softmax-stable-3pass")
    found = count_passes(ec.parse(softmax["cascade"]), "M")["K"]
    assert found.witness == (
        "visit@1: QK'[0,0,0]",
        "barrier@1: GM[0]",
        "visit@2: SN[0,0]",
        "barrier@2: SD[0]",
        "visit@3: A[0,0]",
    )
    assert found.widths == (24, 24, 24)
    assert found.tail == 0


def test_a_tile_is_what_remains_of_a_running_cascade():
    """At the end of the running cascade the last tile meets the whole maximum: M0 = 3 values."""
    found = count_passes(ec.load("softmax-1pass"), "M")["K"]
    assert (found.lower, found.upper, found.tail) == (1, 1, 3)


def test_nodes_of_a_matrix_product():
    """M*P = 6 products of E = 2 points, over 4 and 6 inputs: 6*(1 + 2) + 4 + 6 nodes."""
    cascade = ec.parse("Z[m,p] = A[e,m]*B[e,p]")
    graph = element_graph(cascade, {"E": 2, "M": 2, "P": 3})
    assert len(graph.facts) == 6 * 3 + 4 + 6
    assert set(graph.graph.pred[Node("Z", (1, 2), (0,))]) == {Node("A", (0, 1)), Node("B", (0, 2))}
    assert len(graph.graph.pred[Node("Z", (1, 2))]) == 2
    assert str(Node("Z", (1, 2), (0,))) == "Z'[1,2,0]"


def test_points_outside_and_filtered_do_not_exist():
    """Of QK[m,p] where m <= p at M = P = 3 there are 3 + 2 + 1; a window loses its edge."""
    causal = ec.parse("QK[m,p] = Q[p]*K[m] where m <= p\nG[p] = max[m](QK[m,p])")
    graph = element_graph(causal, {"M": 3, "P": 3})
    assert sum(node.tensor == "QK" for node in graph.facts) == 6
    assert len(graph.graph.pred[Node("G", (0,))]) == 1
    window = ec.parse("var n, p in N\ninput X[n]\nO[p] = sum[w](X[p+w-1]*F[w])")
    graph = element_graph(window, {"N": 5, "W": 3})
    assert [len(graph.graph.pred[Node("O", (p,))]) for p in range(5)] == [2, 3, 3, 3, 2]


def test_gathers_are_marked_and_not_followed():
    cascade = ec.parse("input I[k]\nZ[k] = K[I[k],e]*Q[e]")
    graph = element_graph(cascade, {"K": 3, "E": 2})
    node = Node("Z", (1,), (0,))
    assert set(graph.graph.pred[node]) == {Node("I", (1,)), Node("Q", (0,))}
    (gather,) = graph.facts[node].gathers
    assert (gather.tensor, gather.at) == ("K", (None, 0))
    assert gather.pointers == (Node("I", (1,)),)


def test_a_selection_reads_the_branch_that_coordinates_choose():
    text = "Y[m] = where(m < {0}, A[m], B[m])"
    graph = element_graph(ec.parse(text.format("2")), {"M": 3})
    assert set(graph.graph.pred[Node("Y", (0,))]) == {Node("A", (0,))}
    assert set(graph.graph.pred[Node("Y", (2,))]) == {Node("B", (2,))}
    graph = element_graph(ec.parse(text.format("C[m]")), {"M": 3})
    assert {n.tensor for n in graph.graph.pred[Node("Y", (0,))]} == {"A", "B", "C"}


def test_extents_grow_with_the_long_rank():
    """Rows of a filter, sources of windows and of a top-k are as long as what they are tied to."""
    causal = ec.parse("S[p] = sum[m](A[m,p]) where m <= p")
    assert small_extents(causal, "M", 24)["P"] == 24
    window = ec.parse("var n, p in N\ninput X[n]\nO[p] = sum[w](X[p+w-W//2]*F[w])")
    assert small_extents(window, "N", 24) == {"N": 24, "W": 3}
    assert small_extents(window, "W", 24)["N"] >= 24
    best = ec.parse("T[k] = topk[m](A[m])")
    assert small_extents(best, "K", 24)["M"] > 24


def test_opposite_sweeps_are_found():
    """P needs an upward sweep and S a downward one, though nothing is revisited: 1 to 2 passes."""
    text = "P[0] = 0\nP[n+1] = P[n]/2 + X[n]\nS[N] = 0\nS[n] = S[n+1]/2 + X[n]\nZ = P[N]*S[0]"
    found = count_passes(ec.parse(text), "N")["X"]
    assert (found.lower, found.upper) == (1, 2)
    assert set(found.directions) == {1, -1}


def test_a_fiber_that_nobody_reads_is_one_pass():
    cascade = ec.parse("Z[m] = A[m]*2")
    extents = {"M": 4}
    (fiber,) = fibers(element_graph(cascade, extents), cascade.tensor("Z"), "M")
    assert count(fiber, 1).lower == 1
