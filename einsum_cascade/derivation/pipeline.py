"""Deriving a cascade with fewer passes, and making sure of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from einsum_cascade.cascade import DEFAULT_TILE, Cascade, affine, variables_in
from einsum_cascade.derivation.certificate import Certificate
from einsum_cascade.derivation.comparison import largest_difference
from einsum_cascade.derivation.emission import emit
from einsum_cascade.derivation.fiber import Fiber
from einsum_cascade.derivation.layout import REFERENCES, Layout, layout_of
from einsum_cascade.derivation.presence import presence
from einsum_cascade.derivation.roles import sweeps_over
from einsum_cascade.derivation.staging import Staged, Staging, stage
from einsum_cascade.errors import CascadeError, Problem, Source, legal_words
from einsum_cascade.expressions import VARIABLE, Access, Expr
from einsum_cascade.legality import parse

# Largest relative difference from the source that rounding in float64 may explain.
TOLERANCE = 1e-12
# Tiles that run one after the other within a split, unless sizes say otherwise.
TILES_PER_SPLIT = 16


@dataclass(frozen=True, slots=True)
class Derivation:
    """A derived cascade, how it came about, and why it is right."""

    source: Cascade
    cascade: Cascade
    # The variable of the rank along which passes were saved.
    reduce: str
    # (rule, Einsum) for every rewrite, in order; a failed one is ("refused", Einsum).
    rules: tuple[tuple[str, str], ...]
    certificates: tuple[Certificate, ...]
    passes_before: int
    passes_after: int
    # (Einsum, reason) for every reduction that no rule covers.
    refused: tuple[tuple[str, str], ...]
    # Largest relative difference of an output from the source's, on random arrays in float64.
    max_error: float

    @property
    def text(self) -> str:
        """The derived cascade as text."""
        return str(self.cascade)

    def __str__(self) -> str:
        """Print what was done and the new cascade."""
        what = "pass" if self.passes_before == 1 else "passes"
        head = f"{self.source.name} over {self.reduce}: {self.passes_before} {what}"
        lines = [f"{head} -> {self.passes_after}", ""]
        lines += [f"  {rule:10} {einsum}" for rule, einsum in self.rules if rule != "refused"]
        lines += [f"  refused    {einsum}: {reason}" for einsum, reason in self.refused]
        if not self.rules and not self.refused:
            lines.append("  nothing waits for a reduction over it: no rewrite is needed")
        if self.cascade != self.source:
            lines.append(f"  equal      to the source within {self.max_error:.1e} on random arrays")
        return "\n".join([*lines, "", self.text])


def derive(
    cascade: Cascade,
    reduce: str,
    tile: bool = False,
    *,
    split: bool = False,
    reference: str = "prefix",
) -> Derivation:
    r"""Derive a cascade that makes fewer passes over a rank.

    Args:
        cascade: a legal cascade.
        reduce: the variable (or rank) along which reductions are made to run together.
        tile: step through tiles of the rank, each reduced at once, instead of elements.
        split: let parts of the rank run independently, and merge their results at the end.
        reference: where running sums are kept: at the running maximum ("prefix"), at one that
            follows it only after a large rise ("lazy"), or at the next power of two
            ("power-of-two").

    Returns:
        The new cascade with rules, certificates, and refusals; the source itself if no rule
        saves a pass. Inputs and outputs keep their names.

    Raises:
        CascadeError: the variable does not occur, or the reference is unknown.

    Source:
        FuseMax (MICRO 2024) for the cascades; Milakov and Gimelshein (arXiv 1805.02867) for the
        running softmax, of which the rules here are the general form.

    Example:
        >>> two = parse("Y = A[k]*B[k]\nZ = sum[k](Y*A[k])")
        >>> found = derive(two, "k")
        >>> found.passes_before, found.passes_after, found.rules
        (2, 1, (('hoist', 'Z'),))
    """
    if reference not in REFERENCES:
        hint = legal_words(reference, REFERENCES, "references")
        message = f"unknown reference '{reference}'"
        raise CascadeError(Problem(Source("reference"), message, hint=hint))
    fiber = Fiber(cascade, _variable(cascade, reduce))
    before = sweeps_over(cascade, fiber.rank, {fiber.variable})
    staging = stage(fiber)
    if not staging.certificates:
        return _unchanged(fiber, staging, before)
    layout = layout_of(
        cascade,
        fiber.variable,
        tile=tile or _needs_tiles(fiber, staging),
        split=split,
        reference=reference,
    )
    shared = _shared(fiber, staging)
    if shared and not layout.parts:
        reason = f"a recurrence steps along {fiber.part}, which {shared} has twice"
        return _unchanged(fiber, replace(staging, rules=(), refused=((shared, reason),)), before)
    derived = _parsed(fiber, staging, layout)
    try:
        after = sweeps_over(derived, fiber.rank, {fiber.variable, *layout.all})
    except CascadeError as unknown:
        reason = f"the passes of what it becomes are not known: {unknown.problems[0].message}"
        last = staging.certificates[-1].einsum
        return _unchanged(fiber, replace(staging, rules=(), refused=((last, reason),)), before)
    if after >= before and any(rule not in ("hoist", "refused") for rule, _ in staging.rules):
        # A recurrence that saves no pass is no gain.
        return _unchanged(fiber, replace(staging, rules=()), before)
    error = largest_difference(cascade, derived, fiber.rank)
    if error > TOLERANCE:
        raise _wrong(cascade, f"differs from its source by {error:.1e}", str(derived))
    return Derivation(
        cascade,
        derived,
        fiber.variable,
        staging.rules,
        staging.certificates,
        before,
        after,
        staging.refused,
        error,
    )


def _needs_tiles(fiber: Fiber, staging: Staging) -> bool:
    """True if elements can't be stepped through one by one.

    A recurrence needs a rank of its own, which queries may share; and a step over a single element
    needs to know whether it is there, which a gather does not tell.
    """
    return _shared(fiber, staging) is not None or any(
        presence(fiber.cascade, one.map) is None for one in _running(staging)
    )


def _running(staging: Staging) -> list[Staged]:
    """Reductions that become recurrences: those that follow a reference, and the references."""
    names = {one.einsum.name for one in staging.staged if one.followed(staging.algebra)}
    names |= {r.tensor for one in staging.staged for r in one.followed(staging.algebra)}
    return [one for one in staging.staged if one.einsum.name in names]


def _shared(fiber: Fiber, staging: Staging) -> str | None:
    """The first running reduction whose left side has the rank of the fiber, too."""
    rank_of = fiber.cascade.rank_of
    names = (
        one.einsum.name
        for one in _running(staging)
        if fiber.part in {rank_of(v) for v in one.einsum.left}
    )
    return next(names, None)


def _unchanged(fiber: Fiber, staging: Staging, passes_now: int) -> Derivation:
    return Derivation(
        fiber.cascade,
        fiber.cascade,
        fiber.variable,
        staging.rules,
        (),
        passes_now,
        passes_now,
        staging.refused,
        0.0,
    )


def _variable(cascade: Cascade, reduce: str) -> str:
    """The variable that is meant: itself, one of a rank, or of the outermost part of a split."""
    used = {v for e in cascade.einsums for v in e.variables}
    if reduce in used:
        return reduce
    rank = reduce if reduce[:1].isupper() else reduce.upper()
    if VARIABLE.match(reduce) or reduce in cascade.ranks:
        part = cascade.parts_of(rank)[0]
        over = [v for e in cascade.einsums for v in e.over if cascade.rank_of(v) == part]
        for variable in (*over, part.lower(), *sorted(used)):
            if variable in used and cascade.rank_of(variable) == part:
                return variable
    hint = legal_words(reduce, sorted(used), f"variables of {cascade.name}")
    raise CascadeError(Problem(Source(cascade.name), f"no variable '{reduce}'", hint=hint))


def _parsed(fiber: Fiber, staging: Staging, layout: Layout) -> Cascade:
    """Write the new cascade and read it again."""
    cascade = fiber.cascade
    lines = emit(fiber, staging, layout)
    declared: list[Expr] = [layout.place(access) for access in cascade.declared_inputs]
    declared += _first_met(cascade, layout)
    present = {v for line in lines for v in line.variables}
    present |= {v for access in declared for v in variables_in(access)}
    head = [f"rank {whole} = {'*'.join(parts)}" for whole, parts in cascade.splits]
    head += [f"rank {whole} = {' + '.join(parts)}" for whole, parts in cascade.concatenations]
    if layout.parts:
        head.append(f"rank {layout.rank} = {'*'.join(layout.parts)}")
    by_rank: dict[str, list[str]] = {}
    used = {v for einsum in cascade.einsums for v in einsum.variables}
    used |= {v for access in cascade.declared_inputs for v in variables_in(access)}
    for variable, rank in cascade.variables:
        # A variable that nothing uses is there for its rank, a size in a filter.
        if variable not in used or (variable.upper() != rank and variable in present):
            by_rank.setdefault(rank, []).append(variable)
    head += [f"var {', '.join(names)} in {rank}" for rank, names in by_rank.items()]
    if declared:
        head.append("input " + ", ".join(map(str, declared)))
    head.append("output " + ", ".join(cascade.outputs))
    head += [f"param {n} = {v!r}" for n, v in cascade.parameters if v is not None]
    sizes = dict(cascade.default_sizes)
    if layout.inner:
        sizes[layout.parts[-1]] = DEFAULT_TILE
    if layout.outer and layout.inner:
        sizes[layout.step_rank] = TILES_PER_SPLIT
    text = "\n".join([*head, *(str(line) for line in lines)])
    try:
        return parse(
            text,
            f"{cascade.name}-derived",
            sizes=sizes,
            description=f"Derived from {cascade.name} along {fiber.variable}.",
            paper=cascade.paper,
        )
    except CascadeError as error:
        raise _wrong(cascade, f"is not legal: {error}", text) from error


def _first_met(cascade: Cascade, layout: Layout) -> list[Access]:
    """Inputs along a split rank that are not split themselves: their ranks must be declared."""
    known = {access.tensor for access in cascade.declared_inputs} | layout.axes.keys()
    found: dict[str, Access] = {}
    for read in (read for einsum in cascade.einsums for read in einsum.reads):
        is_plain = all(affine(i).is_plain and affine(i).step == 0 for i in read.indices)
        ranks = cascade.tensor(read.tensor).ranks
        is_whole = layout.parts and layout.rank in ranks and read.tensor in cascade.inputs
        if is_whole and is_plain and read.tensor not in known:
            found.setdefault(read.tensor, read)
    return list(found.values())


def _wrong(cascade: Cascade, what: str, text: str) -> CascadeError:
    return CascadeError(
        Problem(Source(cascade.name), f"the derived cascade {what}; please report this", text)
    )
