"""The scalar operators of the cascade language for numba, in float32 and float64.

They are those of `operators`, one value at a time: total where nothing is written as a number (0 *
inf = 0, 0 / 0 = 0, -inf - -inf = -inf), IEEE arithmetic everywhere else. All of them are free of
branches once LLVM has seen them, so that loops over them are vectorised.

exp is our own: x = n ln 2 + r with ln 2 in two parts (Cody and Waite), a polynomial for e**r, and n
added to the exponent. It is exactly 1 at 0, 0 at -inf, inf at inf, and 0 where the result would be
subnormal; tests state the largest error in units of the last place. float32 takes the coefficients
of Cephes' expf, float64 Taylor's, whose first neglected term is 4e-18.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload

# A float32 or float64, which numba types and mypy can not.
Real = Any

# In float32, so that they widen neither type.
ZERO, ONE = np.float32(0), np.float32(1)
# Without a way in from Python: nobody else calls these, and it takes as long to compile as they.
_INSIDE = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
# Division by zero is IEEE's, and polynomials may use fused multiply-adds.
_OPTIONS: Any = {"cache": True, "error_model": "numpy", **_INSIDE}
_Function = TypeVar("_Function", bound=Callable[..., Any])


def compiled(function: _Function) -> _Function:
    """Compile for use in compiled code."""
    return cast(_Function, njit(**_OPTIONS)(function))


def contracted(function: _Function) -> _Function:
    """The same, and a product may be added without being rounded."""
    return cast(_Function, njit(**_OPTIONS, fastmath={"contract"})(function))


def _typed_bits(typing: Any, value: Any) -> Any:
    """The bits of a float as an integer of its width, or the other way round."""
    other: Any = {
        types.float32: types.int32,
        types.float64: types.int64,
        types.int32: types.float32,
        types.int64: types.float64,
    }[value]

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(other))

    return other(value), generate


_bits: Any = intrinsic(_typed_bits)


def _typed_within(typing: Any, x: Any, low: Any, high: Any) -> Any:
    """X between two bounds; either bound for NaN."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value, low, high = arguments
        for sign, bound in ((">", low), ("<", high)):
            # In this form, and without NaN, it is one instruction.
            keeps = builder.fcmp_ordered(sign, value, bound, flags=("nnan", "nsz"))
            value = builder.select(keeps, value, bound)
        return value

    return x(x, low, high), generate


_within: Any = intrinsic(_typed_within)


@contracted
def exp32(x: Real) -> Real:
    """e**x in float32."""
    y = _within(x, np.float32(-87.33655), np.float32(88.72284))
    # Adding 1.5 * 2**23 leaves the nearest integer in the lowest bits.
    shifted = y * np.float32(1.4426950408889634) + np.float32(12582912)
    n = shifted - np.float32(12582912)
    r = y - n * np.float32(0.693359375)
    r = r - n * np.float32(-2.12194440e-4)
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    p = p * (r * r) + r + ONE
    p = _bits(np.int32(_bits(p) + (_bits(shifted) << np.int32(23))))
    p = ZERO if x < np.float32(-87.33655) else p
    return p if x < np.float32(88.72284) else x + np.float32(np.inf)


@contracted
def exp64(x: Real) -> Real:
    """e**x in float64."""
    y = _within(x, -708.3964185322641, 709.7827128933841)
    shifted = y * 1.4426950408889634 + 6755399441055744.0
    n = shifted - 6755399441055744.0
    r = y - n * 6.93147180369123816490e-01
    r = r - n * 1.90821492927058770002e-10
    p = 1 / 6227020800.0
    p = p * r + 1 / 479001600.0
    p = p * r + 1 / 39916800.0
    p = p * r + 1 / 3628800.0
    p = p * r + 1 / 362880.0
    p = p * r + 1 / 40320.0
    p = p * r + 1 / 5040.0
    p = p * r + 1 / 720.0
    p = p * r + 1 / 120.0
    p = p * r + 1 / 24.0
    p = p * r + 1 / 6.0
    p = p * r + 0.5
    p = p * (r * r) + r + 1.0
    p = _bits(np.int64(_bits(p) + (_bits(shifted) << 52)))
    p = 0.0 if x < -708.3964185322641 else p
    return p if x < 709.7827128933841 else x + np.inf


def exp(x: Real) -> Real:
    """e**x, in the width of x; for compiled code only."""
    raise NotImplementedError


@overload(exp, strict=False)
def _choose_width(x: Any) -> Callable[[Real], Real]:
    if x == types.float32:
        return lambda x: exp32(x)
    return lambda x: exp64(x)


