"""A reduction as a recurrence: what a tile adds, how the state is corrected, what is read off it.

A reduction R = op over m of F(x, a) that follows the results a becomes

    LR[m1] = op[m0](F(x[m1,m0], a[m1+1]))        what a tile adds, with the new references
    RR[0] = identity
    RR[m1+1] = op(H(a[m1], a[m1+1]) applied to RR[m1], LR[m1])

and its result is read off RR[M1]. Without tiles, LR is written out in place. The corrections H
that several reductions share become a tensor of their own, P.
"""

from __future__ import annotations

from collections.abc import Iterable

from einsum_cascade.cascade import variables_in
from einsum_cascade.derivation.algebra import ONE, ZERO, Change, Term
from einsum_cascade.derivation.claims import NEW
from einsum_cascade.derivation.presence import chosen, joined, presence
from einsum_cascade.derivation.sheet import (
    Sheet,
    Text,
    expression,
    named_maps,
    reference_value,
    result_of,
)
from einsum_cascade.derivation.staging import Staged
from einsum_cascade.errors import CascadeError
from einsum_cascade.expressions import (
    Access,
    Apply,
    Compare,
    Condition,
    Expr,
    Name,
    Number,
    Select,
    to_text,
    walk,
)
from einsum_cascade.operators import REDUCTIONS

# How far a running maximum may exceed a lazy reference: exp(8) times the sum still fits any
# format. FlashAttention-4 is reported to use 8 in units of log2.
LAZY_SLACK = 8
LN2 = 0.6931471805599453
NOTHING = Number(float("-inf"))


def write_recurrence(sheet: Sheet, one: Staged) -> None:
    """Write all lines of a running reduction."""
    basis = one.separation.basis if one.separation else (sheet.algebra.term(one.map),)
    values = [_added(sheet, one, j, term, len(basis)) for j, term in enumerate(basis)]
    _steps(sheet, one, values)
    if one.einsum.name in sheet.kept_at:
        _reference(sheet, one)
    _result(sheet, one)


# ---- what one step adds ----


def _added(sheet: Sheet, one: Staged, j: int, term: Term, count: int) -> Expr:
    """What a step adds to an accumulator, reduced over the tile and any further variables."""
    einsum, layout = one.einsum, sheet.layout
    assert einsum.op is not None
    over = (*layout.inner, *(v for v in einsum.over if v != sheet.fiber.variable))
    value = _basis_value(sheet, one, term)
    missing = [v for v in over if v not in variables_in(value)]
    filters = list(conditions_of(sheet, one, is_exact=count > 1))
    if sheet.fiber.variable in einsum.over:
        filters += layout.guard(sheet.algebra.expression(term))
    masks = [] if layout.inner else list(conditions_of(sheet, one, is_exact=True))
    if layout.parts and not layout.inner:
        # The last split is ragged.
        masks.append(Compare("<", layout.position, Name(layout.rank)))
    if missing or not over:
        masks, filters = [*filters, *masks, *everywhere(sheet, missing)], []
    # Where a step is one element, an empty one must leave the state as it is; what a reduced
    # variable empties, the reduction skips.
    masks = [c for c in masks if missing or not set(variables_in(c)) & {*over}]
    value = chosen(masks, value, identity_of(einsum.op))
    if not over:
        return value
    suffix = str(j) if count > 1 else ""
    local = sheet.at(sheet.now, sheet.name(f"L{einsum.name}{suffix}"), einsum)
    sheet.lines.append(Text(local, einsum.op, over, value, joined(filters)))
    return local


def identity_of(op: str) -> Number:
    """The value of a reduction of nothing."""
    value = REDUCTIONS[op].identity
    return Number(int(value) if value in (0.0, 1.0) else value)


def _basis_value(sheet: Sheet, one: Staged, term: Term) -> Expr:
    """A basis function with new references, in terms of maps that already have a name."""
    followed = set(one.followed(sheet.algebra))
    term, known = named_maps(sheet, one, term)

    def change(leaf: Access | Name) -> Expr:
        if leaf in followed and isinstance(leaf, Access):
            return reference_value(sheet, leaf, sheet.after)
        return leaf if leaf in known else sheet.layout.place(leaf)

    return expression(sheet, term, change)


