"""The FuseMax paper's evaluation of attention, computed from cascades, mappings and hardware.

Five configurations, four models and six lengths by default; any other models and any length that
is a multiple of the tile work as well. What the paper published is read for comparison only, and
every difference becomes a deviation in the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from archsim.arch import Architecture, load_architecture
from archsim.area_sweep import PE_DIMS, SEQ_LEN, SweepPoint, sweep_point
from archsim.comparison import Pair, claims, compare, published_points, published_table
from archsim.encoder import run_linear_layers
from archsim.errors import ArchError
from archsim.ladder import run
from archsim.mapping import Mapping, load_mapping
from archsim.reporting import Report, make_report
from einsum_cascade.cascade import Cascade
from einsum_cascade.catalog import load, workload_document, workload_from_document
from einsum_cascade.documents import Document
from einsum_cascade.errors import Problem, Source

MODELS = ("bert", "trxl", "t5", "xlm")
LENGTHS = (1024, 4096, 16384, 65536, 262144, 1048576)


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
    # In the paper's accounting, and in the consistent one.
    energy_pj: float
    energy_consistent_pj: float
    util_1d: float
    util_2d: float
    util_2d_by_einsum: dict[str, float]
    mapping_source: str

    def as_dict(self) -> dict[str, Any]:
        """The point as plain data."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class EncoderPoint:
    """One encoder layer: attention in one configuration plus its linear layers."""

    model: str
    seq_len: int
    config: str
    latency_s: float
    energy_pj: float
    energy_consistent_pj: float
    # The linear layers' share of the above, in the paper's accounting.
    linear_latency_s: float
    linear_energy_pj: float


@dataclass(frozen=True, slots=True)
class Reproduction:
    """All points, the headlines computed from them, and where they differ from the paper."""

    points: tuple[Point, ...]
    end_to_end: tuple[EncoderPoint, ...]
    area_sweep: tuple[SweepPoint, ...]
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
            "end_to_end": [asdict(point) for point in self.end_to_end],
            "pareto": [asdict(point) for point in self.area_sweep],
            "headlines": self.headlines,
            "claims": {name: value for name, (_, value) in self.claims.items()},
            "deviations": list(self.deviations),
            "compared": self.compared,
            "largest_relative_difference": self.largest,
        }

    def encoder(self, model: str, seq_len: int) -> dict[str, EncoderPoint]:
        """The encoder points of one model at one length, by configuration."""
        return {p.config: p for p in self.end_to_end if (p.model, p.seq_len) == (model, seq_len)}

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
        given = _with(parts[configuration.key], workload)
        report = run(*given, level="published", accounting="paper")
        consistent = make_report(report.placed, "published")
        points.append(_point(workload.title, length, configuration.key, report, consistent))
    found = tuple(points)
    encoders = tuple(_encoders(documents, lengths, found))
    sweep = tuple(
        sweep_point(workload_from_document(document, {"M": SEQ_LEN, "P": SEQ_LEN}), pe_dim)
        for document in documents
        for pe_dim in PE_DIMS
    )
    headlines = _headlines(found) | _energy_headlines(found, encoders)
    differences = compare(_pairs(found, encoders, sweep))
    return Reproduction(found, encoders, sweep, headlines, claims(), *differences)


def _with(parts: tuple[Cascade, Architecture, Mapping], workload: Any) -> tuple[Any, ...]:
    cascade, architecture, mapping = parts
    return cascade, workload, architecture, mapping


def _encoders(
    documents: list[Document], lengths: tuple[int, ...], points: tuple[Point, ...]
) -> Iterator[EncoderPoint]:
    """Add the linear layers to every attention point; they run on the same hardware."""
    projection, mapping = load("projection"), load_mapping("projection")
    hardware = {c.key: c.architecture for c in CONFIGURATIONS}
    chips = {name: load_architecture(name) for name in hardware.values()}
    attention = {(p.model, p.seq_len, p.config): p for p in points}
    for document in documents:
        for length in lengths:
            workload = workload_from_document(document, {"M": length, "P": length})
            linear = {}
            for name, chip in chips.items():
                layers = run_linear_layers(projection, workload, chip, mapping, "paper")
                right = [make_report(layer.placed, "published") for layer in layers]
                linear[name] = (
                    sum(layer.latency_s for layer in layers),
                    sum(_total(layer) for layer in layers),
                    sum(_total(layer) for layer in right),
                )
            for config, name in hardware.items():
                point = attention[workload.title, length, config]
                latency, paper, consistent = linear[name]
                yield EncoderPoint(
                    workload.title,
                    length,
                    config,
                    point.latency_s + latency,
                    point.energy_pj + paper,
                    point.energy_consistent_pj + consistent,
                    latency,
                    paper,
                )


