// N registers one after the other; N = 0 is a wire. Without en they hold.
`default_nettype none
module delay #(
    parameter int W = 32,
    parameter int N = 1
) (
    input  wire         clk,
    input  wire         en,
    input  wire [W-1:0] x,
    output wire [W-1:0] y
);
    wire [W-1:0] stage [0:N];
    assign stage[0] = x;
    genvar i;
    generate
        for (i = 0; i < N; i = i + 1) begin : gen_stage
            reg [W-1:0] held;
            always_ff @(posedge clk) if (en) held <= stage[i];
            assign stage[i+1] = held;
        end
    endgenerate
    assign y = stage[N];
    wire unused = &{1'b0, clk, en};
endmodule
`default_nettype wire
