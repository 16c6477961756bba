"""Reading one line of a cascade: text to nodes.

A line is a directive or an Einsum; docs/language.md has the grammar. What a line *means* (which
ranks exist, what is summed, whether a read is legal) is not decided here but in `legality`.

Decision: `where` is a filter where it follows an operand outside all brackets, and a function
everywhere else. So `Z[m] = A[m]*where(m < 3, 1, 0) where m < 5` needs no other word for either.
"""

from __future__ import annotations

import ast
import keyword
import re

from einsum_cascade.errors import CascadeError
from einsum_cascade.expression_reader import SELECT, Reader, checked, python_tree
from einsum_cascade.expressions import (
    CAPITAL,
    PARAMETER,
    VARIABLE,
    Access,
    Condition,
    Directive,
    Expr,
    Line,
    Name,
    Span,
    Statement,
)
from einsum_cascade.operators import REDUCTIONS

DIRECTIVES = ("rank", "var", "input", "output", "param")
_BRACKET_OR_WHERE = re.compile(rf"[\[\]()]|\b{SELECT}\b")
# What an operand ends with, as opposed to a word that another operand follows.
_OPERAND = re.compile(r"(?<!\band)(?<!\bor)(?<!\bnot)(?<=[\w\])])\s*\Z")


def parse_expression(text: str, file: str = "expression") -> Expr:
    """Parse arithmetic such as `max(QK + LM, RD) + 2*F`; raises CascadeError."""
    line = Line(text, file, 0)
    tree = python_tree(line, 0, len(checked(line, text)), "eval")
    assert isinstance(tree, ast.Expression)
    return Reader(line, 0).expression(tree.body)


def parse_line(line: Line) -> Statement | Directive | None:
    """Parse one line; None if there is nothing on it. Raises CascadeError with one Problem."""
    text = checked(line, line.text.split("#", 1)[0].rstrip())
    start = len(text) - len(text.lstrip())
    word = text[start:].split(" ", 1)[0]
    if not text.strip():
        return None
    if word in DIRECTIVES and not text[start + len(word) :].lstrip().startswith(("=", "[")):
        return _directive(line, word, start + len(word), len(text))
    return _statement(line, text, start)


def _statement(line: Line, text: str, start: int) -> Statement:
    if re.match(r"where\b(?!\s*[=\[])", text[start:]):
        hint = "a filter stands behind its Einsum, in the same line: Z = A[k] where k < 3"
        raise CascadeError(line.problem("'where' without an Einsum", start, start + 5, hint))
    found = _find_filter(line, text)
    end = len(text) if found is None else found
    module = python_tree(line, start, end, "exec")
    reader = Reader(line, start)
    body = module.body if isinstance(module, ast.Module) else []
    node = body[0] if len(body) == 1 else None
    if not isinstance(node, ast.Assign) or len(node.targets) != 1:
        hint = "an Einsum reads: T[m,p] = expression; directives are " + ", ".join(DIRECTIVES)
        raise CascadeError(line.problem("this is not an Einsum", start, end, hint))
    target = reader.expression(node.targets[0])
    if isinstance(target, Name) and CAPITAL.match(target.name):
        target = Access(target.name, (), target.span)
    if not isinstance(target, Access):
        hint = "the left side is a tensor, capitalised: QK[m,p]"
        raise reader.fail(node.targets[0], "the left side is not a tensor", hint)
    op: str | None = None
    over: tuple[Name, ...] = ()
    value = node.value
    match value:
        case ast.Call(func=ast.Subscript(value=ast.Name(id=name)) as head) if name in REDUCTIONS:
            names = reader.indices(head)
            bad = next((n for n in names if not _is_variable(n)), None)
            if bad is not None:
                hint = f"write {name}[m](...) to reduce over m"
                raise reader.fail(head.slice, f"{name}[...] lists index variables", hint)
            if len(value.args) != 1 or value.keywords:
                hint = f"write {name}[m](x)"
                raise reader.fail(value, f"{name}[...] takes one expression", hint)
            op, over, value = name, tuple(n for n in names if isinstance(n, Name)), value.args[0]
    return Statement(
        target, op, over, reader.expression(value), _filter(line, text, found), line=line
    )


def _is_variable(expr: Expr) -> bool:
    return isinstance(expr, Name) and VARIABLE.match(expr.name) is not None


