// Rounds an fp32 number to the nearest bf16, ties to even. Subnormals are zero, NaN is quiet.
`default_nettype none
module fp_word (
    input  wire [31:0] x,
    output wire [31:0] y
);
    wire is_nan  = x[30:23] == 8'hFF && x[22:0] != 23'd0;
    wire is_inf  = x[30:23] == 8'hFF && x[22:0] == 23'd0;
    wire is_zero = x[30:23] == 8'h00;
    wire [31:0] up = x + 32'h0000_7FFF + {31'd0, x[16]};
    assign y = is_nan  ? 32'h7FC0_0000 :
               is_inf  ? x :
               is_zero ? {x[31], 31'd0} :
               {up[31:16], 16'd0};
    wire unused = &{1'b0, up[15:0]};
endmodule
`default_nettype wire
