"""The ladder: one run of a cascade on an accelerator, at a level from formulas to registers.

`run` is the front door: a cascade, a workload, an architecture and a mapping (names, paths or
objects) and a level. `bound` gives a lower bound that nothing can beat, `published_report` a
paper's closed form, and the last two levels simulate a Program.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from archsim import arch, mapping
from archsim.errors import ArchError
from archsim.placement import place
from archsim.reporting import ESTIMATES, Report, make_report
from einsum_cascade.cascade import Cascade, Workload
from einsum_cascade.catalog import load, workload_document, workload_from_document
from einsum_cascade.errors import Problem, Source, legal_words

if TYPE_CHECKING:
    from archsim.timeline import ChainTimeline, Timeline

LEVELS = (*ESTIMATES, "tile", "pe")


def run(
    cascade: Cascade | str,
    workload: Workload | str,
    architecture: arch.Architecture | str,
    mapping_: mapping.Mapping | str,
    *,
    level: str | None = None,
    accounting: str = "consistent",
    sizes: Mapping[str, int] | None = None,
) -> Report:
    """Run a cascade on an accelerator at one level of the ladder.

    Args:
        cascade: a cascade, its shipped name or a path.
        workload: sizes, or a model's shipped name or path.
        architecture: an architecture, its shipped name or a path.
        mapping_: a mapping, its shipped name or a path.
        level: "bound", "published", "tile" (cycle by cycle, every task of every tile) or "pe"
            (every register, with random values checked against the naive interpreter). By default
            "tile", or "bound" where the mapping says no order of issue.
        accounting: "consistent", or "paper" to repeat what the paper's energy model does.
        sizes: further or other sizes, for example M and P.

    Raises:
        CascadeError: the cascade or the sizes are not legal.
        ArchError: the architecture or the mapping is not legal, or the two do not fit.
    """
    found, _ = run_timed(
        cascade, workload, architecture, mapping_, level=level, accounting=accounting, sizes=sizes
    )
    return found


def run_timed(
    cascade: Cascade | str,
    workload: Workload | str,
    architecture: arch.Architecture | str,
    mapping_: mapping.Mapping | str,
    *,
    level: str | None = None,
    accounting: str = "consistent",
    sizes: Mapping[str, int] | None = None,
) -> tuple[Report, Timeline | ChainTimeline | None]:
    """As `run`, and what happened when; None at the levels that simulate nothing."""
    if level is not None and level not in LEVELS:
        hint = legal_words(level, LEVELS, "levels")
        raise ArchError(Problem(Source("level"), f"unknown level '{level}'", hint=hint))
    if isinstance(cascade, str):
        cascade = load(cascade)
    if isinstance(workload, str):
        workload = workload_from_document(workload_document(workload), sizes or {})
    elif sizes:
        merged = {**dict(workload.sizes), **sizes}
        workload = Workload(workload.name, tuple(merged.items()), workload.title)
    architecture = arch.load_architecture(architecture)
    found = mapping.load_mapping(mapping_)
    level = level or ("tile" if found.is_ordered else "bound")
    # The papers' tiling rules leave no room for a second tile of the operands.
    placed = place(cascade, workload, architecture, found, double_buffer=level != "published")
    if level in ESTIMATES:
        return make_report(placed, level, accounting), None
    # What simulates takes longer to load than formulas take.
    from archsim.lowering import lower_placed
    from archsim.simulated_reports import report
    from archsim.simulation import simulate

    timeline = simulate(lower_placed(placed), level)
    return report(timeline, level, accounting), timeline


def bound(
    cascade: Cascade | str,
    workload: Workload | str,
    architecture: arch.Architecture | str,
    mapping_: mapping.Mapping | str,
) -> Report:
    """Return a lower bound that no order of issue can beat; see `run`."""
    return run(cascade, workload, architecture, mapping_, level="bound")


def published_report(
    cascade: Cascade | str,
    workload: Workload | str,
    architecture: arch.Architecture | str,
    mapping_: mapping.Mapping | str,
) -> Report:
    """Return what the paper's closed form says; see `run`."""
    return run(cascade, workload, architecture, mapping_, level="published")
