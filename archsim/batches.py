"""Many design points at once: what points have in common is worked out once.

Points of one *family* differ in nothing but the speed of the outer memory and the clock: they have
one Program, one walk through its tiles, and the same actions and energy; only times differ. Points
are evaluated family by family, whatever their order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from archsim.arch import Architecture, load_architecture
from archsim.errors import ArchError
from archsim.mapping import Mapping as TileMapping
from archsim.mapping import load_mapping
from archsim.placement import Placed, place, placed_on
from archsim.reporting import ESTIMATES, Report, make_report
from einsum_cascade.cascade import Cascade, Workload
from einsum_cascade.catalog import load, workload_document, workload_from_document
from einsum_cascade.errors import Problem, Source, SourceError, legal_words

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from archsim.families import Simulated

LEVELS = (*ESTIMATES, "tile")


class Point(NamedTuple):
    """A design point; each but a workload's sizes may be a shipped name or a path."""

    cascade: Cascade | str
    workload: Workload | str
    architecture: Architecture | str
    mapping: TileMapping | str


def evaluate_many(
    points: Iterable[Point | tuple[Any, ...]],
    level: str = "bound",
    *,
    accounting: str = "consistent",
) -> dict[str, NDArray[Any]]:
    """Evaluate design points: arrays of what `run` reports, one element for each point.

    Args:
        points: (cascade, workload, architecture, mapping) of each, as `run` takes them.
        level: "bound", "published" or "tile".
        accounting: as in `run`.

    Returns:
        Every number of a report by its path, such as `cycles`, `latency_s`, `energy_pj.total` or
        `utilization.array_2d`; whole numbers where all points have one, else NaN where a point has
        none. `error` is why a point can't be run, or "".

    Raises:
        ArchError: an unknown level.
    """
    import numpy as np

    listed = [Point(*point) for point in points]
    found: list[Report | Exception | None] = [None] * len(listed)
    for number, result in evaluate_each(listed, level, accounting=accounting):
        found[number] = result
    rows = [_numbers(r) if isinstance(r, Report) else {} for r in found]
    columns: dict[str, NDArray[Any]] = {
        name: _column([row.get(name) for row in rows])
        for name in dict.fromkeys(name for row in rows for name in row)
    }
    columns["error"] = np.array([str(r) if isinstance(r, Exception) else "" for r in found], object)
    return columns


def evaluate_each(
    points: Sequence[Point], level: str = "bound", *, accounting: str = "consistent"
) -> Iterator[tuple[int, Report | SourceError]]:
    """Evaluate design points family by family: the number of each, and its report or error.

    Raises:
        ArchError: an unknown level.
    """
    if level not in LEVELS:
        hint = legal_words(level, LEVELS, "levels of many points")
        raise ArchError(Problem(Source("level"), f"unknown level '{level}'", hint=hint))
    resolve = _Resolver()
    families: dict[Any, list[tuple[int, Point]]] = {}
    for number, point in enumerate(points):
        try:
            whole = resolve(point)
        except SourceError as error:
            yield number, error
            continue
        families.setdefault(resolve.key(whole), []).append((number, whole))
    for members in families.values():
        family = _Family()
        for number, point in members:
            try:
                yield number, _evaluate(family, point, level, accounting)
            except SourceError as error:
                yield number, error


class _Resolver:
    """Names to what they name, each loaded once; and what points of a family share."""

    def __init__(self) -> None:
        self.cascade = cache(load)
        self.architecture = cache(load_architecture)
        self.mapping = cache(load_mapping)
        self.workload = cache(lambda name: workload_from_document(workload_document(name), {}))
        # Objects are told apart by identity, which is cheap; equal ones get one number.
        self.numbers: dict[int, tuple[Any, int]] = {}
        self.equal: dict[Any, int] = {}

    def __call__(self, point: Point) -> Point:
        """A point with objects for names."""
        cascade, workload, architecture, mapping = point
        return Point(
            self.cascade(cascade) if isinstance(cascade, str) else cascade,
            self.workload(workload) if isinstance(workload, str) else workload,
            self.architecture(architecture) if isinstance(architecture, str) else architecture,
            self.mapping(mapping) if isinstance(mapping, str) else mapping,
        )

    def key(self, point: Point) -> tuple[Any, ...]:
        """What points of a family have in common."""
        cascade, workload, architecture, mapping = point
        assert isinstance(architecture, Architecture)
        return (
            self.number(cascade),
            workload,
            self.number(architecture, without_speed),
            self.number(mapping),
        )

    def number(self, thing: Any, essence: Any = lambda thing: thing) -> int:
        """A number that equal things share; each object is hashed once."""
        if id(thing) not in self.numbers:
            number = self.equal.setdefault(essence(thing), len(self.equal))
            self.numbers[id(thing)] = thing, number
        return self.numbers[id(thing)][1]


def without_speed(architecture: Architecture) -> Architecture:
    """An architecture with a memory and a clock of no particular speed."""
    memories = tuple(
        memory if memory.parent else replace(memory, bandwidth_bytes_per_s=1, latency_ns=0)
        for memory in architecture.memories
    )
    return replace(architecture, memories=memories, clock_hz=1)


@dataclass
class _Family:
    """What points of a family have in common, once the first of them has been run."""

    placed: Placed | None = None
    simulated: Simulated | None = None


def _evaluate(family: _Family, point: Point, level: str, accounting: str) -> Report:
    cascade, workload, architecture, mapping = point
    assert isinstance(cascade, Cascade)
    assert isinstance(workload, Workload)
    assert isinstance(architecture, Architecture)
    assert isinstance(mapping, TileMapping)
    if family.placed is None:
        double = level != "published"
        family.placed = place(cascade, workload, architecture, mapping, double_buffer=double)
    placed = placed_on(family.placed, architecture)
    if level in ESTIMATES:
        return make_report(placed, level, accounting)
    if family.simulated is None:
        from archsim.families import Simulated

        family.simulated = Simulated(placed)
    return family.simulated.report(placed, level, accounting)


def leaves(table: Mapping[str, Any]) -> dict[str, Any]:
    """Values of nested tables by their path."""
    found: dict[str, Any] = {}

    def walk(part: Mapping[str, Any], path: str) -> None:
        for name, value in part.items():
            if isinstance(value, dict):
                walk(value, f"{path}{name}.")
            else:
                found[path + name] = value

    walk(table, "")
    return found


def _numbers(report: Report) -> dict[str, float]:
    """Numbers of a report by their path."""
    found = leaves(report.as_dict())
    return {path: value for path, value in found.items() if isinstance(value, int | float)}


def _column(values: Sequence[float | None]) -> NDArray[Any]:
    """An array of numbers; whole ones stay whole where none is missing and all fit 64 bit."""
    import numpy as np

    if all(isinstance(value, int) and abs(value) < 1 << 63 for value in values):
        return np.array(values, np.int64)
    return np.array([np.nan if value is None else value for value in values], np.float64)


__all__ = ["Point", "evaluate_each", "evaluate_many", "leaves", "without_speed"]
