"""The instruction word of a PE or lane: its fields, and the numbers of what it computes.

The same layout stands in the blocks of rtl/ and in docs/hardware.md; a test compares them.
"""

from __future__ import annotations

import numpy as np

# Field -> bits, the lowest first. An operand is a source and an index.
FIELDS = {
    "valid": 1, "fn": 4,
    "a_source": 2, "a_index": 8, "b_source": 2, "b_index": 8, "c_source": 2, "c_index": 8,
    "dest": 8, "write": 1, "adds": 1, "partial": 1, "down": 1,
    "push": 1, "queue": 3, "give": 1, "output": 2, "mask": 2, "narrow": 1,
    "last": 1, "first": 1, "lat": 4, "only": 1,
}  # fmt: skip
# The word that goes in at the top of a column, field -> bits.
HEAD = {"take": 1, "take_queue": 3, "edge": 1, "pool": 4}
# What else comes with an instruction, and stays at the edges.
BESIDE = {
    "tile_mask": 16, "only_row": 16, "coefficient": 32,
    "left_word": 1, "top_word": 1, "is_coefficient": 1,
}  # fmt: skip

SOURCES = {"constant": 0, "register": 1, "left": 2, "top": 3}
# `poly` is one step of a polynomial for 2**x, `exp` a whole one.
CODES = {
    "copy": 0, "mac": 1, "add": 2, "sub": 3, "mul": 4, "max": 5, "min": 6, "neg": 7, "abs": 8,
    "relu": 9, "step": 10, "div": 11, "poly": 12, "exp": 13, "load": 0, "drain": 0,
}  # fmt: skip
# PEs that hold no point of a tile: as any other, pass the top word, keep 0.
MASKS = {"plain": 0, "pass": 1, "zero": 2}

REGISTERS, POOL, QUEUES, OUTPUTS, LATENCIES = 256, 16, 8, 4, 15
# Counters beside instructions: rows and words, micro-ops of a word, lags, and cycles on a way.
WORDS, MICRO_OPS, LAGS, DELAYS = 1 << 16, 256, 255, 255


def offsets(fields: dict[str, int]) -> dict[str, int]:
    """First bit of each field."""
    found, at = {}, 0
    for name, bits in fields.items():
        found[name] = at
        at += bits
    return found


def bits_of(number: float) -> int:
    """The bits of an fp32 number; there is one NaN."""
    value = np.float32(number)
    return 0x7FC00000 if np.isnan(value) else int(value.view(np.uint32))
