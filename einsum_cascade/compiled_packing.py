"""Copies of operands of contractions, next to each other, in vectors of LLVM.

numba reads an array element by element, since an index might be negative; a copy written that way
takes longer than the products it is for.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from einsum_cascade.compiled_kernels import Real, compiled
from einsum_cascade.compiled_symbols import BLOCK_BYTES

# Rows of the kernel.
FEW = 6


def _wide(context: Any, builder: Any, kind: Any, value: Any, at: Any, count: int) -> Any:
    """The address of so many elements of a flat array, as one vector."""
    data = context.make_array(kind)(context, builder, value=value).data
    vector = ir.VectorType(context.get_value_type(kind.dtype), count)
    return builder.bitcast(builder.gep(data, [at]), vector.as_pointer())


def _load(builder: Any, place: Any, size: int) -> Any:
    found = builder.load(place)
    found.align = size
    return found


def _move(count_of: Any) -> Any:
    """Copy neighbours, as many as `count_of` says for elements of so many bytes."""

    def typed(typing: Any, to: Any, at: Any, x: Any, source: Any) -> Any:
        size = to.dtype.bitwidth // 8
        count = count_of(size)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            to, at, x, source = arguments
            of_to, _, of_x, _ = signature.args
            found = _load(builder, _wide(context, builder, of_x, x, source, count), size)
            builder.store(found, _wide(context, builder, of_to, to, at, count)).align = size
            return context.get_dummy_value()

        return types.void(to, types.intp, x, types.intp), generate

    return intrinsic(typed)


move_block: Any = _move(lambda size: BLOCK_BYTES // size)
move_few: Any = _move(lambda size: FEW)


def _typed_turn(typing: Any, to: Any, at: Any, step: Any, x: Any, source: Any, pitch: Any) -> Any:
    """to[at + k*step + i] = x[source + i*pitch + k], for i and k of a vector of AVX2."""
    size = to.dtype.bitwidth // 8
    count = BLOCK_BYTES // 2 // size

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        to, at, step, x, source, pitch = arguments
        of_to, of_x = signature.args[0], signature.args[3]

        def number(i: int) -> Any:
            return ir.Constant(at.type, i)

        rows = []
        for i in range(count):
            place = builder.add(source, builder.mul(pitch, number(i)))
            rows.append(_load(builder, _wide(context, builder, of_x, x, place, count), size))
        half = count // 2
        # Swap the blocks beside the diagonal, of half the size each time.
        while half:
            low = [j if not j & half else count + j - half for j in range(count)]
            high = [j + half if not j & half else count + j for j in range(count)]
            masks = [
                ir.Constant(ir.VectorType(ir.IntType(32), count), mask) for mask in (low, high)
            ]
            for i in range(count):
                if not i & half:
                    pair = rows[i], rows[i + half]
                    rows[i] = builder.shuffle_vector(*pair, masks[0])
                    rows[i + half] = builder.shuffle_vector(*pair, masks[1])
            half //= 2
        for k, row in enumerate(rows):
            place = builder.add(at, builder.mul(step, number(k)))
            builder.store(row, _wide(context, builder, of_to, to, place, count)).align = size
        return context.get_dummy_value()

    index = types.intp
    return types.void(to, index, index, x, index, index), generate


turn: Any = intrinsic(_typed_turn)


@compiled
def turn_over(to: Real, x: Real) -> None:
    """to[i, k] = x[k, i] for all of x, whose last axis is unit in memory, as is that of `to`."""
    few, span = BLOCK_BYTES // 2 // x.itemsize, 64
    step, pitch = to.strides[0] // x.itemsize, x.strides[0] // x.itemsize
    n, lanes = x.shape[1], x.shape[0]
    whole = lanes // few * few
    for start in range(0, n, span):
        end = min(start + span, n)
        turned = start + (end - start) // few * few
        for k in range(0, whole, few):
            for i in range(start, turned, few):
                turn(to, i * step + k, step, x, k * pitch + i, pitch)
        for k in range(whole, lanes):
            for i in range(start, turned):
                to[i, k] = x[k, i]
        for k in range(lanes):
            for i in range(turned, end):
                to[i, k] = x[k, i]


@compiled
def pack_rows(to: Real, x: Real, at: int, xk: int, xi: int, n: int, rows: int) -> None:
    """to[i // FEW][k][i % FEW] = x[at + k*xk + i*xi]; `to` has room for a whole last block."""
    whole = rows // FEW if xi == 1 else 0
    for k in range(n):
        for block in range(whole):
            move_few(to, (block * n + k) * FEW, x, at + k * xk + block * FEW)
    for i in range(whole * FEW, rows):
        base = i // FEW * n * FEW + i % FEW
        for k in range(n):
            to[base + k * FEW] = x[at + k * xk + i * xi]


@compiled
def pack_lanes(to: Real, x: Real, at: int, xk: int, xl: int, n: int, width: int) -> None:
    """to[lane // lanes][k][lane % lanes] = x[at + k*xk + lane*xl], and zeros after the last."""
    lanes = BLOCK_BYTES // x.itemsize
    whole = width // lanes
    if xl == 1:
        for k in range(n):
            for block in range(whole):
                move_block(to, (block * n + k) * lanes, x, at + k * xk + block * lanes)
    else:
        few = lanes // 2
        turned = n // few * few if xk == 1 else 0
        for k in range(0, turned, few):
            for half in range(2 * whole):
                base = (half // 2 * n + k) * lanes + half % 2 * few
                turn(to, base, lanes, x, at + k + half * few * xl, xl)
        for lane in range(whole * lanes):
            base = lane // lanes * n * lanes + lane % lanes
            for k in range(turned, n):
                to[base + k * lanes] = x[at + k * xk + lane * xl]
    if whole * lanes < width:
        base = whole * n * lanes
        for k in range(n):
            for lane in range(lanes):
                inside = whole * lanes + lane < width
                source = at + k * xk + (whole * lanes + lane) * xl
                to[base + k * lanes + lane] = x[source] if inside else 0
