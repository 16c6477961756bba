"""Energy and area of an on-chip buffer as functions of capacity, width, ports and banks.

The model has the shape that memory compilers show: a part per bit of width, a part that grows with
the length of the wires in a bank, and a constant extra for driving the bit lines on a write,

    read  = width * (A + B * pitch * sqrt(capacity / banks))        pJ for one row
    write = read + C * width
    area  = banks * pitch^2 * (D * bits of a bank + G * width^2)    um^2

with `pitch` the edge of a cell relative to one with four ports. A, B and C are solved from the
energies that reproduce the FuseMax artifact's totals (16 MiB in 32 banks, 32 MiB in 4 banks, both
4096 bit wide with 4 ports); D and G are fitted to the buffer areas of its array-size sweep.

Decision: two organisations determine A and B exactly, so that agreement with the published
energies is no evidence for the model; `tests/test_energy.py` repeats both fits. How pitch depends
on ports is assumed, since every published point has four.
"""

from __future__ import annotations

from math import sqrt

# pJ per bit of width; solved from the FuseMax artifact's totals (fitted).
READ_PER_BIT_PJ = 2.131919690495
# pJ per bit of width and square root of MiB per bank; solved likewise (fitted).
READ_PER_WIRE_PJ = 1.305770118555
# pJ per bit of width that a write costs more than a read; solved likewise (fitted).
WRITE_EXTRA_PJ = 0.789876147253
# um^2 per bit and per squared bit of width; least squares over the sweep's buffers (fitted).
AREA_PER_BIT_UM2 = 0.37880
AREA_PER_WIDTH_UM2 = 0.061404
PORTS_OF_THE_FIT = 4


def pitch(ports: int) -> float:
    """Edge of a cell relative to one with four ports; a third of that is the cell (assumed)."""
    return (2 + ports) / (2 + PORTS_OF_THE_FIT)


def read_pj(capacity_bytes: int, width_bits: int, ports: int, banks: int) -> float:
    """Energy of reading one row of `width_bits`."""
    wires = sqrt(capacity_bytes / banks / 2**20)
    return width_bits * (READ_PER_BIT_PJ + READ_PER_WIRE_PJ * pitch(ports) * wires)


def write_pj(capacity_bytes: int, width_bits: int, ports: int, banks: int) -> float:
    """Energy of writing one row of `width_bits`."""
    return read_pj(capacity_bytes, width_bits, ports, banks) + WRITE_EXTRA_PJ * width_bits


def area_um2(capacity_bytes: int, width_bits: int, ports: int, banks: int) -> float:
    """Area of the whole buffer."""
    bits = 8 * capacity_bytes / banks
    per_bank = AREA_PER_BIT_UM2 * bits + AREA_PER_WIDTH_UM2 * width_bits**2
    return banks * pitch(ports) ** 2 * per_bank
