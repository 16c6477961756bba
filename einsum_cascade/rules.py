"""The rules of the cascade language: one table of what is legal, and why a line is not.

A rule is a function from a `Draft` (a cascade whose names are resolved but which is not yet known
to be legal) to the problems it finds; RULES is the whole list, in the order in which later rules
may rely on earlier ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from einsum_cascade.cascade import (
    Dim,
    Einsum,
    affine,
    in_different_parts,
    part_at,
    variables_in,
)
from einsum_cascade.errors import Problem, legal_words
from einsum_cascade.expressions import (
    CAPITAL,
    PARAMETER,
    Access,
    Apply,
    Directive,
    Expr,
    Line,
    Name,
    Number,
    Select,
    Span,
    Statement,
    to_text,
    walk,
)
from einsum_cascade.operators import REDUCTIONS

# The largest integer in an index: coordinates beyond it overflow the shape of an array.
MAX_INDEX = 2**31
# Operators that give whole numbers for whole numbers.
WHOLE = ("add", "sub", "mul", "floordiv", "mod", "neg", "min", "max", "clamp")


@dataclass(slots=True)
class Draft:
    """A cascade while it is being read: the one mutable thing, gone when `parse` returns."""

    statements: list[Statement]
    directives: list[Directive]
    ranks: dict[str, str] = field(default_factory=dict)  # variable -> rank
    splits: dict[str, tuple[str, ...]] = field(default_factory=dict)
    concatenations: dict[str, tuple[str, ...]] = field(default_factory=dict)
    parameters: dict[str, float | None] = field(default_factory=dict)
    einsums: list[Einsum] = field(default_factory=list)
    dims: dict[str, list[Dim]] = field(default_factory=dict)

    def of(self, kind: str) -> Iterator[Directive]:
        """The directives of a kind."""
        return (d for d in self.directives if d.kind == kind)

    @property
    def defined(self) -> dict[str, list[Einsum]]:
        """Every defined tensor with its definitions."""
        found: dict[str, list[Einsum]] = {}
        for einsum in self.einsums:
            found.setdefault(einsum.name, []).append(einsum)
        return found

    @property
    def all_ranks(self) -> tuple[str, ...]:
        """Every rank that a variable, a tensor, a split or a concatenation names."""
        names = [dim.rank for dims in self.dims.values() for dim in dims if dim.rank]
        several = (*self.splits.items(), *self.concatenations.items())
        declared = [name for whole, parts in several for name in (*parts, whole)]
        return tuple(dict.fromkeys([*self.ranks.values(), *names, *declared]))


def problem_at(line: Line, span: Span, message: str, hint: str = "") -> Problem:
    """Make a Problem that underlines a span of a line."""
    return line.problem(message, span.start, span.end, hint)


def nodes(einsum: Einsum) -> Iterator[Expr]:
    """Every expression node of an Einsum."""
    yield from walk(einsum.target)
    yield from walk(einsum.map)
    if einsum.where is not None:
        yield from walk(einsum.where)


def rule_left_side(draft: Draft) -> Iterator[Problem]:
    """Left indices are variables, variables plus an integer or an offset, or coordinates."""
    for einsum in draft.einsums:
        seen: set[str] = set()
        # The number of indices is not checked yet.
        dims = [dim.rank for dim in draft.dims[einsum.name]] + [None] * len(einsum.target.indices)
        for index, rank in zip(einsum.target.indices, dims, strict=False):
            form = affine(index)
            # Whether it is the right offset is for rule_ranks to say.
            offset = form.offset and rank in draft.concatenations
            fixed = isinstance(index, Name) or form.step is not None or offset
            span = index.span
            if not (form.is_plain or fixed) or (form.step or 0) < 0:
                yield problem_at(
                    einsum.line,
                    span,
                    f"'{to_text(index)}' is no legal index on the left side",
                    "legal: a variable (m), a variable plus an integer (m+1), a coordinate (0), "
                    "a shape (M), an offset into a concatenated rank (T+n with rank M = T + N)",
                )
            for variable in form.variables:
                if variable in seen:
                    yield problem_at(
                        einsum.line,
                        span,
                        f"variable '{variable}' occurs twice on the left side",
                        "a diagonal is written with a filter: T[m,n] = ... where m == n",
                    )
                seen.add(variable)


def rule_index(draft: Draft) -> Iterator[Problem]:
    """An index is whole-numbered arithmetic over variables, shapes, integers and accesses."""
    for einsum in draft.einsums:
        for read in (einsum.target, *einsum.reads):
            for index in read.indices:
                for node in _index_nodes(index):
                    number = isinstance(node, Number) and not (
                        isinstance(node.value, int) and node.value <= MAX_INDEX
                    )
                    operator = isinstance(node, Select) or (
                        isinstance(node, Apply) and node.operator not in WHOLE
                    )
                    name = isinstance(node, Name) and PARAMETER.match(node.name)
                    hint = (
                        "an index is whole-numbered: variables, shapes, integers, "
                        "+ - * // % min max clamp"
                    )
                    if name:
                        hint += "; a variable has one or two letters and at most one digit"
                    elif isinstance(node, Number) and node.value > MAX_INDEX:
                        hint += f", up to {MAX_INDEX}"
                    if number or operator or name:
                        message = f"'{to_text(node)}' is not legal in an index"
                        yield problem_at(einsum.line, node.span, message, hint)


def _index_nodes(index: Expr) -> Iterator[Expr]:
    """Nodes of an index without those inside a gathered access, which are its own indices."""
    yield index
    if isinstance(index, Apply):
        for argument in index.arguments:
            yield from _index_nodes(argument)


def rule_arity(draft: Draft) -> Iterator[Problem]:
    """Every access of a tensor has as many indices as the tensor has ranks."""
    for einsum in draft.einsums:
        for read in (einsum.target, *einsum.reads):
            dims = draft.dims[read.tensor]
            if len(read.indices) != len(dims):
                ranks = ", ".join(dim.rank or "?" for dim in dims) or "none"
                yield problem_at(
                    einsum.line,
                    read.span,
                    f"{read.tensor} has {len(dims)} rank{'s'[: len(dims) != 1]}, "
                    f"but {read} gives {len(read.indices)} "
                    f"{'indices' if len(read.indices) != 1 else 'index'}",
                    f"{read.tensor} has ranks {ranks}",
                )


def rule_ranks(draft: Draft) -> Iterator[Problem]:
    """A plain index ranges over the rank that the tensor has in that place."""
    for einsum in draft.einsums:
        for read in (einsum.target, *einsum.reads):
            dims = draft.dims[read.tensor]
            for dim, index in zip(dims, read.indices, strict=False):
                form = affine(index)
                if dim.rank is None:
                    continue
                if _is_misplaced(draft, index, dim.rank):
                    yield _wrong_offset(draft, einsum, read, index, dim.rank)
                    continue
                parts = draft.concatenations.get(dim.rank, ())
                if not form.is_plain or part_at(form, parts, draft.ranks):
                    continue
                variable = form.variables[0]
                if draft.ranks[variable] != dim.rank:
                    known = [v for v, rank in draft.ranks.items() if rank == dim.rank]
                    yield problem_at(
                        einsum.line,
                        index.span,
                        f"unknown rank variable '{variable}' in {read}: {read.tensor} has rank "
                        f"{dim.rank} there, but {variable} ranges over {draft.ranks[variable]}",
                        f"{read.tensor} has ranks {', '.join(d.rank or '?' for d in dims)}; "
                        f"did you mean '{known[0] if known else dim.rank.lower()}'? (two variables"
                        f" share a rank with: var {variable} in {dim.rank})",
                    )


def _is_misplaced(draft: Draft, index: Expr, rank: str | None) -> bool:
    """True if an index means a part of a concatenated rank, but doesn't start where that does."""
    form, parts = affine(index), draft.concatenations.get(rank or "", ())
    if not parts or part_at(form, parts, draft.ranks):
        return False
    return bool(form.offset) or (form.is_plain and draft.ranks[form.variables[0]] in parts)


