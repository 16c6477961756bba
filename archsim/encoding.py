"""A Program's micro-ops as rows of numbers, with the words that arrive on the edges.

This is the register-level view of a Program: every operand is a register index, a FIFO or an edge,
every register index is rotated by the tile. Order is the Program's; there is nothing else to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np

from archsim import pe_kernel as pe
from archsim.arithmetic import exp_unit
from archsim.elements import Array, coordinates, edge_arrays
from archsim.errors import ArchError
from archsim.pe_operators import EXACT
from archsim.program import FUNCTIONS, Operand, Program, Task, Tile
from archsim.sequence import MicroOp, sequence
from einsum_cascade.errors import Problem, Source
from einsum_cascade.format_kernels import unit_table
from einsum_cascade.formats import MULTIPLIERS

# Words on the edges, for all micro-ops of a unit: 4 GiB.
LIMIT = 2**29
# What masked PEs do in a task of each kind; in others, as the rest.
MASKS = {"reduce": pe.PASS, "map": pe.ZERO}


@dataclass
class Encoder:
    """Turns the micro-ops of one Program into tables."""

    program: Program
    inputs: Mapping[str, Any]
    numbers: str = "float64"

    @cached_property
    def edges(self) -> dict[str, Array]:
        """Arrays whose words arrive on the edges."""
        return edge_arrays(self.program, self.inputs, self.numbers)

    @property
    def registers(self) -> dict[str, dict[tuple[str, int], int]]:
        """First register of each tensor, and of each step's result, by unit."""
        return self._layout[0]

    @property
    def counts(self) -> dict[str, int]:
        """Registers of a PE, or lane, by unit."""
        return self._layout[1]

    @cached_property
    def _layout(self) -> tuple[dict[str, dict[tuple[str, int], int]], dict[str, int]]:
        found: dict[str, dict[tuple[str, int], int]] = {}
        free: dict[str, int] = {}

        def place(unit: str, key: tuple[str, int], count: int) -> None:
            found.setdefault(unit, {})[key] = free.get(unit, 0)
            free[unit] = free.get(unit, 0) + count

        for register in self.program.registers:
            place(register.unit, (register.tensor, -1), register.words * register.depth)
        for task in self.program.tasks:
            for number in range(len(task.steps)):
                place(task.unit, (task.name, number), 1)
        return found, free

    @cached_property
    def queues(self) -> dict[str, list[str]]:
        """Tensors with a FIFO of their own, by kind."""
        found: dict[str, list[str]] = {"landing": [], "returned": []}
        for task in self.program.tasks:
            for operand in (operand for step in task.steps for operand in step.operands):
                if operand.source in found:
                    found[operand.source].append(operand.name)
        return found

    def stream(self, unit: str) -> tuple[pe.Stream, list[MicroOp]]:
        """The micro-ops of one unit as a table, and as they are."""
        program = self.program
        rows, cols = program.shape
        body = next(body for body in program.bodies if body.unit == unit)
        micro_ops = list(islice(sequence(program, body), LIMIT // (rows + cols) + 1))
        count = len(micro_ops)
        if count * (rows + cols) > LIMIT:
            what = f"more than {count - 1:,} micro-ops of {unit} on {rows} rows and {cols} columns"
            hint = "they don't fit into memory: take shorter ranks, fewer heads or --level tile"
            raise ArchError(Problem(Source(program.name), what, hint=hint))
        stream = pe.Stream(
            np.zeros((count, pe.FIELDS), np.int64),
            np.zeros((count, 3)),
            np.zeros((count, rows)),
            np.zeros((count, cols)),
            program.masks[0],
            *self._arithmetic(unit),
        )
        for n, op in enumerate(micro_ops):
            self._encode(stream, n, op)
        return stream, micro_ops

    def _arithmetic(self, unit: str) -> tuple[int, int, Array]:
        """Multiplier, exp method and its table of a unit."""
        if self.numbers == "float64":
            return EXACT, 0, np.zeros((1, 1))
        array = self.program.architecture.array(unit)
        assert array is not None
        return MULTIPLIERS.index(array.multiplier), *unit_table(exp_unit(array))

    def _encode(self, stream: pe.Stream, n: int, op: MicroOp) -> None:
        program, task = self.program, op.task
        row = stream.ops[n]
        word, number, slot = program.locate(task, op.slot)
        step = task.steps[number]
        slots, latency = program.cost(task, step)
        own = self.registers[task.unit][task.name, number]
        in_array = task.unit == program.array.name
        row[pe.LATENCY] = row[pe.LOOP] = latency
        row[pe.TILE_MASK] = program.masks[1][op.tile.index]
        row[pe.ONLY_ROW], row[pe.RUN] = -1, op.run
        row[pe.COLS], row[pe.PART] = op.tile.cols, slot + 1 if slots > 1 else 0
        by_row = step.operator == "load"
        row[pe.FUNCTION] = FUNCTIONS.index(step.function if slot == 0 or by_row else "copy")
        if by_row:
            row[pe.ONLY_ROW] = slot
            row[pe.SOURCE_A] = pe.TOP
            self._edge(stream, n, op, word, step.operands[0], slot)
        elif slot == 0:
            for j, operand in enumerate(step.operands):
                self._operand(stream, n, j, op, word, operand)
        else:
            # Further slots of one operator carry its result on.
            row[pe.SOURCE_A] = pe.REGISTER if in_array else pe.LANE
            row[pe.INDEX_A] = own
        is_last = number == len(task.steps) - 1 and slot == slots - 1
        if not is_last:
            row[pe.GOES], row[pe.TARGET] = pe.TO_REGISTER, own
            return
        row[pe.NARROW] = task.kind == "map"
        row[pe.MASK] = MASKS.get(task.kind, pe.PLAIN)
        if task.kind == "accumulate":
            row[pe.LOOP] = program.architecture.latency.accumulate
            row[pe.PARTIAL] = word < program.word_count(task) - 1
            if not in_array and self._is_behind(op, word):
                row[pe.MASK] = pe.PASS
        if task.kind in ("drain", "load"):
            row[pe.ONLY_ROW] = word
        if task.goes == "landing":
            row[pe.GOES] = pe.TO_COLUMN
            row[pe.QUEUE] = self.queues["landing"].index(task.tensor)
        elif (task.tensor, -1) in self.registers[task.unit]:
            row[pe.GOES] |= pe.TO_REGISTER
            row[pe.TARGET] = self._register(task, op.tile, word)
        if task.goes == "output":
            row[pe.GOES] |= pe.TO_OUTPUT
        if task.is_returned:
            row[pe.RETURN] = self.queues["returned"].index(task.tensor) + 1

    def _is_read_in_place(self, task: Task, operand: Operand) -> bool:
        """True if a PE or lane reads an operand in its own registers, or a start value there.

        Registers of lanes also stand for what the buffer holds; that goes by word for word.
        """
        if operand.source != "register" or task.unit == self.program.array.name:
            return operand.source in ("register", "accumulator", "temporary")
        mapping = self.program.placed.mapping
        readers = dict(mapping.forwarded).get(operand.name, ())
        is_held = operand.name in (*dict(mapping.held), *mapping.passing)
        is_taken = any(name not in readers for name in task.name.split("+"))
        return not (is_held and is_taken and self.program.source(task, operand).words == task.words)

    def _register(self, maker: Task, tile: Tile, word: int) -> int:
        register = next(
            r for r in self.program.registers if (r.tensor, r.unit) == (maker.tensor, maker.unit)
        )
        first = self.registers[maker.unit][maker.tensor, -1]
        turn = self.program.ordinals[maker.name][tile.index] % register.depth
        return first + turn * register.words + (word if register.words > 1 else 0)

    def _operand(
        self, stream: pe.Stream, n: int, j: int, op: MicroOp, word: int, operand: Operand
    ) -> None:
        program, task, row = self.program, op.task, stream.ops[n]
        index = pe.SOURCE_A + 2 * j
        in_array = task.unit == program.array.name
        own = pe.REGISTER if in_array else pe.LANE

        def put(kind: int, where: int = 0, constant: float = 0.0) -> None:
            row[index], row[index + 1] = kind, where
            stream.constants[n, j] = constant

        row[pe.READS] += self._is_read_in_place(task, operand)
        match operand.source:
            case "constant":
                put(pe.CONSTANT, 0, operand.number)
            case "temporary":
                put(own, self.registers[task.unit][task.name, int(operand.number)])
            case "accumulator" if word:
                put(pe.ACCUMULATOR, self._register(task, op.tile, 0))
            case "accumulator":
                tile = program.source_tile(task, op.tile, operand) if operand.back else None
                if tile is None:
                    put(pe.CONSTANT, 0, task.identity or 0.0)
                else:
                    put(pe.ACCUMULATOR, self._register(task, program.tiles[tile], 0))
            case "flow":
                put(pe.TOP)
                stream.top[n, :] = task.identity or 0.0
            case "left" | "top":
                put(pe.LEFT if operand.source == "left" else pe.TOP)
                self._edge(stream, n, op, word, operand)
            case "landing":
                put(pe.LANDING, self.queues["landing"].index(operand.name))
            case "returned":
                queue = self.queues["returned"].index(operand.name)
                put(pe.RETURNED, queue)
                row[pe.RETURN] = queue + 1
            case "register":
                maker = program.source(task, operand)
                tile = program.source_tile(task, op.tile, operand)
                if tile is None:
                    put(pe.CONSTANT, 0, operand.initial or 0.0)
                else:
                    by_word = maker.words == task.words and maker.kind == task.kind
                    by_word = by_word or maker.kind in ("map", "lane")
                    put(own, self._register(maker, program.tiles[tile], word if by_word else 0))

    def _is_behind(self, op: MicroOp, word: int) -> bool:
        """True for words of a lane behind the end of the rank whose tiles may be ragged."""
        at = self.program.word_at(op.task, word)
        return at.get(self.program.rows, 0) >= op.tile.rows

    def _edge(
        self,
        stream: pe.Stream,
        n: int,
        op: MicroOp,
        word: int,
        operand: Operand,
        row: int | None = None,
    ) -> None:
        """The words of one micro-op on an edge; rows and columns behind the end get 0."""
        program = self.program
        assert operand.access is not None
        at: dict[str, Any] = {**dict(op.tile.at), **program.word_at(op.task, word)}
        if operand.source == "left":
            at[program.rows] = np.arange(op.tile.rows)
            words = self.edges[operand.name][coordinates(program, operand.access, at)]
            stream.left[n, : op.tile.rows] = words
            return
        if op.task.kind == "load":
            row = word
        if row is not None:
            at[program.rows] = row
        if at.get(program.rows, 0) >= op.tile.rows:
            return
        at[program.cols] = np.arange(op.tile.cols)
        words = self.edges[operand.name][coordinates(program, operand.access, at)]
        stream.top[n, : op.tile.cols] = words
