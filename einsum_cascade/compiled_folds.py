"""A row of numbers folded into one, in vectors of LLVM.

The order of a sum is fixed where a program adds one number after the other, so LLVM makes no
vectors of it. Here several vectors of sums run side by side, and are added at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from einsum_cascade.compiled_kernels import either
from einsum_cascade.compiled_symbols import BLOCK_BYTES

# Vectors that run side by side: an addition takes several cycles.
SIDE_BY_SIDE = 4
# Untyped: where a value lives in the function's frame.
local: Any = cgutils.alloca_once_value


def _fold(identity: float, combine: Callable[..., Any]) -> Any:
    """Fold a row, whose elements are next to each other, into a first value."""

    def typed(typing: Any, row: Any, first: Any) -> Any:
        size = row.dtype.bitwidth // 8
        lanes = BLOCK_BYTES // 2 // size

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            array = context.make_array(signature.args[0])(context, builder, value=arguments[0])
            base, word = array.data, context.get_value_type(types.intp)
            count = builder.extract_value(array.shape, 0)
            real = context.get_value_type(row.dtype)
            vector = ir.VectorType(real, lanes)
            zeros = {real: ir.Constant(real, 0.0), vector: ir.Constant(vector, [0.0] * lanes)}

            def add_to(place: Any, more: Any) -> None:
                builder.store(combine(builder, zeros[more.type], builder.load(place), more), place)

            def load(at: Any) -> Any:
                pointer = builder.bitcast(builder.gep(base, [at]), vector.as_pointer())
                found = builder.load(pointer)
                found.align = size
                return found

            def number(value: int) -> Any:
                return ir.Constant(word, value)

            total = local(builder, arguments[1])
            step = number(lanes * SIDE_BY_SIDE)
            whole = builder.udiv(count, step)
            with builder.if_then(builder.icmp_unsigned(">", whole, number(0))):
                start = ir.Constant(vector, [identity] * lanes)
                sums = [local(builder, start) for _ in range(SIDE_BY_SIDE)]
                with cgutils.for_range(builder, whole) as loop:
                    at = builder.mul(loop.index, step)
                    for i, place in enumerate(sums):
                        add_to(place, load(builder.add(at, number(i * lanes))))
                for place in sums[1:]:
                    add_to(sums[0], builder.load(place))
                for lane in range(lanes):
                    at = ir.Constant(ir.IntType(32), lane)
                    add_to(total, builder.extract_element(builder.load(sums[0]), at))
            done = builder.mul(whole, step)
            with cgutils.for_range(builder, builder.sub(count, done)) as loop:
                add_to(total, builder.load(builder.gep(base, [builder.add(done, loop.index)])))
            return builder.load(total)

        return row.dtype(row, row.dtype), generate

    return intrinsic(typed)


fold_sum: Any = _fold(0.0, lambda builder, zero, a, b: builder.fadd(a, b))
fold_max: Any = _fold(float("-inf"), either("<"))
fold_min: Any = _fold(float("inf"), either(">"))
# Reductions whose order does not matter.
FOLDED = ("sum", "max", "min")
