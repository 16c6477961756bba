"""Text to `Cascade`: names are resolved, and one table of rules says what is legal.

`parse` reads every line first, so that a text with several mistakes reports them together, then
resolves names (which ranks exist, which bare capital is a tensor, what an unnamed reduction sums)
and runs the table of `rules`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from einsum_cascade.cascade import (
    Affine,
    Cascade,
    Dim,
    Einsum,
    Tensor,
    affine,
    is_product,
    part_at,
    variables_in,
)
from einsum_cascade.errors import CascadeError, Problem, Source
from einsum_cascade.expressions import (
    PARAMETER,
    VARIABLE,
    Access,
    Directive,
    Expr,
    Line,
    Name,
    Statement,
    rewrite,
    rewrite_condition,
)
from einsum_cascade.language import parse_line
from einsum_cascade.ordering import plan
from einsum_cascade.rules import RULES, Draft, nodes, problem_at, rule_arity


def _declare(draft: Draft) -> Iterator[Problem]:
    """Take in rank, var and param directives."""
    yield from _declare_ranks(draft)
    for directive in draft.of("var"):
        rank = directive.names[-1]
        for name in directive.names[:-1]:
            if draft.ranks.get(name.name, rank.name) != rank.name:
                yield problem_at(
                    directive.line,
                    name.span,
                    f"variable {name.name} already ranges over {draft.ranks[name.name]}",
                    f"a variable has one rank; name another one: var n, p in {rank.name}",
                )
            if VARIABLE.match(name.name):
                draft.ranks[name.name] = rank.name
    for directive in draft.of("param"):
        draft.parameters[directive.names[0].name] = directive.value


def _declare_ranks(draft: Draft) -> Iterator[Problem]:
    """Take in the splits and concatenations of ranks."""
    parts: dict[str, str] = {}
    for directive in draft.of("rank"):
        whole, *split = directive.names
        for name in split:
            if name.name in parts or name.name == whole.name:
                yield problem_at(
                    directive.line,
                    name.span,
                    f"rank {name.name} is already a part of {parts.get(name.name, whole.name)}",
                    "every part of a split has its own name: rank M = M1*M0",
                )
            parts[name.name] = whole.name
        if whole.name in draft.splits:
            yield problem_at(
                directive.line,
                whole.span,
                f"rank {whole.name} is split twice",
                "write one line with all parts: rank M = M2*M1*M0",
            )
        draft.splits[whole.name] = tuple(name.name for name in split)
    concatenations = list(draft.of("concat"))
    wholes = [directive.names[0].name for directive in concatenations]
    for i, directive in enumerate(concatenations):
        whole, *joined = directive.names
        names = [name.name for name in directive.names]
        for j, name in enumerate(directive.names):
            message = ""
            if name.name in parts or (j and name.name in draft.splits):
                message = f"rank {name.name} is both split and concatenated"
                hint = "only the whole of a concatenated rank may be split; leave out one line"
            elif j == 0 and name.name in wholes[:i]:
                message = f"rank {name.name} is concatenated twice"
                hint = "write one line with all parts: rank M = T + N + X"
            elif name.name in names[:j]:
                message = f"rank {name.name} is already a part of {whole.name}"
                hint = "every part has its own name: rank M = T + N"
            elif j and name.name in wholes:
                message = f"rank {name.name} is concatenated itself"
                hint = "write one line with all parts: rank M = T + N + X"
            if message:
                yield problem_at(directive.line, name.span, message, hint)
                break
        draft.concatenations[whole.name] = tuple(name.name for name in joined)


def _resolve(draft: Draft) -> None:
    """Find every variable's rank, turn bare tensor names into accesses, find what is summed."""
    scalars = {s.target.tensor for s in draft.statements if not s.target.indices}
    scalars |= {a.tensor for d in draft.of("input") for a in d.accesses if not a.indices}

    def scalar(expr: Expr) -> Expr:
        bare = isinstance(expr, Name) and expr.name in scalars
        return Access(expr.name, (), span=expr.span) if isinstance(expr, Name) and bare else expr

    for statement in draft.statements:
        where = statement.where and rewrite_condition(statement.where, scalar)
        einsum = Einsum(
            Access(
                statement.target.tensor,
                tuple(rewrite(i, scalar) for i in statement.target.indices),
                span=statement.target.span,
            ),
            statement.op,
            tuple(name.name for name in statement.over),
            rewrite(statement.map, scalar),
            where,
            is_implicit=False,
            line=statement.line,
        )
        rest = tuple(v for v in variables_in(einsum.map) if v not in einsum.left)
        if einsum.op is None and rest and is_product(einsum.map):
            einsum = Einsum(
                einsum.target, "sum", rest, einsum.map, where, True, line=statement.line
            )
        draft.einsums.append(einsum)
        for variable in (*einsum.variables,):
            draft.ranks.setdefault(variable, variable.upper())
        for node in nodes(einsum):
            if isinstance(node, Name) and PARAMETER.match(node.name):
                draft.parameters.setdefault(node.name, None)
    _find_dims(draft)


def _dims(draft: Draft, access: Access) -> list[Dim]:
    """Dimensions as one access shows them: rank and step of plain indices, else unknown."""
    found = []
    for index in access.indices:
        form = affine(index)
        known = form.is_plain and form.step is not None
        rank = draft.ranks[form.variables[0]] if known else _concatenated_by(draft, form)
        # RM[M1,..] = sets the coordinate behind the rank, as RM[m1+1,..] = does.
        if isinstance(index, Name) and index.name in draft.ranks.values():
            found.append(Dim(index.name, 1))
        else:
            found.append(Dim(rank, max(0, form.step or 0) if known else 0))
    return found


