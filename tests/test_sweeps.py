"""Sweeps: axes, points, results that survive being killed, fronts, and mistakes at their places."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import archsim
import einsum_cascade as ec
from archsim.sweeps import storage
from archsim.sweeps.axes import Axis
from archsim.sweeps.definition import sweep_from
from archsim.sweeps.forks import Forks, are_safe
from archsim.sweeps.fronts import non_dominated, pareto, read_constraint
from archsim.sweeps.inputs import Inputs, bases
from einsum_cascade.documents import read_text

ARCHSIM = str(Path(sys.executable).with_name("archsim"))
HEAD = """
name: mine
cascade: softmax-1pass
model: bert
arch: fusemax-4x4
mapping: fusemax
"""
SMALL = (
    HEAD
    + """
sizes: {B: 1, H: 2, E: 4, F: 4}
over:
  sizes.M,sizes.P: [[8, 8], [8, 12], [12, 8], [16, 20]]
  arch.dram.bandwidth: [1 GB/s, 4 GB/s, 100 GB/s]
  arch.buffer.capacity: [64 B, 64 KiB]
"""
)


def parsed(text: str):
    return sweep_from(read_text(text, "mine.yaml", archsim.ArchError))


def saved(text: str, folder: Path) -> str:
    path = folder / "mine.yaml"
    path.write_text(text)
    return str(path)


def problems(text: str, tmp_path: Path) -> list[str]:
    """What a sweep is refused for: line, column and message of each mistake."""
    with pytest.raises(archsim.ArchError) as caught:
        archsim.sweep(saved(text, tmp_path))
    return [
        f"{p.source.line}:{p.source.column} {p.message}; {p.hint}" for p in caught.value.problems
    ]


# ---- axes ----


def test_powers_steps_lists_and_what_goes_together() -> None:
    sweep = parsed(
        HEAD
        + """
over:
  arch.array_2d.rows: {log2: [2, 8]}
  arch.buffer.capacity: {log2: [1 MiB, 4 MiB]}
  sizes.M,sizes.P: {range: [4, 12, 4]}
  sizes.E: [64]
"""
    )
    assert [axis.values for axis in sweep.axes] == [
        ((2,), (4,), (8,)),
        (("1 MiB",), ("2 MiB",), ("4 MiB",)),
        ((4, 4), (8, 8), (12, 12)),
        ((64,),),
    ]
    assert sweep.points == 27
    # The last axis runs fastest.
    assert list(sweep.grid())[:4] == [(0, 0, 0, 0), (0, 0, 1, 0), (0, 0, 2, 0), (0, 1, 0, 0)]
    assert sweep.at((1, 2, 0, 0)) == {
        "cascade": "softmax-1pass",
        "model": "bert",
        "arch": "fusemax-4x4",
        "mapping": "fusemax",
        "arch.array_2d.rows": 4,
        "arch.buffer.capacity": "4 MiB",
        "sizes.M": 4,
        "sizes.P": 4,
        "sizes.E": 64,
    }


@pytest.mark.parametrize(
    ("values", "ordered"),
    [
        ([1, 2, 8], True),
        (["1 MiB", "2 MiB"], True),
        ([8, 2], False),
        (["b", "a"], False),
        ([1, "a"], False),
    ],
)
def test_numbers_in_order_are_known(values: list[object], ordered: bool) -> None:
    assert Axis(("x",), tuple((value,) for value in values), ("over", "x")).is_ordered is ordered


def test_mistakes_in_axes_have_places(tmp_path: Path) -> None:
    text = (
        HEAD
        + """over:
  arch.array_2d.rows: {log2: [64, 1 MiB]}
  arch.clock: []
  sizes.M,sizes.P: [[4, 4], 8]
  sizes.M: [1, 2, 1]