def _find_filter(line: Line, text: str) -> int | None:
    """Where the `where` of a filter starts, or None if the line has none."""
    depth = 0
    for token in _BRACKET_OR_WHERE.finditer(text):
        if token[0] != SELECT:
            depth += 1 if token[0] in "[(" else -1
        elif _OPERAND.search(text[: token.start()]):
            if depth <= 0:
                return token.start()
            message = "a filter stands behind the whole expression, outside its brackets"
            hint = "write Z = sum[m](A[m]) where m < 3; inside brackets write where(m < 3, a, b)"
            raise CascadeError(line.problem(message, token.start(), token.end(), hint))
    return None


def _filter(line: Line, text: str, found: int | None) -> Condition | None:
    if found is None:
        return None
    start = found + len(SELECT)
    start += len(text[start:]) - len(text[start:].lstrip())
    hint = "a filter reads: where m <= p, or where m == p"
    if start >= len(text):
        raise CascadeError(line.problem("'where' without a condition", start - 5, start, hint))
    tree = python_tree(line, start, len(text), "eval", hint)
    assert isinstance(tree, ast.Expression)
    return Reader(line, start).condition(tree.body)


_SHAPES = {
    "rank": "rank M = M1*M0 or rank M = T + N (all capital)",
    "var": "var n, p in N (variables small, their rank capital)",
    "input": "input K[n,e], V[n,f]",
    "output": "output AV, SD (names only)",
    "param": "param gamma = 0.9 (three or more lower-case letters)",
}


def _directive(line: Line, kind: str, start: int, end: int) -> Directive:
    """Read the rest of a directive line; each kind has one shape, shown in the error."""
    text = line.text[start:end]

    def fail(message: str, at: int = start, width: int = 0) -> CascadeError:
        at += len(line.text[at:end]) - len(line.text[at:end].lstrip())
        stop = at + width if width else max(end, at + 1)
        return CascadeError(line.problem(message, at, stop, f"write: {_SHAPES[kind]}"))

    if not text.strip():
        raise fail(f"'{kind}' names nothing", start - len(kind), len(kind))

    def words(part: str, offset: int, separator: str, spelling: re.Pattern[str]) -> list[Name]:
        names, at = [], offset
        for piece in part.split(separator):
            word = piece.strip()
            begin = at + len(piece) - len(piece.lstrip())
            if not spelling.match(word) or keyword.iskeyword(word):
                what = f"'{word}' is not a legal name" if word else "a name is missing"
                raise fail(f"{what} in '{kind}'", begin, max(1, len(word)))
            names.append(Name(word, Span(begin, begin + len(word))))
            at += len(piece) + 1
        return names

    if kind in ("rank", "param"):
        left, equals, right = text.partition("=")
        if not equals:
            raise fail(f"'{kind}' needs '='")
        spelling = CAPITAL if kind == "rank" else PARAMETER
        names = words(left, start, ",", spelling)
        if len(names) != 1:
            raise fail(f"'{kind}' defines one name")
        offset = start + len(left) + 1
        if kind == "rank":
            plus, times = right.find("+"), right.find("*")
            if plus >= 0 and times >= 0:
                at = offset + max(plus, times)
                raise fail("a rank is either split (*) or concatenated (+)", at, 1)
            parts = words(right, offset, "+" if plus >= 0 else "*", CAPITAL)
            if len(parts) < 2:
                raise fail("a split has two parts or more", offset)
            own = "concat" if plus >= 0 else kind
            return Directive(own, (*names, *parts), (), None, line=line)
        try:
            value = float(right)
        except ValueError:
            value = float("nan")
        if value != value:
            raise fail("the value of a parameter is a number", offset)
        return Directive(kind, tuple(names), (), value, line=line)
    if kind == "var":
        left, inside, right = text.rpartition(" in ")
        if not inside:
            raise fail("'var' needs 'in'")
        ranks = words(right, start + len(left) + 4, ",", CAPITAL)
        return Directive(kind, (*words(left, start, ",", VARIABLE), *ranks), (), None, line=line)
    if kind == "output":
        return Directive(kind, tuple(words(text, start, ",", CAPITAL)), (), None, line=line)
    begin = start + len(text) - len(text.lstrip())
    tree = python_tree(line, begin, end, "eval", f"write: {_SHAPES[kind]}")
    assert isinstance(tree, ast.Expression)
    reader = Reader(line, begin)
    items = tree.body.elts if isinstance(tree.body, ast.Tuple) else [tree.body]
    inputs = []
    for item in items:
        access = reader.expression(item)
        if isinstance(access, Name) and CAPITAL.match(access.name):
            access = Access(access.name, (), access.span)
        if not isinstance(access, Access) or not all(_is_variable(i) for i in access.indices):
            span = reader.span(item)
            message = "an input is a tensor indexed by plain variables"
            raise fail(message, span.start, span.end - span.start)
        inputs.append(access)
    return Directive(kind, (), tuple(inputs), None, line=line)
