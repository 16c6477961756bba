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
`ifdef FORMAL
    // What leaves one column leaves the next a cycle later, and so does what is on its way.
    reg [7*COLS-1:0] f_goes_before;
    always @(posedge clk) if (rst) f_goes_before <= 0; else if (en) f_goes_before <= goes;
    generate
        for (c = 0; c < COLS; c = c + 1) begin : gen_formal
            wire [3:0] f_here = f_goes_before[7*c +: 4];
            if (c > 0) begin : gen_goes
                always @(posedge clk) if (~rst) assert (goes[7*c +: 4] == f_goes_before[7*(c-1) +: 4]);
            end
            for (q = 0; q < QUEUES; q = q + 1) begin : gen_put
                if (DELAYS[8*q +: 8] == 1) begin : gen_one
                    always @(posedge clk) if (~rst)
                        assert (put[QUEUES*c+q] == (f_here[0] & f_here[3:1] == q));
                end
            end
        end
    endgenerate
`endif
endmodule
`default_nettype wire
