"""The closed forms of papers, for comparison with the papers only.

A mapping carries its form as formulas over the cycles of Einsums; those cycles come from the
cascade, the mapping and the operator table. Nothing here knows a configuration by name.
"""

from __future__ import annotations

from functools import partial

from archsim.errors import ArchError
from archsim.estimate import Estimate, total
from archsim.formulas import compute
from archsim.placement import Phase, Placed, Words
from einsum_cascade.expressions import Expr


def published(placed: Placed) -> Estimate:
    """Evaluate the mapping's closed form; ArchError if it has none."""
    mapping, form = placed.mapping, placed.mapping.published
    if form is None:
        what = f"{mapping.name} has no published closed form"
        raise ArchError(mapping.problem(("name",), what, "use --level bound"))
    names = {
        name: value for name, value in placed.tiling.names if name in ("ROWS", "COLS", "LANES")
    }
    phases = []
    for work in placed.work:
        names[work.einsum] = names.get(work.einsum, 0) + work.slots
    for phase, formula in zip(placed.phases, form.cycles, strict=True):
        if form.read or form.write:
            phase = Phase(
                phase.work,
                _words(placed, form.read, "read"),
                _words(placed, form.write, "write"),
            )
        cycles = compute(formula, names, partial(mapping.place, "published", "cycles"))
        phases.append((phase, cycles * placed.batch))
    return total(placed, phases)


def _words(placed: Placed, formulas: tuple[tuple[str, Expr], ...], way: str) -> Words:
    names = dict(placed.tiling.names)
    found = []
    for tensor, formula in formulas:
        at = partial(placed.mapping.place, "published", "traffic", way, tensor)
        words = compute(formula, names, at)
        if words:
            found.append((tensor, words))
    return tuple(found)
