"""Where and when a cascade runs: architectures, mappings, bounds and papers' closed forms.

Everything public is here and loads on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from archsim.arch import Architecture, load_architecture
    from archsim.batches import Point, evaluate_many
    from archsim.chain import Chain
    from archsim.encoder import LayerReport, run_layer
    from archsim.errors import ArchError
    from archsim.ladder import bound, run
    from archsim.ladder import published_report as published
    from archsim.lowering import lower
    from archsim.mapping import Mapping, load_mapping
    from archsim.matrix_product import GemmReport, gemm
    from archsim.placement import Placed, place
    from archsim.program import Program
    from archsim.program_file import load_program
    from archsim.reporting import Report
    from archsim.reproduction import reproduce_fusemax
    from archsim.simulated_reports import report
    from archsim.simulation import simulate
    from archsim.sweeps.running import SweepResult, sweep
    from archsim.timeline import Timeline

_HOME = {
    "ArchError": ("errors", "ArchError"),
    "Architecture": ("arch", "Architecture"),
    "Chain": ("chain", "Chain"),
    "GemmReport": ("matrix_product", "GemmReport"),
    "LayerReport": ("encoder", "LayerReport"),
    "Mapping": ("mapping", "Mapping"),
    "Placed": ("placement", "Placed"),
    "Point": ("batches", "Point"),
    "Program": ("program", "Program"),
    "Report": ("reporting", "Report"),
    "SweepResult": ("sweeps.running", "SweepResult"),
    "Timeline": ("timeline", "Timeline"),
    "bound": ("ladder", "bound"),
    "evaluate_many": ("batches", "evaluate_many"),
    "gemm": ("matrix_product", "gemm"),
    "load_architecture": ("arch", "load_architecture"),
    "load_mapping": ("mapping", "load_mapping"),
    "load_program": ("program_file", "load_program"),
    "lower": ("lowering", "lower"),
    "place": ("placement", "place"),
    "published": ("ladder", "published_report"),
    "report": ("simulated_reports", "report"),
    "reproduce_fusemax": ("reproduction", "reproduce_fusemax"),
    "run": ("ladder", "run"),
    "run_layer": ("encoder", "run_layer"),
    "simulate": ("simulation", "simulate"),
    "sweep": ("sweeps.running", "sweep"),
}
__all__ = [
    "ArchError",
    "Architecture",
    "Chain",
    "GemmReport",
    "LayerReport",
    "Mapping",
    "Placed",
    "Point",
    "Program",
    "Report",
    "SweepResult",
    "Timeline",
    "bound",
    "evaluate_many",
    "gemm",
    "load_architecture",
    "load_mapping",
    "load_program",
    "lower",
    "place",
    "published",
    "report",
    "reproduce_fusemax",
    "run",
    "run_layer",
    "simulate",
    "sweep",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'archsim' has no attribute {name!r}")
    module, attribute = _HOME[name]
    return getattr(import_module(f"archsim.{module}"), attribute)


def __dir__() -> list[str]:
    return list(__all__)