def _wrong_offset(draft: Draft, einsum: Einsum, read: Access, index: Expr, whole: str) -> Problem:
    """Say where the part that an index means starts in a concatenated rank."""
    form = affine(index)
    parts, rank = draft.concatenations[whole], draft.ranks[form.variables[0]]
    made = f"{whole} = {' + '.join(parts)}"
    if rank in parts:
        before = parts[: parts.index(rank)]
        start = "+".join(before)
        reason = f"in {made}, part {rank} starts at {start or 0}"
        hint = f"write {'+'.join([*before, form.variables[0]])}"
    else:
        reason = f"{rank} is no part of {made}"
        firsts = ["+".join([*parts[:i], part.lower()]) for i, part in enumerate(parts)]
        hint = f"the parts of {whole} are written {', '.join(firsts)}"
    message = f"wrong offset '{to_text(index)}' in {read}: {reason}"
    return problem_at(einsum.line, index.span, message, hint)


def rule_names(draft: Draft) -> Iterator[Problem]:
    """Bare capitals are ranks or scalar tensors; bare variables are bound by an index."""
    for einsum in draft.einsums:
        for node in nodes(einsum):
            if not isinstance(node, Name) or not CAPITAL.match(node.name):
                continue
            if node.name not in draft.all_ranks:
                dims = draft.dims.get(node.name)
                scalars = [name for name, own in draft.dims.items() if not own]
                names = legal_words(node.name, [*scalars, *draft.all_ranks], "known names")
                one = node.name.lower()
                hint = (
                    f"{names}; a scalar input is declared with: input {node.name}; "
                    f"a rank with: var {one} in {node.name}"
                )
                if dims:
                    indices = ",".join((dim.rank or "?").lower() for dim in dims)
                    hint = f"a tensor with ranks needs indices: {node.name}[{indices}]"
                message = f"'{node.name}' is neither a rank nor a scalar tensor"
                yield problem_at(einsum.line, node.span, message, hint)


