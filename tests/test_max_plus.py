"""Max-plus matrices: the semiring, what a tile is as a matrix, and runs as products.

The third witness of a run's cycles beside enumerating tiles (`slots`) and skipping states that come
back (`engine`). Memory is never late here.
"""

from collections import Counter
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from random_programs import CASCADE, SERIAL, SMALL, Case, bodies, long_programs, machine

import archsim
import einsum_cascade as ec
from archsim import engine
from archsim.arch import Architecture
from archsim.chain import Chain
from archsim.critical import explain
from archsim.errors import ArchError
from archsim.issue import Body, read_entry
from archsim.lower_bound import recurrence_cycles
from archsim.lowering import lower
from archsim.matrix_run import period, solve
from archsim.max_plus import NEVER, eigenvalue, identity, power, product
from archsim.program import Program
from archsim.slots import execute
from archsim.tile_matrices import Kept, rules_of, tile_matrix

# ---- the semiring ----


@st.composite
def matrices(draw, count: int) -> list[np.ndarray]:
    """Square matrices of one size, with holes."""
    size = draw(st.integers(1, 6))
    entries = st.one_of(st.just(NEVER), st.integers(-50, 10**6))
    return [draw(arrays(np.int64, (size, size), elements=entries)) for _ in range(count)]


def plain(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The definition, entry by entry."""
    found = np.full((len(a), len(b)), NEVER)
    for i in range(len(a)):
        for j in range(len(b)):
            for k in range(len(b)):
                if NEVER not in (a[i, k], b[k, j]):
                    found[i, j] = max(found[i, j], a[i, k] + b[k, j])
    return found


@given(matrices(3))
def test_products_are_those_of_a_semiring(found):
    a, b, c = found
    one, never = identity(len(a)), np.full_like(a, NEVER)
    np.testing.assert_array_equal(product(a, b), plain(a, b))
    np.testing.assert_array_equal(product(a, product(b, c)), product(product(a, b), c))
    np.testing.assert_array_equal(product(a, one), a)
    np.testing.assert_array_equal(product(one, a), a)
    np.testing.assert_array_equal(product(a, never), never)
    # Products distribute over sums, which are maxima.
    both = np.maximum(product(a, b), product(a, c))
    np.testing.assert_array_equal(product(a, np.maximum(b, c)), both)


@given(matrices(1), st.integers(0, 12), st.integers(0, 12))
def test_powers_add_up(found, first, second):
    (a,) = found
    step = identity(len(a))
    for _ in range(first):
        step = product(a, step)
    np.testing.assert_array_equal(power(a, first), step)
    whole = power(a, first + second)
    np.testing.assert_array_equal(product(power(a, first), power(a, second)), whole)


def circuits(a: np.ndarray) -> list[Fraction]:
    """Mean weights of closed walks of at most as many steps as there are events."""
    found = []
    walk = identity(len(a))
    for steps in range(1, len(a) + 1):
        walk = plain(a, walk)
        found += [Fraction(int(w), steps) for w in np.diag(walk) if w != NEVER]
    return found


@given(matrices(1))
def test_the_eigenvalue_is_the_largest_mean_of_a_circuit(found):
    assert eigenvalue(found[0]) == max(circuits(found[0]), default=None)


def test_an_eigenvalue_by_hand():
    """Two events that wait for each other, 3 and 4: 7 for two steps; one alone takes 3 a step."""
    assert eigenvalue(np.array([[3, 4], [3, NEVER]])) == Fraction(7, 2)
    assert eigenvalue(np.array([[3, NEVER], [4, 2]])) == 3
    assert eigenvalue(np.array([[NEVER, 4], [NEVER, NEVER]])) is None


def test_delays_beyond_what_integers_hold_are_refused():
    with pytest.raises(OverflowError, match="more than"):
        power(np.array([[1 << 30]]), 1 << 30)


# ---- a tile as a matrix, by hand ----


def only(*entries: str, sizes: dict[str, int]) -> Program:
    """Nothing but these tasks, in this order, of FuseMax's cascade on 4 by 4 unit PEs."""
    program = lower(CASCADE, ec.workload(**sizes), SMALL, SERIAL).compute_only()
    items = [read_entry(text) for text in entries]
    names = [item.task for entry in items for item in entry]
    of = {task.name: task.unit for task in program.tasks}
    return replace(
        program,
        bodies=tuple(
            Body(unit, tuple(entry for entry in items if of[entry[0].task] == unit))
            for unit in ("array_2d", "array_1d")
        ),
        tasks=tuple(task for task in program.tasks if task.name in names),
        registers=tuple(r for r in program.registers if r.tensor in names),
    )


def test_one_task_by_hand():
    """QK of E = 4 slots: the array's last slot is 4 later; 3 rows and 3 columns on, the result."""
    program = only("QK lag 0", sizes={"E": 4, "F": 4, "M": 40, "P": 4})
    rules = rules_of(program)
    cut, found = tile_matrix(rules, rules.start, 0)
    # Last result, array, lanes.
    n = NEVER
    assert found.tolist() == [[0, 10, n], [n, 4, n], [n, n, 0]]
    assert cut == rules.start
    # Ten tiles: [max(0, 36 + 10), 40, 0].
    assert power(found, 10)[:, 1].tolist() == [46, 40, n]
    assert (solve(program).cycles, period(program)) == (46, 4)


def test_two_units_by_hand():
    """QK and LM in the array, RM an epoch behind in the lanes.

    When a tile has come, RM of the tile before waits for the LM that stands as it was: a slot that
    is kept, 4 rows above. RM's own value before is in the lanes one slot later, as order says.
    """
    program = only("QK lag 0", "LM lag 0", "RM lag 1", sizes={"E": 4, "F": 4, "M": 40, "P": 4})
    rules = rules_of(program)
    cut = rules.start
    # First, middle and last key tile.
    for number in (0, 1, 2):
        cut, found = tile_matrix(rules, cut, number)
        lm = [t.name for t in program.tasks].index("LM")
        assert cut.kept == (Kept(lm, -1, 0, 0),)
    # Last result, array, lanes, LM. LM: 5 slots on, 6 to the last PE; RM: 3 to the last lane.
    n = NEVER
    assert found.tolist() == [
        [0, 11, 4, 7],
        [n, 5, n, n],
        [n, n, 1, 4],
        [n, 5, n, n],
    ]
    # RM of ten tiles: LM in 5, 10 .. 50; 4 slots down, 3 columns across.
    assert (solve(program).cycles, period(program)) == (57, 5)


# ---- runs as products ----


@pytest.mark.parametrize("count", [100, pytest.param(2000, marks=pytest.mark.slow)])
def test_powers_agree_with_enumeration_and_with_states_that_come_back(count):
    """Cycles and busy slots; and what deadlocks for one does for all."""
    seen = Counter()

    @settings(max_examples=count, suppress_health_check=list(HealthCheck))
    @given(long_programs(keys=26, queries=12))
    def agree(case):
        program = case.program.compute_only()
        try:
            run = execute(program)
        except ArchError:
            seen["deadlock"] += 1
            with pytest.raises(ArchError, match="deadlock: "):
                solve(program)
            return
        found = solve(program)
        assert found.cycles == run.cycles
        assert found.busy == {unit: len(issues) for unit, issues in run.issued.items()}
        assert all(found.busy[u] + found.idle[u] == run.cycles for u in found.busy)
        rows, cols = program.shape
        seen["filtered"] += bool(program.limits)
        seen["ragged keys"] += program.sizes["M"] % rows > 0
        seen["ragged queries"] += program.sizes["P"] % cols > 0
        try:
            assert engine.run_program(program).cycles == found.cycles
            seen["ran"] += 1
        except engine.FailedError:
            # A FIFO overflowed, which delays nothing.
            seen["overflow"] += 1

    agree()
    assert seen["ran"] >= count / 3
    assert min(seen["filtered"], seen["ragged keys"], seen["ragged queries"]) >= count / 8


@pytest.mark.parametrize(
    ("cascade", "mapping"),
    [
        ("softmax-3pass", "spilled-3pass"),
        ("softmax-2pass", "spilled-2pass"),
        ("softmax-naive-deferred", "streamed-naive"),
        ("linear-attention", "linear-attention"),
        ("linear-attention", "linear-attention-stationary"),
        ("sigmoid-attention", "sigmoid-attention"),
    ],
)
def test_other_tasks_than_fusemax(cascade, mapping):
    """Loads, drains, sums that go on over tiles, in PEs and lanes; phase by phase."""
    sizes = ec.workload(M=23, P=13, E=5, F=3, H=2)
    found = archsim.lower(cascade, sizes, "fusemax-4x4", mapping)
    for phase in found.programs if isinstance(found, Chain) else (found,):
        program = phase.compute_only()
        assert solve(program).cycles == execute(program).cycles


@st.composite
def endless_programs(draw) -> Case:
    """About a billion tiles, with remainders."""
    sizes = {
        "E": draw(st.integers(1, 3)),
        "F": draw(st.integers(1, 3)),
        "M": draw(st.integers(20_000, 40_000)),
        "P": draw(st.integers(20_000, 40_000)),
        "H": draw(st.integers(10, 1000)),
        "P1": draw(st.integers(1, 3)),
    }
    mapping = replace(SERIAL, order=bodies(draw), drain=draw(st.sampled_from(["never", "head"])))
    return Case(lower(CASCADE, ec.workload(**sizes), machine(draw), mapping))


@settings(max_examples=10, suppress_health_check=list(HealthCheck))
@given(endless_programs())
def test_a_billion_tiles_agree_with_states_that_come_back(case):
    program = case.program.compute_only()
    try:
        expected = engine.run_program(program).cycles
    except engine.FailedError:
        assume(False)
    assert solve(program).cycles == expected


def on(architecture: Architecture, mapping: str = "fusemax", **sizes: int) -> Program:
    found = lower(CASCADE, ec.workload(**sizes), architecture, archsim.load_mapping(mapping))
    return found.compute_only()


CHIP = archsim.load_architecture("fusemax")


def test_a_million_tokens_are_a_product():
    """768 heads of 2^24 tiles."""
    program = on(CHIP, B=64, H=12, E=64, F=64, M=1 << 20, P=1 << 20)
    found = solve(program)
    assert found.cycles == engine.run_program(program).cycles
    assert found.busy["array_1d"] == 64 * 12 * (138 * (1 << 24) + 64 * (1 << 12))


# ---- the eigenvalue ----


@pytest.mark.parametrize(
    ("mapping", "accumulate", "cycles"),
    [("fusemax", 1, 138), ("fusemax-ahead", 1, 197), ("fusemax", 4, 263)],
)
def test_the_periods_of_the_shipped_orders(mapping, accumulate, cycles):
    """max(E + F + 9, 2 F + 10); one tile ahead; with a long accumulator loop (docs/schedule.md)."""
    chip = replace(CHIP, latency=replace(CHIP.latency, accumulate=accumulate))
    program = on(chip, mapping, E=64, F=64, M=16384, P=256)
    assert period(program) == cycles


@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_the_eigenvalue_is_what_a_tile_takes_in_the_long_run(data):
    architecture = machine(data.draw)
    mapping = replace(SERIAL, order=bodies(data.draw))
    rows = dict(architecture.arrays[0].axes)["rows"]
    E, F = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))

    def run(tiles: int) -> Program:
        sizes = ec.workload(E=E, F=F, M=tiles * rows, P=1)
        return lower(CASCADE, sizes, architecture, mapping).compute_only()

    try:
        found = [solve(run(tiles)).cycles for tiles in (2520, 5040)]
    except ArchError:
        assume(False)
    # A multiple of every period up to 10 tiles, long after the start.
    assert found[1] - found[0] == 2520 * period(run(2520))


