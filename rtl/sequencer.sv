// Issues the micro-ops of a unit: at most one a cycle, in the order of its loop body, each as soon as
// every word it wants is there. It knows no times. Windows say which tiles the body acts on in an
// epoch; acts says which of its items do. An item goes through its words, and for each through its
// micro-ops; items of one entry take turns. The table turns (item, word, micro, window) into an
// instruction, which waits here until it may go.
`default_nettype none
module sequencer #(
    parameter int ITEMS  = 2,
    parameter int WINDOW = 8,
    parameter int REGS   = 8,
    parameter int QUEUES = 1
) (
    input  wire              clk,
    input  wire              rst,
    input  wire              en,
    // Windows, one for each epoch in which anything happens.
    input  wire              window_valid,
    output wire              window_ready,
    input  wire [WINDOW-1:0] window_data,
    input  wire [ITEMS-1:0]  window_acts,
    input  wire              window_fresh,
    // High when as many windows wait as ever will before the first instruction.
    input  wire              window_primed,
    // The table.
    output wire [ITEMS-1:0]  item,
    output wire [15:0]       word,
    output wire [7:0]        micro,
    output wire [WINDOW-1:0] window,
    input  wire [63:0]       table_op,
    input  wire [8:0]        table_head,
    input  wire [15:0]       table_mask,
    input  wire [15:0]       table_only,
    input  wire [31:0]       table_coefficient,
    // Uses a word from the left edge, from the top edge; its left word is the coefficient.
    input  wire [2:0]        table_uses,
    input  wire              table_last_micro,
    input  wire              table_last_word,
    input  wire [ITEMS-1:0]  table_turns,
    // What it waits for.
    input  wire [REGS-1:0]   ready,
    input  wire [REGS-1:0]   addable,
    input  wire [QUEUES-1:0] some,
    input  wire              left_valid,
    input  wire              top_valid,
    // The machine may begin; the pipeline has run empty.
    output wire              primed,
    input  wire              go,
    output wire              at_end,
    input  wire              empty,
    // What it issues.
    output wire              fire,
    output wire [63:0]       op,
    output wire [8:0]        head,
    output wire [15:0]       mask_in,
    output wire [15:0]       row_only,
    output wire [31:0]       coefficient,
    output wire [2:0]        uses,
    output wire              finished
);
    reg              has_op, fresh_op, fresh;
    reg [63:0]       op_held;
    reg [8:0]        head_held;
    reg [15:0]       mask_held, only_held;
    reg [31:0]       coefficient_held;
    reg [2:0]        uses_held;
    reg [ITEMS-1:0]  todo, item_held;
    reg [WINDOW-1:0] window_held;

    // Whether what waits may go.
    wire registers_fine;
    operands_ready #(.REGS(REGS)) check (
        .op(op_held), .ready(ready), .addable(addable), .ok(registers_fine)
    );
    wire [QUEUES-1:0] wanted = head_held[0] ? QUEUES'(1) << head_held[3:1] : QUEUES'(0);
    wire fine = registers_fine & (wanted & ~some) == QUEUES'(0) &
        (~uses_held[0] | left_valid) & (~uses_held[1] | top_valid) & (~fresh_op | empty);
    assign fire = has_op & go & en & fine;

    // Its counters, one pair for each item.
    wire [15:0] words  [0:ITEMS];
    wire [7:0]  micros [0:ITEMS];
    assign words[0]  = 16'd0;
    assign micros[0] = 8'd0;
    assign word   = words[ITEMS];
    assign micro  = micros[ITEMS];
    assign item   = item_held;
    assign window = window_held;
    wire loads = en & (~has_op | fire);
    wire steps = loads & |todo;
    genvar k;
    generate
        for (k = 0; k < ITEMS; k = k + 1) begin : gen_item
            reg [15:0] word_k;
            reg [7:0]  micro_k;
            always_ff @(posedge clk) begin
                if (rst) begin
                    word_k  <= 16'd0;
                    micro_k <= 8'd0;
                end else if (steps & item_held[k]) begin
                    micro_k <= table_last_micro ? 8'd0 : micro_k + 8'd1;
                    if (table_last_micro) word_k <= table_last_word ? 16'd0 : word_k + 16'd1;
                end
            end
            assign words[k+1]  = words[k] | (item_held[k] ? word_k : 16'd0);
            assign micros[k+1] = micros[k] | (item_held[k] ? micro_k : 8'd0);
        end
    endgenerate

    // The next item: one of this entry behind this item, else from the entry's first, else a later
    // entry's, else the first of the next window.
    wire [ITEMS-1:0] left_over = todo & ~(table_last_micro & table_last_word ? item_held : ITEMS'(0));
    wire [ITEMS-1:0] behind = ~(item_held | (item_held - ITEMS'(1)));
    wire [ITEMS-1:0] on    = left_over & table_turns & behind;
    wire [ITEMS-1:0] again = left_over & table_turns;
    wire [ITEMS-1:0] later = left_over & behind;
    wire [ITEMS-1:0] found = |on ? on : |again ? again : later;
    wire             through = loads & (todo == ITEMS'(0) | left_over == ITEMS'(0));
    assign window_ready = through;
    wire [ITEMS-1:0] next = through ? window_acts : found;
    always_ff @(posedge clk) begin
        if (rst) begin
            has_op    <= 1'b0;
            fresh_op  <= 1'b0;
            fresh     <= 1'b0;
            todo      <= '0;
            item_held <= '0;
            op_held   <= '0;
            head_held <= '0;
            uses_held <= '0;
        end else if (en) begin
            if (empty) fresh_op <= 1'b0;
            if (loads) begin
                has_op    <= steps;
                op_held   <= steps ? table_op : 64'd0;
                head_held <= steps ? table_head : 9'd0;
                uses_held <= steps ? table_uses : 3'd0;
                fresh_op  <= steps & fresh;
                if (steps) fresh <= 1'b0;
                todo      <= through ? (window_valid ? window_acts : ITEMS'(0)) : left_over;
                item_held <= through & ~window_valid ? ITEMS'(0) : next & (~next + ITEMS'(1));
                if (through & window_valid) fresh <= window_fresh;
            end
        end
        if (loads) begin
            mask_held        <= table_mask;
            only_held        <= table_only;
            coefficient_held <= table_coefficient;
            if (through) window_held <= window_data;
        end
    end

    assign op          = fire ? op_held : 64'd0;
    assign head        = fire ? head_held : 9'd0;
    assign mask_in     = mask_held;
    assign row_only    = only_held;
    assign coefficient = coefficient_held;
    assign uses        = fire ? uses_held : 3'd0;
    assign finished    = ~has_op & todo == ITEMS'(0) & window_primed & ~window_valid;
    assign primed      = (has_op & window_primed) | finished;
    assign at_end      = finished | (has_op & fresh_op);
`ifdef FORMAL
    // An instruction that waits does not change; it goes only if every word is there; items come in the
    // body's order, one at a time.
    reg f_waits;
    reg [63:0] f_op;
    always @(posedge clk) begin
        f_waits <= ~rst & has_op & ~fire;
        f_op    <= op_held;
        if (~rst) begin
            assert (~f_waits | (has_op & op_held == f_op));
            assert (~fire | ((wanted & ~some) == 0 & registers_fine));
            assert (~fire | ((~uses_held[0] | left_valid) & (~uses_held[1] | top_valid)));
            assert (~(~en & fire));
            assert ((item_held & (item_held - 1'b1)) == 0 & (item_held & ~todo) == 0);
            assert (todo == 0 | item_held != 0);
            assert (todo == 0 | (todo & ~(table_turns | behind)) == 0);
        end
    end
`endif
endmodule
`default_nettype wire
