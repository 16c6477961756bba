"""One neighbourhood as tables and as JSON: what its tiles visit, which strides gain, what moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from archsim.kv_residency import Residency
from archsim.quantities import show_bytes
from archsim.rich_tables import new_console, new_table
from archsim.stride_sweep import StridePoint
from archsim.token_permutation import PermutationCost
from einsum_cascade.neighborhood import Neighborhood
from einsum_cascade.neighborhood_tiles import Tiles, show_shape

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, slots=True)
class NeighborhoodReport:
    """What `archsim gna` says of one neighbourhood."""

    neighborhood: Neighborhood
    tiles: Tiles
    # How the tile shapes were chosen; empty if they were given.
    chosen: str
    strides: tuple[StridePoint, ...]
    residency: tuple[Residency, ...]
    permutation: PermutationCost
    # Bytes of a key and its value; heads for the permutation.
    key_bytes: int
    heads: int
    # Speedup of a whole model, if its share of attention was given.
    e2e_bound: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """The report as it goes to JSON."""
        one, tiles = self.neighborhood, self.tiles
        found: dict[str, Any] = {
            "shape": list(one.shape),
            "window": list(one.window),
            "stride": list(one.stride),
            "dilation": list(one.dilation),
            "causal": list(one.causal),
            "q_tile": list(tiles.q_tile),
            "kv_tile": list(tiles.kv_tile),
            "kv_tiling": tiles.kv_tiling,
            "tiles_chosen": self.chosen or None,
            "sparsity": one.sparsity,
            "flopwise_speedup": one.flopwise_speedup,
            "visible_pairs": tiles.visible_pairs,
            "issued_pairs": tiles.issued_pairs,
            "utilization": tiles.utilization,
            "visited_max": tiles.visited_max,
            "visited_sum": tiles.visited_sum,
            "full_sum": tiles.full_sum,
            "partial_sum": tiles.partial_sum,
            "q_tiles": tiles.q_tiles,
            "kv_tiles_dense": tiles.kv_tiles_dense,
            "speedup_bound": tiles.speedup_bound,
            "speedup_mean": tiles.speedup_mean,
            "block_sparse": tiles.block_sparse,
            "strides": [
                {"stride": list(point.stride), "speedup_bound": point.tiles.speedup_bound}
                for point in self.strides
            ],
            "residency": [
                {
                    "policy": row.policy,
                    "held_bytes": row.held_keys * self.key_bytes,
                    "rule_bytes": row.rule_keys * self.key_bytes,
                    "reads": row.reads,
                }
                for row in self.residency
            ],
            "permutation_bytes": {
                "read": self.permutation.read_bytes,
                "written": self.permutation.written_bytes,
                "total": self.permutation.total_bytes,
                "unpadded": self.permutation.unpadded_bytes,
            },
        }
        if self.e2e_bound is not None:
            found["e2e_bound"] = self.e2e_bound
        return found


def print_neighborhood(report: NeighborhoodReport) -> None:
    """Print a report: figures, strides, where keys stay."""
    console = new_console()
    if report.chosen:
        console.print(report.chosen, soft_wrap=True)
        console.print()
    console.print(_figures(report))
    console.print(_strides(report))
    console.print(_residency(report))


def _figures(report: NeighborhoodReport) -> Table:
    one, tiles = report.neighborhood, report.tiles
    title = f"{show_shape(one.shape)} tokens, window {show_shape(one.window)}"
    title += f", stride {show_shape(one.stride)}"
    if any(d > 1 for d in one.dilation):
        title += f", dilation {show_shape(one.dilation)}"
    if any(one.causal):
        title += f", causal {show_shape([int(c) for c in one.causal])}"
    table = new_table(title, "figure", "value", "", words=1)
    table.columns[2].justify = "left"
    masks = "none" if tiles.block_sparse else f"{tiles.partial_sum:,} visited tiles need one"
    rows: list[tuple[str, str, str]] = [
        ("sparsity", f"{one.sparsity:.2%}", "share of all keys outside the window"),
        ("query tile, key tile", f"{show_shape(tiles.q_tile)}, {show_shape(tiles.kv_tile)}", ""),
        ("tiling of keys", tiles.kv_tiling, ""),
        ("query tiles", f"{tiles.q_tiles:,}", "over all dilation groups"),
        ("key tiles, dense", f"{tiles.kv_tiles_dense:,}", "of one dilation group"),
        ("visited by the worst", f"{tiles.visited_max:,}", "query tile"),
        ("visited by all", f"{tiles.visited_sum:,}", ""),
        ("full, static tiles", f"{tiles.full_sum:,}", "every query sees every key"),
        ("masks", "no" if tiles.block_sparse else "yes", masks),
        ("speedup, FLOPs", f"{one.flopwise_speedup:.3f}", "over dense attention, counting pairs"),
        ("speedup, mean", f"{tiles.speedup_mean:.3f}", "query tiles in turn, padding included"),
        ("speedup, worst", f"{tiles.speedup_bound:.3f}", "all as long as the worst query tile"),
        ("utilization", f"{tiles.utilization:.3f}", "visible pairs over computed ones"),
        (
            "permutation",
            show_bytes(report.permutation.total_bytes),
            f"Q, K, V in and O out, {report.heads} head{'s' if report.heads > 1 else ''}",
        ),
    ]
    if report.e2e_bound is not None:
        rows.append(("end to end", f"{report.e2e_bound:.3f}", "speedup of the model, worst tile"))
    for row in rows:
        table.add_row(*row)
    return table


def _strides(report: NeighborhoodReport) -> Table:
    table = new_table(
        "Strides worth it with these tiles: each beats all with as many or fewer queries a window",
        "stride",
        "queries a window",
        "worst query tile",
        "speedup",
        "masks",
    )
    for point in report.strides:
        mark = " <" if point.stride == report.neighborhood.stride else ""
        table.add_row(
            show_shape(point.stride) + mark,
            f"{point.queries:,}",
            f"{point.tiles.visited_max:,}",
            f"{point.tiles.speedup_bound:.3f}",
            "no" if point.tiles.block_sparse else "yes",
        )
    return table


def _residency(report: NeighborhoodReport) -> Table:
    table = new_table(
        f"Where keys and values of a head stay ({report.key_bytes} bytes a key)",
        "policy",
        "buffer",
        "reads of the average key",
    )
    for row in report.residency:
        buffer = show_bytes(row.held_keys * report.key_bytes)
        table.add_row(row.policy, buffer, f"{row.reads:.2f}")
    return table
