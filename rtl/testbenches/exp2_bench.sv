// exp2 by Horner's scheme, N times side by side: split, DEGREE pipelined multiply-accumulates, scale.
// A result follows its operand by DEGREE cycles.
`default_nettype none
module exp2_bench #(
    parameter int N      = 32,
    parameter int DEGREE = 6,
    parameter int BF16   = 0,
    parameter bit [31:0] C0 = 0,
    parameter bit [31:0] C1 = 0,
    parameter bit [31:0] C2 = 0,
    parameter bit [31:0] C3 = 0,
    parameter bit [31:0] C4 = 0,
    parameter bit [31:0] C5 = 0,
    parameter bit [31:0] C6 = 0
) (
    input  wire            clk,
    input  wire [32*N-1:0] x,
    output wire [32*N-1:0] y
);
    wire [32*7-1:0] constants = {C6, C5, C4, C3, C2, C1, C0};
    genvar i, k;
    generate
        for (i = 0; i < N; i = i + 1) begin : gen_unit
            wire [31:0] f;
            wire signed [8:0] n;
            wire [1:0] kind;
            wire [31:0] p [0:DEGREE];
            exp2_split split (.x(x[32*i +: 32]), .f(f), .n(n), .kind(kind));
            assign p[DEGREE] = constants[32*DEGREE +: 32];
            for (k = DEGREE - 1; k >= 0; k = k - 1) begin : gen_step
                wire [31:0] here;
                delay #(.W(32), .N(DEGREE - 1 - k)) later (.clk(clk), .en(1'b1), .x(f), .y(here));
                fp_mac #(.BF16(BF16), .LAT(1)) mac (
                    .clk(clk), .en(1'b1), .a(p[k+1]), .b(here), .c(constants[32*k +: 32]), .y(p[k])
                );
            end
            wire signed [8:0] last_n;
            wire [1:0] last_kind;
            delay #(.W(11), .N(DEGREE)) beside (.clk(clk), .en(1'b1), .x({n, kind}), .y({last_n, last_kind}));
            exp2_scale scale (.p(p[0]), .n(last_n), .kind(last_kind), .y(y[32*i +: 32]));
        end
    endgenerate
endmodule
`default_nettype wire
