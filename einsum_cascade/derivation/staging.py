"""In which sweep each reduction along the rank can finish, and by which rewrite.

Reductions are taken producers first. One that waits for another in any way that no rule covers
goes into the next sweep, where the other's result is a constant. This is the least number of
sweeps for these rules: lowering the sweep of one reduction never raises that of another, since a
finished value can always take the place of a running one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from einsum_cascade.cascade import Einsum, variables_in
from einsum_cascade.derivation.algebra import Algebra, Symbol, Term
from einsum_cascade.derivation.certificate import Certificate
from einsum_cascade.derivation.checker import check
from einsum_cascade.derivation.claims import NEW
from einsum_cascade.derivation.fiber import Fiber
from einsum_cascade.derivation.presence import presence, requirements
from einsum_cascade.derivation.separation import Separation, separate
from einsum_cascade.expressions import Access, Condition, Expr, Name, accesses, to_text


@dataclass(frozen=True, slots=True)
class Staged:
    """One reduction along the rank: its sweep, and how it gets rid of what it waits for.

    `references` are results of the same sweep that it depends on. Without a separation the
    reduction stays as it was written.
    """

    einsum: Einsum
    sweep: int
    separation: Separation | None
    references: tuple[Access, ...]
    # The inlined map, and filters of maps that were inlined.
    map: Expr
    conditions: tuple[Condition, ...]

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules that rewrite it, in order."""
        return self.separation.rules if self.separation else ()

    def followed(self, algebra: Algebra) -> tuple[Access, ...]:
        """The references whose running values it needs, once factors are hoisted."""
        if self.separation is None:
            return ()
        symbols = {s for basis in self.separation.basis for s in basis.free_symbols}
        return tuple(a for a in self.references if algebra.symbol(a) in symbols)


@dataclass(frozen=True, slots=True)
class Staging:
    """All reductions along a rank with their sweeps; `refused` are Einsums with a reason."""

    algebra: Algebra
    staged: tuple[Staged, ...]
    rules: tuple[tuple[str, str], ...]
    certificates: tuple[Certificate, ...]
    refused: tuple[tuple[str, str], ...]

    @property
    def sweeps(self) -> int:
        """Sweeps until every reduction is finished."""
        return max((one.sweep for one in self.staged), default=1)


def stage(fiber: Fiber) -> Staging:
    """Find the sweep of every reduction along the rank, and a rewrite where one is needed."""
    algebra = Algebra()
    staged: dict[str, Staged] = {}
    rules: list[tuple[str, str]] = []
    certificates: list[Certificate] = []
    refused: list[tuple[str, str]] = []
    for selection in fiber.selections:
        reason = f"{selection.op} over {fiber.variable} selects coordinates by the data"
        rules.append(("refused", selection.name))
        refused.append((selection.name, reason))
    for einsum in fiber.reductions:
        map_, conditions = fiber.inlined(einsum.map)
        running, behind = fiber.running(einsum, map_)
        filters = (*conditions, *([einsum.where] if einsum.where is not None else []))
        seen = frozenset(n for c in filters for a in accesses(c) for n in fiber.behind(a))
        running = frozenset(a for a in running if a.tensor not in behind | seen)
        sweep = max(
            1, *(staged[a.tensor].sweep for a in running), *_finished(behind | seen, staged)
        )
        now = tuple(sorted((a for a in running if staged[a.tensor].sweep == sweep), key=str))
        reason = ""
        if now:
            reads = {*accesses(map_), *(a for c in filters for a in accesses(c))}
            done = tuple(sorted(str(a) for a in reads if a not in now and fiber.behind(a)))
            one = Staged(einsum, sweep, None, now, map_, filters)
            tried = _tried(fiber, algebra, one, [staged[a.tensor] for a in now], done)
            if isinstance(tried, str):
                names = ", ".join(str(a) for a in now)
                reason = f"it waits for {names}: {tried}"
                sweep += 1
            else:
                staged[einsum.name], proofs = tried
                rules += [(rule, einsum.name) for rule in tried[0].rules]
                certificates += proofs
                continue
        elif sweep > 1:
            waits = sorted(n for n in behind | seen if _sweep(staged, n) == sweep - 1)
            how = "its filter reads" if set(waits) <= seen else "it reaches"
            how_not = "" if set(waits) <= seen else " through more than maps"
            reason = f"{how} {', '.join(waits)}{how_not}" if waits else ""
        if reason:
            rules.append(("refused", einsum.name))
            refused.append((einsum.name, reason))
        staged[einsum.name] = Staged(einsum, sweep, None, (), map_, filters)
    return Staging(
        algebra, tuple(staged.values()), tuple(rules), tuple(certificates), tuple(refused)
    )


def _sweep(staged: Mapping[str, Staged], name: str) -> int:
    """The sweep in which a reduction finishes; selections take the first."""
    return staged[name].sweep if name in staged else 1


def _finished(behind: frozenset[str], staged: Mapping[str, Staged]) -> list[int]:
    """Sweeps from which on everything is a constant that must be finished before."""
    return [_sweep(staged, name) + 1 for name in behind] or [1]


