"""Shipped cascades and models, and files of the user's own: one folder listing is the registry.

A name without a path separator or a `.yaml` ending is a shipped one; anything else is a path.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from einsum_cascade.cascade import Cascade, Workload, workload_from
from einsum_cascade.documents import Document, block_place, read_document, validate
from einsum_cascade.errors import CascadeError, Problem, Source, SourceError, legal_words
from einsum_cascade.legality import parse

if TYPE_CHECKING:
    from pydantic import BaseModel

_NAME = "what reports call it: letters, digits, and - _ . without blanks"
FOLDERS = {"cascades": "cascades", "models": "models"}


def folder(package: str, inside: str, error: type[SourceError]) -> Path:
    """Return a folder of data that travels with a package, also from an editable install."""
    try:
        found = Path(str(resources.files(package))) / inside
    except ModuleNotFoundError:
        found = Path("missing")
    if not found.is_dir():
        raise error(f"the data of {package} is not installed; run: pip install -e .")
    return found


def find(
    name: str, where: Path, what: str, error: type[SourceError], *, extra: tuple[str, ...] = ()
) -> Path:
    """Return the file of a shipped name or a path; raises `error` naming what is known."""
    if name.endswith((".yaml", ".yml")) or "/" in name or "\\" in name:
        path = Path(name)
        if not path.is_file():
            hint = "a shipped one goes by its bare name: " + ", ".join(listing(where)[:8])
            raise error(Problem(Source(name), f"no such {what} file", hint=hint))
        return path
    path = where / f"{name}.yaml"
    if not path.is_file():
        hint = legal_words(name, [*listing(where), *extra], f"shipped {what}s")
        if Path(name).is_file():
            hint = f"to read the file write ./{name}"
        raise error(Problem(Source(what), f"unknown {what} '{name}'", hint=hint))
    return path


def listing(where: Path) -> list[str]:
    """Names of the YAML files in a folder, sorted."""
    return sorted(path.stem for path in where.glob("*.yaml"))


def names(kind: str) -> list[str]:
    """Return the shipped names of a kind, "cascades" or "models"."""
    if kind not in FOLDERS:
        raise CascadeError(f"unknown kind '{kind}'; {legal_words(kind, FOLDERS, 'known kinds')}")
    return listing(folder("einsum_cascade.workloads", FOLDERS[kind], CascadeError))


def load(name: str) -> Cascade:
    """Read a cascade by shipped name or path to a YAML file.

    Raises:
        CascadeError: with file, line and column for every mistake in the file.
    """
    where = folder("einsum_cascade.workloads", "cascades", CascadeError)
    return _load(find(str(name), where, "cascade", CascadeError))


def _load(path: Path) -> Cascade:
    return cascade_from(read_document(path, CascadeError))


def write_cascade(cascade: Cascade, path: Path) -> None:
    """Write a cascade as a YAML file that `load` reads, whole or not at all."""
    entries = {"description": cascade.description, "source": cascade.paper}
    sizes = ", ".join(f"{rank}: {size}" for rank, size in cascade.default_sizes)
    lines = [
        f"name: {cascade.name}",
        *(
            f"{key}: {json.dumps(text, ensure_ascii=False)}"
            for key, text in entries.items()
            if text
        ),
        *([f"sizes: {{{sizes}}}"] if sizes else []),
        "cascade: |",
        *(f"  {line}" for line in str(cascade).splitlines()),
    ]
    partial = path.with_name(path.name + ".partial")
    partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    partial.replace(path)


@cache
def cascade_model() -> type[BaseModel]:
    """Return the pydantic model of a cascade file."""
    from pydantic import BaseModel, ConfigDict, Field

    class CascadeFile(BaseModel):
        """A cascade: Einsums, one a line, with a name and where they come from."""

        model_config = ConfigDict(extra="forbid", strict=True)

        name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$", description=_NAME)
        description: str = Field(default="", description="what it computes, in one sentence")
        source: str = Field(default="", description="paper or page it comes from")
        sizes: dict[str, int] = Field(
            default_factory=dict, description="sizes for ranks that nothing else determines"
        )
        cascade: str = Field(description="the Einsums, one a line")

    return CascadeFile


@cache
def workload_model() -> type[BaseModel]:
    """Return the pydantic model of a model file."""
    from pydantic import BaseModel, ConfigDict, Field

    class WorkloadFile(BaseModel):
        """Sizes of one attention layer of a model."""

        model_config = ConfigDict(extra="forbid", strict=True)

        name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$", description=_NAME)
        title: str = Field(default="", description="the model's name as papers write it")
        description: str = Field(default="", description="what is modelled, in one sentence")
        source: str = Field(description="where the sizes come from")
        status: str = Field(
            default="published",
            pattern="^(published|derived|fitted|assumed)$",
            description="how the sizes are known: published, derived, fitted or assumed",
        )
        sizes: dict[str, int] = Field(description="elements along each rank: B, H, E, F, ...")

    return WorkloadFile


def cascade_from(document: Document) -> Cascade:
    """Turn a YAML document into a Cascade."""
    data = validate(document, cascade_model(), CascadeError).model_dump()
    line, indent = block_place(document, "cascade")
    text = data["cascade"].strip()
    if text and not any(text in one for one in document.lines) and "\n" not in text:
        hint = "write 'cascade: |' and the Einsums below it, one a line"
        raise CascadeError(
            document.problem(("cascade",), "YAML joins the lines of this text into one", hint)
        )
    check_sizes(document, data["sizes"])
    cascade = parse(
        data["cascade"],
        data["name"],
        file=document.file,
        first_line=line,
        indent=indent,
        sizes=data["sizes"],
        description=data["description"],
        paper=data["source"],
    )
    unknown = [rank for rank in data["sizes"] if rank not in cascade.ranks]
    if unknown:
        raise CascadeError(
            document.problem(
                ("sizes", rank),
                f"{cascade.name} has no rank '{rank}'",
                legal_words(rank, cascade.ranks, "ranks"),
                at_key=True,
            )
            for rank in unknown
        )
    return cascade


def check_sizes(document: Document, sizes: Mapping[str, int]) -> None:
    """Check sizes of a file; CascadeError unless every one is positive and of a rank."""
    problems = [
        document.problem(
            ("sizes", rank),
            f"{rank}: {size} is not a positive size of a rank",
            "sizes read: M0: 256, one for each rank, which starts with a capital",
        )
        for rank, size in sizes.items()
        if size < 1 or not rank[:1].isupper()
    ]
    if problems:
        raise CascadeError(problems)


def workload_document(name: str) -> Document:
    """Read the YAML of a model by shipped name or path."""
    where = folder("einsum_cascade.workloads", "models", CascadeError)
    return read_document(find(name, where, "model", CascadeError), CascadeError)


def workload_from_document(document: Document, sizes: Mapping[str, int]) -> Workload:
    """Turn a YAML document into a Workload, with sizes added or replaced."""
    data = validate(document, workload_model(), CascadeError).model_dump()
    check_sizes(document, data["sizes"])
    return workload_from(data["name"], {**data["sizes"], **sizes}, data["title"] or data["name"])


def workload(model: str | None = None, **sizes: int) -> Workload:
    """Return the sizes of a model (shipped name or path), with further or other sizes.

    Without a model every size is given: `workload(M=8, P=4, E=4, F=4)`.

    Example:
        >>> workload("bert", M=4096, P=4096).size("H")
        12
    """
    if model is None:
        return workload_from("custom", sizes, "custom")
    return workload_from_document(workload_document(model), sizes)