"""
    )
    assert problems(text, tmp_path) == [
        "8:23 log2 takes two numbers, or two quantities of one unit (given: [64, '1 MiB']); for "
        "example {log2: [64, 1024]}, {log2: [1 MiB, 16 MiB]} or {range: [0, 90, 10]}",
        "9:15 an axis needs values; for example arch.clock: [1, 2]",
        "10:29 2 values are due here, one for each of sizes.M,sizes.P; write [a, b]",
        "11:3 the path 'sizes.M' is varied twice; write paths that go together as "
        "'sizes.M,sizes.P'",
        "11:19 1 is listed twice; list it once",
    ]


def test_mistakes_in_paths_and_values_have_places(tmp_path: Path) -> None:
    text = (
        HEAD
        + """over:
  arch.array_3d.rows: [4]
  arch.array_2d.rowz: [4]
  arch.dram.bandwidth: [400, 1 GiB/s]
  sizes.M: [0, 4]
  sizes.Y: [4]
"""
    )
    found = problems(text, tmp_path)
    assert [one.partition(";")[0] for one in found] == [
        "8:24 fusemax-4x4 has no 'array_3d'",
        "9:24 unknown key 'rowz'",
        "10:25 memories.dram.bandwidth.value: a unit is due here (B/s, kB/s, MB/s, GB/s, TB/s, "
        "KiB/s, MiB/s, GiB/s, TiB/s): write for example '400 B/s' (given: 400)",
        "11:13 M: 0 is no size",
    ]
    assert "did you mean 'array_2d'?" in found[0]
    assert "did you mean 'rows'?" in found[1]
    wrong = HEAD + "sizes: {M: 4, P: 4}\nover:\n  size.M: [4]\n"
    assert problems(wrong, tmp_path) == [
        "9:3 unknown path 'size.M'; a path starts with: cascade, model, arch, mapping, sizes, "
        "neighborhood, numbers, label; did you mean 'sizes'?"
    ]
    unknown = HEAD + "sizes: {M: 4, P: 4}\nover:\n  sizes.Y: [4]\n"
    (found_rank,) = problems(unknown, tmp_path)
    assert found_rank.startswith("9:3 no cascade of the sweep has a rank Y; known ranks: ")


def test_what_is_missing_or_given_twice(tmp_path: Path) -> None:
    text = "name: mine\ncascade: softmax-1pass\nover:\n  cascade: [softmax-1pass]\n"
    found = problems(text, tmp_path)
    assert [one.partition(";")[0] for one in found] == [
        "1:1 the key 'arch' is missing",
        "1:1 the key 'mapping' is missing",
        "2:1 cascade is given twice: here and under 'over'",
    ]
    searching = HEAD.replace("mapping: fusemax", "mapping: search")
    assert problems(searching, tmp_path)[0].startswith("6:10 searching for a mapping comes later")
    unknown = HEAD.replace("arch: fusemax-4x4", "arch: [fusemax, fusemx]")
    assert problems(unknown, tmp_path)[0].startswith("5:17 unknown architecture 'fusemx'")


def test_grids_too_large_ask_for_a_sampler(tmp_path: Path) -> None:
    text = HEAD + "over: {sizes.M: {range: [1, 2000, 1]}, sizes.P: {range: [1, 2000, 1]}}\n"
    (found,) = problems(text, tmp_path)
    assert "4,000,000 points are too many to try all; let an optimizer choose: sampler:" in found


# ---- points ----


def test_points_are_what_run_reports(tmp_path: Path) -> None:
    result = archsim.sweep(saved(SMALL, tmp_path), jobs=1)
    assert len(result.rows) == 24
    for row in result.rows:
        # 64 bytes hold no tile.
        assert bool(row["error"]) == (row["arch.buffer.capacity"] == "64 B")
        if row["error"]:
            assert "buffer" in row["error"]
            continue
        chip = archsim.load_architecture("fusemax-4x4")
        text = Path(str(chip.document.file)).read_text() if chip.document else ""
        assert text
        own = tmp_path / "own.yaml"
        rate = row["arch.dram.bandwidth"]
        own.write_text(_with(text, rate))
        sizes = ec.workload("bert", B=1, H=2, E=4, F=4, M=row["sizes.M"], P=row["sizes.P"])
        report = archsim.run("softmax-1pass", sizes, str(own), "fusemax", level="tile")
        assert row["cycles"] == report.cycles
        assert row["latency_s"] == report.latency_s
        assert row["traffic_bytes.total"] == report.traffic_bytes["total"]
        assert row["energy_pj.total"] == report.energy_pj["total"]
        assert row["utilization.array_2d"] == report.utilization["array_2d"]
        assert row["bottleneck"] == report.bottleneck


def _with(text: str, rate: str) -> str:
    """An architecture file with another bandwidth and buffer, edited as a person would."""
    import re

    text = re.sub(r"bandwidth: \{value: [^,]*", f"bandwidth: {{value: {rate}", text)
    return re.sub(r"capacity: \{value: [^,]*", "capacity: {value: 64 KiB", text)


def test_values_reach_every_kind_of_input() -> None:
    sweep = parsed(
        HEAD
        + """
