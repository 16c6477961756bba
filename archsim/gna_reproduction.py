"""The evaluation of Generalized Neighborhood Attention, computed again and set beside the paper.

Layouts, windows, tile shapes, shares of time and steps are read from workloads/papers/gna.yaml;
every speedup follows from counting tiles. Where the authors printed the tile shapes, agreement is
evidence for the model; where the shapes were chosen here because they fit (status inferred), it
shows consistency and no more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from math import prod
from typing import Any

from archsim.comparison import published_table
from archsim.errors import ArchError
from archsim.kv_residency import Residency, residencies
from archsim.quantities import parse_quantity
from archsim.stride_sweep import StridePoint, end_to_end, stride_candidates, sweep_strides
from archsim.tile_search import search_tiles, tile_shapes
from archsim.token_permutation import permutation_cost
from einsum_cascade.catalog import folder
from einsum_cascade.documents import read_document
from einsum_cascade.neighborhood import Neighborhood
from einsum_cascade.neighborhood_tiles import Shape, Tiles, read_shape, show_shape

TABLE = "gna_end_to_end"
TILE_STATUSES = ("printed", "inferred")
METRICS = ("e2e_flopwise", "e2e_nattensim", "e2e_measured")
# Arrays for the table of utilizations: queries on one edge, keys of a tile, tiling of the keys.
ARRAYS = (
    (256, 128, "static"),
    (256, 256, "static"),
    (256, 256, "dynamic"),
    (64, 64, "static"),
    (256, 16, "static"),
)


@dataclass(frozen=True, slots=True)
class UseCase:
    """One of the paper's models with one window, and what the paper says of its tiles."""

    name: str
    label: str
    shape: Shape
    heads: int
    head_dim: int
    # Of the whole model's time that self attention takes, 0 to 1; and steps of a run.
    share: float
    steps: int
    window: Shape
    q_tile: Shape
    kv_tile: Shape
    # "printed" if the authors say the tile shapes, "inferred" if they were chosen to fit.
    tile_status: str
    tile_source: str
    # The paper's list of strides that are worth it.
    strides: tuple[Shape, ...]

    def with_stride(self, stride: Shape) -> Neighborhood:
        """The neighbourhood with one of the strides."""
        return Neighborhood(self.shape, self.window, stride)

    def tiles(self, stride: Shape) -> Tiles:
        """Tiles visited with one of the strides."""
        return self.with_stride(stride).tiles(self.q_tile, self.kv_tile)


@dataclass(frozen=True, slots=True)
class Point:
    """One row of the paper's Tables 2 to 5: ours, and what was published."""

    case: UseCase
    stride: Shape
    dense_steps: int
    tiles: Tiles
    # Of attention by itself, counting FLOPs.
    flopwise: float
    # Of the whole model: by FLOPs, by the worst query tile, by the mean over query tiles.
    e2e_flopwise: float
    e2e_bound: float
    e2e_mean: float
    # By metric, as in METRICS.
    published: tuple[tuple[str, float], ...]

    @property
    def difference(self) -> float:
        """End-to-end bound less the one that the paper's simulator gave."""
        return self.e2e_bound - dict(self.published)["e2e_nattensim"]

    def as_dict(self) -> dict[str, Any]:
        """The row as it goes to JSON."""
        return {
            "name": self.case.name,
            "label": self.case.label,
            "shape": list(self.case.shape),
            "window": list(self.case.window),
            "stride": list(self.stride),
            "q_tile": list(self.case.q_tile),
            "kv_tile": list(self.case.kv_tile),
            "tile_status": self.case.tile_status,
            "visited_max": self.tiles.visited_max,
            "kv_tiles_dense": self.tiles.kv_tiles_dense,
            "block_sparse": self.tiles.block_sparse,
            "op_speedup_bound": self.tiles.speedup_bound,
            "op_speedup_mean": self.tiles.speedup_mean,
            "flopwise": self.flopwise,
            "attention_share": self.case.share,
            "dense_steps": self.dense_steps,
            "total_steps": self.case.steps,
            "e2e_flopwise": self.e2e_flopwise,
            "e2e_bound": self.e2e_bound,
            "e2e_mean": self.e2e_mean,
            "published": dict(self.published),
        }


@dataclass(frozen=True, slots=True)
class Sweep:
    """Strides of a use case: candidates, those worth it, and the paper's list."""

    case: UseCase
    candidates: tuple[StridePoint, ...]
    kept: tuple[StridePoint, ...]

    @property
    def is_the_papers(self) -> bool:
        """Whether the list is the published one."""
        return tuple(point.stride for point in self.kept) == self.case.strides


