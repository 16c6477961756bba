// One register in a ready/valid path with no combinational way from out_ready to in_ready: a second
// register catches the word that is on its way when the reader stops. Full throughput.
`default_nettype none
module skid_buffer #(
    parameter int W = 32
) (
    input  wire         clk,
    input  wire         rst,
    input  wire         in_valid,
    output wire         in_ready,
    input  wire [W-1:0] in_data,
    output wire         out_valid,
    input  wire         out_ready,
    output wire [W-1:0] out_data
);
    reg         full, spare_full;
    reg [W-1:0] word, spare;
    assign in_ready  = ~spare_full;
    assign out_valid = full;
    assign out_data  = word;
    wire put  = in_valid & in_ready;
    wire free = ~full | out_ready;
    always_ff @(posedge clk) begin
        if (rst) begin
            full       <= 1'b0;
            spare_full <= 1'b0;
        end else if (free) begin
            full       <= spare_full | put;
            spare_full <= 1'b0;
        end else if (put) begin
            spare_full <= 1'b1;
        end
        if (free) word <= spare_full ? spare : in_data;
        if (put & ~free) spare <= in_data;
    end
`ifdef FORMAL_WORDS
    // What handshakes promise, proven by induction: a word that is offered stays until it is taken, and
    // any word (the solver picks one) leaves once, unchanged, behind those that were there before it.
    reg f_offered, f_watching;
    reg [W-1:0] f_word, f_data;
    reg [1:0] f_ahead;
    wire take = out_valid & out_ready;
    wire f_pick = $anyseq;
    wire [1:0] f_count = {1'b0, full} + {1'b0, spare_full};
    always @(posedge clk) begin
        f_offered <= ~rst & out_valid & ~out_ready;
        f_word <= out_data;
        if (rst) f_watching <= 1'b0;
        else if (f_watching & take & f_ahead == 0) f_watching <= 1'b0;
        else if (~f_watching & put & f_pick) f_watching <= 1'b1;
        if (~f_watching) begin
            f_data <= in_data;
            f_ahead <= f_count - take;
        end else if (take) f_ahead <= f_ahead - 1'b1;
        if (~rst) begin
            assert (~f_offered | (out_valid & out_data == f_word));
            assert (~(f_watching & take & f_ahead == 0) | out_data == f_data);
            assert (~f_watching | f_ahead < f_count);
            assert (~spare_full | full);
            assert (~f_watching | (f_ahead == 0 ? word : spare) == f_data);
        end
    end
`endif
endmodule
`default_nettype wire
