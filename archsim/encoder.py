"""One encoder layer: attention plus its six linear layers.

Each linear layer is the cascade `projection` on the 2D array. Tokens of all batches are its rows;
layers follow each other, and nothing overlaps with attention, as in the FuseMax paper.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from archsim.arch import Architecture, load_architecture
from archsim.ladder import run
from archsim.mapping import Mapping, load_mapping
from archsim.packing import KEY_HEADS
from archsim.quantities import show_bytes, show_seconds
from archsim.reporting import Report
from einsum_cascade.cascade import Cascade, Workload, workload_from
from einsum_cascade.catalog import load


@dataclass(frozen=True, slots=True)
class LayerReport:
    """One encoder layer on one rung of the ladder: attention, then its linear layers by name."""

    attention: Report
    linear: tuple[tuple[str, Report], ...]

    @property
    def parts(self) -> tuple[tuple[str, Report], ...]:
        """Everything in order."""
        return (("attention", self.attention), *self.linear)

    @property
    def cycles(self) -> int:
        """Whole cycles of all parts, one after the other."""
        return sum(report.cycles for _, report in self.parts)

    def total(self) -> dict[str, Any]:
        """Sums over all parts; energy is None for an architecture without a table."""
        reports = [report for _, report in self.parts]
        energies = [r.energy_pj["total"] for r in reports if r.energy_pj is not None]
        return {
            "cycles": self.cycles,
            "latency_s": sum(report.latency_s for report in reports),
            "lower_bound_cycles": sum(report.lower_bound_cycles for report in reports),
            "traffic_bytes": {
                way: sum(report.traffic_bytes[way] for report in reports)
                for way in ("dram_read", "dram_write", "total")
            },
            "energy_pj": sum(energies) if energies else None,
        }

    def as_dict(self) -> dict[str, Any]:
        """The report as plain data, ready for JSON."""
        return {
            "attention": self.attention.as_dict(),
            "linear": {name: report.as_dict() for name, report in self.linear},
            "total": self.total(),
        }

    def __str__(self) -> str:
        """Print a line for each part, and the sum."""
        head, found = self.attention, self.total()
        sizes = " ".join(f"{rank}={size}" for rank, size in head.sizes.items())
        lines = [
            f"layer with {head.cascade} on {head.arch} through {head.mapping}: {head.level}",
            f"  sizes       {head.model}: {sizes}",
            f"  {'':10} {'cycles':>16} {'share':>7} {'latency':>10} {'traffic':>12} {'energy':>11}",
        ]
        rows = [(name, r.as_dict()) for name, r in self.parts]
        for name, row in (*rows, ("sum", found)):
            energy = row["energy_pj"]["total"] if isinstance(row["energy_pj"], dict) else None
            energy = found["energy_pj"] if name == "sum" else energy
            lines.append(
                f"  {name:10} {row['cycles']:16,} {row['cycles'] / self.cycles:7.1%} "
                f"{show_seconds(row['latency_s']):>10} "
                f"{show_bytes(row['traffic_bytes']['total']):>12} "
                + (f"{energy / 1e12:>9.4g} J" if energy is not None else f"{'':11}").rstrip()
            )
        return "\n".join(lines)


def run_layer(
    cascade: Cascade | str,
    workload: Workload,
    architecture: Architecture | str,
    mapping: Mapping | str,
    *,
    level: str = "tile",
    accounting: str = "consistent",
    projection: Mapping | str = "projection",
) -> LayerReport:
    """Run a whole encoder layer at one level: attention, and the six linear layers around it.

    Args:
        cascade: the attention.
        workload: its sizes, and D (model width) and S (hidden width).
        architecture: what both run on.
        mapping: how attention sits on it.
        level: as for `reporting.run`.
        accounting: as for `reporting.run`.
        projection: how linear layers sit on it, a mapping of the cascade `projection`.

    Raises:
        CascadeError: a size is missing.
        ArchError: as `reporting.run`.
    """
    chip, linear = load_architecture(architecture), load_mapping(projection)

    def one(what: Cascade | str, sizes: Workload, how: Mapping | str) -> Report:
        return run(what, sizes, chip, how, level=level, accounting=accounting)

    layers = linear_layers(workload)
    attention, product = one(cascade, workload, mapping), load("projection")
    return LayerReport(attention, tuple((name, one(product, s, linear)) for name, s in layers))


def linear_layers(workload: Workload) -> Iterator[tuple[str, Workload]]:
    """Yield the linear layers of an encoder: name, and sizes N tokens, D inputs, S outputs.

    Needs the ranks B, H, E, F, P, D (model width) and S (hidden width) of the workload; KV is the
    number of heads of keys and values where queries share them.
    """
    tokens = workload.size("B", 1) * workload.size("P")
    width, hidden = workload.size("D"), workload.size("S")
    heads = workload.size("H", 1)
    shared = workload.size(KEY_HEADS, heads)
    for name, inner, outer in (
        ("Q", width, heads * workload.size("E")),
        ("K", width, shared * workload.size("E")),
        ("V", width, shared * workload.size("F")),
        ("Z", heads * workload.size("F"), width),
        ("FFN1", width, hidden),
        ("FFN2", hidden, width),
    ):
        sizes = {"N": tokens, "D": inner, "S": outer}
        yield name, workload_from(f"{workload.name}-{name}", sizes, name)


def run_linear_layers(
    projection: Cascade,
    workload: Workload,
    architecture: Architecture,
    mapping: Mapping,
    accounting: str,
) -> list[Report]:
    """Run every linear layer of an encoder through the published closed form."""
    return [
        run(projection, layer, architecture, mapping, level="published", accounting=accounting)
        for _, layer in linear_layers(workload)
    ]
