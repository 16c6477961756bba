"""Writing the derived cascade: running reductions as recurrences, everything else as it was."""

from __future__ import annotations

from collections.abc import Callable

from einsum_cascade.cascade import Einsum, variables_in
from einsum_cascade.derivation.algebra import Term
from einsum_cascade.derivation.fiber import Fiber, ordered
from einsum_cascade.derivation.layout import Layout, stays_whole
from einsum_cascade.derivation.presence import chosen, joined
from einsum_cascade.derivation.recurrence import (
    conditions_of,
    everywhere,
    identity_of,
    write_recurrence,
)
from einsum_cascade.derivation.sheet import (
    Sheet,
    Text,
    expression,
    named_maps,
    reference_value,
    result_of,
    take_name,
)
from einsum_cascade.derivation.staging import Staged, Staging
from einsum_cascade.expressions import (
    Access,
    Expr,
    Name,
    rewrite,
    rewrite_condition,
    substitute,
)


def emit(fiber: Fiber, staging: Staging, layout: Layout) -> tuple[Text, ...]:
    """Write the Einsums of the new cascade, dead ones removed."""
    cascade = fiber.cascade
    running = _running(staging)
    used = {*(tensor.name for tensor in cascade.tensors), *cascade.ranks, *layout.parts}
    states = {
        one.einsum.name: _state_names(one, used)
        for one in staging.staged
        if one.einsum.name in running
    }
    followed = {a.tensor for one in staging.staged for a in one.followed(staging.algebra)}
    kept_at = {
        one.einsum.name: take_name(used, f"F{one.einsum.name}")
        for one in staging.staged
        if layout.reference != "prefix"
        and one.einsum.op == "max"
        and one.separation is None
        and one.einsum.name in followed
    }
    sheet = Sheet(fiber, staging, layout, states, kept_at, used)
    staged = {one.einsum.name: one for one in staging.staged}
    for einsum in ordered(cascade):
        one = staged.get(einsum.name)
        if one is not None and einsum.name in running:
            write_recurrence(sheet, one)
        elif one is not None and one.separation is not None:
            _taken_apart(sheet, one)
        else:
            _unchanged(sheet, einsum)
    lines = [_changed(line, lambda node: _final(sheet, node)) for line in sheet.lines]
    return _named(sheet, _alive(lines, cascade.outputs))


def _running(staging: Staging) -> frozenset[str]:
    """Reductions that become recurrences: those that follow others, and those followed."""
    staged = {one.einsum.name: one for one in staging.staged}
    followed = {r.tensor for one in staging.staged for r in one.followed(staging.algebra)}
    # The running value of a result takes those of everything it was hoisted out of, too.
    while more := {r.tensor for name in followed for r in staged[name].references} - followed:
        followed |= more
    follows = {one.einsum.name for one in staging.staged if one.followed(staging.algebra)}
    return frozenset(followed | follows)


def _state_names(one: Staged, used: set[str]) -> tuple[str, ...]:
    count = len(one.separation.basis) if one.separation else 1
    suffixes = [""] if count == 1 else [str(j) for j in range(count)]
    return tuple(take_name(used, f"R{one.einsum.name}{suffix}") for suffix in suffixes)


def _taken_apart(sheet: Sheet, one: Staged) -> None:
    """A reduction that follows no running result: its basis is reduced, the rest comes after."""
    assert one.separation is not None
    basis = one.separation.basis
    sums = [
        _static(sheet, one, term, str(j) if len(basis) > 1 else "") for j, term in enumerate(basis)
    ]
    sheet.write(one.einsum.target, result_of(sheet, one, sums, lambda leaf: leaf))


def _static(sheet: Sheet, one: Staged, term: Term, suffix: str) -> Access:
    """One basis function, reduced at once."""
    einsum, layout = one.einsum, sheet.layout
    assert einsum.op is not None
    named, known = named_maps(sheet, one, term)
    value = expression(sheet, named, lambda e: e if e in known else layout.place(e))
    over = _over(sheet, einsum)
    where = [*conditions_of(sheet, one, is_exact=bool(suffix))]
    where += layout.guard(sheet.algebra.expression(term))
    missing = [v for v in over if v not in variables_in(value)]
    if missing:
        value = chosen([*where, *everywhere(sheet, missing)], value, identity_of(einsum.op))
        where = []
    target = Access(sheet.name(f"U{einsum.name}{suffix}"), einsum.target.indices)
    sheet.lines.append(Text(target, einsum.op, over, value, joined(where)))
    return target


