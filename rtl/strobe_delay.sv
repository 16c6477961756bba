// N registers for a bit that says that something happens: reset clears it. N = 0 is a wire. `any` is
// high while it is on its way.
`default_nettype none
module strobe_delay #(
    parameter int N = 1
) (
    input  wire clk,
    input  wire rst,
    input  wire en,
    input  wire x,
    output wire y,
    output wire any
);
    wire [N:0] stage;
    assign stage[0] = x;
    genvar i;
    generate
        for (i = 0; i < N; i = i + 1) begin : gen_stage
            reg held;
            always_ff @(posedge clk)
                if (rst) held <= 1'b0;
                else if (en) held <= stage[i];
            assign stage[i+1] = held;
        end
    endgenerate
    assign y = stage[N];
    assign any = |(stage >> 1);
    wire unused = &{1'b0, clk, rst, en};
endmodule
`default_nettype wire
