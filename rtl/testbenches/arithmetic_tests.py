"""Runs in the simulator: arithmetic leaves against einsum_cascade.formats, bit for bit."""

import os

import cocotb
import numpy as np
from cocotb.triggers import Timer

from einsum_cascade import formats

N = int(os.environ["BENCH_N"])
OPERATIONS = {
    "word": lambda a, _: formats.to_bf16(a),
    "add": formats.add,
    "sub": formats.subtract,
    "mul_bf16": lambda a, b: formats.multiply(a, b, "bf16"),
    "mul_fp32": lambda a, b: formats.multiply(a, b, "fp32"),
    "max": formats.maximum,
    "div": formats.divide,
}


async def compare(dut, a, b) -> None:
    """Drive all pairs, N at a time, and compare every output's bits."""
    expected = {name: operation(a, b).view(np.uint32) for name, operation in OPERATIONS.items()}
    for first in range(0, len(a) - len(a) % N, N):
        span = slice(first, first + N)
        dut.a.value = int.from_bytes(a[span].tobytes(), "little")
        dut.b.value = int.from_bytes(b[span].tobytes(), "little")
        await Timer(1, "ns")
        for name, values in expected.items():
            bits = getattr(dut, name).value.to_unsigned().to_bytes(4 * N, "little")
            found = np.frombuffer(bits, dtype=np.uint32)
            if not np.array_equal(found, values[span]):
                at = int(np.flatnonzero(found != values[span])[0])
                raise AssertionError(
                    f"{name}({a[span][at]!r}, {b[span][at]!r}) = {found[at]:08x}, "
                    f"formats say {values[span][at]:08x}"
                )


def pad(values):
    """Repeat operands up to a multiple of N."""
    return np.resize(values, -(-len(values) // N) * N)


@cocotb.test()
async def special_values(dut):
    """Every pair of zeros, infinities, NaN, smallest and largest numbers, and their neighbours."""
    ends = [0.0, 1.0, 1.5, 2.0**-126, 2.0**127, np.inf, 1e-40, 3.4028235e38, 1 + 2.0**-23]
    ends += [2.0**-63, 2.0**-64, 1 - 2.0**-24, 2 - 2.0**-23, 1 + 2.0**-8, 1 + 2.0**-7]
    values = np.array([*ends, *(-x for x in ends), np.nan], dtype=np.float32)
    a, b = (grid.ravel() for grid in np.meshgrid(values, values))
    await compare(dut, pad(a), pad(b))


@cocotb.test()
async def any_bits(dut):
    """Any 32 bits against any 32 bits."""
    count = int(os.environ["BENCH_COUNT"])
    generator = np.random.default_rng(21)
    bits = generator.integers(0, 2**32, (2, count), dtype=np.uint64).astype(np.uint32)
    await compare(dut, *(pad(row.view(np.float32)) for row in bits))


@cocotb.test()
async def ordinary_numbers(dut):
    """Numbers of like size: cancellation, carries and ties happen often."""
    count = int(os.environ["BENCH_COUNT"])
    generator = np.random.default_rng(22)
    a = generator.standard_normal(count).astype(np.float32)
    b = generator.standard_normal(count).astype(np.float32)
    half = count // 2
    # Close to cancelling, and short significands whose sums and products end in ties.
    b[:half] = -a[:half] * (1 + generator.integers(-4, 5, half) * 2.0**-23).astype(np.float32)
    a[half:] = formats.to_bf16(a[half:])
    await compare(dut, pad(a), pad(b))


@cocotb.test()
async def around_the_smallest_number(dut):
    """Products and quotients next to 2**-126, where one place less is left to round."""
    count = int(os.environ["BENCH_COUNT"])
    generator = np.random.default_rng(23)
    mantissas = 2 - generator.integers(1, 64, (2, count)) * 2.0**-23
    mantissas[:, count // 2 :] = 1 + generator.integers(0, 64, (2, count - count // 2)) * 2.0**-23
    split = generator.integers(20, 108, count)
    a = np.ldexp(mantissas[0], -split).astype(np.float32)
    b = np.ldexp(mantissas[1], split - 127 - generator.integers(0, 3, count)).astype(np.float32)
    await compare(dut, pad(a), pad(b))
    await compare(dut, pad(a), pad((1 / b.astype(np.float64)).clip(0, 3e38).astype(np.float32)))
