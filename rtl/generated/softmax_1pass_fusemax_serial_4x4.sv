// softmax-1pass on fusemax-4x4 through fusemax-serial: M 8, P 4, E 4, F 4.
// Rows of bf16 words come in on ready/valid streams, in the order in which instructions
// want them; rows of fp32 results leave on others. A full output stops everything.
`default_nettype none
module softmax_1pass_fusemax_serial_4x4 (
    input  wire clk,
    input  wire rst,
    input  wire left_valid,
    output wire left_ready,
    input  wire [63:0] left_data,
    input  wire top_valid,
    output wire top_ready,
    input  wire [63:0] top_data,
    output wire AV_valid,
    input  wire AV_ready,
    output wire [127:0] AV_data,
    output wire array_fire,
    output wire lanes_fire,
    output wire moving,
    output wire active,
    output wire done,
    output reg  fault
);
    wire AV_room;
    wire en = AV_room;
    assign moving = en;
    reg  started;
    wire go, empty;
    // array: what it issues.
    wire array_window_valid, array_window_ready, array_window_fresh, array_window_primed;
    wire [1:0] array_window_data, array_window;
    wire [4:0] array_window_acts, array_item, array_turns;
    wire [15:0] array_word;
    wire [7:0]  array_micro;
    wire [15:0] array_table_mask, array_table_only, array_mask, array_only;
    wire [63:0] array_table_op, array_op;
    wire [8:0]  array_table_head, array_head;
    wire [31:0] array_table_coefficient, array_coefficient;
    wire [2:0]  array_table_uses, array_uses;
    wire array_last_micro, array_last_word;
    wire array_primed, array_at_end, array_finished;
    wire [4:0] array_ready, array_addable;
    wire [0:0] array_some;
    softmax_1pass_fusemax_serial_4x4_array_walker array_walker (
        .clk(clk), .rst(rst), .window_valid(array_window_valid),
        .window_ready(array_window_ready), .window_data(array_window_data),
        .window_acts(array_window_acts), .window_fresh(array_window_fresh),
        .window_primed(array_window_primed)
    );
    softmax_1pass_fusemax_serial_4x4_array_table array_table (
        .item(array_item), .word(array_word), .micro(array_micro), .window(array_window),
        .op(array_table_op), .head(array_table_head), .tile_mask(array_table_mask),
        .only_row(array_table_only), .coefficient(array_table_coefficient),
        .uses(array_table_uses), .last_micro(array_last_micro), .last_word(array_last_word),
        .turns(array_turns)
    );
    sequencer #(
        .ITEMS(5), .WINDOW(2), .REGS(5), .QUEUES(1)
    ) array_sequencer (
        .clk(clk), .rst(rst), .en(en), .window_valid(array_window_valid),
        .window_ready(array_window_ready), .window_data(array_window_data),
        .window_acts(array_window_acts), .window_fresh(array_window_fresh),
        .window_primed(array_window_primed), .item(array_item), .word(array_word),
        .micro(array_micro), .window(array_window), .table_op(array_table_op),
        .table_head(array_table_head), .table_mask(array_table_mask),
        .table_only(array_table_only), .table_coefficient(array_table_coefficient),
        .table_uses(array_table_uses), .table_last_micro(array_last_micro),
        .table_last_word(array_last_word), .table_turns(array_turns), .ready(array_ready),
        .addable(array_addable), .some(array_some), .left_valid(left_valid_in), .top_valid(top_valid_in),
        .primed(array_primed), .go(go), .at_end(array_at_end), .empty(empty),
        .fire(array_fire), .op(array_op), .head(array_head), .mask_in(array_mask),
        .row_only(array_only), .coefficient(array_coefficient), .uses(array_uses),
        .finished(array_finished)
    );
    // lanes: what it issues.
    wire lanes_window_valid, lanes_window_ready, lanes_window_fresh, lanes_window_primed;
    wire [9:0] lanes_window_data, lanes_window;
    wire [6:0] lanes_window_acts, lanes_item, lanes_turns;
    wire [15:0] lanes_word;
    wire [7:0]  lanes_micro;
    wire [15:0] lanes_table_mask, lanes_table_only, lanes_mask, lanes_only;
    wire [63:0] lanes_table_op, lanes_op;
    wire [8:0]  lanes_table_head, lanes_head;
    wire [31:0] lanes_table_coefficient, lanes_coefficient;
    wire [2:0]  lanes_table_uses, lanes_uses;
    wire lanes_last_micro, lanes_last_word;
    wire lanes_primed, lanes_at_end, lanes_finished;
    wire [15:0] lanes_ready, lanes_addable;
    wire [2:0] lanes_some;
    softmax_1pass_fusemax_serial_4x4_lanes_walker lanes_walker (
        .clk(clk), .rst(rst), .window_valid(lanes_window_valid),
        .window_ready(lanes_window_ready), .window_data(lanes_window_data),
        .window_acts(lanes_window_acts), .window_fresh(lanes_window_fresh),
        .window_primed(lanes_window_primed)
    );
    softmax_1pass_fusemax_serial_4x4_lanes_table lanes_table (
        .item(lanes_item), .word(lanes_word), .micro(lanes_micro), .window(lanes_window),
        .op(lanes_table_op), .head(lanes_table_head), .tile_mask(lanes_table_mask),
        .only_row(lanes_table_only), .coefficient(lanes_table_coefficient),
        .uses(lanes_table_uses), .last_micro(lanes_last_micro), .last_word(lanes_last_word),
        .turns(lanes_turns)
    );
    sequencer #(
        .ITEMS(7), .WINDOW(10), .REGS(16), .QUEUES(3)
    ) lanes_sequencer (
        .clk(clk), .rst(rst), .en(en), .window_valid(lanes_window_valid),
        .window_ready(lanes_window_ready), .window_data(lanes_window_data),
        .window_acts(lanes_window_acts), .window_fresh(lanes_window_fresh),
        .window_primed(lanes_window_primed), .item(lanes_item), .word(lanes_word),
        .micro(lanes_micro), .window(lanes_window), .table_op(lanes_table_op),
        .table_head(lanes_table_head), .table_mask(lanes_table_mask),
        .table_only(lanes_table_only), .table_coefficient(lanes_table_coefficient),
        .table_uses(lanes_table_uses), .table_last_micro(lanes_last_micro),
        .table_last_word(lanes_last_word), .table_turns(lanes_turns), .ready(lanes_ready),
        .addable(lanes_addable), .some(lanes_some), .left_valid(1'b1), .top_valid(1'b1),
        .primed(lanes_primed), .go(go), .at_end(lanes_at_end), .empty(empty),
        .fire(lanes_fire), .op(lanes_op), .head(lanes_head), .mask_in(lanes_mask),
        .row_only(lanes_only), .coefficient(lanes_coefficient), .uses(lanes_uses),
        .finished(lanes_finished)
    );

    wire left_valid_in;
    wire [63:0] left_words;
    skid_buffer #(.W(64)) left_buffer (
        .clk(clk), .rst(rst), .in_valid(left_valid), .in_ready(left_ready),
        .in_data(left_data), .out_valid(left_valid_in), .out_ready(array_uses[0]),
        .out_data(left_words)
    );
    wire [127:0] left_wide = array_uses[0] ? {left_words[48 +: 16], 16'd0, left_words[32 +: 16], 16'd0, left_words[16 +: 16], 16'd0, left_words[0 +: 16], 16'd0} : 128'd0;

    wire top_valid_in;
    wire [63:0] top_words;
    skid_buffer #(.W(64)) top_buffer (
        .clk(clk), .rst(rst), .in_valid(top_valid), .in_ready(top_ready),
        .in_data(top_data), .out_valid(top_valid_in), .out_ready(array_uses[1]),
        .out_data(top_words)
    );
    wire [127:0] top_wide = array_uses[1] ? {top_words[48 +: 16], 16'd0, top_words[32 +: 16], 16'd0, top_words[16 +: 16], 16'd0, top_words[0 +: 16], 16'd0} : 128'd0;

    wire [127:0] array_result;
    wire [27:0] array_goes;
    wire [3:0] array_put;
    wire [127:0] array_put_data;
    wire array_fault, array_flying;
    grid #(
        .ROWS(4), .COLS(4), .QUEUES(1), .DEPTH(4), .REGS(5),
        .HOP(1), .LATS(1), .ADD_LOOP(1), .MASKS(1),
        .HOLDS({{16{1'b1}}}),
        .BF16(1), .HAS_STEP(1), .HAS_DIV(0), .HAS_EXP(0),
        .DEGREE(6), .COEFFICIENTS(256'h000000003920e99a3aafa2b53c1d96de3d63576a3e75fded3f3172183f800000),
        .POOL(512'h000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000003920e99aff80000000000000)
    ) array (
        .clk(clk), .rst(rst), .en(en), .op(array_op), .head(array_head), .mask_in(array_mask),
        .row_only(array_only), .left(array_uses[2] ? {4{array_coefficient}} : left_wide), .edge_words(top_wide),
        .put(array_put), .put_data(array_put_data), .result(array_result), .goes(array_goes),
        .ready(array_ready), .addable(array_addable), .some(array_some), .fault(array_fault),
        .flying(array_flying)
    );

    wire [127:0] lanes_result;
    wire [27:0] lanes_goes;
    wire [11:0] lanes_put;
    wire [383:0] lanes_put_data;
    wire lanes_fault, lanes_flying;
    grid #(
        .ROWS(1), .COLS(4), .QUEUES(3), .DEPTH(128), .REGS(16),
        .HOP(1), .LATS(1), .ADD_LOOP(1), .MASKS(1),
        .HOLDS({{4{1'b1}}}),
        .BF16(0), .HAS_STEP(1), .HAS_DIV(1), .HAS_EXP(0),
        .DEGREE(6), .COEFFICIENTS(256'h000000003920e99a3aafa2b53c1d96de3d63576a3e75fded3f3172183f800000),
        .POOL(512'h000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000003920e99aff80000000000000)
    ) lanes (
        .clk(clk), .rst(rst), .en(en), .op(lanes_op), .head(lanes_head), .mask_in(lanes_mask),
        .row_only(lanes_only), .left(lanes_coefficient), .edge_words(128'd0),
        .put(lanes_put), .put_data(lanes_put_data), .result(lanes_result), .goes(lanes_goes),
        .ready(lanes_ready), .addable(lanes_addable), .some(lanes_some), .fault(lanes_fault),
        .flying(lanes_flying)
    );

    route #(.COLS(4), .QUEUES(3), .DELAYS(64'h0000000000000000)) array_to_lanes (
        .clk(clk), .rst(rst), .en(en), .result(array_result), .goes(array_goes),
        .put(lanes_put), .put_data(lanes_put_data)
    );

    route #(.COLS(4), .QUEUES(1), .DELAYS(64'h0000000000000001)) lanes_to_array (
        .clk(clk), .rst(rst), .en(en), .result(lanes_result), .goes(lanes_goes),
        .put(array_put), .put_data(array_put_data)
    );

    gather #(.COLS(4), .NUMBER(0), .DELAY(0)) AV_rows (
        .clk(clk), .rst(rst), .en(en), .result(lanes_result), .goes(lanes_goes),
        .room(AV_room), .out_valid(AV_valid), .out_ready(AV_ready),
        .out_data(AV_data)
    );

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
    end
    wire unused = &{1'b0, array_uses, lanes_uses, array_coefficient, lanes_mask, lanes_only};
endmodule
`default_nettype wire
