// A processing element, or a lane: registers, one ALU, and an instruction each cycle that comes along
// with its words from the left and from the top. Instruction and left word go on to the right in the
// next cycle; what goes down arrives HOP cycles later. A result is in its register LAT cycles later,
// LAT being the instruction's; `ready` says so of each register. With an instruction comes the number
// of a mask; `holds` says, mask by mask, if a point of the tile is here. Bits: docs/hardware.md.
`default_nettype none
module pe #(
    parameter int REGS     = 8,
    parameter int HOP      = 1,
    parameter int LATS     = 1,
    parameter int ADD_LOOP = 1,
    parameter int MASKS    = 1,
    parameter int NUMBER   = MASKS > 1 ? $clog2(MASKS) : 1,
    parameter int BF16     = 1,
    parameter int HAS_STEP = 1,
    parameter int HAS_DIV  = 0,
    parameter int HAS_EXP  = 0,
    parameter int DEGREE   = 6,
    parameter bit [32*8-1:0]  COEFFICIENTS = '0,
    parameter bit [32*16-1:0] POOL = '0
) (
    input  wire            clk,
    input  wire            rst,
    input  wire            en,
    input  wire [63:0]     op,
    input  wire [NUMBER-1:0] number,
    input  wire            here,
    input  wire [MASKS-1:0] holds,
    input  wire [31:0]     left,
    input  wire [31:0]     top,
    output wire [63:0]     op_next,
    output wire [NUMBER-1:0] number_next,
    output wire            here_next,
    output wire [31:0]     left_next,
    output wire [31:0]     down,
    output wire [31:0]     result,
    output wire [REGS-1:0] ready,
    output wire [REGS-1:0] addable,
    output wire            fault,
    output wire            trailing
);
    localparam int RW = REGS > 1 ? $clog2(REGS) : 1;
    wire        valid  = op[0];
    wire [7:0]  dest   = op[42:35];
    wire        writes = valid & op[43] & (~op[63] | here);
    wire        adds   = op[44];
    wire        partial = op[45];
    wire [1:0]  mask   = op[55:54];
    wire        filled = holds[number];
    wire [3:0]  lat    = op[62:59];
    // Sums may be added to after ADD_LOOP cycles, whatever their latency.
    wire [3:0]  early  = adds & 4'(ADD_LOOP) < lat ? 4'(ADD_LOOP) : lat;
    wire [3:0]  again  = adds ? 4'(ADD_LOOP) : lat;

    // Operands.
    wire [31:0] pool [0:15];
    reg  [31:0] regs [0:REGS-1];
    wire [31:0] operand [0:2];
    genvar j;
    generate
        for (j = 0; j < 3; j = j + 1) begin : gen_operand
            wire [1:0] source = op[5 + 10 * j +: 2];
            wire [7:0] index  = op[7 + 10 * j +: 8];
            assign operand[j] = source == 2'd0 ? pool[index[3:0]] :
                                source == 2'd1 ? regs[index[RW-1:0]] :
                                source == 2'd2 ? left : top;
            wire unused_index = &{1'b0, index};
        end
    endgenerate
    genvar p;
    generate
        for (p = 0; p < 16; p = p + 1) begin : gen_pool
            assign pool[p] = POOL[32*p +: 32];
        end
    endgenerate
    wire [31:0] computed, word;
    alu #(
        .BF16(BF16), .HAS_STEP(HAS_STEP), .HAS_DIV(HAS_DIV), .HAS_EXP(HAS_EXP),
        .DEGREE(DEGREE), .COEFFICIENTS(COEFFICIENTS)
    ) alu (
        .fn(op[4:1]), .last(op[57]), .a(operand[0]), .b(operand[1]), .c(operand[2]), .y(computed)
    );
    fp_word rounds (.x(op[56] ? computed : 32'd0), .y(word));
    assign result = op[63] ? (here ? operand[0] : top) :
                    (~filled & mask == 2'd1) ? top :
                    (~filled & mask == 2'd2) ? 32'd0 :
                    op[56] ? word : computed;

    // The way of a result to its register.
    localparam int SW = 32 + 8 + 4 + 4 + 4 + 3;
    wire [SW-1:0] stage [0:LATS-1];
    wire          moving [0:LATS-1];
    assign stage[0]  = {result, dest, lat, early, again, writes, adds, partial};
    assign moving[0] = valid;
    wire [REGS-1:0] settled [0:LATS];
    wire [REGS-1:0] grown [0:LATS];
    wire [LATS-1:0] busy;
    wire [RW-1:0]   to [0:LATS-1];
    wire            lands [0:LATS-1];
    wire [31:0]     value [0:LATS-1];
    assign settled[0] = '0;
    assign grown[0]   = '0;
    genvar s;
    generate
        for (s = 0; s < LATS; s = s + 1) begin : gen_stage
            if (s > 0) begin : gen_held
                reg [SW-1:0] held;
                reg          full;
                always_ff @(posedge clk)
                    if (rst) full <= 1'b0;
                    else if (en) full <= moving[s-1];
                always_ff @(posedge clk) if (en) held <= stage[s-1];
                assign stage[s]  = held;
                assign moving[s] = full;
            end
            wire live = moving[s] & stage[s][2];
            assign value[s] = stage[s][SW-1 -: 32];
            assign to[s]    = stage[s][15 +: RW];
            assign lands[s] = live & stage[s][10:7] == 4'(s + 1);
            assign settled[s+1] = settled[s] |
                (live & ~stage[s][0] & stage[s][14:11] == 4'(s + 1) ? REGS'(1) << to[s] : REGS'(0));
            assign grown[s+1] = grown[s] |
                (live & stage[s][6:3] == 4'(s + 1) ? REGS'(1) << to[s] : REGS'(0));
            assign busy[s] = s > 0 & moving[s] & stage[s][14:11] > 4'(s);
            wire unused_stage = &{1'b0, stage[s]};
        end
    endgenerate
    assign trailing = |busy;

    // The first slot of a polynomial keeps its argument for those that follow.
    wire keeps = valid & op[4:1] == 4'd12 & op[58];
    integer i;
    always_ff @(posedge clk) begin
        if (en) begin
            for (i = 0; i < LATS; i = i + 1) if (lands[i]) regs[to[i]] <= value[i];
            if (keeps) regs[op[27 +: RW]] <= operand[1];
        end
    end

    reg [REGS-1:0] is_ready, is_addable;
    wire [REGS-1:0] taken = writes ? REGS'(1) << dest[RW-1:0] : REGS'(0);
    wire [REGS-1:0] kept  = keeps ? REGS'(1) << op[27 +: RW] : REGS'(0);
    wire sound;
    always_ff @(posedge clk) begin
        if (rst) begin
            is_ready   <= '0;
            is_addable <= '0;
        end else if (en) begin
            is_ready   <= (is_ready & ~taken) | settled[LATS] | kept;
            is_addable <= (is_addable & ~taken) | grown[LATS];
        end
    end
    assign ready   = is_ready;
    assign addable = is_addable;
    operands_ready #(.REGS(REGS)) check (.op(op), .ready(is_ready), .addable(is_addable), .ok(sound));
    assign fault = en & valid & ~sound;

    // What travels on.
    reg [63:0] op_held;
    reg [NUMBER-1:0] number_held;
    reg        here_held;
    reg [31:0] left_held;
    always_ff @(posedge clk) begin
        if (rst) op_held <= '0;
        else if (en) op_held <= op;
        if (en) begin
            number_held <= number;
            here_held   <= here;
            left_held   <= left;
        end
    end
    assign op_next     = op_held;
    assign number_next = number_held;
    assign here_next   = here_held;
    assign left_next   = left_held;
    delay #(.W(32), .N(HOP)) below (.clk(clk), .en(en), .x(op[46] ? result : top), .y(down));
    wire unused = &{1'b0, dest, op};
endmodule
`default_nettype wire