def rule_reduction(draft: Draft) -> Iterator[Problem]:
    """What is reduced is on the right and not on the left; what is left over must be reduced."""
    for statement, einsum in zip(draft.statements, draft.einsums, strict=True):
        right = set(variables_in(einsum.map))
        where = set() if einsum.where is None else set(variables_in(einsum.where))
        named = [name.name for name in statement.over]
        for i, name in enumerate(statement.over):
            message, hint = "", "a reduction names each variable that the left side lacks, once"
            if name.name in named[:i]:
                message = f"'{name.name}' is reduced twice"
            elif name.name in einsum.left:
                message = f"'{name.name}' is reduced and also kept on the left side"
            elif name.name not in right:
                message = f"'{name.name}' is reduced but does not occur in the expression"
                can = sorted(right - set(einsum.left) - set(named))
                hint = legal_words(name.name, can, "can be reduced")
            if message:
                yield problem_at(einsum.line, name.span, message, hint)
        loose = sorted((right | where) - set(einsum.left) - set(einsum.over))
        if loose:
            names, verb = ", ".join(f"'{v}'" for v in loose), "is" if len(loose) == 1 else "are"
            over = ",".join([*(v for v in named if v in right - set(einsum.left)), *loose])
            message = f"{names} {verb} on the right side only, and nothing says how it is reduced"
            hint = (
                f"write {einsum.target} = {einsum.op or 'sum'}[{over}](...); only a product or "
                "quotient of tensors is summed without saying so"
            )
            yield problem_at(einsum.line, einsum.map.span, message, hint)
        selects = einsum.op is not None and REDUCTIONS[einsum.op].selects
        new = [v for v in einsum.left if v not in right | where]
        if selects and (len(new) != 1 or len(einsum.over) != 1):
            yield problem_at(
                einsum.line,
                einsum.target.span,
                f"{einsum.op} reduces one rank and fills one new rank",
                f"write I[p,k] = {einsum.op}[m](S[p,m]): k is new, m is reduced",
            )


def rule_broadcast(draft: Draft) -> Iterator[Problem]:
    """A left variable that the right side lacks must range over a rank known from elsewhere."""
    read_ranks = {
        dim.rank for name, dims in draft.dims.items() if name not in draft.defined for dim in dims
    }
    parts = {part for split in draft.splits.values() for part in split}
    parts |= {r for whole, joined in draft.concatenations.items() for r in (whole, *joined)}
    for einsum in draft.einsums:
        if einsum.op is not None and REDUCTIONS[einsum.op].selects:
            continue
        bound = set(variables_in(einsum.map))
        for index in einsum.target.indices:
            for variable in variables_in(index):
                rank = draft.ranks[variable]
                step = affine(index).step
                others = any(
                    rank == draft.ranks[v] for e in draft.einsums for v in variables_in(e.map)
                )
                if variable in bound or step or rank in read_ranks | parts or others:
                    continue
                yield problem_at(
                    einsum.line,
                    index.span,
                    f"nothing determines the extent of '{variable}' (rank {rank})",
                    legal_words(variable, sorted(bound), "variables on the right"),
                )


