"""Whole machines in Icarus: the cycle of every micro-op and every bit of the outputs.

The simulator solves for slots from dependencies, the hardware waits for valid bits; the values come
from the functional model, which has no clock. Nothing of one is in the other.
"""

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from random_programs import programs
from test_lowering import ATTENTION, LANES, ORDER, PRODUCT, attention, lowered, machine, mapped

import archsim
import einsum_cascade as ec
from archsim.errors import ArchError
from archsim.hdl.package import rtl_folder
from archsim.hdl.simulator import Outcome, run_machine
from archsim.hdl.top import generate
from archsim.lowering import lower
from archsim.program import Program
from archsim.slots import execute, timeline_of

TINY = {"M": 8, "P": 4, "E": 4, "F": 4}


def program(mapping: str = "fusemax-serial", **sizes: int) -> Program:
    return lower("softmax-1pass", ec.workload(**(sizes or TINY)), "fusemax-4x4", mapping)


@pytest.mark.parametrize(("mapping", "cycles"), [("fusemax-serial", 59), ("fusemax-ahead", 55)])
def test_the_worked_example_takes_its_cycles(tmp_path, mapping, cycles):
    found = program(mapping)
    outcome = run_machine(found, generate(found), tmp_path)
    assert outcome.simulated == cycles
    assert outcome.cycles == cycles
    assert outcome.cycles_hold, outcome
    assert outcome.values_hold, outcome
    assert outcome.rows == {"AV": (4, 4)}


def drawn(count: int, number: int) -> list[Program]:
    """Programs that the simulator runs, of latencies 1 and 2."""
    found: list[Program] = []

    @seed(number)
    @settings(
        max_examples=6 * count,
        phases=[Phase.generate],
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(programs(2, in_hardware=True))
    def collect(case):
        try:
            timeline = timeline_of(execute(case.program))
        except ArchError:
            return
        # Longer ones take Icarus many seconds and show no more.
        if timeline.cycles <= 400:
            found.append(case.program)

    collect()
    # Neighbours are often alike.
    return random.Random(number).sample(found, count)


def simulate_all(found: list[Program], folder: Path, **options: float) -> list[Outcome]:
    """Simulate programs two at a time."""
    designs = [generate(one) for one in found]
    with ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(run_machine, one, design, folder / str(n), seed=n, **options)
            for n, (one, design) in enumerate(zip(found, designs, strict=True))
        ]
        return [job.result() for job in jobs]


@pytest.mark.parametrize(
    ("count", "number"), [(30, 5), pytest.param(300, 6, marks=pytest.mark.slow)]
)
def test_random_programs_take_the_simulated_cycles(tmp_path, count, number):
    found = drawn(count, number)
    assert len(found) == count
    # Not all alike: several heads, query tiles, remainders, latencies and drained pipelines.
    assert sum(dict(one.placed.workload.sizes)["H"] > 1 for one in found) >= count // 5
    assert sum(one.drain == "head" for one in found) >= count // 10
    assert sum(one.tiles[-1].rows < one.shape[0] for one in found) >= count // 10
    assert sum(one.architecture.latency.row_hop > 1 for one in found) >= count // 5
    assert len({one.shape for one in found}) >= 8
    # Filters: tiles that are left out, partly masked ones, query tiles in the inner loop.
    assert sum(any(tile.is_partial for tile in one.tiles) for one in found) >= count // 4
    inner = [dict(one.placed.workload.sizes)["P1"] > 1 for one in found if one.limits]
    assert sum(inner) >= count // 10
    outcomes = simulate_all(found, tmp_path)
    for one, outcome in zip(found, outcomes, strict=True):
        assert outcome.cycles_hold, f"{one}\n{outcome}"
        assert outcome.values_hold, f"{one}\n{outcome}"


FILTERED = {
    "causal": ("causal-1pass", "fusemax-serial", {"M": 12, "P": 12, "E": 2, "F": 2}),
    "remainders": ("causal-1pass", "fusemax-ahead", {"M": 11, "P": 10, "E": 3, "F": 2, "H": 2}),
    "window": ("window-1pass", "fusemax", {"M": 13, "P": 9, "E": 2, "F": 3, "H": 2, "W": 5}),
    "query-tiles-inside": ("causal-1pass", "fusemax", {"M": 9, "P": 11, "E": 2, "F": 2, "P1": 3}),
    "grouped": ("causal-gqa-1pass", "fusemax", {"M": 9, "P": 18, "E": 2, "F": 2, "G": 2}),
    "decode": ("causal-gqa-1pass", "fusemax", {"M": 14, "P": 3, "E": 2, "F": 2, "G": 3, "H": 2}),
    "packed": (
        "window-1pass",
        "fusemax",
        {"M": 6, "P": 5, "E": 2, "F": 2, "H": 4, "KV": 2, "W": 3},
    ),
}


