"""The best way to run a layer of neighbourhood attention on an array, under a limit on its buffer.

What can be chosen: strides among those that are allowed, tile shapes, where key tiles are cut, the
order of query tiles, and which keys stay in the buffer. A choice costs what its table adds up to
(`layer_costs`): energy is known exactly as soon as the table is written, and cycles have a lower
bound. Before that, both have a bound from counting tiles, since a query tile that needs more key
tiles than the buffer holds must fetch the rest, whatever stayed, and every key is fetched once.

So choices wait in a queue, in the order of what they seem to cost. One that is taken out is dropped
if its bound is no better than the best run; else shapes are opened into orders and policies, these
get tables, and a table is simulated. The winner is proven when the queue is empty. A budget of
runs and tables ends the search earlier, and then it says how much any other choice could gain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from heapq import heapify, heappop, heappush
from itertools import permutations, product
from math import inf, prod
from typing import Any

import numpy as np

from archsim.arch import Architecture, load_architecture
from archsim.errors import ArchError
from archsim.kv_residency import residencies
from archsim.layer_costs import LayerCosts, Visits, layer_costs
from archsim.mapping import Mapping
from archsim.neighborhood_blocks import STREAM, Lines, lines_of
from archsim.neighborhood_run import lower_neighborhood, run_neighborhood
from archsim.program import Program
from archsim.quantities import show_bytes
from archsim.reporting import Report
from einsum_cascade.cascade import Workload
from einsum_cascade.errors import Problem, Source, legal_words
from einsum_cascade.neighborhood import Neighborhood
from einsum_cascade.neighborhood_lines import Ints, Line
from einsum_cascade.neighborhood_tiles import Shape, Tiles, boxes, count_line

OBJECTIVES = ("cycles", "energy")
# Tables that are written for each run that is allowed.
TABLES_PER_RUN = 8
# What waits in the queue; of those that seem to cost the same, the one that is known best comes
# first, then the smaller buffer.
TABLE, WAY, SHAPES = range(3)


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to run a layer."""

    neighborhood: Neighborhood
    q_tile: Shape
    kv_tile: Shape
    kv_tiling: str
    # Dimensions in the order of query tiles, the slowest first; the policy in words, and the key
    # tiles that the buffer holds for it.
    q_order: tuple[int, ...]
    policy: str
    entries: int

    @property
    def tiles(self) -> Tiles:
        """What is visited."""
        return self.neighborhood.tiles(self.q_tile, self.kv_tile, self.kv_tiling)

    def lines(self, gated: bool = True) -> Lines:
        """The table; keys come with the dimension slowest along which query tiles go fastest."""
        return lines_of(
            self.neighborhood,
            self.tiles,
            entries=self.entries,
            q_order=self.q_order,
            kv_order=self.q_order if self.entries == STREAM else self.q_order[::-1],
            gated=gated,
        )


@dataclass(frozen=True, slots=True)
class Tried:
    """A choice that was simulated."""

    choice: Choice
    report: Report

    def value(self, objective: str) -> float:
        """Cycles, or pJ."""
        if objective == "cycles":
            return self.report.cycles
        assert self.report.energy_pj is not None
        return float(self.report.energy_pj["total"])

    def as_dict(self) -> dict[str, Any]:
        """The run as it goes to JSON."""
        choice, report = self.choice, self.report
        return {
            "stride": list(choice.neighborhood.stride),
            "q_tile": list(choice.q_tile),
            "kv_tile": list(choice.kv_tile),
            "kv_tiling": choice.kv_tiling,
            "q_order": list(choice.q_order),
            "policy": choice.policy,
            "held_tiles": choice.entries,
            "buffer_bytes": report.buffer_bytes["needed"],
            "dram_bytes": report.traffic_bytes["total"],
            "cycles": report.cycles,
            "lower_bound_cycles": report.lower_bound_cycles,
            "energy_pj": report.energy_pj["total"] if report.energy_pj else None,
        }


@dataclass(frozen=True, slots=True)
class LayerSearch:
    """What was found: the runs, the best first, and what is known of the rest."""

    objective: str
    tried: tuple[Tried, ...]
    # Shapes, tilings and strides that were counted; tables that were written.
    shapes: int
    tables: int
    # No choice that was not simulated can cost less than this.
    rest: float

    @property
    def best(self) -> Tried:
        """The best run."""
        return self.tried[0]

    @property
    def gain(self) -> float:
        """What any other choice could still gain over the best, at most; 0 if it is proven."""
        gain = 1 - self.rest / self.best.value(self.objective)
        # Sums of energies in another order are no gain.
        return gain if gain > 1e-12 else 0.0

    def as_dict(self) -> dict[str, Any]:
        """The search as it goes to JSON."""
        return {
            "objective": self.objective,
            "shapes": self.shapes,
            "tables": self.tables,
            "gain": self.gain,
            "runs": [one.as_dict() for one in self.tried],
        }


