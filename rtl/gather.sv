// One output of the lanes as whole rows: the words of a row leave one column a cycle, and those that
// come early wait. A row waits in a skid buffer; `room` says if it can take another.
`default_nettype none
module gather #(
    parameter int COLS   = 2,
    parameter int NUMBER = 0,
    parameter int DELAY  = 0
) (
    input  wire               clk,
    input  wire               rst,
    input  wire               en,
    input  wire [32*COLS-1:0] result,
    input  wire [7*COLS-1:0]  goes,
    output wire               room,
    output wire               out_valid,
    input  wire               out_ready,
    output wire [32*COLS-1:0] out_data
);
    wire [32*COLS-1:0] row;
    wire gives;
    wire unused_any;
    genvar c;
    generate
        for (c = 0; c < COLS; c = c + 1) begin : gen_column
            delay #(.W(32), .N(DELAY + COLS - 1 - c)) wait_for_the_last (
                .clk(clk), .en(en), .x(result[32*c +: 32]), .y(row[32*c +: 32])
            );
        end
    endgenerate
    wire [2:0] where = goes[7*(COLS-1)+4 +: 3];
    strobe_delay #(.N(DELAY)) strobe (
        .clk(clk), .rst(rst), .en(en), .x(where[0] & where[2:1] == 2'(NUMBER)), .y(gives),
        .any(unused_any)
    );
    skid_buffer #(.W(32 * COLS)) buffer (
        .clk(clk), .rst(rst), .in_valid(gives & en), .in_ready(room), .in_data(row),
        .out_valid(out_valid), .out_ready(out_ready), .out_data(out_data)
    );
    wire unused = &{1'b0, goes};
`ifdef FORMAL
    always @(posedge clk) if (~rst) assert (~(gives & en) | room);
`endif
endmodule
`default_nettype wire
