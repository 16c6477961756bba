"""What follows from sizes and parameters alone is computed apart, once for all calls of a size.

Where the window of each query begins is a row of numbers: the interpreter has it sooner than a
kernel is compiled, and all batch elements read the same.
"""

from __future__ import annotations

from functools import cache

from einsum_cascade.cascade import Cascade
from einsum_cascade.compiled_empty import empty_causes, sized_tensors
from einsum_cascade.compiled_plan import Stage, part_of


def apart(stage: Stage) -> tuple[Stage, ...]:
    """Cut rows of numbers that no input is behind off a stage that is not tiled."""
    return (stage,) if stage.lane is not None else _apart(stage.cascade, stage.reason)


@cache
def _apart(cascade: Cascade, reason: str) -> tuple[Stage, ...]:
    causes = empty_causes(cascade)
    rows = frozenset(
        name for name in sized_tensors(cascade) if not causes[name] and _is_row(cascade, name)
    )
    # A sum of many points is for a kernel.
    rows -= {e.name for e in cascade.einsums if e.over}
    # Whatever is behind a row is one itself, or else it stays where it is.
    while True:
        makers = [e for e in cascade.einsums if e.name in rows]
        kept = rows - {e.name for e in makers if not {r.tensor for r in e.reads} <= rows}
        if kept == rows:
            break
        rows = kept
    if not rows:
        return (Stage(cascade, None, reason),)
    rest = part_of(cascade, {e.name for e in cascade.einsums} - rows)
    return (
        Stage(part_of(cascade, rows), None, reason, is_sized=True),
        Stage(rest, None, reason, given=rows & set(rest.inputs)),
    )


def _is_row(cascade: Cascade, name: str) -> bool:
    """True for a single number, or numbers along a whole rank."""
    tensor = cascade.tensor(name)
    whole = all(d.rank and not d.extra and cascade.whole_of(d.rank) == d.rank for d in tensor.dims)
    return whole and len(tensor.dims) < 2 and tensor.role != "output"