def filtered(name: str) -> Program:
    cascade, mapping, sizes = FILTERED[name]
    return lower(cascade, ec.workload(**sizes), "fusemax-4x4", mapping)


def test_filtered_programs_take_the_simulated_cycles(tmp_path):
    found = [filtered(name) for name in FILTERED]
    partial = [any(tile.is_partial for tile in one.tiles) for one in found]
    assert partial == [name != "decode" for name in FILTERED]
    for one, outcome in zip(found, simulate_all(found, tmp_path), strict=True):
        assert outcome.cycles_hold, f"{one}\n{outcome}"
        assert outcome.values_hold, f"{one}\n{outcome}"


def test_more_tiles_than_a_list_holds_are_refused():
    found = lower(
        "causal-1pass", ec.workload(M=400, P=400, E=1, F=1), "fusemax-4x4", "fusemax-serial"
    )
    with pytest.raises(ArchError, match="5,050 tiles of a head that don't follow from first"):
        generate(found)


def other_cascades() -> list[Program]:
    """Products and sums of other kinds, loads, drains, lanes with inputs, two outputs."""
    sizes = {"N": 5, "D": 7, "S": 6}
    distance = "Z[n,s] = sum[d](abs(X[n,d] - W[d,s]))"
    least = "Z[n,s] = min[d](X[n,d] + W[d,s])"
    shifted = ATTENTION + "\nL[f,p] = max(AV[f,p] + B[f,p], 0)\noutput AV, L"
    order = {**ORDER, "array_1d": [*ORDER["array_1d"], "L"]}
    return [
        lowered(PRODUCT, mapped("projection"), machine(4), **sizes),
        lowered(PRODUCT, mapped("projection-ws"), machine(1), **sizes),
        lowered(distance, mapped("projection"), machine(2), **sizes),
        lowered(least, mapped("projection-ws"), machine(1), **sizes),
        lowered(PRODUCT, mapped("projection"), machine(1), N=1, D=1, S=1),
        attention(shifted, order, {"L": LANES}),
    ]


def test_other_cascades_run_too(tmp_path):
    found = other_cascades()
    for one, outcome in zip(found, simulate_all(found, tmp_path), strict=True):
        assert outcome.cycles_hold, f"{one}\n{outcome}"
        assert outcome.values_hold, f"{one}\n{outcome}"


def test_a_memory_that_stalls_changes_times_and_no_values(tmp_path):
    found = [
        program("fusemax-serial", M=12, P=8, E=3, F=2),
        program("fusemax-ahead", M=7, P=6, E=2, F=3, H=2),
        program("fusemax", M=12, P=4, E=3, F=2),
    ]
    for outcome in simulate_all(found, tmp_path, idle=0.4, stall=0.5):
        assert outcome.values_hold, outcome
        assert outcome.cycles > outcome.simulated


def test_a_full_output_stops_everything_and_nothing_else_changes(tmp_path):
    found = program("fusemax-ahead", M=8, P=8, E=2, F=4)
    outcome = run_machine(found, generate(found), tmp_path, stall=0.7, seed=3)
    assert outcome.frozen > 0
    assert outcome.cycles == outcome.simulated + outcome.frozen
    assert outcome.values_hold, outcome


def test_numbers_that_are_no_numbers_come_out_as_in_the_model(tmp_path):
    """Infinite and huge inputs: exponentials of 0, overflows, NaN."""
    found = program()
    given = {
        name: np.random.default_rng(7).standard_normal(shape)
        for name, shape in (("K", (1, 1, 4, 8)), ("Q", (1, 1, 4, 4)), ("V", (1, 1, 4, 8)))
    }
    given["Q"][..., 1] *= 1e4
    given["K"][..., 2] = np.inf
    given["V"][..., 3] = -3e38
    given["Q"][..., 3] = 0.0
    outcome = run_machine(found, generate(found), tmp_path, inputs=given)
    assert outcome.cycles_hold, outcome
    assert outcome.values_hold, outcome


def test_a_queue_that_overflows_is_a_fault(tmp_path):
    """Hardware with less room than its program needs, which `archsim rtl` would refuse."""
    found = program()
    design = generate(replace(found, landing_entries=1))
    outcome = run_machine(found, design, tmp_path)
    assert outcome.fault
    assert not outcome.values_hold


# ---- wrong hardware is found ----


