"""Commands that run a cascade on an accelerator, or write and explain its Program."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from archsim.command_line import (
    Arch,
    Cascade,
    Json,
    MappingName,
    Model,
    SetSizes,
    app,
    bad,
    print_json,
    sizes,
    writable,
)
from einsum_cascade.errors import legal_words

if TYPE_CHECKING:
    import einsum_cascade as ec
    from archsim.chain import Chain
    from archsim.mapping import Mapping
    from archsim.program import Program
    from archsim.reporting import Report
    from archsim.timeline import ChainTimeline, Timeline


@app.command()
def run(
    cascade: Annotated[
        str | None, typer.Argument(help="A shipped cascade or a YAML file; none with --program.")
    ] = None,
    arch: Arch = None,
    mapping: MappingName = None,
    model: Model = None,
    set_: SetSizes = None,
    program: Annotated[
        Path | None, typer.Option(help="A program that `archsim lower -o` wrote, to execute.")
    ] = None,
    level: Annotated[
        str | None,
        typer.Option(
            help="bound: a provable lower bound; published: the paper's closed form; tile: every "
            "task of every tile; pe: every register. Default: tile, or bound where the mapping "
            "says no order of issue."
        ),
    ] = None,
    accounting: Annotated[
        str, typer.Option(help="consistent, or paper: energy as the mapping's paper counts it.")
    ] = "consistent",
    trace: Annotated[
        Path | None,
        typer.Option(help="A .json.gz file for what happened when, to open in ui.perfetto.dev."),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="A folder for figures of the run.")] = None,
    as_json: Json = False,
) -> None:
    """Put a cascade on an accelerator: cycles, traffic, utilization."""
    from archsim import ladder
    from archsim.mapping import load_mapping
    from einsum_cascade import catalog

    _check_outputs(trace, plot)
    timeline: Timeline | ChainTimeline | None
    if program is not None:
        _alone(cascade, mapping, model, set_)
        report, timeline = _run_program(program, arch, level or "tile", accounting)
    else:
        name, hardware, placing = _three(cascade, arch, mapping)
        what, found = catalog.load(name), load_mapping(placing)
        workload = _workload(what, found, model, set_)
        report, timeline = ladder.run_timed(
            what, workload, hardware, found, level=level, accounting=accounting
        )
    if trace is not None or plot is not None:
        _show(report, timeline, trace, plot)
    if as_json:
        print_json(report.as_dict())
    else:
        print(report)


def _three(cascade: str | None, arch: str | None, mapping: str | None) -> tuple[str, str, str]:
    """The three names that a run needs; all that are missing at once."""
    given = {"CASCADE": cascade, "--arch": arch, "--mapping": mapping}
    missing = [name for name, value in given.items() if value is None]
    if cascade is None or arch is None or mapping is None:
        hint = (
            "for example: archsim run softmax-1pass --arch fusemax --mapping fusemax --model bert"
        )
        verb = "is" if len(missing) == 1 else "are"
        raise bad("run", f"{', '.join(missing)} {verb} missing", hint)
    return cascade, arch, mapping


def _workload(
    cascade: ec.Cascade,
    mapping: Mapping,
    model: str | None,
    set_: list[str] | None,
    more: tuple[str, ...] = (),
) -> ec.Workload:
    """The sizes of a run, and of `more` ranks; a size that nothing has is a slip of the pen."""
    from archsim.placement import known_ranks
    from einsum_cascade import catalog

    given = sizes(set_)
    found = catalog.workload(model, **given)
    model_ranks = dict(catalog.workload(model).sizes) if model else {}
    known = {*known_ranks(cascade, mapping), *model_ranks, *more}
    for rank in given:
        if rank not in known:
            hint = legal_words(rank, sorted(known), f"ranks of {cascade.name}")
            raise bad("--set", f"{cascade.name} has no rank {rank}", hint)
    return found


def _alone(*others: object) -> None:
    """A program file says everything but the architecture."""
    if any(others):
        what = "a program file holds its cascade, mapping and sizes"
        raise bad("--program", what, "leave CASCADE, --mapping, --model and --set out")


def _run_program(
    path: Path, arch: str | None, level: str, accounting: str
) -> tuple[Report, Timeline | ChainTimeline]:
    from archsim import program_file, simulated_reports, simulation

    if level not in ("tile", "pe"):
        raise bad("--level", f"a program can't be run at level '{level}'", "levels: tile, pe")
    timeline = simulation.simulate(program_file.load_program(path, arch), level)
    return simulated_reports.report(timeline, level, accounting), timeline


def _check_outputs(trace: Path | None, plot: Path | None) -> None:
    """Refuse places that can't be written to before anything is run."""
    if trace is not None:
        if not trace.name.endswith(".json.gz"):
            stem = trace.name.removesuffix(".gz").removesuffix(".json")
            hint = f"write --trace {trace.with_name(f'{stem}.json.gz')}"
            raise bad("--trace", f"{trace} is no .json.gz file", hint)
        if not trace.parent.is_dir():
            raise bad("--trace", f"there is no folder {trace.parent}", "make it first")
    if plot is not None and (plot.is_file() or not plot.parent.is_dir()):
        what = f"{plot} is a file" if plot.is_file() else f"there is no folder {plot.parent}"
        raise bad("--plot", what, "name a folder, or one to be made in a folder that is there")


