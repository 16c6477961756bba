// a * b + c: the product of the array's multiplier, then the sum, each rounded (a bf16 product is
// exact). LAT registers follow; a new triple may enter every cycle.
`default_nettype none
module fp_mac #(
    parameter int BF16 = 1,
    parameter int LAT  = 1
) (
    input  wire        clk,
    input  wire        en,
    input  wire [31:0] a,
    input  wire [31:0] b,
    input  wire [31:0] c,
    output wire [31:0] y
);
    wire [31:0] product, sum;
    fp_mul #(.BF16(BF16)) multiplier (.a(a), .b(b), .y(product));
    fp_add adder (.a(product), .b(c), .y(sum));
    delay #(.W(32), .N(LAT)) pipe (.clk(clk), .en(en), .x(sum), .y(y));
endmodule
`default_nettype wire