@dataclass(frozen=True, slots=True)
class _Space:
    """What all choices have in common."""

    costs: LayerCosts
    objective: str
    gated: bool
    # Key tiles for which the buffer has room.
    room: int

    def cost(self, visits: Visits) -> float:
        """A lower bound on cycles, or the energy."""
        if self.objective == "cycles":
            return self.costs.cycles(visits)
        return self.costs.energy_pj(visits)

    def visits(self, choice: Choice, loads: int) -> Visits:
        """What a choice adds up to if so many key tiles are fetched."""
        shapes = zip(choice.neighborhood.lines, choice.q_tile, choice.kv_tile, strict=True)
        counts = [count_line(*one, choice.kv_tiling) for one in shapes]
        tiles = prod(count.visited for count in counts)
        pairs = prod(count.pairs for count in counts)
        if not self.gated:
            pairs = tiles * prod(choice.q_tile) * prod(choice.kv_tile)
        return Visits(tiles, prod(count.q_tiles for count in counts), pairs, loads)


def search_layers(
    neighborhoods: Neighborhood | Iterable[Neighborhood],
    q_shapes: Sequence[Shape],
    kv_shapes: Sequence[Shape],
    workload: Workload,
    architecture: Architecture | str = "fusemax",
    mapping: Mapping | str = "gna",
    *,
    kv_tilings: Sequence[str] = ("static", "dynamic"),
    objective: str = "cycles",
    buffer_bytes: int | None = None,
    gated: bool = True,
    most_runs: int | None = 8,
    say: Callable[[str], object] = lambda _: None,
) -> LayerSearch:
    """Find the choice with the fewest cycles, or the least energy, that fits a buffer.

    Args:
        neighborhoods: one, or several that are allowed (strides, say).
        q_shapes: query tiles to look at, all of as many tokens, as `tile_shapes` makes them.
        kv_shapes: key tiles, likewise.
        workload: sizes of E and F, and of B and H.
        architecture: an architecture, its shipped name or a path.
        mapping: a mapping whose innermost loops are p1 and m1.
        kv_tilings: "static", "dynamic" or both.
        objective: "cycles" or "energy".
        buffer_bytes: a limit below the architecture's buffer.
        gated: PEs without a visible pair spend no energy; else all of a tile do.
        most_runs: simulations, and eight times as many tables; None to go on to the proof.
        say: is told of every run.

    Raises:
        ArchError: an unknown objective, or a buffer without room for the smallest choice.
        ValueError: nothing to choose from, or shapes of different sizes.
    """
    if objective not in OBJECTIVES:
        hint = legal_words(objective, OBJECTIVES, "objectives")
        message = f"unknown objective '{objective}'"
        raise ArchError(Problem(Source("objective"), message, hint=hint))
    if isinstance(neighborhoods, Neighborhood):
        neighborhoods = (neighborhoods,)
    tokens = {(prod(q), prod(kv)) for q, kv in product(q_shapes, kv_shapes)}
    if len(tokens) != 1:
        raise ValueError(f"tiles of one size are due, these have {sorted(tokens)}")
    chip = load_architecture(architecture)
    sample = _sample(*tokens.pop(), workload, chip, mapping)
    space = _Space(layer_costs(sample), objective, gated, _room(sample, buffer_bytes))
    queue: list[tuple[float, int, int, int, float, Choice]] = []
    for one, tiling, q, kv in product(neighborhoods, kv_tilings, q_shapes, kv_shapes):
        whole = Choice(one, q, kv, tiling, (), "", 0)
        bound = space.cost(space.visits(whole, _different(whole)))
        queue.append((bound, SHAPES, 0, len(queue), bound, whole))
    if not queue:
        raise ValueError("no tiles to choose from")
    shapes, tables, number, rest = len(queue), 0, len(queue), inf
    tried: list[Tried] = []
    best = inf
    heapify(queue)
    while queue:
        _, stage, *_, bound, choice = heappop(queue)
        if bound >= best:
            continue
        spent = most_runs is not None and (
            len(tried) >= most_runs or (stage == WAY and tables >= most_runs * TABLES_PER_RUN)
        )
        if spent:
            rest = min(rest, bound)
        elif stage == SHAPES:
            for estimate, least, way in _ways(space, choice):
                number += 1
                heappush(queue, (estimate, WAY, way.entries, number, least, way))
        elif stage == WAY:
            tables, number = tables + 1, number + 1
            exact = space.cost(space.visits(choice, choice.lines(gated).blocks.loads))
            heappush(queue, (exact, TABLE, choice.entries, number, exact, choice))
        else:
            program = lower_neighborhood(
                choice.neighborhood,
                choice.tiles,
                workload,
                chip,
                mapping,
                lines=choice.lines(gated),
            )
            tried.append(Tried(choice, run_neighborhood(program)))
            best = min(best, tried[-1].value(objective))
            say(f"{len(tried)} runs, {tables} tables, {len(queue)} choices wait")
    tried.sort(key=lambda one: (one.value(objective), one.choice.entries))
    return LayerSearch(objective, tuple(tried), shapes, tables, rest)


