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
endmodule
`default_nettype wire
