"""Which numbers the units of an architecture compute with: its words, multipliers and exp units.

"float64" is exact enough to compare with the naive interpreter. "hardware" is bit-exact: 16-bit
words are bf16, sums fp32, products and exponentials those of the array's multiplier and exp unit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from archsim.arch import Array
from archsim.errors import ArchError
from einsum_cascade import formats
from einsum_cascade.errors import Problem, Source, legal_words
from einsum_cascade.exp_units import POLYNOMIALS, UNITS, ExpUnit, exp2
from einsum_cascade.operator_values import VALUES

NUMBERS = ("float64", "hardware")
Function = Callable[..., Any]


def exp_unit(array: Array) -> ExpUnit:
    """The exp unit of an array: as its table says, or a polynomial of as many slots."""
    row = array.cost("exp")
    if row is None or (not row.method and row.slots == 1):
        return UNITS["reference"]
    name = row.method or f"poly{row.slots}"
    if name not in UNITS:
        hint = legal_words(name, UNITS, "exp units")
        raise ArchError(Problem(Source(array.name), f"unknown exp unit '{name}'", hint=hint))
    unit = UNITS[name]
    if unit.method == "poly" and row.slots not in (1, unit.size):
        what = f"{name} takes {unit.size} slots or a unit of its own, not {row.slots}"
        raise ArchError(Problem(Source(array.name), what, hint=f"degrees: {list(POLYNOMIALS)}"))
    return unit


def functions(array: Array, numbers: str) -> dict[str, Function]:
    """The operators of an array's PEs as NumPy functions; mac is one of them."""
    if numbers == "float64":
        found: dict[str, Function] = dict(VALUES)
        found["mac"] = lambda a, b, c: VALUES["mul"](a, b) + c
        return found
    unit, multiplier = exp_unit(array), array.multiplier
    found = {name: _once(apply) for name, apply in VALUES.items()}
    return found | {
        "add": formats.add,
        "sub": formats.subtract,
        "mul": lambda a, b: formats.multiply(a, b, multiplier),
        "mac": lambda a, b, c: formats.mac(a, b, c, multiplier),
        "div": formats.divide,
        "max": formats.maximum,
        "exp": lambda x: exp2(x, unit, multiplier),
    }


def _once(function: Function) -> Function:
    """Any other operator: the exact value, rounded once."""

    def apply(*arguments: Any) -> Any:
        wide = (np.asarray(argument, dtype=np.float64) for argument in arguments)
        with np.errstate(over="ignore"):
            return formats.flush(function(*wide).astype(np.float32))

    return apply


def word(values: Any, numbers: str) -> Any:
    """Values as they fit a 16-bit word: bf16 in hardware."""
    if numbers == "float64":
        return np.asarray(values, dtype=np.float64)
    return formats.to_bf16(np.asarray(values).astype(np.float32))
