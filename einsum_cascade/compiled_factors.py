"""Sums of products of three and more become contractions: all but one factor is a tensor first.

In sum[m](A[m,p]*TV[m]*V[f,m]), A times TV is computed at each m and p, not for each f again. It is
the product of the language, from the left, so that nothing is rounded in another order.
"""

from __future__ import annotations

from dataclasses import replace

from einsum_cascade.cascade import Cascade, Dim, Einsum, Tensor, variables_in
from einsum_cascade.compiled_empty import is_safe
from einsum_cascade.expressions import Access, Apply, Expr, Name, accesses


def factored(cascade: Cascade) -> Cascade:
    """Cut the factors of such sums off; the cascade itself if there are none."""
    einsums: list[Einsum] = []
    tensors = list(cascade.tensors)
    for einsum in cascade.einsums:
        factor = _factor(cascade, einsum)
        if factor is None:
            einsums.append(einsum)
            continue
        names = {tensor.name for tensor in tensors}
        name = next(n for i in range(len(names) + 1) if (n := f"{einsum.name}X{i}") not in names)
        variables = variables_in(factor)
        read = Access(name, tuple(Name(v) for v in variables))
        dims = tuple(Dim(cascade.rank_of(v)) for v in variables)
        tensors.append(Tensor(name, dims, "intermediate"))
        made = replace(einsum, target=read, op=None, over=(), map=factor, where=None)
        einsums += [replace(made, is_implicit=False), replace(einsum, map=_with(einsum, read))]
    if len(einsums) == len(cascade.einsums):
        return cascade
    return replace(cascade, einsums=tuple(einsums), tensors=tuple(tensors))


def _factor(cascade: Cascade, einsum: Einsum) -> Expr | None:
    """The factor of a sum that is more than one tensor, if the other one is and adds a variable."""
    match einsum:
        case Einsum(op="sum", map=Apply(operator="mul", arguments=(factor, Access() as other))):
            pass
        case Einsum(op="sum", map=Apply(operator="mul", arguments=(Access() as other, factor))):
            pass
        case _:
            return None
    parts = accesses(factor)
    if isinstance(factor, Access) or any(cascade.tensor(a.tensor).is_state for a in parts):
        return None
    if cascade.tensor(einsum.name).is_state:
        return None
    if not all(is_safe(cascade, a, axis) for a in parts for axis in range(len(a.indices))):
        return None
    own, others = set(variables_in(factor)), set(variables_in(other))
    kept = set(einsum.left)
    is_worth = own & kept - others and others & kept - own and own & others & set(einsum.over)
    return factor if is_worth else None


def _with(einsum: Einsum, read: Access) -> Expr:
    """The product with the factor as a tensor."""
    assert isinstance(einsum.map, Apply)
    left, right = einsum.map.arguments
    arguments = (left, read) if isinstance(left, Access) else (read, right)
    return replace(einsum.map, arguments=arguments)
