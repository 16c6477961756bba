"""The FuseMax paper's evaluation of attention, computed from cascades, mappings and hardware.

Five configurations, four models and six lengths by default; any other models and any length that
is a multiple of the tile work as well. What the paper published is read for comparison only, and
every difference becomes a deviation in the result.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from statistics import fmean
from typing import Any

from archsim.arch import Architecture, load_architecture
from archsim.errors import ArchError
from archsim.mapping import Mapping, load_mapping
from archsim.reporting import Report, run
from einsum_cascade.cascade import Cascade
from einsum_cascade.catalog import folder, load, workload_document, workload_from_document
from einsum_cascade.documents import read_document
from einsum_cascade.errors import Problem, Source

MODELS = ("bert", "trxl", "t5", "xlm")
LENGTHS = (1024, 4096, 16384, 65536, 262144, 1048576)
# Relative difference from which a point counts as a deviation from the paper's artifact.
TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Configuration:
    """One of the paper's configurations: what it calls it, and what it is made of."""

    key: str
    label: str
    cascade: str
    architecture: str
    mapping: str


CONFIGURATIONS = (
    Configuration("unfused", "Unfused", "softmax-3pass", "flat", "unfused"),
    Configuration("flat", "FLAT", "softmax-3pass", "flat", "flat"),
    Configuration("cascade", "+Cascade", "softmax-1pass", "flat", "fusemax-cascade"),
    Configuration("arch", "+Architecture", "softmax-1pass", "fusemax", "fusemax-arch"),
    Configuration("binding", "+Binding", "softmax-1pass", "fusemax", "fusemax"),
)


@dataclass(frozen=True, slots=True)
class Point:
    """One model at one length in one configuration."""

    model: str
    seq_len: int
    config: str
    latency_s: float
    traffic_bytes: int
    energy_pj: float | None
    util_1d: float
    util_2d: float
    util_2d_by_einsum: dict[str, float]
    mapping_source: str

    def as_dict(self) -> dict[str, Any]:
        """The point as plain data."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Reproduction:
    """All points, the headlines computed from them, and where they differ from the paper."""

    points: tuple[Point, ...]
    headlines: dict[str, float]
    claims: dict[str, tuple[str, float]]
    deviations: tuple[dict[str, Any], ...]
    # Number of published values compared, and the largest relative difference seen.
    compared: int
    largest: float

    def as_dict(self) -> dict[str, Any]:
        """The result as plain data, ready for JSON."""
        return {
            "points": [point.as_dict() for point in self.points],
            "end_to_end": [],
            "pareto": [],
            "headlines": self.headlines,
            "claims": {name: value for name, (_, value) in self.claims.items()},
            "deviations": list(self.deviations),
            "compared": self.compared,
            "largest_relative_difference": self.largest,
        }

    def of(self, model: str, seq_len: int) -> dict[str, Point]:
        """The points of one model at one length, by configuration."""
        return {p.config: p for p in self.points if (p.model, p.seq_len) == (model, seq_len)}

    @property
    def is_the_papers(self) -> bool:
        """True if the cases are exactly the paper's models and lengths."""
        paper = {(m, length) for m, length, _, _ in published_points()}
        names, lengths = {m for m, _ in paper}, {length for _, length in paper}
        return set(self.cases) == {(m, length) for m in names for length in lengths}

    @property
    def cases(self) -> tuple[tuple[str, int], ...]:
        """Every (model, length), in order."""
        return tuple(dict.fromkeys((point.model, point.seq_len) for point in self.points))


