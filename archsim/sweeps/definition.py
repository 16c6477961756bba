"""A sweep: the space of design points that a YAML file describes, and what to look for in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from archsim.errors import ArchError
from archsim.sweeps.axes import (
    LARGEST_GRID,
    Axis,
    Value,
    assignment,
    combinations,
    count,
    read_axes,
)
from archsim.sweeps.fronts import Constraint, read_constraint
from archsim.sweeps.schema import OBJECTIVES, WORDS, sweep_model
from einsum_cascade.catalog import find, listing
from einsum_cascade.documents import Document, read_document, validate
from einsum_cascade.errors import Problem

# What a point is made of, by name or path.
KINDS = ("cascade", "model", "arch", "mapping")


@dataclass(frozen=True)
class Sampler:
    """An optimizer that chooses points, a batch at a time."""

    method: str
    points: int
    batch: int
    seed: int


@dataclass(frozen=True)
class Sweep:
    """A space of design points."""

    name: str
    axes: tuple[Axis, ...]
    # Values by path that all points have: cascade, sizes.M, neighborhood.shape, ...
    fixed: tuple[tuple[str, Value], ...]
    level: str
    accounting: str
    sampler: Sampler | None
    # Paths of numbers in a report, each "min" or "max".
    objectives: tuple[tuple[str, str], ...]
    constraints: tuple[Constraint, ...]
    description: str
    document: Document

    @property
    def points(self) -> int:
        """How many points are evaluated."""
        return self.sampler.points if self.sampler else count(self.axes)

    @property
    def varied(self) -> tuple[str, ...]:
        """The paths that have an axis."""
        return tuple(path for axis in self.axes for path in axis.paths)

    def at(self, chosen: tuple[int, ...]) -> dict[str, Value]:
        """All values of a point, by path."""
        return {**dict(self.fixed), **assignment(self.axes, chosen)}

    def grid(self) -> Iterator[tuple[int, ...]]:
        """Every point, as an index into each axis."""
        return combinations(self.axes)

    def __str__(self) -> str:
        """Print the space as a table of axes."""
        lines = [f"{self.name}: {self.points:,} points at level {self.level}"]
        for axis in self.axes:
            shown = [", ".join(map(str, value)) for value in axis.values]
            text = " | ".join(shown if len(shown) <= 8 else [*shown[:4], "...", *shown[-2:]])
            lines.append(f"  {', '.join(axis.paths):32} {text}")
        return "\n".join(lines)


def sweeps_folder() -> Path:
    """Return the folder of shipped sweeps."""
    return Path(str(resources.files("einsum_cascade.workloads"))) / "sweeps"


def names() -> list[str]:
    """Return the shipped sweeps."""
    return listing(sweeps_folder())


def load_sweep(name: str | Sweep) -> Sweep:
    """Read a sweep by shipped name or path; one that is given is returned as it is.

    Raises:
        ArchError: with file, line and column for every mistake in the file.
    """
    if isinstance(name, Sweep):
        return name
    path = find(str(name), sweeps_folder(), "sweep", ArchError)
    return sweep_from(read_document(path, ArchError))


def sweep_from(document: Document) -> Sweep:
    """Turn a YAML document into a Sweep."""
    data = validate(document, sweep_model(), ArchError).model_dump()
    problems = list(_missing(document, data))
    constraints = []
    for index, text in enumerate(data["constraints"]):
        try:
            constraints.append(read_constraint(text))
        except ValueError as error:
            problems.append(document.problem(("constraints", index), str(error), _LIMIT))
    if problems:
        raise ArchError(problems)
    names = {kind: data[kind] for kind in KINDS if isinstance(data[kind], list)}
    axes = read_axes(document, names, data["over"])
    sampler = Sampler(**data["sampler"]) if data["sampler"] else None
    objectives = data["objectives"]
    if objectives is None:
        objectives = WORDS if data["level"] == "passes" else OBJECTIVES
    sweep = Sweep(
        data["name"],
        axes,
        tuple(_fixed(data).items()),
        data["level"],
        data["accounting"],
        sampler,
        tuple(objectives.items()),
        tuple(constraints),
        data["description"],
        document,
    )
    if sampler is None and sweep.points > LARGEST_GRID:
        what = f"{sweep.points:,} points are too many to try all"
        hint = "let an optimizer choose: sampler: {method: nsga2, points: 1000}"
        raise ArchError(document.problem(("over",), what, hint, at_key=True))
    if not sweep.objectives:
        hint = "for example objectives: {latency_s: min, energy_pj.total: min}"
        raise ArchError(document.problem(("objectives",), "a sweep needs an objective", hint))
    return sweep


_LIMIT = "write a number of the report and its limit: area_um2.total <= 1.3e9"


def _missing(document: Document, data: dict[str, Any]) -> Iterator[Problem]:
    """What no point can do without; a neighbourhood brings cascade and mapping."""
    varied = {path.strip() for key in data["over"] for path in key.split(",")}
    needed = ["arch"] if data["neighborhood"] else ["cascade", "arch", "mapping"]
    if data["level"] == "passes":
        needed = ["cascade", "arch"]
    for kind in needed:
        if data[kind] is None and kind not in varied:
            hint = "a name, a path, a list of them, or an axis: see `archsim list`"
            yield document.problem((), f"the key '{kind}' is missing", hint)
        if data[kind] == []:
            yield document.problem((kind,), f"{kind} lists nothing", "give one or more names")
    for kind in KINDS:
        if data[kind] is not None and kind in varied:
            what = f"{kind} is given twice: here and under 'over'"
            yield document.problem((kind,), what, "give it once", at_key=True)


def _fixed(data: dict[str, Any]) -> dict[str, Value]:
    """Values by path that all points have."""
    found = {kind: data[kind] for kind in KINDS if isinstance(data[kind], str)}
    for part in ("sizes", "neighborhood", "numbers"):
        for name, value in (data[part] or {}).items():
            if value is not None:
                found[f"{part}.{name}"] = value
    return found
