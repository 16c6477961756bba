"""Hardware numbers on whole programs: the same bits from every model, and never a NaN."""

from dataclasses import replace

import numba
import numpy as np
import pytest

import archsim
import einsum_cascade as ec
from archsim import pe_operators
from archsim.arithmetic import exp_unit, functions
from archsim.base_two import scaled_at_load
from archsim.elements import random_inputs
from archsim.formats_study import table, unit_errors
from archsim.lowering import lower
from archsim.pe import simulate_pe
from archsim.placement import place
from archsim.program import FUNCTIONS
from archsim.values import compute
from einsum_cascade.format_kernels import unit_table
from einsum_cascade.formats import MULTIPLIERS, to_bf16


def program(mapping="fusemax", cascade="softmax-1pass", multipliers=None, exp=None, **sizes):
    chip = archsim.load_architecture("fusemax-4x4")
    arrays = []
    for array in chip.arrays:
        rows = tuple(
            replace(row, slots=exp[1], latency_cycles=exp[1], method=exp[0])
            if exp and row.operator == "exp"
            else row
            for row in array.operators
        )
        multiplier = (multipliers or {}).get(array.name, array.multiplier)
        arrays.append(replace(array, operators=rows, multiplier=multiplier))
    chip = replace(chip, arrays=tuple(arrays))
    what = ec.load(cascade) if isinstance(cascade, str) else cascade
    return lower(what, ec.workload(**sizes), chip, archsim.load_mapping(mapping))


SIZES = {"M": 23, "P": 11, "E": 6, "F": 5, "H": 2}


@pytest.mark.parametrize("multiplier", ["bf16", "fp32"])
@pytest.mark.parametrize(
    "exp",
    [("poly3", 3), ("poly6", 6), ("chord8", 1), ("shifted16", 1), ("fixed", 2), ("reference", 1)],
)
def test_registers_and_functional_model_give_the_same_bits(multiplier, exp):
    found = program(multipliers={"array_2d": multiplier, "array_1d": multiplier}, exp=exp, **SIZES)
    inputs = random_inputs(found)
    expected = compute(found, inputs)["AV"]
    run = simulate_pe(found, inputs, "hardware")
    assert np.array_equal(run.outputs["AV"], expected)
    assert np.array_equal(expected, expected.astype(np.float32))
    # Numbers change nothing about time.
    assert run.timeline.cycles == simulate_pe(found, inputs).timeline.cycles


@pytest.mark.parametrize("mapping", ["projection", "projection-ws"])
def test_matrix_products_add_in_the_order_of_the_array(mapping):
    found = program(mapping, "projection", N=9, S=10, D=11)
    inputs = random_inputs(found)
    expected = compute(found, inputs)["Z"]
    assert np.array_equal(simulate_pe(found, inputs, "hardware").outputs["Z"], expected)
    # By hand: products of bf16 are exact, sums round to fp32 one after the other.
    x, w = (to_bf16(inputs[name][0, 0]) for name in ("X", "W"))
    total = np.zeros((9, 10), np.float32)
    step = 11 if mapping == "projection" else 4
    for first in range(0, 11, step):
        part = np.zeros((9, 10), np.float32)
        for d in range(first, min(11, first + step)):
            part += (x[:, d, None] * w[d]).astype(np.float32)
        total = part if first == 0 else total + part
    assert np.array_equal(expected[0, 0], total)


@pytest.mark.parametrize("numbers", ["float64", "hardware"])
def test_a_query_that_sees_no_key_gives_zero(numbers):
    found = program(M=8, P=4, E=1, F=3)
    inputs = random_inputs(found)
    inputs["Q"] = np.ones_like(inputs["Q"])
    inputs["K"] = np.full_like(inputs["K"], -np.inf)
    for outputs in (compute(found, inputs, numbers), simulate_pe(found, inputs, numbers).outputs):
        assert np.array_equal(outputs["AV"], np.zeros((1, 1, 3, 4)))
    assert np.array_equal(
        ec.evaluate(ec.load("softmax-1pass"), sizes={"M0": 4}, **inputs)["AV"],
        np.zeros((1, 1, 3, 4)),
    )


@pytest.mark.parametrize("numbers", ["float64", "hardware"])
def test_masked_keys_and_outliers_never_give_nan(numbers):
    found = program(M=12, P=4, E=1, F=2)
    inputs = random_inputs(found)
    keys = inputs["K"]
    keys[..., 0, :4] = -np.inf  # a whole tile
    keys[..., 0, 7] = -np.inf
    keys[..., 0, 9] = 1e4
    keys[..., 0, 10] = -1e4
    inputs["Q"] = np.abs(inputs["Q"])
    for outputs in (compute(found, inputs, numbers), simulate_pe(found, inputs, numbers).outputs):
        assert np.isfinite(outputs["AV"]).all()
    run = simulate_pe(found, inputs, numbers)
    assert np.array_equal(run.outputs["AV"], compute(found, inputs, numbers)["AV"])


