"""Where and when a cascade runs: architectures, mappings, bounds and papers' closed forms.

Everything public is here and loads on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from archsim.arch import Architecture, load_architecture
    from archsim.errors import ArchError
    from archsim.mapping import Mapping, load_mapping
    from archsim.placement import Placed, place
    from archsim.reporting import Report, bound, run
    from archsim.reporting import published_report as published
    from archsim.reproduction import reproduce_fusemax

_HOME = {
    "ArchError": ("errors", "ArchError"),
    "Architecture": ("arch", "Architecture"),
    "Mapping": ("mapping", "Mapping"),
    "Placed": ("placement", "Placed"),
    "Report": ("reporting", "Report"),
    "bound": ("reporting", "bound"),
    "load_architecture": ("arch", "load_architecture"),
    "load_mapping": ("mapping", "load_mapping"),
    "place": ("placement", "place"),
    "published": ("reporting", "published_report"),
    "reproduce_fusemax": ("reproduction", "reproduce_fusemax"),
    "run": ("reporting", "run"),
}
__all__ = [
    "ArchError",
    "Architecture",
    "Mapping",
    "Placed",
    "Report",
    "bound",
    "load_architecture",
    "load_mapping",
    "place",
    "published",
    "reproduce_fusemax",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'archsim' has no attribute {name!r}")
    module, attribute = _HOME[name]
    return getattr(import_module(f"archsim.{module}"), attribute)


def __dir__() -> list[str]:
    return list(__all__)
