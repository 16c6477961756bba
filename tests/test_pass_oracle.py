"""The symbolic pass analysis against the count on elements, on random cascades.

Two programs that share no code but the language: one follows symbols through Einsums, the other
walks an explicit graph of elements at small sizes. Where the analysis says a number, the count has
the same; where it says an interval, the count lies in it.
"""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_cascades import STEPS, cascades

import einsum_cascade as ec
from einsum_cascade.element_fibers import fibers, homes_of
from einsum_cascade.element_graph import element_graph
from einsum_cascade.element_passes import count_passes
from einsum_cascade.element_shapes import small_extents
from einsum_cascade.element_streams import stream

LENGTH = 20
LOOKBACK = 5


def sizes_of(cascade: ec.Cascade) -> dict[str, int]:
    return {"T": STEPS} if "T" in cascade.ranks and not cascade.concatenations else {}


def compare(cascade: ec.Cascade, rank: str) -> tuple[int, int, int]:
    """Check one cascade; return its passes, how many tensors were seen, and how many exactly."""
    sizes = sizes_of(cascade)
    report = ec.passes(cascade, rank, sizes=sizes)
    counted = count_passes(cascade, rank, sizes=sizes, length=LENGTH, lookback=LOOKBACK)
    assert report.tensors.keys() == counted.keys() == report.upper.keys()
    exact = 0
    for name, low in report.tensors.items():
        shown = f"{name} over {rank} of\n{cascade}"
        high = report.upper[name]
        assert low <= counted[name].lower <= high, shown
        assert counted[name].lower <= counted[name].upper, shown
        exact += low == high
    assert report.tight == (report.tensors == report.upper)
    return max(one.lower for one in counted.values()), len(report.tensors), exact


def run(examples: int) -> None:
    """Compare on many cascades, and make sure that they are worth it."""
    seen: dict[str, int] = {}
    totals = [0, 0]

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(cascades(), st.data())
    def check(cascade: ec.Cascade, data: st.DataObject) -> None:
        ranks = [rank for rank in cascade.ranks if rank not in sizes_of(cascade)]
        for rank in dict.fromkeys(("M", data.draw(st.sampled_from(ranks)))):
            number, tensors, exact = compare(cascade, rank)
            totals[0] += tensors
            totals[1] += exact
            text = str(cascade)
            seen[text] = max(number, seen.get(text, 1))

    check()
    several = sum(number >= 2 for number in seen.values())
    assert several >= len(seen) / 3, f"only {several} of {len(seen)} cascades need several passes"
    assert totals[1] >= 0.9 * totals[0], f"only {totals[1]} of {totals[0]} numbers are exact"


def test_random_cascades():
    run(60)


@pytest.mark.slow
def test_many_random_cascades():
    run(2000)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(cascades())
def test_a_schedule_obeys_all_dependencies(cascade):
    """Every value can be computed in one of the sweeps that the schedule gives its Einsum."""
    check_schedule(cascade, "M")


# Graphs of these have millions of elements at the sizes that a schedule needs.
LARGE = ("causal-gqa-1pass", "window-gqa-1pass", "window-1pass", "causal-1pass", "softmax-split-k")
LARGE += ("agent", "alibi", "ssa-temperature", "hetero-window", "na-2d")
# Along features the passes of these depend on how many tokens come by.
STEPPED = {("based-taylor2", "E"): {"M": 2}, ("delta-rule", "E"): {"M": 2}}


def ranks_of(cascade: ec.Cascade) -> list[str]:
    return sorted({rank for name in cascade.inputs for rank in cascade.tensor(name).ranks})


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in LARGE else name
        for name in ec.names("cascades")
    ],
)
def test_schedules_of_shipped_cascades(name):
    """Along the rank that is long in practice."""
    cascade = ec.load(name)
    check_schedule(cascade, next(r for r in "MNKD" if r in cascade.ranks))


@pytest.mark.slow
@pytest.mark.parametrize("name", ec.names("cascades"))
def test_schedules_along_every_rank(name):
    cascade = ec.load(name)
    for rank in ranks_of(cascade):
        check_schedule(cascade, rank, STEPPED.get((name, rank)))


def check_schedule(cascade: ec.Cascade, rank: str, steps: dict[str, int] | None = None) -> None:
    """Stream every fiber of the worst tensor in the schedule's directions, and look when."""
    sizes = steps or sizes_of(cascade)
    report = ec.passes(cascade, rank, sizes=sizes)
    sweeps = report.schedule
    assert len(sweeps) == report.upper[report.tensor]
    assert [sweep.number for sweep in sweeps] == list(range(1, len(sweeps) + 1))
    directions = tuple(1 if sweep.direction == "ascending" else -1 for sweep in sweeps)
    allowed: dict[str, set[int]] = {}
    for sweep in sweeps:
        for name in (*sweep.computes, *sweep.recomputes):
            allowed.setdefault(name, set()).add(sweep.number)
    graph = element_graph(cascade, small_extents(cascade, rank, 36, sizes))
    found = [f for f in fibers(graph, cascade.tensor(report.tensor), rank) if len(f.elements) >= 24]
    # Of very many fibers, those at either end: the shortest and the longest rows of a triangle.
    for fiber in found if len(found) <= 32 else (*found[:4], *found[-4:]):
        homes = homes_of(fiber)
        known = stream(fiber, homes, LOOKBACK, directions)
        for node in homes.visits:
            where = f"{node} in\n{report}\nof\n{cascade}"
            assert known[node][0] <= len(sweeps), where
            if node.tensor in allowed:
                assert known[node][0] <= max(allowed[node.tensor]), where


def test_the_comparison_can_fail():
    """A wrong number would be seen: the comparison itself is checked on a cascade with a trap."""
    two = ec.parse("Y = sum[m](A[m])\nZ[m] = A[m]*Y")
    assert compare(two, "M") == (2, 2, 2)