def _over(sheet: Sheet, einsum: Einsum) -> tuple[str, ...]:
    """The reduced variables of an Einsum in the new variables."""
    names: list[str] = []
    for variable in einsum.over:
        names += sheet.layout.all if variable == sheet.fiber.variable else [variable]
    return tuple(names)


def _unchanged(sheet: Sheet, einsum: Einsum) -> None:
    """An Einsum as it was, in the new variables; a map between reductions in two versions."""
    layout = sheet.layout
    if stays_whole(layout, sheet.fiber.cascade, einsum.name):
        sheet.lines.append(Text(einsum.target, einsum.op, einsum.over, einsum.map, einsum.where))
        return
    target = layout.place(einsum.target)
    assert isinstance(target, Access)
    where = (layout.place_condition(einsum.where),) if einsum.where is not None else ()
    if sheet.fiber.carries(einsum.map) or sheet.fiber.carries(einsum.target):
        where = (*where, *layout.guard(einsum.map))
    over = _over(sheet, einsum)
    sheet.lines.append(Text(target, einsum.op, over, layout.place(einsum.map), joined(where)))
    if sheet.fiber.is_inlined(einsum.name) and sheet.fiber.carries(einsum.target):
        _fold(sheet, einsum, target)


def _fold(sheet: Sheet, einsum: Einsum, target: Access) -> None:
    """Write a map as reductions see it while they run, if all it depends on is running."""
    inlined, conditions = sheet.fiber.inlined(einsum.map)
    running, behind = sheet.fiber.running(einsum, inlined)
    sweeps = {sheet.staged(read.tensor).sweep for read in running}
    is_running = running and all(read.tensor in sheet.states for read in running)
    term = sheet.algebra.term(inlined)
    # Products are taken apart by hoisting; they would not be found again.
    if behind or conditions or einsum.where or term.is_Mul:
        return
    sheet.finished.append((term, target, running))
    if not is_running or len(sweeps) > 1:
        return

    def change(leaf: Access | Name) -> Expr:
        if leaf in running and isinstance(leaf, Access):
            return reference_value(sheet, leaf, sheet.after)
        return sheet.layout.place(leaf)

    name = sheet.name(f"R{einsum.name}")
    sheet.originals[name] = einsum.name
    access = Access(name, target.indices)
    guard = joined(sheet.layout.guard(inlined))
    sheet.lines.append(Text(access, None, (), expression(sheet, term, change), guard))
    sheet.folded.append((term, access, running))


def _final(sheet: Sheet, node: Expr) -> Expr:
    """Read a result where it has ended up."""
    if not isinstance(node, Access) or node.tensor not in sheet.finals:
        return node
    (einsum,) = sheet.fiber.cascade.defining(node.tensor)
    return substitute(sheet.finals[node.tensor], dict(zip(einsum.left, node.indices, strict=True)))


def _alive(lines: list[Text], outputs: tuple[str, ...]) -> list[Text]:
    """What the outputs need."""
    needed = set(outputs)
    while True:
        more = {r.tensor for line in lines if line.target.tensor in needed for r in line.reads}
        if more <= needed:
            return [line for line in lines if line.target.tensor in needed]
        needed |= more


def _named(sheet: Sheet, lines: list[Text]) -> tuple[Text, ...]:
    """Give running versions of maps their old names where those are free again."""
    alive = {line.target.tensor for line in lines}
    names = {new: old for new, old in sheet.originals.items() if old not in alive}

    def one(node: Expr) -> Expr:
        if isinstance(node, Access) and node.tensor in names:
            return Access(names[node.tensor], node.indices)
        return node

    return tuple(_changed(line, one) for line in lines)


def _changed(line: Text, change: Callable[[Expr], Expr]) -> Text:
    target = rewrite(line.target, change)
    assert isinstance(target, Access)
    where = rewrite_condition(line.where, change) if line.where is not None else None
    return Text(target, line.op, line.over, rewrite(line.map, change), where)
