"""The contract of docs/schedule.md: worked example, steady periods, and every rule on its own."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

import archsim
import einsum_cascade as ec
from archsim import slots
from archsim.arch import Latency
from archsim.elements import random_inputs
from archsim.errors import ArchError
from archsim.issue import Body, read_entry
from archsim.lowering import lower
from archsim.pe import simulate_pe
from archsim.program import Program
from archsim.slots import execute, simulate
from archsim.timeline import busy_slots, stalls, utilization, waterfall

CASCADE = ec.load("softmax-1pass")
TINY = {"M": 8, "P": 4, "E": 4, "F": 4}


def program(mapping: str = "fusemax-serial", arch: str = "fusemax-4x4", **sizes: int) -> Program:
    """A program whose memory is never late: what is tested here are the rules of the units."""
    found = lower(
        CASCADE,
        ec.workload(**(sizes or TINY)),
        archsim.load_architecture(arch),
        archsim.load_mapping(mapping),
    )
    return found.compute_only()


def ordered(**bodies: list[str]) -> tuple[Body, ...]:
    return tuple(Body(unit, tuple(map(read_entry, lines))) for unit, lines in bodies.items())


# Issue slots of the worked example: 4 x 4 array, E = F = 4, two key tiles, unit latencies. Worked
# out by hand from the rules; a range is (first, last), a stride of 2 marks tasks that take turns.
WORKED = {
    "fusemax-serial": {
        "QK": ((1, 4), (23, 26)),
        "LM": ((5, 5), (27, 27)),
        "RM": ((9, 9), (31, 31)),
        "SLN": ((11, 17), (33, 39)),
        "SLD": ((18, 18), (40, 40)),
        "SLNV": ((19, 22), (41, 44)),
        "PRM": ((10, 16), (32, 38)),
        "SPD": ((17, 17), (39, 39)),
        "RD": ((22, 22), (44, 44)),
        "SPNV": ((23, 29, 2), (45, 51, 2)),
        "RNV": ((24, 30, 2), (46, 52, 2)),
        "AV": (None, (53, 56)),
    },
    "fusemax-ahead": {
        "QK": ((1, 4), (6, 9)),
        "LM": ((5, 5), (10, 10)),
        "RM": ((9, 9), (14, 14)),
        "SLN": ((11, 17), (23, 29)),
        "SLD": ((18, 18), (30, 30)),
        "SLNV": ((19, 22), (31, 34)),
        "PRM": ((15, 21), (32, 38)),
        "SPD": ((22, 22), (39, 39)),
        "RD": ((23, 23), (40, 40)),
        "SPNV": ((24, 30, 2), (41, 47, 2)),
        "RNV": ((25, 31, 2), (42, 48, 2)),
        "AV": (None, (49, 52)),
    },
}


@pytest.mark.parametrize(("mapping", "cycles"), [("fusemax-serial", 59), ("fusemax-ahead", 55)])
def test_worked_example_entry_by_entry(mapping, cycles):
    found = program(mapping)
    inputs = random_inputs(found)
    registers = simulate_pe(found, inputs)
    for timeline in (simulate(found), registers.timeline):
        assert timeline.cycles == cycles
        for task, tiles in WORKED[mapping].items():
            for tile, run in enumerate(tiles):
                first, last, stride = (*run, 1)[:3] if run else (0, -1, 1)
                expected = tuple(range(first, last + 1, stride))
                assert timeline.slots(task, tile) == expected, (task, tile)
        assert busy_slots(timeline) == {"array_2d": 34, "array_1d": 40}
    expected = ec.evaluate(CASCADE, sizes={"M0": 4}, **inputs)["AV"]
    assert np.allclose(registers.outputs["AV"], expected, rtol=1e-12, atol=1e-12)
    assert archsim.bound(CASCADE, ec.workload(**TINY), "fusemax-4x4", mapping).cycles == 40


def test_every_idle_slot_of_the_worked_example_has_its_cause():
    """Array: 5 slots before each SLN wait for RM; lanes: LM, SLD and SLNV cross the rows.

    serial, lanes, idle slots: 1-8 before RM (LM), 18-21 before RD (SLD), 4 again for tile 1: 16.
    """
    timeline = simulate(program())
    assert stalls(timeline) == {
        "array_2d": {"return": 10, "end": 15},
        "array_1d": {"landing": 16, "end": 3},
    }
    assert utilization(timeline) == {"array_2d": 34 / 59, "array_1d": 40 / 59}
    assert dict(timeline.occupancy)["SLNV@landing"] == 3
    drawn = waterfall(timeline).splitlines()
    assert drawn[0] == "slots 1 to 56"
    assert drawn[2] == "  QK            0  |" + "#" * 4 + " " * 52 + "|"
    assert drawn[-1] == "  AV            1  |" + " " * 52 + "#" * 4 + "|"


def deep(rows: int, E: int, F: int) -> tuple[Body, ...]:
    """FuseMax's order with as many tiles in flight as the array is deep."""
    lag = 2 + (rows + 12) // max(E + F + 9, 2 * F + 10)
    late = 2 * lag
    return ordered(
        array_2d=[f"QK lag 0 | SLNV lag {late}", "LM", f"SLN lag {lag}", f"SLD lag {lag}"],
        array_1d=[
            f"SPNV lag {late} | RNV lag {late}",
            f"AV lag {late}",
            "RM",
            *(f"{task} lag {lag}" for task in ("PRM", "SPD", "RD")),
        ],
    )


