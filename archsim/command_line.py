"""What all commands share: the application, its options, and how input is read and refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from einsum_cascade.errors import Problem, Source, SourceError

app = typer.Typer(
    name="archsim",
    help=(
        "Attention written once as a cascade of Einsums, followed down to an accelerator.\n\n"
        "Start with `archsim list`, then for example `archsim passes softmax-3pass` or "
        "`archsim run softmax-1pass --model bert --arch fusemax --mapping fusemax "
        "--set M=4096,P=4096`. Every name may also be a path to your own YAML file."
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Cascade = Annotated[str, typer.Argument(help="A shipped cascade (archsim list) or a YAML file.")]
SetSizes = Annotated[
    list[str] | None,
    typer.Option("--set", help="Sizes of ranks, such as M=4096,P=4096; may be repeated."),
]
Arch = Annotated[str | None, typer.Option(help="A shipped architecture or a YAML file.")]
MappingName = Annotated[
    str | None, typer.Option("--mapping", help="A shipped mapping or a YAML file.")
]
Model = Annotated[
    str | None, typer.Option(help="A shipped model or a YAML file; --set may give all sizes.")
]


def bad(what: str, message: str, hint: str = "") -> SourceError:
    """Make the error of a bad option or argument."""
    return SourceError(Problem(Source(what), message, hint=hint))


def writable(out: Path, *inputs: str | Path | None) -> None:
    """Refuse to write into a folder that is not there, or over a file that was read."""
    if not out.parent.is_dir():
        raise bad("--output", f"there is no folder {out.parent}")
    for name in inputs:
        if name is not None and out.exists() and Path(name).exists() and out.samefile(name):
            raise bad("--output", f"{out} is an input and would be lost", "name another file")


def sizes(given: list[str] | None) -> dict[str, int]:
    """Read --set options: M=4096,P=4096."""
    found: dict[str, int] = {}
    problems = []
    for entry in ",".join(given or []).split(","):
        if not entry.strip():
            continue
        rank, equals, size = (part.strip() for part in entry.partition("="))
        if not equals or not size.isdigit() or int(size) < 1 or not rank[:1].isupper():
            hint = "write ranks in capitals with positive whole numbers: --set M=4096,P=4096"
            problems.append(Problem(Source("--set"), f"'{entry}' is no size", hint=hint))
        elif found.setdefault(rank, int(size)) != int(size):
            what = f"'{entry}' after {rank}={found[rank]}: two sizes of one rank"
            problems.append(Problem(Source("--set"), what, hint="give each rank once"))
    if problems:
        raise SourceError(problems)
    return found


def print_json(data: Mapping[str, Any]) -> None:
    """Print one JSON object."""
    print(json.dumps(data, indent=2, allow_nan=False))


def buffer_bytes(buffer: str | None) -> int | None:
    """Read --buffer: 4 MiB."""
    from archsim.quantities import parse_quantity

    if buffer is None:
        return None
    try:
        return parse_quantity(buffer, "bytes")
    except ValueError as error:
        raise bad("--buffer", f"'{buffer}': {error}") from None
