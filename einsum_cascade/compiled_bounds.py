"""Limits as bounds of loops: which rows and lanes of a tile are not empty.

A limit is linear. Of several unknown variables the largest value it can take is used, so that a row
is left out only if it is empty for all of them; the last loop knows the others and is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from einsum_cascade.cascade import Einsum
from einsum_cascade.compiled_presence import Limit, plus, times
from einsum_cascade.compiled_tables import Place, Tables
from einsum_cascade.compiled_text import Text


@dataclass(slots=True)
class Bounds:
    """Writes bounds, and remembers which are written already."""

    tables: Tables
    text: Text
    # Names of what is known at the present step of the sweep, by what it is computed from.
    spans: dict[tuple[str, ...], str] = field(default_factory=dict)

    def lane_bounds(self, limits: Sequence[Limit], lane: str, end: str) -> tuple[str, str]:
        """Write l0 and l1: where all limits hold, every other variable being known."""
        if not limits:
            return "0", end
        self.text.line(f"l0, l1 = 0, {end}")
        for limit in limits:
            factors = dict(limit.factors)
            own = factors.pop(lane, "0")
            rest = plus(Place(factors, limit.rest).at(), times(own, "p0"))
            self.text.line(f"l0, l1 = q.narrow(l0, l1, {own}, {rest})")
        return "l0", "l1"

    def rows(self, einsum: Einsum, variable: str, known: set[str], limits: Sequence[Limit]) -> str:
        """Write the range of a row variable outside which all points are empty; return its text."""
        rank = self.tables.cascade.rank_of(variable)
        limits = [limit for limit in limits if variable in limit.names]
        if not limits:
            return f"n_{rank}"
        terms = []
        for limit in limits:
            factors = dict(limit.factors)
            own = factors.pop(variable)
            rest = self.most(einsum, Limit(tuple(factors.items()), limit.rest), known)
            terms.append(f"{own}, {rest}")
        key = (rank, *terms)
        if key in self.spans:
            return self.spans[key]
        low, high = self.text.fresh("lo"), self.text.fresh("hi")
        self.text.line(f"{low}, {high} = 0, n_{rank}")
        for term in terms:
            self.text.line(f"{low}, {high} = q.narrow({low}, {high}, {term})")
        if not known - self.tables.stepping(einsum):
            # Nothing but the step of the sweep goes into it, so all Einsums of a step share it.
            self.spans[key] = f"{low}, {high}"
        return f"{low}, {high}"

    def most(self, einsum: Einsum, limit: Limit, known: set[str], which: str = "most") -> str:
        """Text of the largest (or least) value of a form, over lanes and what is not known yet."""
        parts = [limit.rest]
        for variable, factor in limit.factors:
            if variable in known:
                parts.append(times(f"v_{variable}", factor))
            elif self.tables.cascade.rank_of(variable) == self.tables.stage.lane:
                parts.append(f"q.{which}({factor}, p0, p0 + lanes)")
            else:
                parts.append(f"q.{which}({factor}, 0, n_{self.tables.cascade.rank_of(variable)})")
        return plus(*parts)

    def full(self, einsum: Einsum, known: set[str], limits: Sequence[Limit]) -> str:
        """Write whether limits hold for all rows and lanes; return the name of that."""
        terms = [f"{self.most(einsum, limit, known, 'least')} >= 0" for limit in limits]
        key = ("full", *terms)
        if key not in self.spans:
            name = self.text.fresh("full")
            self.text.line(f"{name} = {' and '.join(terms)}")
            if known - self.tables.stepping(einsum):
                return name
            self.spans[key] = name
        return self.spans[key]
