"""SystemVerilog of a loop-body table: from item, word, micro-op and window to an instruction."""

from __future__ import annotations

from collections.abc import Iterator

from archsim.hdl.body import ItemRows, MicroOp, Place, Read, UnitBody
from archsim.hdl.instruction import BESIDE, CODES, FIELDS, HEAD, MASKS, SOURCES
from archsim.hdl.tiles import Walk
from archsim.hdl.walker import width, window


def table_text(name: str, body: UnitBody, found: Walk, *, is_array: bool) -> str:
    """The table of a unit as a module."""
    held = window(body, found)
    items = len(body.items)
    fields = {**FIELDS, **HEAD, **BESIDE}
    fields.pop("valid")
    lines = [
        "// The loop body: what each micro-op of each item is; see archsim/hdl/table.py.",
        "`default_nettype none",
        f"module {name} (",
        f"    input  wire [{items - 1}:0] item,",
        "    input  wire [15:0] word,",
        "    input  wire [7:0]  micro,",
        f"    input  wire [{held.bits - 1}:0] window,",
        "    output wire [63:0] op,",
        "    output wire [8:0]  head,",
        "    output wire [15:0] tile_mask,",
        "    output wire [15:0] only_row,",
        "    output wire [31:0] coefficient,",
        "    output wire [2:0]  uses,",
        "    output wire        last_micro,",
        "    output wire        last_word,",
        f"    output wire [{items - 1}:0] turns",
        ");",
    ]
    for field, first, bits in held.slices():
        if field.endswith("_valid"):
            continue
        lines.append(f"    wire [{bits - 1}:0] {field} = window[{first} +: {bits}];")
    lines += [f"    wire [7:0] {place} = {text};" for place, text in _places(body).items()]
    lines.append("    wire [7:0] at_word = word[7:0];")
    lines.append("    wire is_first = word == 16'd0;")
    for field, bits in fields.items():
        lines.append(f"    logic {f'[{bits - 1}:0] ' if bits > 1 else ''}f_{field};")
    lines += [
        "    logic f_last_micro, f_last_word;",
        f"    logic [{items - 1}:0] f_turns;",
        "    always_comb begin",
    ]
    lines += [f"        f_{field} = {bits}'d0;" for field, bits in fields.items()]
    lines += [
        "        f_last_micro = 1'b1;",
        "        f_last_word = 1'b1;",
        f"        f_turns = {items}'d0;",
        "        case (item)",
    ]
    for number, item in enumerate(body.items):
        lines += [f"            {line}" for line in _item(body, found, number, item, is_array)]
    lines += [
        "            default: begin end",
        "        endcase",
        "    end",
        "    assign op = {"
        + ", ".join(f"f_{f}" for f in reversed(FIELDS) if f != "valid")
        + ", 1'b1};",
        "    assign head = {" + ", ".join(f"f_{f}" for f in reversed(HEAD)) + "};",
        "    assign tile_mask = f_tile_mask;",
        "    assign only_row = f_only_row;",
        "    assign coefficient = f_coefficient;",
        "    assign uses = {f_is_coefficient, f_top_word, f_left_word};",
        "    assign last_micro = f_last_micro;",
        "    assign last_word = f_last_word;",
        "    assign turns = f_turns;",
        "    wire unused = &{1'b0, window, word, at_word, is_first"
        + "".join(f", {place}" for place in _places(body))
        + "".join(f", {field}" for field, _ in held.fields if not field.endswith("_valid"))
        + "};",
        "endmodule",
        "`default_nettype wire",
    ]
    return "\n".join(lines) + "\n"


def _places(body: UnitBody) -> dict[str, str]:
    """Places of rotating registers some turns ago, by name, as text."""
    found = {}
    for item in body.items:
        operands = (operand for row in item.rows for operand in row.operands)
        for place in (read.register for operand in operands for read in operand.values()):
            if place is not None and place.ring and place.turns:
                ring = next(r for r in body.rings if r.tensor == place.ring)
                back, whole = place.turns * ring.words, ring.depth * ring.words
                here = f"t{item.lag}_{place.ring}"
                on = f"{here} + 8'd{whole - back}"
                found[f"{here}_back{place.turns}"] = (
                    f"{here} < 8'd{back} ? {on} : {here} - 8'd{back}"
                )
    return found


