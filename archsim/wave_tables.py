"""A Program as tables for the wave kernel: templates of micro-ops, registers and addresses.

What `encoding` writes for every micro-op, this writes once for each slot of a word of a task, and
apart from it what a tile adds and what a word adds. Both say the same, each in its own words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim import pe_kernel as pe
from archsim import wave_order as wave
from archsim.elements import Array, coordinates, edge_arrays, shape
from archsim.encoding import MASKS
from archsim.issue import Body
from archsim.program import FUNCTIONS, Operand, Program, Register, Step, Task
from archsim.sequence import runs_of
from archsim.wave_units import Tiles
from einsum_cascade.expressions import Access

Ints = NDArray[np.int64]


@dataclass
class Tables:
    """Tables of one Program, filled task by task."""

    program: Program
    inputs: Mapping[str, Any]
    numbers: str = "float64"
    # Rows of the tables, as they are found.
    _templates: list[Ints] = field(default_factory=list)
    _constants: list[list[float]] = field(default_factory=list)
    _registers: list[Ints] = field(default_factory=list)
    _made: list[Ints] = field(default_factory=list)
    _edges: list[tuple[Ints, Ints, Ints, int]] = field(default_factory=list)
    # Arrays in memory, and where each begins, by which of its axes is the last there.
    _arrays: list[Array] = field(default_factory=list)
    _origin: dict[tuple[str, int], int] = field(default_factory=dict)
    # First template of each task.
    _first: list[int] = field(default_factory=list)
    # Where each output begins among the words given out.
    given: dict[str, int] = field(default_factory=dict)
    room: int = 0

    def __post_init__(self) -> None:
        """Write all templates."""
        for task in self.program.tasks:
            self._first.append(len(self._templates))
            for number, step in enumerate(task.steps):
                for part in range(self.program.cost(task, step)[0]):
                    self._template(task, number, part)

    @cached_property
    def edges(self) -> dict[str, Array]:
        """Arrays whose words arrive on the edges."""
        return edge_arrays(self.program, self.inputs, self.numbers)

    @property
    def memory(self) -> Array:
        """All words that arrive on the edges, one array behind the other."""
        return np.concatenate([np.zeros(0), *(array.reshape(-1) for array in self._arrays)])

    @cached_property
    def _layout(self) -> tuple[dict[tuple[str, str, int], int], dict[str, int]]:
        """First register of each tensor, and of each step's result (number -1: none), by unit."""
        found: dict[tuple[str, str, int], int] = {}
        free: dict[str, int] = {}

        def place(unit: str, name: str, number: int, count: int) -> None:
            found[unit, name, number] = free.get(unit, 0)
            free[unit] = free.get(unit, 0) + count

        for register in self.program.registers:
            place(register.unit, register.tensor, -1, register.words * register.depth)
        for task in self.program.tasks:
            for number in range(len(task.steps)):
                place(task.unit, task.name, number, 1)
        return found, free

    def count(self, unit: str) -> int:
        """Registers of a PE or lane."""
        return max(1, self._layout[1].get(unit, 0))

    @cached_property
    def queues(self) -> dict[str, list[str]]:
        """Tensors with a FIFO of their own, by kind."""
        found: dict[str, list[str]] = {"landing": [], "returned": []}
        for task in self.program.tasks:
            for operand in (operand for step in task.steps for operand in step.operands):
                if operand.source in found:
                    found[operand.source].append(operand.name)
        return found

    @cached_property
    def _at(self) -> dict[str, Ints]:
        """Coordinates of all tiles by loop."""
        points = np.array([[at for _, at in tile.at] for tile in self.program.tiles], np.int64)
        return {loop.variable: points[:, i] for i, loop in enumerate(self.program.nest)}

    @cached_property
    def heights(self) -> Ints:
        """Rows that hold elements, by tile."""
        return np.array([tile.rows for tile in self.program.tiles], np.int64)

    @cached_property
    def widths(self) -> Ints:
        """Columns that hold elements, by tile."""
        return np.array([tile.cols for tile in self.program.tiles], np.int64)

    @cached_property
    def tiles(self) -> tuple[Tiles, Ints]:
        """The masks that occur, and which each tile has."""
        program = self.program
        numbers: dict[Any, int] = {}
        kinds: list[Any] = []
        masks: list[int] = []
        for tile in program.tiles:
            key = tile.rows, tile.cols, tile.offsets, tile.mask
            if key not in numbers:
                numbers[key] = len(kinds)
                kinds.append(program.space.mask(tile, program.shape))
            masks.append(numbers[key])
        inside: Any = np.stack(kinds)
        lanes = [tile.cols for tile in (program.tiles[masks.index(k)] for k in range(len(kinds)))]
        held = np.stack([inside.sum(axis=(1, 2)), lanes], axis=1)
        return Tiles(inside, ~inside.all(axis=2), held), np.array(masks, np.int64)

    def order(self, body: Body) -> wave.Order:
        """What a unit issues in which order."""
        program = self.program
        names = {task.name: number for number, task in enumerate(program.tasks)}
        items = body.items
        runs = runs_of(program)
        acts = np.zeros((len(program.tasks), len(program.tiles)), np.bool_)
        for task, tiles in program.acting.items():
            acts[names[task], list(tiles)] = True
        return wave.Order(
            np.cumsum([0, *(len(entry) for entry in body.entries)]),
            np.array([names[item.task] for item in items], np.int64),
            np.array([item.lag for item in items], np.int64),
            np.cumsum([0, *(len(tiles) for tiles in runs)]),
            np.array([tile.index for tiles in runs for tile in tiles], np.int64),
            max((item.lag for body in program.bodies for item in body.items), default=0),
            np.array([program.slots(task) for task in program.tasks], np.int64),
            np.array([program.slots_of_word(task) for task in program.tasks], np.int64),
            np.array(self._first, np.int64),
            acts,
        )

    def code(self, fetched: Ints, stored: Ints) -> wave.Code:
        """All templates and what they refer to; `wave_memory` says what they wait for."""
        count = len(self.program.tiles)
        longest = max((len(offset) for _, offset, _, _ in self._edges), default=1)
        offset = np.zeros((len(self._edges), longest), np.int64)
        lies = np.zeros((len(self._edges), longest), np.int64)
        for number, (_, offsets, rows, _) in enumerate(self._edges):
            offset[number, : len(offsets)] = offsets
            lies[number, : len(rows)] = rows
        return wave.Code(
            np.stack(self._templates),
            np.array(self._constants, np.float64),
            _stacked(self._registers, count),
            _stacked(self._made, count),
            _stacked([base for base, _, _, _ in self._edges], count),
            offset,
            lies,
            np.array([step for _, _, _, step in self._edges], np.int64),
            self.tiles[1],
            self.heights,
            self.widths,
            fetched,
            stored,
        )

    def _template(self, task: Task, number: int, part: int) -> None:
        program, step = self.program, task.steps[number]
        slots, latency = program.cost(task, step)
        row = np.zeros(wave.TEMPLATE_FIELDS, np.int64)
        row[list(_UNSET)] = -1
        constants = [0.0, 0.0, 0.0]
        self._templates.append(row)
        self._constants.append(constants)
        own = self._layout[0][task.unit, task.name, number]
        row[wave.FUNCTION] = FUNCTIONS.index("copy" if part else step.function)
        row[wave.LATENCY] = row[wave.LOOP] = latency
        row[wave.WORDS] = program.word_count(task)
        if part:
            # Further slots of one operator carry its result on.
            row[wave.SOURCE_A] = self._kept(task)
            row[wave.INDEX_A] = own
        else:
            self._operands(row, constants, task, step)
        if (number, part) != (len(task.steps) - 1, slots - 1):
            row[wave.GOES], row[wave.TARGET] = pe.TO_REGISTER, own
            return
        row[wave.NARROW] = task.kind == "map"
        row[wave.MASK] = MASKS.get(task.kind, pe.PLAIN)
        row[wave.ONLY_ROW] = 0 if task.kind in ("drain", "load") else -1
        if task.kind == "accumulate":
            row[wave.LOOP] = program.architecture.latency.accumulate
            row[wave.PARTIAL] = 1
        if task.goes == "landing":
            row[wave.GOES] = pe.TO_COLUMN
            row[wave.QUEUE] = self.queues["landing"].index(task.tensor)
        elif (task.unit, task.tensor, -1) in self._layout[0]:
            row[wave.GOES] = pe.TO_REGISTER
            self._turning(row, wave.TABLE_TARGET, wave.BY_TARGET, task, task, None)
        if task.goes == "output":
            row[wave.GOES] |= pe.TO_OUTPUT
            row[wave.GIVES] = self._output(task)
        if task.is_returned:
            row[wave.RETURN] = self.queues["returned"].index(task.tensor) + 1

    def _kept(self, task: Task) -> int:
        """Where a unit finds what it made itself."""
        return pe.REGISTER if task.unit == self.program.array.name else pe.LANE

    def _operands(self, row: Ints, constants: list[float], task: Task, step: Step) -> None:
        for j, operand in enumerate(step.operands):
            source, index = wave.SOURCE_A + 2 * j, wave.INDEX_A + 2 * j
            match operand.source:
                case "constant":
                    row[source], constants[j] = pe.CONSTANT, operand.number
                case "temporary":
                    row[source] = self._kept(task)
                    row[index] = self._layout[0][task.unit, task.name, int(operand.number)]
                case "accumulator":
                    row[source], constants[j] = pe.ACCUMULATOR, task.identity or 0.0
                    self._turning(row, wave.TABLE_A + j, wave.BY_A + j, task, task, None)
                case "flow":
                    row[source] = pe.TOP
                case "left" | "top":
                    row[source] = pe.LEFT if operand.source == "left" else pe.TOP
                    edge = wave.LEFT if operand.source == "left" else wave.TOP
                    row[edge] = self._edge(task, operand)
                case "landing":
                    row[source] = pe.LANDING
                    row[index] = self.queues["landing"].index(operand.name)
                case "returned":
                    row[source] = pe.RETURNED
                    row[index] = self.queues["returned"].index(operand.name)
                    row[wave.RETURN] = row[index] + 1
                case "register":
                    row[source], constants[j] = self._kept(task), operand.initial or 0.0
                    maker = self.program.source(task, operand)
                    self._turning(row, wave.TABLE_A + j, wave.BY_A + j, task, maker, operand)

    def _turning(
        self, row: Ints, table: int, by: int, task: Task, maker: Task, operand: Operand | None
    ) -> None:
        """Note the register that a task reads or writes in each tile: it rotates."""
        program = self.program
        register = self._register(maker)
        first = self._layout[0][maker.unit, maker.tensor, -1]
        acting = program.acting[task.name]
        made = np.full(len(program.tiles), -1, np.int64)
        if operand is None:
            made[list(acting)] = acting
        else:
            for tile in acting:
                found = program.source_tile(task, program.tiles[tile], operand)
                made[tile] = -1 if found is None else found
        turns = np.zeros(len(program.tiles) + 1, np.int64)
        makes = program.acting[maker.name]
        turns[list(makes)] = np.arange(len(makes)) % register.depth
        row[table] = len(self._registers)
        self._registers.append(np.where(made < 0, -1, first + turns[made] * register.words))
        self._made.append(made)
        by_word = maker.kind in ("map", "lane") or (
            maker.words == task.words and maker.kind == task.kind
        )
        row[by] = int(register.words > 1 and (operand is None or by_word))

    def _register(self, maker: Task) -> Register:
        return next(
            r for r in self.program.registers if (r.tensor, r.unit) == (maker.tensor, maker.unit)
        )

    def _edge(self, task: Task, operand: Operand) -> int:
        """Addresses of the words that an operand brings from an edge, as a number."""
        assert operand.access is not None
        array = self.edges[operand.name]
        across = self.program.rows if operand.source == "left" else self.program.cols
        # Words that arrive together lie together: their axis comes last.
        zero = self._zero(task)
        here, there = (
            coordinates(self.program, operand.access, at) for at in (zero, zero | {across: 1})
        )
        moves = [a != b for a, b in zip(here, there, strict=True)]
        last = moves.index(True) if any(moves) else array.ndim - 1
        order = (*(axis for axis in range(array.ndim) if axis != last), last)
        if (operand.name, last) not in self._origin:
            self._origin[operand.name, last] = sum(array.size for array in self._arrays)
            self._arrays.append(array.transpose(order))
        strides = np.zeros(array.ndim, np.int64)
        strides[list(order)] = _strides(tuple(array.shape[axis] for axis in order))
        self._address(task, operand.access, strides, across, self._origin[operand.name, last])
        return len(self._edges) - 1

    def _output(self, task: Task) -> int:
        """Addresses of the words that a task gives out, as a number."""
        program = self.program
        target = next(e.target for e in program.cascade.defining(task.tensor) if not e.is_initial)
        extents = shape(program, target)
        if task.tensor not in self.given:
            self.given[task.tensor] = self.room
            self.room += int(np.prod(extents))
        self._address(task, target, _strides(extents), program.cols, self.given[task.tensor])
        return len(self._edges) - 1

    def _zero(self, task: Task) -> dict[str, Any]:
        """All variables of a task at 0."""
        return dict.fromkeys((*self._at, *task.words, self.program.rows, self.program.cols), 0)

    def _address(self, task: Task, access: Access, strides: Ints, across: str, origin: int) -> None:
        """An access is affine: what tile, word and row or column add to its address.

        The tile's part may come from a table of blocks, which need not have block 0 first.
        """
        program, zero = self.program, self._zero(task)

        def address(at: Mapping[str, Any]) -> Any:
            found = coordinates(program, access, zero | dict(at))
            return sum(c * int(stride) for c, stride in zip(found, strides, strict=True))

        words, count = _word_variables(program, task), program.word_count(task)
        base = np.broadcast_to(origin + address(self._at), len(program.tiles))
        first = int(address({}))
        offset = np.broadcast_to(address(words) - first, count)
        rows = np.broadcast_to(words.get(program.rows, 0), count)
        self._edges.append((base, offset, rows, int(address({across: 1})) - first))


def _strides(extents: tuple[int, ...]) -> Ints:
    """Words from one coordinate of each axis to the next."""
    return np.cumprod([1, *extents[:0:-1]], dtype=np.int64)[::-1]


def _word_variables(program: Program, task: Task) -> dict[str, Ints]:
    """Values of the variables that a task runs through, at all of its words."""
    sizes = [program.sizes[variable.upper()] for variable in task.words]
    points = np.unravel_index(np.arange(program.word_count(task)), sizes) if sizes else ()
    return dict(zip(task.words, points, strict=True))


def _stacked(rows: list[Ints], count: int) -> Ints:
    return np.stack(rows) if rows else np.zeros((0, count), np.int64)


_UNSET = (
    wave.ONLY_ROW, wave.LEFT, wave.TOP, wave.GIVES, wave.MADE_A, wave.MADE_B, wave.MADE_C,
    wave.TABLE_A, wave.TABLE_B, wave.TABLE_C, wave.TABLE_TARGET,
)  # fmt: skip
