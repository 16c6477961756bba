"""`archsim gna --search`: what it prints, its JSON, and what it refuses."""

import json

import pytest
from typer.testing import CliRunner

from archsim.cli import app

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