over:
  arch.clock: [500 MHz]
  arch.memories.dram.latency: [50 ns]
  arch.array_2d.operators.mac.latency: [3]
  arch.energy.mac: [2 pJ]
  mapping.drain: [head]
  mapping.loops.0: [p2]
  model.sizes.H: [5]
  cascade.sizes: [{M0: 8}]
  label: [anything]
"""
    )
    inputs = Inputs(bases(sweep))
    cascade, workload, chip, mapping = inputs.point(sweep.at((0,) * 9))
    assert chip.clock_hz == 500_000_000
    assert chip.outer.latency_ns == 50
    assert chip.array("array_2d").cost("mac").latency_cycles == 3
    assert dict(chip.energy_pj)["mac"] == 2.0
    assert (mapping.drain, mapping.loops[0]) == ("head", "p2")
    assert workload.size("H") == 5
    assert dict(cascade.default_sizes)["M0"] == 8
    # The files themselves are as they were.
    assert archsim.load_architecture("fusemax-4x4").clock_hz != 500_000_000


def test_keys_tell_inputs_apart_and_families_leave_speed_out() -> None:
    sweep = parsed(SMALL)
    inputs = Inputs(bases(sweep))
    keys = {inputs.key(sweep.at(chosen)) for chosen in sweep.grid()}
    families = {inputs.family(sweep.at(chosen)) for chosen in sweep.grid()}
    assert (len(keys), len(families)) == (24, 8)
    other = parsed(SMALL.replace("B: 1", "B: 2"))
    assert keys.isdisjoint(Inputs(bases(other)).key(other.at(chosen)) for chosen in other.grid())
    # A path that reads the same content gives the same key.
    again = parsed(SMALL.replace("\nover:", "\n\n# the same\nover:"))
    assert keys == {Inputs(bases(again)).key(again.at(chosen)) for chosen in again.grid()}


def test_the_cascade_that_a_mapping_speaks_of_is_an_input(tmp_path: Path) -> None:
    mapping = archsim.load_mapping("fusemax").document
    cascade = ec.load("softmax-1pass")
    from einsum_cascade.catalog import write_cascade

    own = tmp_path / "own.yaml"
    write_cascade(cascade, own)
    text = Path(str(mapping.file)).read_text()
    (tmp_path / "map.yaml").write_text(text.replace("cascade: softmax-1pass", f"cascade: {own}"))
    sweep = parsed(SMALL.replace("mapping: fusemax", f"mapping: {tmp_path / 'map.yaml'}"))
    keys = []
    for more in ("", "# edited\n"):
        own.write_text(own.read_text() + more)
        inputs = Inputs(bases(sweep))
        keys.append({inputs.key(sweep.at(chosen)) for chosen in sweep.grid()})
    assert keys[0].isdisjoint(keys[1])


def test_a_point_that_nobody_thought_of_does_not_take_others_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from archsim import batches

    real = batches._evaluate

    def breaking(family, point, level, accounting):
        if point.workload.size("P") == 12:
            raise ZeroDivisionError("nobody thought of this")
        return real(family, point, level, accounting)

    monkeypatch.setattr(batches, "_evaluate", breaking)
    result = archsim.sweep(saved(SMALL, tmp_path), jobs=1)
    wrong = [row for row in result.rows if row["error"].startswith("ZeroDivisionError: nobody")]
    assert {row["sizes.P"] for row in wrong} == {12}
    assert sum(1 for row in result.rows if not row["error"]) == 9


def test_neighborhoods_and_numbers_are_axes(tmp_path: Path) -> None:
    text = """
