"""The fast tile-level engine against the reference engine: every micro-op, and every repetition.

The reference enumerates tiles with objects and dictionaries; the fast one walks with counters,
issues micro-ops in numba and skips what repeats. They share the rules of a micro-op (`Run.rules`).
"""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_programs import CASCADE, SERIAL, long_programs

import archsim
import einsum_cascade as ec
from archsim import engine
from archsim.arch import Architecture
from archsim.errors import ArchError
from archsim.issue import Body, read_entry
from archsim.lower_bound import lower_bound
from archsim.lowering import lower
from archsim.program import Program
from archsim.slots import execute, timeline_of
from archsim.tile_tables import tables_of
from archsim.tile_walk import FLUSH, class_counts, walk
from archsim.timeline import Timeline


def same(found: Timeline, expected: Timeline) -> None:
    assert found.cycles == expected.cycles
    assert found.totals == expected.totals
    assert dict(found.occupancy) == dict(expected.occupancy)


@pytest.mark.parametrize("count", [300, pytest.param(5000, marks=pytest.mark.slow)])
def test_skipping_repetitions_is_exact(count):
    """Cycles, idle slots by cause, bytes and the fill of FIFOs, with and without skipping."""
    seen = Counter()

    @settings(max_examples=count, suppress_health_check=list(HealthCheck))
    @given(long_programs(keys=400, queries=60))
    def agree(case):
        program = case.program
        try:
            expected = engine.run_counted(program, enumerate_all=True)[0]
        except (engine.FailedError, ArchError):
            seen["failed"] += 1
            with pytest.raises((engine.FailedError, ArchError)):
                engine.run_program(program)
            return
        found, walked = engine.run_counted(program)
        same(found, expected)
        seen["ran"] += 1
        seen["skipped"] += walked < sum(class_counts(walk(tables_of(program), near=12)))

    agree()
    assert seen["failed"] <= count / 3
    assert seen["skipped"] >= seen["ran"] / 3


@pytest.mark.parametrize("count", [50, pytest.param(1000, marks=pytest.mark.slow)])
def test_the_engine_finds_what_the_reference_finds(count):
    seen = Counter()

    @settings(max_examples=count, suppress_health_check=list(HealthCheck))
    @given(long_programs())
    def agree(case):
        program = case.program
        try:
            expected = timeline_of(execute(program))
        except ArchError as error:
            seen[str(error).partition(": ")[2].partition(":")[0]] += 1
            with pytest.raises((engine.FailedError, ArchError)):
                engine.run_program(program)
            return
        seen["ran"] += 1
        same(engine.run_program(program), expected)

    agree()
    assert set(seen) <= {"ran", "deadlock", "overflow"}
    assert seen["ran"] >= count / 2


@settings(max_examples=36, suppress_health_check=list(HealthCheck))
@given(long_programs())
def test_every_micro_op_is_issued_when_the_reference_issues_it(case):
    program = case.program
    try:
        run = execute(program)
        run.occupancy()
    except ArchError:
        return
    found = engine.every_slot(program)
    expected = {
        (task.name, act): tuple(run.at[task.name, tile])
        for task in program.tasks
        for act, tile in enumerate(program.acting[task.name])
    }
    assert found == expected


def entries(program: Program) -> list[tuple[tuple[str, ...], int, int, int]]:
    """What acts on every tile, and how much of the array it fills, from the enumerated Program."""
    return [
        (
            tuple(t.name for t in program.tasks if tile.index in program.ordinals[t.name]),
            tile.rows,
            tile.cols,
            program.points(tile),
        )
        for tile in program.tiles
    ]


@settings(max_examples=100, suppress_health_check=list(HealthCheck))
@given(long_programs())
def test_the_walk_finds_every_tile_in_order(case):
    program = case.program
    tables = tables_of(program)
    stream = walk(tables, near=12)
    found = []
    for number in stream.expand():
        if number != FLUSH:
            row = stream.classes[number]
            acts = tuple(t.name for n, t in enumerate(program.tasks) if row[n])
            found.append((acts, *row[-3:].tolist()))
    assert found == entries(program)
    assert sum(class_counts(stream)) == len(program.tiles)


