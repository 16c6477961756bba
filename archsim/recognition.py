"""Which cascade a mapping speaks of, if the one it is given has other names.

A mapping names the Einsums of one cascade. A cascade that equals that one up to names, inlined
maps and rank order, such as a derived one, is placed as that cascade.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from archsim.mapping import Mapping
from einsum_cascade.cascade import Cascade
from einsum_cascade.catalog import load
from einsum_cascade.correspondence import correspondence


def recognised(cascade: Cascade, mapping: Mapping) -> Cascade:
    """Return the cascade in the mapping's words if it is the mapping's; else return it as it is."""
    names = {einsum.name for einsum in cascade.einsums}
    if mapping.cascade is None or names <= dict(mapping.placements).keys():
        return cascade
    return _in_words_of(cascade, mapping.cascade)


@cache
def _in_words_of(cascade: Cascade, name: str) -> Cascade:
    reference = load(name)
    if correspondence(cascade, reference) is None:
        return cascade
    # The parts of a split may have other names, too.
    parts = dict(reference.splits)
    names = {
        old: new
        for whole, own in cascade.splits
        for old, new in zip(own, parts[whole], strict=True)
    }
    sizes = tuple((names.get(rank, rank), size) for rank, size in cascade.default_sizes)
    return replace(reference, name=cascade.name, default_sizes=sizes or reference.default_sizes)
