"""What a Program computes, tile by tile and without a clock: the bit-exact functional model.

Values come in the order in which the machine adds them up: points of a sum one after the other,
rows from the top down, tiles in order. The register-level model and generated hardware must give
these bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from archsim.arithmetic import Function, functions, word
from archsim.elements import Array, coordinates, edge_arrays, put, shape
from archsim.program import Operand, Program, Task, Tile

# Values of one tensor in one tile: [word, row, column] in PEs, [word, column] in lanes and FIFOs.
Held = dict[tuple[str, str, int], Any]


def compute(
    program: Program, inputs: Mapping[str, Any], numbers: str = "hardware"
) -> dict[str, Array]:
    """Compute a Program's outputs.

    Args:
        program: what to run.
        inputs: the cascade's inputs, [batch axes of the nest, whole ranks as written].
        numbers: "hardware" for the architecture's bits, or "float64".
    """
    edges = edge_arrays(program, inputs, numbers)
    units = {a.name: functions(a, numbers) for a in (program.array, program.lanes)}
    held: Held = {}
    outputs: dict[str, Array] = {}
    tasks = _in_order(program)
    for tile in program.tiles:
        for task in tasks:
            if tile.index in program.ordinals[task.name]:
                result = _run(program, task, tile, held, edges, units[task.unit], numbers)
                place = "landing" if task.goes == "landing" else "register"
                held[place, task.tensor, tile.index] = result
                if task.goes == "output":
                    _give(program, task, tile, result, outputs)
    return outputs


def _in_order(program: Program) -> list[Task]:
    """Tasks of a tile, makers before readers."""
    import networkx as nx

    graph = nx.DiGraph()
    graph.add_nodes_from(task.name for task in program.tasks)
    for task in program.tasks:
        for operand in (o for step in task.steps for o in step.operands):
            if operand.source in ("register", "landing", "returned") and not operand.back:
                graph.add_edge(program.source(task, operand).name, task.name)
    return [program.task(name) for name in nx.lexicographical_topological_sort(graph)]


def _run(
    program: Program,
    task: Task,
    tile: Tile,
    held: Held,
    edges: Mapping[str, Array],
    units: Mapping[str, Function],
    numbers: str,
) -> Any:
    """All words of a task in a tile."""
    rows, cols = (tile.rows, tile.cols) if task.unit == program.array.name else (1, tile.cols)
    kept = program.space.mask(tile, (rows, cols)) if tile.is_partial else None
    in_lanes = task.unit == program.lanes.name
    running = _start(program, task, tile, held)
    if running is None:
        running = np.full(cols if in_lanes else (rows, cols), task.identity or 0.0)
    words = []
    for number in range(program.word_count(task)):
        if task.kind == "drain":
            register = held["register", task.tensor, tile.index][0]
            words.append(register[min(number, tile.rows - 1)])
            continue
        at: dict[str, Any] = {**dict(tile.at), **program.word_at(task, number)}
        if task.kind == "load":
            if number < tile.rows:
                at |= {program.rows: number, program.cols: np.arange(cols)}
                access = task.steps[0].operands[0].access
                assert access is not None
                words.append(edges[access.tensor][coordinates(program, access, at)])
            continue
        if in_lanes and task.kind == "accumulate" and at.get(program.rows, 0) >= tile.rows:
            continue  # Behind the end of the rank: the sum stays as it is.
        temporaries: list[Any] = []
        flow = np.full(cols, task.identity or 0.0)
        for step in task.steps:
            is_last = step is task.steps[-1]
            operands = [
                _operand(program, task, tile, number, o, held, edges, at, temporaries, running)
                for o in step.operands
            ]
            function: Function = units.get(step.function, _copy)
            if is_last and task.kind == "reduce":
                # A value comes down the column: the rows combine with it from the top.
                for r in range(rows):
                    row = [
                        flow if o is None else np.broadcast_to(o, (rows, cols))[r] for o in operands
                    ]
                    below = function(*row)
                    # A masked PE passes the word from above.
                    flow = below if kept is None else np.where(kept[r], below, flow)
                temporaries.append(flow)
            else:
                temporaries.append(function(*operands))
        result = temporaries[-1]
        if task.kind == "accumulate":
            running = result
        elif task.kind == "map":
            result = word(result if kept is None else np.where(kept, result, 0.0), numbers)
        words.append(result)
    if task.kind == "accumulate":
        return [running]
    if task.kind == "load":
        return [np.stack(words)]
    return words


def _start(program: Program, task: Task, tile: Tile, held: Held) -> Any:
    """The sum of the tile before, if a task goes on with it; None if it starts anew."""
    for operand in task.steps[-1].operands:
        if operand.source == "accumulator" and operand.back:
            made = program.source_tile(task, tile, operand)
            return None if made is None else held["register", task.tensor, made][0]
    return None


def _operand(
    program: Program,
    task: Task,
    tile: Tile,
    number: int,
    operand: Operand,
    held: Held,
    edges: Mapping[str, Array],
    at: Mapping[str, Any],
    temporaries: list[Any],
    running: Any,
) -> Any:
    """The value of an operand, as broad as the unit; None for what comes down the column."""
    match operand.source:
        case "constant":
            return np.float64(operand.number)
        case "temporary":
            return temporaries[int(operand.number)]
        case "accumulator":
            return running
        case "flow":
            return None
        case "left" | "top":
            assert operand.access is not None
            if task.unit == program.lanes.name:
                # Rows are words in a lane; those behind the end may be anything.
                word = min(at.get(program.rows, 0), tile.rows - 1)
                lane = {**at, program.rows: word, program.cols: np.arange(tile.cols)}
                found = coordinates(program, operand.access, lane)
                return np.broadcast_to(edges[operand.name][found], tile.cols)
            vectors = {
                program.rows: np.arange(tile.rows)[:, None],
                program.cols: np.arange(tile.cols)[None, :],
            }
            found = coordinates(program, operand.access, {**at, **vectors})
            return edges[operand.name][found]
    made = program.source_tile(task, tile, operand)
    if made is None:
        return np.float64(operand.initial or 0.0)
    maker = program.source(task, operand)
    place = "landing" if operand.source == "landing" else "register"
    words = held[place, operand.name, made]
    return words[number if maker.words == task.words and len(words) > 1 else 0]


def _copy(value: Any) -> Any:
    return value


def _row(values: Any, row: int, size: tuple[int, int]) -> Any:
    return np.broadcast_to(values, size)[row]


def _give(program: Program, task: Task, tile: Tile, words: Any, outputs: dict[str, Array]) -> None:
    """Put the words of an output where they belong."""
    target = next(e.target for e in program.cascade.defining(task.tensor) if not e.is_initial)
    found = outputs.setdefault(task.tensor, np.zeros(shape(program, target)))
    for number, values in enumerate(words):
        at: dict[str, Any] = {**dict(tile.at), **program.word_at(task, number)}
        if at.get(program.rows, 0) < tile.rows:
            at[program.cols] = np.arange(tile.cols)
            put(found, coordinates(program, target, at), np.ravel(values)[: tile.cols])
