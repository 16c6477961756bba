"""What is computed: cascades of extended Einsums, their passes and their values.

Everything public is here and loads on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from einsum_cascade.bound_report import Bounds, bounds
    from einsum_cascade.cascade import Cascade, Workload
    from einsum_cascade.catalog import load, names, workload
    from einsum_cascade.compiled import Compiled
    from einsum_cascade.compiled import compile_ as compile
    from einsum_cascade.derivation.pipeline import Derivation, derive
    from einsum_cascade.errors import CascadeError, Problem, Source
    from einsum_cascade.interpreter import evaluate
    from einsum_cascade.legality import parse
    from einsum_cascade.neighborhood import Neighborhood
    from einsum_cascade.pass_analysis import PassReport, passes

_HOME = {
    "Bounds": "bound_report",
    "Cascade": "cascade",
    "CascadeError": "errors",
    "Compiled": "compiled",
    "Derivation": "derivation.pipeline",
    "Neighborhood": "neighborhood",
    "PassReport": "pass_analysis",
    "Problem": "errors",
    "Source": "errors",
    "Workload": "cascade",
    "bounds": "bound_report",
    "compile": "compiled",
    "derive": "derivation.pipeline",
    "evaluate": "interpreter",
    "load": "catalog",
    "names": "catalog",
    "parse": "legality",
    "passes": "pass_analysis",
    "workload": "catalog",
}
__version__ = "0.1.0"
__all__ = [
    "Bounds",
    "Cascade",
    "CascadeError",
    "Compiled",
    "Derivation",
    "Neighborhood",
    "PassReport",
    "Problem",
    "Source",
    "Workload",
    "bounds",
    "compile",
    "derive",
    "evaluate",
    "load",
    "names",
    "parse",
    "passes",
    "workload",
]


def __getattr__(name: str) -> Any:
    if name == "formats":
        return import_module("einsum_cascade.formats")
    if name not in _HOME:
        raise AttributeError(f"module 'einsum_cascade' has no attribute {name!r}")
    # `compile` is a builtin of Python, so its home calls it by another name.
    own = "compile_" if name == "compile" else name
    return getattr(import_module(f"einsum_cascade.{_HOME[name]}"), own)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
