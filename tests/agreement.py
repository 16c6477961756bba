"""Everything that must agree about a Program, or the Programs of several phases.

The slot engine and the registers on every micro-op, cycle and stall; the registers and the
functional model on every bit, in float64 and in hardware numbers; float64 and the naive interpreter
of the whole cascade.
"""

import numpy as np

import archsim
import einsum_cascade as ec
from archsim.chain import Chain
from archsim.elements import random_inputs
from archsim.engine import run_program
from archsim.hazards import check_registers
from archsim.pe import simulate_pe
from archsim.slots import execute, timeline_of
from archsim.slots import simulate as simulate_slots
from archsim.timeline import stalls
from archsim.values import compute

NUMBERS = ("float64", "hardware")


def agree(found, numbers=NUMBERS) -> list[int]:
    """Cycles of each phase, after every check."""
    programs = found.programs if isinstance(found, Chain) else (found,)
    inputs, cascade = random_inputs(found), found.placed.cascade
    sizes = {rank: size for part in programs for rank, size in part.sizes.items()}
    tiles = {part: sizes[part] for _, parts in cascade.splits for part in parts[1:]}
    expected = ec.evaluate(cascade, sizes=tiles, **inputs)
    for kind in numbers:
        values, cycles = dict(inputs), []
        for program in programs:
            check_registers(program)
            run = execute(program)
            given = {name: values[name] for name in program.cascade.inputs}
            registers = simulate_pe(program, given, kind)
            for unit, issues in run.issued.items():
                assert [(i.op, i.at) for i in issues] == list(registers.issued[unit])
            timeline = timeline_of(run)
            assert registers.timeline.cycles == timeline.cycles
            assert stalls(registers.timeline).keys() == stalls(timeline).keys()
            for unit, idle in stalls(timeline).items():
                assert sum(idle.values()) == sum(stalls(registers.timeline)[unit].values())
            for name, words in compute(program, given, kind).items():
                assert np.array_equal(words, registers.outputs[name]), (kind, name)
            values |= registers.outputs
            cycles.append(run.cycles)
        for name, right in expected.items():
            error = np.abs(values[name] - right).max() / (np.abs(right).max() or 1.0)
            assert error < (1e-12 if kind == "float64" else 2.0**-4), (kind, name)
    # The engine that skips repetitions finds the same, whatever the length.
    for program in programs:
        reference, fast = simulate_slots(program), run_program(program)
        assert (fast.cycles, fast.totals) == (reference.cycles, reference.totals)
    report = archsim.report(archsim.simulate(found))
    assert report.lower_bound_cycles <= report.cycles == sum(cycles)
    return cycles
