"""Expressions and conditions of the cascade language: text to nodes.

The text is read by Python's own parser and never evaluated; what is not on the whitelist of
`Reader` is an error that says what is legal instead.
"""

from __future__ import annotations

import ast
import keyword
import re
import warnings
from dataclasses import dataclass

from einsum_cascade.errors import CascadeError, Problem, legal_words
from einsum_cascade.expressions import (
    CAPITAL,
    PARAMETER,
    VARIABLE,
    Access,
    Apply,
    Compare,
    Condition,
    Expr,
    Line,
    Logic,
    Name,
    Number,
    Select,
    Span,
)
from einsum_cascade.operators import COMPARISONS, FUNCTIONS, OPERATORS, REDUCTIONS

# Levels of nesting, above which every walk over an expression might exceed Python's stack.
MAX_DEPTH = 100
MAX_DIGITS = 300
# The one function that is no row of the operator table: its first argument is a condition.
SELECT = "where"
_SELECTION = "where(m <= p, a, b)"

_BINARY: dict[type[ast.operator], str] = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.Div: "div",
    ast.FloorDiv: "floordiv",
    ast.Mod: "mod",
    ast.Pow: "pow",
}
_COMPARE: dict[type[ast.cmpop], str] = {
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
}


@dataclass(frozen=True, slots=True)
class Reader:
    """Turns `ast` nodes of one line into ours; `shift` is where the parsed text starts in it."""

    line: Line
    shift: int

    def span(self, node: ast.expr) -> Span:
        """Where a node stands in the line."""
        # A node may end on a later line only if the text had several; ours has one.
        start, end = node.col_offset, node.end_col_offset or node.col_offset + 1
        raw = self.line.text[self.shift :].encode(errors="replace")
        return Span(
            self.shift + len(raw[:start].decode(errors="ignore")),
            self.shift + len(raw[:end].decode(errors="ignore")),
        )

    def fail(self, node: ast.expr, message: str, hint: str = "") -> CascadeError:
        """Make the error that underlines a node."""
        span = self.span(node)
        return CascadeError(self.line.problem(message, span.start, span.end, hint))

    def _written(self, node: ast.expr) -> str:
        """The text of a node as it was written, cut short if it is long."""
        span = self.span(node)
        text = self.line.text[span.start : span.end]
        return text if len(text) <= 40 else text[:37] + "..."

    def expression(self, node: ast.expr) -> Expr:
        """Turn a node into an expression, or say why it is none."""
        span = self.span(node)
        match node:
            case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
                if isinstance(value, int) and abs(value) >= 10**MAX_DIGITS:
                    raise self.fail(node, "this number is too large", "write inf for infinity")
                return Number(value, span)
            case ast.Name(id="inf"):
                return Number(float("inf"), span)
            case ast.Name(id=name):
                return self._name(node, name, span)
            case ast.Subscript(value=ast.Name(id=name)) if CAPITAL.match(name):
                return Access(name, self.indices(node), span)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return Apply("neg", (self.expression(operand),), span)
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                return self.expression(operand)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
                return Apply(
                    _BINARY[type(op)], (self.expression(left), self.expression(right)), span
                )
            case ast.Call(func=ast.Name(id=name)):
                return self._call(node, name, span)
            case ast.Call(func=ast.Subscript(value=ast.Name(id=name) as head)):
                if name not in REDUCTIONS:
                    hint = legal_words(name, REDUCTIONS, "known reductions")
                    raise self.fail(head, f"unknown reduction '{name}'", hint)
                raise self.fail(
                    node,
                    f"{name}[...] must enclose the whole right side",
                    "give the inner reduction an Einsum of its own and use its name here",
                )
            case ast.Subscript(value=ast.Name(id=name) as head):
                hint = "the name of a tensor starts with a capital: K[e,m]"
                raise self.fail(head, f"'{name}' is no tensor", hint)
            case ast.Subscript(value=ast.Subscript()):
                hint = "write all indices of a tensor in one pair of brackets: K[e,m]"
                raise self.fail(node, f"'{self._written(node)}' indexes a tensor twice", hint)
            case ast.Compare():
                hint = (
                    "a filter follows the expression: Z = A[k] where k < 3; "
                    "a choice inside it is written where(k < 3, a, b)"
                )
                raise self.fail(node, "a comparison is legal in a filter or where(...) only", hint)
        raise self.fail(
            node,
            f"'{self._written(node)}' is not part of the language",
            "legal: + - * / // % **, accesses such as K[e,m], numbers, parameters, "
            + ", ".join((*FUNCTIONS, SELECT)),
        )

    def _name(self, node: ast.expr, name: str, span: Span) -> Name:
        if name == SELECT:
            hint = f"write {_SELECTION}"
            raise self.fail(node, f"'{name}' is an operator and needs arguments", hint)
        if name in FUNCTIONS or name in REDUCTIONS:
            hint = f"write {name}(...)" if name in FUNCTIONS else f"write {name}[m](...)"
            raise self.fail(node, f"'{name}' is an operator and needs arguments", hint)
        if not (VARIABLE.match(name) or CAPITAL.match(name) or PARAMETER.match(name)):
            raise self.fail(
                node,
                f"'{name}' is no legal name",
                "variables are one or two lower-case letters and at most one digit (m, m1), tensors"
                " and ranks start with a capital, parameters have three or more lower-case letters",
            )
        return Name(name, span)

    def indices(self, node: ast.Subscript) -> tuple[Expr, ...]:
        """Read what stands in the brackets of an access or a reduction."""
        items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        for item in items:
            if isinstance(item, ast.Slice):
                raise self.fail(item, "slices are not indices", "write one variable for each rank")
        return tuple(self.expression(item) for item in items)

    def _call(self, node: ast.Call, name: str, span: Span) -> Expr:
        if name == SELECT:
            return self._select(node, span)
        if name not in FUNCTIONS:
            if name in REDUCTIONS:
                message = f"{name}(...) does not say what it reduces"
                raise self.fail(node, message, f"write {name}[m](...) to reduce over m")
            hint = legal_words(name, (*FUNCTIONS, SELECT, *REDUCTIONS), "known functions")
            raise self.fail(node.func, f"unknown function '{name}'", hint)
        arity = OPERATORS[name].arity
        hint = f"write {name}({', '.join('xyz'[:arity])})"
        if node.keywords or any(isinstance(a, ast.Starred) for a in node.args):
            raise self.fail(node, f"{name} takes plain arguments only", hint)
        if len(node.args) != arity:
            hint += f"; to reduce a rank write {name}[m](...)" if name in REDUCTIONS else ""
            message = f"{name} takes {arity} argument{'s'[: arity > 1]}, not {len(node.args)}"
            raise self.fail(node, message, hint)
        return Apply(name, tuple(self.expression(a) for a in node.args), span)

    def _select(self, node: ast.Call, span: Span) -> Select:
        plain = not node.keywords and not any(isinstance(a, ast.Starred) for a in node.args)
        if not plain or len(node.args) != 3:
            message = f"{SELECT} takes a condition and two values"
            raise self.fail(node, message, f"write {_SELECTION}")
        condition, then, otherwise = node.args
        return Select(
            self.condition(condition, f"the condition of {SELECT}", f"write {_SELECTION}"),
            self.expression(then),
            self.expression(otherwise),
            span,
        )

    def condition(
        self, node: ast.expr, what: str = "a filter", hint: str = "a filter compares: where m <= p"
    ) -> Condition:
        """Turn a node into a condition; `what` it belongs to and `hint` are for the error."""
        match node:
            case ast.BoolOp(op=op, values=values):
                word = "and" if isinstance(op, ast.And) else "or"
                return Logic(word, tuple(self.condition(value, what, hint) for value in values))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return Logic("not", (self.condition(operand, what, hint),))
            case ast.Compare(left=left, ops=ops, comparators=rights):
                if not all(type(op) in _COMPARE for op in ops):
                    legal = "legal: " + " ".join(COMPARISONS)
                    raise self.fail(node, f"unknown comparison in {what}", legal)
                sides = [self.expression(side) for side in (left, *rights)]
                terms = tuple(
                    Compare(_COMPARE[type(op)], sides[i], sides[i + 1]) for i, op in enumerate(ops)
                )
                return terms[0] if len(terms) == 1 else Logic("and", terms)
        hint += "; comparisons join with and, or, not"
        raise self.fail(node, f"{what} must be a comparison", hint)


