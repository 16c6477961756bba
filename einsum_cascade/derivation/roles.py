"""Passes of one role of a rank over which several variables range.

In self-attention the same tokens are rows and columns of the logits. What a rewrite changes is how
often the columns are traversed; seen together with the rows, every pair of tokens would count.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from einsum_cascade.cascade import Cascade, Einsum, variables_in
from einsum_cascade.expressions import Access, Expr, rewrite, rewrite_condition
from einsum_cascade.legality import parse
from einsum_cascade.pass_analysis import passes

# What is added to the names of a rank and of inputs where they stand for rows.
ROWS = "ROWS"


def sweeps_over(cascade: Cascade, rank: str, moving: Collection[str]) -> int:
    """Sweeps over a rank that suffice for every tensor, for the role that `moving` variables have.

    This is the number of passes unless the analysis can only give an interval: then its upper end,
    which a schedule achieves.
    """
    return max(passes(columns(cascade, rank, moving), rank).upper.values())


def columns(cascade: Cascade, rank: str, moving: Collection[str]) -> Cascade:
    """The cascade with a rank of their own for all variables over `rank` that are not moving."""
    rows = {v for v, own in cascade.variables if own == rank and v not in moving}
    used = {v for e in cascade.einsums for v in e.variables}
    if not rows & used:
        return cascade

    def one(node: Expr) -> Expr:
        if not isinstance(node, Access) or node.tensor not in cascade.inputs:
            return node
        inside = set(variables_in(node))
        return Access(node.tensor + ROWS, node.indices) if inside & rows else node

    lines = [f"rank {whole} = {'*'.join(parts)}" for whole, parts in cascade.splits]
    lines += [f"rank {whole} = {' + '.join(parts)}" for whole, parts in cascade.concatenations]
    lines += [
        f"var {v} in {own}{ROWS if v in rows else ''}"
        for v, own in cascade.variables
        if v in rows or v.upper() != own
    ]
    if cascade.declared_inputs:
        lines += [f"input {rewrite(access, one)}" for access in cascade.declared_inputs]
    lines.append("output " + ", ".join(cascade.outputs))
    lines += [_line(einsum, one) for einsum in cascade.einsums]
    return parse("\n".join(lines), cascade.name)


def _line(einsum: Einsum, one: Callable[[Expr], Expr]) -> str:
    where = rewrite_condition(einsum.where, one) if einsum.where is not None else None
    changed = Einsum(
        einsum.target,
        einsum.op,
        einsum.over,
        rewrite(einsum.map, one),
        where,
        einsum.is_implicit,
        line=einsum.line,
    )
    return str(changed)
