"""Bounds of a cascade as formulas in rank sizes and the words S of a buffer.

`bounds` gathers what can be said before any hardware is chosen: a lower bound on the traffic of
every tensor (`traffic_bounds`), ways to stream the cascade that come close (`streaming`), and how
many scalar operations it takes (`operation_counts`). `Bounds.at` turns the formulas into exact
integers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from einsum_cascade.cascade import Cascade
from einsum_cascade.errors import CascadeError
from einsum_cascade.operation_counts import operations
from einsum_cascade.pass_analysis import passes
from einsum_cascade.rank_symbols import Size, buffer_name, exact, names_in, sizes_of, symbol
from einsum_cascade.row_blocks import UnstreamableError, structure
from einsum_cascade.streaming import Alternative, alternatives, crossover
from einsum_cascade.traffic_bounds import FiberBound, compulsory, fiber_bounds


@dataclass(frozen=True, slots=True)
class Cliff:
    """A capacity in words at which less must be, or can be, moved."""

    words: Size
    what: str


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a cascade costs at least, and how to come close; formulas, or numbers after `at`."""

    cascade: str
    rank: str
    # Least words loaded of each input, and written of each output.
    traffic: dict[str, Size]
    # Least words loaded and written altogether.
    total: Size
    # Words that must be on chip to load an input only once.
    footprint: dict[str, Size]
    # Scalar operations by operator, and whether they are exact or upper bounds.
    ops: dict[str, Size]
    exact_ops: bool
    # Ways to stream the cascade; empty, with a reason, if none is known.
    alternatives: tuple[Alternative, ...]
    reason: str
    # Extent of the rank below which keeping beats reading again, for large S; None: no choice.
    crossover: Size | None
    # Capacities at which the lower bound or an alternative drops.
    cliffs: tuple[Cliff, ...]
    # Sizes of a report with numbers, S included; none of one with formulas.
    sizes: dict[str, int] = field(default_factory=dict)
    _source: Cascade | None = field(default=None, repr=False, compare=False)

    def at(self, **sizes: int) -> Bounds:
        """Compute everything for sizes of ranks and a buffer of S words.

        Parts of splits follow from their wholes and from the cascade's defaults.

        Raises:
            CascadeError: a name that is no rank, or the list of all sizes that are missing.
        """
        assert self._source is not None
        cascade = self._source
        buffer = buffer_name(cascade)
        needed = [name for name in names_in(*self._formulas()) if name in cascade.ranks]
        values = sizes_of(cascade, sizes, [*needed, buffer])
        # The part of a rank is no longer than the rank: a tile of 256 of 100 keys has 100.
        tiles = {
            part: min(values[part], values[whole])
            for whole, parts in cascade.splits
            for part in parts
            if whole in values and part in values
        }
        clipped = {**values, **tiles}

        def number(formula: Size) -> Size:
            return None if formula is None else exact(formula, clipped)

        return replace(
            self,
            traffic={name: number(words) for name, words in self.traffic.items()},
            total=number(self.total),
            footprint={name: number(words) for name, words in self.footprint.items()},
            # Arrays over one part of a split have its full size.
            ops={name: exact(count, values) for name, count in self.ops.items()},
            alternatives=tuple(one.at(clipped, values[buffer]) for one in self.alternatives),
            crossover=number(self.crossover),
            cliffs=tuple(sorted(self._drops(number), key=lambda cliff: cliff.words)),
            sizes={name: values[name] for name in dict.fromkeys([*sizes, *needed, buffer])},
        )

    @property
    def buffer_name(self) -> str:
        """What the words of the buffer are called in formulas and sizes."""
        assert self._source is not None
        return buffer_name(self._source)

    @property
    def buffer_words(self) -> int:
        """Words of the buffer of a report with numbers."""
        return self.sizes[self.buffer_name]

    def best(self, **sizes: int) -> Alternative | None:
        """Return the alternative with the least traffic, or None if no one fits.

        Args:
            sizes: as for `at`; none for a report with numbers.
        """
        if sizes:
            return self.at(**sizes).best()
        if not self.sizes:
            raise CascadeError("which alternative is best depends on sizes: best(M=..., S=...)")
        feasible = [one for one in self.alternatives if one.traffic is not None]
        return min(feasible, key=lambda one: int(one.traffic), default=None)

    def _formulas(self) -> Iterator[Size]:
        yield from self.traffic.values()
        yield from self.footprint.values()
        yield from self.ops.values()
        for one in self.alternatives:
            yield from (one.rows, one.live, one.traffic, one.least, one.most)

    def _drops(self, number: Callable[[Size], Size]) -> Iterator[Cliff]:
        """Capacities as numbers; those that coincide are one."""
        found: dict[int, list[str]] = {}
        for cliff in self.cliffs:
            found.setdefault(number(cliff.words), []).append(cliff.what)
        for words, what in found.items():
            yield Cliff(words, ", ".join(what))


