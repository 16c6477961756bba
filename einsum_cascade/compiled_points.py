"""An Einsum as plain loops over its points, with the interpreter's notion of emptiness.

What the interpreter does with grids is done here point by point, with the same bookkeeping: a
tensor t_X has presence o_X, and s_X holds a bit for each axis along which presence may vary. A
point that reads something empty, or fails its filter, is skipped (ok); if the kept variables alone
decide that, the element is empty (el), and the variables that decide it (c) vary the target.

This is for selections and top-k; everything else goes row by row (`compiled_rows`). Sums run
through the reduced variables in the order in which the Einsum names them, one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

from einsum_cascade.array_shapes import array_groups
from einsum_cascade.cascade import Cascade, Einsum, affine, variables_in
from einsum_cascade.compiled_checks import size_text
from einsum_cascade.compiled_chunks import Chunk
from einsum_cascade.compiled_text import (
    WIDE,
    Arithmetic,
    Text,
    arithmetic_of,
    combining,
    integer,
    literal,
    rounded,
    truth,
    value,
)
from einsum_cascade.expressions import Access, Condition, Expr, Logic
from einsum_cascade.hardware_numbers import Numbers
from einsum_cascade.operators import REDUCTIONS


@dataclass(slots=True)
class Points:
    """The loops of one Einsum, while they are being written."""

    cascade: Cascade
    einsum: Einsum
    fixed: tuple[str, ...]
    numbers: Numbers | None
    text: Text
    # Tensors that may have empty elements at all.
    partial: frozenset[str]
    chunk: Chunk
    # Where the branch of a selection that is being written is chosen, and by which variables.
    where: tuple[str, ...] = ()
    choosers: frozenset[str] = frozenset()
    # Reads of this point so far: the same access is read once.
    known: dict[tuple[Access, tuple[str, ...]], str] = field(default_factory=dict)
    # Lines before the loops: which variables vary what is read.
    before: list[str] = field(default_factory=list)

    def write(self) -> None:
        """Write everything."""
        einsum, text = self.einsum, self.text
        row = REDUCTIONS[einsum.op] if einsum.op is not None else None
        mark = len(text.lines)
        depth = text.depth
        new = ""
        if row is not None and row.selects:
            new = einsum.filled
            over = einsum.over[0]
            text.line(f"best = np.empty(n_{self.cascade.rank_of(new)}, F)")
            text.line("which = np.empty(len(best), np.int64)")
        for variable in einsum.left:
            if variable != new:
                self.loop(variable, is_left=True)
        if row is None:
            result = self.point()
            self.store(result, "ok")
        elif not row.selects:
            text.line(f"acc = {literal(row.identity, 'F')}")
            text.line("el = True")
            kept = text.depth
            for variable in einsum.over:
                self.loop(variable)
            result = self.point()
            total = combining(self.numbers, einsum).call(row.combine, ["acc", result])
            text.line("if ok:")
            text.line(f"    acc = {total}")
            text.depth = kept
            self.store("acc", "el")
        else:
            text.line("count = 0")
            kept = text.depth
            self.loop(over)
            result = self.point()
            text.line("if ok:")
            text.line(f"    count = k.select(best, which, count, {result}, v_{over})")
            text.depth = kept
            everything = self.bits(frozenset(einsum.left))
            text.line(f"c |= {everything} | ANY if count < len(best) else 0")
            with text.block(f"for v_{new} in range(count):"):
                chosen = f"F(which[v_{new}])" if einsum.op == "argtopk" else f"best[v_{new}]"
                self.store(chosen, "True")
        text.depth = depth
        text.lines[mark:mark] = ["    " * depth + line for line in self.before]

    def loop(self, variable: str, *, is_left: bool = False) -> None:
        """Open the loop of a variable; a recurrence has fixed it."""
        rank = self.cascade.rank_of(variable)
        if is_left and rank in self.fixed:
            self.text.line(f"v_{variable} = f_{rank}")
        else:
            self.text.line(f"for v_{variable} in range({self.chunk.range(variable, rank)}):")
            self.text.depth += 1

    def point(self) -> str:
        """Write the evaluation of the map and the filter; return the value's text."""
        self.text.line("ok = True")
        result = value(self.einsum.map, self.text, self, arithmetic_of(self.numbers, self.einsum))
        name = self.text.fresh("x")
        self.text.line(f"{name} = F({rounded(self.numbers, self.einsum, result)})")
        if self.einsum.where is not None:
            self.filter(self.einsum.where)
        return name

    def store(self, result: str, present: str) -> None:
        """Write an element of the target."""
        place = []
        for axis, index in enumerate(self.einsum.target.indices):
            text = integer(index)
            assert text is not None
            if axis in self.chunk.axes.get(self.einsum.name, ()):
                text = self.chunk.inside(variables_in(index)[0])
            place.append(text)
        at = ", ".join(place) or "0"
        kept = result if present == "True" else f"{result} if {present} else F(-0.0)"
        self.text.line(f"t_{self.einsum.name}[{at}] = {kept}")
        if self.einsum.name in self.partial:
            self.text.line(f"o_{self.einsum.name}[{at}] = {present}")

    def bit(self, variable: str) -> int:
        """The bit of a variable in `c`."""
        return 1 << self.einsum.variables.index(variable)

    def bits(self, variables: set[str] | frozenset[str]) -> int:
        """The bits of several variables."""
        return sum(self.bit(v) for v in variables)

    # ---- emptiness ----

    def exclude(self, empty: str, variables: set[str]) -> None:
        """Write that a point is empty where `empty` holds, which depends on variables."""
        causes = variables | self.choosers
        with self.text.block(f"if {' and '.join([*self.where, empty])}:"):
            self.text.line("ok = False")
            if not causes & set(self.einsum.over):
                if self.einsum.op is not None:
                    self.text.line("el = False")
                self.text.line(f"c |= {self.bits(causes)} | ANY")

    def exclude_empty(self, empty: str, causes: str) -> None:
        """Write the same for causes that are known only at run time, as bits."""
        reduced = self.bits(frozenset(self.einsum.over))
        with self.text.block(f"if {' and '.join([*self.where, empty])}:"):
            self.text.line("ok = False")
            with self.text.block(f"if {causes} & {reduced} == 0:"):
                if self.einsum.op is not None:
                    self.text.line("el = False")
                self.text.line(f"c |= {causes} | ANY")

    def filter(self, condition: Condition) -> None:
        """Write a filter; the terms of an `and` count one by one."""
        if isinstance(condition, Logic) and condition.word == "and":
            for term in condition.terms:
                self.filter(term)
        else:
            holds = truth(condition, self.text, self)
            self.exclude(f"not {holds}", set(variables_in(condition)))

    def hoisted(self, expr: Expr, how: Arithmetic) -> str | None:
        """See Reader."""
        return None

    @contextmanager
    def chosen(self, holds: str, variables: tuple[str, ...]) -> Iterator[None]:
        """See Reader: a branch of a selection."""
        before = self.where, self.choosers
        # A condition that reads something empty chooses neither branch.
        name = self.text.fresh("h")
        self.text.line(f"{name} = ok and {holds}")
        self.where = (*self.where, name)
        self.choosers = self.choosers | set(variables)
        yield
        self.where, self.choosers = before

    def access(self, access: Access) -> str:
        """See Reader: write the checks of a read and its value."""
        key = (access, self.where)
        if key not in self.known:
            self.known[key] = self.read(access)
        return self.known[key]

    def read(self, access: Access) -> str:
        """Write a read."""
        tensor = access.tensor
        is_input = tensor in self.cascade.inputs
        place: list[str] = []
        checks: list[str] = []
        for axis in range(len(access.indices)):
            text, inside = self.index(access, axis)
            place.append(text)
            checks += [inside] if inside else []
        if is_input:
            place, more = self.merged(access, place)
            checks += more
        is_safe = not checks
        result = self.text.fresh("r")
        if not is_safe:
            self.text.line(f"{result} = F(0)")
        # Without an element anywhere every point is outside already.
        guard = nullcontext() if is_safe else self.text.block(f"if t_{tensor}.size > 0:")
        with guard:
            at = ", ".join(place) or "0"
            if tensor in self.partial:
                causes = self.text.fresh("c")
                parts = [
                    f"({self.bits(set(variables_in(index)))} if s_{tensor} & {1 << axis} else 0)"
                    for axis, index in enumerate(access.indices)
                    if variables_in(index)
                ]
                parts += [str(self.bits(self.choosers))] if self.choosers else []
                self.before.append(f"{causes} = {' | '.join(parts) or '0'}")
                self.exclude_empty(f"not o_{tensor}[{at}]", causes)
            # What is empty counts as 0 in a filter.
            other = f" if {' and '.join(checks)} else F(0)" if checks else ""
            self.text.line(f"{result} = t_{tensor}[{at}]{other}")
        return result

    def index(self, access: Access, axis: int) -> tuple[str, str]:
        """Write the check of one index; return its text, and that of whether it lies inside."""
        cascade = self.cascade
        expr = access.indices[axis]
        dim = cascade.tensor(access.tensor).dims[axis]
        plain = affine(expr)
        whole = integer(expr)
        if axis in self.chunk.axes.get(access.tensor, ()):
            return self.chunk.inside(plain.variables[0]), ""
        if plain.is_plain and cascade.rank_of(plain.variables[0]) == dim.rank:
            step = plain.step or 0
            if 0 <= step <= dim.extra:
                assert whole is not None
                return whole, ""
        size = size_text(cascade, access.tensor, axis)
        name = self.text.fresh("i")
        text = whole if whole is not None else value(expr, self.text, self, WIDE)
        self.text.line(f"{name} = {text}")
        inside = self.text.fresh("h")
        self.text.line(f"{inside} = ({name} >= 0) and ({name} < {size})")
        self.exclude(f"not {inside}", set(variables_in(expr)))
        at = self.text.fresh("j")
        self.text.line(f"{at} = {name if whole is not None else f'int({name})'} if {inside} else 0")
        return at, inside

    def merged(self, access: Access, place: list[str]) -> tuple[list[str], list[str]]:
        """Indices of an input's array, whose split ranks are whole, and checks of ragged tiles."""
        cascade = self.cascade
        tensor = cascade.tensor(access.tensor)
        found: list[str] = []
        checks: list[str] = []
        for rank, axes in array_groups(cascade, tensor):
            if rank is None or len(axes) == 1:
                found.append(place[axes[0]])
                continue
            causes: set[str] = set()
            text = ""
            for part, axis in zip(cascade.parts_of(rank), axes, strict=True):
                causes |= set(variables_in(access.indices[axis]))
                text = f"({text}*n_{part} + {place[axis]})" if text else place[axis]
            name = self.text.fresh("i")
            self.text.line(f"{name} = {text}")
            self.exclude(f"{name} >= n_{rank}", causes)
            at = self.text.fresh("j")
            self.text.line(f"{at} = {name} if {name} < n_{rank} else 0")
            found.append(at)
            checks.append(f"{name} < n_{rank}")
        return found, checks
