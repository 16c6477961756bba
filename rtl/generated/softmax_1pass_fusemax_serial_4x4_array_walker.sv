// Counts through the nest m1 2; see archsim/hdl/walker.py.
`default_nettype none
module softmax_1pass_fusemax_serial_4x4_array_walker (
    input  wire        clk,
    input  wire        rst,
    output wire        window_valid,
    input  wire        window_ready,
    output wire [1:0] window_data,
    output wire [4:0] window_acts,
    output wire        window_fresh,
    output wire        window_primed
);
    reg  [0:0] at_m1;
    wire m1_is_last = at_m1 == (1'd1);
    wire [0:0] now = 1'd0;
    // The window, and what is left to do.
    reg  t0_valid;
    reg  [0:0] t0_class;
    reg        full, fresh, new_run, over;
    reg  [7:0] flush;
    wire [4:0] acts;
    assign acts[0] = t0_valid;
    assign acts[1] = t0_valid;
    assign acts[2] = t0_valid;
    assign acts[3] = t0_valid;
    assign acts[4] = t0_valid;
    wire run_ends = m1_is_last;
    wire all_ends = m1_is_last;
    wire some = |acts;
    wire room, waiting;
    wire moves = ~full | ~some | room;
    wire tile  = flush == 8'd0 & ~over;
    sync_fifo #(.W(8), .DEPTH(2)) queue (
        .clk(clk), .rst(rst), .in_valid(full & some), .in_ready(room),
        .in_data({t0_class, t0_valid, acts, fresh}),
        .out_valid(waiting), .out_ready(window_ready),
        .out_data({window_data, window_acts, window_fresh})
    );
    assign window_valid  = waiting;
    assign window_primed = ~room | (over & flush == 8'd0 & ~full);
    always_ff @(posedge clk) begin
        if (rst) begin
            at_m1 <= '0;
            t0_valid <= 1'b0;
            full    <= 1'b0;
            fresh   <= 1'b0;
            new_run <= 1'b0;
            over    <= 1'b0;
            flush   <= 8'd0;
        end else if (moves) begin
            full  <= tile | flush != 8'd0;
            fresh <= (fresh & ~(full & some)) | (tile & new_run);
            if (flush != 8'd0) flush <= flush - 8'd1;
            if (tile) begin
                new_run <= run_ends;
                if (run_ends) flush <= 8'd0;
                if (all_ends) over <= 1'b1;
                at_m1 <= m1_is_last ? 1'd0 : at_m1 + 1'd1;
            end
        end
        if (moves) begin
            t0_class <= now;
        end
        if (~rst & moves) begin
            t0_valid <= tile;
        end
    end
endmodule
`default_nettype wire
