"""Can a reduction run along with a result that changes? Three tests, each with its proof.

The map of a reduction is a term f(x, a): x changes along the reduction, a are results that grow
while it runs. `separate` writes f as a combination of basis functions that a change of a turns
into each other, with factors free of x:

* hoist: factors (of a sum) or summands (of a maximum) without x leave the reduction,
* rescale: one basis function; the new one is the old one times (plus) something free of x,
* module: several; either products that rescale one by one, or a polynomial in running sums with
  its derivatives (Taylor's formula moves it exactly, without the cancellation of power sums).
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from einsum_cascade.derivation.algebra import Symbol, Term

# Accumulators that one reduction may turn into.
MAX_BASIS = 4
# Points of the rank test that backs a refusal.
RANK_POINTS = 8


@dataclass(frozen=True, slots=True)
class Separation:
    """f = sum_j coefficients_j * basis_j and basis(b) = action(a, b) basis(a).

    For maxima and minima there is one basis function, and products are sums. `hoisted` is the
    factor that left first, `rest` what it left of f.
    """

    rules: tuple[str, ...]
    hoisted: Term
    rest: Term
    basis: tuple[Term, ...]
    coefficients: tuple[Term, ...]
    action: tuple[tuple[Term, ...], ...]


def separate(
    term: Term,
    op: str,
    moving: frozenset[Symbol],
    fresh: Mapping[Symbol, Symbol],
    sums: frozenset[Symbol],
) -> Separation | str:
    """Separate a term, or say why it can't be.

    Args:
        term: what is reduced.
        op: sum, max or min.
        moving: symbols that change along the reduction.
        fresh: for each result that grows while the reduction runs, the symbol of its new value.
        sums: those of them that are sums.

    Returns:
        The separation, or the reason of a refusal.
    """
    import sympy

    if op == "prod":
        return "a product of maps that depend on a running result is not corrected by one factor"
    is_sum = op == "sum"
    hoisted, rest = (
        term.as_independent(*moving, as_Add=False)
        if is_sum
        else term.as_independent(*moving, as_Add=True)
    )
    if not hoisted.free_symbols & fresh.keys():
        # Constants stay where they were written.
        hoisted, rest = sympy.Integer(1 if is_sum else 0), term
    rules = ("hoist",) if hoisted.free_symbols else ()
    one = (sympy.Integer(1 if is_sum else 0),)
    if not rest.free_symbols & fresh.keys():
        return Separation(rules, hoisted, rest, (rest,), one, ((one[0],),))
    factor = _step(rest, is_sum, moving, fresh)
    if factor is not None:
        return Separation((*rules, "rescale"), hoisted, rest, (rest,), one, ((factor,),))
    found = _module(rest, moving, fresh, sums) if is_sum else None
    if found is None:
        return _refusal(rest, moving, fresh, is_sum)
    basis, coefficients, action = found
    return Separation((*rules, f"module({len(basis)})"), hoisted, rest, basis, coefficients, action)


def _renewed(term: Term, fresh: Mapping[Symbol, Symbol]) -> Term:
    return term.xreplace(dict(fresh))


def _step(
    term: Term, is_sum: bool, moving: frozenset[Symbol], fresh: Mapping[Symbol, Symbol]
) -> Term | None:
    """The factor (summand) that turns the old value of a term into the new one, if free of x."""
    import sympy

    new = _renewed(term, fresh)
    if not is_sum:
        step = sympy.expand(new - term)
        step = step if not step.free_symbols & moving else sympy.simplify(new - term)
        return None if step.free_symbols & moving else step
    # Factor by factor first: simplify is slow, and spoils what is already plain.
    result = sympy.Integer(1)
    for factor in sympy.Mul.make_args(term):
        if not factor.free_symbols & fresh.keys():
            continue
        if isinstance(factor, sympy.exp):
            power = sympy.expand(_renewed(factor.args[0], fresh) - factor.args[0])
            if power.free_symbols & moving:
                power = sympy.simplify(power)
            result *= sympy.exp(power)
        else:
            result *= _renewed(factor, fresh) / factor
    if result.free_symbols & moving:
        result = sympy.simplify(sympy.powsimp(new / term, force=True))
    return None if result.free_symbols & moving else result


def _module(
    term: Term,
    moving: frozenset[Symbol],
    fresh: Mapping[Symbol, Symbol],
    sums: frozenset[Symbol],
) -> tuple[tuple[Term, ...], tuple[Term, ...], tuple[tuple[Term, ...], ...]] | None:
    """A basis of at most MAX_BASIS functions, with coefficients and action."""
    import sympy

    # exp of a sum stays whole: pulled apart, it would lose what keeps it in range.
    expanded = sympy.expand(term, power_exp=False, power_base=False, log=False)
    basis: list[Term] = []
    steps: list[Term] = []
    coefficients: list[Term] = []
    for summand in sympy.Add.make_args(expanded):
        outside, inside = summand.as_independent(*moving, as_Add=False)
        inside_step = _step(inside, True, moving, fresh)
        if inside_step is None:
            return None
        constant, pure = inside.as_coeff_Mul()
        for j, other in enumerate(basis):
            if other == pure:
                coefficients[j] += outside * constant
                break
        else:
            basis.append(pure)
            steps.append(inside_step)
            coefficients.append(outside * constant)
    if len(basis) > MAX_BASIS:
        return None
    if _would_cancel(coefficients, fresh, sums):
        found = _taylor(term, basis, coefficients, moving, fresh)
        if found is not None:
            return found
    action = tuple(
        tuple(steps[i] if i == j else sympy.Integer(0) for j in range(len(basis)))
        for i in range(len(basis))
    )
    return tuple(basis), tuple(coefficients), action


def _would_cancel(
    coefficients: list[Term], fresh: Mapping[Symbol, Symbol], sums: frozenset[Symbol]
) -> bool:
    """True for a polynomial of degree two or more in running sums, such as (x - mean)**2.

    Its powers added up one by one would cancel each other. With a quotient of sums, which may be
    zero on the way, or a maximum, which starts at infinity, they are still the safe way.
    """
    import sympy

    old = sorted(fresh.keys(), key=str)
    if not all(
        c.is_polynomial(*old) and not c.free_symbols & (set(old) - sums) for c in coefficients
    ):
        return False
    return any(sympy.Poly(c, *old).total_degree() > 1 for c in coefficients)


def _taylor(
    term: Term,
    parts: list[Term],
    coefficients: list[Term],
    moving: frozenset[Symbol],
    fresh: Mapping[Symbol, Symbol],
) -> tuple[tuple[Term, ...], tuple[Term, ...], tuple[tuple[Term, ...], ...]] | None:
    """The term and its derivatives as the basis: sums of powers would cancel each other."""
    import sympy

    old, known = sorted(fresh, key=str), moving | fresh.keys()
    orders = sorted(
        itertools.product(range(len(parts)), repeat=len(old)), key=lambda o: (sum(o), o)
    )
    rows: list[Any] = []
    basis: list[Term] = []
    for order in orders:
        derived = [_derivative(c, old, order) for c in coefficients]
        matrix = sympy.Matrix([*rows, derived])
        if any(d != 0 for d in derived) and matrix.rank() == len(rows) + 1:
            rows.append(derived)
            basis.append(_derivative(term, old, order))
        if len(rows) == len(parts):
            break
    else:
        return None
    # Constants go into the action: X - S/D is easier to read, and to compute, than -2*(X - S/D)/D.
    scales = [b.as_independent(*(b.free_symbols & known), as_Add=False)[0] for b in basis]
    basis = [b / scale for b, scale in zip(basis, scales, strict=True)]
    psi = sympy.diag(*(1 / scale for scale in scales)) * sympy.Matrix(rows)
    action = (psi.xreplace(dict(fresh)) * psi.inv()).applyfunc(sympy.factor)
    first = (scales[0], *(sympy.Integer(0) for _ in basis[1:]))
    return tuple(basis), first, tuple(tuple(action.row(i)) for i in range(len(basis)))


def _derivative(term: Term, symbols: list[Symbol], order: tuple[int, ...]) -> Term:
    import sympy

    for symbol, times in zip(symbols, order, strict=True):
        if times:
            term = sympy.diff(term, symbol, times)
    return term


def _refusal(
    term: Term, moving: frozenset[Symbol], fresh: Mapping[Symbol, Symbol], is_sum: bool
) -> str:
    """Why no rule applies, with the rank of the family of maps at random points as evidence."""
    if not is_sum:
        return "a new value of what it depends on does not move all its elements alike"
    rank = _numerical_rank(term, moving, fresh)
    if rank is None:
        return f"not proved to be a combination of at most {MAX_BASIS} functions"
    if rank > MAX_BASIS:
        return (
            f"the maps for different values span more than {MAX_BASIS} dimensions "
            f"(rank {rank} at {RANK_POINTS} random points)"
        )
    return f"not proved to be a combination of {rank} functions, though its rank there is {rank}"


def _numerical_rank(
    term: Term, moving: frozenset[Symbol], fresh: Mapping[Symbol, Symbol]
) -> int | None:
    """Rank of f(x_i, a_j) at random points, or None if f can't be evaluated."""
    import numpy as np
    import sympy

    draw = random.Random(0)
    x = sorted(term.free_symbols & moving, key=str)
    a = sorted(term.free_symbols & fresh.keys(), key=str)
    fixed = {s: draw.uniform(0.5, 1.5) for s in term.free_symbols - set(x) - set(a)}
    term = term.xreplace({s: sympy.Float(v, 30) for s, v in fixed.items()})
    try:
        function = sympy.lambdify([*x, *a], term, "numpy")
        points = [[draw.uniform(-4.0, 4.0) for _ in x] for _ in range(RANK_POINTS)]
        values = [[draw.uniform(0.2, 3.0) for _ in a] for _ in range(RANK_POINTS)]
        with np.errstate(all="ignore"):
            matrix = np.array([[float(function(*p, *v)) for v in values] for p in points])
    except (NameError, TypeError, ValueError, SyntaxError, ZeroDivisionError):
        return None
    if not np.isfinite(matrix).all():
        return None
    singular = np.linalg.svd(matrix, compute_uv=False)
    return int(np.sum(singular > 1e-10 * singular[0]))
