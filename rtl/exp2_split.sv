// x = n + f with n the nearest integer, ties to even: the first slot of an exponential. Beyond +-200
// nothing changes any more. kind: 0 a number, 1 -inf, 2 +inf, 3 NaN.
`default_nettype none
module exp2_split (
    input  wire [31:0]       x,
    output wire [31:0]       f,
    output wire signed [8:0] n,
    output wire [1:0]        kind
);
    wire is_nan = x[30:23] == 8'hFF && x[22:0] != 23'd0;
    wire is_inf = x[30:23] == 8'hFF && x[22:0] == 23'd0;
    assign kind = is_nan ? 2'd3 : is_inf ? (x[31] ? 2'd1 : 2'd2) : 2'd0;

    // 200 is 0x43480000.
    wire        beyond = x[30:0] > 31'h4348_0000;
    wire [30:0] size   = (is_nan | is_inf) ? 31'd0 : beyond ? 31'h4348_0000 :
                         x[30:23] == 8'h00 ? 31'd0 : x[30:0];
    // Below 1/2 the integer is 0; else the significand is moved so that its point is known.
    wire        less    = size[30:23] < 8'd126;
    wire [7:0]  above   = size[30:23] - 8'd126;
    wire [31:0] placed  = less ? 32'd0 : {8'd0, 1'b1, size[22:0]} << above[3:0];
    wire [7:0]  floored = placed[31:24];
    wire        half    = placed[23];
    wire        rest    = placed[22:0] != 23'd0;
    wire [7:0]  whole   = floored + {7'd0, half & (rest | floored[0])};
    assign n = x[31] ? -$signed({1'b0, whole}) : $signed({1'b0, whole});

    // The integer as an fp32 number: its first bit decides the exponent.
    wire       z4 = whole[7:4] == 4'd0;
    wire [7:0] w1 = z4 ? {whole[3:0], 4'd0} : whole;
    wire       z2 = w1[7:6] == 2'd0;
    wire [7:0] w2 = z2 ? {w1[5:0], 2'd0} : w1;
    wire       z1 = w2[7] == 1'b0;
    wire [7:0] w3 = z1 ? {w2[6:0], 1'b0} : w2;
    wire [2:0] zeros = {z4, z2, z1};
    wire [31:0] integer_part = whole == 8'd0 ? {x[31], 31'd0} :
        {x[31], 8'd134 - {5'd0, zeros}, w3[6:0], 16'd0};
    wire [31:0] rest_of_x;
    fp_sub sub (.a({x[31], size}), .b(integer_part), .y(rest_of_x));
    assign f = rest_of_x;
    wire unused = &{1'b0, above[7:4], w3[7]};
endmodule
`default_nettype wire
