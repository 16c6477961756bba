"""The Program: order, dependencies, registers and capacities of a run, and no times.

This is the contract between simulator and hardware. Tiles follow each other in a nest of loops;
each unit (the 2D array, the line of lanes below it) executes a body of tasks with lags over them;
a task is a few micro-ops for each word it makes. Which tile a value comes from follows from the
cascade's indices. When anything happens is for those who execute it to find out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim.arch import Architecture, Array
from archsim.blocks import Blocks
from archsim.issue import Body, show_entry
from archsim.nest import Limit, Loop, Nest, Tile, acting, mask_table, span
from archsim.on_chip import through_buffer
from archsim.placement import Placed
from archsim.tasks import FUNCTIONS, SOURCES, Move, Operand, Register, Step, Task
from einsum_cascade.cascade import Cascade
from einsum_cascade.documents import Document


@dataclass(frozen=True, repr=False)
class Program:
    """What runs on an array and the lanes below it, in which order."""

    placed: Placed
    nest: tuple[Loop, ...]
    # Variable spread over the rows and over the columns (and lanes).
    rows: str
    cols: str
    bodies: tuple[Body, ...]
    tasks: tuple[Task, ...]
    registers: tuple[Register, ...]
    landing_entries: int
    return_entries: int
    drain: str = "never"
    # Filters on points, and what is moved between memory and buffer.
    limits: tuple[Limit, ...] = ()
    moves: tuple[Move, ...] = ()
    # Or, instead of limits, a table of which tiles are there.
    blocks: Blocks | None = None
    # If not all of it: its first tiles, for those who look at the beginning of a long run.
    only: int | None = None
    # The file it was read from, if any.
    document: Document | None = None

    @property
    def name(self) -> str:
        """What runs where, in words."""
        return f"{self.cascade.name} on {self.architecture.name} through {self.placed.mapping.name}"

    @property
    def cascade(self) -> Cascade:
        """What is computed."""
        return self.placed.cascade

    @property
    def architecture(self) -> Architecture:
        """What it runs on; all latencies are there."""
        return self.placed.architecture

    @property
    def partitions(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Ranks that are split, each with its parts, the outermost first."""
        return self.placed.tiling.partitions

    @cached_property
    def array(self) -> Array:
        """The 2D array."""
        return next(a for a in self.architecture.arrays if "rows" in dict(a.axes))

    @cached_property
    def lanes(self) -> Array:
        """The lanes below it."""
        return next(a for a in self.architecture.arrays if "lanes" in dict(a.axes))

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the array."""
        axes = dict(self.array.axes)
        return axes["rows"], axes["cols"]

    @cached_property
    def found(self) -> dict[str, Any]:
        """What has been worked out for each task, for those who ask again (`actions`)."""
        return {}

    @cached_property
    def buffered(self) -> frozenset[str]:
        """Tensors that the buffer holds, or that pass through it."""
        return through_buffer(self.placed)

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Extents by rank or part."""
        return dict(self.placed.tiling.extents)

    def task(self, name: str) -> Task:
        """Return a task by name."""
        return next(task for task in self.tasks if task.name == name)

    def writer(self, register: Register) -> Task:
        """The task that writes a register: it does not pass its result down."""
        return next(
            task
            for task in self.tasks
            if (task.tensor, task.unit) == (register.tensor, register.unit)
            and task.goes != "landing"
        )

    def word_count(self, task: Task) -> int:
        """Words that a task makes, or runs through, in one tile."""
        return prod(self.sizes[variable.upper()] for variable in task.words)

    def word_at(self, task: Task, word: int) -> dict[str, int]:
        """Values of the variables that a task runs through, at one of its words."""
        found = {}
        for variable in reversed(task.words):
            word, found[variable] = divmod(word, self.sizes[variable.upper()])
        return found

    def slots(self, task: Task) -> int:
        """Issue slots of a task in one tile."""
        return self.word_count(task) * len(self._slots[task.name])

    def slots_of_word(self, task: Task) -> int:
        """Issue slots for one word."""
        return len(self._slots[task.name])

    def locate(self, task: Task, slot: int) -> tuple[int, int, int]:
        """Which word, which step and which slot of that step a slot of a task belongs to."""
        slots = self._slots[task.name]
        word, rest = divmod(slot, len(slots))
        return (word, *slots[rest])

    @cached_property
    def _slots(self) -> dict[str, list[tuple[int, int]]]:
        """For each task, the step and the slot within it of every slot of a word."""
        return {
            task.name: [
                (number, part)
                for number, step in enumerate(task.steps)
                for part in range(self.cost(task, step)[0])
            ]
            for task in self.tasks
        }

    def stride(self, loop: str) -> int:
        """Tiles from one coordinate of a loop to the next: those of the loops inside it."""
        stride = 1
        for inner in reversed(self.nest):
            if inner.variable == loop:
                break
            stride *= inner.count
        return stride

    def spacing(self, task: Task) -> int:
        """Tiles at least from one on which a task acts to the next; some may be missing."""
        spacing = 1
        if self.blocks is not None or any(limit.skips for limit in self.limits):
            return spacing
        for inner in reversed(self.nest):
            if inner.variable not in dict(task.when):
                break
            spacing *= inner.count
        return spacing

    def cost(self, task: Task, step: Step) -> tuple[int, int]:
        """Slots of a step, and cycles from each of them to what reads it."""
        return self._costs[task.unit, step.operator]

    @cached_property
    def _costs(self) -> dict[tuple[str, str], tuple[int, int]]:
        """Slots of an operator, and cycles from each to the next; words move in one."""
        found = {}
        for array in (self.array, self.lanes):
            found[array.name, "move"] = (1, 1)
            # One row after the other.
            found[array.name, "load"] = (self.shape[0], 1)
            for row in array.operators:
                found[array.name, row.operator] = (row.slots, row.latency_cycles // row.slots)
        return found

    @cached_property
    def space(self) -> Nest:
        """The nest with what fills the array and what cuts tiles off."""
        rows, cols = (
            span(variable, self.sizes, self.partitions) for variable in (self.rows, self.cols)
        )
        return Nest(self.nest, rows, cols, self.limits, self.blocks)

    @cached_property
    def tiles(self) -> tuple[Tile, ...]:
        """Every tile in order. Tiles that hold no element, or none that is kept, are left out."""
        return self.space.tiles(self.only)

    @cached_property
    def masks(self) -> tuple[NDArray[np.bool_], tuple[int, ...]]:
        """Masks of the array's PEs, [mask, row, column], and the number of each tile's.

        PEs outside a tile's mask hold no point: they pass the top word on in a reduction, and
        keep 0 in a map.
        """
        return mask_table(self.space, self.tiles, self.shape)

    @cached_property
    def acting(self) -> dict[str, tuple[int, ...]]:
        """For each task, the tiles on which it acts; some act once in a loop, first or last."""
        whole = self.only is None
        return {
            task.name: acting(self.space, self.tiles, dict(task.when), whole=whole)
            for task in self.tasks
        }

    @cached_property
    def ordinals(self) -> dict[str, dict[int, int]]:
        """For each task, how many tiles it acts on before each of its tiles."""
        return {
            name: {tile: ordinal for ordinal, tile in enumerate(tiles)}
            for name, tiles in self.acting.items()
        }

    @cached_property
    def _tile_at(self) -> dict[tuple[int, ...], int]:
        return {tuple(c for _, c in tile.at): tile.index for tile in self.tiles}

    def source(self, reader: Task, operand: Operand) -> Task:
        """The task that makes what an operand reads."""
        key = (reader.name, operand)
        if key not in self._sources:
            self._sources[key] = self._source(reader, operand)
        return self._sources[key]

    @cached_property
    def _sources(self) -> dict[tuple[str, Operand], Task]:
        return {}

    def _source(self, reader: Task, operand: Operand) -> Task:
        makers = [task for task in self.tasks if task.tensor == operand.name]
        if operand.source == "landing":
            return next(task for task in makers if task.goes == "landing")
        if operand.back and operand.name == reader.tensor:
            return reader
        if operand.source == "returned":
            return next(task for task in makers if task.is_returned)
        return next(t for t in makers if t.unit == reader.unit and t.goes != "landing")

    def source_tile(self, reader: Task, tile: Tile, operand: Operand) -> int | None:
        """The tile in which that was made; None before the first one.

        Some tiles between may be missing: what lies `back` is the one before in the same line.
        """
        source = self.source(reader, operand)
        if not operand.back and source.when in ((), reader.when):
            return tile.index
        back = {loop: steps for loop, steps in operand.back if loop not in dict(source.when)}
        at = dict(tile.at)
        for loop, steps in back.items():
            for _ in range(steps):
                before = self._before(at, loop)
                if before is None:
                    return None
                at = before
        if source.when:
            group = tuple(c for loop, c in at.items() if loop not in dict(source.when))
            return self._made_by_group(source).get(group)
        return self._tile_at[tuple(at.values())]

    def _before(self, at: dict[str, int], loop: str) -> dict[str, int] | None:
        """The nearest tile before in a line along a loop."""
        for coordinate in range(at[loop] - 1, -1, -1):
            other = {**at, loop: coordinate}
            if tuple(other.values()) in self._tile_at:
                return other
        return None

    def _made_by_group(self, task: Task) -> dict[tuple[int, ...], int]:
        """Where a task acts that does so once in some loops, by the coordinates of the others."""
        if task.name not in self._groups:
            self._groups[task.name] = {
                tuple(c for v, c in self.tiles[index].at if v not in dict(task.when)): index
                for index in self.acting[task.name]
            }
        return self._groups[task.name]

    @cached_property
    def _groups(self) -> dict[str, dict[tuple[int, ...], int]]:
        return {}

    def points(self, tile: Tile) -> int:
        """PEs of the array that hold points of a tile, or that a table says spend energy."""
        if self.blocks is not None:
            return self.blocks.of(dict(tile.at), self.blocks.kept)
        if not tile.is_partial:
            return tile.rows * tile.cols
        return int(self.space.mask(tile, self.shape).sum())

    def compute_only(self) -> Program:
        """The same Program with a memory that is never late: what hardware is compared with."""
        return replace(self, moves=())

    def by_table(self, move: Move) -> bool:
        """True if a table says for which tiles a move acts: it fetches blocks of keys."""
        blocks = self.blocks
        return (
            blocks is not None
            and move.kind == "fetch"
            and {blocks.outer, blocks.inner} <= set(move.loops)
        )

    def granule_bytes(self, move: Move, tile: Tile) -> int:
        """Bytes of the granule that a move brings or takes for a tile; ragged ends count as is."""
        filled = {self.rows: tile.rows, self.cols: tile.cols}
        words = prod(filled.get(v, self.sizes[v.upper()]) for v in move.words)
        return -(-words * self.architecture.word_bits // 8)

    def __repr__(self) -> str:
        """Name it; `print` shows it whole."""
        return f"<Program {self.name}>"

    def __str__(self) -> str:
        """Print like assembly: the nest, then the body of each unit, a task a line."""
        parts = {part for _, split in self.partitions for part in split}
        sizes = " ".join(f"{r}={size}" for r, size in self.sizes.items() if r not in parts)
        tiles = " ".join(f"{r}={size}" for r, size in self.sizes.items() if r in parts)
        nest = " > ".join(f"{loop.variable} {loop.count}" for loop in self.nest)
        rows, cols = self.shape
        fifos = f"{self.landing_entries} entries a lane, returns {self.return_entries} a column"
        lines = [
            f"program {self.name}",
            f"  sizes    {sizes}",
            f"  tiles    {tiles}",
            f"  nest     {nest}",
            f"  fill     {f'{self.rows} on {rows} rows, ' if self.rows else ''}"
            f"{self.cols} on {cols} columns",
            f"  drain    {self.drain}",
            f"  landing  {fifos}",
        ]
        for move in self.moves:
            per = "".join(f" {v}" for v in move.loops)
            held = f"buffer {move.entries}: each{per}"
            lines.append(f"  {move.kind:8} {move.tensor:6} lag {move.lag}, {held}")
        for register in self.registers:
            lines.append(
                f"  register {register.tensor:6} {register.words} x {register.depth} in each PE of "
                f"{register.unit}"
            )
        for body in self.bodies:
            lines.append(f"{body.unit}:")
            for entry in body.entries:
                lines.append(f"  {show_entry(entry)}")
                lines += [f"    {line}" for item in entry for line in self._code(item.task)]
        return "\n".join(lines)

    def _code(self, name: str) -> Iterator[str]:
        task = self.task(name)
        last = len(task.steps) - 1
        only = "".join(f", {which} {loop}" for loop, which in task.when)
        over = f" for each {','.join(task.words)}" if task.words else ""
        yield f"; {task.text}{over}{only}"
        for i, step in enumerate(task.steps):
            target = f"t{i}"
            if i == last:
                back = " and to the top" if task.is_returned else ""
                target = (
                    f"{task.tensor}" + ("" if task.goes == "register" else f"@{task.goes}") + back
                )
            slots = self.cost(task, step)[0]
            times = f"  ({slots} slots)" if slots > 1 else ""
            operands = ", ".join(str(operand) for operand in step.operands)
            yield f"{step.function:6} {operands} -> {target}{times}"


__all__ = [
    "FUNCTIONS",
    "SOURCES",
    "Limit",
    "Loop",
    "Move",
    "Operand",
    "Program",
    "Register",
    "Step",
    "Task",
    "Tile",
]
