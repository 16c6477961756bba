// Quotient of two fp32 numbers, rounded once to nearest even; 0 / 0 is 0, no subnormals.
`default_nettype none
module fp_div (
    input  wire [31:0] a,
    input  wire [31:0] b,
    output wire [31:0] y
);
    wire sign   = a[31] ^ b[31];
    wire a_nan  = a[30:23] == 8'hFF && a[22:0] != 23'd0;
    wire b_nan  = b[30:23] == 8'hFF && b[22:0] != 23'd0;
    wire a_inf  = a[30:23] == 8'hFF && a[22:0] == 23'd0;
    wire b_inf  = b[30:23] == 8'hFF && b[22:0] == 23'd0;
    wire a_zero = a[30:23] == 8'h00;
    wire b_zero = b[30:23] == 8'h00;

    // 27 bits of quotient, a subtraction each, and whether anything is left.
    wire [23:0] below = {1'b1, b[22:0]};
    wire [24:0] above [0:27];
    wire [26:0] quotient;
    assign above[0] = {2'b01, a[22:0]};
    genvar i;
    generate
        for (i = 0; i < 27; i = i + 1) begin : gen_bit
            wire [24:0] less = above[i] - {1'b0, below};
            wire        fits = above[i] >= {1'b0, below};
            wire [23:0] rest = fits ? less[23:0] : above[i][23:0];
            assign quotient[26-i] = fits;
            assign above[i+1] = {rest, 1'b0};
            wire unused = &{1'b0, less[24]};
        end
    endgenerate
    wire        left     = above[27] != 25'd0;
    wire        first    = quotient[26];
    wire [26:0] normal   = first ? quotient : {quotient[25:0], 1'b0};
    wire signed [10:0] exponent = $signed({3'b000, a[30:23]}) - $signed({3'b000, b[30:23]}) +
        (first ? 11'sd127 : 11'sd126);
    wire        low     = exponent == 11'sd0;
    wire [23:0] kept    = low ? {1'b0, normal[26:4]} : normal[26:3];
    wire        half    = low ? normal[3] : normal[2];
    wire        rest    = (low ? normal[2:0] != 3'd0 : normal[1:0] != 2'd0) | left;
    wire [24:0] rounded = {1'b0, kept} + {24'd0, half & (rest | kept[0])};
    wire signed [10:0] placed = rounded[24] ? exponent + 11'sd1 : exponent;
    wire [22:0] fraction = rounded[24] ? rounded[23:1] : rounded[22:0];

    wire tiny = exponent < 11'sd0 || (low && !rounded[23]);
    wire over = placed >= 11'sd255;
    assign y = (a_nan | b_nan | (a_inf & b_inf)) ? 32'h7FC0_0000 :
               (a_zero & b_zero) ? 32'd0 :
               (a_zero | b_inf) ? {sign, 31'd0} :
               (a_inf | b_zero | over) ? {sign, 8'hFF, 23'd0} :
               tiny ? {sign, 31'd0} :
               low  ? {sign, 8'd1, rounded[22:0]} :
               {sign, placed[7:0], fraction};
endmodule
`default_nettype wire
