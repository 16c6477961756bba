"""The paper's layers on arrays of three sizes, simulated: `archsim study gna-arrays`.

One head of each use case, without a stride and with the largest that the paper finds worth it, on
the `fusemax` machine, in the tile shapes that compute least. Keys are streamed for every query
tile, or as many key tiles are held as the buffer has room for. Heads have keys of their own, so a
layer moves and spends exactly a head's share times their number, and takes hardly less time: only
filling and draining the array happens once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import prod

from archsim.arch import Architecture, load_architecture, with_shape
from archsim.gna_reproduction import UseCase, use_cases
from archsim.neighborhood_blocks import STREAM, best_lines
from archsim.neighborhood_run import lower_neighborhood, run_neighborhood
from archsim.rich_tables import new_table
from archsim.tile_search import search_tiles, tile_shapes
from einsum_cascade.catalog import workload
from einsum_cascade.neighborhood_tiles import Shape, show_shape

# Queries on the columns and keys on the rows of an array.
ARRAYS = ((256, 256), (256, 128), (64, 64))
# Words of SLNV may land for this many tiles before the lanes take them (docs/schedule.md).
TILES_LANDING = 3


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


def machine(columns: int, rows: int, head_dim: int) -> Architecture:
    """The `fusemax` machine with an array of another size, and landing FIFOs that suffice."""
    chip = with_shape(load_architecture("fusemax"), rows, columns)
    room = TILES_LANDING * head_dim
    arrays = tuple(
        replace(one, landing_entries=room) if "lanes" in dict(one.axes) else one
        for one in chip.arrays
    )
    return replace(chip, arrays=arrays)


def gna_arrays(say: Callable[[str], object] = lambda _: None) -> list[Row]:
    """Simulate every use case on every array; `say` is told which one is next."""
    found: list[Row] = []
    for case in use_cases():
        for stride in (case.strides[0], case.strides[-1]):
            for columns, rows in ARRAYS:
                say(
                    f"{case.label} {show_shape(case.window)}, stride {show_shape(stride)}, "
                    f"{columns} x {rows}"
                )
                found += on_array(case, stride, columns, rows)
    return found


def on_array(case: UseCase, stride: Shape, columns: int, rows: int) -> Iterator[Row]:
    """Simulate one head of a layer on an array: keys streamed, then held."""
    neighborhood, dims = case.with_stride(stride), len(case.shape)
    sizes = workload(H=1, E=case.head_dim, F=case.head_dim)
    chip = machine(columns, rows, case.head_dim)
    tiles = search_tiles(neighborhood, tile_shapes(columns, dims), tile_shapes(rows, dims)).tiles
    key_bytes = 2 * case.head_dim * chip.word_bits // 8
    assert chip.buffer is not None
    assert chip.buffer.capacity_bytes is not None
    # A sixteenth of the buffer is left for queries and running sums.
    fits = chip.buffer.capacity_bytes * 15 // 16 // (prod(tiles.kv_tile) * key_bytes)
    for held in (STREAM, min(fits, tiles.kv_tiles_dense)):
        table = best_lines(neighborhood, tiles, entries=held)
        report = run_neighborhood(lower_neighborhood(neighborhood, tiles, sizes, chip, lines=table))
        assert report.energy_pj is not None
        yield Row(
            case.label,
            show_shape(case.window),
            show_shape(stride),
            f"{columns} x {rows}",
            show_shape(tiles.q_tile),
            show_shape(tiles.kv_tile),
            held,
            report.buffer_bytes["needed"] or 0,
            report.traffic_bytes["by_tensor"]["K"] * 2 / (neighborhood.tokens * key_bytes),
            report.traffic_bytes["total"],
            report.cycles,
            report.lower_bound_cycles,
            tiles.utilization,
            report.utilization["array_2d"],
            report.bottleneck,
            report.energy_pj["total"],
        )


def cells(streamed: Row, held: Row) -> tuple[str, ...]:
    """A row of the table: streamed / held where they may differ."""

    def both(text: Callable[[Row], str]) -> str:
        return f"{text(streamed)} / {text(held)}"

    return (
        streamed.model,
        streamed.window,
        streamed.stride,
        streamed.array,
        f"{streamed.q_tile}, {streamed.kv_tile}",
        both(lambda row: f"{row.buffer_bytes / 2**20:.1f}"),
        both(lambda row: f"{row.reads:.2f}"),
        both(lambda row: f"{row.dram_bytes / 2**30:.2f}"),
        both(lambda row: f"{row.cycles:,}"),
        both(lambda row: f"{row.lower_bound_cycles:,}"),
        f"{streamed.visible:.3f}",
        both(lambda row: f"{row.utilization:.3f}"),
        both(lambda row: row.bottleneck),
        both(lambda row: f"{row.energy_pj / 1e12:.2f}"),
    )


def table(rows: list[Row]) -> str:
    """The rows as a table; those of one layer and array follow each other, streamed and held."""
    from rich.console import Console

    found = new_table(
        "One head of each layer on arrays of queries x keys: keys streamed / held",
        *("model", "window", "stride", "array", "query tile,\nkey tile", "MiB\nheld", "reads"),
        *("GiB\nmoved", "cycles", "lower bound", "visible\npairs", "PEs\nbusy", "limit", "J"),
        words=5,
    )
    for streamed, held in zip(rows[::2], rows[1::2], strict=True):
        found.add_row(*cells(streamed, held))
    console = Console(width=240)
    with console.capture() as text:
        console.print(found)
    return text.get()


__all__ = ["ARRAYS", "TILES_LANDING", "Row", "cells", "gna_arrays", "machine", "on_array", "table"]
