"""The command `gna`: neighbourhood attention in tiles, and on an array."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from archsim.command_line import Json, app, bad, buffer_bytes, print_json
from einsum_cascade.errors import Problem, Source, SourceError

if TYPE_CHECKING:
    from archsim.layer_search import LayerSearch
    from archsim.neighborhood_tables import NeighborhoodReport
    from archsim.reporting import Report
    from einsum_cascade.neighborhood import Neighborhood
    from einsum_cascade.neighborhood_tiles import Shape, Tiles

# What the windows are made of, and the tiles, each with an example.
WINDOWS = {
    "shape": "30x48x80",
    "window": "18x24x24",
    "stride": "16x8x8",
    "dilation": "1x1x1",
    "causal": "0x0x0",
}
TILES = {"q_tile": "4x8x8", "kv_tile": "2x8x8"}


@app.command()
def gna(
    shape: Annotated[str, typer.Option(help="Tokens in each dimension: 30x48x80.")],
    window: Annotated[str, typer.Option(help="Keys that a query sees: 18x24x24.")],
    stride: Annotated[
        str | None, typer.Option(help="Queries that share a window: 16x8x8. Default: 1.")
    ] = None,
    dilation: Annotated[
        str | None, typer.Option(help="Distance of neighbours: 1x2x2. Default: 1.")
    ] = None,
    causal: Annotated[
        str | None, typer.Option(help="1 where keys after the query are hidden: 1x0x0.")
    ] = None,
    q_tile: Annotated[
        str | None, typer.Option(help="Queries of a tile: 4x8x8. Default: searched.")
    ] = None,
    kv_tile: Annotated[
        str | None, typer.Option(help="Keys of a tile: 2x8x8. Default: searched.")
    ] = None,
    kv_tiling: Annotated[
        str | None,
        typer.Option(
            help="static (from the origin) or dynamic (from the first key needed). "
            "Default: static, both with --search."
        ),
    ] = None,
    heads: Annotated[int, typer.Option(min=1, help="Heads, for the permutation's bytes.")] = 1,
    head_dim: Annotated[int, typer.Option(min=1, help="Words of a head.")] = 128,
    word: Annotated[int, typer.Option(min=1, help="Bytes of a word.")] = 2,
    share: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Attention's share of a model's time, 0 to 1."),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps of the model, with --share.")] = 1,
    dense_steps: Annotated[
        int, typer.Option(min=0, help="Steps whose attention stays dense, with --share.")
    ] = 0,
    arch: Annotated[
        str | None,
        typer.Option(help="Simulate the layer on an architecture, cycle by cycle: fusemax."),
    ] = None,
    mapping: Annotated[
        str, typer.Option(help="Mapping of query and key tiles, with --arch.")
    ] = "gna",
    hold: Annotated[
        int | None,
        typer.Option(
            min=2, help="Key tiles that the buffer holds, the oldest goes, with --arch. Default: 2."
        ),
    ] = None,
    ungated: Annotated[
        bool, typer.Option("--ungated", help="Masked PEs spend energy, too, with --arch.")
    ] = False,
    search: Annotated[
        str | None,
        typer.Option(
            help="Find the strides, tiles, order and policy with the fewest cycles, or the least "
            "energy, on --arch (default: fusemax): cycles or energy."
        ),
    ] = None,
    strides: Annotated[
        str | None,
        typer.Option(help="Strides that are allowed, with --search: 1x1x1,16x8x8."),
    ] = None,
    buffer: Annotated[
        str | None, typer.Option(help='Limit on the buffer, with --search: "4 MiB".')
    ] = None,
    runs: Annotated[
        int, typer.Option(min=1, help="Simulations that are allowed, with --search.")
    ] = 8,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Folder for pictures of windows and tiles."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Count the tiles of neighbourhood attention: speedups, strides, where keys stay."""
    texts = {
        "shape": shape,
        "window": window,
        "stride": stride,
        "dilation": dilation,
        "causal": causal,
        "q_tile": q_tile,
        "kv_tile": kv_tile,
    }
    neighborhood, shapes = _read(texts, kv_tiling or "static", steps, dense_steps)
    found_best = None
    if search is not None:
        if hold is not None:
            raise bad("--hold", "is what --search chooses", "limit --buffer")
        allowed = _allowed(neighborhood, strides)
        tilings = ("static", "dynamic") if kv_tiling is None else (kv_tiling,)
        found_best = _search(
            *(allowed, shapes, tilings, arch or "fusemax", mapping, heads, head_dim),
            *(search, buffer_bytes(buffer), not ungated, runs),
        )
        choice = found_best.best.choice
        neighborhood, tiles, chosen = choice.neighborhood, choice.tiles, ""
    else:
        for option, value in (("--strides", strides), ("--buffer", buffer)):
            if value is not None:
                raise bad(option, "is for --search", "add --search cycles")
        tiles, chosen = _tiles(neighborhood, shapes, kv_tiling or "static")
    report = _report(neighborhood, tiles, chosen, heads, head_dim, word)
    if share is not None:
        from archsim.stride_sweep import end_to_end

        speedup = end_to_end(share, tiles.speedup_bound, dense_steps, steps)
        report = replace(report, e2e_bound=speedup)
    simulated = None
    if found_best is not None:
        simulated = found_best.best.report
    elif arch is not None:
        simulated = _simulate(
            neighborhood, tiles, arch, mapping, heads, head_dim, hold or 2, not ungated
        )
    if as_json:
        found = report.as_dict()
        if simulated is not None:
            found["simulated"] = simulated.as_dict()
        if found_best is not None:
            found["search"] = found_best.as_dict()
        print_json(found)
    else:
        from archsim.neighborhood_tables import print_neighborhood
        from archsim.search_tables import print_search

        print_neighborhood(report)
        if found_best is not None:
            print_search(found_best)
        if simulated is not None:
            print(simulated)
    if out is not None:
        from archsim.neighborhood_pictures import draw_neighborhood

        for path in draw_neighborhood(neighborhood, tiles, out):
            print(f"wrote {path}", file=sys.stderr)


