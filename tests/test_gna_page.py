"""docs/neighborhoods.md shows what is computed: its tables, row by row, and its figures."""

import csv
import re
import subprocess
import sys
from pathlib import Path

import pytest

from archsim.gna_reproduction import key_bytes, kv_reads, reproduce_gna
from einsum_cascade.neighborhood import Neighborhood
from einsum_cascade.neighborhood_tiles import read_shape, show_shape

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "neighborhoods.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def result():
    return reproduce_gna()


def row(*cells) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def end_to_end_rows(result):
    for point in result.points:
        published = dict(point.published)
        yield row(
            point.case.label + ("" if point.case.tile_status == "printed" else " *"),
            show_shape(point.case.window),
            show_shape(point.stride),
            f"{point.dense_steps}/{point.case.steps}",
            f"{point.tiles.visited_max}/{point.tiles.kv_tiles_dense}",
            f"{point.tiles.speedup_bound:.2f} / {point.tiles.speedup_mean:.2f}",
            f"{point.e2e_bound:.4f}",
            f"{published['e2e_nattensim']:.2f}",
            f"{point.difference:+.4f}",
            f"{published['e2e_measured']:.2f}",
        )


def array_rows(result):
    for one in result.arrays:
        yield row(
            one.case.label,
            show_shape(one.case.window),
            show_shape(one.stride),
            *(
                f"{tiles.utilization:.3f} ({kv_reads(tiles):.1f}x) "
                f"{show_shape(tiles.q_tile)}, {show_shape(tiles.kv_tile)}"
                for tiles in one.choices
            ),
        )


def residency_rows(result):
    for case, stride, policies in result.residency:
        size = key_bytes(case.head_dim)
        for one in policies:
            held, rule = (keys * size / 1e6 for keys in (one.held_keys, one.rule_keys))
            cells = (case.label, show_shape(case.window), show_shape(stride), one.policy)
            yield row(*cells, f"{held:.2f}", f"{rule:.2f}", f"{one.reads:.2f}")


def measured_rows():
    """Kernels that NATTEN's documentation measured: over the mean model, both over dense."""
    path = ROOT / "tests" / "golden" / "gna" / "natten_profiler_measured.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = [r for r in csv.DictReader(file) if r["metric"] == "speedup_vs_cudnn_kernel_only"]
    for one in rows:
        fields = [read_shape(one[key]) for key in ("input_shape", "window", "stride")]
        tiles = Neighborhood(*fields).tiles(read_shape(one["q_tile"]), read_shape(one["kv_tile"]))
        measured = float(one["value"])
        yield row(
            one["use_case"],
            one["hardware"],
            one["window"],
            one["stride"],
            f"{one['q_tile']}, {one['kv_tile']}",
            "yes" if tiles.block_sparse else "no",
            f"{measured:.2f}",
            f"{tiles.speedup_mean:.2f}",
            f"{measured / tiles.speedup_mean:.2f}",
        )


@pytest.mark.parametrize("rows", [end_to_end_rows, array_rows, residency_rows])
def test_tables_are_those_computed(result, rows):
    shown = list(rows(result))
    assert shown
    assert [] == [line for line in shown if line not in PAGE]


def test_measured_kernels_are_those_computed():
    shown = list(measured_rows())
    assert len(shown) == 10
    assert [] == [line for line in shown if line not in PAGE]


def test_figures_are_there_and_shown():
    shown = set(re.findall(r"\]\(figures/(gna-.*?\.svg)\)", PAGE))
    assert shown == {path.name for path in (ROOT / "docs" / "figures").glob("gna-*.svg")}
    assert len(shown) == 5


def test_python_example_runs():
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "81 900 True\n" == done.stdout
