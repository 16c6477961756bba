"""`archsim gna`, `archsim reproduce gna`: the paper's values, JSON, messages and figures."""

import json
import re

import numpy as np
import pytest

import einsum_cascade as ec
from archsim.gna_reproduction import reproduce_gna, use_cases
from archsim.neighborhood_pictures import visited_map

HUNYUAN = ("gna", "--shape", "30x48x80", "--window", "18x24x24")
TILES = ("--q-tile", "4x8x8", "--kv-tile", "2x8x8")


@pytest.fixture(scope="module")
def result():
    return reproduce_gna()


# ---- the paper ----


def test_end_to_end_values_of_the_paper(result):
    """Unrounded, as they come: within 0.008 where the authors say the tiles, else 0.016."""
    assert len(result.points) == 33
    tolerance = {"printed": 0.008, "inferred": 0.016}
    for point in result.points:
        assert abs(point.difference) <= tolerance[point.case.tile_status], point
    assert 16 == sum(point.case.tile_status == "printed" for point in result.points)
    # What is reached is better; the rounding of two decimals alone is 0.005.
    assert result.largest_difference("printed") < 0.0057
    assert result.largest_difference("inferred") < 0.0153


def test_counting_flops_is_the_papers(result):
    """Apart from Cosmos, whose share of attention is only known to be above 99 % of 58.7 %."""
    for point in result.points:
        tolerance = 0.006 if point.case.name == "cosmos7b" else 0.005
        assert abs(point.e2e_flopwise - dict(point.published)["e2e_flopwise"]) <= tolerance


def test_the_mean_over_tiles_is_not_what_the_paper_reports(result):
    """Its simulator takes the worst query tile: HunyuanVideo at stride 1 refutes the mean."""
    point = next(p for p in result.points if p.case.window == (18, 24, 24) and p.dense_steps == 0)
    assert point.stride == (1, 1, 1)
    assert point.e2e_bound == pytest.approx(1.73, abs=0.005)
    assert point.e2e_mean == pytest.approx(1.94, abs=0.005)


def test_lists_of_strides_are_the_papers(result):
    assert [True] * 5 == [sweep.is_the_papers for sweep in result.sweeps]
    last = [point.stride for point in result.sweeps[-1].kept]
    assert last == [(1, 1, 1), (2, 1, 1), (1, 1, 8), (2, 1, 8), (1, 8, 8), (2, 8, 8), (16, 8, 8)]


def test_speedups_of_attention_by_itself(result):
    assert len(result.operators) == 3
    for _, _, computed, published in result.operators:
        assert published == pytest.approx(computed, abs=0.05)


def test_bytes_of_permutation_are_half_of_what_the_paper_says(result):
    """Each tensor once in, once out is half of the published bytes, if its GB are GiB.

    The published share of time fits the half as well: 2.1 and 1.0 %, where it says 1.9 and 1.
    """
    for one in result.permutations:
        assert one.published_bytes / 1e9 == pytest.approx(2 * one.total_bytes / 2**30, abs=0.051)
        assert one.published_share == pytest.approx(one.share, abs=0.0025)


def test_every_value_of_the_paper_has_source_and_status():
    from archsim.gna_reproduction import _paper

    def leaves(node):
        if isinstance(node, dict) and "value" in node:
            yield node
        elif isinstance(node, dict | list):
            for child in node.values() if isinstance(node, dict) else node:
                yield from leaves(child)

    found = list(leaves({key: part for key, part in _paper().items() if key != "source"}))
    assert len(found) > 40
    assert all(leaf["source"] for leaf in found)
    assert {leaf["status"] for leaf in found} == {"published", "printed", "inferred"}


def test_use_cases():
    cases = use_cases()
    assert [2, 3, 3, 3, 3] == [len(case.shape) for case in cases]
    shares = {case.name: round(case.share, 4) for case in cases}
    assert {"flux1dev_4k": 0.518, "cosmos7b": 0.587, "hunyuanvideo": 0.6069} == shares


def test_reproduce_json(archsim_command):
    done = archsim_command("reproduce", "gna", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found["use_cases"]) == 33
    keys = "name shape window stride q_tile kv_tile op_speedup_bound op_speedup_mean flopwise"
    keys += " dense_steps total_steps e2e_bound published"
    for row in found["use_cases"]:
        assert set(keys.split()) <= set(row)
        assert {"e2e_flopwise", "e2e_nattensim", "e2e_measured"} == set(row["published"])
    first = found["use_cases"][0]
    assert [256, 256] == first["shape"]
    assert 512 / 84 == first["op_speedup_bound"]
    assert 10.24 == first["flopwise"]
    assert [16, 8, 8] == found["stride_sweeps"][-1]["strides"][-1]
    assert found["largest_difference"]["printed"] < 0.008
    assert len(found["arrays"]) == 21 * 5


