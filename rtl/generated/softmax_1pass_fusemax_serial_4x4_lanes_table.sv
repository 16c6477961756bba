// The loop body: what each micro-op of each item is; see archsim/hdl/table.py.
`default_nettype none
module softmax_1pass_fusemax_serial_4x4_lanes_table (
    input  wire [6:0] item,
    input  wire [15:0] word,
    input  wire [7:0]  micro,
    input  wire [9:0] window,
    output wire [63:0] op,
    output wire [8:0]  head,
    output wire [15:0] tile_mask,
    output wire [15:0] only_row,
    output wire [31:0] coefficient,
    output wire [2:0]  uses,
    output wire        last_micro,
    output wire        last_word,
    output wire [6:0] turns
);
    wire [0:0] t0_class = window[1 +: 1];
    wire [7:0] t0_RM = window[2 +: 8];
    wire [7:0] t0_RM_back1 = t0_RM < 8'd1 ? t0_RM + 8'd1 : t0_RM - 8'd1;
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
    logic [6:0] f_turns;
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
        f_turns = 7'd0;
        case (item)
            7'd1: begin // RM lag 0: RM[m1+1,p] = max(RM[m1,p], LM[m1,p])
                f_last_word = word == 16'd0;
                f_last_micro = micro == 8'd0;
                f_turns = 7'd1;
                f_only_row = word;
                case (micro)
                    default: begin // max RM[m1-1], LM@landing
                        f_fn = 4'd5;
                        f_lat = 4'd1;
                        f_push = 1'd1;
                        f_take = 1'd1;
                        f_write = 1'b1;
                        f_dest = 8'd0 + t0_RM;
                        case (t0_class)
                            1'd0: begin f_a_index = 8'd1; end
                            default: begin f_a_source = 2'd1; f_a_index = 8'd0 + t0_RM_back1; end
                        endcase
                        f_b_source = 2'd3;
                    end
                endcase
            end
            7'd2: begin // PRM lag 0: PRM[m1,p] = exp(RM[m1,p] - RM[m1+1,p])
                f_last_word = word == 16'd0;
                f_last_micro = micro == 8'd6;
                f_turns = 7'd2;
                f_only_row = word;
                case (micro)
                    8'd0: begin // sub RM[m1-1], RM
                        f_fn = 4'd3;
                        f_lat = 4'd1;
                        f_write = 1'b1;
                        f_dest = 8'd13;
                        case (t0_class)
                            1'd0: begin f_a_index = 8'd1; end
                            default: begin f_a_source = 2'd1; f_a_index = 8'd0 + t0_RM_back1; end
                        endcase
                        f_b_source = 2'd1;
                        f_b_index = 8'd0 + t0_RM;
                    end
                    8'd1: begin // exp t0 (1 of 6)
                        f_fn = 4'd12;
                        f_lat = 4'd1;
                        f_first = 1'd1;
                        f_c_index = 8'd15;
                        f_coefficient = 32'd984588981;
                        f_is_coefficient = 1'd1;
                        f_write = 1'b1;
                        f_dest = 8'd14;
                        f_a_index = 8'd2;
                        f_b_source = 2'd1;
                        f_b_index = 8'd13;
                        f_c_source = 2'd2;
                    end
                    8'd2: begin // exp t0 (2 of 6)
                        f_fn = 4'd12;
                        f_lat = 4'd1;
                        f_coefficient = 32'd1008572126;
                        f_is_coefficient = 1'd1;
                        f_write = 1'b1;
                        f_dest = 8'd14;
                        f_a_source = 2'd1;
                        f_a_index = 8'd14;
                        f_b_source = 2'd1;
                        f_b_index = 8'd15;
                        f_c_source = 2'd2;
                    end
                    8'd3: begin // exp t0 (3 of 6)
                        f_fn = 4'd12;
                        f_lat = 4'd1;
                        f_coefficient = 32'd1029920618;
                        f_is_coefficient = 1'd1;
                        f_write = 1'b1;
                        f_dest = 8'd14;
                        f_a_source = 2'd1;
                        f_a_index = 8'd14;
                        f_b_source = 2'd1;
                        f_b_index = 8'd15;
                        f_c_source = 2'd2;
                    end
                    8'd4: begin // exp t0 (4 of 6)
                        f_fn = 4'd12;
                        f_lat = 4'd1;
                        f_coefficient = 32'd1047920109;
                        f_is_coefficient = 1'd1;
                        f_write = 1'b1;
                        f_dest = 8'd14;
                        f_a_source = 2'd1;
                        f_a_index = 8'd14;
                        f_b_source = 2'd1;
                        f_b_index = 8'd15;
                        f_c_source = 2'd2;
                    end
                    8'd5: begin // exp t0 (5 of 6)
                        f_fn = 4'd12;
                        f_lat = 4'd1;
                        f_coefficient = 32'd1060205080;
                        f_is_coefficient = 1'd1;
                        f_write = 1'b1;
                        f_dest = 8'd14;
                        f_a_source = 2'd1;
                        f_a_index = 8'd14;
                        f_b_source = 2'd1;
                        f_b_index = 8'd15;
                        f_c_source = 2'd2;
                    end
                    default: begin // exp t0 (6 of 6)
                        f_fn = 4'd12;
                        f_lat = 4'd1;
                        f_last = 1'd1;
                        f_coefficient = 32'd1065353216;
                        f_is_coefficient = 1'd1;
                        f_write = 1'b1;
                        f_dest = 8'd2;
                        f_a_source = 2'd1;
                        f_a_index = 8'd14;
                        f_b_source = 2'd1;
                        f_b_index = 8'd15;
                        f_c_source = 2'd2;
                    end
                endcase
            end
            7'd4: begin // SPD lag 0: SPD[m1,p] = RD[m1,p]*PRM[m1,p]
                f_last_word = word == 16'd0;
                f_last_micro = micro == 8'd0;
                f_turns = 7'd4;
                f_only_row = word;
                case (micro)
                    default: begin // mul RD[m1-1], PRM
                        f_fn = 4'd4;
                        f_lat = 4'd1;
                        f_write = 1'b1;
                        f_dest = 8'd3;
                        case (t0_class)
                            1'd0: begin  end
                            default: begin f_a_source = 2'd1; f_a_index = 8'd4; end
                        endcase
                        f_b_source = 2'd1;
                        f_b_index = 8'd2;
                    end
                endcase
            end
            7'd8: begin // RD lag 0: RD[m1+1,p] = SPD[m1,p] + SLD[m1,p]
                f_last_word = word == 16'd0;
                f_last_micro = micro == 8'd0;
                f_turns = 7'd8;
                f_only_row = word;
                case (micro)
                    default: begin // add SPD, SLD@landing
                        f_fn = 4'd2;
                        f_lat = 4'd1;
                        f_take = 1'd1;
                        f_take_queue = 3'd1;
                        f_write = 1'b1;
                        f_dest = 8'd4;
                        f_a_source = 2'd1;
                        f_a_index = 8'd3;
                        f_b_source = 2'd3;
                    end
                endcase
            end
            7'd16: begin // SPNV lag 0: SPNV[m1,f,p] = RNV[m1,f,p]*PRM[m1,p]
                f_last_word = word == 16'd3;
                f_last_micro = micro == 8'd0;
                f_turns = 7'd48;
                f_only_row = word;
                case (micro)
                    default: begin // mul RNV[m1-1], PRM
                        f_fn = 4'd4;
                        f_lat = 4'd1;
                        f_write = 1'b1;
                        f_dest = 8'd5 + at_word;
                        case (t0_class)
                            1'd0: begin  end
                            default: begin f_a_source = 2'd1; f_a_index = 8'd9 + at_word; end
                        endcase
                        f_b_source = 2'd1;
                        f_b_index = 8'd2;
                    end
                endcase
            end
            7'd32: begin // RNV lag 0: RNV[m1+1,f,p] = SPNV[m1,f,p] + SLNV[f,m1,p]
                f_last_word = word == 16'd3;
                f_last_micro = micro == 8'd0;
                f_turns = 7'd48;
                f_only_row = word;
                case (micro)
                    default: begin // add SPNV, SLNV@landing
                        f_fn = 4'd2;
                        f_lat = 4'd1;
                        f_take = 1'd1;
                        f_take_queue = 3'd2;
                        f_write = 1'b1;
                        f_dest = 8'd9 + at_word;
                        f_a_source = 2'd1;
                        f_a_index = 8'd5 + at_word;
                        f_b_source = 2'd3;
                    end
                endcase
            end
            7'd64: begin // AV lag 0: AV[f,p] = RNV[M1,f,p]/RD[M1,p]
                f_last_word = word == 16'd3;
                f_last_micro = micro == 8'd0;
                f_turns = 7'd64;
                f_only_row = word;
                case (micro)
                    default: begin // div RNV, RD
                        f_fn = 4'd11;
                        f_lat = 4'd1;
                        f_give = 1'd1;
                        f_a_source = 2'd1;
                        f_a_index = 8'd9 + at_word;
                        f_b_source = 2'd1;
                        f_b_index = 8'd4;
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
    wire unused = &{1'b0, window, word, at_word, is_first, t0_RM_back1, t0_class, t0_RM};
endmodule
`default_nettype wire
