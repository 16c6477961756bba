"""Expressions of cascades as source text for numba.

A map becomes calls of the scalar operators of `compiled_kernels` in the type of the values, `F`;
what is the same at every point is computed in float64 and rounded once. Indices and filters are
integer arithmetic where they are made of variables, shapes and integers, and float64 otherwise.
What an access becomes is up to who writes the loops around it.

Names: v_m is an index variable, n_M an extent, p_gamma a parameter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Protocol

from einsum_cascade.cascade import Einsum, variables_in
from einsum_cascade.compiled_kernels import FUNCTIONS
from einsum_cascade.expressions import (
    CAPITAL,
    VARIABLE,
    Access,
    Apply,
    Compare,
    Condition,
    Expr,
    Logic,
    Name,
    Number,
    Select,
    accesses,
)
from einsum_cascade.formats import MULTIPLIERS
from einsum_cascade.hardware_numbers import Numbers

_INTEGER = {"add": "+", "sub": "-", "mul": "*"}


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """How operators are written: in which type, and by whose functions."""

    kind: str
    module: str
    # Of hardware numbers: the multiplier, and whether exponentials are to base 2 already.
    multiplier: str = ""
    is_base_two: bool = False

    def call(self, operator: str, arguments: Sequence[str]) -> str:
        """Text of an operator applied to arguments."""
        inside = ", ".join(arguments)
        if operator == "exp" and not self.multiplier:
            # Of a known width, which saves numba the search.
            return f"exp{self.kind}({inside})"
        if not self.multiplier:
            return f"{self.module}.{FUNCTIONS[operator]}({inside})"
        number = MULTIPLIERS.index(self.multiplier)
        if operator == "mul":
            return f"g.multiply({inside}, {number})"
        if operator == "exp":
            x = inside if self.is_base_two else f"g.multiply({inside}, F(LOG2_E), 1)"
            return f"g.exp2({x}, EXP_METHOD, EXP_TABLE, {number})"
        if operator in _HARDWARE:
            return f"g.{_HARDWARE[operator]}({inside})"
        wide = ", ".join(f"D({argument})" for argument in arguments)
        return f"g.flush(F(k.{FUNCTIONS[operator]}({wide})))"


# Of values, in the type they are compiled for; and in float64, for constants and conditions.
VALUES, WIDE = Arithmetic("F", "a"), Arithmetic("D", "k")
_HARDWARE = {"add": "add", "sub": "subtract", "div": "divide", "max": "maximum"}


def arithmetic_of(numbers: Numbers | None, einsum: Einsum) -> Arithmetic:
    """The arithmetic of an Einsum."""
    if numbers is None:
        return VALUES
    if einsum.name in numbers.loaded:
        return WIDE
    return Arithmetic("F", "g", numbers.multiplier(einsum), numbers.is_base_two)


def combining(numbers: Numbers | None, einsum: Einsum) -> Arithmetic:
    """The arithmetic of its reduction."""
    if numbers is None:
        return VALUES
    return Arithmetic("F", "g", numbers.multiplier(einsum), numbers.is_base_two)


def rounded(numbers: Numbers | None, einsum: Einsum, text: str) -> str:
    """Text of a map's value as the tensor holds it."""
    if numbers is None:
        return text
    if einsum.name in numbers.loaded:
        text = f"F({text}*LOG2_E)" if einsum.name in numbers.scaled else f"F({text})"
    return f"g.to_bf16({text})" if einsum.name in numbers.words else text


@dataclass(slots=True)
class Text:
    """Lines of Python while they are being written."""

    lines: list[str] = field(default_factory=list)
    depth: int = 0
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def line(self, text: str) -> None:
        """Write a line at the present depth."""
        self.lines.append("    " * self.depth + text)

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """Write a line and what is inside it, deeper."""
        self.line(head)
        self.depth += 1
        yield
        self.depth -= 1

    def fresh(self, letter: str) -> str:
        """A name that no other line uses."""
        return f"{letter}{next(self._numbers)}"

    def apart(self, depth: int = 0) -> Text:
        """Lines that are placed later, with names that are new here, too."""
        return Text(depth=depth, _numbers=self._numbers)

    def __str__(self) -> str:
        """All of it."""
        return "\n".join(self.lines) + "\n"


class Reader(Protocol):
    """Whoever writes the loops around expressions."""

    def access(self, access: Access) -> str:
        """Write what an access needs; return the text of its value."""

    def hoisted(self, expr: Expr, how: Arithmetic) -> str | None:
        """Text of a part that is computed less often elsewhere, if it is."""

    def chosen(self, holds: str, variables: tuple[str, ...]) -> AbstractContextManager[None]:
        """A branch of a selection begins: what is read in it matters only where `holds`."""


