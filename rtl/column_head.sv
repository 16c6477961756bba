// The top of a column: the word that goes in with an instruction. It is taken from one of QUEUES queues
// (what lanes return, or what lands from the array), comes from the edge, or is one of POOL.
// head: [0] take, [3:1] queue, [4] from the edge, [8:5] which of POOL.
`default_nettype none
module column_head #(
    parameter int QUEUES = 1,
    parameter int DEPTH  = 4,
    parameter bit [32*16-1:0] POOL = '0
) (
    input  wire                 clk,
    input  wire                 rst,
    input  wire                 en,
    input  wire [8:0]           head,
    input  wire [31:0]          edge_word,
    input  wire [QUEUES-1:0]    put,
    input  wire [32*QUEUES-1:0] put_data,
    output wire [31:0]          top,
    output wire [QUEUES-1:0]    some,
`ifdef FORMAL
    output wire [32*QUEUES-1:0] f_held,
    input  wire                 f_sound,
`endif
    output wire                 fault
);
    wire [31:0] pool [0:15];
    wire [31:0] found [0:QUEUES];
    wire [QUEUES-1:0] wrong;
    assign found[0] = 32'd0;
    genvar p, q;
    generate
        for (p = 0; p < 16; p = p + 1) begin : gen_pool
            assign pool[p] = POOL[32*p +: 32];
        end
        for (q = 0; q < QUEUES; q = q + 1) begin : gen_queue
            wire mine = head[3:1] == 3'(q);
            wire [31:0] word;
            word_queue #(.DEPTH(DEPTH)) queue (
                .clk(clk), .rst(rst), .en(en), .put(put[q]), .in_data(put_data[32*q +: 32]),
`ifdef FORMAL
                .f_held(f_held[32*q +: 32]), .f_sound(f_sound),
`endif
                .take(head[0] & mine), .some(some[q]), .out_data(word), .fault(wrong[q])
            );
            assign found[q+1] = mine ? word : found[q];
        end
    endgenerate
    assign top = head[0] ? found[QUEUES] : head[4] ? edge_word : pool[head[8:5]];
    assign fault = |wrong;
endmodule
`default_nettype wire
