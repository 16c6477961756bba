// ROWS by COLS processing elements behind a line of column heads; one row makes a line of lanes. The
// instruction that is issued enters the top left corner in the same cycle; column c follows c cycles
// later and row r HOP * r cycles later, and so do the words from the edges, which are given at once.
// mask_in: the number of the tile's mask, of which PE (r, c) has bit r * COLS + c of HOLDS, mask after
// mask; row_only: the one row that an instruction is meant for.
`default_nettype none
module grid #(
    parameter int ROWS     = 2,
    parameter int COLS     = 2,
    parameter int QUEUES   = 1,
    parameter int DEPTH    = 4,
    parameter int REGS     = 8,
    parameter int HOP      = 1,
    parameter int LATS     = 1,
    parameter int ADD_LOOP = 1,
    parameter int MASKS    = 1,
    parameter bit [MASKS*ROWS*COLS-1:0] HOLDS = {(MASKS*ROWS*COLS){1'b1}},
    parameter int BF16     = 1,
    parameter int HAS_STEP = 1,
    parameter int HAS_DIV  = 0,
    parameter int HAS_EXP  = 0,
    parameter int DEGREE   = 6,
    parameter bit [32*8-1:0]  COEFFICIENTS = '0,
    parameter bit [32*16-1:0] POOL = '0
) (
    input  wire                      clk,
    input  wire                      rst,
    input  wire                      en,
    input  wire [63:0]               op,
    input  wire [8:0]                head,
    input  wire [15:0]               mask_in,
    input  wire [15:0]               row_only,
    input  wire [32*ROWS-1:0]        left,
    input  wire [32*COLS-1:0]        edge_words,
    input  wire [QUEUES*COLS-1:0]    put,
    input  wire [32*QUEUES*COLS-1:0] put_data,
    // Of the bottom row, in the cycle in which it computes: result, and push, queue, give, output.
    output wire [32*COLS-1:0]        result,
    output wire [7*COLS-1:0]         goes,
    // Of the top left corner.
    output wire [REGS-1:0]           ready,
    output wire [REGS-1:0]           addable,
    output wire [QUEUES-1:0]         some,
    output wire                      fault,
    // Something that was issued in an earlier cycle is not done.
    output wire                      flying
);
    // Between PEs, element (r, c) at r * (COLS + 1) + c, or r * COLS + c downwards.
    wire [63:0]     ops     [0:ROWS*(COLS+1)-1];
    localparam int NUMBER = MASKS > 1 ? $clog2(MASKS) : 1;
    wire [NUMBER-1:0] numbers [0:ROWS*(COLS+1)-1];
    wire            heres   [0:ROWS*(COLS+1)-1];
    wire [31:0]     lefts   [0:ROWS*(COLS+1)-1];
    wire [31:0]     downs   [0:(ROWS+1)*COLS-1];
    wire [31:0] results [0:ROWS*COLS-1];
    wire [8:0]      heads   [0:COLS];
    wire [REGS-1:0] readies [0:ROWS*COLS-1];
    wire [REGS-1:0] addables [0:ROWS*COLS-1];
    wire [QUEUES-1:0]    somes [0:COLS-1];
    wire [ROWS*COLS-1:0] faults, trails, enters;
    wire [COLS-1:0]      head_faults;
    wire [ROWS-1:0]      falling;
    wire [63:0] columns [0:ROWS-1];
    wire [NUMBER-1:0] masks [0:ROWS-1];
    wire [15:0] onlys   [0:ROWS-1];
    assign columns[0] = op;
    assign masks[0]   = mask_in[NUMBER-1:0];
    assign onlys[0]   = row_only;
    assign falling[0] = 1'b0;
    assign heads[0]   = head;
    assign ready   = readies[0];
    assign addable = addables[0];
    assign some    = somes[0];
    genvar r, c;
    generate
        for (r = 0; r < ROWS; r = r + 1) begin : gen_row
            if (r > 0) begin : gen_fall
                // Down the first column: the instruction, its mask, and the row one less each row.
                wire arrives;
                wire [62:0] rest;
                strobe_delay #(.N(HOP)) strobe (
                    .clk(clk), .rst(rst), .en(en), .x(columns[r-1][0]), .y(arrives), .any(falling[r])
                );
                delay #(.W(63 + NUMBER + 16), .N(HOP)) fall (
                    .clk(clk), .en(en),
                    .x({columns[r-1][63:1], masks[r-1], onlys[r-1] - 16'd1}),
                    .y({rest, masks[r], onlys[r]})
                );
                assign columns[r] = {rest, arrives};
            end
            wire [31:0] entering;
            delay #(.W(32), .N(HOP * r)) skew (
                .clk(clk), .en(en), .x(left[32*r +: 32]), .y(entering)
            );
            assign ops[r*(COLS+1)]     = columns[r];
            assign numbers[r*(COLS+1)] = masks[r];
            assign heres[r*(COLS+1)]   = onlys[r] == 16'd0;
            assign lefts[r*(COLS+1)]   = entering;
            for (c = 0; c < COLS; c = c + 1) begin : gen_pe
                wire [MASKS-1:0] holds;
                for (genvar k = 0; k < MASKS; k = k + 1) begin : gen_mask
                    assign holds[k] = HOLDS[(k*ROWS + r)*COLS + c];
                end
                pe #(
                    .REGS(REGS), .HOP(HOP), .LATS(LATS), .ADD_LOOP(ADD_LOOP), .MASKS(MASKS),
                    .BF16(BF16),
                    .HAS_STEP(HAS_STEP), .HAS_DIV(HAS_DIV), .HAS_EXP(HAS_EXP), .DEGREE(DEGREE),
                    .COEFFICIENTS(COEFFICIENTS), .POOL(POOL)
                ) pe (
                    .clk(clk), .rst(rst), .en(en),
                    .op(ops[r*(COLS+1)+c]), .number(numbers[r*(COLS+1)+c]),
                    .holds(holds), .here(heres[r*(COLS+1)+c]), .left(lefts[r*(COLS+1)+c]), .top(downs[r*COLS+c]),
                    .op_next(ops[r*(COLS+1)+c+1]), .number_next(numbers[r*(COLS+1)+c+1]),
                    .here_next(heres[r*(COLS+1)+c+1]), .left_next(lefts[r*(COLS+1)+c+1]),
                    .down(downs[(r+1)*COLS+c]), .result(results[r*COLS+c]),
                    .ready(readies[r*COLS+c]), .addable(addables[r*COLS+c]),
                    .fault(faults[r*COLS+c]), .trailing(trails[r*COLS+c])
                );
                assign enters[r*COLS+c] = ops[r*(COLS+1)+c][0] & (r > 0 | c > 0);
            end
        end
    endgenerate
    generate
        for (c = 0; c < COLS; c = c + 1) begin : gen_column
            wire [31:0] entering;
            delay #(.W(32), .N(c)) skew (
                .clk(clk), .en(en), .x(edge_words[32*c +: 32]), .y(entering)
            );
            column_head #(.QUEUES(QUEUES), .DEPTH(DEPTH), .POOL(POOL)) column (
`ifdef FORMAL
                .f_held(f_held[32*QUEUES*c +: 32*QUEUES]), .f_sound(f_sound),