name: strides
arch: fusemax-4x4
sizes: {H: 1, E: 4, F: 4}
neighborhood: {shape: 12x12, window: 6x6, q_tile: 2x2, kv_tile: 2x2}
over: {neighborhood.stride: [1x1, 2x2, 6x6]}
"""
    rows = archsim.sweep(saved(text, tmp_path), jobs=1).rows
    assert [row["error"] for row in rows] == ["", "", ""]
    # Larger strides visit fewer tiles.
    cycles = [row["cycles"] for row in rows]
    assert cycles == sorted(cycles, reverse=True)
    assert cycles[0] > cycles[-1]
    text = """
name: numbers
cascade: softmax-3pass
arch: fusemax
mapping: unfused
level: bound
sizes: {M: 64, P: 64, E: 8, F: 8, B: 1, H: 1}
numbers: {format: fp32}
over: {numbers.exp: [poly3, poly6]}
"""
    rows = archsim.sweep(saved(text, tmp_path), jobs=1).rows
    assert rows[0]["error_rms"] > 30 * rows[1]["error_rms"] > 0


# ---- fronts ----


@given(
    st.lists(st.tuples(*[st.integers(0, 6)] * 3), max_size=30),
    st.tuples(*[st.sampled_from(["min", "max"])] * 3),
)
def test_fronts_are_what_no_row_beats(costs: list[tuple[int, ...]], goals: tuple[str, ...]) -> None:
    rows = [dict(zip("abc", cost, strict=True)) for cost in costs]
    found = pareto(rows, list(zip("abc", goals, strict=True)))
    signs = [1 if goal == "min" else -1 for goal in goals]
    signed = [tuple(s * c for s, c in zip(signs, cost, strict=True)) for cost in costs]

    def beats(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
        return a != b and all(x <= y for x, y in zip(a, b, strict=True))

    best = {c for c in signed if not any(beats(other, c) for other in signed)}
    assert sorted(signed[number] for number in found) == sorted(best)


def test_rows_that_failed_or_break_a_constraint_are_no_front() -> None:
    rows = [
        {"t": 1.0, "area": 9.0, "error": ""},
        {"t": 2.0, "area": 5.0, "error": ""},
        {"t": 0.5, "area": 1.0, "error": "too small"},
        {"t": 3.0, "error": ""},
    ]
    limit = read_constraint("area <= 5")
    assert pareto(rows, [("t", "min")], [limit]) == [1]
    assert pareto(rows, [("t", "min")]) == [0]
    assert non_dominated([]) == []


@pytest.mark.parametrize("points", [3, 501, 502, 1200])
def test_large_fronts_are_what_small_ones_are(points: int) -> None:
    """Points on a line beat none of each other; each is there twice, and beats one behind it."""
    line = [(i, points - i) for i in range(points)]
    behind = [(a + 0.25, b + 0.25) for a, b in line]
    costs = [*behind, *line, *line]
    np.random.default_rng(0).shuffle(costs)
    found = [tuple(costs[number]) for number in non_dominated([tuple(cost) for cost in costs])]
    assert found == line


@pytest.mark.parametrize(
    ("text", "value", "excess"),
    [
        ("x <= 5", 7, 2),
        ("x >= 5", 7, -2),
        ("x < 7", 7, np.nextafter(0, 1)),
        ("x <= 1.3e9", 1.3e9, 0),
        ("buffer_bytes.needed <= 16 MiB", 2**24 + 1, 1),
        ("traffic_bytes.re-read <= 1 kB", 1001, 1),
        ("latency_s <= 2 us", 3e-6, 1e-6),
        ("x >= -3", -4, 1),
    ],
)
def test_constraints(text: str, value: float, excess: float) -> None:
    constraint = read_constraint(text)
    assert constraint.excess({constraint.path: value}) == pytest.approx(excess, rel=1e-9, abs=0)


def test_constraints_that_are_none(tmp_path: Path) -> None:
    text = HEAD + "constraints: [latency_s = 3, x <= y, x <= 3 parsec]\nover: {sizes.M: [4]}\n"
    assert [one.partition(";")[0] for one in problems(text, tmp_path)] == [
        "7:15 'latency_s = 3' is no constraint",
        "7:30 'y' is no limit: a number, or one with a unit",
        "7:38 x has no unit, so its limit has none",
    ]


# ---- results on disk ----


def lines(folder: Path) -> list[str]:
    return sorted((folder / storage.RESULTS).read_text().splitlines())


def test_results_are_kept_and_not_overwritten(tmp_path: Path) -> None:
    file, out = saved(SMALL, tmp_path), tmp_path / "out"
    result = archsim.sweep(file, out, jobs=1)
    assert [json.loads(line) for line in (out / storage.RESULTS).read_text().splitlines()] == list(
        result.rows
    )
    assert (out / "sweep.yaml").read_text() == SMALL
    head, *_ = (out / "results.csv").read_text().splitlines()
    assert head.split(",")[:5] == ["key", "cascade", "model", "arch", "mapping"]
    assert head.endswith(",error")
    table = result.table
    assert len(table) == 24
    assert table["cycles"].notna().sum() == 12
    with pytest.raises(archsim.ArchError, match="results of a sweep lie there already"):
        archsim.sweep(file, out)
    # A changed sweep keeps what it can, and moves the rest aside.
    other = saved(SMALL.replace("[64 B, 64 KiB]", "[64 KiB]"), tmp_path)
    again = archsim.sweep(other, out, jobs=1, resume=True)
    assert len(again.rows) == 12
    assert set(lines(out)) <= {json.dumps(row) for row in result.rows}
    assert len((out / storage.STALE).read_text().splitlines()) == 12


def test_a_torn_line_is_cut_off(tmp_path: Path) -> None:
    file, out = saved(SMALL, tmp_path), tmp_path / "out"
    archsim.sweep(file, out, jobs=1)
    whole = (out / storage.RESULTS).read_bytes()
    (out / storage.RESULTS).write_bytes(whole[: len(whole) * 2 // 3])
    archsim.sweep(file, out, jobs=1, resume=True)
    assert (out / storage.RESULTS).read_bytes() == whole
    (out / storage.RESULTS).write_text('{"no key": 1}\n')
    with pytest.raises(archsim.ArchError, match=r"results.jsonl:1:1: this is no line of results"):
        archsim.sweep(file, out, jobs=1, resume=True)


KILLED = (
    HEAD
    + """