def test_reproduce_prints_and_draws(archsim_command, tmp_path):
    done = archsim_command("reproduce", "gna", "-o", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "tiles printed: 16 rows, largest difference from the paper's simulator 0.0056" in (
        done.stdout
    )
    # Nothing is cut off where there is no terminal.
    assert "…" not in done.stdout
    names = ("windows", "visited", "strides", "end-to-end", "residency")
    expected = {f"gna-{name}.{ending}" for name in names for ending in ("png", "svg")}
    assert expected == {path.name for path in (tmp_path / "out").iterdir()}


# ---- one neighbourhood ----


def test_gna_json(archsim_command):
    done = archsim_command(*HUNYUAN, "--stride", "16x8x8", *TILES, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    expected = {
        "sparsity": pytest.approx(0.91),
        "flopwise_speedup": pytest.approx(100 / 9),
        "visited_max": 81,
        "visited_sum": 38880,
        "full_sum": 38880,
        "q_tiles": 480,
        "kv_tiles_dense": 900,
        "speedup_bound": 900 / 81,
        "speedup_mean": pytest.approx(10.4167, abs=1e-4),
        "block_sparse": True,
        "tiles_chosen": None,
        "q_tile": [4, 8, 8],
    }
    assert expected == {key: found[key] for key in expected}
    assert [2, 1, 1] == found["strides"][1]["stride"]
    assert 5 == len(found["residency"])


def test_gna_chooses_tiles_and_says_so(archsim_command):
    done = archsim_command(*HUNYUAN, "--stride", "16x8x8")
    assert done.returncode == 0, done.stderr
    head = "tiles chosen: queries 4x8x8, keys 2x8x8, which compute least of 1,620 pairs of shapes"
    assert done.stdout.startswith(head)
    one = json.loads(archsim_command(*HUNYUAN, "--q-tile", "2x8x8", "--json").stdout)
    assert ([2, 8, 8], 128) == (one["q_tile"], np.prod(one["kv_tile"]))
    assert "of 36 pairs" in one["tiles_chosen"]


def test_gna_dynamic_causal_and_dilated(archsim_command):
    command = ("gna", "--shape", "40x33", "--window", "6x5", "--stride", "2x5", "--dilation", "3x2")
    command += ("--causal", "1x0", "--q-tile", "4x4", "--kv-tile", "4x2", "--kv-tiling", "dynamic")
    found = json.loads(archsim_command(*command, "--json").stdout)
    one = ec.Neighborhood((40, 33), (6, 5), (2, 5), (3, 2), (True, False))
    tiles = one.tiles((4, 4), (4, 2), kv_tiling="dynamic")
    assert tiles.visited_sum == found["visited_sum"]
    assert one.visible_pairs == found["visible_pairs"] == one.mask().sum()
    assert one.flopwise_speedup == found["flopwise_speedup"]


def test_gna_end_to_end(archsim_command):
    steps = ("--share", "0.6069", "--steps", "50", "--dense-steps", "15")
    found = json.loads(
        archsim_command(*HUNYUAN, "--stride", "16x8x8", *TILES, *steps, "--json").stdout
    )
    assert 1.63 == pytest.approx(found["e2e_bound"], abs=0.001)


def test_gna_names_every_mistake(archsim_command):
    command = ("gna", "--shape", "30x48x80", "--window", "18x24x24", "--stride", "19x8x8")
    command += (
        "--dilation",
        "2x1x1",
        "--q-tile",
        "4x8",
        "--kv-tile",
        "0x2x2",
        "--kv-tiling",
        "stat",
    )
    done = archsim_command(*command)
    assert (2, "") == (done.returncode, done.stdout)
    assert done.stderr == (
        "error: --q-tile: (4, 8) has 2 dimensions\n"
        "  shape has 3\n"
        "--kv-tile: (0, 2, 2) is no tile\n"
        "  tiles have whole numbers of tokens, at least 1 in each dimension\n"
        "--kv-tiling: unknown tiling 'stat'\n"
        "  tilings of keys: static, dynamic; did you mean 'static'?\n"
        "--stride: 19 in dimension 0 is more than the window, 18\n"
        "  keys between windows would be seen by no query\n"
        "--window: 18 x dilation 2 in dimension 0 is more than its 30 tokens\n"
        "  at most 15 is possible\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--shape", "30x", "--window", "8"), "--shape: '30x' is no shape\n  whole numbers with x"),
        (("--shape", "30", "--window", "-8"), "--window: '-8' is no shape"),
        (("--shape", "30", "--window", "8", "--causal", "2"), "--causal: 2 is not possible"),
        (
            ("--shape", "30", "--window", "8", "--dense-steps", "2"),
            "--dense-steps: 2 steps are more than all\n  --steps is 1",
        ),
    ],
)
def test_gna_refuses(archsim_command, arguments, message):
    done = archsim_command("gna", *arguments)
    assert (2, "") == (done.returncode, done.stdout)
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_reproduce_refuses(archsim_command):
    done = archsim_command("reproduce", "gnaa")
    assert done.returncode == 2
    assert "papers: fusemax, gna; did you mean 'gna'?" in done.stderr
    done = archsim_command("reproduce", "gna", "--seq", "1024")
    assert done.returncode == 2
    assert "--seq: is for fusemax" in done.stderr


@pytest.mark.parametrize("shape", ["40", "12x20", "4x12x20"])
def test_gna_draws(archsim_command, tmp_path, shape):
    window = "x".join("4" for _ in shape.split("x"))
    done = archsim_command("gna", "--shape", shape, "--window", window, "-o", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    written = sorted(re.findall(r"wrote out/(.*)", done.stderr))
    assert written == sorted(f"gna-{n}.{e}" for n in ("windows", "visited") for e in ("png", "svg"))
    assert set(written) == {path.name for path in (tmp_path / "out").iterdir()}


def test_map_of_visited_tiles():
    one = ec.Neighborhood((30, 48, 80), (18, 24, 24))
    tiles = one.tiles((4, 8, 8), (2, 8, 8))
    found = visited_map(one, tiles)
    assert ((6, 10), 275) == (found.shape, found.max())
    line = ec.Neighborhood(40, 4)
    assert line.tiles(8, 4).visited_sum == visited_map(line, line.tiles(8, 4)).sum()