def slow_lanes(**cycles: int) -> Architecture:
    """Unit latencies but for some operators of the lanes."""
    found = tuple(
        replace(
            array,
            register_entries=256,
            operators=tuple(
                replace(row, latency_cycles=row.slots * cycles.get(row.operator, 1))
                if "lanes" in dict(array.axes)
                else row
                for row in array.operators
            ),
        )
        for array in SMALL.arrays
    )
    return replace(SMALL, arrays=found)


@pytest.mark.parametrize("mapping", ["fusemax", "fusemax-ahead", "fusemax-serial"])
@pytest.mark.parametrize("cycles", [{}, {"mul": 30, "add": 20}, {"max": 60, "mul": 3}])
def test_the_eigenvalue_is_the_period_of_the_critical_circuit(mapping, cycles):
    program = on(slow_lanes(**cycles), mapping, E=1, F=1, M=160, P=4)
    found = explain(program)
    total = sum(link.slots + link.delay for link in found.circuit)
    assert period(program) == Fraction(total, found.tiles)


def test_the_eigenvalue_is_the_recurrence_where_that_is_the_bound():
    """A slow maximum: RM of a tile waits for RM of the one before, whatever the order; not when the
    lanes do everything of a tile before the next RM.
    """
    cycles = {"fusemax": 60, "fusemax-ahead": 60, "fusemax-serial": 77}
    for mapping, expected in cycles.items():
        program = on(slow_lanes(max=60, mul=3), mapping, E=1, F=1, M=160, P=4)
        (phase,) = program.placed.phases
        assert recurrence_cycles(program.placed, phase) == 40 * 60
        assert period(program) == expected


