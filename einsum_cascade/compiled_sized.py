"""What follows from sizes and parameters alone is computed apart, once for all calls of a size.

Where the window of each query begins is a row of numbers: the interpreter has it sooner than a
kernel is compiled, and all batch elements read the same.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from einsum_cascade.cascade import Cascade
from einsum_cascade.compiled_empty import empty_causes, sized_tensors
from einsum_cascade.compiled_plan import Stage


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
    read = {r.tensor for e in cascade.einsums if e.name not in rows for r in e.reads}
    first = _only(cascade, rows, "output", read)
    return (
        Stage(first, None, reason, is_sized=True),
        Stage(_only(cascade, rows, "input", read), None, reason, given=rows & read),
    )


def _is_row(cascade: Cascade, name: str) -> bool:
    """True for a single number, or numbers along a whole rank."""
    tensor = cascade.tensor(name)
    whole = all(d.rank and not d.extra and cascade.whole_of(d.rank) == d.rank for d in tensor.dims)
    return whole and len(tensor.dims) < 2 and tensor.role != "output"


def _only(cascade: Cascade, rows: frozenset[str], role: str, read: set[str]) -> Cascade:
    """The rows alone as a cascade, or all but them; what goes from one to the other has a role."""
    einsums = tuple(e for e in cascade.einsums if (e.name in rows) == (role == "output"))
    inside = {e.name for e in einsums} | {r.tensor for e in einsums for r in e.reads}
    tensors = tuple(
        replace(t, role=role) if t.name in rows & read else t
        for t in cascade.tensors
        if t.name in inside
    )
    return replace(
        cascade, einsums=einsums, tensors=tensors, declared_inputs=(), declared_outputs=()
    )
