"""The scalar operators of the cascade language: one row each.

A row says how many arguments an operator takes, how it is written and, if a rank can be reduced
with it, the identity it starts from. A new operator is one new row, and one that says how NumPy
computes it (`operator_values`); parser, legality, interpreter, printing and op counts read them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Operator:
    """A scalar operator: name, number of arguments, how it is written."""

    name: str
    arity: int
    # Infix symbol and precedence, or "" for a function call.
    symbol: str = ""
    precedence: int = 0


@dataclass(frozen=True, slots=True)
class Reduction:
    """A way to reduce ranks: its identity and the map operator that combines two values."""

    name: str
    identity: float
    combine: str
    # True if the result is a list of the k best (a populate), not one value.
    selects: bool = False


_ROWS = (
    Operator("add", 2, "+", 1),
    Operator("sub", 2, "-", 1),
    Operator("mul", 2, "*", 2),
    Operator("div", 2, "/", 2),
    Operator("floordiv", 2, "//", 2),
    # Both round down, so 0 <= x % y < y for every y > 0: -1 % 4 = 3 is a position from the end.
    Operator("mod", 2, "%", 2),
    Operator("neg", 1, "-", 3),
    Operator("pow", 2, "**", 4),
    Operator("min", 2),
    Operator("max", 2),
    # clamp(x, low, high); high wins where the bounds cross.
    Operator("clamp", 3),
    Operator("exp", 1),
    Operator("log", 1),
    Operator("sqrt", 1),
    Operator("abs", 1),
    Operator("relu", 1),
    Operator("sigmoid", 1),
    Operator("tanh", 1),
    Operator("cos", 1),
    Operator("sin", 1),
    Operator("phi", 1),
    Operator("step", 1),
)
OPERATORS: dict[str, Operator] = {row.name: row for row in _ROWS}
FUNCTIONS = tuple(row.name for row in _ROWS if not row.symbol)
COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")

_REDUCTIONS = (
    Reduction("sum", 0.0, "add"),
    Reduction("max", float("-inf"), "max"),
    Reduction("min", float("inf"), "min"),
    Reduction("prod", 1.0, "mul"),
    Reduction("topk", float("-inf"), "max", selects=True),
    Reduction("argtopk", float("-inf"), "max", selects=True),
)
REDUCTIONS: dict[str, Reduction] = {row.name: row for row in _REDUCTIONS}