def mutated(folder: Path, leaf: str, right: str, wrong: str) -> Path:
    """Blocks of which one is wrong."""
    blocks = folder / "rtl"
    blocks.mkdir()
    for path in rtl_folder().glob("*.sv"):
        text = path.read_text(encoding="utf-8")
        if path.stem == leaf:
            assert text.count(right) == 1
            text = text.replace(right, wrong)
        (blocks / path.name).write_text(text, encoding="utf-8")
    return blocks


def test_one_register_more_on_the_way_changes_cycles(tmp_path):
    """Between the lanes and the top of the array, or from the array to the lanes."""
    found = program()
    design = generate(found)
    blocks = mutated(tmp_path, "route", "int'(DELAYS[8*q +: 8])", "int'(DELAYS[8*q +: 8]) + 1")
    outcome = run_machine(found, design, tmp_path / "build", rtl=blocks)
    assert outcome.values_hold, outcome
    assert not outcome.cycles_hold
    assert outcome.cycles > 59


def test_one_register_index_off_changes_values(tmp_path):
    """The running maximum is taken from the place before."""
    found = program()
    design = generate(found)
    name = next(name for name in design.files if name.endswith("lanes_table.sv"))
    right = "f_a_index = 8'd0 + t0_RM_back1;"
    assert design.files[name].count(right) > 0
    wrong = design.files[name].replace(right, "f_a_index = 8'd0 + t0_RM;", 1)
    design = replace(design, files={**design.files, name: wrong})
    outcome = run_machine(found, design, tmp_path / "build")
    assert not outcome.values_hold


def test_one_mask_bit_wrong_changes_values(tmp_path):
    """The PE of the second key and the first query takes a key of the future."""
    found = filtered("causal")
    design = generate(found)
    name = f"{design.name}.sv"
    # The first tile lies on the diagonal: row r holds queries from r on, the first one lowest.
    right = "{{16{1'b1}}, 16'h8cef}"
    assert design.files[name].count(right) == 1
    wrong = design.files[name].replace(right, right.replace("8cef", "8cff"))
    outcome = run_machine(
        found, replace(design, files={**design.files, name: wrong}), tmp_path / "build"
    )
    assert not outcome.values_hold


def test_one_lag_changed_changes_something(tmp_path):
    """The exponentials of a tile are computed a tile earlier than the order says."""
    found = program("fusemax-ahead", M=16, P=4, E=4, F=4)
    design = generate(found)
    name = next(name for name in design.files if name.endswith("array_walker.sv"))
    text = design.files[name]
    assert text.count("assign acts[2] = t1_valid;") == 1
    wrong = text.replace("assign acts[2] = t1_valid;", "assign acts[2] = t0_valid;")
    design = replace(design, files={**design.files, name: wrong})
    outcome = run_machine(found, design, tmp_path / "build")
    assert not (outcome.values_hold and outcome.cycles_hold)


def test_hardware_is_written_the_same_every_time():
    assert generate(program()).files == generate(program()).files


def test_what_has_no_hardware_is_refused():
    chip = archsim.load_architecture("fusemax-4x4")
    arrays = tuple(
        replace(
            array,
            operators=tuple(
                replace(row, slots=1, latency_cycles=1, method="chord8")
                if row.operator == "exp"
                else row
                for row in array.operators
            ),
        )
        for array in chip.arrays
    )
    found = lower(
        "softmax-1pass", ec.workload(**TINY), replace(chip, arrays=arrays), "fusemax-serial"
    )
    with pytest.raises(ArchError, match="SLN has no hardware: exp unit chord8 is a model only"):
        generate(found)


def test_a_sum_of_several_slots_is_refused():
    chip = machine(1)
    array = replace(
        chip.arrays[0],
        operators=tuple(
            replace(row, slots=2, latency_cycles=2) if row.operator == "mac" else row
            for row in chip.arrays[0].operators
        ),
    )
    found = lowered(
        PRODUCT, mapped("projection"), replace(chip, arrays=(array, chip.arrays[1])), N=5, D=3, S=6
    )
    with pytest.raises(ArchError, match="mac takes 2 slots, accumulators are added to in one"):
        generate(found)


def test_ways_and_lags_that_counters_cannot_hold_are_refused():
    found = lowered(PRODUCT, mapped("projection"), machine(1), N=5, D=3, S=6)
    chip = found.architecture
    far = replace(chip, latency=replace(chip.latency, accumulate=16))
    placed = replace(found.placed, architecture=far)
    with pytest.raises(ArchError, match="16 cycles of an accumulator's loop"):
        generate(replace(found, placed=placed))
    late = tuple(
        replace(
            body, entries=tuple(tuple(replace(i, lag=i.lag + 256) for i in e) for e in body.entries)
        )
        for body in found.bodies
    )
    with pytest.raises(ArchError, match="256 tiles of lag"):
        generate(replace(found, bodies=late))
