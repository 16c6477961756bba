// A queue of DEPTH words between ready/valid handshakes; a word can be taken the cycle after it came.
`default_nettype none
module sync_fifo #(
    parameter int W     = 32,
    parameter int DEPTH = 4
) (
    input  wire         clk,
    input  wire         rst,
    input  wire         in_valid,
    output wire         in_ready,
    input  wire [W-1:0] in_data,
    output wire         out_valid,
    input  wire         out_ready,
    output wire [W-1:0] out_data
);
    localparam int AW = DEPTH > 1 ? $clog2(DEPTH) : 1;
    localparam int CW = $clog2(DEPTH + 1);
    reg [W-1:0]  words [0:DEPTH-1];
    reg [AW-1:0] first, next;
    reg [CW-1:0] held;
    wire put  = in_valid & in_ready;
    wire take = out_valid & out_ready;
    assign in_ready  = held != CW'(DEPTH);
    assign out_valid = held != CW'(0);
    assign out_data  = words[first];
    always_ff @(posedge clk) begin
        if (rst) begin
            first <= '0;
            next  <= '0;
            held  <= '0;
        end else begin
            if (put) next <= next == AW'(DEPTH - 1) ? AW'(0) : next + AW'(1);
            if (take) first <= first == AW'(DEPTH - 1) ? AW'(0) : first + AW'(1);
            if (put & ~take) held <= held + CW'(1);
            if (take & ~put) held <= held - CW'(1);
        end
        if (put) words[next] <= in_data;
    end
`ifdef FORMAL_WORDS
    // What handshakes promise, proven by induction: a word that is offered stays until it is taken, and
    // any word (the solver picks one) leaves once, unchanged, behind those that were there before it.
    reg f_offered, f_watching;
    reg [W-1:0] f_word, f_data;
    reg [CW:0] f_ahead;
    // The place of the word behind so many others.
    function automatic [AW:0] f_at(input [CW:0] behind);
        f_at = {1'b0, first} + behind >= DEPTH ? {1'b0, first} + behind - DEPTH : {1'b0, first} + behind;
    endfunction
    wire f_pick = $anyseq;
    wire [CW:0] f_count = {1'b0, held};
    always @(posedge clk) begin
        f_offered <= ~rst & out_valid & ~out_ready;
        f_word <= out_data;
        if (rst) f_watching <= 1'b0;
        else if (f_watching & take & f_ahead == 0) f_watching <= 1'b0;
        else if (~f_watching & put & f_pick) f_watching <= 1'b1;
        if (~f_watching) begin
            f_data <= in_data;
            f_ahead <= f_count - take;
        end else if (take) f_ahead <= f_ahead - 1'b1;
        if (~rst) begin
            assert (~f_offered | (out_valid & out_data == f_word));
            assert (~(f_watching & take & f_ahead == 0) | out_data == f_data);
            assert (~f_watching | f_ahead < f_count);
            assert (held <= CW'(DEPTH) & {1'b0, first} < DEPTH);
            assert ({1'b0, next} == f_at(f_count));
            assert (~f_watching | words[f_at(f_ahead)] == f_data);
        end
    end
`endif
endmodule
`default_nettype wire
