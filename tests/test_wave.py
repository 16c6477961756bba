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
from archsim.pe import PeRun, simulate_pe
from archsim.program import Program
from archsim.timeline import busy_by_task
from archsim.wave import WaveRun, simulate_waves


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


@pytest.mark.parametrize("count", [300, pytest.param(3000, marks=pytest.mark.slow)])
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
