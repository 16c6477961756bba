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
endmodule
`default_nettype wire
