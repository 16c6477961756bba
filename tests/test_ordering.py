"""In which order Einsums run: producers first, and recurrences as loops one way along a rank."""

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from einsum_cascade import ordering
from einsum_cascade.catalog import load, names
from einsum_cascade.errors import CascadeError
from einsum_cascade.interpreter import evaluate
from einsum_cascade.legality import parse
from einsum_cascade.ordering import Loop, flatten, plan


def shape(text):
    """A plan in short: targets in order, `up:N(...)` or `down:N(...)` for a loop."""
    cascade = parse(text)

    def show(steps):
        return " ".join(
            f"{'down' if s.is_descending else 'up'}:{s.rank}({show(s.body)})"
            if isinstance(s, Loop)
            else str(s.target)
            for s in steps
        )

    return show(plan(cascade.einsums, dict(cascade.variables)))


PLANS = {
    "producers first": ("Z = Y*X\nX = A[k]*B[k]\nY = X*2", "X Y Z"),
    "independent lines as written": ("Y = A[k]*B[k]\nX = A[k]*C[k]\nZ = X + Y", "Y X Z"),
    "prefix": ("S[n+1] = S[n] + A[n]\nS[0] = 0\nZ = S[N]", "S[0] up:N(S[n+1]) Z"),
    "suffix": ("S[N] = 0\nS[n] = S[n+1] + A[n]\nZ = S[0]", "S[N] down:N(S[n]) Z"),
    "two steps back": (
        "F[0] = 0\nF[1] = 1\nF[n+2] = F[n+1] + F[n]\nZ[n] = F[n]*A[n]",
        "F[0] F[1] up:N(F[n+2]) Z[n]",
    ),
    "two tensors in one loop": (
        "R[0] = 0\nR[n+1] = T[n] + A[n]\nT[n] = R[n]*2\nZ = R[N]",
        "R[0] up:N(T[n] R[n+1]) Z",
    ),
    "what doesn't depend on the loop stays outside": (
        "R[0] = 0\nX[n] = A[n]*2\nR[n+1] = R[n] + X[n]\nZ[n] = R[n+1]*X[n]",
        "R[0] X[n] up:N(R[n+1]) Z[n]",
    ),
    "nested": (
        "D[0,j] = 0\nD[i+1,0] = 1\nD[i+1,j+1] = D[i,j+1] + D[i+1,j]\nD[0,J] = 0\nZ = D[I,J]",
        "D[0,j] D[i+1,0] D[0,J] up:I(up:J(D[i+1,j+1])) Z",
    ),
    "opposite directions": (
        "D[0,j] = 0\nD[i+1,J] = 1\nD[i+1,j] = D[i,j] + D[i+1,j+1]\nD[0,J] = 0\nZ = D[I,0]",
        "D[0,j] D[i+1,J] D[0,J] up:I(down:J(D[i+1,j])) Z",
    ),
    "fixed coordinates apart": ("X[1] = X[0]*2\nX[0] = A[k]*B[k]\nZ = X[1]", "X[0] X[1] Z"),
}


@pytest.mark.parametrize(("text", "expected"), PLANS.values(), ids=PLANS.keys())
def test_plan(text, expected):
    assert expected == shape(text)


CIRCULAR = {
    "itself": ("X = X*2", "X -> X"),
    "each other": ("Y = X\nX = Y", "Y -> X -> Y"),
    "the same coordinate": ("S[n+1] = S[n+1] + A[n]\nS[0] = 0", "S -> S"),
    "back and ahead": ("S[n+1] = S[n] + S[n+2]\nS[0] = A[n]*B[n]", "S -> S"),
    "a whole rank": ("S[0] = 0\nS[n+1] = T\nT = sum[n](S[n])", "S -> T -> S"),
    "a gather": ("S[0] = 0\nS[n+1] = S[I[n]]", "S -> S"),
    # A loop over N would fix both variables, so this recurrence is refused instead.
    "two variables of one rank": (
        "var p in N\nS[p,0] = 0\nS[p,n+1] = S[p,n] + A[p,n]",
        "S -> S",
    ),
}


@pytest.mark.parametrize(("text", "names"), CIRCULAR.values(), ids=CIRCULAR.keys())
def test_circular_definitions(text, names):
    with pytest.raises(CascadeError, match=f"circular definition: {names}\n"):
        parse(text)


def test_the_running_softmax_is_three_loops_over_tiles():
    """Maximum, denominator and numerator each need only themselves from the tile before."""
    cascade = load("softmax-1pass")
    loops = [s for s in plan(cascade.einsums, dict(cascade.variables)) if isinstance(s, Loop)]
    assert [("M1", False)] * 3 == [(loop.rank, loop.is_descending) for loop in loops]
    inside = [[einsum.name for einsum in loop.einsums] for loop in loops]
    assert [["RM"], ["SPD", "RD"], ["SPNV", "RNV"]] == inside


@pytest.mark.parametrize("name", names("cascades"))
def test_every_einsum_runs_exactly_once_in_a_plan(name):
    cascade = load(name)
    steps = plan(cascade.einsums, dict(cascade.variables))
    assert sorted(map(str, cascade.einsums)) == sorted(map(str, flatten(steps)))


def test_fibonacci():
    """F = 0 1 1 2 3 5 8: two steps back, so the state has two coordinates more than N."""
    out = evaluate(parse(PLANS["two steps back"][0] + "\noutput F"), A=[1] * 5)["F"]
    assert [0, 1, 1, 2, 3, 5, 8] == out.tolist()


@given(st.integers(1, 8), st.sets(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=24))
def test_groups_and_their_order_are_those_of_a_graph_library(count, edges):
    """Strongly connected groups, producers first, and of those that may come next the first."""
    edges = {(i, j) for i, j in edges if i < count and j < count}
    graph = nx.DiGraph(edges)
    graph.add_nodes_from(range(count))
    condensed = nx.condensation(graph)
    members = {node: sorted(own) for node, own in condensed.nodes(data="members")}
    order = nx.lexicographical_topological_sort(condensed, key=lambda node: members[node][0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ordering, "_distances", lambda writer, reader, *_: (writer, reader) in edges)
        found = ordering._components(tuple(range(count)), {}, ())
    assert found == [tuple(members[node]) for node in order]
