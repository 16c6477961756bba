"""Sizes as formulas: SymPy symbols named as ranks, products over ranks, exact values.

Every rank is a positive integer symbol of its own name (`M`, `M1`, `M0`), the words of the buffer
are `S`, or `S_words` where a rank is called S. A split rank whose parts are all there counts with
its whole size, ragged last tile included: `K[e,m1,m0]` has E*M words, not E*M1*M0.

Decision: SymPy makes and prints formulas, `exact` computes them. Substitution in SymPy takes
milliseconds and a compiled function rounds quotients; fractions of Python integers do neither.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any, TypeAlias

from einsum_cascade.cascade import DEFAULT_TILE, Cascade
from einsum_cascade.errors import CascadeError, Problem, Source, legal_words

# A SymPy expression in rank sizes, or an exact number.
Size: TypeAlias = Any
# What formulas call the words of the buffer.
BUFFER = "S"


def symbol(name: str) -> Size:
    """Return the symbol of a rank's size: a positive integer."""
    import sympy

    return sympy.Symbol(name, integer=True, positive=True)


def leaves(cascade: Cascade, ranks: Iterable[str]) -> list[str]:
    """Replace the parts of each split that are all there by the whole: M1, E, M0 -> M, E."""
    left = list(ranks)
    for whole, parts in cascade.splits:
        while all(part in left for part in parts):
            left[left.index(parts[0])] = whole
            for part in parts[1:]:
                left.remove(part)
    return left


def size_of(cascade: Cascade, ranks: Iterable[str]) -> Size:
    """Return how many coordinates some ranks span together."""
    import sympy

    return sympy.Mul(*(symbol(rank) for rank in leaves(cascade, ranks)))


def buffer_name(cascade: Cascade) -> str:
    """Return the name of the buffer's size: S, or S_words beside a rank S."""
    return "S_words" if BUFFER in cascade.ranks else BUFFER


def positive_part(formula: Size) -> Size:
    """Return Max(0, formula), simplified where floor(W/2) < W decides it."""
    import sympy

    highest = sympy.expand(formula)
    for rounded in highest.atoms(sympy.floor):
        argument = rounded.args[0]
        # A whole number over a whole number is at most that much larger than its floor.
        below = (
            argument - 1 + sympy.Rational(1, sympy.denom(argument))
            if (sympy.denom(argument).is_Integer)
            else argument - 1
        )
        negative = highest.coeff(rounded).is_negative
        highest = highest.subs(rounded, below if negative else argument)
    return sympy.Integer(0) if highest.is_nonpositive else sympy.Max(0, formula)


def names_in(*formulas: Size) -> list[str]:
    """Return the names of all symbols in some formulas, sorted."""
    found = {s.name for formula in formulas for s in getattr(formula, "free_symbols", ())}
    return sorted(found)


def exact(formula: Size, values: Mapping[str, int]) -> int | Fraction:
    """Compute a formula exactly; KeyError for a symbol without a value (a bug of the caller)."""
    import sympy

    def value(node: Size) -> int | Fraction:
        if node.is_Symbol:
            return values[node.name]
        if node.is_Rational:
            return Fraction(int(node.p), int(node.q))
        inner = [value(argument) for argument in node.args]
        if node.is_Add:
            return sum(inner)
        if node.is_Mul:
            return math.prod(inner)
        if node.is_Pow:
            base, exponent = inner
            assert exponent == int(exponent)
            return Fraction(base) ** int(exponent)
        rounding = {sympy.floor: math.floor, sympy.ceiling: math.ceil}
        if node.func in rounding:
            return rounding[node.func](inner[0])
        assert node.func in (sympy.Min, sympy.Max), node
        return min(inner) if node.func is sympy.Min else max(inner)

    found = value(sympy.sympify(formula))
    return int(found) if found == int(found) else found


def sizes_of(cascade: Cascade, given: Mapping[str, int], needed: Iterable[str]) -> dict[str, int]:
    """Complete the sizes that a caller gave: parts of splits, and the cascade's defaults.

    Args:
        cascade: a legal cascade.
        given: sizes of ranks, and of the buffer in words.
        needed: names of the symbols that must have a value.

    Raises:
        CascadeError: a name that is no rank, a value that is no positive integer, parts that do
            not cover their whole, or every name that still has no value.
    """
    buffer = buffer_name(cascade)
    legal = [*cascade.ranks, buffer]
    problems = []
    for name, size in given.items():
        if name not in legal:
            hint = legal_words(name, legal, f"ranks of {cascade.name}, and the buffer's words")
            problems.append(Problem(Source(cascade.name), f"no rank '{name}'", hint=hint))
        elif not isinstance(size, int) or isinstance(size, bool) or size < 1:
            message = f"the size of {name} is a positive integer, not {size!r}"
            problems.append(Problem(Source(cascade.name), message))
    if problems:
        raise CascadeError(problems)
    found = dict(given)
    for whole, parts in cascade.splits:
        _complete(cascade, whole, parts, found)
    for whole, parts in cascade.concatenations:
        _add_up(cascade, whole, parts, found)
    for rank, size in cascade.default_sizes:
        found.setdefault(rank, size)
    missing = [name for name in dict.fromkeys(needed) if name not in found]
    # A part that follows from its whole is not what the caller should be asked for.
    missing = list(dict.fromkeys(cascade.whole_of(name) for name in missing))
    if missing:
        have = ", ".join(f"{name}={size}" for name, size in given.items())
        example = ", ".join(f"{name}=..." for name in missing)
        message = f"the size of {', '.join(missing)} is not set; set: {have or 'none'}"
        raise CascadeError(Problem(Source(cascade.name), message, hint=f"give {example}"))
    return found


def _complete(cascade: Cascade, whole: str, parts: tuple[str, ...], found: dict[str, int]) -> None:
    """Fill in the parts of a split from its whole, or the whole from its parts."""
    if whole in found:
        for part in reversed(parts):
            others = [found.get(other, 0) for other in parts if other != part]
            if all(others):
                found.setdefault(part, -(-found[whole] // math.prod(others)))
            else:
                found.setdefault(part, dict(cascade.default_sizes).get(part, DEFAULT_TILE))
        if math.prod(found[part] for part in parts) < found[whole]:
            tiles = " x ".join(f"{part}={found[part]}" for part in parts)
            message = f"{tiles} do not cover {whole}={found[whole]}"
            raise CascadeError(Problem(Source(cascade.name), message))
    elif all(part in found for part in parts):
        found[whole] = math.prod(found[part] for part in parts)


def _add_up(cascade: Cascade, whole: str, parts: tuple[str, ...], found: dict[str, int]) -> None:
    """Fill in the one size that a concatenated rank and its parts leave open."""
    unknown = [name for name in (whole, *parts) if name not in found]
    if unknown == [whole]:
        found[whole] = sum(found[part] for part in parts)
    elif len(unknown) == 1:
        found[unknown[0]] = found[whole] - sum(found[part] for part in parts if part in found)
    if len(unknown) < 2 and (
        min(found[part] for part in parts) < 1 or found[whole] != sum(found[p] for p in parts)
    ):
        lengths = " + ".join(f"{part}={found[part]}" for part in parts)
        message = f"{whole}={found[whole]} is not {lengths}"
        raise CascadeError(Problem(Source(cascade.name), message))