def steady_period(found: Program, tiles: int, **sizes: int) -> Fraction:
    """Cycles per tile, exactly: what further query tiles add once the pipeline is full."""
    placed = found.placed

    def cycles(query_tiles: int) -> int:
        more = {**sizes, "P": query_tiles * found.shape[1]}
        mapping = replace(placed.mapping, order=found.bodies)
        longer = lower(CASCADE, ec.workload(**more), found.architecture, mapping)
        return execute(longer.compute_only()).cycles

    # Far enough in: the lanes fall behind by less than one slot a tile at first.
    before, after = cycles(24), cycles(32)
    return Fraction(after - before, 8 * tiles)


@pytest.mark.parametrize("rows", [4, 64, 256])
@pytest.mark.parametrize(("E", "F"), [(64, 64), (128, 64), (16, 48), (96, 8), (33, 31)])
def test_steady_period_is_exactly_the_formula(rows, E, F, resized):
    """max(E + F + 9, 2F + 10 + F/M1) cycles a tile, whatever the rows, with 3 key tiles a head."""
    architecture = resized("fusemax", rows=rows, cols=rows, lanes=rows)
    arrays = tuple(
        replace(array, landing_entries=10**6, return_entries=10**6, register_entries=64)
        for array in architecture.arrays
    )
    mapping = replace(archsim.load_mapping("fusemax"), order=deep(rows, E, F))
    sizes = {"E": E, "F": F, "M": 3 * rows, "P": rows, "P1": 1}
    found = lower(CASCADE, ec.workload(**sizes), replace(architecture, arrays=arrays), mapping)
    assert steady_period(found, 3, **sizes) == max(E + F + 9, 2 * F + 10 + Fraction(F, 3))


SHIPPED = {"E": 64, "F": 64, "P": 256}


def first_slots(found: Program, task: str) -> list[int]:
    timeline = simulate(found)
    return [timeline.slots(task, tile.index)[0] for tile in found.tiles]


def test_shipped_mapping_at_full_size():
    """Period 138, landing FIFO 43, a tile for 542 slots in a PE, 152 bit of its 192."""
    found = program("fusemax", "fusemax", M=256 * 60, **SHIPPED)
    run = execute(found)
    starts = [run.at["QK", tile][0] for tile in range(60)]
    assert starts[50] - starts[49] == 138
    assert run.at["SLNV", 40][-1] - run.at["QK", 40][0] + 1 == 542
    assert dict(simulate(found).occupancy)["SLNV@landing"] == 43
    depths = {register.tensor: register.depth for register in found.registers}
    # Four tiles in flight: three sums of 32 bit, one exponential of 16, and exp's 40.
    assert (depths["QK"], depths["SLN"]) == (3, 1)
    assert 3 * 32 + 16 + 40 == 152


def test_logits_only_one_tile_ahead_take_197_cycles():
    mapping = archsim.load_mapping("fusemax")
    earlier = tuple(
        Body(
            body.unit,
            tuple(
                tuple(replace(item, lag=max(0, item.lag - 1)) for item in entry)
                for entry in body.entries
            ),
        )
        for body in mapping.order
    )
    found = lower(
        CASCADE,
        ec.workload(M=256 * 20, **SHIPPED),
        archsim.load_architecture("fusemax"),
        replace(mapping, order=earlier),
    ).compute_only()
    starts = first_slots(found, "QK")
    # 138 and 256 in turn.
    assert starts[18] - starts[8] == 10 * 197


def test_an_accumulator_loop_of_four_takes_263_cycles():
    architecture = archsim.load_architecture("fusemax")
    slow = replace(architecture, latency=replace(architecture.latency, accumulate=4))
    found = lower(
        CASCADE, ec.workload(M=256 * 20, **SHIPPED), slow, archsim.load_mapping("fusemax")
    ).compute_only()
    starts = first_slots(found, "QK")
    assert starts[15] - starts[14] == 263


