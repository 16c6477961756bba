"""Runs in the simulator: exp2 from leaves against einsum_cascade.exp_units, bit for bit."""

import os

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

from einsum_cascade.exp_units import UNITS, exp2

N = int(os.environ["BENCH_N"])


@cocotb.test()
async def all_bf16_numbers_and_random_ones(dut):
    """One bf16 number in BENCH_STRIDE, specials, and random fp32 numbers from -130 to 130."""
    unit = UNITS[f"poly{os.environ['BENCH_DEGREE']}"]
    multiplier = os.environ["BENCH_MULTIPLIER"]
    codes = np.arange(0, 65536, int(os.environ["BENCH_STRIDE"]), dtype=np.uint32) << 16
    random = np.random.default_rng(31).uniform(-130, 130, int(os.environ["BENCH_COUNT"]))
    ends = [np.inf, -np.inf, np.nan, 0.0, -0.0, 200.0, 201.0, -200.0, -1e30, 0.5, -0.5, 1.5, 2.5]
    ends += [-126.0, -125.5, -126.5, 127.5, 128.0, 1e-40]
    parts = [codes.view(np.float32), random.astype(np.float32), np.array(ends, dtype=np.float32)]
    x = np.concatenate(parts)
    x = np.resize(x, -(-len(x) // N) * N)
    expected = exp2(x, unit, multiplier).view(np.uint32)
    cocotb.start_soon(Clock(dut.clk, 10, "ns").start())
    degree = unit.size
    steps = len(x) // N
    for step in range(steps + degree):
        await FallingEdge(dut.clk)
        # What went in `degree` edges ago comes out; a new vector goes in every cycle.
        if step >= degree:
            span = slice((step - degree) * N, (step - degree + 1) * N)
            bits = dut.y.value.to_unsigned().to_bytes(4 * N, "little")
            found = np.frombuffer(bits, dtype=np.uint32)
            wrong = np.flatnonzero(found != expected[span])
            assert not len(wrong), (
                f"2**{x[span][wrong[0]]!r} = {found[wrong[0]]:08x}, "
                f"the unit says {expected[span][wrong[0]]:08x}"
            )
        now = x[min(step, steps - 1) * N :][:N]
        dut.x.value = int.from_bytes(now.tobytes(), "little")