level: bound
sizes: {B: 1, H: 2, E: 4, F: 4}
over:
  sizes.M: {range: [4, 192, 4]}
  sizes.P: {range: [4, 80, 4]}
  arch.dram.bandwidth: [1 GB/s, 2 GB/s, 4 GB/s]
"""
)
POINTS = 48 * 20 * 3


def start(file: str, out: Path, jobs: int) -> subprocess.Popen[bytes]:
    command = [ARCHSIM, "sweep", file, "-o", str(out), "--jobs", str(jobs), "--resume"]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ.copy()
    )


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_sweep_killed_ten_times_gives_the_same_bytes(jobs: int, tmp_path: Path) -> None:
    file, out, calm = saved(KILLED, tmp_path), tmp_path / "out", tmp_path / "calm"
    archsim.sweep(file, calm, jobs=1)
    generator = random.Random(7)
    grown = 0
    for _ in range(10):
        process = start(file, out, jobs)
        results = out / storage.RESULTS
        # Killed at random, but never before there is something to lose.
        limit = time.monotonic() + 60
        while time.monotonic() < limit and process.poll() is None:
            if results.exists() and results.stat().st_size > grown:
                break
            time.sleep(0.01)
        time.sleep(generator.uniform(0, 0.2))
        process.kill()
        process.wait()
        grown = results.stat().st_size
    assert 0 < grown
    assert start(file, out, jobs).wait() == 0
    assert (out / storage.RESULTS).read_bytes() == (calm / storage.RESULTS).read_bytes()
    assert (out / "results.csv").read_bytes() == (calm / "results.csv").read_bytes()


def test_an_interrupted_sweep_says_how_to_go_on(tmp_path: Path) -> None:
    file, out = saved(KILLED, tmp_path), tmp_path / "out"
    # What a shell starts in the background ignores Ctrl-C, and so would this.
    code = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL)"
    again = f"{code}; os.execv(sys.argv[1], sys.argv[1:])"
    command = [ARCHSIM, "sweep", file, "-o", str(out), "--jobs", "2"]
    process = subprocess.Popen(
        [sys.executable, "-c", again, *command], stderr=subprocess.PIPE, text=True
    )
    while not (out / storage.RESULTS).exists() or not (out / storage.RESULTS).stat().st_size:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said == f"interrupted: what was found is in {out}; --resume goes on\n"
    kept = lines(out)
    assert 0 < len(kept) < POINTS
    result = archsim.sweep(file, out, jobs=1, resume=True)
    assert set(kept) <= set(lines(out))
    assert len(result.rows) == POINTS


needs_forks = pytest.mark.skipif(sys.platform != "linux", reason="copies of a process")


# In a process of its own: this one may have other children, and threads, so that it is not copied.
KILLS = """
import os, signal, sys
from pathlib import Path
import archsim