# ---- what is refused ----


def test_a_memory_that_may_be_late_is_refused():
    program = lower(CASCADE, ec.workload(E=4, F=4, M=8, P=4), SMALL, SERIAL)
    with pytest.raises(ArchError, match=r"memory may be late.*\n.*Program\.compute_only\(\)"):
        solve(program)
    with pytest.raises(ArchError, match="memory may be late"):
        period(program)


def test_a_tile_that_is_alone_has_no_period():
    program = on(SMALL, "fusemax-serial", E=4, F=4, M=8, P=4)
    assert solve(program).cycles == 59
    with pytest.raises(ArchError, match=r"no tile is followed by one like it.*\n.*longer ranks"):
        period(program)


def test_units_that_wait_for_each_other_are_refused():
    with pytest.raises(ArchError, match="deadlock: the units wait for each other"):
        solve(only("LM lag 0", "QK lag 0", sizes={"E": 4, "F": 4, "M": 40, "P": 4}))


def test_what_counters_cannot_follow_is_refused():
    """Something that acts once in two loops that a filter cuts has no place in a tree."""
    program = lower(
        ec.load("causal-1pass"), ec.workload(E=2, F=2, M=16, P=16), SMALL, SERIAL
    ).compute_only()
    *others, last = program.tasks
    twice = replace(last, when=(("m1", "last"), ("p1", "last"), ("p2", "last")))
    with pytest.raises(ArchError, match="no tree of repetitions: AV acts once in several loops"):
        solve(replace(program, tasks=(*others, twice)))
