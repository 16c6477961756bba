"""SystemVerilog of a top: two grids, their sequencers, and the ways between them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.errors import ArchError
from archsim.hdl.body import UnitBody, polynomial
from archsim.hdl.instruction import DELAYS, bits_of
from archsim.program import Program
from einsum_cascade.errors import Problem, Source

# Which PEs hold points, [mask, row, column].
Masks = NDArray[np.bool_]


def _delays(maker: UnitBody, reader: UnitBody, extra: int) -> str:
    """Registers on the way to each queue, besides the queue itself, as bytes."""
    found = 0
    for item in maker.items:
        for row in item.rows:
            if row.push is not None:
                delay = row.latency - 1 + extra
                if delay > DELAYS:
                    text = f"a word of {item.task.tensor} is {delay} cycles on its way"
                    hint = f"hardware has at most {DELAYS} registers there"
                    raise ArchError(Problem(Source(item.task.name), text, hint=hint))
                found |= delay << (8 * row.push)
    assert len(reader.queues) <= 8
    return f"64'h{found:016x}"


def _units(body: UnitBody) -> str:
    """Parameters that say which units the ALUs have."""
    functions = body.functions
    degree, words = (1, [0.0])
    if {"exp", "poly"} & functions:
        degree, words = polynomial(body.array)
    coefficients = sum(bits_of(word) << (32 * k) for k, word in enumerate(words))
    pool = sum(bits << (32 * k) for k, bits in enumerate(body.pool))
    return (
        f".BF16({int(body.array.multiplier == 'bf16')}), .HAS_STEP({int('poly' in functions)}), "
        f".HAS_DIV({int('div' in functions)}), .HAS_EXP({int('exp' in functions)}),\n        "
        f".DEGREE({degree}), .COEFFICIENTS(256'h{coefficients:064x}),\n        "
        f".POOL(512'h{pool:0128x})"
    )


def _sequencer(name: str, unit: str, body: UnitBody, bits: int, streams: dict[str, int]) -> str:
    """The walker, the table and the sequencer of a unit."""
    items, queues = len(body.items), max(1, len(body.queues))
    left = "left_valid_in" if unit == "array" and "left" in streams else "1'b1"
    edge = "top" if unit == "array" else "lane"
    top = f"{edge}_valid_in" if edge in streams else "1'b1"
    return f"""
    // {unit}: what it issues.
    wire {unit}_window_valid, {unit}_window_ready, {unit}_window_fresh, {unit}_window_primed;
    wire [{bits - 1}:0] {unit}_window_data, {unit}_window;
    wire [{items - 1}:0] {unit}_window_acts, {unit}_item, {unit}_turns;
    wire [15:0] {unit}_word;
    wire [7:0]  {unit}_micro;
    wire [15:0] {unit}_table_mask, {unit}_table_only, {unit}_mask, {unit}_only;
    wire [63:0] {unit}_table_op, {unit}_op;
    wire [8:0]  {unit}_table_head, {unit}_head;
    wire [31:0] {unit}_table_coefficient, {unit}_coefficient;
    wire [2:0]  {unit}_table_uses, {unit}_uses;
    wire {unit}_last_micro, {unit}_last_word;
    wire {unit}_primed, {unit}_at_end, {unit}_finished;
    wire [{body.registers - 1}:0] {unit}_ready, {unit}_addable;
    wire [{queues - 1}:0] {unit}_some;
    {name}_{unit}_walker {unit}_walker (
        .clk(clk), .rst(rst), .window_valid({unit}_window_valid),
        .window_ready({unit}_window_ready), .window_data({unit}_window_data),
        .window_acts({unit}_window_acts), .window_fresh({unit}_window_fresh),
        .window_primed({unit}_window_primed)
    );
    {name}_{unit}_table {unit}_table (
        .item({unit}_item), .word({unit}_word), .micro({unit}_micro), .window({unit}_window),
        .op({unit}_table_op), .head({unit}_table_head), .tile_mask({unit}_table_mask),
        .only_row({unit}_table_only), .coefficient({unit}_table_coefficient),
        .uses({unit}_table_uses), .last_micro({unit}_last_micro), .last_word({unit}_last_word),
        .turns({unit}_turns)
    );
    sequencer #(
        .ITEMS({items}), .WINDOW({bits}), .REGS({body.registers}), .QUEUES({queues})
    ) {unit}_sequencer (
        .clk(clk), .rst(rst), .en(en), .window_valid({unit}_window_valid),
        .window_ready({unit}_window_ready), .window_data({unit}_window_data),
        .window_acts({unit}_window_acts), .window_fresh({unit}_window_fresh),
        .window_primed({unit}_window_primed), .item({unit}_item), .word({unit}_word),
        .micro({unit}_micro), .window({unit}_window), .table_op({unit}_table_op),
        .table_head({unit}_table_head), .table_mask({unit}_table_mask),
        .table_only({unit}_table_only), .table_coefficient({unit}_table_coefficient),
        .table_uses({unit}_table_uses), .table_last_micro({unit}_last_micro),
        .table_last_word({unit}_last_word), .table_turns({unit}_turns), .ready({unit}_ready),
        .addable({unit}_addable), .some({unit}_some), .left_valid({left}), .top_valid({top}),
        .primed({unit}_primed), .go(go), .at_end({unit}_at_end), .empty(empty),
        .fire({unit}_fire), .op({unit}_op), .head({unit}_head), .mask_in({unit}_mask),
        .row_only({unit}_only), .coefficient({unit}_coefficient), .uses({unit}_uses),
        .finished({unit}_finished)
    );"""


def _stream(name: str, words: int, used: str) -> str:
    """A skid buffer behind the words of one edge, and those words as fp32."""
    parts = ", ".join(f"{name}_words[{16 * n} +: 16], 16'd0" for n in reversed(range(words)))
    return f"""
    wire {name}_valid_in;
    wire [{16 * words - 1}:0] {name}_words;
    skid_buffer #(.W({16 * words})) {name}_buffer (
        .clk(clk), .rst(rst), .in_valid({name}_valid), .in_ready({name}_ready),
        .in_data({name}_data), .out_valid({name}_valid_in), .out_ready({used}),
        .out_data({name}_words)
    );
    wire [{32 * words - 1}:0] {name}_wide = {used} ? {{{parts}}} : {32 * words}'d0;"""


