"""Runs in the simulator: a whole machine between a memory that may stall and a scoreboard.

BENCH_FEEDS names an .npz file with rows of words for each stream (`in_NAME`) and the expected rows
of each output (`out_NAME`, `counts_NAME`); BENCH_RESULT the JSON file to write.
"""

import json
import os
import random
from pathlib import Path

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

IDLE = float(os.environ.get("BENCH_IDLE", "0"))
STALL = float(os.environ.get("BENCH_STALL", "0"))
# So many cycles without an instruction mean that none will follow.
PATIENCE = 2000


class Source:
    """Offers rows one after the other; an offer stays until it is taken."""

    def __init__(self, dut, name: str, rows, chance: random.Random) -> None:
        self.valid = getattr(dut, f"{name}_valid")
        self.ready = getattr(dut, f"{name}_ready")
        self.data = getattr(dut, f"{name}_data")
        self.rows = [int.from_bytes(row.tobytes(), "little") for row in rows]
        self.chance, self.at, self.offers, self.driven = chance, 0, False, False
        self.valid.value = 0

    def step(self) -> None:
        """Decide what is offered at the coming edge, and see whether it is taken then."""
        offers = self.offers
        if not offers and self.at < len(self.rows):
            offers = IDLE == 0 or self.chance.random() >= IDLE
            if offers:
                self.data.value = self.rows[self.at]
        if offers != self.driven:
            self.valid.value = int(offers)
            self.driven = offers
        taken = offers and bool(self.ready.value)
        self.at += int(taken)
        self.offers = offers and not taken


class Sink:
    """Takes rows and compares each with what is due when its handshake happens."""

    def __init__(self, dut, name: str, rows, counts, chance: random.Random) -> None:
        self.valid = getattr(dut, f"{name}_valid")
        self.ready = getattr(dut, f"{name}_ready")
        self.data = getattr(dut, f"{name}_data")
        self.name, self.rows, self.counts, self.chance = name, rows, counts, chance
        self.taken, self.wrong = 0, []
        self.ready.value = 1

    def step(self) -> None:
        """Decide whether to take at the coming edge, and compare."""
        takes = STALL == 0 or self.chance.random() >= STALL
        if STALL:
            self.ready.value = int(takes)
        if not (takes and self.valid.value):
            return
        if self.taken == len(self.rows):
            self.wrong.append(f"{self.name}: more than {self.taken} rows")
            return
        bits = self.data.value
        due, counts = self.rows[self.taken], self.counts[self.taken]
        text = str(bits)
        words = [text[32 * n : 32 * n + 32] for n in reversed(range(len(due)))]
        for column, (found, word) in enumerate(zip(words, due, strict=True)):
            if counts[column] and found != format(int(word), "032b"):
                self.wrong.append(
                    f"{self.name} row {self.taken} column {column}: {found}, due {word:032b}"
                )
        self.taken += 1


@cocotb.test()
async def machine(dut) -> None:
    """Run it to its end; write what happened when."""
    feeds = np.load(os.environ["BENCH_FEEDS"])
    chance = random.Random(int(os.environ.get("BENCH_SEED", "0")))
    cocotb.start_soon(Clock(dut.clk, 10, "ns").start())
    dut.rst.value = 1
    sources = [Source(dut, k[3:], feeds[k], chance) for k in feeds.files if k.startswith("in_")]
    sinks = [
        Sink(dut, k[4:], feeds[k], feeds[f"counts_{k[4:]}"], chance)
        for k in feeds.files
        if k.startswith("out_")
    ]
    for _ in range(2):
        await FallingEdge(dut.clk)
    dut.rst.value = 0
    issued: dict[str, list[int]] = {"array": [], "lanes": []}
    fires = {"array": dut.array_fire, "lanes": dut.lanes_fire}
    cycle = first = last = frozen = stopped = quiet = 0
    while True:
        await FallingEdge(dut.clk)
        cycle += 1
        for source in sources:
            source.step()
        for sink in sinks:
            sink.step()
        moves = bool(dut.moving.value)
        for unit, fire in fires.items():
            if fire.value:
                issued[unit].append(cycle)
                first = first or cycle
        if first and not moves:
            stopped += 1
        if dut.active.value:
            last, frozen = cycle, stopped
        quiet = 0 if moves and any(fire.value for fire in fires.values()) else quiet + 1
        if dut.fault.value or (dut.done.value and all(not s.valid.value for s in sinks)):
            break
        if quiet > PATIENCE:
            break
    left = {source.data._name: len(source.rows) - source.at for source in sources}
    result = {
        "issued": {unit: [at - first + 1 for at in times] for unit, times in issued.items()},
        "cycles": last - first + 1,
        "frozen": frozen,
        "fault": bool(dut.fault.value),
        "done": bool(dut.done.value),
        "rows": {sink.name: sink.taken for sink in sinks},
        "due": {sink.name: len(sink.rows) for sink in sinks},
        "not_taken": left,
        "wrong": [line for sink in sinks for line in sink.wrong],
    }
    Path(os.environ["BENCH_RESULT"]).write_text(json.dumps(result), encoding="utf-8")
