"""Neighbourhood attention on a spatial array: from windows and tiles to a Program.

The Einsums are those of one-pass softmax attention; tokens are permuted so that a query tile is the
columns of the array and a key tile its rows; a table says which key tiles a query tile visits, and
which PEs are masked. Everything behind it, from registers to energy, is what any Program has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from archsim.arch import Architecture, load_architecture
from archsim.block_filters import BlockFilters
from archsim.errors import ArchError
from archsim.lowering import lower_placed
from archsim.mapping import Mapping, load_mapping
from archsim.neighborhood_blocks import STREAM, Lines, lines_of
from archsim.placement import place
from archsim.program import Program
from archsim.quantities import show_bytes
from archsim.reporting import Report
from archsim.simulated_reports import report
from archsim.simulation import simulate
from einsum_cascade.cascade import Cascade, Workload
from einsum_cascade.catalog import load
from einsum_cascade.errors import Problem, Source
from einsum_cascade.neighborhood import Neighborhood
from einsum_cascade.neighborhood_tiles import Tiles


def lower_neighborhood(
    neighborhood: Neighborhood,
    tiles: Tiles,
    workload: Workload,
    architecture: Architecture | str = "fusemax",
    mapping: Mapping | str = "gna",
    *,
    cascade: Cascade | str = "softmax-1pass",
    lines: Lines | None = None,
    entries: int = STREAM,
    q_order: Sequence[int] | None = None,
    kv_order: Sequence[int] | None = None,
    gated: bool = True,
) -> Program:
    """Write the Program of a layer of neighbourhood attention.

    Args:
        neighborhood: the windows.
        tiles: tile shapes, as `Neighborhood.tiles` counts them.
        workload: sizes of E and F, and of B and H.
        architecture: an architecture, its shipped name or a path.
        mapping: a mapping whose innermost loops are p1 and m1.
        cascade: one-pass softmax without a filter.
        lines: the table, if it is known.
        entries: key tiles that the buffer holds; the oldest makes room.
        q_order: see `neighborhood_blocks.lines_of`.
        kv_order: see there.
        gated: see there.

    Raises:
        ArchError: a tile larger than the array, or key tiles that do not fit the buffer.
        ValueError: orders or entries that can't be.
    """
    chip, found = load_architecture(architecture), load_mapping(mapping)
    what = load(cascade) if isinstance(cascade, str) else cascade
    lines = lines or lines_of(
        neighborhood, tiles, entries=entries, q_order=q_order, kv_order=kv_order, gated=gated
    )
    blocks = lines.blocks
    if found.loops[-2:] != (blocks.outer, blocks.inner):
        raise ArchError(
            found.problem(
                ("loops",),
                f"the loops of {found.name} are {', '.join(found.loops)}",
                f"a table of blocks needs {blocks.outer} and {blocks.inner} innermost",
            )
        )
    held, filled = prod(tiles.kv_tile), prod(tiles.q_tile)
    count, most = blocks.keys.shape
    sizes = {**dict(workload.sizes), "M": held * most, "P": filled * count}
    sizes |= {"M0": held, "P0": filled}
    whole = Workload(workload.name, tuple(sizes.items()), workload.title)
    placed = place(what, whole, chip, found, blocks=BlockFilters(blocks, "m0", "p0"))
    words = held * (sizes["E"] + sizes["F"])
    more = (blocks.entries - STREAM) * words * chip.word_bits // 8
    needed, room = placed.tiling.held_bytes + more, placed.tiling.capacity_bytes
    if room is not None and needed > room:
        raise ArchError(
            Problem(
                Source("entries"),
                f"{blocks.entries} key tiles need a buffer of {show_bytes(needed)}, "
                f"{chip.name} has {show_bytes(room)}",
                hint="hold fewer key tiles, or smaller ones",
            )
        )
    placed = replace(placed, tiling=replace(placed.tiling, held_bytes=needed))
    program = lower_placed(placed)
    assert isinstance(program, Program)
    return program


def run_neighborhood(program: Program) -> Report:
    """Simulate a layer tile by tile and report it."""
    return report(simulate(program))


__all__ = ["lower_neighborhood", "run_neighborhood"]
