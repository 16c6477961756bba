"""Grouped-query attention on an accelerator: heads that share keys become columns of one head.

A workload with `KV` heads of keys and values for its `H` query heads has G = H / KV queries for
every key that a tile holds. Column p = t G + g holds query t of head g of a group, so a run has KV
heads of P G queries each, and K and V of a group are fetched once. A filter on a query's position
speaks of t = p // G then.

Decision: packing turns cascade and workload into another cascade and workload, before anything is
placed. All that follows, down to the hardware, sees nothing special.
"""

from __future__ import annotations

from dataclasses import replace

from archsim.errors import ArchError
from einsum_cascade.cascade import Cascade, Einsum, Workload
from einsum_cascade.errors import Problem, Source
from einsum_cascade.expressions import Apply, Expr, Name, Number, substitute_condition

# Ranks of queries, of their heads, of heads of keys, and of the heads that share those.
QUERIES, HEADS, KEY_HEADS, GROUP = "P", "H", "KV", "G"


def packed(cascade: Cascade, workload: Workload) -> tuple[Cascade, Workload]:
    """Pack query heads that share keys; without `KV` in the workload nothing changes.

    A cascade with a rank G counts packed queries already, so its filters stay.

    Raises:
        ArchError: KV does not divide H, or queries are more to the cascade than a rank P.
    """
    sizes = dict(workload.sizes)
    shared = sizes.pop(KEY_HEADS, None)
    if shared is None:
        return cascade, workload
    heads = sizes.get(HEADS, 1)
    if heads % shared:
        what = f"{heads} query heads can't share {shared} heads of keys"
        raise ArchError(Problem(Source(workload.name), what, hint="KV divides H"))
    group = heads // shared
    count = workload.size(QUERIES) * group
    changed = {**sizes, HEADS: shared, GROUP: group, QUERIES: count}
    if group > 1 and GROUP not in cascade.ranks:
        cascade = replace(
            cascade, einsums=tuple(_packed(cascade, e, group) for e in cascade.einsums)
        )
    return cascade, Workload(workload.name, tuple(changed.items()), workload.title)


def _packed(cascade: Cascade, einsum: Einsum, group: int) -> Einsum:
    """An Einsum whose filter finds a query's position under its packed one."""
    names = [v for v, rank in cascade.variables if rank == QUERIES]
    if HEADS in cascade.ranks or cascade.parts_of(QUERIES) != (QUERIES,):
        what = f"heads that share keys can't be packed into {QUERIES} of {cascade.name}"
        hint = f"{HEADS} is no rank of the cascade, and {QUERIES} is not split in it"
        raise ArchError(Problem(einsum.source, what, hint=hint))
    if any(_counts(node, names) for node in _numbers(einsum.map)):
        what = f"{einsum.name} computes with positions of queries, which packing would change"
        raise ArchError(Problem(einsum.source, what, str(einsum), len(str(einsum))))
    if einsum.where is None:
        return einsum
    positions: dict[str, Expr] = {
        name: Apply("floordiv", (Name(name), Number(group))) for name in (*names, QUERIES)
    }
    return replace(einsum, where=substitute_condition(einsum.where, positions))


def _numbers(expr: Expr) -> list[Expr]:
    """Nodes of an expression outside the indices of tensors."""
    if isinstance(expr, Apply):
        return [expr, *(node for argument in expr.arguments for node in _numbers(argument))]
    return [expr] if isinstance(expr, Name) else []


def _counts(node: Expr, names: list[str]) -> bool:
    return isinstance(node, Name) and node.name in (*names, QUERIES)
