// 2^x within a cycle, by Horner's scheme; word k of COEFFICIENTS belongs to the k-th power.
`default_nettype none
module exp2 #(
    parameter int BF16   = 0,
    parameter int DEGREE = 6,
    parameter bit [32*8-1:0] COEFFICIENTS = '0
) (
    input  wire [31:0] x,
    output wire [31:0] y
);
    wire [31:0] f;
    wire signed [8:0] n;
    wire [1:0] kind;
    wire [31:0] p [0:DEGREE];
    exp2_split split (.x(x), .f(f), .n(n), .kind(kind));
    assign p[DEGREE] = COEFFICIENTS[32*DEGREE +: 32];
    genvar k;
    generate
        for (k = DEGREE - 1; k >= 0; k = k - 1) begin : gen_step
            wire [31:0] product;
            fp_mul #(.BF16(BF16)) multiplier (.a(p[k+1]), .b(f), .y(product));
            fp_add adder (.a(product), .b(COEFFICIENTS[32*k +: 32]), .y(p[k]));
        end
    endgenerate
    exp2_scale scale (.p(p[0]), .n(n), .kind(kind), .y(y));
endmodule
`default_nettype wire
