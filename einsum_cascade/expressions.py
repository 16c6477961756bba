"""The nodes of the cascade language, and their printing.

An expression is a tree of numbers, names, accesses, operators and selections; a condition, in a
filter or a selection, is a tree of comparisons. `to_text` prints what reads back to the same tree.
Nodes know where they stand in their line (`span`), which takes no part in comparing them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from einsum_cascade.errors import Problem, Source
from einsum_cascade.operators import OPERATORS

VARIABLE = re.compile(r"[a-z]{1,2}[0-9]?\Z")
CAPITAL = re.compile(r"[A-Z][A-Za-z0-9_]*\Z")
PARAMETER = re.compile(r"[a-z]{3,}[a-z0-9_]*\Z")
_BLANK = re.compile(r" (?!\w)|(?<!\w) ")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text and its place: `text` is what was written, without the comment."""

    text: str
    file: str
    number: int
    # Columns by which the line is indented in the file that holds it.
    indent: int = 0

    def problem(self, message: str, start: int, end: int, hint: str = "") -> Problem:
        """Make a Problem that underlines characters start..end of this line."""
        place = Source(self.file, self.number, self.indent + start + 1)
        return Problem(place, message, " " * self.indent + self.text, end - start, hint)


@dataclass(frozen=True, slots=True)
class Span:
    """Where a node stands in its line: characters start..end, 0-based."""

    start: int = 0
    end: int = 1


_NOWHERE = Span()


@dataclass(frozen=True, slots=True, eq=False)
class Number:
    """A literal; `inf` is a number too. 1 and 1.0 differ: only one of them is an index."""

    value: float
    span: Span = field(default=_NOWHERE, compare=False, repr=False)

    def __eq__(self, other: object) -> bool:
        """Compare value and type."""
        if not isinstance(other, Number):
            return NotImplemented
        return type(self.value) is type(other.value) and self.value == other.value

    def __hash__(self) -> int:
        """Hash what is compared."""
        return hash((type(self.value), self.value))

    def __str__(self) -> str:
        """Print as it can be read back."""
        return repr(self.value)


@dataclass(frozen=True, slots=True)
class Name:
    """An index variable, the shape of a rank or a parameter, used as a number."""

    name: str
    span: Span = field(default=_NOWHERE, compare=False, repr=False)

    def __str__(self) -> str:
        """Print the name."""
        return self.name


@dataclass(frozen=True, slots=True)
class Access:
    """An element of a tensor: `K[e,m]`. An index that contains an Access is a gather."""

    tensor: str
    indices: tuple[Expr, ...]
    span: Span = field(default=_NOWHERE, compare=False, repr=False)

    def __str__(self) -> str:
        """Print as written in a cascade."""
        if not self.indices:
            return self.tensor
        # Indices are printed without blanks, except those that part words: K[e,m1+1].
        indices = (_BLANK.sub("", to_text(index)) for index in self.indices)
        return f"{self.tensor}[{','.join(indices)}]"


@dataclass(frozen=True, slots=True)
class Apply:
    """An operator of the table applied to arguments."""

    operator: str
    arguments: tuple[Expr, ...]
    span: Span = field(default=_NOWHERE, compare=False, repr=False)

    def __str__(self) -> str:
        """Print with as few parentheses as needed."""
        return to_text(self)


@dataclass(frozen=True, slots=True)
class Select:
    """`where(condition, then, otherwise)`: the value of the branch that the condition chooses.

    The other branch says nothing about the point, not even that it is empty.
    """

    condition: Condition
    then: Expr
    otherwise: Expr
    span: Span = field(default=_NOWHERE, compare=False, repr=False)

    def __str__(self) -> str:
        """Print as the call it is written as."""
        return f"where({self.condition}, {to_text(self.then)}, {to_text(self.otherwise)})"


Expr = Number | Name | Access | Apply | Select


@dataclass(frozen=True, slots=True)
class Compare:
    """A comparison between two expressions."""

    symbol: str
    left: Expr
    right: Expr

    def __str__(self) -> str:
        """Print infix."""
        return f"{to_text(self.left)} {self.symbol} {to_text(self.right)}"


