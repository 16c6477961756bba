"""Which coordinates of a rank an Einsum leaves out: what filters and edges do to coverage.

A barrier is certain only if everything it needs exists. `gaps` says for every Einsum and index
variable whether its points exist all along (no entry), all but a few (FEW: an edge, `m != 1`), or
nobody knows how many (SOME: `m < M//2`, a band). A filter that compares with another rank, as the
causal `m <= p`, leaves no gap: its longest row has everything. The longest row of `m < p` lacks one
coordinate (STRICT), which makes no difference if nobody else reads that one. Comparisons both ways
may leave no point at all (DOUBT), which concerns every variable.
"""

from __future__ import annotations

from collections.abc import Iterator

from einsum_cascade.cascade import Cascade, Einsum, affine, variables_in
from einsum_cascade.expressions import (
    Access,
    Apply,
    Compare,
    Condition,
    Expr,
    Logic,
    Name,
    Number,
    Select,
    accesses,
    walk,
)

STRICT, FEW, SOME, DOUBT = 1, 2, 3, 4
# Names of variables and how much of their coordinates is missing.
Gaps = dict[str, int]
_LESS = ("<", "<=")
_GREATER = (">", ">=")
# Extents at which offsets of windows are tried out: an odd and an even one.
_WINDOWS = (3, 4)


def gaps(cascade: Cascade, order: tuple[Einsum, ...]) -> dict[int, Gaps]:
    """Gaps of every Einsum, by its identity; `order` has producers first."""
    axes: dict[tuple[str, int], int] = {}
    senses = _senses(cascade)
    found: dict[int, Gaps] = {}
    # Twice: what a recurrence leaves out shows when its second step reads the first.
    for _ in range(2):
        for einsum in order:
            own = _own(cascade, einsum, axes, senses)
            found[id(einsum)] = own
            for axis, index in enumerate(einsum.target.indices):
                missing = max((own.get(v, 0) for v in variables_in(index)), default=0)
                key = (einsum.name, axis)
                axes[key] = max(axes.get(key, 0), missing)
    return found


def _own(
    cascade: Cascade,
    einsum: Einsum,
    axes: dict[tuple[str, int], int],
    senses: set[tuple[str, str, int]],
) -> Gaps:
    own: Gaps = {}

    def leave_out(names: tuple[str, ...], missing: int) -> None:
        for name in names:
            own[name] = max(own.get(name, 0), missing)

    if einsum.where is not None:
        for term in terms_of(einsum.where):
            leave_out(variables_in(term), _missing(cascade, term, senses))
    for node in walk(einsum.map):
        if isinstance(node, Select):
            # Chosen by data both branches may be read; a mask is as good as a filter.
            is_mask = not accesses(node.otherwise)
            for term in terms_of(node.condition):
                if not accesses(term):
                    missing = _missing(cascade, term, senses) if is_mask else SOME
                    leave_out(variables_in(term), missing)
    for read in einsum.reads:
        dims = cascade.tensor(read.tensor).dims
        for axis, (dim, index) in enumerate(zip(dims, read.indices, strict=True)):
            names = variables_in(index)
            leave_out(names, axes.get((read.tensor, axis), 0))
            form = affine(index)
            if form.is_plain and form.step is not None:
                if not 0 <= form.step <= dim.extra:
                    leave_out(names, FEW)
            elif names and not form.is_gather and not form.offset:
                # Far from the edges a window has all its offsets.
                base = centre(cascade, index, dim.rank or "")
                leave_out((base,) if base else names, _outside(cascade, dim.rank, index))
    return own


def _outside(cascade: Cascade, rank: str | None, index: Expr) -> int:
    """How much of a computed index may lie outside of a rank."""
    ranks = {cascade.whole_of(cascade.rank_of(v)) for v in variables_in(index)}
    if rank is None or rank not in ranks:
        return 0
    if any(cascade.rank_of(v) != rank for v in variables_in(index)):
        # A strided window p1*P0+w-W//2: in the middle of the rank nothing is outside.
        return 0
    base = centre(cascade, index, rank)
    if base is None:
        return SOME
    return 0 if offsets_reach_zero(cascade, index, base) else FEW


def terms_of(condition: Condition) -> Iterator[Condition]:
    """The terms of an `and`, one by one."""
    if isinstance(condition, Logic) and condition.word == "and":
        for term in condition.terms:
            yield from terms_of(term)
    else:
        yield condition


def _senses(cascade: Cascade) -> set[tuple[str, str, int]]:
    """Which ranks are compared with which, and which of the two is the smaller one."""
    found = set()
    for einsum in cascade.einsums:
        conditions = [node.condition for node in walk(einsum.map) if isinstance(node, Select)]
        for condition in [*conditions, *([] if einsum.where is None else [einsum.where])]:
            for term in terms_of(condition):
                sides = _sides(cascade, term)
                if sides is not None:
                    small, large = sides
                    found.add((small, large, 1))
                    found.add((large, small, -1))
    return found


