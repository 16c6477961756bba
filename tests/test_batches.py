"""Many points at once give what one at a time gives."""

import math
from dataclasses import replace

import numpy as np
import pytest

import archsim
import einsum_cascade as ec
from archsim.arch import with_shape
from archsim.batches import Point, evaluate_each

CHIP = archsim.load_architecture("fusemax-4x4")


def faster(chip, gib_per_s, clock_hz=None, latency_ns=None):
    """The same chip with a memory and a clock of another speed."""
    outer = replace(chip.outer, bandwidth_bytes_per_s=gib_per_s * 2**30)
    if latency_ns is not None:
        outer = replace(outer, latency_ns=latency_ns)
    memories = tuple(outer if memory.parent is None else memory for memory in chip.memories)
    return replace(chip, memories=memories, clock_hz=clock_hz or chip.clock_hz)


def mixed():
    """Points of several families, not sorted: sizes, shapes, speeds, cascades, phases."""
    found = []
    for M, P in ((16, 8), (23, 9), (160, 40)):
        sizes = ec.workload(E=4, F=3, M=M, P=P, H=2)
        for rate in (1, 4, 400):
            found.append(("softmax-1pass", sizes, faster(CHIP, rate), "fusemax"))
            found.append(("causal-1pass", sizes, faster(CHIP, rate, 2 * 10**9, 35), "fusemax"))
        found.append(("softmax-1pass", sizes, with_shape(CHIP, 8, 8), "fusemax"))
    even = ec.workload(E=4, F=4, M=16, P=8)
    for rate in (1, 50):
        found.append(("softmax-3pass", even, faster(CHIP, rate), "spilled-3pass"))
        found.append(("linear-attention", even, faster(CHIP, rate), "linear-attention"))
    return found[::2] + found[1::2]


@pytest.mark.parametrize("level", ["tile", "bound"])
def test_points_one_at_a_time_say_the_same(level):
    points = [Point(*point) for point in mixed()]
    found = archsim.evaluate_many(points, level)
    assert not any(found["error"])
    reports = dict(evaluate_each(points, level))
    for number, point in enumerate(points):
        alone = archsim.run(*point, level=level)
        assert reports[number] == alone, point
        assert found["cycles"][number] == alone.cycles
        assert found["energy_pj.total"][number] == alone.energy_pj["total"]
        assert found["utilization.array_2d"][number] == alone.utilization["array_2d"]
    assert found["cycles"].dtype == np.int64


def test_what_some_points_lack_is_not_a_number():
    sizes = ec.workload(E=4, F=4, M=16, P=8)
    points = [
        ("softmax-1pass", sizes, "fusemax-4x4", "fusemax"),
        ("softmax-1pass", sizes, "fusemax-4x4", "no-such-mapping"),
        ("softmax-1pass", ec.workload(E=4), "fusemax-4x4", "fusemax"),
    ]
    found = archsim.evaluate_many(points, level="tile")
    assert math.isnan(found["cycles"][1])
    assert math.isnan(found["cycles"][2])
    assert found["cycles"][0] > 0
    first, second, third = found["error"]
    assert first == ""
    assert "no-such-mapping" in second
    assert "the size of ranks F, P, M is not set" in third


def test_no_points_give_no_columns():
    assert list(archsim.evaluate_many([])) == ["error"]


def test_unknown_levels_are_refused():
    with pytest.raises(archsim.ArchError, match=r"unknown level 'til'(.|\n)*tile"):
        archsim.evaluate_many([], level="til")