@dataclass(frozen=True, slots=True)
class Logic:
    """Comparisons joined by `and`, `or`, or negated by `not`."""

    word: str
    terms: tuple[Condition, ...]

    def __str__(self) -> str:
        """Print with every nested term in parentheses."""
        texts = [f"({term})" if isinstance(term, Logic) else str(term) for term in self.terms]
        return f"not ({self.terms[0]})" if self.word == "not" else f" {self.word} ".join(texts)


Condition = Compare | Logic


@dataclass(frozen=True, slots=True)
class Statement:
    """`target = op[over](map) where condition`; `op` is None if the line names no reduction."""

    target: Access
    op: str | None
    over: tuple[Name, ...]
    map: Expr
    where: Condition | None
    line: Line = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Directive:
    """`rank`, `var`, `input`, `output` or `param`, with its names and, for `param`, a value.

    A `rank` line that adds its parts instead of multiplying them has the kind `concat`.
    """

    kind: str
    names: tuple[Name, ...]
    accesses: tuple[Access, ...]
    value: float | None
    line: Line = field(compare=False, repr=False)


def to_text(expr: Expr) -> str:
    """Print an expression so that reading it back gives the same nodes."""
    if not isinstance(expr, Apply):
        return str(expr)
    row = OPERATORS[expr.operator]
    if not row.symbol:
        return f"{row.name}({', '.join(to_text(a) for a in expr.arguments)})"

    def operand(child: Expr, least: int) -> str:
        inner = OPERATORS[child.operator] if isinstance(child, Apply) else None
        text = to_text(child)
        return f"({text})" if inner and inner.symbol and inner.precedence < least else text

    if row.arity == 1:
        return row.symbol + operand(expr.arguments[0], row.precedence)
    left, right = expr.arguments
    # Python's ** groups to the right, everything else to the left.
    first, second = (1, 0) if row.name == "pow" else (0, 1)
    blank = " " if row.precedence == 1 else ""
    return (
        operand(left, row.precedence + first)
        + f"{blank}{row.symbol}{blank}"
        + operand(right, row.precedence + second)
    )


def walk(expr: Expr | Condition) -> Iterator[Expr]:
    """Yield every expression node, outermost first, indices of accesses included."""
    children: tuple[Expr | Condition, ...] = ()
    match expr:
        case Access():
            children = expr.indices
        case Apply():
            children = expr.arguments
        case Select():
            children = (expr.condition, expr.then, expr.otherwise)
        case Compare():
            children = (expr.left, expr.right)
        case Logic():
            children = expr.terms
    if not isinstance(expr, Compare | Logic):
        yield expr
    for child in children:
        yield from walk(child)


def accesses(expr: Expr | Condition | None) -> tuple[Access, ...]:
    """All accesses in an expression, those inside indices included, left to right."""
    return () if expr is None else tuple(n for n in walk(expr) if isinstance(n, Access))


def rewrite(expr: Expr, change: Callable[[Expr], Expr]) -> Expr:
    """Rebuild an expression bottom-up with `change` applied to every node."""
    match expr:
        case Access():
            expr = Access(
                expr.tensor, tuple(rewrite(i, change) for i in expr.indices), span=expr.span
            )
        case Apply():
            expr = Apply(
                expr.operator, tuple(rewrite(a, change) for a in expr.arguments), span=expr.span
            )
        case Select(condition=condition, then=then, otherwise=otherwise):
            expr = Select(
                rewrite_condition(condition, change),
                rewrite(then, change),
                rewrite(otherwise, change),
                span=expr.span,
            )
    return change(expr)


def rewrite_condition(condition: Condition, change: Callable[[Expr], Expr]) -> Condition:
    """Rebuild a condition with `change` applied to every expression node in it."""
    if isinstance(condition, Compare):
        left, right = rewrite(condition.left, change), rewrite(condition.right, change)
        return Compare(condition.symbol, left, right)
    return Logic(condition.word, tuple(rewrite_condition(t, change) for t in condition.terms))


def substitute(expr: Expr, values: Mapping[str, Expr]) -> Expr:
    """Put expressions in place of names."""
    return rewrite(expr, lambda e: values.get(e.name, e) if isinstance(e, Name) else e)


def substitute_condition(condition: Condition, values: Mapping[str, Expr]) -> Condition:
    """Put expressions in place of names in a condition."""
    return rewrite_condition(
        condition, lambda e: values.get(e.name, e) if isinstance(e, Name) else e
    )
