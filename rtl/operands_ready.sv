// Whether the registers that an instruction reads hold what it wants. An accumulator may be added to
// before its sum is complete; bits of the instruction: docs/hardware.md.
`default_nettype none
module operands_ready #(
    parameter int REGS = 8
) (
    input  wire [63:0]     op,
    input  wire [REGS-1:0] ready,
    input  wire [REGS-1:0] addable,
    output wire            ok
);
    localparam int RW = REGS > 1 ? $clog2(REGS) : 1;
    wire        adds = op[44];
    wire [7:0]  dest = op[42:35];
    wire [2:0]  fine;
    genvar j;
    generate
        for (j = 0; j < 3; j = j + 1) begin : gen_operand
            wire [1:0]    source = op[5 + 10 * j +: 2];
            wire [7:0]    index  = op[7 + 10 * j +: 8];
            wire [RW-1:0] at     = index[RW-1:0];
            wire          own    = adds & index == dest;
            assign fine[j] = source != 2'd1 | (own ? addable[at] : ready[at]);
        end
    endgenerate
    assign ok = &fine;
    wire unused = &{1'b0, op};
endmodule
`default_nettype wire
