"""The FuseMax paper's evaluation of attention, value by value, and what follows from it.

Published values travel with the package (`workloads/papers`), with their source in every row;
nothing is computed from them. Tolerances are those of double precision: the closed forms are exact.
"""

import csv
from pathlib import Path

import pytest

import archsim
import einsum_cascade as ec
from archsim.comparison import published_points
from archsim.reproduction import CONFIGURATIONS, reproduce_fusemax

GOLDEN = Path(__file__).parent / "golden"
CONFIGURATION = {c.key: c for c in CONFIGURATIONS}
TOLERANCE = 1e-11


@pytest.fixture(scope="module")
def reproduction():
    return reproduce_fusemax()


def test_every_published_value_comes_out(reproduction):
    ours = {(p.model, p.seq_len, p.config): p for p in reproduction.points}
    metrics = {
        "latency": "latency_s",
        "traffic": "traffic_bytes",
        "util_1d": "util_1d",
        "util_2d": "util_2d",
    }
    compared = 0
    for (model, length, config, metric), value in published_points().items():
        if metric in metrics:
            point = ours[model, length, config]
            assert value == pytest.approx(getattr(point, metrics[metric]), rel=TOLERANCE), (
                model,
                length,
                config,
                metric,
            )
            compared += 1
    # 18 listed cases, 5 configurations, 4 metrics.
    assert 18 * 5 * 4 == compared
    # Energies of the same points, linear layers and the area sweep are compared too; whatever rests
    # on an exact form agrees, and the rest says what it was fitted to.
    assert reproduction.compared == 576
    assert all(d["reason"] for d in reproduction.deviations)


def test_headline_speedup(reproduction):
    assert reproduction.headlines["attention_speedup_vs_flat"] == pytest.approx(6.7226, abs=5e-5)
    assert reproduction.headlines["attention_speedup_vs_unfused"] == pytest.approx(
        10.0520, abs=5e-5
    )
    assert len(reproduction.points) == 5 * 4 * 6
    assert reproduction.is_the_papers


def test_a_wrong_published_value_is_reported(monkeypatch):
    """The comparison can fail: one value off by 1e-6 becomes a deviation."""
    key = ("BERT", 4096, "binding", "latency")
    published = dict(published_points())
    published[key] *= 1 + 1e-6
    monkeypatch.setattr("archsim.reproduction.published_points", lambda: published)
    found = reproduce_fusemax(["bert"], [4096])
    assert [d["metric"] for d in found.deviations if not d["reason"]] == ["latency"]
    assert not found.is_the_papers


def _listed_cycles():
    with (GOLDEN / "fusemax_einsum_cycles.csv").open() as file:
        rows = list(csv.DictReader(file))
    units = {"K": 2**10, "M": 2**20}
    for row in rows:
        length = int(row["seq_len"][:-1]) * units[row["seq_len"][-1]]
        yield row["model"], length, row["config"], row["metric"], row["value"]


def test_cycles_of_every_einsum_and_the_tiling_of_queries():
    """Kernel cycles of each Einsum, and P1 and P2, against values derived from the artifact."""
    placed = {}
    compared = 0
    for model, length, config, metric, value in _listed_cycles():
        key = (model, length, config)
        if key not in placed:
            c = CONFIGURATION[config]
            workload = ec.workload(model.lower(), M=length, P=length)
            placed[key] = archsim.run(c.cascade, workload, c.architecture, c.mapping).placed
        one = placed[key]
        if metric.startswith("cycles_"):
            cycles = {w.einsum: w.slots * one.batch for w in one.work}
            assert float(value) == cycles[metric.removeprefix("cycles_")]
        else:
            assert float(value) == dict(one.tiling.extents)[metric[:2]]
        compared += 1
    assert compared == 756


def hand_latency(config: str, E: int, F: int, M: int, P: int, heads: int, D: int) -> float:
    """The paper's closed forms written out again, for square arrays of D with D lanes.

    Derivation: a tile of D keys by D queries takes E slots for QK, 1 for LM, 6 + 1 for SLN, 1 for
    SLD and F for SLNV on the array; 1, 7, 1, 1, F, F for RM, PRM, SPD, RD, SPNV, RNV in the lanes,
    and F for AV once for each D queries.
    """
    tiles = heads * (M // D) * (P // D)
    division = F * heads * (P // D)
    if config == "binding":
        cycles = max(tiles * (E + 1), tiles * (1 + F) + division) + tiles * (1 + 8 + F)
    elif config == "arch":
        cycles = max(tiles * (E + 1), tiles + division) + tiles * (D + 1 + 8 + 2 * F)
    else:
        cycles = max(tiles * (E + F), tiles * (4 * D + 1 + 2 + 1 + 1 + 2 * F) + division)
    return cycles / 940e6


@pytest.mark.parametrize("config", ["binding", "arch", "cascade"])
@pytest.mark.parametrize(
    ("E", "F", "M", "P", "D"),
    [
        (64, 64, 2048, 8192, 256),
        (128, 32, 3072, 768, 256),
        (32, 96, 1024, 512, 64),
        (96, 64, 640, 1280, 128),
    ],
)
def test_other_sizes_and_arrays_follow_the_closed_form(config, E, F, M, P, D, resized):
    """Head sizes, lengths and array sizes that the paper does not have, compute-bound."""
    c = CONFIGURATION[config]
    arch = resized(c.architecture, rows=D, cols=D, lanes=D, bandwidth_bytes_per_s=10**15)
    workload = ec.workload(E=E, F=F, M=M, P=P, B=3, H=5)
    report = archsim.published(ec.load(c.cascade), workload, arch, archsim.load_mapping(c.mapping))
    assert report.latency_s == pytest.approx(hand_latency(config, E, F, M, P, 15, D), rel=1e-12)


def test_unlisted_lengths_use_the_next_choice_and_say_so():
    report = archsim.run(
        "softmax-3pass", ec.workload("bert", M=5120, P=5120), "flat", "flat", level="published"
    )
    assert "M=5120 is not listed, M=8192 is used" in report.mapping_source
    beyond = archsim.run(
        "softmax-3pass", ec.workload("bert", M=2**21, P=2**21), "flat", "flat", level="published"
    )
    assert "M=2097152 is not listed, M=1.04858e+06 is used" in beyond.mapping_source
    other_head = archsim.run(
        "softmax-3pass",
        ec.workload(E=80, F=80, M=4096, P=4096),
        "flat",
        "flat",
        level="published",
    )
    assert "E=80 is not listed, E=128 is used" in other_head.mapping_source


@pytest.mark.parametrize("config", CONFIGURATION)
@pytest.mark.parametrize("model", ["bert", "xlm"])
@pytest.mark.parametrize("length", [1024, 2048, 65536, 1048576])
def test_bound_is_below_the_closed_form(config, model, length):
    c = CONFIGURATION[config]
    workload = ec.workload(model, M=length, P=length)
    report = archsim.run(c.cascade, workload, c.architecture, c.mapping, level="published")
    assert report.lower_bound_cycles <= report.cycles
    for share in report.utilization.values():
        assert 0 < share <= 1 + 1e-12
    assert report.traffic_bytes["total"] == sum(report.traffic_bytes["by_tensor"].values())
