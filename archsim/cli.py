"""The command line: thin, typed, and the only place that prints or exits.

Exit codes: 0 fine, 1 a check failed, 2 bad input. With --json standard output is one JSON object;
progress and messages go to standard error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from archsim import (
    analysis_commands,
    derivation_commands,
    hardware_commands,
    neighborhood_commands,
    simulation_commands,
    sweep_commands,
    verification_commands,
)
from archsim.command_line import Cascade, Json, SetSizes, app, bad, print_json, sizes, writable
from archsim.compile_notice import announce
from einsum_cascade.errors import Problem, SourceError, legal_words

# Commands of other modules join when those are imported.
__all__ = [
    "analysis_commands",
    "app",
    "derivation_commands",
    "hardware_commands",
    "main",
    "neighborhood_commands",
    "simulation_commands",
    "sweep_commands",
    "verification_commands",
]
KINDS = ("cascades", "models", "architectures", "mappings", "sweeps")
ENGINES = ("naive", "numba")


def main() -> None:
    """Run the command line; bad input ends with exit code 2 and no traceback."""
    # None of pydantic's plugins is for these files, and to look for some takes a while.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    announce()
    try:
        app()
    except SourceError as error:
        _fail(str(error))
    except BrokenPipeError:
        # The reader (head, less) has left; nothing more can be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except OSError as error:
        _fail(f"{error.filename or 'file'}: {error.strerror or error}")


def _fail(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


def _names(kind: str) -> list[str]:
    from archsim import arch, mapping
    from archsim.sweeps import definition
    from einsum_cascade import catalog

    own = {"architectures": arch.names, "mappings": mapping.names, "sweeps": definition.names}
    return own[kind]() if kind in own else catalog.names(kind)


def _describe(kind: str, name: str) -> str:
    from archsim import arch, mapping
    from archsim.sweeps import definition
    from einsum_cascade import catalog

    if kind == "cascades":
        return catalog.load(name).description
    if kind == "models":
        return str(catalog.workload(name))
    if kind == "sweeps":
        return definition.load_sweep(name).description
    if kind == "architectures":
        return arch.load_architecture(name).description
    return mapping.load_mapping(name).description


@app.command("list")
def list_(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="cascades, models, architectures, mappings or sweeps; all if left out."
        ),
    ] = None,
    papers: Annotated[
        bool, typer.Option("--papers", help="Name the source of each cascade.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List what ships: cascades, models, architectures, mappings, sweeps."""
    if kind is not None and kind not in KINDS:
        raise bad("list", f"unknown kind '{kind}'", legal_words(kind, KINDS, "kinds"))
    kinds = KINDS if kind is None else (kind,)
    found = {k: {name: _describe(k, name) for name in _names(k)} for k in kinds}
    if papers and "cascades" in found:
        from einsum_cascade import catalog

        found["cascades"] = {name: catalog.load(name).paper for name in found["cascades"]}
    if as_json:
        print_json(found)
        return
    for k, entries in found.items():
        print(f"{k}:")
        width = max(map(len, entries), default=0)
        for name, text in entries.items():
            print(f"  {name:{width}}  {text}")


@app.command()
def check(
    files: Annotated[list[str], typer.Argument(help="YAML files of any kind the tool reads.")],
) -> None:
    """Validate YAML files: cascades, models, architectures, mappings, sweeps."""
    from archsim import arch, mapping, program_file
    from archsim.sweeps import checking, definition, inputs
    from einsum_cascade import catalog
    from einsum_cascade.documents import read_document

    problems: list[Problem] = []
    for file in files:
        try:
            document = read_document(Path(file), SourceError)
            # What a file is follows from the one key that only its kind has.
            is_program = {"nest", "registers", "order"} & set(document.data)
            if {"over", "objectives", "arch", "sampler"} & set(document.data):
                found = definition.sweep_from(document)
                checking.check(found, inputs.Inputs(inputs.bases(found)))
                what = f"sweep {found.name} of {found.points:,} points"
            elif "cascade" in document.data and not is_program:
                what = f"cascade {catalog.cascade_from(document).name}"
            elif "placement" in document.data:
                what = f"mapping {mapping.mapping_from(document).name}"
            elif "arrays" in document.data:
                what = f"architecture {arch.architecture_from(document).name}"
            elif "cascade" in document.data:
                what = f"program {program_file.program_from(document).name}"
            elif "sizes" in document.data:
                what = f"model {catalog.workload_from_document(document, {}).name}"
            else:
                hint = (
                    "a cascade has the key 'cascade', a mapping 'placement', an architecture "
                    "'arrays', a model 'sizes', a sweep 'over'"
                )
                raise SourceError(
                    document.problem((), "cannot tell what kind of file this is", hint)
                )
            print(f"{file}: {what} is fine")
        except SourceError as error:
            problems.extend(error.problems)
    if problems:
        raise SourceError(problems)


