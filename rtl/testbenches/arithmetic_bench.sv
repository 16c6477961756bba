// Every arithmetic leaf N times side by side, so that one step of a test covers N operands.
`default_nettype none
module arithmetic_bench #(
    parameter int N = 32
) (
    input  wire [32*N-1:0] a,
    input  wire [32*N-1:0] b,
    output wire [32*N-1:0] word,
    output wire [32*N-1:0] add,
    output wire [32*N-1:0] sub,
    output wire [32*N-1:0] mul_bf16,
    output wire [32*N-1:0] mul_fp32,
    output wire [32*N-1:0] max,
    output wire [32*N-1:0] div
);
    genvar i;
    generate
        for (i = 0; i < N; i = i + 1) begin : gen_unit
            wire [31:0] x = a[32*i +: 32];
            wire [31:0] z = b[32*i +: 32];
            fp_word u_word (.x(x), .y(word[32*i +: 32]));
            fp_add u_add (.a(x), .b(z), .y(add[32*i +: 32]));
            fp_sub u_sub (.a(x), .b(z), .y(sub[32*i +: 32]));
            fp_mul #(.BF16(1)) u_mul_bf16 (.a(x), .b(z), .y(mul_bf16[32*i +: 32]));
            fp_mul #(.BF16(0)) u_mul_fp32 (.a(x), .b(z), .y(mul_fp32[32*i +: 32]));
            fp_max u_max (.a(x), .b(z), .y(max[32*i +: 32]));
            fp_div u_div (.a(x), .b(z), .y(div[32*i +: 32]));
        end
    endgenerate
endmodule
`default_nettype wire
