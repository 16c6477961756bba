"""How NumPy computes the scalar operators of `operators`: a function for each name.

Decision: the arithmetic is total where "empty" is written as a number. Start values such as
`RM[0,p] = -inf` and `RD[0,p] = 0` mean "nothing yet", so nothing must stay nothing:
0 * inf = 0, 0 / 0 = 0 and -inf - (-inf) = -inf (hence exp of it is 0). A query that sees no key
thus gives 0 and never NaN. Every other case is IEEE arithmetic, NaN included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


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


VALUES: Mapping[str, Callable[..., Array]] = {
    "add": _quiet(np.add),
    "sub": _subtract,
    "mul": _multiply,
    "div": _divide,
    "floordiv": _quiet(np.floor_divide),
    "mod": _quiet(np.mod),
    "neg": np.negative,
    "pow": _quiet(np.power),
    "min": np.minimum,
    "max": np.maximum,
    "clamp": lambda x, low, high: np.minimum(np.maximum(x, low), high),
    "exp": _quiet(np.exp),
    "log": _quiet(np.log),
    "sqrt": _quiet(np.sqrt),
    "abs": np.abs,
    "relu": lambda x: np.maximum(x, 0.0),
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "cos": _quiet(np.cos),
    "sin": _quiet(np.sin),
    "phi": _phi,
    "step": lambda x: np.where(x >= 0, 1.0, 0.0),
}
RELATIONS: Mapping[str, Callable[..., Array]] = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
    "==": np.equal,
    "!=": np.not_equal,
}