@app.command()
def schema(
    kind: Annotated[str, typer.Argument(help="cascade, workload, architecture, mapping or sweep.")],
) -> None:
    """Print the JSON Schema of a kind of file, for editors."""
    from archsim import arch, mapping_schema
    from archsim.sweeps import schema as sweep_schema
    from einsum_cascade import catalog

    models = {
        "cascade": catalog.cascade_model,
        "workload": catalog.workload_model,
        "architecture": arch.architecture_model,
        "mapping": mapping_schema.mapping_model,
        "sweep": sweep_schema.sweep_model,
    }
    if kind not in models:
        raise bad("schema", f"unknown kind '{kind}'", legal_words(kind, models, "kinds"))
    print_json(models[kind]().model_json_schema())


@app.command()
def passes(
    cascade: Cascade,
    rank: Annotated[
        str | None,
        typer.Option(help="Rank to analyse, whole or part: M, M0. Default: the reduced one."),
    ] = None,
    set_: SetSizes = None,
    as_json: Json = False,
) -> None:
    """Count how often each tensor must be read along a rank, with the reads that force it."""
    from einsum_cascade import catalog, pass_analysis

    found = catalog.load(cascade)
    report = pass_analysis.passes(found, rank, sizes=sizes(set_))
    if as_json:
        print_json(
            {
                "cascade": report.cascade,
                "rank": report.rank,
                "passes": report.passes,
                "tensors": dict(report.tensors),
                "tight": report.tight,
                "widths": {str(level): str(width) for level, width in dict(report.widths).items()},
                "witness": list(report.witness),
                "upper": dict(report.upper),
                "schedule": [
                    {
                        "number": sweep.number,
                        "direction": sweep.direction,
                        "reads": list(sweep.reads),
                        "recomputes": list(sweep.recomputes),
                        "computes": list(sweep.computes),
                    }
                    for sweep in report.schedule
                ],
            }
        )
    else:
        print(report)


@app.command()
def evaluate(
    cascade: Cascade,
    arrays: Annotated[Path, typer.Argument(help="An .npz file with one array for each input.")],
    out: Annotated[Path, typer.Option("-o", "--output", help="The .npz file to write.")],
    set_: SetSizes = None,
    engine: Annotated[
        str, typer.Option(help="naive: the interpreter; numba: kernels compiled from the cascade.")
    ] = "naive",
    format_: Annotated[
        str | None,
        typer.Option("--format", help="Hardware numbers, bit by bit: bf16 or fp32."),
    ] = None,
) -> None:
    """Compute a cascade's outputs, naively or compiled, in float64 or in hardware numbers."""
    import zipfile

    import numpy as np

    from einsum_cascade import catalog, compiled, interpreter

    if engine not in ENGINES:
        hint = legal_words(engine, ENGINES, "engines")
        raise bad("--engine", f"unknown engine '{engine}'", hint)

    if out.suffix != ".npz":
        raise bad(str(out), "the output is an .npz file", f"write -o {out.with_suffix('.npz')}")
    writable(out, arrays)
    found = catalog.load(cascade)
    try:
        with np.load(arrays, allow_pickle=False) as file:
            given = {name: file[name] for name in file.files}
    except (ValueError, zipfile.BadZipFile, EOFError):
        hint = "write one with numpy.savez, one array of numbers for each input"
        raise bad(str(arrays), "not an .npz file of numbers", hint) from None
    except FileNotFoundError:
        raise bad(str(arrays), "no such file") from None
    if engine == "numba":
        result = compiled.compile_(found, format=format_)(sizes=sizes(set_), **given)
    else:
        result = interpreter.evaluate(found, sizes=sizes(set_), format=format_, **given)
    # An interrupted run must not leave half a file under the name that was asked for.
    partial = out.with_name(out.stem + ".partial.npz")
    save: Any = np.savez  # its stub takes no arrays by name together with allow_pickle
    save(partial, **result)
    partial.replace(out)
    shapes = ", ".join(f"{name} {array.shape}" for name, array in result.items())
    print(f"{out}: {shapes}", file=sys.stderr)


