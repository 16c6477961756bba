"""What a search for the best run of a layer tried, as a table on standard output."""

from __future__ import annotations

from archsim.layer_search import LayerSearch
from archsim.rich_tables import new_console, new_table
from einsum_cascade.neighborhood_tiles import show_shape


def print_search(found: LayerSearch) -> None:
    """Print the runs, the best first, and how far the best may be from what was not run."""
    table = new_table(
        f"Runs of the search for {found.objective}, the best first",
        "stride",
        "query tile",
        "key tile",
        "tiling",
        "order",
        "policy",
        "tiles\nheld",
        "MiB",
        "GiB\nmoved",
        "cycles",
        "J",
        words=6,
    )
    table.collapse_padding = True
    for one in found.tried:
        choice, report = one.choice, one.report
        energy = report.energy_pj["total"] / 1e12 if report.energy_pj else None
        table.add_row(
            show_shape(choice.neighborhood.stride),
            show_shape(choice.q_tile),
            show_shape(choice.kv_tile),
            choice.kv_tiling,
            ",".join(map(str, choice.q_order)),
            choice.policy,
            f"{choice.entries}",
            f"{(report.buffer_bytes['needed'] or 0) / 2**20:.2f}",
            f"{report.traffic_bytes['total'] / 2**30:.3f}",
            f"{report.cycles:,}",
            "" if energy is None else f"{energy:.3f}",
        )
    console = new_console()
    console.print(table)
    looked = f"{found.shapes:,} strides, shapes and tilings, {found.tables} tables, "
    looked += f"{len(found.tried)} runs: "
    looked += f"any other choice gains {found.gain:.3%} at most" if found.gain else "proven best"
    console.print(looked, soft_wrap=True)
    console.print()


__all__ = ["print_search"]
