"""Layers on arrays of three sizes: the page's table, whole layers, and how much lands at a time."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

import einsum_cascade as ec
from archsim import gna_arrays
from archsim.arch import load_architecture, with_shape
from archsim.cli import app
from archsim.gna_arrays import ARRAYS, Row, cells, machine, on_array, table
from archsim.gna_reproduction import use_cases
from archsim.neighborhood_run import lower_neighborhood, run_neighborhood
from archsim.simulation import simulate
from einsum_cascade.neighborhood import Neighborhood
from einsum_cascade.neighborhood_tiles import read_shape, show_shape

PAGE = (Path(__file__).parents[1] / "docs" / "neighborhoods.md").read_text(encoding="utf-8")
ROWS = [
    tuple(cell.strip() for cell in line.strip("|\n").split("|"))
    for line in PAGE.partition("### On arrays of three sizes")[2].splitlines()
    if line.startswith("| ") and line.count("|") == 15 and "window" not in line
]
CASES = {(case.label, show_shape(case.window)): case for case in use_cases()}


def names(row) -> str:
    return " ".join(row[:4])


def weight(row):
    """Many small tiles, and a million large ones, take seconds each."""
    is_slow = row[3] == "64 x 64" or row[1] == "30x40x40"
    return [pytest.mark.slow] if is_slow else []


@pytest.mark.parametrize("row", [pytest.param(r, id=names(r), marks=weight(r)) for r in ROWS])
def test_the_page_shows_what_runs(row):
    model, window, stride, array = row[:4]
    columns, rows = map(int, array.split(" x "))
    streamed, held = on_array(CASES[model, window], read_shape(stride), columns, rows)
    assert cells(streamed, held) == row


def test_the_page_has_every_row():
    expected = [
        (case.label, show_shape(case.window), show_shape(stride), f"{columns} x {rows}")
        for case in use_cases()
        for stride in (case.strides[0], case.strides[-1])
        for columns, rows in ARRAYS
    ]
    assert [row[:4] for row in ROWS] == expected


def numbers(text):
    return [float(part.replace(",", "")) for part in text.split(" / ")]


@pytest.mark.parametrize("row", ROWS, ids=names)
def test_what_the_page_says_of_its_rows(row):
    """Bounds hold, holding never costs, and only large square arrays wait for memory."""
    cycles, bounds, used = numbers(row[8]), numbers(row[9]), numbers(row[11])
    assert all(0 <= c / b - 1 < 0.005 for c, b in zip(cycles, bounds, strict=True))
    assert cycles[1] <= cycles[0]
    assert all(share <= float(row[10]) for share in used)
    streams_from = "dram" if row[3] == "256 x 256" else "array_1d"
    assert row[12].split(" / ")[0] == streams_from


def test_heads_multiply_what_is_moved_and_spent():
    neighborhood = Neighborhood((24, 20), (9, 6), (3, 2))
    tiles = neighborhood.tiles((4, 4), (4, 2))
    reports = [
        run_neighborhood(
            lower_neighborhood(
                neighborhood, tiles, ec.workload(H=heads, E=8, F=8), machine(16, 8, 8), entries=5
            )
        )
        for heads in (1, 7)
    ]
    one, seven = reports
    for tensor, amount in one.traffic_bytes["by_tensor"].items():
        assert seven.traffic_bytes["by_tensor"][tensor] == 7 * amount
    assert seven.energy_pj["total"] == pytest.approx(7 * one.energy_pj["total"], rel=1e-12)
    assert seven.lower_bound_cycles == 7 * one.lower_bound_cycles
    assert seven.lower_bound_cycles < seven.cycles < 7 * one.cycles


@pytest.mark.parametrize(
    ("rows", "most"), [(16, 313), (64, 289), (128, 257), (256, 256)], ids=lambda n: str(n)
)
def test_fewer_rows_hide_fewer_words_on_their_way(rows, most):
    """What docs/schedule.md says of landing FIFOs, with all keys of a head in the buffer."""
    neighborhood = Neighborhood((2048,), (1024,), (256,))
    tiles = neighborhood.tiles((64,), (rows,))
    sizes = ec.workload(H=2, E=128, F=128)
    chip = machine(64, rows, 128)
    program = lower_neighborhood(neighborhood, tiles, sizes, chip, entries=4096 // rows)
    assert dict(simulate(program).occupancy)["SLNV@landing"] == most


@pytest.mark.parametrize("rows", [1, 2, 7])
@pytest.mark.parametrize("dims", [(1, 1), (3, 5), (8, 8), (2, 32)])
def test_three_tiles_of_words_always_have_room(rows, dims):
    neighborhood = Neighborhood((40,), (13,), (3,))
    tiles = neighborhood.tiles((4,), (rows,))
    sizes = ec.workload(H=2, E=dims[0], F=dims[1])
    program = lower_neighborhood(neighborhood, tiles, sizes, machine(4, rows, dims[1]), entries=9)
    assert dict(simulate(program).occupancy)["SLNV@landing"] <= 3 * dims[1]


def test_the_machine_is_fusemax_but_for_its_size_and_landing():
    chip = machine(256, 256, 128)
    base = load_architecture("fusemax")
    lanes = chip.array("array_1d")
    assert lanes.landing_entries == 384
    assert replace(lanes, landing_entries=256) == base.array("array_1d")
    assert chip.array("array_2d") == base.array("array_2d")
    assert with_shape(base, 128, 256).array("array_2d") == machine(256, 128, 64).array("array_2d")


def example(held):
    more = {"cycles": 1_000_000 - held, "reads": 1.0 / held, "energy_pj": 2e12}
    words = ["FLUX", "8x8", "2x2", "4 x 4", "2x2", "2x2"]
    fixed = {"dram_bytes": 2**30, "lower_bound_cycles": 999_000, "bottleneck": "dram"}
    return Row(*words, held, held * 2**20, visible=0.5, utilization=0.25, **(fixed | more))


def test_table_shows_streamed_and_held():
    text = table([example(2), example(8)])
    assert "999,998 / 999,992" in text
    assert "0.50 / 0.12" in text
    assert "2.0 / 8.0" in text


def test_study_and_reproduction_have_the_rows(monkeypatch):
    monkeypatch.setattr(gna_arrays, "gna_arrays", lambda say: [example(2), example(8)])
    done = CliRunner().invoke(app, ["study", "gna-arrays", "--json"])
    assert done.exit_code == 0
    rows = json.loads(done.stdout)["rows"]
    assert [row["held_tiles"] for row in rows] == [2, 8]
    done = CliRunner().invoke(app, ["reproduce", "gna", "--simulate", "--json"])
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert found["simulated"] == rows
    assert {"use_cases", "arrays", "residency"} < found.keys()


def test_study_draws_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(gna_arrays, "gna_arrays", lambda say: [])
    done = CliRunner().invoke(app, ["study", "gna-arrays", "-o", str(tmp_path)])
    assert "the study gna-arrays draws nothing" in str(done.exception)


def test_only_gna_is_simulated():
    done = CliRunner().invoke(app, ["reproduce", "fusemax", "--simulate"])
    assert "--simulate" in str(done.exception)
    assert "is for gna" in str(done.exception)