def is_fixed(expr: Expr | Condition) -> bool:
    """True if an expression is the same at every point: shapes, numbers and parameters."""
    return not accesses(expr) and not variables_in(expr)


def integer(expr: Expr) -> str | None:
    """Text of an expression in integers, or None if it is not made of them."""
    match expr:
        case Name(name=name) if VARIABLE.match(name):
            return f"v_{name}"
        case Name(name=name) if CAPITAL.match(name):
            return f"n_{name}"
        case Number(value=int() as value) if abs(value) < 1 << 31:
            return f"{value}"
        case Apply(operator=operator, arguments=arguments):
            inner = [integer(argument) for argument in arguments]
            texts = [text for text in inner if text is not None]
            if len(texts) < len(inner):
                return None
            if operator in _INTEGER:
                return f"({texts[0]} {_INTEGER[operator]} {texts[1]})"
            if operator == "neg":
                return f"(-{texts[0]})"
            # A divisor that may be zero is left to floating point, where that has a meaning.
            if operator in ("floordiv", "mod") and _is_divisor(arguments[1]):
                return f"({texts[0]} {'//' if operator == 'floordiv' else '%'} {texts[1]})"
            if operator in ("min", "max"):
                return f"{operator}({texts[0]}, {texts[1]})"
            if operator == "clamp":
                return f"min(max({texts[0]}, {texts[1]}), {texts[2]})"
    return None


def _is_divisor(expr: Expr) -> bool:
    return (isinstance(expr, Number) and expr.value > 0) or (
        isinstance(expr, Name) and CAPITAL.match(expr.name) is not None
    )


def literal(value: float, kind: str) -> str:
    """Text of a number in a type: F for values, D for float64."""
    if value in (float("inf"), float("-inf")):
        return f"{'-' if value < 0 else ''}{kind}_INF"
    return f"{kind}({float(value)!r})"


def value(expr: Expr, text: Text, reader: Reader, how: Arithmetic = VALUES) -> str:
    """Text of the value of an expression."""
    kind = how.kind
    if isinstance(expr, Apply):
        found = reader.hoisted(expr, how)
        whole = integer(expr) if found is None and how is WIDE else None
        if found is not None or whole is not None:
            return found or f"D({whole})"
    if how is VALUES and not isinstance(expr, Number | Select) and is_fixed(expr):
        return f"F({value(expr, text, reader, WIDE)})"
    match expr:
        case Number(value=number):
            return literal(number, kind)
        case Name(name=name) if VARIABLE.match(name):
            return f"{kind}(v_{name})"
        case Name(name=name) if CAPITAL.match(name):
            return f"{kind}(n_{name})"
        case Name(name=name):
            return f"{kind}(p_{name})"
        case Access():
            found = reader.access(expr)
            return f"D({found})" if kind == "D" else found
        case Apply(operator="pow", arguments=(base, Number(value=2))) if not how.multiplier:
            return f"{how.module}.square({value(base, text, reader, how)})"
        case Apply(operator=operator, arguments=arguments):
            return how.call(operator, [value(one, text, reader, how) for one in arguments])
        case Select(condition=condition, then=then, otherwise=otherwise):
            holds, parts = text.fresh("h"), []
            text.line(f"{holds} = {truth(condition, text, reader)}")
            for branch, chosen in ((then, holds), (otherwise, f"(not {holds})")):
                with reader.chosen(chosen, variables_in(condition)):
                    parts.append(value(branch, text, reader, how))
            return f"({parts[0]} if {holds} else {parts[1]})"
    raise AssertionError(expr)


def truth(condition: Condition, text: Text, reader: Reader) -> str:
    """Text of whether a condition holds; all of it is evaluated."""
    match condition:
        case Compare(symbol=symbol, left=left, right=right):
            first, second = integer(left), integer(right)
            if first is None or second is None:
                first, second = (value(side, text, reader, WIDE) for side in (left, right))
            return f"({first} {symbol} {second})"
        case Logic(word="not", terms=(term,)):
            return f"(not {truth(term, text, reader)})"
        case Logic(word=word, terms=terms):
            # Each term in a variable of its own: none may be skipped, since reading it may empty.
            names = []
            for term in terms:
                names.append(text.fresh("h"))
                text.line(f"{names[-1]} = {truth(term, text, reader)}")
            return f"({f' {word} '.join(names)})"
    raise AssertionError(condition)