def _place(place: Place, lag: int) -> str:
    parts = [f"8'd{place.base}"]
    if place.ring:
        parts.append(f"t{lag}_{place.ring}" + (f"_back{place.turns}" if place.turns else ""))
    if place.by_word:
        parts.append("at_word")
    return " + ".join(parts)


def _item(
    body: UnitBody, found: Walk, number: int, item: ItemRows, is_array: bool
) -> Iterator[str]:
    items = len(body.items)
    turns = sum(1 << n for n, other in enumerate(body.items) if other.entry == item.entry)
    yield f"{items}'d{1 << number}: begin // {item.task.name} lag {item.lag}: {item.task.text}"
    yield f"    f_last_word = word == 16'd{item.words - 1};"
    yield f"    f_last_micro = micro == 8'd{len(item.rows) - 1};"
    yield f"    f_turns = {items}'d{turns};"
    masks = {n: c.mask for n, c in enumerate(found.classes) if item.task.name in c.acts}
    if is_array:
        lines = {n: [f"f_tile_mask = 16'd{mask};"] if mask else [] for n, mask in masks.items()}
        yield from _by_class(found, item.lag, lines)
    yield "    f_only_row = word;"
    yield "    case (micro)"
    for micro, row in enumerate(item.rows):
        label = "default" if micro == len(item.rows) - 1 else f"8'd{micro}"
        yield f"        {label}: begin // {row.text}"
        for line in _micro(found, item, row):
            yield f"        {line}"
        yield "        end"
    yield "    endcase"
    yield "end"


def _micro(found: Walk, item: ItemRows, row: MicroOp) -> Iterator[str]:
    fields: dict[str, int] = {"fn": CODES[row.fn], "lat": row.latency, "mask": MASKS[row.mask]}
    fields |= dict.fromkeys(row.flags, 1)
    if row.push is not None:
        fields |= {"push": 1, "queue": row.push}
    if row.give is not None:
        fields |= {"give": 1, "output": row.give}
    if row.take is not None:
        fields |= {"take": 1, "take_queue": row.take}
    fields["pool"] = row.pool
    if row.keeps:
        fields["c_index"] = row.keeps
    if row.coefficient is not None:
        fields |= {"coefficient": row.coefficient, "is_coefficient": 1}
    widths = {**FIELDS, **HEAD, **BESIDE}
    for name, value in fields.items():
        if value:
            yield f"    f_{name} = {widths[name]}'d{value};"
    if row.dest is not None:
        yield "    f_write = 1'b1;"
        yield f"    f_dest = {_place(row.dest, item.lag)};"
    if "adds" in row.flags and item.words > 1:
        yield "    f_partial = ~f_last_word;"
    if "left" in row.edges:
        yield "    f_left_word = 1'b1;"
    if "top" in row.edges:
        yield "    f_top_word = 1'b1;"
        yield "    f_edge = 1'b1;"
    starts = dict(row.starts)
    for j, operand in enumerate(row.operands):
        name = "abc"[j]
        lines = {n: list(_operand(name, read, item.lag)) for n, read in operand.items()}
        yield from _by_class(found, item.lag, lines)
        if j in starts:
            yield f"    if (is_first) f_{name}_source = 2'd{SOURCES['constant']};"
            yield f"    if (is_first) f_{name}_index = 8'd{starts[j]};"


def _operand(name: str, read: Read, lag: int) -> Iterator[str]:
    if SOURCES[read.source]:
        yield f"f_{name}_source = 2'd{SOURCES[read.source]};"
    if read.register is not None:
        yield f"f_{name}_index = {_place(read.register, lag)};"
    elif read.constant:
        yield f"f_{name}_index = 8'd{read.constant};"


def _by_class(found: Walk, lag: int, lines: dict[int, list[str]]) -> Iterator[str]:
    """Lines that depend on the class of the tile; once if they are the same in all."""
    kinds: dict[tuple[str, ...], list[int]] = {}
    for number, text in lines.items():
        kinds.setdefault(tuple(text), []).append(number)
    if len(kinds) == 1:
        yield from (f"    {line}" for line in next(iter(kinds)))
        return
    bits = width(len(found.classes))
    yield f"    case (t{lag}_class)"
    for position, (kind, numbers) in enumerate(kinds.items()):
        label = ", ".join(f"{bits}'d{n}" for n in numbers)
        label = "default" if position == len(kinds) - 1 else label
        yield f"        {label}: begin {' '.join(kind)} end"
    yield "    endcase"