def everywhere(sheet: Sheet, missing: Iterable[str]) -> list[Condition]:
    """Conditions that name the reduced variables which a value lacks, and hold at every point."""
    found: list[Condition] = []
    layout = sheet.layout
    for variable in missing:
        if variable in layout.all:
            # Beyond the end of the rank, a ragged last tile has no points.
            found.append(Compare("<", layout.position, Name(layout.rank)))
        else:
            size = Name(sheet.fiber.cascade.rank_of(variable))
            found.append(Compare("<", Name(variable), size))
    return list(dict.fromkeys(found))


def conditions_of(sheet: Sheet, one: Staged, *, is_exact: bool) -> tuple[Condition, ...]:
    """Filters of a reduction; if `is_exact` also what else empties its points.

    A reduction skips empty points by itself. That gets lost where a basis function lacks the read
    that is empty, and where a step is no reduction.
    """
    found = list(one.conditions)
    if is_exact:
        more = presence(sheet.fiber.cascade, one.map)
        if more is None:
            line = one.einsum.line
            message = "which points of this reduction are empty can't be written as a condition"
            raise CascadeError(line.problem(message, 0, len(line.text), "derive it in tiles"))
        found += more
    placed = (sheet.layout.place_condition(condition) for condition in found)
    return tuple(dict.fromkeys(placed))


# ---- steps ----


def _steps(sheet: Sheet, one: Staged, values: list[Expr]) -> None:
    """Initial value and step of every accumulator."""
    einsum, found = one.einsum, one.separation
    assert einsum.op is not None
    names = sheet.states[einsum.name]
    old = [sheet.at(sheet.now, name, einsum) for name in names]
    for j, (name, value) in enumerate(zip(names, values, strict=True)):
        sheet.write(sheet.at(ZERO, name, einsum), identity_of(einsum.op))
        row = found.action[j] if found else ()
        moved = [
            m
            for entry, state in zip(row, old, strict=False)
            for m in _moved(sheet, one, entry, state)
        ]
        total = _combine(einsum.op, [*(moved if found else old), value])
        sheet.write(sheet.at(sheet.after, name, einsum), total)


def _combine(op: str, terms: list[Expr]) -> Expr:
    total = terms[0]
    for term in terms[1:]:
        total = Apply(REDUCTIONS[op].combine, (total, term))
    return total


def _moved(sheet: Sheet, one: Staged, entry: Term, state: Expr) -> list[Expr]:
    """An old accumulator under one entry of the action; nothing if the entry is neutral."""
    is_sum = one.einsum.op == "sum"
    if is_sum and entry == 0:
        return []
    if entry == (1 if is_sum else 0):
        return [state]
    return [Apply("mul" if is_sum else "add", (state, _correction(sheet, one, entry)))]


def _correction(sheet: Sheet, one: Staged, entry: Term) -> Expr:
    """One entry of the action, from the references before a step to those after it."""
    change = _between(sheet, one, sheet.now, sheet.after)
    expr = _started(sheet, one, expression(sheet, entry, change), sheet.now)
    if not any(isinstance(node, Apply) and node.operator == "exp" for node in walk(expr)):
        return expr
    # An exponential is worth a name: other reductions with the same references share it.
    key = to_text(expr)
    if key not in sheet.corrections:
        fixed = {*sheet.layout.outer, sheet.layout.step}
        kept = tuple(Name(v) for v in variables_in(expr) if v not in fixed)
        name = sheet.name(f"P{one.followed(sheet.algebra)[0].tensor}")
        sheet.corrections[key] = sheet.write(sheet.element(sheet.now, name, kept), expr)
    return sheet.corrections[key]


