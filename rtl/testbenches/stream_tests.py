"""Runs in the simulator: words come out once each, in order, whatever stalls on either side."""

import os
import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, RisingEdge

DEPTH = int(os.environ["BENCH_DEPTH"])
WORDS = 600


@cocotb.test()
@cocotb.parametrize(idle=[0.0, 0.4], stall=[0.0, 0.6])
async def nothing_is_lost_doubled_or_reordered(dut, idle, stall):
    """The scoreboard is filled where handshakes happen, so a wrong driver can't hide anything."""
    chance = random.Random(f"{idle} {stall}")
    cocotb.start_soon(Clock(dut.clk, 10, "ns").start())
    dut.rst.value, dut.in_valid.value, dut.out_ready.value = 1, 0, 0
    for _ in range(2):
        await FallingEdge(dut.clk)
    dut.rst.value = 0
    waiting: list[int] = []
    sent = taken = cycles = most = 0
    offered = None
    while taken < WORDS:
        cycles += 1
        assert cycles < 20 * WORDS
        # Drive on the falling edge; an offer stays until it is taken.
        if offered is None and sent < WORDS and chance.random() >= idle:
            offered = chance.randrange(1 << 16)
        dut.in_valid.value = offered is not None
        dut.in_data.value = offered or 0
        dut.out_ready.value = chance.random() >= stall
        await RisingEdge(dut.clk)
        # Just before the edge takes effect: these handshakes happen.
        put = bool(dut.in_valid.value) and bool(dut.in_ready.value)
        take = bool(dut.out_valid.value) and bool(dut.out_ready.value)
        if take:
            assert int(dut.out_data.value) == waiting.pop(0)
            taken += 1
        if put:
            waiting.append(offered)
            offered, sent = None, sent + 1
        most = max(most, len(waiting))
        await FallingEdge(dut.clk)
    assert most <= (DEPTH or 2)
    if idle == 0 and stall == 0 and DEPTH != 1:
        # Full throughput: a word a cycle after the first.
        assert cycles <= WORDS + 2
    if stall == 0.6:
        assert most == (DEPTH or 2)
