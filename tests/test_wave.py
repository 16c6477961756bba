"""The fast register-level engine against the one that clocks every PE, on the same programs.

They share the order of a Program and the scalar operators, and nothing else: equal cycles of every
micro-op, equal causes of idle slots, equal bits and equal failures are a measurement.
"""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from random_programs import programs
from test_lowering import ATTENTION, LANES, ORDER, PRODUCT, attention, lowered, machine, mapped

import archsim
import einsum_cascade as ec
from archsim.elements import random_inputs
from archsim.errors import ArchError
from archsim.hazards import check_registers
from archsim.issue import Body, read_entry
from archsim.pe import PeRun, simulate_pe
from archsim.pe_operators import compute, rounded
from archsim.program import FUNCTIONS, Program
from archsim.slots import execute
from archsim.timeline import busy_by_task
from archsim.wave import WaveRun, simulate_waves
from archsim.wave_operators import exact_line, hardware_line
from einsum_cascade.exp_units import UNITS
from einsum_cascade.format_kernels import BF16, FP32, unit_table


def outcome(engine, program, inputs, numbers) -> PeRun | WaveRun | str:
    """What a run gives, or the text of its failure."""
    try:
        return engine(program, inputs, numbers)
    except ArchError as error:
        return str(error)


def is_mixed(program: Program) -> bool:
    try:
        check_registers(program)
    except ArchError:
        return True
    return False


def agree(program: Program, inputs=None, numbers: str = "float64") -> str:
    """Both engines give the same; returns how it ended."""
    inputs = inputs or random_inputs(program)
    slow = outcome(simulate_pe, program, inputs, numbers)
    fast = outcome(simulate_waves, program, inputs, numbers)
    if isinstance(slow, str) or isinstance(fast, str):
        assert slow == fast
        return slow.partition(": ")[2].partition(":")[0]
    # Facts keep the slot of every micro-op, and what each idle slot was due to.
    assert slow.timeline == fast.timeline
    assert list(slow.outputs) == list(fast.outputs)
    for name, expected in slow.outputs.items():
        assert np.array_equal(expected, fast.outputs[name], equal_nan=True)
        assert np.array_equal(np.signbit(expected), np.signbit(fast.outputs[name]))
    counted: Counter[str] = Counter()
    for by_task in busy_by_task(fast.timeline).values():
        counted.update(by_task)
    assert counted == Counter({k: n for k, n in fast.executed.items() if n})
    assert fast.is_mixed == is_mixed(program)
    return "ran"


@pytest.mark.parametrize("count", [100, pytest.param(3000, marks=pytest.mark.slow)])
def test_engines_agree_on_random_programs(count):
    seen = Counter()

    @settings(max_examples=count, suppress_health_check=list(HealthCheck), deadline=None)
    @given(programs())
    def compare(case):
        seen[agree(case.program)] += 1
        agree(case.program, numbers="hardware")

    compare()
    assert set(seen) <= {"ran", "deadlock", "overflow"}
    assert min(seen["ran"] / 2, seen["deadlock"], seen["overflow"]) >= count / 100


def of_all_kinds() -> dict[str, Program]:
    """Loads, drains, sums of other kinds, lanes with inputs, several slots, two outputs."""
    sizes = {"N": 9, "D": 7, "S": 6}
    distance = "Z[n,s] = sum[d](abs(X[n,d] - W[d,s]))"
    shifted = ATTENTION + "\nL[f,p] = max(AV[f,p] + B[f,p], 0)\noutput AV, L"
    order = {**ORDER, "array_1d": [*ORDER["array_1d"], "L"]}
    chip = machine(1)
    array = replace(
        chip.arrays[0],
        operators=tuple(
            replace(row, slots=2, latency_cycles=4) if row.operator == "mac" else row
            for row in chip.arrays[0].operators
        ),
    )
    several = replace(chip, arrays=(array, chip.arrays[1]))
    ws = mapped("projection-ws")
    return {
        "product": lowered(PRODUCT, mapped("projection"), machine(4), **sizes),
        "loads": lowered(PRODUCT, ws, machine(1), **sizes),
        "distance": lowered(distance, mapped("projection"), machine(2), **sizes),
        "least": lowered("Z[n,s] = min[d](X[n,d] + W[d,s])", ws, machine(1), **sizes),
        "largest": lowered("Z[n,s] = max[d](X[n,d]*W[d,s])", mapped("projection"), **sizes),
        "one": lowered(PRODUCT, mapped("projection"), machine(1), N=1, D=1, S=1),
        "slots": lowered(PRODUCT, mapped("projection"), several, **sizes),
        "heads": lowered(PRODUCT, mapped("projection", drain="head"), H=3, B=2, **sizes),
        "outputs": attention(shifted, order, {"L": LANES}),
        # Words of W stay in the rows while a reader takes turns with the load: not valid there.
        "turns": lowered(
            PRODUCT,
            mapped(
                "projection-ws",
                order=(Body("array_2d", (read_entry("W.load lag 0 | Z lag 0"),)), ws.order[1]),
            ),
            **sizes,
        ),
    }


