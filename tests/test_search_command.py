"""`archsim gna --search`: what it prints, its JSON, and what it refuses."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import einsum_cascade as ec
from archsim.cli import app
from archsim.gna_reproduction import use_cases
from archsim.layer_search import search_layers
from archsim.tile_search import tile_shapes
from einsum_cascade.neighborhood_tiles import show_shape

PAGE = (Path(__file__).parents[1] / "docs" / "neighborhoods.md").read_text(encoding="utf-8")
ROWS = [
    tuple(cell.strip() for cell in line.strip("|\n").split("|"))
    for line in PAGE.partition("### The best run")[2].splitlines()
    if line.startswith("| ") and not line.startswith("| model")
]

LAYER = ("gna", "--shape", "24x40", "--window", "9x12", "--stride", "1x1", "--head-dim", "16")
SEARCH = (*LAYER, "--search", "cycles", "--strides", "1x1,3x4", "--runs", "2")


def run(*arguments):
    return CliRunner().invoke(app, arguments)


def test_the_best_run_in_json():
    done = run(*SEARCH, "--buffer", "128 KiB", "--json")
    assert done.exit_code == 0, done.exception
    found = json.loads(done.stdout)
    search = found["search"]
    best = search["runs"][0]
    # The tiles of the report, and the run, are those of the best.
    for name in ("stride", "q_tile", "kv_tile", "kv_tiling"):
        assert found[name] == best[name]
    assert found["simulated"]["cycles"] == best["cycles"]
    assert found["simulated"]["buffer_bytes"]["needed"] == best["buffer_bytes"] <= 128 * 1024
    assert [row["cycles"] for row in search["runs"]] == sorted(
        row["cycles"] for row in search["runs"]
    )
    assert len(search["runs"]) <= 2
    # Two strides, two tilings, and 9 x 9 shapes of 256 by 256.
    assert search["shapes"] == 2 * 2 * 9 * 9
    assert 0 <= search["gain"] < 1
    assert best["stride"] == [3, 4]


def test_least_energy_with_given_tiles():
    arguments = (*LAYER, "--q-tile", "16x16", "--kv-tile", "16x16", "--kv-tiling", "static")
    done = run(*arguments, "--search", "energy", "--json")
    assert done.exit_code == 0, done.exception
    search = json.loads(done.stdout)["search"]
    assert search["shapes"] == 1
    assert search["gain"] == 0
    energies = [row["energy_pj"] for row in search["runs"]]
    assert energies == sorted(energies)


def test_the_table_says_what_is_proven():
    done = run(*SEARCH)
    assert done.exit_code == 0, done.exception
    assert "Runs of the search for cycles, the best first" in done.stdout
    assert "324 strides, shapes and tilings" in done.stdout
    assert "any other choice gains" in done.stdout or "proven best" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*LAYER, "--buffer", "1 MiB"), "--buffer: is for --search\n  add --search cycles"),
        ((*LAYER, "--strides", "1x1"), "--strides: is for --search"),
        ((*LAYER, "--search", "cycle"), "unknown objective 'cycle'"),
        ((*SEARCH, "--hold", "4"), "--hold: is what --search chooses\n  limit --buffer"),
        ((*SEARCH, "--buffer", "1"), "--buffer: '1': not a number with a unit"),
        ((*SEARCH, "--buffer", "1 KiB"), "buffer: two key tiles need 57 KiB"),
        ((*LAYER, "--search", "cycles", "--strides", "1x"), "--strides: '1x' is no shape"),
        ((*LAYER, "--search", "cycles", "--strides", "10x1"), "--strides: 10 in dimension 0"),
    ],
)
def test_refused(arguments, message):
    done = run(*arguments)
    assert message in str(done.exception)


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, id=" ".join(row[:3]), marks=[pytest.mark.slow] * (row[2] == "2"))
        for row in ROWS
    ],
)
def test_the_page_shows_what_is_found(row):
    cases = {(case.label, show_shape(case.window)): case for case in use_cases()}
    case = cases[row[:2]]
    shapes = tile_shapes(256, len(case.shape))
    found = search_layers(
        case.with_stride(()),
        shapes,
        shapes,
        ec.workload(E=128, F=128),
        buffer_bytes=int(row[2]) * 2**20,
        most_runs=4,
    )
    choice, report = found.best.choice, found.best.report
    assert row[3:] == (
        f"{show_shape(choice.q_tile)}, {show_shape(choice.kv_tile)}",
        choice.kv_tiling,
        ", ".join(map(str, choice.q_order)),
        choice.policy,
        f"{choice.entries}",
        f"{report.cycles:,}",
        f"{report.energy_pj['total'] / 1e12:.2f}",
        f"{found.gain:.2%}",
    )


def test_the_page_has_its_rows():
    assert len(ROWS) == 6
