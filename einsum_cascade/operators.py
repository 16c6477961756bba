"""The scalar operators of the cascade language: one row each.

A row says how many arguments an operator takes, how NumPy computes it and, if a rank can be
reduced with it, the identity it starts from. A new operator is one new row; parser, legality,
interpreter, printing and op counts all read this table.

Decision: the arithmetic is total where "empty" is written as a number. Start values such as
`RM[0,p] = -inf` and `RD[0,p] = 0` mean "nothing yet", so nothing must stay nothing:
0 * inf = 0, 0 / 0 = 0 and -inf - (-inf) = -inf (hence exp of it is 0). A query that sees no key
thus gives 0 and never NaN. Every other case is IEEE arithmetic, NaN included.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Operator:
    """A scalar operator: name, number of arguments, NumPy function, how it is written."""

    name: str
    arity: int
    apply: Callable[..., Array]
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


def _multiply(a: Array, b: Array) -> Array:
    with np.errstate(invalid="ignore", over="ignore"):
        product = np.multiply(a, b)
        # Only an exact zero meets an infinity here; 0 * NaN stays NaN.
        empty = ((a == 0) & np.isinf(b)) | ((b == 0) & np.isinf(a))
        return np.where(empty, 0.0, product)


def _subtract(a: Array, b: Array) -> Array:
    with np.errstate(invalid="ignore", over="ignore"):
        return np.where(np.isneginf(a) & np.isneginf(b), -np.inf, np.subtract(a, b))


def _divide(a: Array, b: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.where((a == 0) & (b == 0), 0.0, np.divide(a, b))


def _quiet(function: Callable[..., Array]) -> Callable[..., Array]:
    """Let infinities pass without a warning: log(0) is -inf and exp(1000) is inf."""

    def apply(*arguments: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
            return function(*arguments)

    return apply


def _sigmoid(x: Array) -> Array:
    # The two branches keep exp from overflowing on either side.
    with np.errstate(over="ignore", under="ignore"):
        small = np.exp(-np.abs(x))
        return np.where(x >= 0, 1 / (1 + small), small / (1 + small))


def _phi(x: Array) -> Array:
    # elu(x) + 1, the feature map of linear attention (Katharopoulos et al., ICML 2020).
    return np.where(x > 0, x + 1.0, np.exp(np.minimum(x, 0.0)))


_ROWS = (
    Operator("add", 2, _quiet(np.add), "+", 1),
    Operator("sub", 2, _subtract, "-", 1),
    Operator("mul", 2, _multiply, "*", 2),
    Operator("div", 2, _divide, "/", 2),
    Operator("floordiv", 2, _quiet(np.floor_divide), "//", 2),
    # Both round down, so 0 <= x % y < y for every y > 0: -1 % 4 = 3 is a position from the end.
    Operator("mod", 2, _quiet(np.mod), "%", 2),
    Operator("neg", 1, np.negative, "-", 3),
    Operator("pow", 2, _quiet(np.power), "**", 4),
    Operator("min", 2, np.minimum),
    Operator("max", 2, np.maximum),
    # clamp(x, low, high); high wins where the bounds cross.
    Operator("clamp", 3, lambda x, low, high: np.minimum(np.maximum(x, low), high)),
    Operator("exp", 1, _quiet(np.exp)),
    Operator("log", 1, _quiet(np.log)),
    Operator("sqrt", 1, _quiet(np.sqrt)),
    Operator("abs", 1, np.abs),
    Operator("relu", 1, lambda x: np.maximum(x, 0.0)),
    Operator("sigmoid", 1, _sigmoid),
    Operator("tanh", 1, np.tanh),
    Operator("cos", 1, _quiet(np.cos)),
    Operator("sin", 1, _quiet(np.sin)),
    Operator("phi", 1, _phi),
    Operator("step", 1, lambda x: np.where(x >= 0, 1.0, 0.0)),
)
OPERATORS: dict[str, Operator] = {row.name: row for row in _ROWS}
FUNCTIONS = tuple(row.name for row in _ROWS if not row.symbol)
COMPARISONS: dict[str, Callable[..., Array]] = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
    "==": np.equal,
    "!=": np.not_equal,
}

_REDUCTIONS = (
    Reduction("sum", 0.0, "add"),
    Reduction("max", float("-inf"), "max"),
    Reduction("min", float("inf"), "min"),
    Reduction("prod", 1.0, "mul"),
    Reduction("topk", float("-inf"), "max", selects=True),
    Reduction("argtopk", float("-inf"), "max", selects=True),
)
REDUCTIONS: dict[str, Reduction] = {row.name: row for row in _REDUCTIONS}
