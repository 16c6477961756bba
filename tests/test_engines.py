"""The slot engine and the register-level model, each on its own, on the same random programs.

One solves for the least slots from dependencies between tasks; the other clocks registers, FIFOs
and valid bits. They share the order of a Program and nothing else, so equal cycles of issue for
every micro-op, equal causes of idle slots and right values are a measurement.
"""

from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from random_programs import CASCADES, programs
from random_programs import expected as naive

from archsim.elements import random_inputs
from archsim.errors import ArchError
from archsim.pe import simulate_pe
from archsim.program import Program
from archsim.slots import Run, execute, timeline_of
from archsim.timeline import Timeline, busy_slots, stalls
from archsim.values import compute


def check(run: Run, timeline: Timeline) -> None:
    """Both engines agree on every micro-op, and the values are those of the naive interpreter."""
    program = run.program
    inputs = random_inputs(program)
    registers = simulate_pe(program, inputs)
    for unit, issues in run.issued.items():
        assert [(i.op, i.at) for i in issues] == list(registers.issued[unit])
    assert registers.timeline.cycles == timeline.cycles
    assert stalls(registers.timeline) == stalls(timeline)
    for unit, causes in stalls(timeline).items():
        assert busy_slots(timeline)[unit] + sum(causes.values()) == timeline.cycles
    expected = naive(program, inputs)["AV"]
    assert np.allclose(registers.outputs["AV"], expected, rtol=1e-12, atol=1e-12)
    # In the hardware's numbers the functional model and the registers agree to the bit.
    bits = simulate_pe(program, inputs, "hardware")
    assert np.array_equal(bits.outputs["AV"], compute(program, inputs)["AV"])


def fails_in_registers(program: Program) -> bool:
    """True if the model without any rules stops, overflows, or reads what is not there yet."""
    inputs = random_inputs(program)
    try:
        outputs = simulate_pe(program, inputs).outputs
    except ArchError as error:
        return "deadlock" in str(error) or "overflow" in str(error)
    expected = naive(program, inputs)["AV"]
    return not np.allclose(outputs["AV"], expected, rtol=1e-9)


@pytest.mark.parametrize("count", [300, pytest.param(2000, marks=pytest.mark.slow)])
def test_engines_agree_on_random_programs(count):
    seen = Counter()

    @settings(max_examples=count, suppress_health_check=list(HealthCheck))
    @given(programs())
    def agree(case):
        program = case.program
        try:
            run = execute(program)
            timeline = timeline_of(run)
        except ArchError as error:
            word = str(error).partition(": ")[2].partition(":")[0]
            seen[word] += 1
            assert fails_in_registers(program)
            return
        seen["ran"] += 1
        seen[program.cascade.name] += 1
        seen["partial"] += any(tile.is_partial for tile in program.tiles)
        seen["whole nest"] += any(not limit.skips for limit in program.limits)
        check(run, timeline)

    agree()
    kinds = {"partial", "whole nest", *(cascade.name for cascade in CASCADES)}
    assert set(seen) <= {"ran", "deadlock", "overflow", *kinds}
    assert all(seen[kind] >= count // 30 for kind in kinds)
    assert seen["deadlock"] + seen["overflow"] < seen["ran"]
