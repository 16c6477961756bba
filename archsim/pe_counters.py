"""What PEs and lanes did in a run of the register-level model, task by task.

The kernel counts, for each micro-op, the PEs that executed it while they held a point of its tile;
what one of them reads, writes and takes from its neighbours stands in the encoded micro-op. Only an
operator of several slots is counted by the table of docs/energy.md, since the model computes it in
its first slot and carries the result on.
"""

from __future__ import annotations

from collections.abc import Mapping

from archsim import pe_kernel as kernel
from archsim.actions import Count
from archsim.sequence import MicroOp

_NEIGHBOURS = (kernel.LEFT, kernel.TOP, kernel.RETURNED)
_SOURCES = (kernel.SOURCE_A, kernel.SOURCE_B, kernel.SOURCE_C)


def counters(
    streams: Mapping[str, tuple[kernel.Stream, list[MicroOp], kernel.Log]], array: str
) -> dict[str, Count]:
    """Executions, register accesses and hops of each task; lanes have no neighbours."""
    found: dict[str, Count] = {}
    for unit, (stream, micro_ops, log) in streams.items():
        for n, op in enumerate(micro_ops):
            row = stream.ops[n]
            executed, acted = int(log.executed[n]), int(log.acted[n])
            reads = int(row[kernel.READS])
            writes = 1 if row[kernel.GOES] & (kernel.TO_REGISTER | kernel.TO_OUTPUT) else 0
            hops = sum(row[source] in _NEIGHBOURS for source in _SOURCES)
            part = int(row[kernel.PART])
            if part:
                reads, writes = 2, 2 if part == 1 else 1
                hops += 1
            hops = int(hops) if unit == array else 0
            before = found.get(op.task.name, Count(0, 0, 0, 0))
            found[op.task.name] = Count(
                before.executions + executed,
                before.reads + reads * acted,
                before.writes + writes * acted,
                before.hops + hops * executed,
            )
    return found
