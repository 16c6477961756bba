"""Where generated modules live: a folder of the user, so that numba's cache works across processes.

A module is named by a hash of its text and of everything it calls, hence it never changes once
written: numba, which looks at a file's date only, can't mistake an old version for the present one.
The folder is that of NUMBA_CACHE_DIR, else of XDG_CACHE_HOME, else ~/.cache; where none of them can
be written, a temporary one for this process.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import tempfile
from functools import cache
from pathlib import Path
from types import ModuleType

import numba
import numpy as np

# What generated modules call, and the tables and formats that go into it.
RUNTIME = (
    "compiled_kernels",
    "compiled_symbols",
    "compiled_packing",
    "compiled_folds",
    "compiled_products",
    "compiled_dots",
    "compiled_multiply",
    "compiled_fetches",
    "format_kernels",
    "exp_units",
    "formats",
)


def folder() -> Path:
    """The folder of generated modules, made if need be."""
    named = os.environ.get("NUMBA_CACHE_DIR")
    home = os.environ.get("XDG_CACHE_HOME")
    base = Path(named) if named else (Path(home) if home else Path.home() / ".cache")
    found = base / "einsum-archsim"
    try:
        found.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=found):
            return found
    except OSError:
        return _temporary()


@cache
def _temporary() -> Path:
    return Path(tempfile.mkdtemp(prefix="einsum-archsim-"))


@cache
def _versions() -> str:
    own = [Path(__file__).with_name(f"{name}.py") for name in RUNTIME]
    texts = [path.read_text(encoding="utf-8") for path in own]
    return "\n".join([numba.__version__, np.__version__, *texts])


@cache
def module_from(text: str, name: str) -> ModuleType:
    """Import generated source text, through a file that is written once.

    Args:
        text: the module.
        name: what it is called in front of its hash; for people who look at the folder.
    """
    digest = hashlib.sha256((_versions() + text).encode()).hexdigest()[:24]
    safe = "".join(c if c.isalnum() else "_" for c in name)
    path = folder() / f"{safe}_{digest}.py"
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        # Complete under its own name at once: another process may be reading.
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, suffix=".part", delete=False, encoding="utf-8"
        ) as file:
            file.write(text)
        Path(file.name).replace(path)
    full = f"einsum_cascade._generated.{path.stem}"
    spec = importlib.util.spec_from_file_location(full, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[full] = module
    spec.loader.exec_module(module)
    return module
