"""Programs as YAML: what lowering decided, to be read, edited by hand and executed.

The file holds the cascade's text and the names of the architecture and the mapping that places it;
the nest, the order of issue, register depths and capacities are its own, and win. Tasks and
dependencies are derived anew from the cascade when it is read, so they can't contradict it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsim.arch import Architecture, load_architecture
from archsim.errors import ArchError
from archsim.issue import show_entry
from archsim.lowering import check_bits, lower_whole
from archsim.mapping import Mapping, load_mapping, read_order
from archsim.placement import BATCH_RANKS
from archsim.program import Program
from einsum_cascade.cascade import Cascade, workload_from
from einsum_cascade.catalog import cascade_from, check_sizes
from einsum_cascade.documents import Document, read_document, validate
from einsum_cascade.errors import Problem, Source, SourceError, legal_words

if TYPE_CHECKING:
    from pydantic import BaseModel

_NAME = r"[A-Za-z0-9_.-]+"


@cache
def program_model() -> type[BaseModel]:
    """Return the pydantic model of a program file."""
    from pydantic import BaseModel, ConfigDict, Field

    class ProgramFile(BaseModel):
        """A program: what each unit issues, in which order, with which registers."""

        model_config = ConfigDict(extra="forbid", strict=True)
        name: str = Field(pattern=f"^{_NAME}$", description="name of the cascade")
        cascade: str = Field(description="its Einsums, one a line")
        architecture: str = Field(description="shipped name or path")
        mapping: str = Field(description="shipped name or path; places the Einsums")
        sizes: dict[str, int] = Field(description="elements along each rank, and tile sizes")
        nest: list[str] = Field(description="loops over tiles, outermost first: m1 2")
        order: dict[str, list[str]] = Field(description="by array: TASK lag N, | for turns")
        drain: str = Field(default="never", pattern="^(never|head)$")
        registers: dict[str, int] = Field(description="depth of each tensor's registers")
        landing: int = Field(ge=1, description="entries of each landing FIFO of a lane")
        returns: int = Field(ge=1, description="entries of each return FIFO of a column")

    return ProgramFile


def save(program: Program, path: Path) -> None:
    """Write a Program to a file, whole or not at all; ArchError if it could not be read again."""
    if not re.fullmatch(_NAME, program.cascade.name):
        what = f"'{program.cascade.name}' can't be the name of a cascade in a file"
        hint = "names are letters, digits, dots, dashes and underscores"
        raise ArchError(Problem(Source(program.name), what, hint=hint))
    partial = path.with_name(path.name + ".partial")
    partial.write_text(to_yaml(program), encoding="utf-8")
    partial.replace(path)


def to_yaml(program: Program) -> str:
    """A Program as the text of a file."""
    placed = program.placed
    indented = "\n".join(f"  {line}" for line in str(program.cascade).splitlines())
    inner = [part for _, parts in program.partitions for part in parts[1:]]
    sizes = dict(placed.workload.sizes) | {part: program.sizes[part] for part in inner}
    lines = [
        f"name: {program.cascade.name}",
        f"architecture: {json.dumps(_reference(placed.architecture))}",
        f"mapping: {json.dumps(_reference(placed.mapping))}",
        "cascade: |",
        indented,
        "sizes: {" + ", ".join(f"{rank}: {size}" for rank, size in sizes.items()) + "}",
        "nest: [" + ", ".join(f"{loop.variable} {loop.count}" for loop in program.nest) + "]",
        "order:",
    ]
    for body in program.bodies:
        lines.append(f"  {body.unit}:")
        lines += [f"    - {show_entry(entry)}" for entry in body.entries]
    depths = ", ".join(f"{r.tensor}: {r.depth}" for r in program.registers)
    lines += [
        f"drain: {program.drain}",
        "# Registers rotate: index = tile mod depth.",
        f"registers: {{{depths}}}",
        f"landing: {program.landing_entries}",
        f"returns: {program.return_entries}",
    ]
    return "\n".join(lines) + "\n"


def _reference(source: Any) -> str:
    """A shipped name, or the path of the file."""
    document = source.document
    if document is None:
        return str(source.name)
    path = Path(document.file)
    load = load_architecture if isinstance(source, Architecture) else load_mapping
    try:
        shipped = load(path.stem).document
    except ArchError:
        shipped = None
    is_shipped = shipped is not None and Path(shipped.file) == path
    return path.stem if is_shipped else str(path.resolve())


def load_program(name: str | Path, architecture: str | Architecture | None = None) -> Program:
    """Read a Program from a file, for its architecture or another one.

    Raises:
        ArchError: with file, line and column for every mistake in the file.
        CascadeError: the cascade's text is not legal.
    """
    return program_from(read_document(Path(name), ArchError), architecture)


def program_from(document: Document, architecture: str | Architecture | None = None) -> Program:
    """Turn a YAML document into a Program."""
    data = validate(document, program_model(), ArchError).model_dump()
    problems: list[Problem] = []
    order = read_order(document, data["order"], problems)
    if problems:
        raise ArchError(problems)
    check_sizes(document, data["sizes"])
    kept = {key: document.data[key] for key in ("name", "cascade")}
    cascade = cascade_from(replace(document, data=kept))
    original = _referred(document, "mapping", lambda: load_mapping(data["mapping"]))
    chip = _referred(
        document, "architecture", lambda: load_architecture(architecture or data["architecture"])
    )
    loops = _loops(document, data["nest"], original, cascade)
    # Mistakes in the order stand in this file; the rest of the mapping in its own.
    mapping = replace(original, order=order, drain=data["drain"], loops=loops, document=document)
    program = lower_whole(
        cascade,
        workload_from("custom", data["sizes"], "custom"),
        chip,
        mapping,
    )
    mapping = replace(mapping, document=original.document)
    program = replace(program, placed=replace(program.placed, mapping=mapping))
    depths = {register.tensor: register for register in program.registers}
    for tensor, depth in data["registers"].items():
        if tensor not in depths:
            hint = legal_words(tensor, sorted(depths), "tensors in registers")
            problems.append(document.problem(("registers", tensor), f"no register {tensor}", hint))
        elif depth < 1:
            problems.append(document.problem(("registers", tensor), "a depth is at least 1"))
        else:
            depths[tensor] = replace(depths[tensor], depth=depth)
    problems += _check_counts(document, data["nest"], program)
    if problems:
        raise ArchError(problems)
    program = replace(
        program,
        registers=tuple(depths.values()),
        landing_entries=data["landing"],
        return_entries=data["returns"],
        document=document,
    )
    check_bits(program)
    return program


def _referred(document: Document, key: str, load: Callable[[], Any]) -> Any:
    """What a key of the file names; a name that is unknown stands in this file."""
    try:
        return load()
    except SourceError as error:
        if len(error.problems) > 1 or error.problems[0].source.line:
            raise
        first = error.problems[0]
        raise ArchError(document.problem((key,), first.message, first.hint)) from None


def _loops(
    document: Document, texts: list[str], mapping: Mapping, cascade: Cascade
) -> tuple[str, ...]:
    """The loops over tiles in the order of the file; those over heads stay outside."""
    batch = [rank.lower() for rank in BATCH_RANKS if rank not in cascade.ranks]
    legal = [*batch, *mapping.loops]
    names = [text.partition(" ")[0] for text in texts]
    problems = [
        document.problem(("nest", i), f"'{text}' is no loop", legal_words(name, legal, "loops"))
        for i, (text, name) in enumerate(zip(texts, names, strict=True))
        if name not in legal
    ]
    if not problems and (sorted(names) != sorted(legal) or names[: len(batch)] != batch):
        what = f"the nest lists each of {', '.join(legal)} once"
        hint = f"{' and '.join(batch)} stay outermost" if batch else ""
        problems.append(document.problem(("nest",), what, hint))
    if problems:
        raise ArchError(problems)
    return tuple(names[len(batch) :])


def _check_counts(document: Document, texts: list[str], program: Program) -> Iterator[Problem]:
    """Counts of loops follow from the sizes; the file repeats them for its reader."""
    for i, (text, loop) in enumerate(zip(texts, program.nest, strict=True)):
        count = text.partition(" ")[2].strip()
        if count != str(loop.count):
            what = f"{loop.variable} has {loop.count} tiles at these sizes, not {count or 'none'}"
            yield document.problem(("nest", i), what, "change the sizes")
