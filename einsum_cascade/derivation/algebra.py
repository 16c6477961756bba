"""Expressions of the language as SymPy terms, and back.

Every access, indicator and constant becomes one real symbol, so that algebra sees scalars only.
Operators that SymPy knows become SymPy's; all others are unknown functions of their arguments,
about which nothing is assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from einsum_cascade.expressions import (
    PARAMETER,
    Access,
    Apply,
    Condition,
    Expr,
    Name,
    Number,
    Select,
)

Leaf = Access | Name | Condition
# What becomes of an access or a name when a term is written out.
Change = Callable[[Access | Name], Expr]
# SymPy is not typed, and imported only when it is used.
Term = Any
Symbol = Any
# Longest decimal that is printed as such; other fractions are printed as a quotient.
MAX_DECIMALS = 12
ZERO = Number(0)
ONE = Number(1)


@dataclass(slots=True)
class Algebra:
    """A table of symbols that grows: one for each distinct access, name and indicator."""

    symbols: dict[Leaf, Symbol] = field(default_factory=dict)
    leaves: dict[Symbol, Leaf] = field(default_factory=dict)

    def symbol(self, leaf: Leaf) -> Symbol:
        """The symbol of a leaf, made when it is first met."""
        import sympy

        if leaf not in self.symbols:
            # Parameters are positive by convention, shapes by nature.
            is_positive = isinstance(leaf, Name) and (
                PARAMETER.match(leaf.name) or leaf.name[:1].isupper()
            )
            known = {"positive": True} if is_positive else {"real": True}
            made = sympy.Symbol(f"s{len(self.symbols):04d}", **known)
            self.symbols[leaf] = made
            self.leaves[made] = leaf
        return self.symbols[leaf]

    def leaf(self, symbol: Any) -> Leaf:
        """What a symbol stands for."""
        return self.leaves[symbol]

    def term(self, expr: Expr) -> Term:
        """Turn an expression into a SymPy term."""
        import sympy

        match expr:
            case Number(value=value):
                if value in (float("inf"), float("-inf")):
                    return self.symbol(Name("inf")) * (1 if value > 0 else -1)
                return sympy.Rational(repr(value))
            case Access() | Name():
                return self.symbol(expr)
            case Select(condition=condition, then=then, otherwise=otherwise):
                holds = self.symbol(condition)
                return holds * self.term(then) + (1 - holds) * self.term(otherwise)
            case Apply(operator=operator, arguments=arguments):
                terms = [self.term(argument) for argument in arguments]
                known = _to_sympy(operator)
                return known(*terms) if known else sympy.Function(operator)(*terms)
        raise AssertionError(expr)

    def expression(self, term: Any, change: Change | None = None) -> Expr:
        """Turn a SymPy term into an expression; `change` says what becomes of each leaf."""
        import sympy

        def back(inner: Any) -> Expr:
            return self.expression(inner, change)

        if term.is_Symbol:
            leaf = self.leaf(term)
            if isinstance(leaf, Access | Name):
                return change(leaf) if change else leaf
            return Select(leaf, ONE, ZERO)
        if term.is_Rational:
            return _number(term)
        if term.is_Add:
            return self._sum(term, back)
        if isinstance(term, sympy.exp):
            return Apply("exp", (back(term.args[0]),))
        if term.is_Mul or term.is_Pow:
            return self._product(term, change, back)
        names = {"Abs": "abs", "Max": "max", "Min": "min"}
        name = names.get(term.func.__name__, term.func.__name__)
        arguments = [back(argument) for argument in self._ordered(term.args, name)]
        if name in ("max", "min"):
            joined = arguments[0]
            for argument in arguments[1:]:
                joined = Apply(name, (joined, argument))
            return joined
        return Apply(name, tuple(arguments))

    def _ordered(self, terms: Iterable[Any], name: str = "add") -> list[Any]:
        """Arguments in order of first appearance; those of other functions stay in place."""
        import sympy

        if name not in ("add", "mul", "max", "min"):
            return list(terms)
        return sorted(
            terms,
            key=lambda t: (min((str(s) for s in t.free_symbols), default=""), sympy.srepr(t)),
        )

    def _sum(self, term: Any, back: Callable[[Any], Expr]) -> Expr:
        parts = self._ordered(term.args)
        # What is added comes before what is taken away: exp(QK - GM).
        plus = [part for part in parts if not part.could_extract_minus_sign()]
        minus = [-part for part in parts if part.could_extract_minus_sign()]
        total = back(plus[0]) if plus else Apply("neg", (back(minus[0]),))
        for part in plus[1:]:
            total = Apply("add", (total, back(part)))
        for part in minus if plus else minus[1:]:
            total = Apply("sub", (total, back(part)))
        return total

    def _product(self, term: Any, change: Change | None, back: Callable[[Any], Expr]) -> Expr:
        import sympy

        if term.is_Mul and term.could_extract_minus_sign():
            return Apply("neg", (back(-term),))
        over: list[Expr] = []
        under: list[Expr] = []
        conditions: list[Condition] = []
        for factor in self._ordered(sympy.Mul.make_args(term), "mul"):
            base, power = factor.as_base_exp()
            leaf = self.leaves.get(factor) if factor.is_Symbol else None
            if leaf is not None and not isinstance(leaf, Access | Name):
                conditions.append(leaf)
            elif factor.is_Rational and not factor.is_Integer and factor.q != 1:
                value = _number(factor)
                if isinstance(value, Number):
                    over.append(value)
                else:
                    over += [Number(int(factor.p))] * (factor.p != 1)
                    under.append(Number(int(factor.q)))
            elif isinstance(factor, sympy.exp) or not power.could_extract_minus_sign():
                over.append(_power(back, base, power) if factor.is_Pow else back(factor))
            else:
                under.append(_power(back, base, -power))
        result = _joined(over)
        for divisor in under:
            result = Apply("div", (result, divisor))
        for condition in conditions:
            result = Select(condition, result, ZERO)
        return result


def _power(back: Callable[[Any], Expr], base: Any, power: Any) -> Expr:
    import sympy

    if power == 1:
        return back(base)
    if power == sympy.Rational(1, 2):
        return Apply("sqrt", (back(base),))
    return Apply("pow", (back(base), back(power)))


def _joined(factors: list[Expr]) -> Expr:
    result = factors[0] if factors else ONE
    for factor in factors[1:]:
        result = Apply("mul", (result, factor))
    return result


def _number(value: Any) -> Expr:
    """An integer, a short decimal, or a quotient of integers."""
    if value.q == 1:
        return Number(int(value.p))
    decimal = float(value)
    if len(repr(abs(decimal))) <= MAX_DECIMALS and "e" not in repr(decimal):
        return Number(decimal)
    return Apply("div", (Number(int(value.p)), Number(int(value.q))))


def _to_sympy(operator: str) -> Callable[..., Any] | None:
    """SymPy's own function for an operator, or None for an unknown one."""
    import sympy

    table: dict[str, Callable[..., Any]] = {
        "add": lambda a, b: a + b,
        "sub": lambda a, b: a - b,
        "mul": lambda a, b: a * b,
        "div": lambda a, b: a / b,
        "neg": lambda a: -a,
        "pow": lambda a, b: a**b,
        "exp": sympy.exp,
        "log": sympy.log,
        "sqrt": sympy.sqrt,
        "abs": sympy.Abs,
        "max": sympy.Max,
        "min": sympy.Min,
        "cos": sympy.cos,
        "sin": sympy.sin,
        "tanh": sympy.tanh,
    }
    return table.get(operator)