def test_a_head_run_alone_pays_for_its_start_and_end():
    """1K keys: 16 tiles of 154 cycles and 829 more, a third; 4K: 2.3 %."""
    alone = execute(program("fusemax", "fusemax", E=64, F=64, M=1024, P=1024)).cycles
    assert alone == 16 * 154 + 829
    assert round(829 / (16 * 154), 2) == 0.34
    longer = execute(program("fusemax", "fusemax", E=64, F=64, M=4096, P=4096)).cycles
    assert longer == 256 * 142 + 829


def test_draining_each_head_costs_a_third():
    mapping = archsim.load_mapping("fusemax")
    workload = ec.workload(E=64, F=64, M=1024, P=1024, H=4)
    chip = archsim.load_architecture("fusemax")
    full = execute(lower(CASCADE, workload, chip, mapping).compute_only()).cycles
    emptied = lower(CASCADE, workload, chip, replace(mapping, drain="head"))
    drained = execute(emptied.compute_only()).cycles
    assert full == 4 * 16 * 154 + 829
    assert drained == 4 * (16 * 154 + 829)


def slow(**latencies: int):
    """The small machine with other latencies: accumulate, row_hop, return_registers, operators."""
    chip = archsim.load_architecture("fusemax-4x4")
    own = {name: latencies.pop(name) for name in list(latencies) if hasattr(chip.latency, name)}
    arrays = tuple(
        replace(
            array,
            operators=tuple(
                replace(row, latency_cycles=row.slots * latencies.get(row.operator, 1))
                for row in array.operators
            ),
        )
        for array in chip.arrays
    )
    return replace(chip, arrays=arrays, latency=Latency(**{"row_hop": 4} | own))


# Each rule of docs/schedule.md on its own: one latency above 1, and where it shows in `serial`.
RULES = [
    # The sums of QK follow each other: 4 additions, 3 loops.
    ("accumulate", {"accumulate": 3, "row_hop": 1}, "QK", 0, (1, 4, 7, 10)),
    # LM reads the sum 3 cycles after the last product.
    ("register", {"mac": 3, "row_hop": 3}, "LM", 0, (7,)),
    # exp is a chain of 6 slots that follow each other.
    ("chain", {"exp": 2, "row_hop": 1}, "SLN", 0, (11, 12, 14, 16, 18, 20, 22)),
    # A hop of 2: LM needs 3 * 2 slots down and 1 to the lane.
    ("row hop", {"row_hop": 2}, "RM", 0, (5 + 3 * 2 + 1,)),
    # Max takes 2 in the array (on its way down) and in the lane (before the return).
    ("landing", {"max": 2, "row_hop": 2}, "RM", 0, (5 + 3 * 2 + 2,)),
    ("return", {"max": 2, "row_hop": 2}, "SLN", 0, tuple(range(13 + 2 + 1, 13 + 2 + 8))),
    ("return registers", {"return_registers": 3, "row_hop": 1}, "SLN", 0, tuple(range(13, 20))),
    # PRM reads RM 2 cycles after it; SPNV and RNV wait for each other word by word.
    ("lane", {"max": 2, "row_hop": 2}, "PRM", 0, tuple(range(15, 22))),
]


@pytest.mark.parametrize(("rule", "latencies", "task", "tile", "expected"), RULES)
def test_each_rule_delays_what_it_says(rule, latencies, task, tile, expected):
    del rule
    found = lower(
        CASCADE, ec.workload(**TINY), slow(**latencies), archsim.load_mapping("fusemax-serial")
    )
    assert simulate(found).slots(task, tile) == expected
    assert simulate_pe(found, random_inputs(found)).timeline.slots(task, tile) == expected


@pytest.mark.parametrize("cause", ["register", "accumulator", "landing", "lane", "return"])
@pytest.mark.parametrize("change", [-1, 1])
def test_a_rule_that_is_off_by_one_disagrees_with_the_registers(cause, change, monkeypatch):
    """Mutants of the slot engine: the register-level model contradicts each of them."""
    chip = slow(accumulate=2, mac=2, max=2, add=2, sub=2, exp=2, div=2, row_hop=2)
    found = lower(CASCADE, ec.workload(**TINY), chip, archsim.load_mapping("fusemax-serial"))
    rules = slots.Run.waits

    def mutant(run, op):
        for wait in rules(run, op):
            shift = change if wait.cause == cause else 0
            yield replace(wait, delay=wait.delay + shift)

    registers = simulate_pe(found, random_inputs(found))
    honest = execute(found)
    issued = {unit: [issue.at for issue in issues] for unit, issues in honest.issued.items()}
    measured = {unit: [at for _, at in ops] for unit, ops in registers.issued.items()}
    assert issued == measured
    monkeypatch.setattr(slots.Run, "waits", mutant)
    wrong = {u: [issue.at for issue in issues] for u, issues in execute(found).issued.items()}
    assert wrong != measured


def with_depth(found: Program, tensor: str, depth: int) -> Program:
    registers = tuple(
        replace(register, depth=depth) if register.tensor == tensor else register
        for register in found.registers
    )
    return replace(found, registers=registers)


