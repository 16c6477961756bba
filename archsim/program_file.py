"""Programs as YAML: what lowering decided, to be read, edited by hand and executed.

The file holds the cascade's text and the names of the architecture and the mapping that places it;
the nest, the order of issue, register depths and capacities are its own, and win. Tasks and
dependencies are derived anew from the cascade when it is read, so they can't contradict it.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsim.arch import Architecture, load_architecture
from archsim.errors import ArchError
from archsim.issue import Body, read_entry, show_entry
from archsim.lowering import lower
from archsim.mapping import load_mapping
from archsim.program import Loop, Program
from einsum_cascade.cascade import workload_from
from einsum_cascade.catalog import cascade_from, check_sizes
from einsum_cascade.documents import Document, read_document, validate
from einsum_cascade.errors import Problem, legal_words

if TYPE_CHECKING:
    from pydantic import BaseModel


@cache
def program_model() -> type[BaseModel]:
    """Return the pydantic model of a program file."""
    from pydantic import BaseModel, ConfigDict, Field

    class ProgramFile(BaseModel):
        """A program: what each unit issues, in which order, with which registers."""

        model_config = ConfigDict(extra="forbid", strict=True)
        name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$", description="name of the cascade")
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
    """Write a Program to a file, whole or not at all."""
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
        f"architecture: {_reference(placed.architecture)}",
        f"mapping: {_reference(placed.mapping)}",
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
    order = []
    for unit, texts in data["order"].items():
        entries = []
        for i, text in enumerate(texts):
            try:
                entries.append(read_entry(text))
            except ValueError as error:
                problems.append(document.problem(("order", unit, i), str(error)))
        order.append(Body(unit, tuple(entries)))
    if problems:
        raise ArchError(problems)
    check_sizes(document, data["sizes"])
    kept = {key: document.data[key] for key in ("name", "cascade")}
    cascade = cascade_from(replace(document, data=kept))
    original = load_mapping(data["mapping"])
    # Mistakes in the order stand in this file; the rest of the mapping in its own.
    mapping = replace(original, order=tuple(order), drain=data["drain"], document=document)
    program = lower(
        cascade,
        workload_from(data["name"], data["sizes"]),
        load_architecture(architecture or data["architecture"]),
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
    nest = _nest(document, data["nest"], program, problems)
    if problems:
        raise ArchError(problems)
    return replace(
        program,
        nest=nest,
        registers=tuple(depths.values()),
        landing_entries=data["landing"],
        return_entries=data["returns"],
    )


def _nest(
    document: Document, texts: list[str], program: Program, problems: list[Problem]
) -> tuple[Loop, ...]:
    """The loops in the order of the file; their counts follow from the sizes."""
    counts = {loop.variable: loop.count for loop in program.nest}
    found = []
    for i, text in enumerate(texts):
        variable, _, count = text.partition(" ")
        if variable not in counts or not count.strip().isdigit():
            hint = legal_words(variable, sorted(counts), "loops")
            problems.append(document.problem(("nest", i), f"'{text}' is no loop; {hint}"))
        elif int(count) != counts[variable]:
            what = f"{variable} has {counts[variable]} tiles at these sizes, not {count.strip()}"
            problems.append(document.problem(("nest", i), what, "change the sizes"))
        else:
            found.append(Loop(variable, counts[variable]))
    missing = [variable for variable in counts if variable not in [loop.variable for loop in found]]
    if not problems and (missing or len(found) != len(counts)):
        what = f"every loop is listed once; missing: {', '.join(missing) or 'none'}"
        problems.append(document.problem(("nest",), what))
    return tuple(found)
