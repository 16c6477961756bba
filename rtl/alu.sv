// What a PE or a lane computes from three operands, within a cycle. One multiplier and one adder serve
// mac, mul, add, sub and each step of a polynomial for 2^b: a * f + c with b = n + f; the last step
// adds n to the exponent. HAS_* say which units exist beside them; whole exponentials come from exp2.
`default_nettype none
module alu #(
    parameter int BF16     = 1,
    parameter int HAS_STEP = 1,
    parameter int HAS_DIV  = 0,
    parameter int HAS_EXP  = 0,
    parameter int DEGREE   = 6,
    parameter bit [32*8-1:0] COEFFICIENTS = '0
) (
    input  wire [3:0]  fn,
    input  wire        last,
    input  wire [31:0] a,
    input  wire [31:0] b,
    input  wire [31:0] c,
    output wire [31:0] y
);
    localparam bit [3:0] MAC = 4'd1, ADD = 4'd2, SUB = 4'd3, MUL = 4'd4, MAX = 4'd5, MIN = 4'd6,
        NEG = 4'd7, ABS = 4'd8, RELU = 4'd9, HEAVISIDE = 4'd10, DIV = 4'd11, POLY = 4'd12, EXP = 4'd13;
    wire is_poly = fn == POLY;

    // Units that an instruction does not use see zeros and keep still.
    wire [31:0] f;
    wire signed [8:0] n;
    wire [1:0] kind;
    generate
        if (HAS_STEP != 0) begin : gen_split
            exp2_split split (.x(is_poly ? b : 32'd0), .f(f), .n(n), .kind(kind));
        end else begin : gen_no_split
            assign f = 32'd0;
            assign n = 9'sd0;
            assign kind = 2'd0;
        end
    endgenerate

    wire multiplies = fn == MAC | fn == MUL | is_poly;
    wire adds       = fn == MAC | fn == ADD | fn == SUB | is_poly;
    wire [31:0] product, sum;
    fp_mul #(.BF16(BF16)) multiplier (
        .a(multiplies ? a : 32'd0), .b(multiplies ? (is_poly ? f : b) : 32'd0), .y(product)
    );
    wire [31:0] first  = multiplies ? product : a;
    wire [31:0] second = multiplies ? c : fn == SUB ? {~b[31], b[30:0]} : b;
    fp_add adder (.a(adds ? first : 32'd0), .b(adds ? second : 32'd0), .y(sum));
    wire none = fn == SUB & a == 32'hFF80_0000 & b == 32'hFF80_0000;

    wire compares = fn == MAX | fn == MIN;
    wire turned   = fn == MIN;
    wire [31:0] most;
    fp_max comparator (
        .a(compares ? {a[31] ^ turned, a[30:0]} : 32'd0),
        .b(compares ? {b[31] ^ turned, b[30:0]} : 32'd0),
        .y(most)
    );

    wire [31:0] power, quotient, whole;
    generate
        if (HAS_STEP != 0) begin : gen_scale
            exp2_scale scale (.p(is_poly ? sum : 32'd0), .n(n), .kind(kind), .y(power));
        end else begin : gen_no_scale
            assign power = sum;
            wire unused_scale = &{1'b0, n, kind};
        end
        if (HAS_DIV != 0) begin : gen_div
            fp_div divider (.a(fn == DIV ? a : 32'd0), .b(fn == DIV ? b : 32'h3F80_0000), .y(quotient));
        end else begin : gen_no_div
            assign quotient = 32'd0;
        end
        if (HAS_EXP != 0) begin : gen_exp
            exp2 #(.BF16(BF16), .DEGREE(DEGREE), .COEFFICIENTS(COEFFICIENTS)) unit (
                .x(fn == EXP ? a : 32'd0), .y(whole)
            );
        end else begin : gen_no_exp
            assign whole = 32'd0;
        end
    endgenerate

    wire is_nan = a[30:23] == 8'hFF & a[22:0] != 23'd0;
    wire zero   = a[30:23] == 8'h00;
    assign y = (fn == MAC | fn == ADD) ? sum :
               fn == SUB ? (none ? 32'hFF80_0000 : sum) :
               fn == MUL ? product :
               fn == MAX ? most :
               fn == MIN ? (most == 32'h7FC0_0000 ? most : {~most[31], most[30:0]}) :
               fn == NEG ? (is_nan ? 32'h7FC0_0000 : {~a[31], a[30:0]}) :
               fn == ABS ? {1'b0, a[30:0]} :
               fn == RELU ? (is_nan ? a : (a[31] | zero) ? 32'd0 : a) :
               fn == HEAVISIDE ? ((~is_nan & (~a[31] | zero)) ? 32'h3F80_0000 : 32'd0) :
               fn == DIV ? quotient :
               is_poly ? (last ? power : sum) :
               fn == EXP ? whole : a;
endmodule
`default_nettype wire
