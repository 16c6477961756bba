"""A cascade in the numbers of hardware: what is a 16-bit word, and who computes how.

With `format="bf16"`, inputs are bf16. What is computed from one input and constants alone
(Q/sqrt(E)) is computed on its way in: exactly, and rounded to a word once; there exponentials get
their log2(e), if that reaches all of them, so that everything else computes 2**x. Processing
elements multiply bf16 and add in fp32: they do contractions (sums of products of two tensors) and
the maps whose results contractions take, which are words, too. Everything else is lanes: fp32. With
`format="fp32"` there are no words, and all products round to fp32.

Sums run through the reduced variables as the Einsum names them, one point after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from einsum_cascade import formats
from einsum_cascade.cascade import Cascade, Einsum
from einsum_cascade.errors import CascadeError, legal_words
from einsum_cascade.exp_units import UNITS, ExpUnit, exp2
from einsum_cascade.exponents import carries, exponents
from einsum_cascade.expressions import Access, Apply, accesses
from einsum_cascade.formats import MULTIPLIERS, Array
from einsum_cascade.operator_values import VALUES

Function = Callable[..., Array]

# The unit of the shipped architectures: a polynomial of degree 6.
DEFAULT_UNIT = "poly6"


@dataclass(frozen=True, slots=True)
class Numbers:
    """How a cascade computes in hardware numbers."""

    format: str
    unit: ExpUnit
    # Einsums that are computed on the way in, and those of them that take log2(e).
    loaded: frozenset[str]
    scaled: frozenset[str]
    # Tensors whose elements are words; they are computed by processing elements.
    words: frozenset[str]
    # True if exponentials are to base 2 already; else each argument is multiplied by log2(e).
    is_base_two: bool

    def multiplier(self, einsum: Einsum) -> str:
        """The multiplier that an Einsum uses."""
        return self.format if einsum.name in self.words or is_contraction(einsum) else "fp32"

    def functions(self, einsum: Einsum) -> dict[str, Function]:
        """The operators of the language for an Einsum, in NumPy."""
        multiplier = self.multiplier(einsum)
        log2_e = np.float32(np.log2(np.e))

        def power(x: Array) -> Array:
            if not self.is_base_two:
                x = formats.multiply(x, np.full_like(x, log2_e))
            return exp2(x, self.unit, multiplier)

        found = {name: _once(apply) for name, apply in VALUES.items()}
        return found | {
            "add": formats.add,
            "sub": formats.subtract,
            "mul": lambda a, b: formats.multiply(a, b, multiplier),
            "div": formats.divide,
            "max": formats.maximum,
            "exp": power,
        }

    def rounded(self, einsum: Einsum, values: Array) -> Array:
        """A map's values as its tensor holds them."""
        if einsum.name in self.loaded:
            factor = np.log2(np.e) if einsum.name in self.scaled else 1.0
            values = (values * factor).astype(np.float32)
        return formats.to_bf16(values) if einsum.name in self.words else values


def _once(function: Function) -> Function:
    """Any other operator: the exact value, rounded once."""

    def apply(*arguments: Array) -> Array:
        wide = (np.asarray(argument, dtype=np.float64) for argument in arguments)
        with np.errstate(over="ignore"):
            return formats.flush(function(*wide).astype(np.float32))

    return apply


def numbers_of(cascade: Cascade, format: str, exp: str | None = None) -> Numbers:
    """Plan a cascade's numbers; CascadeError for an unknown format or exp unit."""
    if format not in MULTIPLIERS:
        hint = legal_words(str(format), MULTIPLIERS, "formats")
        raise CascadeError(f"unknown format {format!r}; {hint}")
    if exp is not None and exp not in UNITS:
        raise CascadeError(f"unknown exp unit {exp!r}; {legal_words(str(exp), UNITS, 'units')}")
    loaded = [e for e in cascade.einsums if _is_loaded(cascade, e)]
    names = [e.name for e in loaded]
    has_exp = any(exponents(e.map) for e in cascade.einsums)
    ways = [(name,) for name in names] + ([tuple(names)] if names else [])
    scaled = next((way for way in ways if has_exp and carries(cascade.einsums, way)), ())
    operands = {
        access.tensor for e in cascade.einsums if is_contraction(e) for access in accesses(e.map)
    }
    maps = {e.name for e in cascade.einsums if e.op is None and not e.is_initial}
    words = (operands & maps) | set(names)
    return Numbers(
        format,
        UNITS[exp or DEFAULT_UNIT],
        frozenset(names),
        frozenset(scaled),
        frozenset(words if format == "bf16" else ()),
        bool(scaled),
    )


def is_contraction(einsum: Einsum) -> bool:
    """True for a sum of products of two tensors."""
    match einsum.op, einsum.map:
        case "sum", Apply(operator="mul", arguments=(Access(), Access())):
            return True
    return False


def _is_loaded(cascade: Cascade, einsum: Einsum) -> bool:
    """True for a map of one input and constants that computes no exponential."""
    reads = {access.tensor for access in einsum.reads}
    return (
        einsum.op is None
        and len(reads) == 1
        and reads <= set(cascade.inputs)
        and not exponents(einsum.map)
        and not cascade.tensor(einsum.name).is_state
        and cascade.tensor(einsum.name).role != "output"
    )
