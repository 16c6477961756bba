// Product of two fp32 numbers, rounded once to nearest even; BF16 = 1 rounds the operands to bf16
// first, so that the product is exact. Zero times anything but NaN is zero; no subnormals.
`default_nettype none
module fp_mul #(
    parameter int BF16 = 0
) (
    input  wire [31:0] a,
    input  wire [31:0] b,
    output wire [31:0] y
);
    wire [31:0] aw, bw;
    fp_word word_a (.x(a), .y(aw));
    fp_word word_b (.x(b), .y(bw));
    wire [31:0] x = BF16 != 0 ? aw : a;
    wire [31:0] z = BF16 != 0 ? bw : b;

    wire sign   = x[31] ^ z[31];
    wire x_nan  = x[30:23] == 8'hFF && x[22:0] != 23'd0;
    wire z_nan  = z[30:23] == 8'hFF && z[22:0] != 23'd0;
    wire x_inf  = x[30:23] == 8'hFF && x[22:0] == 23'd0;
    wire z_inf  = z[30:23] == 8'hFF && z[22:0] == 23'd0;
    wire x_zero = x[30:23] == 8'h00;
    wire z_zero = z[30:23] == 8'h00;

    wire [47:0] product = {1'b1, x[22:0]} * {1'b1, z[22:0]};
    wire        carry   = product[47];
    wire [47:0] normal  = carry ? product : {product[46:0], 1'b0};
    // Biased exponent, signed: -125 ... 383.
    wire signed [10:0] exponent =
        $signed({3'b000, x[30:23]}) + $signed({3'b000, z[30:23]}) - 11'sd127 + (carry ? 11'sd1 : 11'sd0);
    // Just below the smallest normal number one place less is left before rounding.
    wire        low     = exponent == 11'sd0;
    wire [23:0] kept    = low ? {1'b0, normal[47:25]} : normal[47:24];
    wire        half    = low ? normal[24] : normal[23];
    wire        rest    = low ? normal[23:0] != 24'd0 : normal[22:0] != 23'd0;
    wire [24:0] rounded = {1'b0, kept} + {24'd0, half & (rest | kept[0])};
    wire signed [10:0] placed = rounded[24] ? exponent + 11'sd1 : exponent;
    wire [22:0] fraction = rounded[24] ? rounded[23:1] : rounded[22:0];

    wire tiny = exponent < 11'sd0 || (low && !rounded[23]);
    wire over = placed >= 11'sd255;
    assign y = (x_nan | z_nan)   ? 32'h7FC0_0000 :
               (x_zero | z_zero) ? {sign, 31'd0} :
               (x_inf | z_inf | over) ? {sign, 8'hFF, 23'd0} :
               tiny ? {sign, 31'd0} :
               low  ? {sign, 8'd1, rounded[22:0]} :
               {sign, placed[7:0], fraction};
endmodule
`default_nettype wire
