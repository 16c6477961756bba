"""The types: `Cascade` (a DAG of Einsums), its ranks and tensors, and `Workload` (sizes).

All of them are frozen and hashable, and `str(cascade)` is the text one would write. A Cascade is
made by `legality.parse`, which has checked it: the code that reads one may rely on every rule.

Ranks of a tensor are its *written* order; the meaning of a cascade does not depend on it, but
arrays and mappings do. A rank that a recurrence fills (`RM[m1+1,p]`) has one coordinate more
than the rank's extent: its `Dim` says so in `extra`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from einsum_cascade.errors import CascadeError, Source
from einsum_cascade.expressions import (
    CAPITAL,
    VARIABLE,
    Access,
    Apply,
    Condition,
    Expr,
    Line,
    Name,
    Number,
    accesses,
    to_text,
    walk,
)

# M0 of a split for which neither arrays nor sizes nor a mapping say anything.
DEFAULT_TILE = 256


@dataclass(frozen=True, slots=True)
class Dim:
    """One rank of a tensor: its name (None: only gathered from), and coordinates beyond it."""

    rank: str | None
    extra: int = 0


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of a cascade. `role` is "input", "output" or "intermediate"."""

    name: str
    dims: tuple[Dim, ...]
    role: str

    @property
    def ranks(self) -> tuple[str | None, ...]:
        """Rank names in written order."""
        return tuple(dim.rank for dim in self.dims)

    @property
    def is_state(self) -> bool:
        """True if a recurrence fills it step by step."""
        return any(dim.extra for dim in self.dims)


