"""Axes of tensors that nobody outside sees, in an order whose last one is long.

Rows run along memory: where the last axis has a few elements (the heads that share keys, for one
new token), a row fills no vector. The longest axis is last then, in everything that is local.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from einsum_cascade.cascade import Cascade, Tensor
from einsum_cascade.expressions import Access, Expr, rewrite, rewrite_condition

# For tensors that are turned: their axes, by place in the written order.
Orders = tuple[tuple[str, tuple[int, ...]], ...]
# A last axis below a vector's lanes is few; that many times it is worth another module.
FEW, TIMES = 16, 16


def orders_of(cascade: Cascade, extents: Mapping[str, int]) -> Orders:
    """Find the tensors to turn for sizes, most often none."""
    made = {einsum.name for einsum in cascade.einsums}
    found = []
    for tensor in cascade.tensors:
        order = _order(tensor, extents) if tensor.name in made else None
        if order is not None:
            found.append((tensor.name, order))
    return tuple(found)


def _order(tensor: Tensor, extents: Mapping[str, int]) -> tuple[int, ...] | None:
    """The axes of a tensor with the longest last, if the last is short."""
    ranks = [rank for rank in tensor.ranks if rank is not None]
    if tensor.role != "intermediate" or len(ranks) < max(2, len(tensor.dims)):
        return None
    sizes = [extents[rank] for rank in ranks]
    longest = max(range(len(sizes)), key=sizes.__getitem__)
    if sizes[-1] >= FEW or sizes[longest] < TIMES * max(1, sizes[-1]):
        return None
    return (*(axis for axis in range(len(sizes)) if axis != longest), longest)


def in_order(cascade: Cascade, orders: Orders) -> Cascade:
    """Write a cascade's tensors with their axes in other orders."""
    turned = dict(orders)
    if not turned:
        return cascade

    def change(expr: Expr) -> Expr:
        if not isinstance(expr, Access) or expr.tensor not in turned:
            return expr
        return replace(expr, indices=tuple(expr.indices[axis] for axis in turned[expr.tensor]))

    einsums = []
    for einsum in cascade.einsums:
        target = change(einsum.target)
        assert isinstance(target, Access)
        where = None if einsum.where is None else rewrite_condition(einsum.where, change)
        einsums.append(replace(einsum, target=target, map=rewrite(einsum.map, change), where=where))
    tensors = tuple(
        replace(tensor, dims=tuple(tensor.dims[axis] for axis in turned[tensor.name]))
        if tensor.name in turned
        else tensor
        for tensor in cascade.tensors
    )
    return replace(cascade, einsums=tuple(einsums), tensors=tensors)
