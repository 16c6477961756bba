// Difference of two fp32 numbers; -inf less -inf is -inf, so that nothing stays nothing.
`default_nettype none
module fp_sub (
    input  wire [31:0] a,
    input  wire [31:0] b,
    output wire [31:0] y
);
    wire [31:0] sum;
    fp_add add (.a(a), .b({~b[31], b[30:0]}), .y(sum));
    assign y = (a == 32'hFF80_0000 && b == 32'hFF80_0000) ? 32'hFF80_0000 : sum;
endmodule
`default_nettype wire
