"""The reproduction of a paper as tables on standard output: configurations, speedups, headlines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archsim.plots import short_length
from archsim.quantities import show_bytes, show_seconds
from archsim.reproduction import CONFIGURATIONS, Reproduction
from archsim.rich_tables import new_console, new_table
from einsum_cascade.catalog import load
from einsum_cascade.pass_analysis import passes as analyse

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def print_reproduction(result: Reproduction) -> None:
    """Print every table, what was compared with the paper, and the deviations by reason."""
    console = new_console()
    console.print(_configurations())
    console.print(_speedups(result))
    console.print(_headlines(result))
    _print_comparison(result, console)


def _configurations() -> Table:
    """What each configuration is made of, and how often its cascade passes over the keys."""
    table = new_table(
        "Configurations", "name", "cascade", "architecture", "mapping", "passes over M", words=4
    )
    for c in CONFIGURATIONS:
        passes = analyse(load(c.cascade), "M").passes
        table.add_row(c.label, c.cascade, c.architecture, c.mapping, str(passes))
    return table


def _speedups(result: Reproduction) -> Table:
    table = new_table(
        "Attention: speedup over unfused, and the full FuseMax (+Binding)",
        "model",
        "tokens",
        "unfused",
        *(c.label for c in CONFIGURATIONS if c.key != "unfused"),
        "latency",
        "traffic",
        "2D util.",
        "1D util.",
    )
    for model, length in result.cases:
        points = result.of(model, length)
        base, full = points["unfused"].latency_s, points["binding"]
        speedups = [
            f"{base / points[c.key].latency_s:.2f}x" for c in CONFIGURATIONS if c.key != "unfused"
        ]
        table.add_row(
            model,
            short_length(length),
            show_seconds(base),
            *speedups,
            show_seconds(full.latency_s),
            show_bytes(full.traffic_bytes),
            f"{full.util_2d:.3f}",
            f"{full.util_1d:.3f}",
        )
    return table


def _headlines(result: Reproduction) -> Table:
    title = f"Headlines: means over {len(result.cases)} cases"
    table = new_table(title, "figure", "computed", "paper")
    for name, value in result.headlines.items():
        what, claim = result.claims.get(name, (name.replace("_", " "), None))
        # The paper averages over its own models and lengths; other means are not comparable.
        shown = f"{claim:g}" if claim is not None and result.is_the_papers else ""
        table.add_row(what, f"{value:.4f}", shown)
    return table


def _print_comparison(result: Reproduction, console: Console) -> None:
    sources = [p for p in result.points if "is not listed" in p.mapping_source]
    for point in sources[:8]:
        where = f"{point.model} {short_length(point.seq_len)} {point.config}"
        console.print(f"note: {where}: {point.mapping_source}", soft_wrap=True)
    if len(sources) > 8:
        console.print(f"note: ... and {len(sources) - 8} more points with the next listed choice")
    console.print(
        f"{result.compared} published values compared; largest relative difference "
        f"{result.largest:.1e} but for what rests on fits; {len(result.deviations)} deviations:"
    )
    grouped: dict[tuple[str, str, str], list[float]] = {}
    for one in result.deviations:
        key = (one["metric"], one["config"], one["reason"])
        grouped.setdefault(key, []).append(one["relative"])
    for (metric, config, reason), relative in grouped.items():
        text = f"  {metric} of {config}: {len(relative)} values off by up to {max(relative):.1e}"
        console.print(f"{text} ({reason})" if reason else text, soft_wrap=True)
