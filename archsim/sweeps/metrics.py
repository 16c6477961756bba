"""Numbers of a report for people: what a path means, in which unit, on which scale."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A number of a report on an axis: its value times `factor` has the unit."""

    label: str
    unit: str
    factor: float

    def __str__(self) -> str:
        """Write as on an axis: `energy (J)`."""
        return f"{self.label} ({self.unit})"


_WHOLE = {
    "latency_s": Metric("latency", "ms", 1e3),
    "energy_pj.total": Metric("energy", "J", 1e-12),
    "area_um2.total": Metric("area", "mm²", 1e-6),
    "traffic_bytes.total": Metric("DRAM traffic", "GiB", 2**-30),
    "error_rms": Metric("error, rms relative to float64", "ratio", 1),
    "error_max": Metric("largest error, relative to float64", "ratio", 1),
}
# By what the first part of a path ends in.
_SUFFIXES = (
    ("_pj", "J", 1e-12),
    ("_um2", "mm²", 1e-6),
    ("_bytes", "MiB", 2**-20),
    ("_cycles", "cycles", 1),
    ("_s", "ms", 1e3),
)


# Other scales of a unit, for values below the limit: the smallest first.
_SCALES = {
    "ms": ((0.1, "µs", 1e3), (1e4, "ms", 1.0), (float("inf"), "s", 1e-3)),
    "J": (
        (1e-7, "nJ", 1e9),
        (1e-4, "µJ", 1e6),
        (0.1, "mJ", 1e3),
        (1e4, "J", 1.0),
        (float("inf"), "kJ", 1e-3),
    ),
    "GiB": ((0.05, "MiB", 1024.0), (float("inf"), "GiB", 1.0)),
}


def fitting(path: str, values: Iterable[float]) -> Metric:
    """The same, with the unit in which the largest of some values reads best."""
    found = metric(path)
    largest = max(values, default=0.0) * found.factor
    for limit, unit, factor in _SCALES.get(found.unit, ()):
        if largest < limit:
            return Metric(found.label, unit, found.factor * factor)
    return found


def metric(path: str) -> Metric:
    """What a path of a report means."""
    if path in _WHOLE:
        return _WHOLE[path]
    head, _, rest = path.partition(".")
    for suffix, unit, factor in _SUFFIXES:
        if head.endswith(suffix):
            name = head.removesuffix(suffix).replace("_", " ")
            return Metric(f"{name} {rest}".strip(), unit, factor)
    if head in ("utilization", "utilization_by_einsum"):
        return Metric(f"utilization {rest}".strip(), "%", 100)
    unit = {"cycles": "cycles", "sizes": "elements"}.get(head, "value")
    return Metric(short(path), unit, 1)


def short(path: str) -> str:
    """The end of a path, which tells it apart well enough: `rows` of `arch.array_2d.rows`."""
    parts = path.split(".")
    return parts[-1] if parts[0] in ("sizes", "label", "neighborhood") else ".".join(parts[-2:])


def shorts(paths: Iterable[str]) -> dict[str, str]:
    """Names of paths that differ from each other, each as short as that allows."""
    listed = list(paths)
    ends = [path.split(".")[-1] for path in listed]
    return {
        path: end if ends.count(end) == 1 else short(path)
        for path, end in zip(listed, ends, strict=True)
    }
