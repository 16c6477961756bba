"""The scalar operators of a PE for numba, in float64 and in the hardware's numbers.

They are numbered by FUNCTIONS; arithmetic is total where the cascade language's is: 0 * inf = 0,
0 / 0 = 0 and -inf - -inf = -inf.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

from archsim.program import FUNCTIONS
from einsum_cascade import format_kernels as hardware

(
    MAC, ADD, SUB, MUL, DIV, MAX, MIN, EXP, COPY, NEG, LOG, SQRT, ABS, RELU, SIGMOID, TANH, COS,
    SIN, PHI, STEP, POW, FLOORDIV, DRAIN, LOAD,
) = range(len(FUNCTIONS))  # fmt: skip
# The multiplier of float64; others are those of format_kernels.
EXACT = -1

Floats = NDArray[np.float64]


@numba.njit(cache=True)
def compute(function: int, a: float, b: float, c: float) -> float:
    """One operator in float64."""
    if function in (MAC, MUL):
        product = a * b
        if (a == 0.0 and math.isinf(b)) or (b == 0.0 and math.isinf(a)):
            product = 0.0
        return product + c if function == MAC else product
    if function == ADD:
        return a + b
    if function == SUB:
        return -math.inf if a == -math.inf and b == -math.inf else a - b
    if function == DIV:
        if b != 0.0:
            return a / b
        if a == 0.0 or math.isnan(a):
            return a * 0.0
        return math.copysign(math.inf, a) * math.copysign(1.0, b)
    if function == MAX:
        return a if math.isnan(a) or a >= b else b
    if function == MIN:
        return a if math.isnan(a) or a <= b else b
    if function == POW:
        return float(a**b)
    if function == FLOORDIV:
        return math.floor(a / b) if b != 0.0 else math.nan
    return unary(function, a)


@numba.njit(cache=True)
def unary(function: int, a: float) -> float:
    """One operator of one argument; moves pass it on."""
    result = a
    if function == EXP:
        result = np.exp(a)
    elif function == NEG:
        result = -a
    elif function == LOG:
        result = np.log(a)
    elif function == SQRT:
        result = np.sqrt(a)
    elif function == ABS:
        result = abs(a)
    elif function == RELU:
        result = a if math.isnan(a) or a > 0.0 else 0.0
    elif function == SIGMOID:
        small = np.exp(-abs(a))
        result = 1.0 / (1.0 + small) if a >= 0 else small / (1.0 + small)
    elif function == TANH:
        result = np.tanh(a)
    elif function == COS:
        result = np.cos(a)
    elif function == SIN:
        result = np.sin(a)
    elif function == PHI:
        result = a + 1.0 if a > 0 else np.exp(min(a, 0.0))
    elif function == STEP:
        result = 1.0 if a >= 0 else 0.0
    return result


@numba.njit(cache=True)
def rounded(
    function: int, a: float, b: float, c: float, multiplier: int, method: int, table: Floats
) -> float:
    """One operator in hardware numbers; those without a unit of their own round once."""
    if function == MAC:
        return float(hardware.mac(a, b, c, multiplier))
    if function == ADD:
        return float(hardware.add(a, b))
    if function == SUB:
        return float(hardware.subtract(a, b))
    if function == MUL:
        return float(hardware.multiply(a, b, multiplier))
    if function == DIV:
        return float(hardware.divide(a, b))
    if function == MAX:
        return float(hardware.maximum(a, b))
    if function == EXP:
        return float(hardware.exp2(a, method, table, multiplier))
    return float(hardware.flush(compute(function, a, b, c)))