@dataclass(frozen=True, slots=True)
class Permutation:
    """Bytes to permute Q, K, V and O of a use case, each read and written once."""

    name: str
    label: str
    # Without padding, and with the padding of the use case's tiles.
    total_bytes: int
    padded_bytes: int
    published_bytes: int
    # Of the time of dense attention, at half the memory's bandwidth.
    share: float
    published_share: float


@dataclass(frozen=True, slots=True)
class ArrayChoice:
    """The best tiles of a use case on each of ARRAYS."""

    case: UseCase
    stride: Shape
    choices: tuple[Tiles, ...]


@dataclass(frozen=True, slots=True)
class GnaReproduction:
    """Everything that `archsim reproduce gna` shows."""

    points: tuple[Point, ...]
    sweeps: tuple[Sweep, ...]
    # Speedups of attention by itself: use case, stride, ours, the paper's.
    operators: tuple[tuple[UseCase, Shape, float, float], ...]
    permutations: tuple[Permutation, ...]
    arrays: tuple[ArrayChoice, ...]
    residency: tuple[tuple[UseCase, Shape, tuple[Residency, ...]], ...]

    def largest_difference(self, tile_status: str) -> float:
        """Largest end-to-end difference from the paper's simulator, over rows of a status."""
        rows = (point for point in self.points if point.case.tile_status == tile_status)
        return max(abs(point.difference) for point in rows)

    def as_dict(self) -> dict[str, Any]:
        """The reproduction as it goes to JSON."""
        return {
            "use_cases": [point.as_dict() for point in self.points],
            "largest_difference": {
                status: self.largest_difference(status) for status in TILE_STATUSES
            },
            "stride_sweeps": [
                {
                    "name": sweep.case.name,
                    "window": list(sweep.case.window),
                    "strides": [list(point.stride) for point in sweep.kept],
                    "speedup_bound": [point.tiles.speedup_bound for point in sweep.kept],
                    "published": [list(stride) for stride in sweep.case.strides],
                }
                for sweep in self.sweeps
            ],
            "op_speedups": [
                {
                    "name": case.name,
                    "window": list(case.window),
                    "stride": list(stride),
                    "computed": computed,
                    "published": published,
                }
                for case, stride, computed, published in self.operators
            ],
            "permutations": [asdict(one) for one in self.permutations],
            "arrays": [
                {
                    "name": row.case.name,
                    "window": list(row.case.window),
                    "stride": list(row.stride),
                    "q_tile": list(tiles.q_tile),
                    "kv_tile": list(tiles.kv_tile),
                    "kv_tiling": tiles.kv_tiling,
                    "utilization": tiles.utilization,
                    "kv_reads": kv_reads(tiles),
                }
                for row in self.arrays
                for tiles in row.choices
            ],
            "residency": [
                {
                    "name": case.name,
                    "window": list(case.window),
                    "stride": list(stride),
                    "policy": one.policy,
                    "held_bytes": one.held_keys * key_bytes(case.head_dim),
                    "rule_bytes": one.rule_keys * key_bytes(case.head_dim),
                    "reads": one.reads,
                }
                for case, stride, policies in self.residency
                for one in policies
            ],
        }


@cache
def _paper() -> dict[str, Any]:
    path = folder("einsum_cascade.workloads", "papers", ArchError) / "gna.yaml"
    data: dict[str, Any] = read_document(path, ArchError).data
    return data


def key_bytes(head_dim: int, word_bytes: int = 2) -> int:
    """Bytes of a key and its value."""
    return 2 * head_dim * word_bytes


def kv_reads(tiles: Tiles) -> float:
    """How often the average key is read if every query tile reads its key tiles anew."""
    return tiles.visited_sum * prod(tiles.kv_tile) / tiles.tokens


def use_cases() -> tuple[UseCase, ...]:
    """Read the paper's models, one entry for each window."""

    def read() -> Iterator[UseCase]:
        for name, model in _paper()["use_cases"].items():
            for one in model["windows"]:
                statuses = {one[tile]["status"] for tile in ("q_tile", "kv_tile")}
                yield UseCase(
                    name,
                    model["label"]["value"],
                    tuple(model["shape"]["value"]),
                    model["heads"]["value"],
                    model["head_dim"]["value"],
                    model["attention_share_of_dit"]["value"] * model["dit_share_of_whole"]["value"],
                    model["steps"]["value"],
                    tuple(one["window"]["value"]),
                    tuple(one["q_tile"]["value"]),
                    tuple(one["kv_tile"]["value"]),
                    "printed" if statuses == {"printed"} else "inferred",
                    one["q_tile"]["source"],
                    tuple(tuple(stride) for stride in one["strides"]["value"]),
                )

    return tuple(read())