def _tried(
    fiber: Fiber, algebra: Algebra, one: Staged, references: list[Staged], done: tuple[str, ...]
) -> tuple[Staged, list[Certificate]] | str:
    """The reduction with a separation and its certificates, or why there is none."""
    found = _separate(fiber, algebra, one.einsum, one.map, one.references)
    if isinstance(found, str):
        return found
    needs = {*one.conditions, *requirements(fiber.cascade, one.map)}
    late = _late(fiber, algebra, found, references, needs)
    if late is not None:
        return late
    if len(found.basis) > 1 and presence(fiber.cascade, one.map) is None:
        return "which of its points are empty can't be written as a condition"
    result = replace(one, separation=found)
    proofs = _certificates(fiber, algebra, result, found, done)
    if check(fiber.cascade, proofs):
        return "not proved: the checker does not accept its certificate"
    return result, proofs


def _separate(
    fiber: Fiber, algebra: Algebra, einsum: Einsum, map_: Expr, now: tuple[Access, ...]
) -> Separation | str:
    assert einsum.op is not None
    term = algebra.term(map_)
    fresh = {algebra.symbol(a): algebra.symbol(_new(a)) for a in now}
    moving = set()
    for symbol, leaf in algebra.leaves.items():
        if isinstance(leaf, Access | Name):
            # Everything that another reduced variable changes is summed with it.
            if set(variables_in(leaf)) & set(einsum.over):
                moving.add(symbol)
        elif {a.tensor for a in accesses(leaf)} & {a.tensor for a in now}:
            return f"the condition {leaf} depends on it"
        else:
            moving.add(symbol)
    sums = frozenset(
        algebra.symbol(a) for a in now if fiber.cascade.defining(a.tensor)[0].op == "sum"
    )
    return separate(term, einsum.op, frozenset(moving), fresh, sums)


def _late(
    fiber: Fiber,
    algebra: Algebra,
    found: Separation,
    references: list[Staged],
    needs: set[Condition | Access],
) -> str | None:
    """Why a reference may still be infinite when there is something to reduce, if it may."""
    followed = {leaf for basis in found.basis for leaf in map(algebra.leaf, basis.free_symbols)}
    for one in references:
        is_followed = any(isinstance(a, Access) and a.tensor == one.einsum.name for a in followed)
        if one.einsum.op not in ("max", "min") or not is_followed:
            continue
        more = {*one.conditions, *requirements(fiber.cascade, one.map)} - needs
        if more:
            what = ", ".join(sorted(map(str, more)))
            return f"{one.einsum.name} is empty until {what}, but there is something to reduce"
    return None


def _new(access: Access) -> Access:
    return Access(access.tensor + NEW, access.indices)


def _certificates(
    fiber: Fiber, algebra: Algebra, staged: Staged, found: Separation, done: tuple[str, ...]
) -> list[Certificate]:
    """Write a separation down: one certificate for each rule."""

    def text(term: object) -> str:
        return to_text(algebra.expression(term))

    einsum = staged.einsum
    assert einsum.op is not None
    references = tuple(str(a) for a in staged.references)
    followed = tuple(str(a) for a in staged.followed(algebra))
    records = []
    if "hoist" in found.rules:
        records.append(
            Certificate(
                einsum.name,
                "hoist",
                einsum.op,
                to_text(staged.map),
                references,
                done,
                (text(found.rest),),
                (text(found.hoisted),),
                (),
                note="its factor is read when it is final, so its running values never matter",
            )
        )
    rule = found.rules[-1] if found.rules else ""
    if rule not in ("", "hoist"):
        records.append(
            Certificate(
                einsum.name,
                rule,
                einsum.op,
                text(found.rest) if records else to_text(staged.map),
                followed,
                done,
                tuple(text(b) for b in found.basis),
                tuple(text(c) for c in found.coefficients),
                tuple(tuple(text(entry) for entry in row) for row in found.action),
                _conditions(found, text),
                _note(fiber, algebra, staged, found),
            )
        )
    return records


def _conditions(found: Separation, text: object) -> tuple[str, ...]:
    """Where the action is defined: none of its denominators may vanish."""
    import sympy

    assert callable(text)
    under = {
        base
        for row in found.action
        for entry in row
        for base, power in (f.as_base_exp() for f in sympy.Mul.make_args(sympy.together(entry)))
        if power.could_extract_minus_sign() and base != sympy.E and not base.is_positive
    }
    defined = tuple(f"{text(base)} != 0" for base in sorted(under, key=str))
    return (*defined, "nothing reduced yet is 0, and stays 0 under every factor: 0*inf = 0")


def _note(fiber: Fiber, algebra: Algebra, staged: Staged, found: Separation) -> str:
    """What is known about the range of the factors."""
    import sympy

    followed = staged.followed(algebra)
    factors = [entry for row in found.action for entry in row if entry not in (0, 1)]
    maxima = all(fiber.cascade.defining(read.tensor)[0].op == "max" for read in followed)
    new = [algebra.symbol(_new(read)) for read in followed]
    if not factors:
        return "nothing is corrected while it runs: its sums do not depend on the references"
    if maxima and all(_falls(factor, new) for factor in factors):
        return "a factor exp(old - new) of running maxima lies in (0, 1]: it cannot overflow"
    if len(found.basis) > 1 and not any(factor.has(sympy.exp) for factor in factors):
        return "the update is a polynomial in the change of the reference, as in Chan's variance"
    return "identities of real numbers: nothing is known about the range of the factors"


def _falls(factor: Term, new: list[Symbol]) -> bool:
    """True if a factor is exp of something that falls with every new reference."""
    import sympy

    if not isinstance(factor, sympy.exp):
        return False
    return all(sympy.diff(factor.args[0], symbol).is_nonpositive for symbol in new)
