"""The reproduction of Generalized Neighborhood Attention as tables on standard output."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archsim.gna_reproduction import (
    ARRAYS,
    TILE_STATUSES,
    GnaReproduction,
    Point,
    key_bytes,
    kv_reads,
)
from archsim.quantities import show_bytes
from archsim.rich_tables import new_console, new_table
from einsum_cascade.neighborhood_tiles import show_shape

if TYPE_CHECKING:
    from rich.table import Table


def print_gna(result: GnaReproduction) -> None:
    """Print what was published beside what is computed, then what the paper does not say."""
    console = new_console()
    console.print(_end_to_end(result))
    for status in TILE_STATUSES:
        rows = [point for point in result.points if point.case.tile_status == status]
        console.print(
            f"tiles {status}: {len(rows)} rows, largest difference from the paper's simulator "
            f"{result.largest_difference(status):.4f} (it prints two decimals)"
        )
    console.print()
    console.print(_operators(result))
    console.print(_sweeps(result))
    console.print(_permutations(result))
    console.print(_arrays(result))
    console.print(_residency(result))


def _name(point: Point) -> str:
    return point.case.label + ("" if point.case.tile_status == "printed" else " *")


def _end_to_end(result: GnaReproduction) -> Table:
    table = new_table(
        "End to end, against the paper's Tables 2 to 5 (* tiles inferred)",
        "model",
        "window",
        "stride",
        "dense\nsteps",
        "tiles\nworst/all",
        "speedup\nworst",
        "\nmean",
        "FLOPs\nours",
        "\npaper",
        "simul.\nours",
        "\npaper",
        "\ndiff.",
        "B200\npaper",
        words=3,
    )
    table.collapse_padding = True
    for point in result.points:
        published = dict(point.published)
        tiles = point.tiles
        table.add_row(
            _name(point),
            show_shape(point.case.window),
            show_shape(point.stride),
            f"{point.dense_steps}/{point.case.steps}",
            f"{tiles.visited_max}/{tiles.kv_tiles_dense}",
            f"{tiles.speedup_bound:.2f}",
            f"{tiles.speedup_mean:.2f}",
            f"{point.e2e_flopwise:.3f}",
            f"{published['e2e_flopwise']:.2f}",
            f"{point.e2e_bound:.4f}",
            f"{published['e2e_nattensim']:.2f}",
            f"{point.difference:+.4f}",
            f"{published['e2e_measured']:.2f}",
        )
    return table


def _operators(result: GnaReproduction) -> Table:
    title = "Attention by itself: speedup of the worst query tile"
    table = new_table(title, "model", "window", "stride", "computed", "paper", words=3)
    for case, stride, computed, published in result.operators:
        table.add_row(
            case.label,
            show_shape(case.window),
            show_shape(stride),
            f"{computed:.2f}",
            f"{published:g}",
        )
    return table


def _sweeps(result: GnaReproduction) -> Table:
    table = new_table(
        "Strides worth it: each beats all with as many or fewer queries a window",
        "model",
        "window",
        "strides, with the speedup of the worst query tile",
        "paper's list",
        words=4,
    )
    for sweep in result.sweeps:
        strides = (
            f"{show_shape(point.stride)} {point.tiles.speedup_bound:.2f}" for point in sweep.kept
        )
        table.add_row(
            sweep.case.label,
            show_shape(sweep.case.window),
            ", ".join(strides),
            "the same" if sweep.is_the_papers else "differs",
        )
    return table


def _permutations(result: GnaReproduction) -> Table:
    table = new_table(
        "Permuting Q, K, V and O: each is read once and written once",
        "model",
        "bytes",
        "with padding",
        "paper",
        "paper/ours\nif GB is GiB",
        "of dense attention,\nhalf of 8 TB/s",
        "paper",
    )
    for one in result.permutations:
        gibi = one.published_bytes / 1e9 * 2**30 / one.total_bytes
        table.add_row(
            one.label,
            show_bytes(one.total_bytes),
            show_bytes(one.padded_bytes),
            f"{one.published_bytes / 1e9:g} GB",
            f"{gibi:.3f}",
            f"{one.share:.2%}",
            f"{one.published_share:.1%}",
        )
    return table


def _arrays(result: GnaReproduction) -> Table:
    heads = [
        f"{rows} x {keys}" + (" dyn." if tiling == "dynamic" else "")
        for rows, keys, tiling in ARRAYS
    ]
    table = new_table(
        "Best tiles on arrays of rows x keys: utilization, reads of a key; query tile, key tile",
        "model",
        "window",
        "stride",
        *heads,
        words=3,
    )
    table.collapse_padding = True
    for row in result.arrays:
        cells = [
            f"{tiles.utilization:.3f}, {kv_reads(tiles):.1f}x\n"
            f"{show_shape(tiles.q_tile)}, {show_shape(tiles.kv_tile)}"
            for tiles in row.choices
        ]
        names = (row.case.label, show_shape(row.case.window), show_shape(row.stride))
        table.add_row(*names, *cells)
    return table


def _residency(result: GnaReproduction) -> Table:
    table = new_table(
        "Where keys and values of a head stay: buffer, and reads of the average key",
        "model",
        "window",
        "stride",
        "policy",
        "buffer",
        "rule box + tile",
        "reads",
        words=4,
    )
    for case, stride, policies in result.residency:
        size = key_bytes(case.head_dim)
        for i, one in enumerate(policies):
            names = (case.label, show_shape(case.window), show_shape(stride))
            table.add_row(
                *(names if i == 0 else ("", "", "")),
                one.policy,
                show_bytes(one.held_keys * size),
                show_bytes(one.rule_keys * size),
                f"{one.reads:.2f}",
            )
    return table