def rule_definitions(draft: Draft) -> Iterator[Problem]:
    """Several definitions of a tensor must not set the same element."""
    for name, found in draft.defined.items():
        # A misplaced piece overlaps with others because it is misplaced.
        ranks = [dim.rank for dim in draft.dims[name]]
        einsums = [
            einsum
            for einsum in found
            if not any(map(partial(_is_misplaced, draft), einsum.target.indices, ranks))
        ]
        for i, second in enumerate(einsums):
            for first in einsums[:i]:
                if len(first.target.indices) != len(second.target.indices):
                    continue
                pairs = zip(first.target.indices, second.target.indices, strict=True)
                if not any(_apart(a, b, draft.ranks) for a, b in pairs):
                    yield problem_at(
                        second.line,
                        second.target.span,
                        f"{name} is already defined in line {first.line.number}",
                        "several definitions need disjoint left sides: RM[0,p] and RM[m1+1,p], "
                        "or L[t,p] and L[T+n,p] with rank M = T + N",
                    )


def _apart(a: Expr, b: Expr, ranks: Mapping[str, str]) -> bool:
    """True if two left indices can never be the same coordinate."""
    left, right = affine(a), affine(b)
    if in_different_parts(left, right, ranks):
        return True
    if not left.variables and not right.variables:
        return to_text(a) != to_text(b)
    for fixed, moving in ((left, right), (right, left)):
        if not fixed.variables and moving.is_plain:
            # A shape (RM[M]) is beyond every m, but not beyond m+1; 0 is below m+1.
            step = moving.step or 0
            return step == 0 if fixed.step is None else fixed.step < step
    return False


def rule_directives(draft: Draft) -> Iterator[Problem]:
    """Declared inputs are read and not defined, outputs are defined, and each is declared once."""
    seen: dict[str, int] = {}
    for directive in draft.directives:
        names = directive.names if directive.kind in ("param", "output") else ()
        declared = [(name.name, name.span) for name in names]
        declared += [(access.tensor, access.span) for access in directive.accesses]
        for word, span in declared:
            if word in seen:
                message = f"{word} is already declared in line {seen[word]}"
                hint = f"leave one declaration of {word}"
                yield problem_at(directive.line, span, message, hint)
            seen.setdefault(word, directive.line.number)
    read = {access.tensor for einsum in draft.einsums for access in einsum.reads}
    for directive in draft.of("input"):
        for access in directive.accesses:
            if access.tensor in draft.defined:
                line = draft.defined[access.tensor][0].line.number
                message = f"{access.tensor} is an input, but line {line} defines it"
                hint = "leave out one of the two lines, or give the definition another name"
                yield problem_at(directive.line, access.span, message, hint)
            elif access.tensor not in read:
                hint = legal_words(access.tensor, sorted(read - set(draft.defined)), "inputs read")
                yield problem_at(
                    directive.line, access.span, f"{access.tensor} is never read", hint
                )
    for directive in draft.of("output"):
        for name in directive.names:
            if name.name not in draft.defined:
                hint = legal_words(name.name, draft.defined, "defined tensors")
                yield problem_at(directive.line, name.span, f"{name.name} is never defined", hint)
    for directive in (*draft.of("rank"), *draft.of("concat")):
        for name in directive.names[1:]:
            if name.name not in draft.ranks.values():
                siblings = {part.name for part in directive.names}
                others = [rank for rank in draft.ranks.values() if rank not in siblings]
                hint = legal_words(name.name, others, "other ranks in use")
                if not others:
                    hint = f"use the variable {name.name.lower()}, or leave out this line"
                yield problem_at(
                    directive.line, name.span, f"no index ranges over {name.name}", hint
                )


RULES: tuple[Callable[[Draft], Iterator[Problem]], ...] = (
    rule_left_side,
    rule_index,
    rule_arity,
    rule_ranks,
    rule_names,
    rule_reduction,
    rule_broadcast,
    rule_definitions,
    rule_directives,
)
