// A queue, or with DEPTH 0 a skid buffer, behind one pair of handshakes.
`default_nettype none
module stream_bench #(
    parameter int DEPTH = 4
) (
    input  wire        clk,
    input  wire        rst,
    input  wire        in_valid,
    output wire        in_ready,
    input  wire [15:0] in_data,
    output wire        out_valid,
    input  wire        out_ready,
    output wire [15:0] out_data
);
    generate
        if (DEPTH == 0) begin : gen_skid
            skid_buffer #(.W(16)) dut (.*);
        end else begin : gen_fifo
            sync_fifo #(.W(16), .DEPTH(DEPTH)) dut (.*);
        end
    endgenerate
endmodule
`default_nettype wire