def _grid(
    unit: str, body: UnitBody, rows: int, cols: int, depth: int, loop: int, hop: int,
    left: str, edge: str, masks: Masks,
) -> str:  # fmt: skip
    queues = max(1, len(body.queues))
    # As many cycles as any result is on its way to its register.
    longest = max(body.latency, loop if body.adds else 1)
    return f"""
    wire [{32 * cols - 1}:0] {unit}_result;
    wire [{7 * cols - 1}:0] {unit}_goes;
    wire [{queues * cols - 1}:0] {unit}_put;
    wire [{32 * queues * cols - 1}:0] {unit}_put_data;
    wire {unit}_fault, {unit}_flying;
    grid #(
        .ROWS({rows}), .COLS({cols}), .QUEUES({queues}), .DEPTH({depth}), .REGS({body.registers}),
        .HOP({hop}), .LATS({longest}), .ADD_LOOP({loop}), .MASKS({len(masks)}),
        .HOLDS({_holds(masks)}),
        {_units(body)}
    ) {unit} (
        .clk(clk), .rst(rst), .en(en), .op({unit}_op), .head({unit}_head), .mask_in({unit}_mask),
        .row_only({unit}_only), .left({left}), .edge_words({edge}),
        .put({unit}_put), .put_data({unit}_put_data), .result({unit}_result), .goes({unit}_goes),
        .ready({unit}_ready), .addable({unit}_addable), .some({unit}_some), .fault({unit}_fault),
        .flying({unit}_flying)
    );"""


def _holds(masks: Masks) -> str:
    """Masks as bits, PE after PE and row after row, the first one lowest."""
    parts = []
    for mask in reversed(masks):
        count = mask.size
        number = sum(1 << int(place) for place in np.flatnonzero(mask))
        parts.append(f"{{{count}{{1'b1}}}}" if mask.all() else f"{count}'h{number:x}")
    return f"{{{', '.join(parts)}}}"


def _route(maker: str, reader: str, cols: int, queues: int, delays: str) -> str:
    return f"""
    route #(.COLS({cols}), .QUEUES({max(1, queues)}), .DELAYS({delays})) {maker}_to_{reader} (
        .clk(clk), .rst(rst), .en(en), .result({maker}_result), .goes({maker}_goes),
        .put({reader}_put), .put_data({reader}_put_data)
    );"""


