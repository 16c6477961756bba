"""The top of a Program's hardware: two grids, their sequencers, and the ways between them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from archsim.errors import ArchError
from archsim.hdl.body import UnitBody, unit_body
from archsim.hdl.instruction import LATENCIES, WORDS
from archsim.hdl.table import table_text
from archsim.hdl.tiles import walk
from archsim.hdl.walker import starvation_free, walker_text, window
from archsim.hdl.wiring import top_text
from archsim.program import Program
from einsum_cascade.errors import Problem, Source

_LEAVES = (
    "alu", "column_head", "delay", "exp2", "exp2_scale", "exp2_split", "fp_add", "fp_div", "fp_max",
    "fp_mul", "fp_sub", "fp_word", "gather", "grid", "operands_ready", "pe", "route", "sequencer",
    "skid_buffer", "strobe_delay", "sync_fifo", "word_queue",
)  # fmt: skip


# Every tile is looked at while hardware is written, some 5,000 a second.
TILES = 50_000


@dataclass(frozen=True)
class Design:
    """Hardware of a Program: the text of each generated file, and what a bench must know."""

    name: str
    files: dict[str, str]
    leaves: tuple[str, ...]
    array: UnitBody
    lanes: UnitBody
    # Streams of words at the edges: name -> words in a row.
    streams: dict[str, int]
    # Latencies and capacities that it keeps to.
    contract: dict[str, object]


def identifier(text: str) -> str:
    """A name as Verilog takes it."""
    found = re.sub(r"[^A-Za-z0-9_]+", "_", text)
    return found if not found[:1].isdigit() else f"m_{found}"


def generate(program: Program) -> Design:
    """Write the hardware of a Program.

    Raises:
        ArchError: something that the blocks of rtl/ can't do, with what and why.
    """
    rows, cols = program.shape
    latency = program.architecture.latency
    problems = []
    for count, room, what in (
        (rows, WORDS - 1, "rows"),
        (latency.accumulate, LATENCIES, "cycles of an accumulator's loop"),
        (len(program.tiles), TILES, "tiles"),
    ):
        if count > room:
            text = f"{count:,} {what}: hardware is written for at most {room:,}"
            hint = "take shorter ranks or fewer heads" if what == "tiles" else ""
            problems.append(Problem(Source(program.name), text, hint=hint))
    if problems:
        raise ArchError(problems)
    name = identifier(f"{program.cascade.name}_{program.placed.mapping.name}_{rows}x{cols}")
    walks = {unit: walk(program, unit) for unit in (program.array.name, program.lanes.name)}
    array = unit_body(program, program.array.name, walks[program.array.name])
    lanes = unit_body(program, program.lanes.name, walks[program.lanes.name])
    files = {}
    for unit, body in (("array", array), ("lanes", lanes)):
        found = walks[body.array.name]
        reserve = starvation_free(program, body, found)
        files[f"{name}_{unit}_walker.sv"] = walker_text(
            f"{name}_{unit}_walker", program, body, found, reserve
        )
        files[f"{name}_{unit}_table.sv"] = table_text(
            f"{name}_{unit}_table", body, found, is_array=unit == "array"
        )
    streams = {}
    if "left" in array.edges:
        streams["left"] = rows
    if "top" in array.edges:
        streams["top"] = cols
    if "top" in lanes.edges:
        streams["lane"] = cols
    bits = {
        "array": window(array, walks[program.array.name]).bits,
        "lanes": window(lanes, walks[program.lanes.name]).bits,
    }
    files[f"{name}.sv"] = top_text(program, name, array, lanes, streams, bits)
    contract = {
        "row_hop": latency.row_hop,
        "accumulate": latency.accumulate,
        "return_registers": latency.return_registers,
        "landing_entries": program.landing_entries,
        "return_entries": program.return_entries,
        "operators": {
            unit.name: {
                row.operator: {"slots": row.slots, "latency": row.latency_cycles}
                for row in unit.operators
            }
            for unit in (program.array, program.lanes)
        },
    }
    return Design(name, files, _LEAVES, array, lanes, streams, contract)