def _started(sheet: Sheet, one: Staged, factor: Expr, step: Expr) -> Expr:
    """A factor that leaves an accumulator alone until a minimum it follows has seen something.

    Differences of a minimum that is still infinite are undefined; those of a maximum are not.
    """
    found: list[Condition] = [
        Compare("<", reference_value(sheet, read, step), Number(float("inf")))
        for read in one.followed(sheet.algebra)
        if sheet.staged(read.tensor).einsum.op == "min"
    ]
    condition = joined(found)
    return factor if condition is None else Select(condition, factor, ZERO)


def _between(sheet: Sheet, one: Staged, old: Expr, new: Expr | None) -> Change:
    """Put references at two steps in place of old and new ones; None: the final results."""

    def change(leaf: Access | Name) -> Expr:
        if isinstance(leaf, Access) and leaf.tensor.endswith(NEW):
            result = Access(leaf.tensor.removesuffix(NEW), leaf.indices)
            return result if new is None else reference_value(sheet, result, new)
        if leaf in one.references and isinstance(leaf, Access):
            return reference_value(sheet, leaf, old)
        return sheet.layout.place(leaf)

    return change


def _reference(sheet: Sheet, one: Staged) -> None:
    """The reference beside a running maximum that others are kept at."""
    einsum = one.einsum
    kept = sheet.kept_at[einsum.name]
    top = sheet.at(sheet.after, sheet.states[einsum.name][0], einsum)
    before = sheet.at(sheet.now, kept, einsum)
    if sheet.layout.reference == "lazy":
        limit = Apply("add", (before, Number(LAZY_SLACK)))
        new: Expr = Select(Compare(">", top, limit), top, before)
    else:
        # The least multiple of ln 2 from the maximum on, so that corrections are powers of two.
        least = Apply("neg", (Apply("floordiv", (Apply("neg", (top,)), Number(LN2))),))
        power = Apply("mul", (Number(LN2), least))
        new = Select(Compare(">", top, NOTHING), power, NOTHING)
    sheet.write(sheet.at(ZERO, kept, einsum), NOTHING)
    sheet.write(sheet.at(sheet.after, kept, einsum), new)


# ---- results ----


def _result(sheet: Sheet, one: Staged) -> None:
    """Read the result off the accumulators at the end."""
    einsum = one.einsum
    names = sheet.states[einsum.name]
    ends = [sheet.at(Name(sheet.layout.step_rank), name, einsum) for name in names]
    is_kept = any(read.tensor in sheet.kept_at for read in one.followed(sheet.algebra))
    if sheet.layout.outer or is_kept:
        ends = [_merged(sheet, one, j, ends) for j in range(len(ends))]
    result = result_of(sheet, one, ends, lambda leaf: leaf)
    if einsum.name in sheet.fiber.cascade.outputs or not isinstance(result, Access):
        sheet.write(einsum.target, result)
    else:
        sheet.finals[einsum.name] = result


def _merged(sheet: Sheet, one: Staged, j: int, ends: list[Access]) -> Access:
    """An accumulator moved from its last references to the results, splits merged.

    Moving is associative, so splits may have run in any order: this is the merge of
    FlashDecoding, from the same certificate as the running update.
    """
    einsum, found = one.einsum, one.separation
    assert einsum.op is not None
    is_sum = einsum.op == "sum"
    neutral = ONE if is_sum else ZERO
    change = _between(sheet, one, Name(sheet.layout.step_rank), None)
    terms: list[Expr] = []
    for k, end in enumerate(ends):
        entry = found.action[j][k] if found else 0 if is_sum else sheet.algebra.term(ZERO)
        factor = expression(sheet, entry, change) if found else neutral
        if is_sum and factor == ZERO:
            continue
        same = factor == neutral
        factor = _started(sheet, one, factor, Name(sheet.layout.step_rank))
        terms.append(end if same else Apply("mul" if is_sum else "add", (end, factor)))
    target = Access(sheet.name(f"M{ends[j].tensor[1:]}"), tuple(Name(v) for v in einsum.left))
    return sheet.write(target, _combine("sum", terms), einsum.op, *sheet.layout.outer)