@dataclass(frozen=True, slots=True)
class Einsum:
    """One extended Einsum: `target = op[over](map) where where`.

    `op` is None for a map. `over` holds the reduced variables, also those of a sum that the text
    leaves implicit (`is_implicit`).
    """

    target: Access
    op: str | None
    over: tuple[str, ...]
    map: Expr
    where: Condition | None
    is_implicit: bool
    line: Line = field(compare=False, repr=False)
    # True if it sets a fixed coordinate, such as RM[0,p] = -inf.
    is_initial: bool = field(init=False, compare=False, repr=False)
    # Index variables of the left side, in order.
    left: tuple[str, ...] = field(init=False, compare=False, repr=False)
    # Every index variable: the left side's first, then by first use.
    variables: tuple[str, ...] = field(init=False, compare=False, repr=False)
    # Accesses of the right side and the filter, left to right.
    reads: tuple[Access, ...] = field(init=False, compare=False, repr=False)
    _hash: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Look the expressions through once; everybody asks for this all the time."""

        def put(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        indices = self.target.indices
        put("is_initial", any(not variables_in(index) for index in indices))
        put("left", tuple(v for index in indices for v in variables_in(index)))
        where = () if self.where is None else variables_in(self.where)
        named = (*self.left, *variables_in(self.map), *where, *self.over)
        put("variables", tuple(dict.fromkeys(named)))
        put("reads", accesses(self.map) + accesses(self.where))
        mine = (self.target, self.op, self.over, self.map, self.where, self.is_implicit)
        put("_hash", hash(mine))

    def __hash__(self) -> int:
        """Hash as computed once."""
        return self._hash

    @property
    def name(self) -> str:
        """The tensor it defines."""
        return self.target.tensor

    @property
    def filled(self) -> str:
        """The variable that a top-k fills: neither its map nor its filter has it."""
        where = () if self.where is None else variables_in(self.where)
        return next(v for v in self.left if v not in (*variables_in(self.map), *where))

    @property
    def source(self) -> Source:
        """Where it was written."""
        return Source(self.line.file, self.line.number, self.line.indent + 1)

    def __str__(self) -> str:
        """Print as one line of a cascade."""
        text = to_text(self.map)
        if self.op is not None and not self.is_implicit:
            text = f"{self.op}[{','.join(self.over)}]({text})"
        tail = f" where {self.where}" if self.where is not None else ""
        return f"{self.target} = {text}{tail}"


@dataclass(frozen=True, slots=True)
class Cascade:
    """A legal cascade: Einsums, the ranks and tensors they speak of, parameters and defaults."""

    name: str
    einsums: tuple[Einsum, ...]
    tensors: tuple[Tensor, ...]
    # Rank of every index variable in use, and the parts of every split rank, outermost first.
    variables: tuple[tuple[str, str], ...]
    splits: tuple[tuple[str, tuple[str, ...]], ...] = ()
    # The parts of every concatenated rank, from its first coordinate on: rank M = T + N.
    concatenations: tuple[tuple[str, tuple[str, ...]], ...] = ()
    # Parameters in order of use; None: a symbol in analysis, an argument of evaluate.
    parameters: tuple[tuple[str, float | None], ...] = ()
    # Sizes to use for ranks that nothing else determines.
    default_sizes: tuple[tuple[str, int], ...] = ()
    # Tensors whose inputs/outputs the text declares, so that printing keeps them.
    declared_inputs: tuple[Access, ...] = ()
    declared_outputs: tuple[str, ...] = ()
    description: str = field(default="", compare=False)
    paper: str = field(default="", compare=False)
    # Every rank: those of variables by the variable's name, then wholes of several parts.
    ranks: tuple[str, ...] = field(init=False, compare=False, repr=False)
    # What is looked up all the time, and the hash, which goes through every expression.
    _rank_of: dict[str, str] = field(init=False, compare=False, repr=False)
    _tensor: dict[str, Tensor] = field(init=False, compare=False, repr=False)
    _defining: dict[str, tuple[Einsum, ...]] = field(init=False, compare=False, repr=False)
    _hash: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Look the parts up once."""
        defining: dict[str, tuple[Einsum, ...]] = {}
        for einsum in self.einsums:
            defining[einsum.name] = (*defining.get(einsum.name, ()), einsum)
        found = (self.name, self.einsums, self.tensors, self.variables, self.splits)
        more = (self.concatenations, self.parameters, self.default_sizes)
        ranks = [rank for _, rank in self.variables]
        ranks += [dim.rank for tensor in self.tensors for dim in tensor.dims if dim.rank]
        for whole, parts in (*self.splits, *self.concatenations):
            ranks += [*parts, whole]
        put = object.__setattr__
        put(self, "ranks", tuple(dict.fromkeys(ranks)))
        put(self, "_rank_of", dict(self.variables))
        put(self, "_tensor", {tensor.name: tensor for tensor in reversed(self.tensors)})
        put(self, "_defining", defining)
        put(self, "_hash", hash((found, more)))

    def __hash__(self) -> int:
        """Hash as computed once."""
        return self._hash

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the input tensors."""
        return tuple(tensor.name for tensor in self.tensors if tensor.role == "input")

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the output tensors."""
        return tuple(tensor.name for tensor in self.tensors if tensor.role == "output")

    def tensor(self, name: str) -> Tensor:
        """Return a tensor by name; KeyError if there is none (a bug of the caller)."""
        return self._tensor[name]

    def rank_of(self, variable: str) -> str:
        """Return the rank that a variable ranges over."""
        return self._rank_of.get(variable, variable.upper())

    def parts_of(self, rank: str) -> tuple[str, ...]:
        """Return the parts of a split rank, outermost first, or the rank itself."""
        return dict(self.splits).get(rank, (rank,))

    def whole_of(self, rank: str) -> str:
        """Return the rank of which this is a part, or the rank itself."""
        return next((whole for whole, parts in self.splits if rank in parts), rank)

    def concatenated(self, rank: str) -> tuple[str, ...]:
        """Return the parts that make up a concatenated rank in order; none for any other rank."""
        return dict(self.concatenations).get(rank, ())

    def defining(self, tensor: str) -> tuple[Einsum, ...]:
        """The Einsums that define a tensor; none for an input."""
        return self._defining.get(tensor, ())

    def __str__(self) -> str:
        """Print the text that parses to this cascade."""
        lines = [f"rank {whole} = {'*'.join(parts)}" for whole, parts in self.splits]
        lines += [f"rank {whole} = {' + '.join(parts)}" for whole, parts in self.concatenations]
        indices = [index for access in self.declared_inputs for index in access.indices]
        used = {v for einsum in self.einsums for v in einsum.variables}
        used.update(v for index in indices for v in variables_in(index))
        by_rank: dict[str, list[str]] = {}
        for variable, rank in self.variables:
            if variable.upper() != rank or variable not in used:
                by_rank.setdefault(rank, []).append(variable)
        lines += [f"var {', '.join(names)} in {rank}" for rank, names in by_rank.items()]
        if self.declared_inputs:
            lines.append("input " + ", ".join(str(access) for access in self.declared_inputs))
        if self.declared_outputs:
            lines.append("output " + ", ".join(self.declared_outputs))
        lines += [f"param {n} = {v!r}" for n, v in self.parameters if v is not None]
        return "\n".join([*lines, *(str(einsum) for einsum in self.einsums)])


@dataclass(frozen=True, slots=True)
class Workload:
    """Sizes of ranks (batch ranks B and H included), under the name of a model."""

    name: str
    sizes: tuple[tuple[str, int], ...]
    # The model's name as papers write it.
    title: str = field(default="", compare=False)

    def size(self, rank: str, default: int | None = None) -> int:
        """Return the size of a rank; CascadeError if it has none and there is no default."""
        found = dict(self.sizes).get(rank, default)
        if found is None:
            raise self._lacking([rank])
        return found

    def require(self, ranks: Iterable[str]) -> None:
        """CascadeError that names every one of some ranks that has no size."""
        lacking = [rank for rank in ranks if rank not in dict(self.sizes)]
        if lacking:
            raise self._lacking(lacking)

    def _lacking(self, ranks: list[str]) -> CascadeError:
        known = ", ".join(f"{name}={size}" for name, size in self.sizes)
        names = ("rank " if len(ranks) == 1 else "ranks ") + ", ".join(ranks)
        sizes = [f"{rank}=..." for rank in ranks]
        return CascadeError(
            f"the size of {names} is not set; known: {known or 'none'}; "
            f"give it with --set {','.join(sizes)} or workload({self.name!r}, {', '.join(sizes)})"
        )

    def __str__(self) -> str:
        """Print as `bert: B=64 H=12 ...`."""
        return f"{self.name}: " + " ".join(f"{rank}={size}" for rank, size in self.sizes)


