"""What the shipped sweeps find: every one is run, and the documentation's claims are checked."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import archsim
import einsum_cascade as ec
from archsim.area_sweep import sweep_point
from archsim.sweeps.checking import check
from archsim.sweeps.definition import load_sweep, names
from archsim.sweeps.fronts import feasible
from archsim.sweeps.inputs import Inputs, bases

PAGE = (Path(__file__).parents[1] / "docs" / "sweeps.md").read_text()


@cache
def rows(name: str) -> tuple[dict[str, Any], ...]:
    return archsim.sweep(name).rows


def fastest(found: list[dict[str, Any]]) -> dict[str, Any]:
    return min(found, key=lambda row: (row["latency_s"], row["area_um2.total"]))


@pytest.mark.parametrize("name", names())
def test_shipped_sweeps_are_legal_described_and_documented(name: str) -> None:
    sweep = load_sweep(name)
    check(sweep, Inputs(bases(sweep)))
    assert len(sweep.description) > 20
    assert f"`{name}`" in PAGE


@pytest.mark.parametrize("name", sorted(set(names()) - {"pass-cliffs"}))
def test_every_point_runs(name: str) -> None:
    assert [row["error"] for row in rows(name) if row["error"]] == []


def test_the_area_sweep_is_the_paper_s() -> None:
    assert len(rows("fusemax-area")) == 24
    for row in rows("fusemax-area"):
        workload = ec.workload(row["model"], M=262144, P=262144)
        expected = sweep_point(workload, row["arch.array_2d.rows"])
        assert row["latency_s"] == pytest.approx(expected.latency_s, rel=1e-12)
        assert row["area_um2.by_component.array_2d"] == pytest.approx(
            expected.array_2d_area_um2, rel=1e-12
        )
        assert row["area_um2.total"] == pytest.approx(expected.area_um2, rel=1e-12)
        assert row["buffer_bytes.capacity"] == expected.buffer_bytes


def test_an_aspect_with_as_many_lanes_as_columns_is_as_fast_as_any() -> None:
    found = list(rows("array-aspect"))
    best = min(row["latency_s"] for row in found)
    for row in found:
        enough = row["arch.array_1d.lanes"] >= row["arch.array_2d.cols"]
        assert (row["latency_s"] < 1.01 * best) == enough


def test_cliffs_of_passes() -> None:
    """With all keys on chip passes are free; without, three cost up to four times one."""
    by_key = {
        (row["cascade"], row["sizes.M"], row["buffer_bytes.capacity"]): row
        for row in rows("pass-cliffs")
        if not row["error"]
    }
    ratios = {}
    for (cascade, length, capacity), row in by_key.items():
        assert row["traffic_bytes.total"] >= row["traffic_bytes.bound"]
        other = by_key.get(("softmax-1pass", length, capacity))
        if cascade == "softmax-3pass" and other:
            ratio = row["traffic_bytes.total"] / other["traffic_bytes.total"]
            ratios[length, capacity] = ratio
            # K and V of a head, 64 words of 2 bytes each, and room for a row.
            if capacity >= length * 256 * 1.01:
                assert ratio == 1
    assert max(ratios.values()) == pytest.approx(float(_claim("three passes move up to")), abs=0.05)
    # Too small a buffer for a tile of 256 keys is the only failure.
    failed = {row["arch.buffer.capacity"] for row in rows("pass-cliffs") if row["error"]}
    assert failed == {"64 KiB"}


def _claim(before: str) -> str:
    """The number that the documentation says behind some words."""
    found = re.search(re.escape(before) + r"\s+([\d.,]+\d)", PAGE.replace("\n", " "))
    assert found, before
    return found[1].replace(",", "")


def test_better_units_for_exp_cost_little_and_stop_helping() -> None:
    for length in (1024, 8192):
        for kind in ("bf16", "fp32"):
            own = [
                r for r in rows("numbers") if (r["sizes.M"], r["numbers.format"]) == (length, kind)
            ]
            assert [row["numbers.exp"] for row in own] == [f"poly{n}" for n in range(3, 8)]
            latencies = [row["latency_s"] for row in own]
            assert latencies == sorted(latencies)
            errors = [row["error_rms"] for row in own]
            if kind == "fp32":
                assert errors[0] > 100 * errors[-1]
            else:
                # Words of bf16 decide from degree 5 on.
                assert errors[2] < 1.3 * errors[-1]


def test_the_stride_of_the_query_tile_is_the_best() -> None:
    held = {
        r["neighborhood.stride"]: r for r in rows("gna-strides") if r["neighborhood.hold"] == 30
    }
    best = min(row["cycles"] for row in held.values())
    assert held["16x16"]["cycles"] == best
    # A stride below the query tile gains nothing: its tiles visit the same keys.
    assert held["1x1"]["cycles"] == held["8x8"]["cycles"] > 1.5 * best
    streamed = {
        r["neighborhood.stride"]: r for r in rows("gna-strides") if r["neighborhood.hold"] == 2
    }
    assert all(streamed[s]["cycles"] >= held[s]["cycles"] for s in held)


@pytest.mark.parametrize("length", [4096, 65536])
def test_the_answer_at_the_same_area(length: int) -> None:
    sweep = load_sweep("same-area")
    found = [r for r in rows("same-area") if r["sizes.M"] == length]
    allowed = [row for row in found if feasible(row, sweep.constraints)]
    best = {
        label: fastest([row for row in allowed if row["label"] == label])
        for label in ("FuseMax", "fused update", "FLAT")
    }
    published = next(
        row
        for row in found
        if (row["label"], row["arch.array_2d.rows"], row["arch.array_2d.cols"])
        == ("FuseMax", 256, 256)
        and (row["arch.array_1d.lanes"], row["arch.buffer.capacity"]) == (256, "16 MiB")
    )
    for label, row in best.items():
        line = _table_line(f"{length:,}", label)
        assert line[2] == f"{row['arch.array_2d.rows']} x {row['arch.array_2d.cols']}"
        assert line[3] == f"{row['arch.array_1d.lanes']:,}"
        assert line[4] == row["arch.buffer.capacity"]
        assert line[5] == f"{row['latency_s'] * 1e3:,.1f} ms"
        assert line[6] == f"{published['latency_s'] / row['latency_s']:.2f}"
        assert line[7] == f"{row['area_um2.total'] / 1e6:.1f}"


def _table_line(*starts: str) -> list[str]:
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and tuple(cells[: len(starts)]) == starts:
            return cells
    raise AssertionError(f"no line {starts} in docs/sweeps.md")


def test_simulated_cycles_confirm_the_bounds_and_latencies_decide() -> None:
    found = {
        (
            row["sizes.M"],
            row["label.exp"],
            row["label.latency"],
            row["arch.array_2d.cols"],
            row["arch.buffer.capacity"],
        ): row
        for row in rows("same-area-cycles")
    }
    for (_, _, latency, _, _), row in found.items():
        if latency == "results after 1 cycle":
            assert row["cycles"] < 1.01 * row["lower_bound_cycles"]
    plain, after = "exp in the multiplier", "results after 4 cycles"
    one = found[65536, plain, "results after 1 cycle", 256, "16 MiB"]
    slow = found[65536, plain, after, 256, "16 MiB"]
    assert f"{slow['cycles'] / one['cycles']:.2f}" == _claim("the same machine takes")
    # A unit of its own for exp is not faster, since the lanes set the pace, and 2.5 times as large.
    unit = found[65536, "exp unit", "results after 1 cycle", 256, "16 MiB"]
    assert unit["cycles"] == one["cycles"]
    assert unit["area_um2.total"] > 2.5 * one["area_um2.total"]