`endif
                .clk(clk), .rst(rst), .en(en), .head(heads[c]), .edge_word(entering),
                .put(put[QUEUES*c +: QUEUES]), .put_data(put_data[32*QUEUES*c +: 32*QUEUES]),
                .top(downs[c]), .some(somes[c]), .fault(head_faults[c])
            );
            reg [8:0] head_held;
            always_ff @(posedge clk)
                if (rst) head_held <= '0;
                else if (en) head_held <= heads[c];
            assign heads[c+1] = head_held;
            wire [63:0] last = ops[(ROWS-1)*(COLS+1)+c];
            assign result[32*c +: 32] = results[(ROWS-1)*COLS+c];
            assign goes[7*c +: 7] = {last[53:51], last[50:47]} & {7{last[0]}};
            wire unused_last = &{1'b0, last};
        end
    endgenerate
    assign fault  = (|faults) | (|head_faults);
    assign flying = (|trails) | (|enters) | (|falling);
    wire unused = &{1'b0, heads[COLS], mask_in};
`ifdef FORMAL
    // Skew cancels: PE (r, c) executes what was issued HOP * r + c cycles ago, and queues of column c
    // hold what those of the column before held a cycle ago. So no column ever waits, and none but the
    // first has to look. Cycles in which everything stops do not count.
    localparam int F_LONGEST = HOP * (ROWS - 1) + COLS - 1;
    wire [32*QUEUES*COLS-1:0] f_held;
    reg  [32*QUEUES*COLS-1:0] f_held_before;
    reg  [QUEUES*COLS-1:0]    f_put_before;
    reg  [9*COLS-1:0]         f_head_before;
    reg  [64*(F_LONGEST+1)-1:0] f_issued;
    reg  f_broken;
    wire f_sound = ~f_broken & ~(|head_faults);
    always @(posedge clk) begin
        if (rst) begin
            f_held_before <= 0;
            f_put_before  <= 0;
            f_issued      <= 0;
            f_broken      <= 0;
        end else begin
            if (en) begin
                f_held_before <= f_held;
                f_put_before  <= put;
                f_issued      <= {f_issued[64*F_LONGEST-1:0], op};
            end
            f_broken <= f_broken | (|head_faults);
        end
    end
    generate
        for (r = 0; r < ROWS; r = r + 1) begin : gen_formal
            for (c = 0; c < COLS; c = c + 1) begin : gen_column
                if (r > 0 | c > 0) begin : gen_wave
                    always @(posedge clk) if (~rst)
                        assert (ops[r*(COLS+1)+c][0] == f_issued[64*(HOP*r+c-1)]
                            & (~ops[r*(COLS+1)+c][0] |
                               ops[r*(COLS+1)+c] == f_issued[64*(HOP*r+c-1) +: 64]));
                end
            end
        end
        for (c = 1; c < COLS; c = c + 1) begin : gen_heads
            always @(posedge clk) if (rst) f_head_before[9*(c-1) +: 9] <= 0;
                else if (en) f_head_before[9*(c-1) +: 9] <= heads[c-1];
            always @(posedge clk) if (~rst) assert (heads[c] == f_head_before[9*(c-1) +: 9]);
            for (genvar q = 0; q < QUEUES; q = q + 1) begin : gen_queue
                localparam int THIS = QUEUES * c + q, LAST = QUEUES * (c - 1) + q;
                wire f_took = f_head_before[9*(c-1)] & f_head_before[9*(c-1)+1 +: 3] == q;
                always @(posedge clk) if (~rst & f_sound) begin
                    assert (put[THIS] == f_put_before[LAST]);
                    assert (f_held[32*THIS +: 32] == f_held_before[32*LAST +: 32]);
                    assert (f_held[32*LAST +: 32] ==
                        f_held_before[32*LAST +: 32] + f_put_before[LAST] - f_took);
                    assert (~f_took | f_held_before[32*LAST +: 32] != 0);
                end
            end
        end
    endgenerate
`endif
endmodule
`default_nettype wire