def _operator(arity: int, generate: Callable[..., Any]) -> Any:
    """An operator as LLVM instructions: these are everywhere, and calls compile slowly."""

    def typed(typing: Any, *kinds: Any) -> Any:
        kind = types.float64 if types.float64 in kinds else types.float32

        def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pairs = zip(arguments, signature.args, strict=True)
            values = [context.cast(builder, value, own, kind) for value, own in pairs]
            return generate(builder, ir.Constant(context.get_value_type(kind), 0.0), *values)

        return kind(*kinds), write

    def one(typing: Any, a: Any) -> Any:
        return typed(typing, a)

    def two(typing: Any, a: Any, b: Any) -> Any:
        return typed(typing, a, b)

    return intrinsic(one if arity == 1 else two)


def _sub(builder: Any, zero: Any, a: Any, b: Any) -> Any:
    result = builder.fsub(a, b)
    both = builder.and_(builder.fcmp_ordered("<", a, zero), builder.fcmp_ordered("<", b, zero))
    # -inf less -inf is the one NaN between two negative numbers.
    lost = builder.and_(builder.fcmp_unordered("uno", result, result), both)
    return builder.select(lost, a, result)


def _mul(builder: Any, zero: Any, a: Any, b: Any) -> Any:
    result = builder.fmul(a, b)
    # Without a NaN on the way in, a NaN says that zero meets an infinity.
    given = builder.fcmp_ordered("ord", a, b)
    lost = builder.and_(builder.fcmp_unordered("uno", result, result), given)
    return builder.select(lost, zero, result)


def _div(builder: Any, zero: Any, a: Any, b: Any) -> Any:
    both = builder.and_(builder.fcmp_ordered("==", a, zero), builder.fcmp_ordered("==", b, zero))
    return builder.select(both, zero, builder.fdiv(a, b))


def either(sign: str) -> Callable[..., Any]:
    """The smaller (">") or the larger ("<") of two, NaN if either is."""

    def generate(builder: Any, zero: Any, a: Any, b: Any) -> Any:
        found = builder.select(builder.fcmp_ordered(sign, a, b), b, a)
        # A sum, so that what is stored is never what was read: that would become a masked store.
        return builder.select(builder.fcmp_unordered("uno", a, b), builder.fadd(a, b), found)

    return generate


# The total operators, and the smaller and the larger of two, NaN if either is.
add = _operator(2, lambda builder, zero, a, b: builder.fadd(a, b))
sub = _operator(2, _sub)
mul = _operator(2, _mul)
div = _operator(2, _div)
least = _operator(2, either(">"))
largest = _operator(2, either("<"))
neg = _operator(1, lambda builder, zero, a: builder.fneg(a))


@compiled
def absolute(x: Real) -> Real:
    """Without the sign."""
    return abs(x)


@compiled
def floordiv(a: Real, b: Real) -> Real:
    """A quotient rounded down, by way of the remainder as in NumPy."""
    if b == ZERO:
        return a / b
    rest = np.fmod(a, b)
    whole = (a - rest) / b
    if rest != ZERO and (b < ZERO) != (rest < ZERO):
        whole = whole - ONE
    return np.rint(whole) if whole == whole else whole


@compiled
def mod(a: Real, b: Real) -> Real:
    """What floordiv leaves; has the sign of b."""
    return np.remainder(a, b)


@compiled
def power(a: Real, b: Real) -> Real:
    """A power."""
    return np.power(a, b)


@compiled
def square(a: Real) -> Real:
    """A power of two."""
    return a * a


@compiled
def clamp(x: Real, low: Real, high: Real) -> Real:
    """Between two bounds; the higher one wins where they cross."""
    return least(largest(x, low), high)


@compiled
def log(x: Real) -> Real:
    """The natural logarithm."""
    return np.log(x)


@compiled
def sqrt(x: Real) -> Real:
    """The square root."""
    return np.sqrt(x)


@compiled
def relu(x: Real) -> Real:
    """0 for what is negative."""
    return largest(x, ZERO)


@compiled
def sigmoid(x: Real) -> Real:
    """1 / (1 + exp(-x)), without an overflow on either side."""
    small = exp(-abs(x))
    return (ONE if x >= ZERO else small) / (ONE + small)


@compiled
def tanh(x: Real) -> Real:
    """The hyperbolic tangent."""
    return np.tanh(x)


@compiled
def cos(x: Real) -> Real:
    """The cosine."""
    return np.cos(x)


@compiled
def sin(x: Real) -> Real:
    """The sine."""
    return np.sin(x)


@compiled
def phi(x: Real) -> Real:
    """elu(x) + 1."""
    return x + ONE if x > ZERO else exp(least(x, ZERO))


