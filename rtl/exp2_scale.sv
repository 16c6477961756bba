// p * 2^n, the last step of an exponential: n is added to the exponent. kind as in exp2_split.
`default_nettype none
module exp2_scale (
    input  wire [31:0]       p,
    input  wire signed [8:0] n,
    input  wire [1:0]        kind,
    output wire [31:0]       y
);
    wire signed [10:0] exponent = $signed({3'b000, p[30:23]}) + $signed({{2{n[8]}}, n});
    wire zero = p[30:23] == 8'h00;
    // Half a place below the smallest normal number rounds up to it.
    wire last = exponent == 11'sd0 && p[22:0] == 23'h7F_FFFF;
    wire tiny = exponent <= 11'sd0;
    wire over = exponent >= 11'sd255;
    assign y = kind == 2'd3 ? 32'h7FC0_0000 :
               kind == 2'd2 ? 32'h7F80_0000 :
               kind == 2'd1 ? 32'd0 :
               zero ? {p[31], 31'd0} :
               last ? {p[31], 8'd1, 23'd0} :
               tiny ? {p[31], 31'd0} :
               over ? {p[31], 8'hFF, 23'd0} :
               {p[31], exponent[7:0], p[22:0]};
endmodule
`default_nettype wire
