// The loop body: what each micro-op of each item is; see archsim/hdl/table.py.
`default_nettype none
module softmax_1pass_fusemax_serial_4x4_array_table (
    input  wire [4:0] item,
    input  wire [15:0] word,
    input  wire [7:0]  micro,
    input  wire [1:0] window,
    output wire [63:0] op,
    output wire [8:0]  head,
    output wire [15:0] tile_mask,
    output wire [15:0] only_row,
    output wire [31:0] coefficient,
    output wire [2:0]  uses,
    output wire        last_micro,
    output wire        last_word,
    output wire [4:0] turns
);
    wire [0:0] t0_class = window[1 +: 1];
    wire [7:0] at_word = word[7:0];
    wire is_first = word == 16'd0;
    logic [3:0] f_fn;
    logic [1:0] f_a_source;
    logic [7:0] f_a_index;
    logic [1:0] f_b_source;
    logic [7:0] f_b_index;
    logic [1:0] f_c_source;
    logic [7:0] f_c_index;
    logic [7:0] f_dest;
    logic f_write;
    logic f_adds;
    logic f_partial;
    logic f_down;
    logic f_push;
    logic [2:0] f_queue;
    logic f_give;
    logic [1:0] f_output;
    logic [1:0] f_mask;
    logic f_narrow;
    logic f_last;
    logic f_first;
    logic [3:0] f_lat;
    logic f_only;
    logic f_take;
    logic [2:0] f_take_queue;
    logic f_edge;
    logic [3:0] f_pool;
    logic [15:0] f_tile_mask;
    logic [15:0] f_only_row;
    logic [31:0] f_coefficient;
    logic f_left_word;
    logic f_top_word;
    logic f_is_coefficient;
    logic f_last_micro, f_last_word;
    logic [4:0] f_turns;
    always_comb begin
        f_fn = 4'd0;
        f_a_source = 2'd0;
        f_a_index = 8'd0;
        f_b_source = 2'd0;
        f_b_index = 8'd0;
        f_c_source = 2'd0;
        f_c_index = 8'd0;
        f_dest = 8'd0;
        f_write = 1'd0;
        f_adds = 1'd0;
        f_partial = 1'd0;
        f_down = 1'd0;
        f_push = 1'd0;
        f_queue = 3'd0;
        f_give = 1'd0;
        f_output = 2'd0;
        f_mask = 2'd0;
        f_narrow = 1'd0;
        f_last = 1'd0;
        f_first = 1'd0;
        f_lat = 4'd0;
        f_only = 1'd0;
        f_take = 1'd0;
        f_take_queue = 3'd0;
        f_edge = 1'd0;
        f_pool = 4'd0;
        f_tile_mask = 16'd0;
        f_only_row = 16'd0;
        f_coefficient = 32'd0;
        f_left_word = 1'd0;
        f_top_word = 1'd0;
        f_is_coefficient = 1'd0;
        f_last_micro = 1'b1;
        f_last_word = 1'b1;
        f_turns = 5'd0;
        case (item)
            5'd1: begin // QK lag 0: QK[m1,m0,p] = SQ[e,p]*K[e,m1,m0]
                f_last_word = word == 16'd3;
                f_last_micro = micro == 8'd0;
                f_turns = 5'd1;
                f_only_row = word;
                case (micro)
                    default: begin // mac SQ[e,p]@top, K[e,m1,m0]@left, acc
                        f_fn = 4'd1;
                        f_lat = 4'd1;
                        f_adds = 1'd1;
                        f_write = 1'b1;
                        f_dest = 8'd0;
                        f_partial = ~f_last_word;
                        f_left_word = 1'b1;
                        f_top_word = 1'b1;
                        f_edge = 1'b1;
                        f_a_source = 2'd3;
                        f_b_source = 2'd2;
                        f_c_source = 2'd1;
                        f_c_index = 8'd0;
                        if (is_first) f_c_source = 2'd0;
                        if (is_first) f_c_index = 8'd0;
                    end
                endcase
            end
            5'd2: begin // LM lag 0: LM[m1,p] = max[m0](QK[m1,m0,p])
                f_last_word = word == 16'd0;
                f_last_micro = micro == 8'd0;
                f_turns = 5'd2;
                f_only_row = word;
                case (micro)
                    default: begin // max above, QK
                        f_fn = 4'd5;
                        f_lat = 4'd1;
                        f_mask = 2'd1;
                        f_down = 1'd1;
                        f_push = 1'd1;
                        f_pool = 4'd1;
                        f_a_source = 2'd3;
                        f_b_source = 2'd1;
                        f_b_index = 8'd0;
                    end
                endcase
            end
            5'd4: begin // SLN lag 0: SLN[m1,m0,p] = exp(QK[m1,m0,p] - RM[m1+1,p])
                f_last_word = word == 16'd0;
                f_last_micro = micro == 8'd6;
                f_turns = 5'd4;
                f_only_row = word;
                case (micro)
                    8'd0: begin // sub QK, RM@returned
                        f_fn = 4'd3;
                        f_lat = 4'd1;
                        f_take = 1'd1;
                        f_write = 1'b1;
                        f_dest = 8'd2;
                        f_a_source = 2'd1;
                        f_a_index = 8'd0;
                        f_b_source = 2'd3;
                    end
                    8'd1: begin // exp t0 (1 of 6)
                        f_fn = 4'd12;
                        f_lat = 4'd1;
                        f_first = 1'd1;
                        f_c_index = 8'd4;
                        f_coefficient = 32'd984588981;
                        f_is_coefficient = 1'd1;
                        f_write = 1'b1;
                        f_dest = 8'd3;
                        f_a_index = 8'd2;
                        f_b_source = 2'd1;
                        f_b_index = 8'd2;
                        f_c_source = 2'd2;
                    end
                    8'd2: begin // exp t0 (2 of 6)
                        f_fn = 4'd12;
                        f_lat = 4'd1;
                        f_coefficient = 32'd1008572126;
                        f_is_coefficient = 1'd1;
                        f_write = 1'b1;
                        f_dest = 8'd3;
                        f_a_source = 2'd1;
                        f_a_index = 8'd3;
                        f_b_source = 2'd1;
                        f_b_index = 8'd4;
                        f_c_source = 2'd2;
                    end
                    8'd3: begin // exp t0 (3 of 6)
                        f_fn = 4'd12;
                        f_lat = 4'd1;
                        f_coefficient = 32'd1029920618;
                        f_is_coefficient = 1'd1;
                        f_write = 1'b1;
                        f_dest = 8'd3;
                        f_a_source = 2'd1;
                        f_a_index = 8'd3;
                        f_b_source = 2'd1;
                        f_b_index = 8'd4;
                        f_c_source = 2'd2;
                    end
                    8'd4: begin // exp t0 (4 of 6)
                        f_fn = 4'd12;
                        f_lat = 4'd1;
                        f_coefficient = 32'd1047920109;
                        f_is_coefficient = 1'd1;
                        f_write = 1'b1;
                        f_dest = 8'd3;
                        f_a_source = 2'd1;
                        f_a_index = 8'd3;
                        f_b_source = 2'd1;
                        f_b_index = 8'd4;
                        f_c_source = 2'd2;
                    end
                    8'd5: begin // exp t0 (5 of 6)
                        f_fn = 4'd12;
                        f_lat = 4'd1;
                        f_coefficient = 32'd1060205080;
                        f_is_coefficient = 1'd1;
                        f_write = 1'b1;
                        f_dest = 8'd3;
                        f_a_source = 2'd1;
                        f_a_index = 8'd3;
                        f_b_source = 2'd1;
                        f_b_index = 8'd4;
                        f_c_source = 2'd2;
                    end
                    default: begin // exp t0 (6 of 6)
                        f_fn = 4'd12;
                        f_lat = 4'd1;
                        f_mask = 2'd2;
                        f_last = 1'd1;
                        f_narrow = 1'd1;
                        f_coefficient = 32'd1065353216;
                        f_is_coefficient = 1'd1;
                        f_write = 1'b1;
                        f_dest = 8'd1;
                        f_a_source = 2'd1;
                        f_a_index = 8'd3;
                        f_b_source = 2'd1;
                        f_b_index = 8'd4;
                        f_c_source = 2'd2;
                    end
                endcase
            end
            5'd8: begin // SLD lag 0: SLD[m1,p] = sum[m0](SLN[m1,m0,p])
                f_last_word = word == 16'd0;
                f_last_micro = micro == 8'd0;
                f_turns = 5'd8;
                f_only_row = word;
                case (micro)
                    default: begin // add above, SLN
                        f_fn = 4'd2;
                        f_lat = 4'd1;
                        f_mask = 2'd1;
                        f_down = 1'd1;
                        f_push = 1'd1;
                        f_queue = 3'd1;
                        f_a_source = 2'd3;
                        f_b_source = 2'd1;
                        f_b_index = 8'd1;
                    end
                endcase
            end
            5'd16: begin // SLNV lag 0: SLNV[f,m1,p] = SLN[m1,m0,p]*V[f,m1,m0]
                f_last_word = word == 16'd3;
                f_last_micro = micro == 8'd0;
                f_turns = 5'd16;
                f_only_row = word;
                case (micro)
                    default: begin // mac SLN, V[f,m1,m0]@left, above
                        f_fn = 4'd1;
                        f_lat = 4'd1;
                        f_mask = 2'd1;
                        f_down = 1'd1;
                        f_push = 1'd1;
                        f_queue = 3'd2;
                        f_left_word = 1'b1;
                        f_a_source = 2'd1;
                        f_a_index = 8'd1;
                        f_b_source = 2'd2;
                        f_c_source = 2'd3;
                    end
                endcase
            end
            default: begin end
        endcase
    end
    assign op = {f_only, f_lat, f_first, f_last, f_narrow, f_mask, f_output, f_give, f_queue, f_push, f_down, f_partial, f_adds, f_write, f_dest, f_c_index, f_c_source, f_b_index, f_b_source, f_a_index, f_a_source, f_fn, 1'b1};
    assign head = {f_pool, f_edge, f_take_queue, f_take};
    assign tile_mask = f_tile_mask;
    assign only_row = f_only_row;
    assign coefficient = f_coefficient;
    assign uses = {f_is_coefficient, f_top_word, f_left_word};
    assign last_micro = f_last_micro;
    assign last_word = f_last_word;
    assign turns = f_turns;
    wire unused = &{1'b0, window, word, at_word, is_first, t0_class};
endmodule
`default_nettype wire