@compiled
def step(x: Real) -> Real:
    """1 from 0 on."""
    return ONE if x >= ZERO else ZERO


@compiled
def select(best: Real, which: Real, count: int, x: Real, at: int) -> int:
    """Put a value where it belongs among the best so far; ties keep their order, NaN comes last."""
    place = count
    while place > 0 and (x > best[place - 1] or (best[place - 1] != best[place - 1] and x == x)):
        place -= 1
    if place == len(best):
        return count
    count = min(count + 1, len(best))
    for i in range(count - 1, place, -1):
        best[i], which[i] = best[i - 1], which[i - 1]
    best[place], which[place] = x, at
    return count


@compiled
def exclude(present: Real, holds: Real) -> bool:
    """Empty the lanes where a check does not hold; True if there are any."""
    is_one = False
    for lane in range(present.shape[0]):
        is_one = is_one | (not holds[lane])
        present[lane] &= holds[lane]
    return is_one


@compiled
def anything(present: Real) -> bool:
    """True if a lane is not empty."""
    if present.shape[0] > 0 and present[0]:
        return True
    is_one = False
    for lane in range(present.shape[0]):
        is_one = is_one | present[lane]
    return is_one


@compiled
def extremes(values: Real) -> tuple[Real, Real, float, float, bool]:
    """A row in float64 and as words, its least and largest element, and whether words are all.

    Both extremes are NaN if any element is.
    """
    row, words = np.empty(len(values), np.float64), np.empty(len(values), np.int16)
    low, high, is_short, is_nan = np.inf, -np.inf, True, False
    for lane in range(len(values)):
        x = np.float64(values[lane])
        row[lane] = x
        low, high, is_nan = min(low, x), max(high, x), is_nan or bool(x != x)
        is_short = is_short and bool(abs(x) < 32768 and x == np.floor(x))
        words[lane] = np.int16(x) if is_short else 0
    if is_nan:
        return row, words, np.nan, np.nan, False
    return row, words, low, high, is_short


@compiled
def compare(to: Real, x: float, how: int, row: Real, words: Real, is_short: bool) -> None:
    """Which lanes of a row a number is >=, >, <=, <, == or != to; `how` counts these.

    Whole numbers are compared as the row's words, if those are all of it.
    """
    more, less, same = how in (0, 1), how in (2, 3), how in (0, 2, 4)
    if is_short and x == np.floor(x):
        _relate(to, np.int16(x), more, less, same, how == 5, words)
    else:
        _relate(to, x, more, less, same, how == 5, row)


@compiled
def _relate(to: Real, x: Real, more: bool, less: bool, same: bool, other: bool, row: Real) -> None:
    for lane in range(row.shape[0]):
        y = row[lane]
        to[lane] = (x > y) & more | (x < y) & less | (x == y) & same | (x != y) & other


@compiled
def keep(present: Real, to: Real, x: float, how: int, row: Real, words: Real,
         is_short: bool) -> bool:  # fmt: skip
    """Empty the lanes that `compare` does not hold for; True if there are any."""
    compare(to, x, how, row, words, is_short)
    return exclude(present, to)


@compiled
def outside(present: Real, low: int, high: int) -> bool:
    """Empty the lanes outside low <= lane < high; True if there are any."""
    for lane in range(min(low, present.shape[0])):
        present[lane] = False
    for lane in range(max(high, 0), present.shape[0]):
        present[lane] = False
    return low > 0 or high < present.shape[0]


@compiled
def start(row: Real, value: Real) -> None:
    """Set all lanes of a row."""
    for lane in range(row.shape[0]):
        row[lane] = value


@compiled
def copy(row: Real, values: Real) -> None:
    """Copy a row."""
    for lane in range(row.shape[0]):
        row[lane] = values[lane]


@compiled
def leave_nothing(row: Real, present: Real) -> None:
    """Set what is empty to -0.0, which adds nothing."""
    for lane in range(row.shape[0]):
        row[lane] = row[lane] if present[lane] else row.dtype.type(-0.0)


# The function of each operator by the operator's name.
FUNCTIONS = {
    "add": "add",
    "sub": "sub",
    "mul": "mul",
    "div": "div",
    "floordiv": "floordiv",
    "mod": "mod",
    "neg": "neg",
    "pow": "power",
    "min": "least",
    "max": "largest",
    "clamp": "clamp",
    "exp": "exp",
    "log": "log",
    "sqrt": "sqrt",
    "abs": "absolute",
    "relu": "relu",
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    "cos": "cos",
    "sin": "sin",
    "phi": "phi",
    "step": "step",
}