def _sample(
    queries: int, keys: int, workload: Workload, chip: Architecture, mapping: Mapping | str
) -> Program:
    """A Program with tiles of this size, of a short sequence."""
    length = max(queries, keys, 2)
    dense = Neighborhood((length,), (length,))
    return lower_neighborhood(dense, dense.tiles((queries,), (keys,)), workload, chip, mapping)


def _room(program: Program, limit: int | None) -> int:
    """Key tiles for which the buffer has room."""
    tiling, sizes = program.placed.tiling, program.sizes
    known = [size for size in (limit, tiling.capacity_bytes) if size is not None]
    if not known:
        return 2**62
    tile = sizes["M0"] * (sizes["E"] + sizes["F"]) * program.architecture.word_bits // 8
    more = (min(known) - tiling.held_bytes) // tile
    if more < 0:
        message = f"two key tiles need {show_bytes(tiling.held_bytes)}, the buffer is limited to"
        message += f" {show_bytes(min(known))}"
        raise ArchError(
            Problem(Source("buffer"), message, hint="smaller tiles, or a larger buffer")
        )
    return STREAM + more


def _ways(space: _Space, choice: Choice) -> Iterator[tuple[float, float, Choice]]:
    """Orders and policies of some shapes: what each seems to cost, and costs at least."""
    one, tile = choice.neighborhood, prod(choice.kv_tile)
    boxes_of = _box_sizes(choice)
    different = _different(choice)
    seen = set()
    for q_order in permutations(range(one.dimensions)):
        shapes = choice.q_tile, choice.kv_tile
        policies = residencies(one, *shapes, choice.kv_tiling, q_order)
        found = [
            (row.policy, -(-row.held_keys // tile), -(-row.read_keys // tile)) for row in policies
        ]
        found.append(("fill the buffer", space.room, found[-1][2]))
        for policy, held, reads in found:
            entries = max(STREAM, min(held, different))
            if entries > space.room or (q_order, entries) in seen:
                continue
            seen.add((q_order, entries))
            least = max(different, int(np.maximum(boxes_of - entries, 0).sum()))
            estimate = space.cost(space.visits(choice, max(reads, least)))
            way = Choice(one, *shapes, choice.kv_tiling, q_order, policy, entries)
            yield estimate, space.cost(space.visits(choice, least)), way


def _different(choice: Choice) -> int:
    """Different key tiles that a layer visits."""
    shapes = zip(choice.neighborhood.lines, choice.q_tile, choice.kv_tile, strict=True)
    return prod(_axis(*one, choice.kv_tiling)[1] for one in shapes)


def _box_sizes(choice: Choice) -> Ints:
    """Key tiles of every query tile, in some order."""
    found = np.ones(1, np.int64)
    shapes = zip(choice.neighborhood.lines, choice.q_tile, choice.kv_tile, strict=True)
    for one in shapes:
        found = np.multiply.outer(found, _axis(*one, choice.kv_tiling)[0]).ravel()
    return found


@lru_cache(maxsize=4096)
def _axis(line: Line, q_tile: int, kv_tile: int, kv_tiling: str) -> tuple[Ints, int]:
    """Along one dimension: key tiles of every query tile, and how many different ones there are."""
    sizes, different = [], 0
    for length in line.groups():
        one = boxes(length, line, q_tile, kv_tile, kv_tiling)
        sizes.append((one.end - one.begin) // kv_tile)
        pairs = zip(one.begin.tolist(), one.end.tolist(), strict=True)
        different += len({begin for low, high in pairs for begin in range(low, high, kv_tile)})
    return np.concatenate(sizes), different


__all__ = ["OBJECTIVES", "Choice", "LayerSearch", "Tried", "search_layers"]
