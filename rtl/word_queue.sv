// A queue of DEPTH words whose writer cannot be stopped: what overfills it is a fault. A word can be
// taken the cycle after it came; a full queue takes one in the cycle in which it gives one.
`default_nettype none
module word_queue #(
    parameter int DEPTH = 4
) (
    input  wire        clk,
    input  wire        rst,
    input  wire        en,
    input  wire        put,
    input  wire [31:0] in_data,
    input  wire        take,
    output wire        some,
    output wire [31:0] out_data,
`ifdef FORMAL
    output wire [31:0] f_held,
    input  wire        f_sound,
`endif
    output wire        fault
);
    localparam int AW = DEPTH > 1 ? $clog2(DEPTH) : 1;
    localparam int CW = $clog2(DEPTH + 1);
    reg [31:0]   words [0:DEPTH-1];
    reg [AW-1:0] first, next;
    reg [CW-1:0] held;
    assign some     = held != CW'(0);
    assign out_data = words[first];
    assign fault    = en & ((put & ~take & held == CW'(DEPTH)) | (take & ~some));
    always_ff @(posedge clk) begin
        if (rst) begin
            first <= '0;
            next  <= '0;
            held  <= '0;
        end else if (en) begin
            if (put) next <= next == AW'(DEPTH - 1) ? AW'(0) : next + AW'(1);
            if (take) first <= first == AW'(DEPTH - 1) ? AW'(0) : first + AW'(1);
            if (put & ~take) held <= held + CW'(1);
            if (take & ~put) held <= held - CW'(1);
        end
        if (en & put) words[next] <= in_data;
    end
`ifdef FORMAL
    assign f_held = 32'(held);
    // Once it has overflowed, which depends on the program, nothing is promised any more.
    always @(posedge clk) if (~rst & f_sound) assert (held <= CW'(DEPTH));
`endif
endmodule
`default_nettype wire