copies = set()

def progress(done, failed, points):
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    if children and not copies:
        copies.update(map(int, children))
        os.kill(min(copies), signal.SIGKILL)

try:
    archsim.sweep(sys.argv[1], sys.argv[2], jobs=2, progress=progress)
except archsim.ArchError as error:
    print(error)
print(len(copies), [copy for copy in copies if Path(f"/proc/{copy}").exists()])
"""


@needs_forks
def test_a_copy_that_is_killed_is_named_and_what_was_found_is_kept(tmp_path: Path) -> None:
    """No point is lost and nothing waits for the dead: the sweep ends, and goes on."""
    file, out = saved(KILLED, tmp_path), tmp_path / "out"
    command = [sys.executable, "-c", KILLS, str(file), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert "a process that evaluated points died" in done.stdout
    assert done.stdout.endswith("2 []\n")
    assert 0 < len(lines(out)) < POINTS
    alone = archsim.sweep(file, jobs=1)
    assert archsim.sweep(file, out, jobs=2, resume=True).rows == alone.rows


@needs_forks
def test_copies_leave_with_the_process_they_work_for(tmp_path: Path) -> None:
    """Killed, it leaves nobody who would hold the lock of its results, or work on for long."""
    file, out = saved(KILLED, tmp_path), tmp_path / "out"
    process = start(file, out, 2)
    found = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while len(copies := found.read_text().split()) < 2:
        assert process.poll() is None
        time.sleep(0.001)
    process.kill()
    process.wait()
    # A copy that had only just started lets go of the lock with its first instructions.
    limit = time.monotonic() + 30
    with (out / storage.RESULTS).open("a") as file_of_results:
        while not storage._locked(file_of_results):
            assert time.monotonic() < limit
            time.sleep(0.01)
    while any(Path(f"/proc/{copy}").exists() for copy in copies):
        assert time.monotonic() < limit
        time.sleep(0.01)


@needs_forks
@settings(max_examples=10, deadline=None)
@given(st.lists(st.binary(max_size=1 << 17), max_size=9), st.integers(1, 3))
def test_copies_take_every_piece_once(pieces: list[bytes], count: int) -> None:
    forks = Forks(len, count)
    try:
        for _ in range(2):
            assert sorted(forks.map(iter(pieces))) == sorted(map(len, pieces))
            assert len(forks.copies) == min(count, len(pieces))
    finally:
        forks.close()


def test_with_another_thread_alive_fresh_processes_are_taken(tmp_path: Path) -> None:
    """A lock that a thread holds would stay locked in a copy."""
    file = saved(SMALL, tmp_path)
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    try:
        assert not are_safe()
        rows = archsim.sweep(file, jobs=2).rows
    finally:
        over.set()
        thread.join()
    assert rows == archsim.sweep(file, jobs=1).rows


# ---- samplers ----


@pytest.mark.parametrize("method", ["nsga2", "tpe"])
def test_samplers_choose_points_of_the_grid_and_resume(method: str, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    sampler = f"sampler: {{method: {method}, points: 40, batch: 8, seed: 3}}\n"
    text = KILLED + 'constraints: ["latency_s <= 1 ms"]\n' + sampler
    file, out = saved(text, tmp_path), tmp_path / "out"
    first = archsim.sweep(file, out, jobs=1)
    whole = (out / storage.RESULTS).read_bytes()
    assert 10 < len(first.rows) <= 40
    grid = tmp_path / "grid"
    grid.mkdir()
    every = archsim.sweep(saved(KILLED, grid), jobs=1)
    by_key = {row["key"]: row for row in every.rows}
    assert all(by_key[row["key"]] == row for row in first.rows)
    # Half of the lines lost: the sampler asks the same again, and only those are evaluated.
    (out / storage.RESULTS).write_bytes(b"".join(whole.splitlines(keepends=True)[::2]))
    archsim.sweep(file, out, jobs=1, resume=True)
    assert (out / storage.RESULTS).read_bytes() == whole


# ---- a cluster ----


def test_a_killed_worker_loses_no_point(tmp_path: Path) -> None:
    """A real scheduler and two real workers, one of which dies on the way."""
    pytest.importorskip("distributed")
    described = tmp_path / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    processes = [
        subprocess.Popen(
            [*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
             "--scheduler-file", str(described)],
            **quiet,
        )
    ]  # fmt: skip
    try:
        limit = time.monotonic() + 60
        while not described.exists():
            assert time.monotonic() < limit
            time.sleep(0.05)
        address = json.loads(described.read_text())["address"]
        worker = [*dask, "worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
        workers = [subprocess.Popen(worker, cwd=tmp_path, **quiet) for _ in range(2)]
        processes += workers
        told: list[int] = []

        def progress(done: int, failed: int, points: int) -> None:
            told.append(done)
            if done > 60 and workers[0].poll() is None:
                workers[0].kill()

        file = saved(KILLED, tmp_path)
        result = archsim.sweep(file, tmp_path / "out", cluster=address, progress=progress)
        assert workers[0].wait(timeout=10) != 0
        assert told[-1] == POINTS
        assert len(result.rows) == len({row["key"] for row in result.rows}) == POINTS
        alone = archsim.sweep(file, jobs=1)
        assert result.rows == alone.rows
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_no_scheduler_at_the_address(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    with pytest.raises(archsim.ArchError, match=r"no scheduler answers at tcp://127\.0\.0\.1:9"):
        archsim.sweep(saved(SMALL, tmp_path), cluster="tcp://127.0.0.1:9")


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 60), st.integers(1, 5))
def test_chunks_hold_every_point_once(families: int, members: int, size: int, workers: int) -> None:
    import pickle

    from archsim.sweeps.dispatch import Pace, chunks
    from archsim.sweeps.evaluation import Task

    pace = Pace()
    pace.size = size
    groups = [[Task(f"{f}.{m}", {}) for m in range(members)] for f in range(families)]
    found = [pickle.loads(chunk).tasks for chunk in chunks(b"", groups, pace, workers)]
    keys = [task.key for tasks in found for task in tasks]
    assert keys == [task.key for group in groups for task in group]
    assert max(map(len, found)) <= 4 * size
    # A worker that takes the last chunk keeps the others waiting for little.
    assert len(found[-1]) <= max(4 * 8, len(keys) // workers)