@app.command()
def study(
    name: Annotated[
        str, typer.Argument(help="The study: accuracy, flat-lanes, formats, gna-arrays or passes.")
    ],
    out: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder for the figures, if it has any.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run a study that the documentation shows."""
    from archsim import accuracy_study, formats_study, gna_arrays, pass_study, studies

    def say(text: str) -> None:
        print(text, file=sys.stderr)

    # Those with tables of their own: what measures, prints and, if there are figures, draws.
    drawn: dict[str, tuple[Any, Any, Any]] = {
        "accuracy": (
            lambda: accuracy_study.measured(say=say),
            accuracy_study.table,
            accuracy_study.draw,
        ),
        "gna-arrays": (lambda: gna_arrays.gna_arrays(say), gna_arrays.table, None),
        "formats": (formats_study.unit_errors, formats_study.table, formats_study.draw),
        "passes": (pass_study.counted, pass_study.table, lambda _, out: pass_study.draw(out)),
    }
    names = (*studies.STUDIES, *drawn)
    if name not in names:
        raise bad("study", f"unknown study '{name}'", legal_words(name, names, "studies"))
    rows: list[Any] = drawn[name][0]() if name in drawn else list(studies.STUDIES[name]())
    written = []
    if out is not None:
        if name not in drawn or drawn[name][2] is None:
            raise bad("--output", f"the study {name} draws nothing", "leave -o out")
        written = drawn[name][2](rows, out)
    if as_json:
        print_json({"study": name, "rows": [asdict(row) for row in rows]})
        return
    if name in drawn:
        print(drawn[name][1](rows))
    else:
        print("Attention speedup of FuseMax over FLAT (means over models; all lengths, up to 64K)")
        for row in rows:
            print(f"  {row.what:40} {row.mean:6.2f} {row.mean_up_to_64k:6.2f}")
    for path in written:
        print(f"wrote {path}")


@app.command()
def reproduce(
    paper: Annotated[str, typer.Argument(help="The paper: fusemax or gna.")],
    seq: Annotated[
        str | None, typer.Option(help="Sequence lengths, multiples of 256: 1024,4096.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Models, names or files: bert,xlm.")] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder for the figures.")
    ] = None,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="Run the layers of gna on three arrays: 2 minutes.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Reproduce a paper's evaluation from cascades, mappings and hardware."""
    if paper == "gna":
        for option, value in (("--seq", seq), ("--model", model)):
            if value is not None:
                raise bad(option, "is for fusemax", "gna has layouts of its own: leave it out")
        _reproduce_gna(out, simulate, as_json)
        return
    if paper != "fusemax":
        hint = legal_words(paper, ["fusemax", "gna"], "papers")
        raise bad("reproduce", f"unknown paper '{paper}'", hint)
    if simulate:
        raise bad("--simulate", "is for gna", "leave it out")
    from archsim import reproduction, reproduction_tables

    lengths = reproduction.LENGTHS if seq is None else tuple(_lengths(seq))
    models = reproduction.MODELS if model is None else tuple(model.split(","))
    result = reproduction.reproduce_fusemax(models, lengths, _progress)
    written = []
    if out is not None:
        from archsim import plots

        written = plots.draw_fusemax(result, out)
    if as_json:
        print_json(result.as_dict())
        return
    reproduction_tables.print_reproduction(result)
    for path in written:
        print(f"wrote {path}")


def _reproduce_gna(out: Path | None, simulate: bool, as_json: bool) -> None:
    from archsim import gna_arrays, gna_reproduction, gna_tables

    result = gna_reproduction.reproduce_gna()
    simulated = []
    if simulate:
        simulated = gna_arrays.gna_arrays(lambda text: print(text, file=sys.stderr))
    written = []
    if out is not None:
        from archsim import gna_plots

        written = gna_plots.draw_gna(result, out)
    if as_json:
        rows = {"simulated": [asdict(row) for row in simulated]} if simulate else {}
        print_json(result.as_dict() | rows)
        return
    gna_tables.print_gna(result)
    if simulate:
        print(gna_arrays.table(simulated))
    for path in written:
        print(f"wrote {path}")


def _lengths(text: str) -> Iterable[int]:
    for part in text.split(","):
        if not part.strip().isdigit():
            raise bad("--seq", f"'{part}' is no number of tokens", "write --seq 1024,4096")
        yield int(part)


def _progress(jobs: Iterable[Any], count: int) -> Iterable[Any]:
    """Show progress on standard error, if somebody is looking."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(
        jobs,
        "points",
        total=count,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