def _read(
    texts: dict[str, str | None], kv_tiling: str, steps: int, dense_steps: int
) -> tuple[Neighborhood, dict[str, Shape]]:
    """Read shapes and check them, all mistakes at once."""
    from einsum_cascade.neighborhood import Neighborhood
    from einsum_cascade.neighborhood_tiles import checked_tiles, read_shape

    shapes: dict[str, Shape] = {}
    problems: list[Problem] = []
    for name, text in texts.items():
        if text is not None:
            try:
                shapes[name] = read_shape(text)
            except ValueError as error:
                hint = f"whole numbers with x between, such as {(WINDOWS | TILES)[name]}"
                problems.append(Problem(Source(name), str(error), hint=hint))
    if dense_steps > steps:
        message, hint = f"{dense_steps} steps are more than all", f"--steps is {steps}"
        problems.append(Problem(Source("dense_steps"), message, hint=hint))
    # A tile that is left out has as many dimensions as the rest.
    known = [shapes[name] for name in ("shape", *TILES) if name in shapes]
    ones = (1,) * len(known[0] if known else ())
    try:
        q_tile, kv_tile = (shapes.get(tile, ones) for tile in TILES)
        checked_tiles(len(ones), q_tile, kv_tile, kv_tiling)
    except SourceError as error:
        problems.extend(error.problems)
    windows = {name: shapes[name] for name in WINDOWS if name in shapes}
    neighborhood = None
    if windows.keys() >= {"shape", "window"}:
        try:
            # Which of its arguments are named is known here only, which mypy can't see.
            neighborhood = Neighborhood(**windows)  # type: ignore[arg-type]
        except SourceError as error:
            problems.extend(error.problems)
    if problems or neighborhood is None:
        raise SourceError(
            Problem(Source("--" + one.source.file.replace("_", "-")), one.message, hint=one.hint)
            for one in problems
        )
    return neighborhood, shapes


