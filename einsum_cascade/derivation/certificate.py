"""The record of one rewrite of a reduction, and what it claims."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Certificate:
    """Why a reduction may run along with the results it depends on.

    All fields are text of the cascade language. `references` are the results that change while
    the reduction runs; the new value of `GM[p]` is written `GM_new[p]`. With F the basis, c the
    coefficients, H the action, a old and b new references, the claims are, for a sum,

        map(x, a) = sum_j c_j(a) F_j(x, a)    and    F_i(x, b) = sum_j H_ij(a, b) F_j(x, a)

    and for a maximum or minimum, with one basis function, the same with + for the product:
    map = c + F(x, a), F(x, b) = H(a, b) + F(x, a). Neither c nor H contains anything that the
    reduction runs over. A hoist claims the first line only; what is left of the map (the basis)
    is what the next certificate of the same Einsum is about.
    """

    einsum: str
    rule: str
    reduction: str
    map: str
    references: tuple[str, ...]
    # Results that an earlier sweep has finished: constants here.
    finished: tuple[str, ...]
    basis: tuple[str, ...]
    coefficients: tuple[str, ...]
    action: tuple[tuple[str, ...], ...]
    # What must hold besides the identities, and what is known about the range of values.
    conditions: tuple[str, ...] = ()
    note: str = ""

    def __str__(self) -> str:
        """Print as a short proof."""
        is_sum = self.reduction == "sum"
        one, none = ("1", "0") if is_sum else ("0", "")
        pairs = zip(self.coefficients, self.basis, strict=True)
        terms = [
            f"({basis})" if c == one else f"({c}){'*' if is_sum else ' + '}({basis})"
            for c, basis in pairs
            if c != none
        ]
        lines = [f"{self.rule} of {self.einsum} = {self.reduction}(...)", f"  map    {self.map}"]
        lines.append(f"       = {' + '.join(terms)}")
        if self.action and self.references:
            lines.append(f"  when {', '.join(self.references)} changes:")
            for basis, row in zip(self.basis, self.action, strict=True):
                lines.append(f"    new of {basis}: ({', '.join(row)}) of the old")
        lines += [f"  if     {condition}" for condition in self.conditions]
        return "\n".join([*lines, *([f"  note   {self.note}"] if self.note else [])])