def run(mapping: str = "fusemax", arch: str = "fusemax", **sizes: int) -> tuple[Timeline, int]:
    found = lower(CASCADE, ec.workload(**sizes), arch, mapping)
    bound = lower_bound(found.placed).cycles
    return engine.run_program(found), -(-bound.numerator // bound.denominator)


@pytest.mark.parametrize("tokens", [16 << 10, 64 << 10, 256 << 10, 1 << 20, (16 << 10) + 77])
def test_the_shipped_mapping_stays_within_two_percent_of_the_bound(tokens):
    """BERT: the whole gap is the start, the end and what memory brings before the first tile."""
    timeline, bound = run(B=64, H=12, E=64, F=64, M=tokens, P=tokens)
    assert bound <= timeline.cycles <= 1.02 * bound
    assert timeline.cycles - bound < 0.0001 * bound or tokens < 64 << 10


def test_a_million_tokens_are_counted_to_the_cycle():
    """Each m1 step adds P1 tiles of 138 slots to a head, and FIFOs fill as in short runs."""
    timeline, bound = run(B=64, H=12, E=64, F=64, M=1 << 20, P=1 << 20)
    heads, tiles = 64 * 12, (1 << 12) ** 2
    # Lanes: 138 slots a tile and F more where a query tile ends.
    assert timeline.totals.slots["array_1d"] == {
        "RM": heads * tiles,
        "PRM": 7 * heads * tiles,
        "SPD": heads * tiles,
        "RD": heads * tiles,
        "SPNV": 64 * heads * tiles,
        "RNV": 64 * heads * tiles,
        "AV": 64 * heads * (1 << 12),
    }
    assert bound == heads * (138 * tiles + 64 * (1 << 12))
    assert dict(timeline.occupancy)["SLNV@landing"] == 70
    twice = run(B=64, H=12, E=64, F=64, M=1 << 20, P=1 << 20)[0]
    assert twice == timeline


def test_nothing_comes_before_the_only_tile_of_a_line():
    """Two heads of one key tile: the second one's SPD reads the start value, not the RD before it.

    SPD runs an epoch ahead of RD, so waiting for the first head's RD would be a deadlock. Lanes:
    LM of slot 5 is 4 rows down in 9, RM; PRM 10 to 16, SPD 17; and as many slots for the next tile,
    whose LM of slot 10 has long come.
    """
    array, lanes = ("QK lag 0", "LM lag 0", "SLN lag 1", "SLD lag 1", "SLNV lag 1"), (
        "RM lag 0", "PRM lag 0", "SPD lag 0", "RD lag 1", "SPNV lag 1", "RNV lag 1", "AV lag 1",
    )  # fmt: skip
    order = tuple(
        Body(unit, tuple(read_entry(text) for text in texts))
        for unit, texts in (("array_2d", array), ("array_1d", lanes))
    )
    sizes = ec.workload(E=4, F=4, M=4, P=4, H=2)
    program = lower(CASCADE, sizes, "fusemax-4x4", replace(SERIAL, order=order)).compute_only()
    expected = timeline_of(execute(program))
    assert [expected.slots("RM", 0), expected.slots("SPD", 0)] == [(9,), (17,)]
    assert [expected.slots("RM", 1), expected.slots("SPD", 1)] == [(18,), (26,)]
    assert expected.slots("RD", 0) == (27,)
    same(engine.run_program(program), expected)


def test_the_pipeline_runs_empty_behind_a_head_of_one_tile():
    """E = F = 1 on unit PEs: QK 1, LM 2, RM 3, SLN 4 and 5 and so on to AV in 10; then the next."""
    order = archsim.load_mapping("fusemax").order
    arrays = tuple(
        replace(
            array,
            axes=(("rows", 1), ("cols", 1)) if "rows" in dict(array.axes) else (("lanes", 1),),
            operators=tuple(replace(r, slots=1, latency_cycles=1) for r in array.operators),
        )
        for array in archsim.load_architecture("fusemax-4x4").arrays
    )
    chip = replace(archsim.load_architecture("fusemax-4x4"), arrays=arrays)
    chip = replace(chip, latency=replace(chip.latency, return_registers=0))
    mapping = replace(SERIAL, order=order, drain="head")
    for heads in (1, 2, 3):
        sizes = ec.workload(E=1, F=1, M=1, P=1, B=heads)
        program = lower(CASCADE, sizes, chip, mapping).compute_only()
        assert timeline_of(execute(program)).cycles == 10 * heads
        assert engine.run_program(program).cycles == 10 * heads


def test_heads_add_the_same_every_time():
    """No repetition is special: cycles grow by the same amount with every further head."""
    cycles = [run(H=heads, E=64, F=64, M=4096, P=4096)[0].cycles for heads in (4, 5, 50, 500)]
    assert cycles[2] - cycles[1] == 45 * (cycles[1] - cycles[0])
    assert cycles[3] - cycles[2] == 450 * (cycles[1] - cycles[0])


def with_memory(architecture: Architecture, **fields: int) -> Architecture:
    """The same architecture with another outer memory, or another capacity of its buffer."""
    capacity = fields.pop("capacity_bytes", None)
    memories = tuple(
        replace(m, **fields)
        if m.parent is None
        else replace(m, capacity_bytes=capacity or m.capacity_bytes)
        for m in architecture.memories
    )
    return replace(architecture, memories=memories)


def cycles_on(architecture: Architecture, **sizes: int) -> int:
    found = lower(CASCADE, ec.workload(**sizes), architecture, archsim.load_mapping("fusemax"))
    return engine.run_program(found).cycles


SHORT = {"H": 3, "E": 64, "F": 64, "M": 2048, "P": 2048}
CHIP = archsim.load_architecture("fusemax")


def test_a_better_memory_is_never_slower():
    """Bandwidth, latency and capacity, from starved to plenty, each alone."""
    rates = [rate * 2**30 for rate in (5, 10, 40, 80, 120, 200, 400, 1600)]
    found = [cycles_on(with_memory(CHIP, bandwidth_bytes_per_s=r), **SHORT) for r in rates]
    assert found == sorted(found, reverse=True)
    assert found[0] > 10 * found[-1]
    found = [cycles_on(with_memory(CHIP, latency_ns=ns), **SHORT) for ns in (0, 1, 30, 500, 9000)]
    assert found == sorted(found)
    assert found[0] < found[-1]
    slow = with_memory(CHIP, bandwidth_bytes_per_s=40 * 2**30)
    sizes = [kib << 10 for kib in (256, 512, 1024, 4096, 16384)]
    found = [cycles_on(with_memory(slow, capacity_bytes=size), **SHORT) for size in sizes]
    assert found == sorted(found, reverse=True)
    assert found[0] > 1.5 * found[-1]


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(long_programs(), st.integers(0, 5), st.integers(1, 3))
def test_a_longer_latency_is_never_faster(case, which, more):
    """Accumulators, row hops, return registers, an operator of either unit, the memory."""
    program = case.program
    chip = program.architecture
    latency = chip.latency
    if which < 3:
        field = ("accumulate", "row_hop", "return_registers")[which]
        worse = replace(chip, latency=replace(latency, **{field: getattr(latency, field) + more}))
    elif which < 5:
        unit = chip.arrays[which - 3]
        # Nothing that goes down a row may take longer than the hop.
        name = "sub" if which == 3 else "max"
        rows = tuple(
            replace(r, latency_cycles=r.latency_cycles + more * r.slots)
            if r.operator == name
            else r
            for r in unit.operators
        )
        arrays = (replace(a, operators=rows) if a is unit else a for a in chip.arrays)
        worse = replace(chip, arrays=tuple(arrays))
    else:
        worse = with_memory(chip, latency_ns=chip.outer.latency_ns + 20 * more)
    slower = replace(program, placed=replace(program.placed, architecture=worse))
    try:
        before, after = engine.run_program(program), engine.run_program(slower)
    except (engine.FailedError, ArchError):
        return  # Words that come later may overfill a queue.
    assert after.cycles >= before.cycles
