"""Reading one line of a cascade: text to nodes.

The grammar is Python expression syntax, read with `ast` under a whitelist and never evaluated:

    cascade   := (directive | einsum)*                      '#' starts a comment
    directive := 'rank' R '=' R '*' R ...                   | 'var' v, ... 'in' R
               | 'input' access, ... | 'output' T, ...      | 'param' name '=' number
    einsum    := access '=' [op '[' v, ... ']' '('] map [')'] ['where' condition]
    op        := sum | max | min | prod | topk | argtopk
    index     := arithmetic over variables, shapes, integers and accesses (gather)

Names are told apart by spelling: `m`, `m1` are variables, `M`, `QK` ranks or tensors, names of
three or more lower-case letters are parameters. What a line *means* (which ranks exist, what is
summed, whether a read is legal) is not decided here but in `cascade`.
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
    Directive,
    Expr,
    Line,
    Logic,
    Name,
    Number,
    Span,
    Statement,
)
from einsum_cascade.operators import COMPARISONS, FUNCTIONS, OPERATORS, REDUCTIONS

DIRECTIVES = ("rank", "var", "input", "output", "param")
# Levels of nesting, above which every walk over an expression might exceed Python's stack.
MAX_DEPTH = 100
MAX_DIGITS = 300
# A filter's `where` follows an operand; the keyword is never the name of a function here.
_WHERE = re.compile(r"(?<=[\w\])])\s+where\b")


_BINARY: dict[type[ast.operator], str] = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.Div: "div",
    ast.FloorDiv: "floordiv",
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
class _Reader:
    """Turns `ast` nodes of one line into ours; `shift` is where the parsed text starts in it."""

    line: Line
    shift: int

    def span(self, node: ast.expr) -> Span:
        # A node may end on a later line only if the text had several; ours has one.
        start, end = node.col_offset, node.end_col_offset or node.col_offset + 1
        raw = self.line.text[self.shift :].encode(errors="replace")
        return Span(
            self.shift + len(raw[:start].decode(errors="ignore")),
            self.shift + len(raw[:end].decode(errors="ignore")),
        )

    def fail(self, node: ast.expr, message: str, hint: str = "") -> CascadeError:
        span = self.span(node)
        return CascadeError(self.line.problem(message, span.start, span.end, hint))

    def written(self, node: ast.expr) -> str:
        """The text of a node as it was written, cut short if it is long."""
        span = self.span(node)
        text = self.line.text[span.start : span.end]
        return text if len(text) <= 40 else text[:37] + "..."

    def expression(self, node: ast.expr) -> Expr:
        span = self.span(node)
        match node:
            case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
                if isinstance(value, int) and abs(value) >= 10**MAX_DIGITS:
                    raise self.fail(node, "this number is too large", "write inf for infinity")
                return Number(value, span)
            case ast.Name(id="inf"):
                return Number(float("inf"), span)
            case ast.Name(id=name):
                return self.name(node, name, span)
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
                return self.call(node, name, span)
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
                raise self.fail(node, f"'{self.written(node)}' indexes a tensor twice", hint)
            case ast.Compare():
                hint = "a filter follows the expression: Z = A[k] where k < 3"
                raise self.fail(node, "a comparison is legal in a filter only", hint)
        raise self.fail(
            node,
            f"'{self.written(node)}' is not part of the language",
            "legal: + - * / // **, accesses such as K[e,m], numbers, parameters, "
            + ", ".join(FUNCTIONS),
        )

    def name(self, node: ast.expr, name: str, span: Span) -> Name:
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
        items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        for item in items:
            if isinstance(item, ast.Slice):
                raise self.fail(item, "slices are not indices", "write one variable for each rank")
        return tuple(self.expression(item) for item in items)

    def call(self, node: ast.Call, name: str, span: Span) -> Expr:
        if name not in FUNCTIONS:
            if name in REDUCTIONS:
                message = f"{name}(...) does not say what it reduces"
                raise self.fail(node, message, f"write {name}[m](...) to reduce over m")
            hint = legal_words(name, (*FUNCTIONS, *REDUCTIONS), "known functions")
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

    def condition(self, node: ast.expr) -> Condition:
        match node:
            case ast.BoolOp(op=op, values=values):
                word = "and" if isinstance(op, ast.And) else "or"
                return Logic(word, tuple(self.condition(value) for value in values))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return Logic("not", (self.condition(operand),))
            case ast.Compare(left=left, ops=ops, comparators=rights):
                if not all(type(op) in _COMPARE for op in ops):
                    break_hint = "legal: " + " ".join(COMPARISONS)
                    raise self.fail(node, "unknown comparison in a filter", break_hint)
                sides = [self.expression(side) for side in (left, *rights)]
                terms = tuple(
                    Compare(_COMPARE[type(op)], sides[i], sides[i + 1]) for i, op in enumerate(ops)
                )
                return terms[0] if len(terms) == 1 else Logic("and", terms)
        hint = "a filter compares: where m <= p; comparisons join with and, or, not"
        raise self.fail(node, "a filter must be a comparison", hint)


_EINSUM = "an Einsum reads: T[m,p] = expression, or T[p] = max[m](expression)"
_TOO_DEEP = "this is nested too deeply", "give a part of it an Einsum of its own"


def _tree(line: Line, start: int, end: int, mode: str, hint: str = _EINSUM) -> ast.AST:
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


def _checked(line: Line, text: str) -> str:
    """Return the text of a line unless it holds what Python's parser can't even take."""
    # NUL, and halves of characters.
    illegal = re.search("[\0\ud800-\udfff]", text)
    if illegal:
        at = illegal.start()
        message = f"illegal character U+{ord(illegal[0]):04X}"
        raise CascadeError(line.problem(message, at, at + 1, "write plain text"))
    return text


def parse_expression(text: str, file: str = "expression") -> Expr:
    """Parse arithmetic such as `max(QK + LM, RD) + 2*F`; raises CascadeError."""
    line = Line(text, file, 0)
    tree = _tree(line, 0, len(_checked(line, text)), "eval")
    assert isinstance(tree, ast.Expression)
    return _Reader(line, 0).expression(tree.body)


def parse_line(line: Line) -> Statement | Directive | None:
    """Parse one line; None if there is nothing on it. Raises CascadeError with one Problem."""
    text = _checked(line, line.text.split("#", 1)[0].rstrip())
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
    found = _WHERE.search(text)
    end = found.start() if found else len(text)
    module = _tree(line, start, end, "exec")
    reader = _Reader(line, start)
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


def _filter(line: Line, text: str, found: re.Match[str] | None) -> Condition | None:
    if found is None:
        return None
    start = found.end() + len(text[found.end() :]) - len(text[found.end() :].lstrip())
    hint = "a filter reads: where m <= p, or where m == p"
    if start >= len(text):
        raise CascadeError(line.problem("'where' without a condition", start - 5, start, hint))
    tree = _tree(line, start, len(text), "eval", hint)
    assert isinstance(tree, ast.Expression)
    return _Reader(line, start).condition(tree.body)


_SHAPES = {
    "rank": "rank M = M1*M0 (all capital)",
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
            parts = words(right, offset, "*", CAPITAL)
            if len(parts) < 2:
                raise fail("a split has two parts or more", offset)
            return Directive(kind, (*names, *parts), (), None, line=line)
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
    tree = _tree(line, begin, end, "eval", f"write: {_SHAPES[kind]}")
    assert isinstance(tree, ast.Expression)
    reader = _Reader(line, begin)
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