@pytest.mark.parametrize("tensor", ["QK", "RM"])
def test_registers_that_do_not_rotate_are_refused(tensor):
    found = program("fusemax-ahead", M=16, P=4, E=4, F=4)
    with pytest.raises(ArchError) as caught:
        simulate(with_depth(found, tensor, 1))
    text = str(caught.value)
    assert "deadlock" in text
    assert f"to have read the register of {tensor}" in text
    assert "behind" in text


def test_overwriting_rd_before_it_is_read_shows_in_the_values():
    """AV after the next query tile's RD: cycles stay the same, the quotient is wrong.

    The register-level model knows no rule about overwriting; only its values tell.
    """
    order = ordered(
        array_2d=["QK", "LM", "SLN lag 1", "SLD lag 1", "SLNV lag 1"],
        array_1d=["RM", "PRM lag 1", "SPD lag 1", "RD lag 1", "SPNV lag 2 | RNV lag 2", "AV lag 2"],
    )
    mapping = replace(archsim.load_mapping("fusemax-ahead"), order=order)
    workload = ec.workload(M=8, P=12, E=4, F=4, P1=1)
    found = lower(CASCADE, workload, archsim.load_architecture("fusemax-4x4"), mapping)
    depths = {register.tensor: register.depth for register in found.registers}
    assert depths["RD"] == 2
    inputs = random_inputs(found)
    expected = ec.evaluate(CASCADE, sizes={"M0": 4}, **inputs)["AV"]
    right = simulate_pe(found, inputs)
    wrong = simulate_pe(with_depth(found, "RD", 1), inputs)
    assert np.allclose(right.outputs["AV"], expected, rtol=1e-12)
    assert not np.allclose(wrong.outputs["AV"], expected, rtol=1e-3)
    assert wrong.timeline.cycles == right.timeline.cycles
    with pytest.raises(ArchError, match="AV of tile 1 to have read the register of RD"):
        simulate(with_depth(found, "RD", 1))


def test_deadlock_names_the_chain():
    order = ordered(
        array_2d=["SLN lag 0", "QK lag 0", "LM lag 0", "SLD lag 0", "SLNV lag 0"],
        array_1d=["RM", "PRM", "SPD", "RD", "SPNV | RNV", "AV"],
    )
    mapping = replace(archsim.load_mapping("fusemax-serial"), order=order)
    found = lower(CASCADE, ec.workload(**TINY), archsim.load_architecture("fusemax-4x4"), mapping)
    with pytest.raises(ArchError) as caught:
        simulate(found)
    assert (
        "deadlock: array_2d: SLN of tile 0 waits for QK of tile 0, which stands behind SLN of "
        "tile 0 itself"
    ) in str(caught.value)


def test_deadlock_names_the_chain_where_a_unit_waits_for_the_pipeline_to_run_empty():
    """The array has done its part of the first head and waits for the lanes, which hang."""
    order = ordered(
        array_2d=["QK", "LM", "SLN", "SLD", "SLNV"],
        array_1d=["RM", "PRM", "SPD", "RD", "RNV", "SPNV", "AV"],
    )
    mapping = replace(archsim.load_mapping("fusemax-serial"), order=order, drain="head")
    sizes = ec.workload(**{**TINY, "M": 4, "H": 2})
    found = lower(CASCADE, sizes, archsim.load_architecture("fusemax-4x4"), mapping)
    with pytest.raises(ArchError) as caught:
        simulate(found.compute_only())
    assert "deadlock: array_1d: RNV of tile 0 waits for SPNV of tile 0" in str(caught.value)


def test_overflow_names_the_words_and_the_room():
    found = program("fusemax", "fusemax", M=1024, P=1024, E=64, F=64)
    with pytest.raises(ArchError) as caught:
        simulate(replace(found, landing_entries=69))
    text = str(caught.value)
    assert "overflow: 70 words of SLNV wait in slot" in text
    assert "until RNV takes them, the landing FIFO has 69 entries" in text
    assert "fusemax.yaml" in text
    with pytest.raises(ArchError, match="overflow"):
        simulate_pe(
            replace(program("fusemax-ahead", M=16, P=4, E=4, F=4), landing_entries=2),
            random_inputs(program("fusemax-ahead", M=16, P=4, E=4, F=4)),
        )


def test_a_full_run_stays_between_bound_and_a_little_more():
    workload = ec.workload("bert", M=1024, P=1024, B=1, H=4)
    report = archsim.run("softmax-1pass", workload, "fusemax", "fusemax", level="tile")
    assert report.lower_bound_cycles <= report.cycles
    for unit, causes in report.stall_cycles.items():
        busy = sum(report.utilization_by_einsum[unit].values())
        assert busy == pytest.approx(1 - sum(causes.values()) / report.cycles, rel=1e-12)
