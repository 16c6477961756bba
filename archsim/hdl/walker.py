"""SystemVerilog of a walker: it counts through the nest and hands windows of tiles to a sequencer.

A window holds the tiles on which a body acts in one epoch, one for each lag: if there is one, its
class, and where rotating registers stand. Epochs in which no item acts are left out here, ahead of
time, so that the sequencer never loses a cycle on them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

from archsim.hdl.body import ItemRows, UnitBody
from archsim.hdl.tiles import Choice, Class, Walk
from archsim.program import Program
from archsim.sequence import runs_of


def width(count: int) -> int:
    """Bits that tell a number of things apart, at least one."""
    return max(1, (count - 1).bit_length())


@dataclass(frozen=True)
class Window:
    """The fields of a window, from its lowest bit: (name, bits), tile after tile."""

    fields: tuple[tuple[str, int], ...]

    @property
    def bits(self) -> int:
        """Bits of a window."""
        return sum(bits for _, bits in self.fields)

    def slices(self) -> Iterator[tuple[str, int, int]]:
        """Name, first bit and bits of each field."""
        ends = accumulate(bits for _, bits in self.fields)
        for (name, bits), end in zip(self.fields, ends, strict=True):
            yield name, end - bits, bits


def window(body: UnitBody, found: Walk) -> Window:
    """What a window of a unit holds."""
    fields: list[tuple[str, int]] = []
    for lag in range(longest(body) + 1):
        fields += [(f"t{lag}_valid", 1), (f"t{lag}_class", width(len(found.classes)))]
        fields += [(f"t{lag}_{ring}", 8) for ring in ring_names(body)]
    return Window(tuple(fields))


def longest(body: UnitBody) -> int:
    """The longest lag of a unit."""
    return max(item.lag for item in body.items)


def ring_names(body: UnitBody) -> list[str]:
    """Tensors whose registers rotate."""
    return [ring.tensor for ring in body.rings if ring.depth > 1]


def choice_text(choice: Choice[int], bits: int) -> str:
    """A choice as nested conditions."""
    if not choice.features:
        return f"{bits}'d{choice.of[()]}"
    names = ", ".join(feature.name for feature in reversed(choice.features))
    rows = sorted(choice.of.items())
    count = len(choice.features)
    lines = [
        f"{{{names}}} == {count}'b{''.join(str(int(bit)) for bit in reversed(key))} ? "
        f"{bits}'d{value} :"
        for key, value in rows[:-1]
    ]
    return "\n        ".join([*lines, f"{bits}'d{rows[-1][1]}"])


def class_lines(found: Walk, bits: int) -> Iterator[str]:
    """The class of the tile at which the counters stand."""
    if isinstance(found.class_at, Choice):
        yield f"    wire [{bits - 1}:0] now = {choice_text(found.class_at, bits)};"
        return
    loop, bound = found.bounds[-1]
    room = bits << width(bound.of[()])
    listed = sum(number << (bits * n) for n, number in enumerate(found.class_at))
    yield f"    localparam [{room - 1}:0] LISTED = {room}'h{listed:x};"
    yield f"    wire [{bits - 1}:0] now = LISTED[{bits}*at_{loop} +: {bits}];"


def acts_text(item: ItemRows, classes: tuple[Class, ...]) -> str:
    """When an item acts: there is a tile, of a class that asks for it."""
    numbers = [n for n, found in enumerate(classes) if item.task.name in found.acts]
    valid = f"t{item.lag}_valid"
    if len(numbers) == len(classes):
        return valid
    bits = width(len(classes))
    never = "1'b0"
    some = " | ".join(f"t{item.lag}_class == {bits}'d{number}" for number in numbers)
    return f"{valid} & ({some or never})"


def starvation_free(program: Program, body: UnitBody, found: Walk) -> int:
    """Windows to keep in reserve, so that a sequencer that never waits never finds none.

    A walker makes one step a cycle: a window, or an epoch in which nothing happens.
    Whatever a sequencer waits for only gives it more time.
    """
    made, taken = [], []
    step = clock = 0
    acts = [[item.task.name in c.acts for c in found.classes] for item in body.items]
    slots = [item.words * len(item.rows) for item in body.items]
    for run in runs_of(program):
        tiles = [found.sequence[tile.index] for tile in run]
        for epoch in range(len(tiles) + longest(body)):
            step += 1
            issued = 0
            for item, active, count in zip(body.items, acts, slots, strict=True):
                at = epoch - item.lag
                if 0 <= at < len(tiles) and active[tiles[at]]:
                    issued += count
            if issued:
                made.append(step)
                taken.append(clock)
                clock += issued
    reserve = 2
    while reserve < len(made):
        ready = 0
        for number in range(reserve + 1, len(made)):
            room = taken[number - reserve]
            ready = max(ready, room) + made[number] - made[number - 1]
            if ready + 1 > taken[number]:
                break
        else:
            return reserve
        reserve *= 2
    return reserve


def walker_text(name: str, program: Program, body: UnitBody, found: Walk, reserve: int) -> str:
    """The walker of a unit as a module."""
    held, lags = window(body, found), longest(body) + 1
    rings = [ring for ring in body.rings if ring.depth > 1]
    loops = [(loop, max(bound.of.values())) for loop, bound in found.bounds]
    class_bits = width(len(found.classes))
    items = len(body.items)
    nest = " > ".join(f"{loop} {count}" for loop, count in loops) or "one tile"
    lines = [
        f"// Counts through the nest {nest}; see archsim/hdl/walker.py.",
        "`default_nettype none",
        f"module {name} (",
        "    input  wire        clk,",
        "    input  wire        rst,",
        "    output wire        window_valid,",
        "    input  wire        window_ready,",
        f"    output wire [{held.bits - 1}:0] window_data,",
        f"    output wire [{items - 1}:0] window_acts,",
        "    output wire        window_fresh,",
        "    output wire        window_primed",
        ");",
    ]
    features = {f for _, bound in found.bounds for f in bound.features}
    if isinstance(found.class_at, Choice):
        features |= set(found.class_at.features)
    for loop, count in loops:
        lines.append(f"    reg  [{width(count) - 1}:0] at_{loop};")
    for loop, bound in found.bounds:
        bits = width(max(bound.of.values()))
        last = Choice(bound.features, {key: value - 1 for key, value in bound.of.items()})
        lines.append(f"    wire {loop}_is_last = at_{loop} == ({choice_text(last, bits)});")
        for feature in sorted(features, key=lambda feature: feature.name):
            if feature.loop == loop and feature.at is not None:
                lines.append(f"    wire {feature.name} = at_{loop} == {bits}'d{feature.at};")
    lines += class_lines(found, class_bits)
    for ring in rings:
        lines.append(f"    reg  [7:0] ring_{ring.tensor};")
    lines.append("    // The window, and what is left to do.")
    lines += [
        f"    reg  {f'[{bits - 1}:0] ' if bits > 1 else ''}{field};"
        if not field.endswith("_class")
        else f"    reg  [{bits - 1}:0] {field};"
        for field, bits in held.fields
    ]
    lines += [
        "    reg        full, fresh, new_run, over;",
        "    reg  [7:0] flush;",
        f"    wire [{items - 1}:0] acts;",
    ]
    for number, item in enumerate(body.items):
        lines.append(f"    assign acts[{number}] = {acts_text(item, found.classes)};")
    inner = [loop for loop, _ in loops if program.drain != "head" or loop not in ("b", "h")]
    run_ends = " & ".join(f"{loop}_is_last" for loop in inner) or "1'b1"
    all_ends = " & ".join(f"{loop}_is_last" for loop, _ in loops) or "1'b1"
    lines += [
        f"    wire run_ends = {run_ends};",
        f"    wire all_ends = {all_ends};",
        "    wire some = |acts;",
        "    wire room, waiting;",
        "    wire moves = ~full | ~some | room;",
        "    wire tile  = flush == 8'd0 & ~over;",
        f"    sync_fifo #(.W({held.bits + items + 1}), .DEPTH({reserve})) queue (",
        "        .clk(clk), .rst(rst), .in_valid(full & some), .in_ready(room),",
        "        .in_data({" + ", ".join(f for f, _ in reversed(held.fields)) + ", acts, fresh}),",
        "        .out_valid(waiting), .out_ready(window_ready),",
        "        .out_data({window_data, window_acts, window_fresh})",
        "    );",
        "    assign window_valid  = waiting;",
        "    assign window_primed = ~room | (over & flush == 8'd0 & ~full);",
        "    always_ff @(posedge clk) begin",
        "        if (rst) begin",
    ]
    lines += [f"            at_{loop} <= '0;" for loop, _ in loops]
    lines += [f"            ring_{ring.tensor} <= '0;" for ring in rings]
    lines += [f"            t{lag}_valid <= 1'b0;" for lag in range(lags)]
    lines += [
        "            full    <= 1'b0;",
        "            fresh   <= 1'b0;",
        "            new_run <= 1'b0;",
        "            over    <= 1'b0;",
        "            flush   <= 8'd0;",
        "        end else if (moves) begin",
        "            full  <= tile | flush != 8'd0;",
        "            fresh <= (fresh & ~(full & some)) | (tile & new_run);",
        "            if (flush != 8'd0) flush <= flush - 8'd1;",
        "            if (tile) begin",
        "                new_run <= run_ends;",
        f"                if (run_ends) flush <= 8'd{lags - 1};",
        "                if (all_ends) over <= 1'b1;",
    ]
    inside = ""
    for loop, count in reversed(loops):
        bits = width(count)
        step = f"at_{loop} <= {loop}_is_last ? {bits}'d0 : at_{loop} + {bits}'d1;"
        lines.append(f"                {f'if ({inside}) ' if inside else ''}{step}")
        inside = f"{inside} & {loop}_is_last" if inside else f"{loop}_is_last"
    for ring in rings:
        makers = [item for item in body.items if item.task.tensor == ring.tensor]
        maker = next(item for item in makers if item.task.kind != "drain")
        numbers = [n for n, c in enumerate(found.classes) if maker.task.name in c.acts]
        when = " | ".join(f"now == {class_bits}'d{n}" for n in numbers)
        end = (ring.depth - 1) * ring.words
        turn = f"ring_{ring.tensor}"
        step = f"{turn} <= {turn} == 8'd{end} ? 8'd0 : {turn} + 8'd{ring.words};"
        always = len(numbers) == len(found.classes)
        lines.append(f"                {step if always else f'if ({when}) {step}'}")
    lines += ["            end", "        end", "        if (moves) begin"]
    for lag in range(lags):
        for field in ("class", *ring_names(body)):
            source = f"t{lag - 1}_{field}"
            if lag == 0:
                source = "now" if field == "class" else f"ring_{field}"
            lines.append(f"            t{lag}_{field} <= {source};")
    lines.append("        end")
    lines.append("        if (~rst & moves) begin")
    lines += [
        f"            t{lag}_valid <= {'tile' if lag == 0 else f't{lag - 1}_valid'};"
        for lag in range(lags)
    ]
    lines += ["        end", "    end", "endmodule", "`default_nettype wire"]
    return "\n".join(lines) + "\n"