def _sides(cascade: Cascade, term: Condition) -> tuple[str, str] | None:
    """Ranks of `m <= p` as (M, P); None if a term is anything else."""
    if not isinstance(term, Compare) or term.symbol not in (*_LESS, *_GREATER):
        return None
    left, right = affine(term.left), affine(term.right)
    if not (left.is_plain and right.is_plain and left.step == right.step == 0):
        return None
    names = left.variables[0], right.variables[0]
    if term.symbol in _GREATER:
        names = names[1], names[0]
    small, large = (cascade.rank_of(name) for name in names)
    return (small, large) if cascade.whole_of(small) != cascade.whole_of(large) else None


def _missing(cascade: Cascade, term: Condition, senses: set[tuple[str, str, int]]) -> int:
    """How much a filter's term leaves out of the ranks it speaks of."""
    if any(isinstance(node, Access) for node in walk(term)):
        # Data decides: nothing may be missing, or everything.
        return SOME
    sides = _sides(cascade, term)
    if sides is not None:
        small, large = sides
        # The row that has everything of one rank is empty in a filter the other way round.
        if (small, large, -1) in senses:
            return DOUBT
        if _compared_often(senses, small, large):
            return SOME
        assert isinstance(term, Compare)
        return STRICT if term.symbol in ("<", ">") else 0
    if isinstance(term, Compare):
        numbers = [side for side in (term.left, term.right) if isinstance(side, Number)]
        if len(numbers) == 1 and term.symbol in ("!=", *_GREATER, *_LESS):
            other = term.right if term.left is numbers[0] else term.left
            keeps_above = term.symbol in (_GREATER if other is term.left else _LESS)
            if affine(other).is_plain and (keeps_above or term.symbol == "!="):
                return FEW
    return SOME


def _compared_often(senses: set[tuple[str, str, int]], small: str, large: str) -> bool:
    """True if either rank is also compared the other way round, or with a third rank."""
    return any(
        (a == small and (b != large or way != 1)) or (a == large and (b != small or way != -1))
        for a, b, way in senses
    )


def centre(cascade: Cascade, index: Expr, rank: str) -> str | None:
    """The variable of `rank` from which an index stays near: p of p+w-W//2, or of (p+w)%N."""
    names = [v for v in variables_in(index) if cascade.whole_of(cascade.rank_of(v)) == rank]
    if len(names) != 1 or not _is_near(index, names[0], rank):
        return None
    return names[0]


def _is_near(index: Expr, name: str, rank: str) -> bool:
    match index:
        case Name(name=other):
            return other == name
        case Apply(operator="add", arguments=(left, right)):
            return _is_near(left, name, rank) != _is_near(right, name, rank)
        case Apply(operator="sub", arguments=(left, right)):
            return _is_near(left, name, rank) and name not in variables_in(right)
        case Apply(operator="mod", arguments=(inner, Name(name=modulus))) if modulus == rank:
            # Wrapped round: the first few positions are kept until the end.
            return _is_near(inner, name, rank)
        case Apply(operator="clamp" | "min" | "max", arguments=(inner, *bounds)):
            return _is_near(inner, name, rank) and not any(name in variables_in(b) for b in bounds)
    return False


def offsets_reach_zero(cascade: Cascade, index: Expr, base: str) -> bool:
    """True if some offset of a window is zero, whatever its extent: w-W//2 and w, not 2*w-W."""
    others = [v for v in variables_in(index) if v != base]
    # Far from both edges, so that wrapping and clamping do nothing.
    middle, long = 500, 1000
    for extent in _WINDOWS:
        names = {cascade.rank_of(v): extent for v in others}
        values = {base: middle}
        hits = False
        points: list[dict[str, int]] = [values]
        for v in others:
            points = [{**p, v: i} for p in points for i in range(extent)]
        for point in points:
            hits = hits or integer(index, {**point, **names}, long) == middle
        if not hits:
            return False
    return True


def integer(index: Expr, values: dict[str, int], otherwise: int) -> int | None:
    """Value of an index; names without a value are `otherwise`. None for a gather."""
    match index:
        case Number(value=int() as value):
            return value
        case Name(name=name):
            return values.get(name, otherwise)
        case Apply(operator=operator, arguments=arguments):
            found = [integer(argument, values, otherwise) for argument in arguments]
            known = [value for value in found if value is not None]
            if len(known) < len(found) or (operator in ("floordiv", "mod") and known[1] == 0):
                return None
            return _whole(operator, known)
    return None


def _whole(operator: str, values: list[int]) -> int | None:
    first, *rest = values
    match operator:
        case "neg":
            return -first
        case "clamp":
            return min(max(first, rest[0]), rest[1])
        case "add":
            return first + rest[0]
        case "sub":
            return first - rest[0]
        case "mul":
            return first * rest[0]
        case "floordiv":
            return first // rest[0]
        case "mod":
            return first % rest[0]
        case "min":
            return min(values)
        case "max":
            return max(values)
    return None
