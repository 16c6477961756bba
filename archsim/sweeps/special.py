"""What a point may be besides a placed cascade: neighbourhoods, errors, words that move."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, Any

from archsim.arch import Architecture
from archsim.batches import Point
from archsim.placement import BATCH_RANKS
from archsim.reporting import Report
from archsim.sweeps.axes import Value
from einsum_cascade.cascade import Cascade, Workload
from einsum_cascade.errors import Problem, Source, SourceError

if TYPE_CHECKING:
    from einsum_cascade.bound_report import Bounds

WINDOWS = ("shape", "window", "stride", "dilation", "causal")
TILES = ("q_tile", "kv_tile")


def neighborhood_report(point: Point, values: Mapping[str, Value]) -> Report:
    """Simulate a layer, in the orders of query and key tiles that fetch least.

    Tiles that are not given fill the array and compute least.
    """
    from archsim.neighborhood_blocks import best_lines
    from archsim.neighborhood_run import lower_neighborhood, run_neighborhood
    from archsim.tile_search import search_tiles, tile_shapes
    from einsum_cascade.neighborhood import Neighborhood
    from einsum_cascade.neighborhood_tiles import read_shape

    cascade, workload, architecture, mapping = point
    assert isinstance(architecture, Architecture)
    assert isinstance(workload, Workload)
    given = {path.partition(".")[2]: v for path, v in values.items() if "neighborhood." in path}
    shapes = {name: read_shape(str(given[name])) for name in (*WINDOWS, *TILES) if name in given}
    windows: dict[str, Any] = {name: shapes[name] for name in WINDOWS if name in shapes}
    neighborhood = Neighborhood(**windows)
    axes = dict(architecture.arrays[0].axes)
    every: list[Any] = []
    for name, tokens in (("q_tile", axes["cols"]), ("kv_tile", axes["rows"])):
        own = [shapes[name]] if name in shapes else None
        every.append(own or tile_shapes(tokens, neighborhood.dimensions))
    q_tiles, kv_tiles = every
    tilings = (str(given["kv_tiling"]),)
    tiles = search_tiles(neighborhood, q_tiles, kv_tiles, tilings).tiles
    lines = best_lines(neighborhood, tiles, entries=int(given["hold"]))
    program = lower_neighborhood(
        neighborhood, tiles, workload, architecture, mapping, cascade=cascade, lines=lines
    )
    return run_neighborhood(program)


def words_moved(cascade: Cascade, workload: Workload, architecture: Architecture) -> dict[str, Any]:
    """What must move, and the best known way to stream, whatever the mapping: `ec.bounds`.

    Raises:
        SourceError: the buffer has no size, or no way fits it.
    """
    buffer = architecture.buffer
    if buffer is None or buffer.capacity_bytes is None:
        what = f"{architecture.name} has no buffer of a known size"
        raise SourceError(Problem(Source("arch"), what, hint="give its capacity"))
    word = architecture.word_bits // 8
    ranks = {rank: size for rank, size in workload.sizes if rank in cascade.ranks}
    report, count = _bounds(cascade)
    found = report.at(**ranks, S=buffer.capacity_bytes // word)
    batch = prod(workload.size(rank, 1) for rank in BATCH_RANKS if rank not in cascade.ranks)
    ways = {way.name: way for way in found.alternatives}
    moved = {name: way.traffic * word * batch for name, way in ways.items() if way.traffic}
    if not moved:
        reasons = "; ".join(f"{name}: {way.reason}" for name, way in ways.items())
        what = f"no way to stream {cascade.name} fits the buffer: {reasons or found.reason}"
        raise SourceError(Problem(Source("arch"), what, hint="give the buffer more room"))
    best = min(moved, key=lambda name: moved[name])
    return {
        "passes": count,
        "traffic_bytes.total": moved[best],
        "traffic_bytes.bound": found.total * word * batch,
        "way": best,
        **{f"traffic_bytes.{name}": amount for name, amount in moved.items()},
        "buffer_bytes.capacity": buffer.capacity_bytes,
    }


@lru_cache(maxsize=32)
def _bounds(cascade: Cascade) -> tuple[Bounds, int]:
    """The formulas of a cascade, which hold for all sizes, and its passes over their rank."""
    from einsum_cascade.bound_report import bounds
    from einsum_cascade.pass_analysis import passes

    found = bounds(cascade)
    return found, passes(cascade, found.rank).passes


def errors_of(point: Point, values: Mapping[str, Value]) -> dict[str, float]:
    """How far the cascade's outputs are from float64, in the numbers of a format.

    Inputs are random bf16 numbers; all keys count, `numbers.queries` queries are computed. Returns
    the root mean square of the error over that of the outputs, and the largest over the largest.
    """
    import numpy as np

    from einsum_cascade.formats import FORMATS, quantize
    from einsum_cascade.interpreter import evaluate

    cascade, workload, _, _ = point
    assert isinstance(cascade, Cascade)
    assert isinstance(workload, Workload)
    given = {path.partition(".")[2]: v for path, v in values.items() if "numbers." in path}
    sizes = dict(workload.sizes) | {"P": int(given["queries"])}
    rng = np.random.default_rng((int(given["seed"]), workload.size("M")))
    inputs: dict[str, Any] = {}
    for name in cascade.inputs:
        ranks = cascade.tensor(name).ranks
        whole = dict.fromkeys(cascade.whole_of(rank) for rank in ranks if rank)
        shape = [sizes[rank] for rank in whole]
        inputs[name] = quantize(rng.normal(size=shape), FORMATS["bf16"])
    exact = evaluate(cascade, **inputs)
    found = evaluate(cascade, format=str(given["format"]), exp=given.get("exp"), **inputs)
    error = np.concatenate([np.ravel(found[n].astype(np.float64) - exact[n]) for n in exact])
    right = np.concatenate([np.ravel(values) for values in exact.values()])
    rms = float(np.sqrt(np.mean(error**2) / np.mean(right**2)))
    return {"error_rms": rms, "error_max": float(np.abs(error).max() / np.abs(right).max())}
