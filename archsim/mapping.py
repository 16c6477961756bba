"""Mappings: how a cascade sits on an architecture, without a single hardware number.

A mapping splits ranks into tiles, orders the loops over tiles, places every Einsum on an array
with the variables that its axes unroll, and says what the buffer holds of each tensor. It may list
phases (groups of Einsums between which tensors travel through the outer memory), tables of choices
that an external search made, and the closed form that a paper publishes for it.
The order in which each unit
issues its tasks, with lags (`issue`), is what a simulation adds; without it a mapping can be
bounded, not run.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any

from archsim.errors import ArchError
from archsim.formulas import read_formula
from archsim.issue import Body, read_entry
from archsim.mapping_schema import mapping_model
from archsim.quantities import parse_quantity
from einsum_cascade.catalog import find, folder, listing
from einsum_cascade.documents import Document, read_document, validate
from einsum_cascade.errors import CascadeError, Problem, Source
from einsum_cascade.expressions import Expr

# Tile size "fit": the largest divisor with which everything held fits the buffer.
FIT = "fit"


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an Einsum runs: an array and, per axis, the variables unrolled over it.

    `array` None means at load: the values change on their way in, for no slots. `pipelined` lists
    groups of operators that issue as one.
    """

    array: str | None
    axes: tuple[tuple[str, tuple[str, ...]], ...]
    pipelined: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Choices:
    """Rows of parameters found by somebody's search; the first two columns are the keys E and M."""

    columns: tuple[str, ...]
    rows: tuple[tuple[float, ...], ...]
    source: str


@dataclass(frozen=True, slots=True)
class Defect:
    """Where a paper's energy accounting departs from what is right; kept to match its totals.

    Formulas are per head; `from_keys` is the number of keys M from which it shows.
    """

    what: str
    omits: tuple[str, ...]
    energy_pj: Expr | None
    buffer_reads: Expr | None
    from_keys: int
    status: str


@dataclass(frozen=True, slots=True)
class PublishedForm:
    """A paper's closed form: cycles of each phase, and traffic in words where it is special.

    `cycles` are formulas over the cycles of Einsums in one phase each; `read` and `write` are
    formulas over ranks, tiles and choices, per tensor, for one head.
    """

    cycles: tuple[Expr, ...]
    read: tuple[tuple[str, Expr], ...]
    write: tuple[tuple[str, Expr], ...]
    source: str
    defects: tuple[Defect, ...] = ()


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a phase differs from the rest of its mapping; None: it does not.

    The fields are those of `Mapping`.
    """

    partitions: tuple[tuple[str, tuple[str, ...]], ...] | None = None
    tiles: tuple[tuple[str, Expr | str], ...] | None = None
    loops: tuple[str, ...] | None = None
    held: tuple[tuple[str, tuple[str, ...]], ...] | None = None
    double_buffered: tuple[str, ...] | None = None
    order: tuple[Body, ...] | None = None
    drain: str | None = None


@dataclass(frozen=True, slots=True)
class Mapping:
    """How a cascade sits on an architecture."""

    name: str
    # Splits beyond the cascade's own, outermost part first.
    partitions: tuple[tuple[str, tuple[str, ...]], ...]
    # Size of a tile: a formula over sizes, choices, ROWS, COLS and LANES, or FIT.
    tiles: tuple[tuple[str, Expr | str], ...]
    loops: tuple[str, ...]
    placements: tuple[tuple[str, Placement], ...]
    # What the buffer holds of each tensor, by variables.
    held: tuple[tuple[str, tuple[str, ...]], ...]
    # Further tensors that pass through the buffer, and Einsums that take a tensor of the buffer
    # directly from where it is made.
    passing: tuple[str, ...]
    forwarded: tuple[tuple[str, tuple[str, ...]], ...]
    # Tensors of which the buffer holds two tiles, one in use and one on its way.
    double_buffered: tuple[str, ...]
    limit_bytes: int | None
    phases: tuple[tuple[str, ...], ...]
    # Tensors that pass through the outer memory although one phase makes and reads them.
    spilled: tuple[tuple[str, Expr], ...]
    refetch: tuple[tuple[str, Expr], ...]
    choices: Choices | None
    published: PublishedForm | None
    # What each array issues, and where the pipeline runs empty: "never", or after each "head".
    order: tuple[Body, ...] = ()
    drain: str = "never"
    # Name or path of the cascade whose Einsums are placed; those that equal it up to names are
    # recognised.
    cascade: str | None = None
    # One for each phase, unless no phase differs from the others.
    layouts: tuple[Layout, ...] = ()
    description: str = field(default="", compare=False)
    document: Document | None = field(default=None, compare=False, repr=False)
    # Of the mapping of one phase: keys that stand in the file under that phase, and where.
    moved: tuple[tuple[str, tuple[str | int, ...]], ...] = field(default=(), compare=False)
    _hash: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Hash everything once: what a mapping makes of a cascade is looked up for every point."""
        compared = tuple(getattr(self, one.name) for one in fields(self) if one.compare)
        object.__setattr__(self, "_hash", hash(compared))

    def __hash__(self) -> int:
        """Hash as computed once."""
        return self._hash

    @property
    def is_ordered(self) -> bool:
        """True if it says an order of issue, so that it can be simulated."""
        return bool(self.order) or any(layout.order for layout in self.layouts)

    @property
    def parts(self) -> set[str]:
        """Parts of ranks that it splits, in any of its phases."""
        splits = [*self.partitions]
        for layout in self.layouts:
            splits += layout.partitions or ()
        return {part for _, split in splits for part in split}

    def place(self, *path: str | int) -> Source:
        """Where a value stands in the file."""
        if self.document is None:
            return Source(self.name)
        return self.document.place(*self._within(path))

    def _within(self, path: tuple[str | int, ...]) -> tuple[str | int, ...]:
        return (*dict(self.moved).get(str(path[0]), ()), *path) if path else path

    def problem(self, path: tuple[str | int, ...], message: str, hint: str = "") -> Problem:
        """Make a Problem at a value of the file."""
        if self.document is None:
            return Problem(Source(self.name), message, hint=hint)
        return self.document.problem(self._within(path), message, hint)

    def __str__(self) -> str:
        """Print as a table of placements with the tiling above it."""
        lines = [f"{self.name}: " + ", ".join(f"{r} = {'*'.join(p)}" for r, p in self.partitions)]
        lines.append("  loops " + " > ".join(self.loops) if self.loops else "  no loops")
        for name, where in self.placements:
            axes = ", ".join(f"{axis}: {'*'.join(v)}" for axis, v in where.axes)
            lines.append(f"  {name:6} {where.array or 'at load':10} {axes}")
        return "\n".join(lines)


