"""Architectures: arrays of PEs, a tree of memories, a clock, and what each operator costs.

A file says every value with its unit, source and status; the `Architecture` made from it holds
plain numbers in base units (bytes, hertz, nanoseconds, bits). An array is two-dimensional (`rows`
and `cols`) or a line of `lanes`. Its operator table says which unit of a PE executes an operator,
for how many issue slots, with which latency, and which energy actions that causes; exp as six
multiply-accumulates and exp as a pipelined unit are two different rows.

Decision: `count` of arrays and a tree of memories are in the schema from the start, although what
uses more than one array of a name, or more than one level on chip, is refused where it matters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsim.errors import ArchError
from archsim.quantities import parse_exact, parse_quantity
from einsum_cascade.catalog import find, listing
from einsum_cascade.documents import Document, read_document, validate
from einsum_cascade.errors import Problem, Source, legal_words

if TYPE_CHECKING:
    from pydantic import BaseModel


@dataclass(frozen=True, slots=True)
class OperatorCost:
    """What one application of an operator costs a PE."""

    operator: str
    unit: str
    # Issue slots it occupies, and cycles until its result may be used.
    slots: int
    latency_cycles: int
    # Energy actions, for example mac: 6 for an exp made of multiply-accumulates.
    actions: tuple[tuple[str, int], ...]
    # How exp is computed: a unit of einsum_cascade.exp_units, "" for the one its slots suggest.
    method: str = ""


@dataclass(frozen=True, slots=True)
class Array:
    """An array of PEs. A line of lanes has one row; `axes` names what a mapping may fill."""

    name: str
    count: int
    axes: tuple[tuple[str, int], ...]
    operators: tuple[OperatorCost, ...]
    register_entries: int
    register_bits: int
    # Energy of one access to the register file of a PE.
    register_read_pj: float
    register_write_pj: float
    # Entries, in each lane, of the FIFO where words from the array land, and of the one at the top
    # of a column where words that the lanes return wait for the array. Nothing stops a full one:
    # a program that overflows it is refused.
    landing_entries: int = 64
    return_entries: int = 8
    # What its multipliers take: "bf16" (exact products) or "fp32" (rounded ones).
    multiplier: str = "fp32"
    _hash: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Hash everything once: what is known of arrays is looked up for every point."""
        compared = tuple(getattr(self, one.name) for one in fields(self) if one.compare)
        object.__setattr__(self, "_hash", hash(compared))

    def __hash__(self) -> int:
        """Hash as computed once."""
        return self._hash

    @property
    def pes(self) -> int:
        """Number of PEs in one array."""
        total = 1
        for _, size in self.axes:
            total *= size
        return total

    def cost(self, operator: str) -> OperatorCost | None:
        """The row of an operator, or None if the array cannot execute it."""
        return next((row for row in self.operators if row.operator == operator), None)


@dataclass(frozen=True, slots=True)
class Memory:
    """A memory; its parent is the one it is filled from, None for the outermost."""

    name: str
    parent: str | None
    capacity_bytes: int | None
    bandwidth_bytes_per_s: int | None
    latency_ns: int
    # Bits that one access moves, and how many accesses a cycle are possible.
    width_bits: int
    ports: int
    banks: int


@dataclass(frozen=True, slots=True)
class Latency:
    """Latencies beyond those of the operators' rows, in cycles; see docs/schedule.md.

    `accumulate` is the loop of an accumulator: from one addition into it to the next. `row_hop` is
    what a value takes from a PE to the one below, and no less than any operator that passes a value
    down. `return_registers` lie between a lane and the top edge.
    """

    accumulate: int = 1
    row_hop: int = 1
    return_registers: int = 1


