"""Reports: what a run says, computed from facts and printed as a finished table.

Every Report has the same fields, whatever made it, and `as_dict` is the JSON that
`archsim run --json` prints. Those of the levels of formulas are made here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil
from typing import Any

from archsim.arch import Architecture
from archsim.energy import Spent, area, by_cause, by_component, by_micro_op, energy
from archsim.estimate import Estimate
from archsim.formulas import Exact
from archsim.lower_bound import against_traffic, compute_cycles, lower_bound
from archsim.placement import Placed
from archsim.published_model import published
from archsim.quantities import show_bytes, show_seconds

# What the levels of formulas do with a placed cascade.
ESTIMATES: Mapping[str, Callable[[Placed], Estimate]] = {
    "bound": lower_bound,
    "published": published,
}


@dataclass(frozen=True, slots=True)
class Report:
    """What one run found. Cycles and bytes cover all heads; utilization is 0..1."""

    cascade: str
    model: str
    arch: str
    mapping: str
    level: str
    accounting: str
    sizes: dict[str, int]
    # Whole cycles; latency_s is exact before rounding up.
    cycles: int
    latency_s: float
    traffic_bytes: dict[str, Any]
    energy_pj: dict[str, Any] | None
    area_um2: dict[str, Any] | None
    # Busy PE-cycles over PE-cycles, per array and per Einsum.
    utilization: dict[str, float]
    utilization_by_einsum: dict[str, dict[str, float]]
    buffer_bytes: dict[str, int | None]
    bottleneck: str
    lower_bound_cycles: int
    # Known only to levels that simulate: why each idle slot was idle.
    stall_cycles: dict[str, dict[str, int]]
    # Likewise: most row vectors that the units ask of the buffer in one slot, and its ports.
    buffer_ports: dict[str, int]
    # Tile counts, and where the mapping's choices came from.
    tiles: dict[str, int]
    mapping_source: str
    versions: dict[str, str]
    placed: Placed = field(repr=False, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain data, ready for JSON."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "placed"}

    def __str__(self) -> str:
        """Print the finished table."""
        sizes = " ".join(f"{rank}={size}" for rank, size in self.sizes.items())
        buffer, ports = self.buffer_bytes["capacity"], self.buffer_ports
        lines = [
            f"{self.cascade} on {self.arch} through {self.mapping}: {self.level}",
            f"  sizes         {self.model}: {sizes}",
            f"  tiles         {' '.join(f'{rank}={count}' for rank, count in self.tiles.items())}",
            f"  cycles        {self.cycles:,}",
            f"  latency       {show_seconds(self.latency_s)}",
            f"  lower bound   {self.lower_bound_cycles:,} cycles",
            f"  bottleneck    {self.bottleneck}",
            f"  traffic       {show_bytes(self.traffic_bytes['total'])} ("
            f"{show_bytes(self.traffic_bytes['dram_read'])} read, "
            f"{show_bytes(self.traffic_bytes['dram_write'])} written)",
            f"  buffer        {show_bytes(self.buffer_bytes['needed'] or 0)} held at a time"
            + (f" of {show_bytes(buffer)}" if buffer else "")
            + (", {asked} of {available} ports at most".format(**ports) if ports else ""),
        ]
        if self.energy_pj:
            total = self.energy_pj["total"]
            ordered = sorted(self.energy_pj["by_component"].items(), key=lambda item: -item[1])
            parts = "  ".join(f"{name} {pj / total:.1%}" for name, pj in ordered[:5])
            lines.append(f"  energy        {total / 1e12:,.4g} J ({self.accounting}): {parts}")
        if self.area_um2:
            total = self.area_um2["total"]
            parts = "  ".join(
                f"{name} {size / total:.1%}" for name, size in self.area_um2["by_component"].items()
            )
            lines.append(f"  area          {total / 1e6:,.4g} mm2: {parts}")
        for array, share in self.utilization.items():
            parts = "  ".join(
                f"{name} {value:.3f}" for name, value in self.utilization_by_einsum[array].items()
            )
            lines.append(f"  {array:13} {share:.4f} utilized: {parts}")
        for array, causes in self.stall_cycles.items():
            parts = "  ".join(f"{cause} {slots:,}" for cause, slots in causes.items())
            lines.append(f"  {array:13} idle slots by cause: {parts}")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Steady:
    """What a report says whatever the speed of the outer memory is."""

    computed: tuple[int, ...]
    spent: tuple[Spent, ...]
    area: dict[str, Any] | None
    buffer_ports: dict[str, int]


def make_report(placed: Placed, level: str, accounting: str = "consistent") -> Report:
    """Evaluate a placed cascade without simulating it: `level` is "bound" or "published"."""
    computed = compute_cycles(placed)
    found = against_traffic(placed, computed) if level == "bound" else ESTIMATES[level](placed)
    busy: dict[str, dict[str, int]] = {}
    for work in placed.work:
        if work.array:
            busy.setdefault(work.array, {})[work.einsum] = work.busy * placed.batch
    area = area_of(placed.architecture, accounting)
    steady = Steady(computed, energy(placed, found, accounting), area, {})
    least = found.cycles if level == "bound" else None
    return assembled(placed, found, level, accounting, busy, {}, steady, least)


def assembled(
    placed: Placed,
    found: Estimate,
    level: str,
    accounting: str,
    busy: dict[str, dict[str, int]],
    stall_cycles: dict[str, dict[str, int]],
    steady: Steady,
    least: Fraction | None = None,
) -> Report:
    """A report; `least` is the lower bound, if that is what was found."""
    tiling = placed.tiling
    architecture = placed.architecture
    extents = dict(tiling.extents)

    def share(slots: int, pes: int) -> float:
        """Busy PE-cycles over all, divided as whole numbers: exact until it is rounded once."""
        return slots * found.cycles.denominator / (pes * found.cycles.numerator)

    by_array = {
        array.name: {
            name: share(slots, array.pes) for name, slots in busy.get(array.name, {}).items()
        }
        for array in architecture.arrays
    }
    ranks = dict.fromkeys(
        [
            *(rank for rank in ("B", "H") if rank in dict(placed.workload.sizes)),
            *(rank for rank, _ in placed.workload.sizes),
        ]
    )
    import einsum_cascade

    return Report(
        cascade=placed.cascade.name,
        model=placed.workload.name,
        arch=architecture.name,
        mapping=placed.mapping.name,
        level=level,
        accounting=accounting,
        sizes={rank: placed.workload.size(rank) for rank in ranks},
        cycles=ceil(found.cycles),
        latency_s=float(found.cycles / architecture.clock_hz),
        traffic_bytes=_traffic(found),
        energy_pj=_energy(steady.spent),
        area_um2=steady.area,
        utilization={
            array.name: share(sum(busy.get(array.name, {}).values()), array.pes)
            for array in architecture.arrays
        },
        utilization_by_einsum=by_array,
        buffer_bytes={"needed": tiling.held_bytes, "capacity": tiling.capacity_bytes},
        bottleneck=found.bottleneck,
        lower_bound_cycles=ceil(least or against_traffic(placed, steady.computed).cycles),
        stall_cycles=stall_cycles,
        buffer_ports=steady.buffer_ports,
        tiles={part: extents[part] for _, parts in tiling.partitions for part in parts},
        mapping_source=tiling.mapping_source,
        versions={"einsum-archsim": einsum_cascade.__version__},
        placed=placed,
    )


def _energy(spent: tuple[Spent, ...]) -> dict[str, Any] | None:
    """Energy as a report shows it; None for an architecture without an energy table."""
    if not spent:
        return None
    found: dict[str, Any] = {
        "total": sum(one.pj for one in spent),
        "by_component": by_component(spent),
        "by_einsum": by_cause(spent),
    }
    if any(one.micro_op for one in spent):
        found["by_micro_op"] = by_micro_op(spent)
    return found


def area_of(architecture: Architecture, accounting: str) -> dict[str, Any] | None:
    """Area as a report shows it; None for an architecture without an area table."""
    if not architecture.area_um2:
        return None
    parts = area(architecture, accounting)
    return {"total": sum(parts.values()), "by_component": parts}


def _traffic(found: Estimate) -> dict[str, Any]:
    by_tensor: dict[str, int] = {}
    totals = []
    for moved in (found.read_bytes, found.write_bytes):
        # Shares of bytes are rounded as they add up, so that tensors make up the total.
        exact: Exact = 0
        for tensor, amount in moved:
            before, exact = round(exact), exact + amount
            by_tensor[tensor] = by_tensor.get(tensor, 0) + round(exact) - before
        totals.append(round(exact))
    read, write = totals
    return {"dram_read": read, "dram_write": write, "total": read + write, "by_tensor": by_tensor}