def mappings_folder() -> Path:
    """Return the folder of shipped mappings."""
    return Path(str(resources.files("archsim.mappings")))


def names() -> list[str]:
    """Return the shipped mappings."""
    return listing(mappings_folder())


def load_mapping(name: str | Mapping) -> Mapping:
    """Read a mapping by shipped name or path; one that is given is returned as it is.

    Raises:
        ArchError: with file, line and column for every mistake in the file.
    """
    if isinstance(name, Mapping):
        return name
    path = find(str(name), mappings_folder(), "mapping", ArchError)
    return mapping_from(read_document(path, ArchError))


def mapping_from(document: Document) -> Mapping:
    """Turn a YAML document into a Mapping."""
    data = validate(document, mapping_model(), ArchError).model_dump()
    problems: list[Problem] = []

    def formula(text: object, *path: str | int) -> Expr:
        return read_formula(str(text), document.place(*path))

    def formulas(entries: dict[str, Any], *path: str) -> tuple[tuple[str, Expr], ...]:
        return tuple((name, formula(text, *path, name)) for name, text in entries.items())

    limit = None
    if data["buffer_limit"]:
        try:
            limit = parse_quantity(data["buffer_limit"]["value"], "bytes")
        except ValueError as error:
            problems.append(document.problem(("buffer_limit", "value"), str(error)))
    partitions = _partitions(document, data["partition"], problems)
    order = read_order(document, data["order"], problems)
    try:
        cascade = cascade_file(document)
    except ArchError as error:
        problems += error.problems
    layouts = [_layout(document, entry, i, problems) for i, entry in enumerate(data["phases"])]
    if problems:
        raise ArchError(problems)
    published = data["published"]
    form = None
    if published is not None:
        cycles = published["cycles"]
        listed = [cycles] if isinstance(cycles, str) else cycles
        traffic = published["traffic"] or {"read": {}, "write": {}}
        form = PublishedForm(
            tuple(formula(text, "published", "cycles") for text in listed),
            formulas(traffic["read"], "published", "traffic", "read"),
            formulas(traffic["write"], "published", "traffic", "write"),
            published["source"],
            tuple(
                Defect(
                    entry["what"],
                    tuple(entry["omits"]),
                    formula(entry["energy_pj"], "published", "energy_defects", i)
                    if entry["energy_pj"]
                    else None,
                    formula(entry["buffer_reads"], "published", "energy_defects", i)
                    if entry["buffer_reads"]
                    else None,
                    entry["from_keys"],
                    entry["status"],
                )
                for i, entry in enumerate(published["energy_defects"])
            ),
        )
        if len(listed) != max(1, len(data["phases"])):
            what = f"{len(listed)} formulas for {max(1, len(data['phases']))} phases"
            raise ArchError(document.problem(("published", "cycles"), what))
    choices = data["choices"]
    return Mapping(
        data["name"],
        partitions,
        _tiles(document, data["tiles"]),
        tuple(data["loops"]),
        tuple((name, _placement(entry)) for name, entry in data["placement"].items()),
        _held(data["buffer"]),
        tuple(data["passing"]),
        tuple((name, tuple(readers)) for name, readers in data["forwarded"].items()),
        tuple(data["double_buffered"]),
        limit,
        tuple(tuple(phase["einsums"]) for phase in data["phases"]),
        formulas(data["spilled"], "spilled"),
        formulas(data["refetch"], "refetch"),
        Choices(
            tuple(choices["columns"]),
            tuple(tuple(row) for row in choices["rows"]),
            choices["source"],
        )
        if choices
        else None,
        form,
        order,
        data["drain"],
        str(cascade) if cascade is not None else None,
        tuple(layouts) if any(layout != Layout() for layout in layouts) else (),
        data["description"],
        document,
    )


