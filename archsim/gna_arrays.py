"""The paper's layers on arrays of PEs, simulated: `archsim study gna-arrays`.

One head of each use case, with the largest stride that the paper finds worth it, on the `fusemax`
machine with arrays of three sizes, in the tile shapes that compute least. Keys are streamed for
every query tile, or as many key tiles are held as the buffer has room for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from archsim.arch import load_architecture, with_shape
from archsim.gna_reproduction import use_cases
from archsim.neighborhood_blocks import STREAM, best_lines
from archsim.neighborhood_run import lower_neighborhood, run_neighborhood
from archsim.rich_tables import new_table
from archsim.tile_search import search_tiles, tile_shapes
from einsum_cascade.catalog import workload
from einsum_cascade.neighborhood_tiles import show_shape

# Queries on the columns and keys on the rows of an array.
ARRAYS = ((256, 256), (256, 128), (64, 64))


@dataclass(frozen=True, slots=True)
class Row:
    """One head of a layer on one array, with one buffer of key tiles."""

    model: str
    window: str
    stride: str
    # Columns x rows, tiles of queries and keys, key tiles held.
    array: str
    q_tile: str
    kv_tile: str
    held_tiles: int
    buffer_bytes: int
    # How often the average key is read, and bytes moved in all.
    reads: float
    dram_bytes: int
    cycles: int
    lower_bound_cycles: int
    # Visible pairs over computed ones, and busy PE-cycles over all.
    visible: float
    utilization: float
    bottleneck: str
    energy_pj: float


def gna_arrays(say: Callable[[str], None] = lambda _: None) -> list[Row]:
    """Simulate every use case on every array, streaming and with a full buffer of key tiles."""
    rows = []
    for case in use_cases():
        stride = case.strides[-1]
        neighborhood, dims = case.with_stride(stride), len(case.shape)
        sizes = workload(H=1, E=case.head_dim, F=case.head_dim)
        for columns, lines in ARRAYS:
            chip = with_shape(load_architecture("fusemax"), lines, columns)
            shapes = tile_shapes(columns, dims), tile_shapes(lines, dims)
            tiles = search_tiles(neighborhood, *shapes).tiles
            key_bytes = 2 * case.head_dim * chip.word_bits // 8
            room = chip.buffer.capacity_bytes if chip.buffer else None
            # A sixteenth of the buffer is left for queries and running sums.
            fits = (room or 0) * 15 // 16 // (prod(tiles.kv_tile) * key_bytes)
            for held in (STREAM, min(fits, tiles.kv_tiles_dense)):
                say(f"{case.label} {show_shape(stride)}, {columns} x {lines}, {held} tiles held")
                table = best_lines(neighborhood, tiles, entries=held)
                program = lower_neighborhood(neighborhood, tiles, sizes, chip, lines=table)
                found = run_neighborhood(program)
                read = found.traffic_bytes["by_tensor"]["K"]
                rows.append(
                    Row(
                        case.label,
                        show_shape(case.window),
                        show_shape(stride),
                        f"{columns} x {lines}",
                        show_shape(tiles.q_tile),
                        show_shape(tiles.kv_tile),
                        held,
                        found.buffer_bytes["needed"] or 0,
                        read / (neighborhood.tokens * case.head_dim * chip.word_bits // 8),
                        found.traffic_bytes["total"],
                        found.cycles,
                        found.lower_bound_cycles,
                        tiles.utilization,
                        found.utilization["array_2d"],
                        found.bottleneck,
                        found.energy_pj["total"] if found.energy_pj else 0.0,
                    )
                )
    return rows


def table(rows: list[Row]) -> str:
    """The rows as a table."""
    from rich.console import Console

    found = new_table(
        "One head of each layer on an array, keys streamed or held",
        *("model", "window", "stride", "queries x keys", "query tile", "key tile"),
        *("held", "MiB", "reads", "GiB moved", "cycles", "bound", "visible", "used", "limit", "J"),
        words=6,
    )
    for row in rows:
        found.add_row(
            *(row.model, row.window, row.stride, row.array, row.q_tile, row.kv_tile),
            f"{row.held_tiles}",
            f"{row.buffer_bytes / 2**20:.1f}",
            f"{row.reads:.2f}",
            f"{row.dram_bytes / 2**30:.2f}",
            f"{row.cycles:,}",
            f"{row.lower_bound_cycles:,}",
            f"{row.visible:.3f}",
            f"{row.utilization:.3f}",
            row.bottleneck,
            f"{row.energy_pj / 1e12:.2f}",
        )
    console = Console(width=200)
    with console.capture() as text:
        console.print(found)
    return text.get()


__all__ = ["ARRAYS", "Row", "gna_arrays", "table"]
