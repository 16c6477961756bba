// The larger of two fp32 numbers, the first if they are equal; NaN if either is.
`default_nettype none
module fp_max (
    input  wire [31:0] a,
    input  wire [31:0] b,
    output wire [31:0] y
);
    wire a_nan = a[30:23] == 8'hFF && a[22:0] != 23'd0;
    wire b_nan = b[30:23] == 8'hFF && b[22:0] != 23'd0;
    wire [31:0] af = a[30:23] == 8'h00 ? {a[31], 31'd0} : a;
    wire [31:0] bf = b[30:23] == 8'h00 ? {b[31], 31'd0} : b;
    wire both_zero = af[30:0] == 31'd0 && bf[30:0] == 31'd0;
    wire not_less = both_zero ? 1'b1 :
                    (af[31] != bf[31]) ? bf[31] :
                    af[31] ? af[30:0] <= bf[30:0] : af[30:0] >= bf[30:0];
    assign y = (a_nan | b_nan) ? 32'h7FC0_0000 : not_less ? af : bf;
endmodule
`default_nettype wire
