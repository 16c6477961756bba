"""Programs as hardware: SystemVerilog around the blocks of rtl/, and how it is simulated."""