def test_hardware_numbers_are_close_to_the_cascade():
    """bf16 words: 8 significant bits in the logits' factors, each exponential and V."""
    found = program(M=64, P=16, E=16, F=16)
    inputs = random_inputs(found)
    exact = ec.evaluate(ec.load("softmax-1pass"), sizes={"M0": 4}, **inputs)["AV"]
    error = np.abs(compute(found, inputs)["AV"] - exact).max() / np.abs(exact).max()
    assert 2.0**-12 < error < 2.0**-6
    # With words of their own width the rest is fp32.
    assert np.abs(compute(found, inputs, "float64")["AV"] - exact).max() < 1e-14


def placed(cascade, mapping="fusemax-serial"):
    return place(
        cascade,
        ec.workload(M=8, P=4, E=4, F=4, M0=4),
        archsim.load_architecture("fusemax-4x4"),
        archsim.load_mapping(mapping),
    )


def test_log2_e_goes_into_what_is_scaled_at_load():
    assert scaled_at_load(placed(ec.load("softmax-1pass"))) == ("SQ",)
    text = str(ec.load("softmax-1pass"))
    # A logit that is not proportional to Q: the factor has no place at load.
    shifted = ec.parse(text.replace("QK[m1,m0,p] - RM", "QK[m1,m0,p] + 1 - RM"), name="shifted")
    assert scaled_at_load(placed(shifted)) is None
    found = lower(
        shifted,
        ec.workload(M=8, P=4, E=4, F=4, M0=4),
        archsim.load_architecture("fusemax-4x4"),
        archsim.load_mapping("fusemax-serial"),
    )
    with pytest.raises(archsim.ArchError, match="no tensor at load scales every exponent"):
        compute(found, random_inputs(found))


def test_exp_units_of_architectures():
    chip = archsim.load_architecture("fusemax")
    assert [exp_unit(array).name for array in chip.arrays] == ["poly6", "poly6"]
    array = chip.arrays[0]

    def with_exp(**changes):
        rows = tuple(
            replace(row, **changes) if row.operator == "exp" else row for row in array.operators
        )
        return replace(array, operators=rows)

    assert exp_unit(with_exp(slots=1)).name == "reference"
    assert exp_unit(with_exp(slots=1, method="poly4")).name == "poly4"
    with pytest.raises(archsim.ArchError, match="unknown exp unit 'poly9'"):
        exp_unit(with_exp(method="poly9"))
    with pytest.raises(archsim.ArchError, match="poly4 takes 4 slots"):
        exp_unit(with_exp(method="poly4"))


def test_the_study_of_formats():
    rows = unit_errors()
    errors = {(r.unit, r.multiplier, r.output): r.log2_error for r in rows}
    assert len(rows) == 15 * 2 * 6
    # The figure's message: degrees help with fp32 multipliers and not with bf16 ones.
    fp32 = [errors[f"poly{d}", "fp32", "fp32"] for d in (3, 4, 5, 6)]
    bf16 = [errors[f"poly{d}", "bf16", "fp32"] for d in (3, 4, 5, 6)]
    assert fp32 == sorted(fp32, reverse=True)
    assert fp32[-1] < -23
    assert all(-10 < error < -9 for error in bf16)
    text = table(rows)
    assert "poly6              -23.7     -8.1 (0.00%)        -9.6     -8.1 (0.41%)" in text


@numba.njit
def each(function, a, b, c, multiplier, method, constants):
    out = np.empty(len(a))
    for i in range(len(a)):
        out[i] = pe_operators.rounded(function, a[i], b[i], c[i], multiplier, method, constants)
    return out


@pytest.mark.parametrize("multiplier", ["bf16", "fp32"])
@pytest.mark.parametrize("name", ["mac", "add", "sub", "mul", "div", "max", "exp"])
def test_a_pe_computes_the_bits_of_the_formats(name, multiplier):
    """Any bits, ordinary numbers and every triple of special values: over a million operands."""
    generator = np.random.default_rng(11)
    raw = generator.integers(0, 2**32, (3, 550_000), dtype=np.uint64).astype(np.uint32)
    plain = generator.standard_normal((3, 550_000)).astype(np.float32)
    ends = [0, -0.0, 1, -1, np.inf, -np.inf, np.nan, 1e-40, 2.0**-126, 3e38]
    special = np.array(np.meshgrid(ends, ends, ends), dtype=np.float32).reshape(3, -1)
    a, b, c = np.concatenate([raw.view(np.float32), plain, special], axis=1)
    assert len(a) > 10**6
    array = replace(archsim.load_architecture("fusemax").arrays[1], multiplier=multiplier)
    unit = unit_table(exp_unit(array))
    number = FUNCTIONS.index(name)
    found = each(number, a, b, c, MULTIPLIERS.index(multiplier), *unit).astype(np.float32)
    operands = {"mac": (a, b, c), "exp": (a,)}.get(name, (a, b))
    expected = functions(array, "hardware")[name](*operands)
    assert np.array_equal(found.view(np.uint32), expected.view(np.uint32))
