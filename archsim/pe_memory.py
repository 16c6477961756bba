"""The memory channel of the register-level model: a table of moves, and who waits for which.

Which micro-ops must have been issued before a move, and which move must be over before a micro-op,
follows from the order of the Program alone. When that is, the kernel finds out.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from archsim import pe_kernel as kernel
from archsim.channel import Channel
from archsim.granules import latency_of
from archsim.program import Program
from archsim.sequence import MicroOp


def channel_of(
    program: Program, streams: Mapping[str, tuple[kernel.Stream, list[MicroOp]]]
) -> kernel.Channel:
    """The table of moves; fills the columns FETCHED and STORED of the units' micro-ops."""
    channel = Channel(program)
    place = {(g.move.name, g.number): k for k, g in enumerate(channel.order)}
    last: dict[tuple[str, int], int] = {}
    for stream, ops in streams.values():
        for n, op in enumerate(ops):
            last[op.task.name, op.tile.index] = n
            if op.slot:
                continue
            needed = [place[g.move.name, g.number] for g in channel.needed(op.task, op.tile.index)]
            room = [
                place[g.move.name, g.number] for g in channel.in_the_way(op.task, op.tile.index)
            ]
            stream.ops[n, kernel.FETCHED] = max(needed, default=-1) + 1
            stream.ops[n, kernel.STORED] = max(room, default=-1) + 1
    moves = np.zeros((len(channel.order), 6), np.int64)
    for k, granule in enumerate(channel.order):
        row = moves[k]
        row[kernel.DURATION] = granule.ticks
        for task, tile in channel.before(granule):
            unit = task.unit == program.array.name
            column = kernel.AFTER_ARRAY if unit else kernel.AFTER_LANES
            row[column] = max(row[column], last[task.name, tile] + 1)
            if granule.move.kind == "store":
                row[kernel.IS_STORE] = 1
                down = program.architecture.latency.row_hop * (program.shape[0] - 1) if unit else 0
                row[kernel.SKEW] = program.shape[1] - 1 + down
                row[kernel.SKEW] += program.cost(task, task.steps[-1])[1] - 1
        if granule.move.kind == "fetch":
            row[kernel.DELAY] = latency_of(program.architecture)
    over = np.full(len(moves), kernel.NEVER)
    return kernel.Channel(moves, over, np.zeros(2, np.int64))


def bytes_moved(program: Program) -> dict[str, int]:
    """Bytes of all granules, by move."""
    found: dict[str, int] = {}
    for granule in Channel(program).order:
        found[granule.move.name] = found.get(granule.move.name, 0) + granule.bytes
    return found