def _tiles(
    neighborhood: Neighborhood, shapes: dict[str, Shape], kv_tiling: str
) -> tuple[Tiles, str]:
    """Count tiles, of the best shapes where none are given, and say how they were chosen."""
    from archsim import tile_search
    from einsum_cascade.neighborhood_tiles import show_shape

    if shapes.keys() >= TILES.keys():
        return neighborhood.tiles(shapes["q_tile"], shapes["kv_tile"], kv_tiling), ""
    dims = neighborhood.dimensions
    every = {}
    for name, tokens in (("q_tile", tile_search.Q_TOKENS), ("kv_tile", tile_search.KV_TOKENS)):
        fitting = tile_search.fitting_tokens(neighborhood, tokens)
        given = [shapes[name]] if name in shapes else None
        every[name] = given or tile_search.tile_shapes(fitting, dims)
    choice = tile_search.search_tiles(neighborhood, every["q_tile"], every["kv_tile"], (kv_tiling,))
    found = choice.tiles
    pairs = f"of {choice.evaluated:,} pair{'s' if choice.evaluated > 1 else ''} of shapes"
    return found, (
        f"tiles chosen: queries {show_shape(found.q_tile)}, keys {show_shape(found.kv_tile)}, "
        f"which compute least {pairs}"
    )


def _allowed(neighborhood: Neighborhood, strides: str | None) -> list[Neighborhood]:
    """The neighbourhood with each of the strides that are allowed."""
    from einsum_cascade.neighborhood_tiles import read_shape

    if strides is None:
        return [neighborhood]
    found, problems = [], []
    for text in strides.split(","):
        try:
            found.append(replace(neighborhood, stride=read_shape(text)))
        except SourceError as error:
            problems += [(one.message, one.hint) for one in error.problems]
        except ValueError as error:
            problems.append((str(error), "strides with commas between, such as 1x1x1,16x8x8"))
    if problems:
        raise SourceError(Problem(Source("--strides"), text, hint=hint) for text, hint in problems)
    return found


def _search(
    allowed: list[Neighborhood],
    shapes: dict[str, Shape],
    kv_tilings: Sequence[str],
    arch: str,
    mapping: str,
    heads: int,
    head_dim: int,
    objective: str,
    limit: int | None,
    gated: bool,
    runs: int,
) -> LayerSearch:
    """Search with tiles as large as the array, unless a shape is given."""
    from archsim.arch import load_architecture
    from archsim.layer_search import search_layers
    from archsim.tile_search import fitting_tokens, tile_shapes
    from einsum_cascade.catalog import workload

    chip = load_architecture(arch)
    axes = {axis: size for array in chip.arrays for axis, size in array.axes}
    every = {}
    for name, axis in (("q_tile", "cols"), ("kv_tile", "rows")):
        fitting = tile_shapes(fitting_tokens(allowed[0], axes[axis]), allowed[0].dimensions)
        every[name] = [shapes[name]] if name in shapes else fitting
    return search_layers(
        allowed,
        every["q_tile"],
        every["kv_tile"],
        workload(H=heads, E=head_dim, F=head_dim),
        chip,
        mapping,
        kv_tilings=kv_tilings,
        objective=objective,
        buffer_bytes=limit,
        gated=gated,
        most_runs=runs,
        say=lambda text: print(text, file=sys.stderr),
    )


def _simulate(
    neighborhood: Neighborhood,
    tiles: Tiles,
    arch: str,
    mapping: str,
    heads: int,
    head_dim: int,
    hold: int,
    gated: bool,
) -> Report:
    """Run a layer on an array, in the orders of query and key tiles that fetch least."""
    from archsim.neighborhood_blocks import best_lines
    from archsim.neighborhood_run import lower_neighborhood, run_neighborhood
    from einsum_cascade.catalog import workload

    sizes = workload(H=heads, E=head_dim, F=head_dim)
    lines = best_lines(neighborhood, tiles, entries=hold, gated=gated)
    program = lower_neighborhood(neighborhood, tiles, sizes, arch, mapping, lines=lines)
    return run_neighborhood(program)


def _report(
    neighborhood: Neighborhood, tiles: Tiles, chosen: str, heads: int, head_dim: int, word: int
) -> NeighborhoodReport:
    from archsim.kv_residency import residencies
    from archsim.neighborhood_tables import NeighborhoodReport
    from archsim.stride_sweep import sweep_strides
    from archsim.token_permutation import permutation_cost

    shapes = (tiles.q_tile, tiles.kv_tile)
    cost = permutation_cost(neighborhood, *shapes, heads=heads, head_dim=head_dim, word_bytes=word)
    return NeighborhoodReport(
        neighborhood,
        tiles,
        chosen,
        sweep_strides(neighborhood, *shapes, tiles.kv_tiling),
        residencies(neighborhood, *shapes, tiles.kv_tiling),
        cost,
        key_bytes=2 * head_dim * word,
        heads=heads,
    )