def top_text(
    program: Program,
    name: str,
    array: UnitBody,
    lanes: UnitBody,
    streams: dict[str, int],
    bits: dict[str, int],
) -> str:
    """The top as a module; `bits` are those of a window, by unit."""
    rows, cols = program.shape
    latency = program.architecture.latency
    ports = ["input  wire clk", "input  wire rst"]
    for stream, words in streams.items():
        ports += [
            f"input  wire {stream}_valid",
            f"output wire {stream}_ready",
            f"input  wire [{16 * words - 1}:0] {stream}_data",
        ]
    for output in lanes.outputs:
        ports += [
            f"output wire {output}_valid",
            f"input  wire {output}_ready",
            f"output wire [{32 * cols - 1}:0] {output}_data",
        ]
    ports += [
        "output wire array_fire",
        "output wire lanes_fire",
        "output wire moving",
        "output wire active",
        "output wire done",
        "output reg  fault",
    ]
    rooms = " & ".join(f"{output}_room" for output in lanes.outputs) or "1'b1"
    wide = {"left": "left_wide", "top": "top_wide", "lane": "lane_wide"}
    coefficient = f"{{{rows}{{array_coefficient}}}}"
    plain_left = wide["left"] if "left" in streams else f"{32 * rows}'d0"
    left = f"array_uses[2] ? {coefficient} : {plain_left}"
    parts = [
        f"// {program.name}: "
        + ", ".join(f"{rank} {size}" for rank, size in program.placed.workload.sizes)
        + ".",
        "// Rows of bf16 words come in on ready/valid streams, in the order in which instructions",
        "// want them; rows of fp32 results leave on others. A full output stops everything.",
        "`default_nettype none",
        f"module {name} (",
        ",\n".join(f"    {port}" for port in ports),
        ");",
        f"    wire {', '.join(f'{output}_room' for output in lanes.outputs)};"
        if lanes.outputs
        else "",
        f"    wire en = {rooms};",
        "    assign moving = en;",
        "    reg  started;",
        "    wire go, empty;",
    ]
    for unit, body in (("array", array), ("lanes", lanes)):
        parts.append(_sequencer(name, unit, body, bits[unit], streams).lstrip("\n"))
    used = {"left": "array_uses[0]", "top": "array_uses[1]", "lane": "lanes_uses[1]"}
    for stream, words in streams.items():
        parts.append(_stream(stream, words, used[stream]))
    parts.append(
        _grid("array", array, rows, cols, program.return_entries, latency.accumulate,
              latency.row_hop, left, wide["top"] if "top" in streams else f"{32 * cols}'d0",
              program.masks[0])
    )  # fmt: skip
    parts.append(
        _grid("lanes", lanes, 1, cols, program.landing_entries, latency.accumulate, 1,
              "lanes_coefficient", wide["lane"] if "lane" in streams else f"{32 * cols}'d0",
              np.ones((1, 1, cols), np.bool_))
    )  # fmt: skip
    parts.append(_route("array", "lanes", cols, len(lanes.queues), _delays(array, lanes, 0)))
    back = _delays(lanes, array, latency.return_registers)
    parts.append(_route("lanes", "array", cols, len(array.queues), back))
    for number, output in enumerate(lanes.outputs):
        delay = next(r.latency for i in lanes.items for r in i.rows if r.give == number) - 1
        parts.append(f"""
    gather #(.COLS({cols}), .NUMBER({number}), .DELAY({delay})) {output}_rows (
        .clk(clk), .rst(rst), .en(en), .result(lanes_result), .goes(lanes_goes),
        .room({output}_room), .out_valid({output}_valid), .out_ready({output}_ready),
        .out_data({output}_data)
    );""")
    parts.append("""
    // Both begin together, and a run of tiles begins when everything of the one before is done.
    assign go     = started | (array_primed & lanes_primed);
    wire   flying = array_flying | lanes_flying;
    assign active = flying | array_fire | lanes_fire;
    assign empty  = go & array_at_end & lanes_at_end & ~flying;
    assign done   = started & array_finished & lanes_finished & ~flying;
    always_ff @(posedge clk) begin
        if (rst) begin
            started <= 1'b0;
            fault   <= 1'b0;
        end else begin
            started <= go;
            fault   <= fault | array_fault | lanes_fault;
        end
    end""")
    unused = ["array_uses", "lanes_uses", "array_coefficient", "lanes_mask", "lanes_only"]
    unused += ["array_put", "array_put_data", "array_some"] if not array.queues else []
    parts.append(f"    wire unused = &{{1'b0, {', '.join(unused)}}};")
    parts.append("endmodule\n`default_nettype wire\n")
    return "\n".join(part for part in parts if part)
