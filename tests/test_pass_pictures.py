"""Schedules as pictures: what is drawn is what happened, and docs/passes.md shows what is drawn."""

import json
import re
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest
import yaml

import einsum_cascade as ec
from archsim import pass_study
from einsum_cascade.sweep_trace import trace

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "passes.md").read_text(encoding="utf-8")
FIGURES = sorted((ROOT / "docs" / "figures").glob("passes-*.svg"))
TABLE = yaml.safe_load((Path(__file__).parent / "golden" / "pass_numbers.yaml").read_text())[
    "cases"
]
ROWS = [(case, row) for case in TABLE for row in case["passes"]]
IDS = [f"{c['name']}-{r['rank']}-{r['tensor']}" for c, r in ROWS]


def archsim(*words, folder=None):
    code = "from archsim.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )


@pytest.mark.parametrize(("case", "row"), ROWS, ids=IDS)
def test_schedules_are_possible_and_take_as_many_sweeps_as_there_are_passes(case, row):
    cascade = ec.parse(case["cascade"], case["name"])
    found = trace(cascade, row["tensor"], row["rank"], length=18)
    assert row["passes"] == found.sweeps
    for node, operands in found.fiber.operands.items():
        assert all(found.times[operand] <= found.times[node] for operand in operands)
    # Every element comes by, in the first sweep.
    first = {visit.position for visit in found.visits if visit.sweep == 1}
    assert set(range(found.length)) <= first
    # A link of the witness leads to the next sweep.
    assert list(range(1, found.sweeps + 1)) == [v.sweep for v in found.chain] or found.sweeps == 1


def test_three_sweeps_of_softmax_visit_every_key():
    """Sweep 1 makes logits, 2 exponentials, 3 weights and what they are summed up to."""
    found = trace(ec.load("softmax-3pass"), "K", "M", length=12)
    expected = {1: ("QK",), 2: ("SN",), 3: ("A", "AV")}
    for sweep, names in expected.items():
        visits = [visit for visit in found.visits if visit.sweep == sweep]
        assert [(i, i) for i in range(12)] == [(v.step, v.position) for v in visits]
        assert {names} == {visit.tensors for visit in visits}
    assert ["GM[p] = max[m](QK[m,p])", "SD[p] = sum[m](SN[m,p])"] == [
        barrier.text for barrier in found.barriers
    ]
    assert [(1, 0), (2, 0), (3, 0)] == [(v.sweep, v.position) for v in found.chain]
    assert found.lookback == 0


def test_running_softmax_keeps_a_tile():
    """Tiles of 3: two keys wait for the third, then all three exponentials are taken."""
    found = trace(ec.load("softmax-1pass"), "K", "M", length=12)
    assert (1, 3, 2) == (found.sweeps, found.tile, found.lookback)
    assert (1, 2, 3) * 4 == found.words()
    at_third = [v.position for v in found.visits if v.step == 2 and "SLN" in v.tensors]
    assert [0, 1, 2] == at_third


def test_words_of_three_passes_by_hand():
    """Up to n in the first sweep, all of them in the second, down again in the third."""
    found = trace(ec.load("softmax-3pass"), "K", "M", length=7)
    assert (1, 2, 3, 4, 5, 6, 7, *(7,) * 7, 7, 6, 5, 4, 3, 2, 1) == found.words()


@pytest.mark.parametrize(
    ("name", "words", "loads"),
    [
        ("softmax-3pass", 0, 36),
        ("softmax-3pass", 5, 12 + 7 + 7),
        ("softmax-3pass", 12, 12),
        ("softmax-2pass", 5, 12 + 7),
        ("softmax-1pass", 0, 12 + 3),
        ("softmax-1pass", 3, 12),
    ],
)
def test_least_loads(name, words, loads):
    assert loads == trace(ec.load(name), "K", "M", length=12).least_loads(words)


def test_opposed_scans_meet_without_a_barrier_of_their_own():
    found = pass_study.fiber_of("opposed-scans", "X", "N")
    assert (1, -1) == found.directions
    (barrier,) = found.barriers
    assert ("Z[n] = P[n]*S[n]", True) == (barrier.text, barrier.is_joint)


def test_a_gather_visits_what_data_decide():
    found = pass_study.fiber_of("top-k", "K", "M")
    (last,) = [visit for visit in found.visits if visit.sweep == 2]
    assert (None, ("QG",)) == (last.position, last.tensors)


@pytest.mark.parametrize("length", [1, 2, 3])
def test_fibers_too_short_for_passes_can_be_drawn(length):
    found = trace(ec.load("softmax-3pass"), "K", "M", length=length)
    assert found.length == length
    assert found.words()[0] == 1


def test_figures_of_the_page_are_drawn_by_the_study(tmp_path):
    """Byte by byte; another matplotlib may write the same picture in other words."""
    pass_study.draw(tmp_path)
    drawn = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.glob("*.svg")}
    assert {path.name for path in FIGURES} == set(drawn)
    for path in FIGURES:
        kept = path.read_text(encoding="utf-8")
        if f"Matplotlib v{matplotlib.__version__}," in kept:
            assert kept == drawn[path.name]
        # matplotlib writes every text as a comment before its outlines.
        assert re.findall(r"<!-- (.*) -->", kept) == re.findall(r"<!-- (.*) -->", drawn[path.name])


def test_the_page_shows_every_figure_and_they_are_small():
    assert len(FIGURES) == 4
    for path in FIGURES:
        assert f"](figures/{path.name})" in PAGE
        assert path.stat().st_size < 150_000
    assert {path.name for path in FIGURES} == set(re.findall(r"figures/(.*?\.svg)", PAGE))


def test_console_examples_of_the_page():
    """They may stop early where the command goes on."""
    blocks = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 4
    for block in blocks:
        command, _, expected = block.partition("\n")
        done = archsim(*command.removeprefix("$ archsim ").split())
        assert done.stdout.startswith(expected), command


def test_cascades_of_the_page_are_those_of_the_study(tmp_path):
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    documents = [yaml.safe_load(block) for block in blocks]
    assert pass_study.SURPRISES == {d["name"]: d["cascade"].rstrip("\n") for d in documents}
    names = []
    for document, block in zip(documents, blocks, strict=True):
        names.append(f"{document['name']}.yaml")
        (tmp_path / names[-1]).write_text(block, encoding="utf-8")
    assert archsim("check", *names, folder=tmp_path).returncode == 0


def test_the_symbolic_analysis_agrees_with_the_study():
    for row in pass_study.counted():
        text = pass_study.SURPRISES.get(row.cascade)
        cascade = ec.load(row.cascade) if text is None else ec.parse(text)
        assert row.passes == ec.passes(cascade, row.rank).tensors[row.tensor]


def test_study_as_json_and_into_a_folder(tmp_path):
    done = archsim("study", "passes", "--json", "-o", str(tmp_path / "new"))
    rows = json.loads(done.stdout)["rows"]
    assert [3, 2, 1] == [row["passes"] for row in rows[:3]]
    assert 8 == len(list((tmp_path / "new").iterdir()))
