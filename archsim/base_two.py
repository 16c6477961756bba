"""Exponentials to base 2: the factor log2(e) goes into what is scaled on its way in anyway.

exp(x) is 2**(x log2(e)). If every argument of exp is proportional to a tensor that is computed at
load, or to several, these take the factor and the units compute 2**x; nothing else changes.
"""

from __future__ import annotations

from archsim.placement import Placed
from einsum_cascade.exponents import carries, exponents


def scaled_at_load(placed: Placed) -> tuple[str, ...] | None:
    """The tensors that take the factor, none if there is no exp; None if no tensor can."""
    einsums = list(placed.cascade.einsums)
    if not any(exponents(einsum.map) for einsum in einsums):
        return ()
    where = dict(placed.mapping.placements)
    loaded = [e.name for e in einsums if not e.is_initial and where[e.name].array is None]
    for names in (*((name,) for name in loaded), tuple(loaded)):
        if carries(einsums, names):
            return names
    return None