_EINSUM = "an Einsum reads: T[m,p] = expression, or T[p] = max[m](expression)"
_TOO_DEEP = "this is nested too deeply", "give a part of it an Einsum of its own"


def python_tree(line: Line, start: int, end: int, mode: str, hint: str = _EINSUM) -> ast.AST:
    """Parse characters start..end of a line, or point at Python's complaint."""
    text = line.text[start:end]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text, mode=mode)
    except SyntaxError as error:
        raise CascadeError(_complaint(line, start, end, error, hint)) from None
    except (ValueError, RecursionError, MemoryError):
        raise CascadeError(line.problem(_TOO_DEEP[0], start, end, _TOO_DEEP[1])) from None
    level: list[ast.AST] = [tree]
    for _ in range(MAX_DEPTH):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not level:
            return tree
    raise CascadeError(line.problem(_TOO_DEEP[0], start, end, _TOO_DEEP[1]))


def _complaint(line: Line, start: int, end: int, error: SyntaxError, hint: str) -> Problem:
    """What is wrong with a line that Python's parser rejects, in the words of this language."""
    text = line.text[start:end]
    for word in re.finditer(r"[A-Za-z_]\w*", text):
        # Python reads these as its own words, and complains about their neighbours.
        if keyword.iskeyword(word[0]) and word[0] not in ("and", "or", "not"):
            message = f"'{word[0]}' cannot be a name: the syntax is Python's, where it is a keyword"
            renamed = f"take another name, such as {word[0][0].lower()} or {word[0][0].lower()}1"
            return line.problem(message, start + word.start(), start + word.end(), renamed)
    at = start + max(0, min((error.offset or 1) - 1, len(text) - 1))
    reason = (error.msg or "invalid syntax").split(". ")[0]
    if reason.startswith("Exceeds the limit"):
        digits = re.search(r"\d{4000,}", text)
        at = start + digits.start() if digits else at
        return line.problem("this number is too large", at, at + 1, "write inf for infinity")
    if "nested parentheses" in reason:
        return line.problem(_TOO_DEEP[0], at, at + 1, _TOO_DEEP[1])
    return line.problem(f"cannot read this line: {reason}", at, at + 1, hint)


def checked(line: Line, text: str) -> str:
    """Return the text of a line unless it holds what Python's parser can't even take."""
    # NUL, and halves of characters.
    illegal = re.search("[\0\ud800-\udfff]", text)
    if illegal:
        at = illegal.start()
        message = f"illegal character U+{ord(illegal[0]):04X}"
        raise CascadeError(line.problem(message, at, at + 1, "write plain text"))
    return text