def _total(report: Report) -> float:
    assert report.energy_pj is not None
    return float(report.energy_pj["total"])


def _point(model: str, length: int, config: str, report: Report, consistent: Report) -> Point:
    return Point(
        model,
        length,
        config,
        report.latency_s,
        report.traffic_bytes["total"],
        _total(report),
        _total(consistent),
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


def _energy_headlines(
    points: tuple[Point, ...], encoders: tuple[EncoderPoint, ...]
) -> dict[str, float]:
    """Energy and end-to-end means, as the paper averages; `consistent` beside them."""
    found: dict[str, float] = {}
    attention = {(p.model, p.seq_len, p.config): p for p in points}
    whole = {(p.model, p.seq_len, p.config): p for p in encoders}
    cases = list(dict.fromkeys((p.model, p.seq_len) for p in points))
    for base in ("flat", "unfused"):
        pairs = [(attention[(*c, "binding")], attention[(*c, base)]) for c in cases]
        ends = [(whole[(*c, "binding")], whole[(*c, base)]) for c in cases]
        found[f"attention_energy_vs_{base}"] = fmean(a.energy_pj / b.energy_pj for a, b in pairs)
        found[f"e2e_speedup_vs_{base}"] = fmean(b.latency_s / a.latency_s for a, b in ends)
        found[f"e2e_energy_vs_{base}"] = fmean(a.energy_pj / b.energy_pj for a, b in ends)
        found[f"attention_energy_vs_{base}_consistent"] = fmean(
            a.energy_consistent_pj / b.energy_consistent_pj for a, b in pairs
        )
        found[f"e2e_energy_vs_{base}_consistent"] = fmean(
            a.energy_consistent_pj / b.energy_consistent_pj for a, b in ends
        )
    return found


def _pairs(
    points: tuple[Point, ...], encoders: tuple[EncoderPoint, ...], sweep: tuple[SweepPoint, ...]
) -> Iterator[Pair]:
    """Every value that was published, beside ours."""
    published = published_points()
    for point in points:
        key = (point.model, point.seq_len, point.config)
        place: dict[str, Any] = dict(zip(("model", "seq_len", "config"), key, strict=True))
        for metric, computed in _metrics(point):
            yield place, metric, computed, published.get((*key, metric))
    linear = published_table("fusemax_linear", "model", "seq_len", "arch", "metric")
    for encoder in encoders:
        chip = {"flat": "flat", "binding": "fusemax"}.get(encoder.config)
        if chip:
            row = (encoder.model, str(encoder.seq_len), chip)
            config = f"linear layers on {chip}"
            place = {"model": encoder.model, "seq_len": encoder.seq_len, "config": config}
            yield place, "latency", encoder.linear_latency_s, linear.get((*row, "latency"))
            yield place, "energy", encoder.linear_energy_pj, linear.get((*row, "energy"))
    sizes = published_table("fusemax_area_sweep", "model", "pe_dim", "metric")
    for one in sweep:
        place = {"model": one.model, "seq_len": SEQ_LEN, "config": f"array of {one.pe_dim}"}
        for metric, computed in (
            ("latency", one.latency_s),
            ("array_2d_area", one.array_2d_area_um2),
            ("area", one.area_um2),
        ):
            yield place, metric, computed, sizes.get((one.model, str(one.pe_dim), metric))


def _metrics(point: Point) -> Iterator[tuple[str, float]]:
    yield "latency", point.latency_s
    yield "traffic", float(point.traffic_bytes)
    yield "util_1d", point.util_1d
    yield "util_2d", point.util_2d
    yield "energy", point.energy_pj