@pytest.mark.parametrize("numbers", ["float64", "hardware"])
@pytest.mark.parametrize("kind", of_all_kinds())
def test_engines_agree_on_other_kinds(kind, numbers):
    expected = "a word is not there when its micro-op comes by (cycle" if kind == "turns" else "ran"
    assert agree(of_all_kinds()[kind], numbers=numbers).startswith(expected)


@pytest.mark.parametrize("mapping", ["fusemax", "fusemax-serial", "fusemax-ahead"])
@pytest.mark.parametrize("numbers", ["float64", "hardware"])
def test_engines_agree_on_numbers_that_are_none(mapping, numbers):
    """Infinities, NaN, huge words and zeros of both signs, ragged in rows and columns."""
    workload = ec.workload(M=11, P=7, E=3, F=5, H=2)
    program = archsim.lower("softmax-1pass", workload, "fusemax-4x4", mapping)
    inputs = random_inputs(program)
    generator = np.random.default_rng(1)
    for array in inputs.values():
        flat = array.reshape(-1)
        at = generator.choice(flat.size, 6, replace=False)
        flat[at] = [np.inf, -np.inf, 3e38, -0.0, 1e-39, np.nan]
    assert agree(program, inputs, numbers) == "ran"


def test_lines_are_the_operators_of_a_pe():
    """Every operator on a line, against the same one element by element."""
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.5, 3e38, -3e38, 1e-38, 1.2e-38, 1e-40]
    near = np.nextafter(np.float32(1.00390625), np.float32([0, 2])).astype(float).tolist()
    values = np.array([*special, *near, 1.00390625, 1.01171875, 2.0**-126, 2.0**-120], np.float32)
    a, b, c = (part.reshape(-1) for part in np.meshgrid(values, values, values))
    lines = np.stack([a, b, c, np.zeros_like(a)])
    method, table = unit_table(UNITS["poly6"])
    for function in range(len(FUNCTIONS)):
        exact = lines.astype(np.float64)
        exact_line(exact, function, 0, 1, 2, 3)
        check_line(exact, [compute(function, *at) for at in zip(*exact[:3], strict=True)])
        for multiplier in (BF16, FP32):
            found = lines.copy()
            hardware_line(
                found, function, 0, 1, 2, 3, multiplier, method, table,
                (False, False, False), (0.0, 0.0, 0.0),
            )  # fmt: skip
            expected = [
                rounded(function, *at, multiplier, method, table)
                for at in zip(*lines[:3].astype(np.float64), strict=True)
            ]
            check_line(found, expected)


def check_line(found, expected) -> None:
    result, expected = found[3].astype(np.float64), np.array(expected)
    assert np.array_equal(result, expected, equal_nan=True)
    numbers = ~np.isnan(expected)
    assert np.array_equal(np.signbit(result)[numbers], np.signbit(expected)[numbers])


def test_a_large_product_has_the_bits_of_its_order():
    chip = archsim.arch.with_shape(archsim.load_architecture("fusemax"), 128, 128)
    program = archsim.lower("projection", ec.workload(N=256, D=96, S=200), chip, "projection")
    inputs = random_inputs(program)
    run = simulate_waves(program, inputs)
    x, w = inputs["X"][0, 0], inputs["W"][0, 0]
    expected = archsim.gemm(256, 200, 96, rows=128, cols=128, values=(x, w)).result
    assert np.array_equal(run.outputs["Z"][0, 0], expected)
    assert run.executed == {"Z": 256 * 200 * 96, "Z.drain": 128 * 256 * 200, "Z.out": 128 * 400}


def test_a_run_that_takes_too_long_is_refused():
    workload = ec.workload("bert", M=2**17, P=2**16, B=1, H=1)
    program = archsim.lower("softmax-1pass", workload, "fusemax", "fusemax")
    with pytest.raises(ArchError, match="they take too long one by one"):
        simulate_waves(program, {})


@pytest.mark.parametrize("kind", ["landing", "returned"])
def test_a_fifo_that_is_one_entry_short_overflows(kind):
    workload = ec.workload(M=16, P=8, E=4, F=4)
    program = archsim.lower("softmax-1pass", workload, "fusemax-4x4", "fusemax-ahead")
    occupancy = execute(program).occupancy()
    most = max(words for name, words in occupancy.items() if name.endswith(kind))
    room = {"landing": "landing_entries", "returned": "return_entries"}[kind]
    assert agree(replace(program, **{room: most})) == "ran"
    assert agree(replace(program, **{room: most - 1})) == "overflow"