def cascade_file(document: Document) -> Path | None:
    """The file of the cascade that a mapping speaks of: a shipped name, or a path from the mapping.

    Raises:
        ArchError: there is no such cascade; at its place in the mapping.
    """
    name = document.data.get("cascade")
    if not isinstance(name, str):
        return None
    beside = Path(document.file).parent / name
    if beside.suffix in (".yaml", ".yml") and beside.is_file():
        return beside
    shipped = folder("einsum_cascade.workloads", "cascades", CascadeError)
    try:
        return find(name, shipped, "cascade", ArchError)
    except ArchError as error:
        (problem,) = error.problems
        hint = problem.hint
        if beside.with_name(f"{name}.yaml").is_file():
            hint = f"to take the file beside it write {name}.yaml"
        raise ArchError(document.problem(("cascade",), problem.message, hint)) from None


def _partitions(
    document: Document,
    entries: dict[str, Any],
    problems: list[Problem],
    *inside: str | int,
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    partitions = []
    for rank, text in entries.items():
        parts = tuple(part.strip() for part in str(text).split("*"))
        if len(parts) < 2 or not all(part[:1].isupper() and part.isalnum() for part in parts):
            problems.append(
                document.problem(
                    (*inside, "partition", rank),
                    f"'{text}' is no split of {rank}",
                    f"write {rank}: {rank}1*{rank}0",
                )
            )
        partitions.append((rank, parts))
    return tuple(partitions)


def _tiles(
    document: Document, entries: dict[str, Any], *inside: str | int
) -> tuple[tuple[str, Expr | str], ...]:
    return tuple(
        (
            rank,
            FIT if size == FIT else read_formula(str(size), document.place(*inside, "tiles", rank)),
        )
        for rank, size in entries.items()
    )


def _held(entries: dict[str, list[str]]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return tuple((name, tuple(variables)) for name, variables in entries.items())


def _layout(
    document: Document, entry: dict[str, Any], number: int, problems: list[Problem]
) -> Layout:
    """What a phase gives itself."""
    at = ("phases", number)
    given = {key: value for key, value in entry.items() if value is not None}
    return Layout(
        _partitions(document, given["partition"], problems, *at) if "partition" in given else None,
        _tiles(document, given["tiles"], *at) if "tiles" in given else None,
        tuple(given["loops"]) if "loops" in given else None,
        _held(given["buffer"]) if "buffer" in given else None,
        tuple(given["double_buffered"]) if "double_buffered" in given else None,
        read_order(document, given["order"], problems, *at) if "order" in given else None,
        given.get("drain"),
    )


def read_order(
    document: Document,
    order: dict[str, list[str]],
    problems: list[Problem],
    *inside: str | int,
) -> tuple[Body, ...]:
    """Bodies of all units from the key `order` of a file; what can't be read becomes a problem."""
    bodies = []
    for unit, lines in order.items():
        entries = []
        for i, line in enumerate(lines):
            try:
                entries.append(read_entry(line))
            except ValueError as error:
                problems.append(document.problem((*inside, "order", unit, i), str(error)))
        bodies.append(Body(unit, tuple(entries)))
    return tuple(bodies)


def _placement(entry: dict[str, Any]) -> Placement:
    axes = []
    for axis in ("rows", "cols", "lanes"):
        if entry[axis] is not None:
            given = entry[axis]
            axes.append((axis, (given,) if isinstance(given, str) else tuple(given)))
    return Placement(
        entry["array"], tuple(axes), tuple(tuple(group) for group in entry["pipelined"])
    )