def _concatenated_by(draft: Draft, form: Affine) -> str | None:
    """The concatenated rank into which an index has an offset, if need be a wrong one."""
    if not form.offset:
        return None
    named = {*form.offset, draft.ranks[form.variables[0]]}
    wholes = draft.concatenations.items()
    right = (whole for whole, parts in wholes if part_at(form, parts, draft.ranks))
    return next(right, next((whole for whole, parts in wholes if named & {*parts}), None))


def _joined(draft: Draft, ranks: set[str]) -> str | None:
    """The concatenated rank of which all these ranks are parts, or which is among them."""
    wholes = draft.concatenations.items()
    return next((whole for whole, parts in wholes if ranks <= {whole, *parts}), None)


def _find_dims(draft: Draft) -> None:
    """Fix the ranks of every tensor: by its definitions, its declaration, or its first reads."""
    shown: dict[str, list[list[Dim]]] = {}
    declared = {access.tensor for d in draft.of("input") for access in d.accesses}
    for directive in draft.of("input"):
        for access in directive.accesses:
            for index in access.indices:
                assert isinstance(index, Name)
                draft.ranks.setdefault(index.name, index.name.upper())
            shown.setdefault(access.tensor, []).append(_dims(draft, access))
    for einsum in draft.einsums:
        shown.setdefault(einsum.name, []).append(_dims(draft, einsum.target))
    for einsum in draft.einsums:
        for read in einsum.reads:
            # A definition says more than a read; reads fill in what is still unknown of inputs.
            if read.tensor not in draft.defined:
                dims = [Dim(dim.rank) for dim in _dims(draft, read)]
                shown.setdefault(read.tensor, []).append(dims)
    for name, forms in shown.items():
        merged = list(forms[0])
        for form in forms[1:]:
            if len(form) != len(merged):
                continue
            for i, dim in enumerate(form):
                rank = merged[i].rank or dim.rank
                if rank and dim.rank and rank != dim.rank and name not in declared:
                    # Pieces of a tensor, or reads of parts of an input.
                    rank = _joined(draft, {rank, dim.rank}) or rank
                merged[i] = Dim(rank, max(merged[i].extra, dim.extra))
        draft.dims[name] = merged


def parse(
    text: str,
    name: str = "cascade",
    *,
    file: str | None = None,
    first_line: int = 1,
    indent: int = 0,
    sizes: Mapping[str, int] | None = None,
    description: str = "",
    paper: str = "",
) -> Cascade:
    """Read a cascade from text.

    Args:
        text: one directive or Einsum a line.
        name: what reports call it.
        file: name of the file it stands in, for error messages.
        first_line: line of the file in which it starts.
        indent: columns by which it is indented there.
        sizes: sizes to use for ranks that neither arrays nor callers determine.
        description: one sentence for listings.
        paper: where the algorithm comes from, for listings.

    Raises:
        CascadeError: with a Problem for each illegal line, at most ten.

    Example:
        >>> print(parse("Z = A[k]*B[k]"))
        Z = A[k]*B[k]
    """
    file = file or name
    problems: list[Problem] = []
    parsed: list[Statement | Directive] = []
    for number, raw in enumerate(text.splitlines()):
        try:
            item = parse_line(Line(raw, file, first_line + number, indent))
        except CascadeError as error:
            problems.extend(error.problems)
        else:
            if item is not None:
                parsed.append(item)
    draft = Draft(
        [item for item in parsed if isinstance(item, Statement)],
        [item for item in parsed if isinstance(item, Directive)],
    )
    if problems:
        raise CascadeError(problems)
    if not draft.statements:
        hint = "write at least one Einsum: Z = A[k]*B[k]"
        raise CascadeError(Problem(Source(file, first_line), "the cascade is empty", hint=hint))
    problems.extend(_declare(draft))
    if problems:
        # Everything that follows would be said of ranks that are not meant.
        raise CascadeError(problems)
    _resolve(draft)
    for rule in RULES:
        found = list(rule(draft))
        problems.extend(found)
        # Later rules rely on tensors having the ranks that earlier ones checked.
        if found and rule is rule_arity:
            break
    if problems:
        raise CascadeError(sorted(problems, key=lambda p: (p.source.line, p.source.column)))
    cascade = _finish(draft, name, sizes or {}, description, paper)
    # Circular definitions show when the Einsums are put in order.
    plan(cascade.einsums, dict(cascade.variables))
    return cascade


def _finish(
    draft: Draft, name: str, sizes: Mapping[str, int], description: str, paper: str
) -> Cascade:
    declared = tuple(name.name for d in draft.of("output") for name in d.names)
    read = {access.tensor for e in draft.einsums for access in e.reads if access.tensor != e.name}
    tensors = []
    for tensor, dims in draft.dims.items():
        role = "input"
        if tensor in draft.defined:
            final = tensor in declared if declared else tensor not in read
            role = "output" if final else "intermediate"
        tensors.append(Tensor(tensor, tuple(dims), role))
    return Cascade(
        name,
        tuple(draft.einsums),
        tuple(tensors),
        tuple(sorted(draft.ranks.items())),
        tuple(draft.splits.items()),
        tuple(draft.concatenations.items()),
        tuple(draft.parameters.items()),
        tuple(sizes.items()),
        tuple(access for d in draft.of("input") for access in d.accesses),
        declared,
        description=description,
        paper=paper,
    )
