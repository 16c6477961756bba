"""Generated modules as plain Python around the compiled kernels that they call.

numba takes seconds to compile a random cascade, Python some tenths of a second to run it at a few
sizes. What is allocated holds anything but zeros, as memory may, and a name that was never set or a
place outside of an array raises, which compiled code does not.
"""

from __future__ import annotations

import importlib
import re
from types import ModuleType, SimpleNamespace

import numpy as np
from numba import njit


class Kernels:
    """A module of kernels with a way in from Python for each, made when it is asked for."""

    def __init__(self, name):
        self._module = importlib.import_module(f"einsum_cascade.{name}")

    def __getattr__(self, name):
        found = getattr(self._module, name)
        if callable(found) and name not in ("install", "unit_table"):
            inner = found

            @njit(error_model="numpy")
            def found(*arguments):
                return inner(*arguments)

        setattr(self, name, found)
        return found


KNOWN: dict[str, Kernels] = {}


def kernels(name):
    return KNOWN.setdefault(name, Kernels(name))


def odd(shape, dtype=float):
    """An array of what nobody has written: NaN, 3 or True."""
    return np.full(shape, np.nan if np.dtype(dtype).kind == "f" else 3, dtype)


# NumPy for generated modules.
NUMPY = SimpleNamespace(**{name: getattr(np, name) for name in np.__all__} | {"empty": odd})


def plain_module(text, name):
    """What `compiled_cache.module_from` returns, but for the compiler."""
    text = text.replace("import numpy as np\nfrom numba import njit\n", "")
    text = re.sub(r"from einsum_cascade import (\w+) as (\w+)", r"\2 = kernels('\1')", text)
    text = text.replace("from einsum_cascade.exp_units import UNITS\n", "")
    module = ModuleType(name)
    module.__dict__.update(kernels=kernels, np=NUMPY, njit=lambda **_: lambda function: function)
    exec(compile(text, f"<{name}>", "exec"), module.__dict__)  # noqa: S102
    return module