@dataclass(frozen=True, slots=True)
class Architecture:
    """The hardware: nothing in it depends on a cascade."""

    name: str
    clock_hz: int
    word_bits: int
    arrays: tuple[Array, ...]
    memories: tuple[Memory, ...]
    # Energy reference table: pJ of an action. Area reference table: um^2 of an instance.
    energy_pj: tuple[tuple[str, float], ...]
    area_um2: tuple[tuple[str, float], ...]
    latency: Latency = field(default_factory=Latency)
    description: str = field(default="", compare=False)
    document: Document | None = field(default=None, compare=False, repr=False)
    # The arrays without the sizes of their axes, on which an outline does not depend.
    arrays_of_any_size: tuple[Array, ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Take the sizes away once."""
        arrays = tuple(
            replace(array, axes=tuple((axis, 1) for axis, _ in array.axes)) for array in self.arrays
        )
        object.__setattr__(self, "arrays_of_any_size", arrays)

    def array(self, name: str) -> Array | None:
        """Return an array by name."""
        return next((array for array in self.arrays if array.name == name), None)

    @property
    def outer(self) -> Memory:
        """The memory outside the chip: the root of the tree."""
        return next(memory for memory in self.memories if memory.parent is None)

    @property
    def buffer(self) -> Memory | None:
        """The on-chip memory that the outer one fills; None if there is none."""
        found = [memory for memory in self.memories if memory.parent == self.outer.name]
        return found[0] if found else None

    def place(self, *path: str | int) -> Source:
        """Where a value stands in the file."""
        return self.document.place(*path) if self.document else Source(self.name)

    def __str__(self) -> str:
        """Print as an indented tree."""
        lines = [f"{self.name}: {self.clock_hz / 1e6:g} MHz, {self.word_bits}-bit words"]
        for memory in self.memories:
            depth = "  " if memory.parent is None else "    "
            size = f" {memory.capacity_bytes / 2**20:g} MiB" if memory.capacity_bytes else ""
            rate = memory.bandwidth_bytes_per_s
            speed = f" {rate / 2**30:g} GiB/s" if rate else ""
            lines.append(
                f"{depth}{memory.name}{size}{speed}, {memory.width_bits} bit x {memory.ports}"
            )
        for array in self.arrays:
            size = " x ".join(f"{extent} {axis}" for axis, extent in array.axes)
            lines.append(
                f"      {array.name}: {size}; "
                + ", ".join(f"{row.operator} {row.slots}" for row in array.operators)
            )
        return "\n".join(lines)


@cache
def architecture_model() -> type[BaseModel]:
    """Return the pydantic model of an architecture file."""
    from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

    class Value(BaseModel):
        """A value with its source and status; a bare value is taken as assumed."""

        model_config = ConfigDict(extra="forbid")
        value: int | float | str
        source: str = ""
        status: str = Field(default="assumed", pattern="^(published|derived|fitted|assumed)$")
        note: str = ""

        @model_validator(mode="before")
        @classmethod
        def bare(cls, given: object) -> object:
            return given if isinstance(given, dict) else {"value": given}

    class Count(Value):
        @field_validator("value")
        @classmethod
        def whole(cls, given: object) -> int:
            if isinstance(given, bool) or not isinstance(given, int) or given < 1:
                raise ValueError("a positive whole number is due here")
            return given

    def unit_of(dimension: str) -> type[Value]:
        class Sized(Value):
            @field_validator("value")
            @classmethod
            def unit(cls, given: object) -> int:
                return parse_quantity(given, dimension)

        Sized.__name__ = dimension.title().replace("/", "Per")
        return Sized

    def real_of(dimension: str) -> type[Value]:
        class Measured(Value):
            @field_validator("value")
            @classmethod
            def unit(cls, given: object) -> float:
                return float(parse_exact(given, dimension))

        Measured.__name__ = dimension.title().replace(" ", "")
        return Measured

    picojoules: Any = real_of("picojoules")
    square_micrometres: Any = real_of("square micrometres")
    size: Any = unit_of("bytes")
    rate: Any = unit_of("bytes/s")
    bits: Any = unit_of("bits")
    hertz: Any = unit_of("hertz")
    nanoseconds: Any = unit_of("nanoseconds")

    class OperatorRow(BaseModel):
        """How a PE executes an operator."""

        model_config = ConfigDict(extra="forbid", strict=True)
        unit: str
        slots: int = Field(default=1, ge=1, description="issue slots")
        latency: int = Field(default=1, ge=1, description="cycles until the result is ready")
        actions: dict[str, int] = Field(description="energy actions of one application")
        method: str = Field(default="", description="exp unit: poly3 ... poly7, chord8, fixed, ...")
        source: str = ""
        status: str = Field(default="assumed", pattern="^(published|derived|fitted|assumed)$")

    class Registers(BaseModel):
        """The register file of one PE."""

        model_config = ConfigDict(extra="forbid")
        entries: Count
        width: bits
        read: picojoules = picojoules(value="0 pJ")
        write: picojoules = picojoules(value="0 pJ")

    class ArrayFile(BaseModel):
        """An array of PEs: rows and cols, or lanes."""

        model_config = ConfigDict(extra="forbid")
        count: Count = Count(value=1)
        rows: Count | None = None
        cols: Count | None = None
        lanes: Count | None = None
        registers: Registers | None = None
        multiplier: str = Field(default="fp32", pattern="^(bf16|fp32)$")
        landing: Count = Field(
            default=Count(value=64), description="entries a lane, from the array"
        )
        returns: Count = Field(default=Count(value=8), description="entries a column, from lanes")
        operators: dict[str, OperatorRow]

        @model_validator(mode="after")
        def shape(self) -> ArrayFile:
            if (self.lanes is None) == (self.rows is None or self.cols is None):
                raise ValueError("an array has rows and cols, or lanes")
            return self

    class MemoryFile(BaseModel):
        """A memory; `parent` is the one it is filled from."""

        model_config = ConfigDict(extra="forbid")
        parent: str | None = None
        capacity: size | None = None
        bandwidth: rate | None = None
        latency: nanoseconds = nanoseconds(value="0 ns")
        width: bits
        ports: Count = Count(value=1)
        banks: Count = Count(value=1)

    class Cycles(Value):
        @field_validator("value")
        @classmethod
        def whole(cls, given: object) -> int:
            if isinstance(given, bool) or not isinstance(given, int) or given < 0:
                raise ValueError("a whole number of cycles is due here")
            return given

    class LatencyFile(BaseModel):
        """Latencies in cycles beyond those of the operators."""

        model_config = ConfigDict(extra="forbid")
        accumulate: Count = Field(
            default=Count(value=1), description="from one addition into an accumulator to the next"
        )
        row_hop: Count = Field(default=Count(value=1), description="from a PE to the one below")
        return_registers: Cycles = Field(
            default=Cycles(value=1), description="registers from a lane to the top edge"
        )

    class ArchitectureFile(BaseModel):
        """An accelerator."""

        model_config = ConfigDict(extra="forbid")
        name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
        description: str = ""
        source: str = ""
        clock: hertz
        word: bits
        latency: LatencyFile = Field(default_factory=LatencyFile)
        arrays: dict[str, ArrayFile]
        memories: dict[str, MemoryFile]
        energy: dict[str, picojoules] = Field(
            default_factory=dict,
            description="pJ of each action, of a hop between PEs (none: 0) and of a DRAM access",
        )
        area: dict[str, square_micrometres] = Field(
            default_factory=dict, description="um2 of each unit of a PE, and of registers"
        )

    return ArchitectureFile


def with_shape(architecture: Architecture, rows: int | None, cols: int | None) -> Architecture:
    """The same architecture with another number of rows, or of columns and lanes."""
    sizes = {"rows": rows, "cols": cols, "lanes": cols}
    arrays = tuple(
        replace(array, axes=tuple((axis, sizes[axis] or size) for axis, size in array.axes))
        for array in architecture.arrays
    )
    return replace(architecture, arrays=arrays)


def architectures_folder() -> Path:
    """Return the folder of shipped architectures."""
    return Path(str(resources.files("archsim"))) / "architectures"


def names() -> list[str]:
    """Return the shipped architectures."""
    return listing(architectures_folder())


def load_architecture(name: str | Architecture) -> Architecture:
    """Read an architecture by shipped name or path; one that is given is returned as it is.

    Raises:
        ArchError: with file, line and column for every mistake in the file.
    """
    if isinstance(name, Architecture):
        return name
    path = find(str(name), architectures_folder(), "architecture", ArchError)
    return architecture_from(read_document(path, ArchError))


def architecture_from(document: Document) -> Architecture:
    """Turn a YAML document into an Architecture."""
    data = validate(document, architecture_model(), ArchError).model_dump()
    problems: list[Problem] = []

    def number(entry: Mapping[str, Any] | None, default: int = 0) -> int:
        return default if entry is None else int(entry["value"])

    memories = tuple(
        Memory(
            name,
            entry["parent"],
            number(entry["capacity"]) or None,
            number(entry["bandwidth"]) or None,
            number(entry["latency"]),
            number(entry["width"]),
            number(entry["ports"]),
            number(entry["banks"]),
        )
        for name, entry in data["memories"].items()
    )
    for memory in memories:
        if memory.parent is not None and memory.parent not in data["memories"]:
            hint = legal_words(memory.parent, data["memories"], "memories")
            at = ("memories", memory.name, "parent")
            problems.append(document.problem(at, f"unknown memory '{memory.parent}'", hint))
    roots = [memory for memory in memories if memory.parent is None]
    if len(roots) != 1 or roots[0].bandwidth_bytes_per_s is None:
        what = "exactly one memory has no parent, and it needs a bandwidth"
        problems.append(document.problem(("memories",), what, "dram: {bandwidth: 400 GiB/s, ...}"))
    arrays = tuple(_array(name, entry, number) for name, entry in data["arrays"].items())
    if problems:
        raise ArchError(problems)
    return Architecture(
        data["name"],
        number(data["clock"]),
        number(data["word"]),
        arrays,
        memories,
        tuple((name, entry["value"]) for name, entry in data["energy"].items()),
        tuple((name, entry["value"]) for name, entry in data["area"].items()),
        Latency(**{name: int(entry["value"]) for name, entry in data["latency"].items()}),
        data["description"],
        document,
    )


def _array(name: str, entry: Mapping[str, Any], number: Callable[..., int]) -> Array:
    axes = [(axis, number(entry[axis])) for axis in ("rows", "cols", "lanes") if entry[axis]]
    registers = entry["registers"] or {}
    return Array(
        name,
        number(entry["count"]),
        tuple(axes),
        tuple(
            OperatorCost(
                operator,
                row["unit"],
                row["slots"],
                row["latency"],
                tuple(row["actions"].items()),
                row["method"],
            )
            for operator, row in entry["operators"].items()
        ),
        number(registers.get("entries")),
        number(registers.get("width")),
        float(registers["read"]["value"]) if registers else 0.0,
        float(registers["write"]["value"]) if registers else 0.0,
        number(entry["landing"]),
        number(entry["returns"]),
        entry["multiplier"],
    )