def bounds(
    cascade: Cascade, rank: str | None = None, *, sizes: Mapping[str, int] | None = None
) -> Bounds:
    """Bound a cascade's traffic and count its operations, before any hardware is chosen.

    Args:
        cascade: a legal cascade.
        rank: the rank along which it is streamed; left out, as in `passes`. Lower bounds
            consider every rank of every input.
        sizes: steps of recurrences over other ranks, as in `passes`.

    Returns:
        Formulas in SymPy: positive integer symbols named as ranks (`M`, `P`, `M0`), and `S` for
        the words of the buffer (`S_words` in a cascade with a rank S).

    Raises:
        CascadeError: as `passes`.

    Source:
        Passes after FuseMax (MICRO 2024), section III; the bound is proved in `traffic_bounds`.

    Example:
        >>> from einsum_cascade.catalog import load
        >>> found = bounds(load("softmax-3pass"))
        >>> print(found.traffic["K"], "and", found.ops["exp"])
        E*M + 2*Max(0, M - S) and M*P
        >>> found.at(M=4096, P=4096, E=64, F=64, S=2048).traffic["K"]
        266240
    """
    import sympy

    report = passes(cascade, rank, sizes=sizes)
    buffer = symbol(buffer_name(cascade))
    fibers = fiber_bounds(cascade, report.rank, sizes or {})
    words = {name: compulsory(cascade, name) for name in (*cascade.inputs, *cascade.outputs)}
    surplus = {name: _surplus(fibers.get(name, ()), buffer) for name in words}
    ops, is_exact = operations(cascade)
    found: tuple[Alternative, ...] = ()
    reason, meeting = "", None
    try:
        blocks = structure(cascade, report)
        found = alternatives(cascade, report, blocks)
        meeting = crossover(cascade, blocks, found)
    except UnstreamableError as refusal:
        reason = str(refusal)
    return Bounds(
        cascade.name,
        report.rank,
        {name: words[name] + surplus[name] for name in words},
        sympy.Add(*words.values()) + sympy.Max(0, *surplus.values()),
        {name: _footprint(cascade, fibers[name]) for name in cascade.inputs},
        ops,
        is_exact,
        found,
        reason,
        meeting,
        tuple(_cliffs(fibers, found)),
        _source=cascade,
    )


def _surplus(fibers: tuple[FiberBound, ...], buffer: Size) -> Size:
    import sympy

    return sympy.Max(0, *(fiber.surplus(buffer) for fiber in fibers))


def _footprint(cascade: Cascade, fibers: tuple[FiberBound, ...]) -> Size:
    """The widest later level; without one, the position that is being read."""
    import sympy

    along = {fiber.rank for fiber in fibers}
    # A part is no longer than the whole it belongs to.
    longest = [f for f in fibers if cascade.whole_of(f.rank) not in along - {f.rank}]
    widths = [width for fiber in longest for width in fiber.widths]
    return sympy.Max(*widths) if widths else sympy.Integer(1)


def _cliffs(
    fibers: Mapping[str, tuple[FiberBound, ...]],
    found: tuple[Alternative, ...],
) -> Iterator[Cliff]:
    fitting: dict[Size, list[str]] = {}
    for name, own in fibers.items():
        for fiber in own:
            for width in fiber.widths:
                fitting.setdefault(width, []).append(f"{name} over {fiber.rank}")
    for words, names in fitting.items():
        yield Cliff(words, f"fiber of {_and(names)} fits")
    least: dict[Size, list[str]] = {}
    most: dict[Size, list[str]] = {}
    for one in found:
        least.setdefault(one.least, []).append(one.name)
        # With a single block the inputs are loaded only once.
        if one.block in names_in(one.traffic):
            most.setdefault(one.most, []).append(one.name)
    for words, names in least.items():
        yield Cliff(words, f"{_and(names)} {'fits' if len(names) == 1 else 'fit'}")
    for words, names in most.items():
        yield Cliff(words, f"{_and(names)} in one block")


def _and(names: list[str]) -> str:
    return " and ".join(dict.fromkeys(names))
