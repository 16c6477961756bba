"""Parameterised SystemVerilog leaf blocks; installed as data of archsim."""
