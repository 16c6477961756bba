// Sum of two fp32 numbers, rounded once to nearest even; subnormals are taken and made as zero.
`default_nettype none
module fp_add (
    input  wire [31:0] a,
    input  wire [31:0] b,
    output wire [31:0] y
);
    wire a_nan = a[30:23] == 8'hFF && a[22:0] != 23'd0;
    wire b_nan = b[30:23] == 8'hFF && b[22:0] != 23'd0;
    wire a_inf = a[30:23] == 8'hFF && a[22:0] == 23'd0;
    wire b_inf = b[30:23] == 8'hFF && b[22:0] == 23'd0;
    wire [31:0] af = a[30:23] == 8'h00 ? {a[31], 31'd0} : a;
    wire [31:0] bf = b[30:23] == 8'h00 ? {b[31], 31'd0} : b;

    wire        swap  = af[30:0] < bf[30:0];
    wire [31:0] most   = swap ? bf : af;
    wire [31:0] least = swap ? af : bf;
    wire        both_zero  = most[30:23] == 8'h00;
    wire        least_zero = least[30:23] == 8'h00;

    // 24 bits and 3 more: guard, round, sticky.
    wire [26:0] aligned  = {1'b1, most[22:0], 3'b000};
    wire [26:0] little = least_zero ? 27'd0 : {1'b1, least[22:0], 3'b000};
    wire [7:0]  apart  = most[30:23] - least[30:23];
    wire [4:0]  by     = apart > 8'd26 ? 5'd27 : apart[4:0];
    wire [26:0] moved  = little >> by;
    wire [26:0] back   = moved << by;
    wire        lost   = back != little;
    wire [26:0] sticky = {moved[26:1], moved[0] | lost};

    wire        subtracts = most[31] ^ least[31];
    wire [27:0] total = subtracts ? {1'b0, aligned} - {1'b0, sticky} : {1'b0, aligned} + {1'b0, sticky};
    wire        nothing = total == 28'd0;

    // Left until the first bit is at 26; a carry goes right by one.
    wire [26:0] s0 = total[26:0];
    wire        z16 = s0[26:11] == 16'd0;
    wire [26:0] s1 = z16 ? {s0[10:0], 16'd0} : s0;
    wire        z8 = s1[26:19] == 8'd0;
    wire [26:0] s2 = z8 ? {s1[18:0], 8'd0} : s1;
    wire        z4 = s2[26:23] == 4'd0;
    wire [26:0] s3 = z4 ? {s2[22:0], 4'd0} : s2;
    wire        z2 = s3[26:25] == 2'd0;
    wire [26:0] s4 = z2 ? {s3[24:0], 2'd0} : s3;
    wire        z1 = s4[26] == 1'b0;
    wire [26:0] s5 = z1 ? {s4[25:0], 1'b0} : s4;
    wire [4:0]  zeros = {z16, z8, z4, z2, z1};
    wire [26:0] normal = total[27] ? {total[27:2], total[1] | total[0]} : s5;
    wire signed [9:0] exponent = $signed({2'b00, most[30:23]}) +
        (total[27] ? 10'sd1 : -$signed({5'd0, zeros}));

    wire [24:0] rounded = {1'b0, normal[26:3]} +
        {24'd0, normal[2] & (normal[1] | normal[0] | normal[3])};
    wire signed [9:0] placed = rounded[24] ? exponent + 10'sd1 : exponent;
    wire [22:0] fraction = rounded[24] ? rounded[23:1] : rounded[22:0];

    wire over = placed >= 10'sd255;
    wire tiny = placed <= 10'sd0;
    assign y = (a_nan | b_nan) | (a_inf & b_inf & (a[31] ^ b[31])) ? 32'h7FC0_0000 :
               a_inf ? a :
               b_inf ? b :
               both_zero ? {a[31] & b[31], 31'd0} :
               nothing ? 32'd0 :
               over ? {most[31], 8'hFF, 23'd0} :
               tiny ? {most[31], 31'd0} :
               {most[31], placed[7:0], fraction};
endmodule
`default_nettype wire
