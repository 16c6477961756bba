// From the bottom of a grid to the queues of the next one: result c enters queue q of column c after
// as many cycles as byte q of DELAYS says (the queue itself is one more register).
// goes: push, queue, give, output of each column, as grid gives them.
`default_nettype none
module route #(
    parameter int COLS   = 2,
    parameter int QUEUES = 1,
    parameter bit [8*8-1:0] DELAYS = '0
) (
    input  wire                      clk,
    input  wire                      rst,
    input  wire                      en,
    input  wire [32*COLS-1:0]        result,
    input  wire [7*COLS-1:0]         goes,
    output wire [QUEUES*COLS-1:0]    put,
    output wire [32*QUEUES*COLS-1:0] put_data
);
    genvar c, q;
    generate
        for (c = 0; c < COLS; c = c + 1) begin : gen_column
            wire [3:0] where = goes[7*c +: 4];
            for (q = 0; q < QUEUES; q = q + 1) begin : gen_queue
                localparam int N = int'(DELAYS[8*q +: 8]);
                wire unused_any;
                strobe_delay #(.N(N)) strobe (
                    .clk(clk), .rst(rst), .en(en), .x(where[0] & where[3:1] == 3'(q)),
                    .y(put[QUEUES*c+q]), .any(unused_any)
                );
                delay #(.W(32), .N(N)) word (
                    .clk(clk), .en(en), .x(result[32*c +: 32]), .y(put_data[32*(QUEUES*c+q) +: 32])
                );
            end
        end
    endgenerate
    wire unused = &{1'b0, goes};
endmodule
`default_nettype wire
