"""Arithmetic that mapping files hold: tile sizes and the closed forms of papers.

A formula is written in the expression syntax of cascades (+ - * / // ** max min), read with the
same whitelist and computed exactly: whole numbers stay integers, others are fractions. It names
numbers only: sizes, tile sizes, array dimensions, chosen parameters, or the cycles of Einsums, as
the place of use says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction

from archsim.errors import ArchError
from einsum_cascade.errors import Problem, Source, SourceError, legal_words
from einsum_cascade.expressions import Access, Apply, Expr, Name, Number, Select
from einsum_cascade.language import parse_expression

Exact = int | Fraction


def read_formula(text: str, source: Source) -> Expr:
    """Parse a formula; ArchError at `source` if it is not one."""
    try:
        return parse_expression(text, source.file)
    except SourceError as error:
        found = error.problems[0]
        raise ArchError(Problem(source, found.message, text, 1, found.hint)) from None


def compute(formula: Expr, names: Mapping[str, Exact], at: Callable[[], Source]) -> Exact:
    """Compute a formula over named numbers; ArchError with its place for an unknown name."""
    match formula:
        case Number(value=value):
            return value if isinstance(value, int) else Fraction(value)
        case Name(name=name) if name in names:
            return names[name]
        case Name(name=name) | Access(tensor=name):
            hint = legal_words(name, sorted(names), "known here")
            raise ArchError(Problem(at(), f"unknown name '{name}' in a formula", hint=hint))
        case Apply(operator=operator, arguments=arguments):
            values = [compute(argument, names, at) for argument in arguments]
            return _apply(operator, values, at)
        case Select():
            return _apply("where", [], at)


def _apply(operator: str, values: list[Exact], at: Callable[[], Source]) -> Exact:
    match operator, values:
        case "add", (a, b):
            return a + b
        case "sub", (a, b):
            return a - b
        case "mul", (a, b):
            return a * b
        case "div", (a, b) if b:
            return quotient(a, b)
        case "floordiv", (a, b) if b:
            return a // b
        case "neg", (a,):
            return -a
        case "max", _:
            return max(values)
        case "min", _:
            return min(values)
    what = "division by zero" if operator in ("div", "floordiv") else f"'{operator}' is not legal"
    raise ArchError(Problem(at(), f"{what} in a formula", hint="legal: + - * / // max min"))


def quotient(a: Exact, b: Exact) -> Exact:
    """Divide exactly; what is whole is an integer, with which most that follows is faster."""
    if isinstance(a, int) and isinstance(b, int) and a % b == 0:
        return a // b
    return Fraction(a, b)


def ceil_div(a: int, b: int) -> int:
    """Divide and round up."""
    return -(-a // b)