def reproduce_fusemax(
    models: Iterable[str] = MODELS,
    lengths: Iterable[int] = LENGTHS,
    progress: Callable[[Iterable[Any], int], Iterable[Any]] | None = None,
) -> Reproduction:
    """Compute the paper's evaluation of attention.

    Args:
        models: shipped model names or paths.
        lengths: numbers of tokens; multiples of the tile of 256.
        progress: wraps the iteration over (points, how many) to show progress.

    Raises:
        ArchError: a length is no multiple of the tile.
        CascadeError: an unknown model.
    """
    models, lengths = tuple(models), tuple(lengths)
    problems = [
        Problem(
            Source("--seq"),
            f"{length} is not a positive multiple of 256",
            hint="the closed forms hold for whole tiles; use --level bound for other lengths",
        )
        for length in lengths
        if length < 1 or length % 256
    ]
    if problems:
        raise ArchError(problems)
    documents = [workload_document(model) for model in models]
    parts = {
        c.key: (load(c.cascade), load_architecture(c.architecture), load_mapping(c.mapping))
        for c in CONFIGURATIONS
    }
    jobs = [(d, length, c) for d in documents for length in lengths for c in CONFIGURATIONS]
    points = []
    for document, length, configuration in progress(jobs, len(jobs)) if progress else jobs:
        workload = workload_from_document(document, {"M": length, "P": length})
        report = run(*_with(parts[configuration.key], workload), level="published")
        points.append(_point(workload.title, length, configuration.key, report))
    found = tuple(points)
    deviations, compared, largest = _compare(found)
    return Reproduction(found, _headlines(found), _claims(), tuple(deviations), compared, largest)


def _with(parts: tuple[Cascade, Architecture, Mapping], workload: Any) -> tuple[Any, ...]:
    cascade, architecture, mapping = parts
    return cascade, workload, architecture, mapping


def _point(model: str, length: int, config: str, report: Report) -> Point:
    return Point(
        model,
        length,
        config,
        report.latency_s,
        report.traffic_bytes["total"],
        None,
        report.utilization["array_1d"],
        report.utilization["array_2d"],
        report.utilization_by_einsum["array_2d"],
        report.mapping_source,
    )


def _headlines(points: tuple[Point, ...]) -> dict[str, float]:
    """Arithmetic means over all cases, as the paper averages."""
    latency = {(p.model, p.seq_len, p.config): p.latency_s for p in points}
    cases = list(dict.fromkeys((p.model, p.seq_len) for p in points))

    def speedup(config: str, base: str) -> float:
        return fmean(latency[(*case, base)] / latency[(*case, config)] for case in cases)

    longest = max(p.seq_len for p in points)
    full = [p for p in points if p.config == "binding"]
    return {
        "attention_speedup_vs_flat": speedup("binding", "flat"),
        "attention_speedup_vs_unfused": speedup("binding", "unfused"),
        "cascade_speedup_vs_flat": speedup("cascade", "flat"),
        "arch_speedup_vs_flat": speedup("arch", "flat"),
        "flat_speedup_vs_unfused": speedup("flat", "unfused"),
        "util_2d_mean": fmean(p.util_2d for p in full),
        "util_2d_at_longest": fmean(p.util_2d for p in full if p.seq_len == longest),
        "util_1d": fmean(p.util_1d for p in full),
    }


@cache
def published_points() -> dict[tuple[str, int, str, str], float]:
    """What the paper's artifact published, by (model, length, configuration, metric)."""
    path = folder("einsum_cascade.workloads", "papers", ArchError) / "fusemax_attention.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return {
            (row["model"], int(row["seq_len"]), row["config"], row["metric"]): float(row["value"])
            for row in csv.DictReader(file)
        }


def _claims() -> dict[str, tuple[str, float]]:
    path = folder("einsum_cascade.workloads", "papers", ArchError) / "fusemax.yaml"
    claims = read_document(path, ArchError).data["claims"]
    return {name: (claim["what"], float(claim["value"])) for name, claim in claims.items()}


def _compare(points: tuple[Point, ...]) -> tuple[list[dict[str, Any]], int, float]:
    """Differences beyond the tolerance, how many values were compared, the largest difference."""
    published = published_points()
    deviations = []
    compared, largest = 0, 0.0
    for point in points:
        for metric, computed in _metrics(point):
            reference = published.get((point.model, point.seq_len, point.config, metric))
            if reference is None:
                continue
            compared += 1
            difference = abs(computed - reference) / abs(reference)
            largest = max(largest, difference)
            if difference > TOLERANCE:
                deviations.append(
                    {
                        "model": point.model,
                        "seq_len": point.seq_len,
                        "config": point.config,
                        "metric": metric,
                        "computed": computed,
                        "published": reference,
                        "relative": difference,
                    }
                )
    return deviations, compared, largest


def _metrics(point: Point) -> Iterator[tuple[str, float]]:
    yield "latency", point.latency_s
    yield "traffic", float(point.traffic_bytes)
    yield "util_1d", point.util_1d
    yield "util_2d", point.util_2d
