"""A run's cycles as a product of max-plus matrices: a third witness beside `slots` and `engine`.

`tile_matrices` says what a tile does to the state as a matrix, from one cut to the next. Cuts are
made of distances, so there are finitely many: while a class of tiles repeats, or a subtree of the
tree of repetitions (`tile_walk`), a cut comes back after a few times. The matrices in between
multiply to a square one, and its power, by repeated squaring, is all the repetitions that are left;
loops around it do the same with the product. H heads of M1 key tiles for each of P1 query tiles,
with A, B and C for the first, a middle and the last key tile:

    (C^P1 (B^P1)^(M1 - 2) A^P1)^H

Unlike in `engine`, no state has to come back: the product is what enumerating tiles would give
whatever the times are, and the eigenvalue of the power is what a tile takes in the long run.

Source: Baccelli, Cohen, Olsder, Quadrat, "Synchronization and Linearity" (1992).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import reduce

from archsim.errors import ArchError
from archsim.max_plus import Matrix, eigenvalue, identity, power, product
from archsim.program import Program
from archsim.tile_matrices import Cut, Rules, rules_of, tile_matrix
from archsim.tile_walk import FLUSH, class_counts
from einsum_cascade.errors import Problem, Source

# From a cut, through a tile of a class or a node of the tree, to another one.
Step = Callable[[int, Cut], tuple[Cut, Matrix]]


@dataclass(frozen=True)
class Solution:
    """What a run takes."""

    # Clock edges from the first issue to the last result.
    cycles: int
    # Issue slots by unit, in use and not; each unit's add up to the cycles.
    busy: dict[str, int]
    idle: dict[str, int]


def solve(program: Program) -> Solution:
    """Multiply the matrices of a run.

    Raises:
        ArchError: units that wait for each other, a memory that may be late, or a nest whose tiles
            are no tree of repetitions.
    """
    rules = rules_of(program)
    powers = _Powers(rules)
    cut, matrix = powers.node(rules.stream.root, rules.start)
    # What is still in the pipeline comes out. Before the first tile all components are 0: nothing
    # was issued. The first component is the last result.
    _, end = powers.tile(FLUSH, cut)
    cycles = int(product(end, matrix)[0].max())
    busy = {body.unit: 0 for body in program.bodies}
    for row, count in zip(rules.stream.classes, class_counts(rules.stream), strict=True):
        for t, task in enumerate(program.tasks):
            busy[task.unit] += count * int(row[t]) * rules.slots[t]
    return Solution(cycles, busy, {unit: cycles - slots for unit, slots in busy.items()})


def period(program: Program) -> Fraction:
    """Cycles for a tile in the innermost loop, if its longest run of alike tiles had no end.

    Raises:
        ArchError: as `solve`, or no tile is followed by one like it.
    """
    rules = rules_of(program)
    powers = _Powers(rules)
    runs = (run for kind, items in rules.stream.nodes if kind == "runs" for run in items)
    number, times = max(runs, key=lambda run: run[1])
    if times == 1:
        what = "no tile is followed by one like it, so there is no steady state"
        raise ArchError(Problem(Source(program.name), what, hint="take longer ranks"))
    # The run itself makes whatever those tiles look back to.
    cut, _ = powers.node(rules.stream.root, rules.start)
    cut, _ = powers.tile(FLUSH, cut)
    cuts: list[Cut] = []
    matrices: list[Matrix] = []
    while cut not in cuts:
        cuts.append(cut)
        cut, matrix = powers.tile(number, cut)
        matrices.append(matrix)
    circuit = matrices[cuts.index(cut) :]
    found = eigenvalue(_chain(circuit))
    assert found is not None, "slots of a unit follow each other"
    return found / len(circuit)


def _chain(matrices: list[Matrix]) -> Matrix:
    """The product of matrices, the first of them first."""
    return reduce(lambda done, matrix: product(matrix, done), matrices)


@dataclass
class _Powers:
    """Matrices of tiles and of subtrees, each worked out once."""

    rules: Rules
    tiles: dict[tuple[int, Cut], tuple[Cut, Matrix]] = field(default_factory=dict)
    nodes: dict[tuple[int, Cut], tuple[Cut, Matrix]] = field(default_factory=dict)

    def tile(self, number: int, cut: Cut) -> tuple[Cut, Matrix]:
        """From a cut through a tile of a class, or FLUSH."""
        if (number, cut) not in self.tiles:
            self.tiles[number, cut] = tile_matrix(self.rules, cut, number)
        return self.tiles[number, cut]

    def node(self, node: int, cut: Cut) -> tuple[Cut, Matrix]:
        """From a cut through a node of the tree."""
        if node == FLUSH:
            return self.tile(FLUSH, cut)
        if (node, cut) not in self.nodes:
            kind, items = self.rules.stream.nodes[node]
            end, total = cut, identity(cut.size)
            for item, times in items:
                step = self.tile if kind == "runs" else self.node
                end, matrix = self.repeat(step, item, end, times)
                total = product(matrix, total)
            self.nodes[node, cut] = end, total
        return self.nodes[node, cut]

    def repeat(self, step: Step, item: int, cut: Cut, times: int) -> tuple[Cut, Matrix]:
        """From a cut through several times the same: by a power, once a cut comes back."""
        cuts, matrices = [cut], [identity(cut.size)]
        while len(cuts) <= times:
            cut, matrix = step(item, cut)
            matrices.append(matrix)
            if cut in cuts:
                first = cuts.index(cut)
                circuit = matrices[first + 1 :]
                rounds, rest = divmod(times - len(cuts), len(circuit))
                again = [power(_chain(circuit), rounds)] if rounds else []
                return cuts[first + rest], _chain([*matrices, *again, *circuit[:rest]])
            cuts.append(cut)
        return cut, _chain(matrices)