@dataclass(frozen=True, slots=True)
class Affine:
    """An index as variables with coefficients plus an offset: `p1*P0 + w - W//2`.

    Coefficients and the offset are expressions over shapes; `step` is the offset where it is an
    integer, else None. `is_gather` marks an index that reads a tensor. `offset` names the shapes
    before the variable where the index is shapes plus one variable: `T+N+x` starts behind T and N.
    """

    variables: tuple[str, ...]
    step: int | None
    is_plain: bool
    is_gather: bool
    offset: tuple[str, ...] = ()


# Analyses ask for the same few indices all the time.
@lru_cache(maxsize=1 << 14)
def affine(index: Expr) -> Affine:
    """Classify an index: `m` is plain, `m+1` plain with a step, `0` or `M1` without variables."""
    names = variables_in(index)
    gather = any(isinstance(node, Access) for node in walk(index))
    match index:
        case Name(name=name) if VARIABLE.match(name):
            return Affine(names, 0, True, False)
        case Number(value=int() as value):
            return Affine((), value, False, False)
        case Apply(
            operator="add" | "sub" as op, arguments=(Name(name=v), Number(value=int() as c))
        ) if VARIABLE.match(v):
            return Affine(names, c if op == "add" else -c, True, False)
        case Apply(operator="add", arguments=(Number(value=int() as c), Name(name=v))) if (
            VARIABLE.match(v)
        ):
            return Affine(names, c, True, False)
        case Apply(operator="add", arguments=(before, Name(name=v))) if VARIABLE.match(v):
            return Affine(names, None, False, gather, _shapes(before))
    return Affine(names, None, False, gather)


def _shapes(expr: Expr) -> tuple[str, ...]:
    """The shapes of a sum of shapes, in order; none if it is anything else."""
    match expr:
        case Name(name=name) if CAPITAL.match(name):
            return (name,)
        case Apply(operator="add", arguments=(left, Name(name=name))) if CAPITAL.match(name):
            before = _shapes(left)
            return (*before, name) if before else ()
    return ()


def part_at(index: Affine, parts: tuple[str, ...], ranks: Mapping[str, str]) -> str | None:
    """Say which part of a concatenated rank an index addresses, starting at its `offset`.

    Args:
        index: an index in the place of the concatenated rank.
        parts: the parts of that rank, in order; none for any other rank.
        ranks: rank of every variable.

    Returns:
        With M = T + N: T for `t`, N for `T+n`; None for what addresses no one part, such as `m`.
    """
    if len(index.variables) != 1 or not (index.offset or (index.is_plain and index.step == 0)):
        return None
    before, rank = len(index.offset), ranks[index.variables[0]]
    found = parts[: before + 1] == (*index.offset, rank)
    return rank if found else None


def in_different_parts(a: Affine, b: Affine, ranks: Mapping[str, str]) -> bool:
    """True if one of two indices starts where the other ends: `t` and `T+n`, `T+n` and `T+N+x`."""
    for low, high in ((a, b), (b, a)):
        if low.offset or (low.is_plain and low.step == 0):
            end = (*low.offset, ranks.get(low.variables[0], low.variables[0].upper()))
            if high.offset[: len(end)] == end:
                return True
    return False


def variables_in(expr: Expr | Condition) -> tuple[str, ...]:
    """Index variables of an expression by first use, those inside gathers included."""
    names = (node.name for node in walk(expr) if isinstance(node, Name))
    return tuple(dict.fromkeys(name for name in names if VARIABLE.match(name)))


def is_product(expr: Expr) -> bool:
    """True if an expression is a product or quotient of accesses and constants.

    Only such a map may be summed without saying so; the sum inside any other map is ambiguous.
    """
    match expr:
        case Apply(operator="mul" | "div", arguments=arguments):
            return all(is_product(argument) for argument in arguments)
        case Apply(operator="neg", arguments=(argument,)):
            return is_product(argument)
        case Access():
            return True
    # A constant may be any arithmetic without accesses and variables: sqrt(E), 2*eps.
    return not accesses(expr) and not variables_in(expr)


def workload_from(name: str, sizes: Mapping[str, int], title: str = "") -> Workload:
    """Make a Workload; CascadeError unless every size is a positive integer of a rank name."""
    bad = [
        f"{rank}={size}"
        for rank, size in sizes.items()
        if not isinstance(size, int) or isinstance(size, bool) or size < 1 or not rank[:1].isupper()
    ]
    if bad:
        raise CascadeError(
            f"sizes are positive integers of ranks (M=4096), not {', '.join(bad)} in {name}"
        )
    return Workload(name, tuple(sizes.items()), title)
