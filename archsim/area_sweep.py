"""The FuseMax paper's sweep of array sizes: latency against area at 256K tokens (its Figure 12).

An array of D by D PEs has D lanes, a buffer just large enough and register files that hold the
tiles in flight. The rules are the artifact's: tiles in flight grow when D exceeds the head size,
and the buffer doubles until the lanes, not the memory, set the pace.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil

from archsim.arch import Architecture, load_architecture
from archsim.energy import area, array_area
from archsim.mapping import load_mapping
from archsim.placement import place
from archsim.published_model import published
from einsum_cascade.cascade import Workload
from einsum_cascade.catalog import load

PE_DIMS = (16, 32, 64, 128, 256, 512)
SEQ_LEN = 262144


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """One array size: latency of attention, and area in the paper's accounting."""

    model: str
    pe_dim: int
    latency_s: float
    array_2d_area_um2: float
    area_um2: float
    traffic_bytes: int
    buffer_bytes: int


def sized(
    base: Architecture, pe_dim: int, head: int, seq_len: int, multiplier: int
) -> Architecture:
    """Resize an architecture to a square array, by the artifact's rules.

    Source: FuseMax artifact, Pareto script (its min_tiles, num_tiles and min_P1).
    """
    in_flight = max(1, pe_dim // head) * 2
    query_tiles = max(1, in_flight // (seq_len // pe_dim))
    capacity = pe_dim * query_tiles * head * 8 * 2 * multiplier
    arrays = tuple(
        replace(
            array,
            axes=tuple((axis, pe_dim) for axis, _ in array.axes),
            register_entries=(8 if len(array.axes) == 1 else 2) * in_flight,
        )
        for array in base.arrays
    )
    memories = tuple(
        memory
        if memory.parent is None
        else replace(memory, capacity_bytes=capacity, width_bits=16 * pe_dim, banks=1)
        for memory in base.memories
    )
    return replace(base, name=f"{base.name}-{pe_dim}", arrays=arrays, memories=memories)


def sweep_point(workload: Workload, pe_dim: int) -> SweepPoint:
    """Evaluate one array size for one model at the workload's length."""
    cascade, mapping = load("softmax-1pass"), load_mapping("fusemax")
    base = load_architecture("fusemax")
    multiplier = 1
    while True:
        head, length = workload.size("E"), workload.size("M")
        architecture = sized(base, pe_dim, head, length, multiplier)
        placed = place(cascade, workload, architecture, mapping, double_buffer=False)
        found = published(placed)
        moved = sum(amount for _, amount in (*found.read_bytes, *found.write_bytes))
        rate = architecture.outer.bandwidth_bytes_per_s
        assert rate is not None
        lanes = placed.phases[0].slots_on("array_1d") * placed.batch
        # One buffer of the whole rank is the end: more cannot save traffic.
        seconds = Fraction(moved) / rate
        if seconds <= lanes / architecture.clock_hz or dict(placed.tiling.extents)["P2"] == 1:
            break
        multiplier *= 2
    array = architecture.arrays[0]
    parts = area(architecture, "paper")
    buffer = architecture.buffer
    assert buffer is not None
    return SweepPoint(
        workload.title,
        pe_dim,
        float(found.cycles / architecture.clock_hz),
        array_area(architecture, array, "paper"),
        sum(parts.values()),
        ceil(moved),
        buffer.capacity_bytes or 0,
    )