def _show(
    report: Report,
    timeline: Timeline | ChainTimeline | None,
    trace: Path | None,
    plot: Path | None,
) -> None:
    """Write the trace and the figures of a run; say where on standard error."""
    recording = None
    if timeline is not None:
        from archsim.recording import record

        recording = record(timeline)
    if trace is not None:
        if recording is None:
            what = f"level '{report.level}' executes nothing, so there is nothing to trace"
            hint = "levels that do: --level tile, pe; they need a mapping with an order of issue"
            raise bad("--trace", what, hint)
        from archsim.perfetto import write_trace

        write_trace(recording, trace)
        print(f"wrote {trace}: {recording}", file=sys.stderr)
    if plot is not None:
        from archsim.run_pictures import draw_run

        for path in draw_run(report, recording, plot):
            print(f"wrote {path}", file=sys.stderr)
        if recording is None:
            what = f"level '{report.level}' executes nothing: no figures of tasks over time"
            print(f"{what}, try --level tile", file=sys.stderr)


def _lowered(
    cascade: str | None,
    arch: str | None,
    mapping: str | None,
    model: str | None,
    set_: list[str] | None,
    program: Path | None = None,
) -> Program | Chain:
    """The Program of a run, or those of its phases, lowered or read."""
    from archsim import arch as hardware
    from archsim import lowering, program_file
    from archsim.mapping import load_mapping
    from einsum_cascade import catalog

    if program is not None:
        _alone(cascade, mapping, model, set_)
        return program_file.load_program(program, arch)
    name, chip_name, placing = _three(cascade, arch, mapping)
    what, found = catalog.load(name), load_mapping(placing)
    chip = hardware.load_architecture(chip_name)
    return lowering.lower(what, _workload(what, found, model, set_), chip, found)


@app.command()
def layer(
    cascade: Cascade,
    arch: Arch = None,
    mapping: MappingName = None,
    model: Model = None,
    set_: SetSizes = None,
    projection: Annotated[
        str, typer.Option(help="The mapping of linear layers: a shipped one or a YAML file.")
    ] = "projection",
    level: Annotated[str, typer.Option(help="bound, published, tile or pe, as for run.")] = "tile",
    accounting: Annotated[
        str, typer.Option(help="consistent, or paper: energy as the mappings' paper counts it.")
    ] = "consistent",
    as_json: Json = False,
) -> None:
    """Put a whole encoder layer on an accelerator: attention and its six linear layers."""
    from archsim.encoder import run_layer
    from archsim.mapping import load_mapping
    from einsum_cascade import catalog

    name, hardware, placing = _three(cascade, arch, mapping)
    what, found = catalog.load(name), load_mapping(placing)
    workload = _workload(what, found, model, set_, more=("D", "S"))
    report = run_layer(
        what,
        workload,
        hardware,
        found,
        level=level,
        accounting=accounting,
        projection=projection,
    )
    if as_json:
        print_json(report.as_dict())
    else:
        print(report)


@app.command()
def lower(
    cascade: Cascade,
    arch: Arch = None,
    mapping: MappingName = None,
    model: Model = None,
    set_: SetSizes = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--output", help="The YAML file to write.")
    ] = None,
) -> None:
    """Print the Program of a run, or write it to a file that `archsim run --program` executes."""
    from archsim import program_file
    from archsim.chain import Chain

    if out is not None:
        writable(out, cascade, arch, mapping, model)
    program = _lowered(cascade, arch, mapping, model, set_)
    if out is None:
        print(program)
    elif isinstance(program, Chain):
        what = f"a file holds one program, these are {len(program.programs)}"
        raise bad("--output", what, "leave it out to print them")
    else:
        program_file.save(program, out)
        print(f"wrote {out}", file=sys.stderr)


@app.command()
def explain(
    cascade: Annotated[
        str | None, typer.Argument(help="A shipped cascade or a YAML file; none with --program.")
    ] = None,
    arch: Arch = None,
    mapping: MappingName = None,
    model: Model = None,
    set_: SetSizes = None,
    program: Annotated[Path | None, typer.Option(help="A program file instead.")] = None,
    waterfall: Annotated[
        bool, typer.Option("--waterfall", help="Draw each task of each tile over time, too.")
    ] = False,
    edges: Annotated[
        bool, typer.Option("--edges", help="Draw every PE at every clock edge; for tiny runs.")
    ] = False,
) -> None:
    """Say which tasks make up the critical circuit, and what would help next."""
    from archsim import critical, slots, timeline
    from archsim.chain import Chain

    found = _lowered(cascade, arch, mapping, model, set_, program)
    for part in found.programs if isinstance(found, Chain) else (found,):
        if waterfall:
            print(timeline.waterfall(slots.simulate(part)))
        if edges:
            print(timeline.edges(slots.simulate(part)))
        print(critical.explain(part))