def reproduce_gna() -> GnaReproduction:
    """Compute everything that the paper's evaluation says, from layouts, windows and tiles."""
    cases = use_cases()
    return GnaReproduction(
        tuple(_points(cases)),
        tuple(
            Sweep(
                case,
                tuple(stride_candidates(case.with_stride(()), case.q_tile, case.kv_tile)),
                sweep_strides(case.with_stride(()), case.q_tile, case.kv_tile),
            )
            for case in cases
        ),
        tuple(_operators(cases)),
        tuple(_permutations(cases)),
        tuple(_arrays(cases)),
        tuple(
            (case, stride, residencies(case.with_stride(stride), case.q_tile, case.kv_tile))
            for case in cases
            for stride in (case.strides[0], case.strides[-1])
        ),
    )


def _points(cases: tuple[UseCase, ...]) -> Iterator[Point]:
    table = published_table(TABLE, "use_case", "window", "stride", "dense_steps", "metric")
    by_window = {(case.name, show_shape(case.window)): case for case in cases}
    for name, window, stride_text, dense, metric in table:
        if metric != METRICS[0]:
            continue
        case, stride, dense_steps = by_window[name, window], read_shape(stride_text), int(dense)
        tiles = case.tiles(stride)
        flopwise = case.with_stride(stride).flopwise_speedup
        flops, worst, mean = (
            end_to_end(case.share, speedup, dense_steps, case.steps)
            for speedup in (flopwise, tiles.speedup_bound, tiles.speedup_mean)
        )
        published = tuple((m, table[name, window, stride_text, dense, m]) for m in METRICS)
        yield Point(case, stride, dense_steps, tiles, flopwise, flops, worst, mean, published)


def _operators(cases: tuple[UseCase, ...]) -> Iterator[tuple[UseCase, Shape, float, float]]:
    for claim in _paper()["claims"]["speedups"]:
        stride, window = tuple(claim["stride"]), tuple(claim["window"])
        case = next(c for c in cases if (c.name, c.window) == (claim["use_case"], window))
        yield case, stride, case.tiles(stride).speedup_bound, claim["value"]


def _permutations(cases: tuple[UseCase, ...]) -> Iterator[Permutation]:
    baseline = _paper()["baseline"]
    bandwidth = parse_quantity(baseline["memory_bandwidth"]["value"], "bytes/s") / 2
    claims = _paper()["claims"]
    shares = {
        one["use_case"]: one["value"] for one in claims["permutation_share_at_half_bandwidth"]
    }
    for claim in claims["permutation_bytes"]:
        case = [one for one in cases if one.name == claim["use_case"]][-1]
        cost = permutation_cost(
            case.with_stride(()),
            case.q_tile,
            case.kv_tile,
            heads=case.heads,
            head_dim=case.head_dim,
            word_bytes=baseline["word_bytes"]["value"],
        )
        flops = 4 * prod(case.shape) ** 2 * case.heads * case.head_dim
        dense_s = flops / float(baseline["fmha_flops_per_s"]["value"])
        yield Permutation(
            case.name,
            case.label,
            cost.unpadded_bytes,
            cost.total_bytes,
            parse_quantity(claim["value"], "bytes"),
            cost.unpadded_bytes / bandwidth / dense_s,
            shares[case.name],
        )


def _arrays(cases: tuple[UseCase, ...]) -> Iterator[ArrayChoice]:
    for case in cases:
        dims = len(case.shape)
        for stride in case.strides:
            one = case.with_stride(stride)
            yield ArrayChoice(
                case,
                stride,
                tuple(
                    search_tiles(
                        one, tile_shapes(rows, dims), tile_shapes(keys, dims), (tiling,)
                    ).tiles
                    for rows, keys, tiling in ARRAYS
                ),
            )


__all__ = [
    "ARRAYS",
    "METRICS",
    "TILE_STATUSES",
    "ArrayChoice",
    "GnaReproduction",
    "Permutation",
    "Point",
    "Sweep",
    "UseCase",
    "key_bytes",
    "kv_reads",
    "reproduce_gna",
    "use_cases",
]
