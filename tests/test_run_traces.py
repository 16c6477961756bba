"""Traces of runs: an independent checker of the format, and numbers that must be the run's own."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from random_programs import long_programs, programs

import archsim
import einsum_cascade as ec
from archsim import arch, mapping
from archsim.errors import ArchError
from archsim.ladder import run_timed
from archsim.lowering import lower
from archsim.neighborhood_run import lower_neighborhood
from archsim.perfetto import trace_events, write_trace
from archsim.recording import LIMIT, record
from archsim.simulation import simulate
from archsim.timeline import ChainTimeline, busy_slots, stalls

ARCHSIM = str(Path(sys.executable).with_name("archsim"))
SERIAL = "softmax-1pass --arch fusemax-4x4 --mapping fusemax-serial --set M=8,P=4,E=4,F=4"
# What a phase of each event must have, by the description of the format.
KEYS = {
    "X": {"name", "cat", "ts", "dur", "pid", "tid", "args"},
    "s": {"name", "cat", "id", "ts", "pid", "tid"},
    "f": {"name", "cat", "id", "ts", "pid", "tid", "bp"},
    "C": {"name", "ts", "pid", "tid", "args"},
    "M": {"name", "ts", "pid", "tid", "args"},
}


class Trace:
    """A trace as a viewer reads it: tracks by name, with what is wrong as assertions."""

    def __init__(self, events):
        events = json.loads(json.dumps(events))
        names, self.process = {}, {}
        for event in events:
            assert set(event) - {"ph"} == KEYS[event["ph"]]
            assert isinstance(event["pid"], int)
            assert isinstance(event["tid"], int)
            if event["name"] == "thread_name":
                names[event["pid"], event["tid"]] = event["args"]["name"]
            if event["name"] == "process_name":
                assert event["pid"] not in self.process
                self.process[event["pid"]] = event["args"]["name"]
        timed = [event for event in events if event["ph"] != "M"]
        assert events[-len(timed) :] == timed
        assert all(0 <= a["ts"] <= b["ts"] for a, b in pairwise(timed))
        self.slices = defaultdict(list)
        for event in timed:
            if event["ph"] == "X":
                assert event["dur"] > 0
                track = self.process[event["pid"]], names[event["pid"], event["tid"]]
                self.slices[track].append(event)
        for slices in self.slices.values():
            assert all(a["ts"] + a["dur"] <= b["ts"] for a, b in pairwise(slices))
        self.flows = self._flows(timed)
        self.counters = defaultdict(list)
        for event in timed:
            if event["ph"] == "C":
                (value,) = event["args"].values()
                self.counters[self.process[event["pid"]], event["name"]].append(
                    (event["ts"], value)
                )

    def _flows(self, timed):
        """Pairs of slices, each with the times of an arrow between them."""
        at = defaultdict(list)
        for slices in self.slices.values():
            for one in slices:
                at[one["pid"], one["tid"]].append(one)

        def around(event):
            return next(
                one
                for one in at[event["pid"], event["tid"]]
                if one["ts"] <= event["ts"] < one["ts"] + one["dur"]
            )

        starts = {event["id"]: event for event in timed if event["ph"] == "s"}
        ends = {event["id"]: event for event in timed if event["ph"] == "f"}
        assert len(starts) == sum(event["ph"] == "s" for event in timed)
        assert starts.keys() == ends.keys()
        found = []
        for number, start in starts.items():
            end = ends[number]
            assert start["ts"] <= end["ts"]
            assert end["bp"] == "e"
            assert (start["name"], start["cat"]) == (end["name"], end["cat"])
            found.append((around(start), start["ts"], around(end), end["ts"]))
        return found

    def highest(self, process, name):
        """The largest value of a counter that lasts."""
        points = self.counters[process, name]
        later = [*points[1:], (float("inf"), 0)]
        return max(
            value for (time, value), (end, _) in zip(points, later, strict=True) if time < end
        )

    def integral(self, process, name):
        """The area below a counter."""
        points = self.counters[process, name]
        assert points[-1][1] == 0
        return sum(value * (end - time) for (time, value), (end, _) in pairwise(points))


def check_whole(timeline):
    """A trace of a whole run says what its Timeline says."""
    recording = record(timeline, 10**9)
    trace = Trace(trace_events(recording))
    phases = timeline.phases if isinstance(timeline, ChainTimeline) else (timeline,)
    assert recording.cycles == timeline.cycles
    assert str(recording).startswith(f"all {timeline.cycles:,} cycles")
    busy, idle, tasks = Counter(), Counter(), Counter()
    for phase in phases:
        busy.update(busy_slots(phase))
        for unit, causes in stalls(phase).items():
            idle.update({(unit, cause): n for cause, n in causes.items() if cause != "end"})
        for unit, by_task in phase.totals.slots.items():
            tasks.update({(unit, task): count for task, count in by_task.items()})
    shown, shown_idle, shown_tasks = Counter(), Counter(), Counter()
    for (process, track), slices in trace.slices.items():
        for one in slices:
            if one["cat"] == "task":
                assert one["name"] == track
                shown[process] += one["args"]["slots"]
                shown_tasks[process, track] += one["args"]["slots"]
                assert one["dur"] == (one["args"]["slots"] - 1) * one["args"]["stride"] + 1
            elif one["cat"] == "idle":
                shown_idle[process, one["name"]] += one["dur"]
    assert (busy, idle, tasks) == (shown, shown_idle, shown_tasks)
    # What a task did before belongs to the phase: these are maxima over all of them.
    most = Counter()
    moved = ticks = 0
    for phase in phases:
        for fifo, words in phase.occupancy:
            most[fifo] = max(most[fifo], words)
        moved += sum(phase.totals.moved.values())
        ticks += phase.totals.ticks
    program = phases[0].program
    for fifo, words in most.items():
        tensor, _, where = fifo.partition("@")
        unit = program.lanes.name if where == "landing" else program.array.name
        assert words == trace.highest(unit, f"{tensor} {where}")
    memory = program.architecture.outer.name
    assert trace.integral(memory, "bandwidth") == pytest.approx(moved, rel=1e-12)
    assert 256 * sum(one["dur"] for one in trace.slices[memory, "moves"]) == ticks
    assert sum(one["args"]["bytes"] for one in trace.slices[memory, "moves"]) == moved
    for phase in phases:
        for move in phase.program.moves:
            size = max(phase.program.granule_bytes(move, tile) for tile in phase.program.tiles)
            if len(phases) == 1:
                assert trace.highest("buffer", move.tensor) <= move.entries * size
    return trace


def low(cascade, architecture, placing, model=None, **sizes):
    chip, found = arch.load_architecture(architecture), mapping.load_mapping(placing)
    return lower(ec.load(cascade), ec.workload(model, **sizes), chip, found)


SMALL = [
    ("softmax-1pass", "fusemax", {"M": 24, "P": 12, "E": 4, "F": 3, "H": 2}),
    ("softmax-1pass", "fusemax-serial", {"M": 1, "P": 1, "E": 1, "F": 1}),
    ("causal-1pass", "fusemax-ahead", {"M": 23, "P": 19, "E": 5, "F": 7}),
    ("projection", "projection", {"N": 13, "S": 9, "D": 6}),
    ("projection", "projection-ws", {"N": 13, "S": 9, "D": 6}),
    ("softmax-3pass", "spilled-3pass", {"M": 12, "P": 7, "E": 3, "F": 4, "H": 2}),
    ("linear-attention", "linear-attention", {"M": 12, "P": 8, "E": 4, "F": 4}),
]


@pytest.mark.parametrize(("cascade", "placing", "sizes"), SMALL)
def test_a_trace_adds_up_to_its_run(cascade, placing, sizes):
    check_whole(simulate(low(cascade, "fusemax-4x4", placing, **sizes)))


def test_traces_of_random_programs_add_up():
    @settings(max_examples=40, suppress_health_check=list(HealthCheck), deadline=None)
    @given(programs())
    def adds_up(case):
        try:
            timeline = simulate(case.program)
        except ArchError:
            return
        check_whole(timeline)

    adds_up()


def test_the_worked_example_of_the_schedule_page():
    """LM in slot 5 crosses 4 rows: RM in slot 9, so SLN in 11; slot s is the cycle from s - 1."""
    timeline = simulate(low("softmax-1pass", "fusemax-4x4", "fusemax-serial", M=8, P=4, E=4, F=4))
    trace = check_whole(timeline)
    first = {track: slices[0] for (_, track), slices in trace.slices.items()}
    assert [first[task]["ts"] for task in ("QK", "LM", "RM", "SLN", "AV")] == [0, 4, 8, 10, 52]
    assert first["SLN"]["args"] == {
        "einsum": timeline.program.task("SLN").text,
        "tile": 0,
        **{f"tile {loop}": 0 for loop in ("b", "h", "p2", "m1", "p1")},
        "first slot": 11,
        "slots": 7,
        "stride": 1,
        "idle before": 5,
        "waited for": "return",
    }
    arrows = {(a["name"], s, b["name"], e) for a, s, b, e in trace.flows}
    assert {("QK", 3, "LM", 4), ("LM", 4, "RM", 8), ("RM", 8, "SLN", 10)} <= arrows
    # The running maximum of the second tile needs that of the first.
    assert ("RM", 8, "RM", 30) in arrows or ("RM", 8, "PRM", 31) in arrows
    assert trace.slices["run", "phases"][0]["dur"] == 59


def test_arrows_are_the_dependencies_of_the_program():
    """Every operand that another task makes has an arrow in every tile that has a maker."""
    timeline = simulate(low("softmax-1pass", "fusemax-4x4", "fusemax", M=24, P=12, E=4, F=4))
    program = timeline.program
    expected = Counter()
    for task in program.tasks:
        for index in program.acting[task.name]:
            makers = set()
            for operand in (o for step in task.steps for o in step.operands):
                if operand.source in ("register", "landing", "returned"):
                    made = program.source_tile(task, program.tiles[index], operand)
                    if made is not None:
                        makers.add((program.source(task, operand).name, made))
            expected.update((maker, task.name, index) for maker, _ in makers)
    trace = check_whole(timeline)
    found = Counter(
        (a["name"], b["name"], b["args"]["tile"])
        for a, _, b, _ in trace.flows
        if a["cat"] == b["cat"] == "task"
    )
    assert expected == found


def beginning_is_the_same(timeline, limit):
    """A beginning, cut off where it might differ, is what a whole run does until then."""
    part, whole = record(timeline, limit), record(timeline, 10**9)
    for a, b in zip(part.parts, whole.parts, strict=True):
        end = a.cycles
        assert end <= b.cycles

        def slots(facts, end=end):
            return {(f.task, f.tile, s) for f in facts for s in f.slots if s <= end}

        assert slots(a.facts) == slots(b.facts)
        assert list(a.gaps) == [gap for gap in b.gaps if gap.first + gap.count <= end]
        for shown, known in ((a.fifos, b.fifos), (a.buffer, b.buffer)):
            assert shown.keys() == known.keys()
            for name, levels in shown.items():
                assert [x for x in levels if x[0] < end] == [x for x in known[name] if x[0] < end]
        moves = [(x.granule.move.name, x.granule.number, x.start) for x in b.transfers]
        assert [(x.granule.move.name, x.granule.number, x.start) for x in a.transfers] == [
            move for move in moves if move[2] < end
        ]
    Trace(trace_events(part))
    return part


@pytest.mark.parametrize("limit", [400, 1500, 4000])
@pytest.mark.parametrize(
    ("cascade", "placing", "sizes"),
    [
        ("softmax-1pass", "fusemax", {"M": 40, "P": 36, "E": 4, "F": 4, "H": 2}),
        ("causal-1pass", "fusemax-ahead", {"M": 61, "P": 53, "E": 3, "F": 5, "H": 2}),
        ("projection", "projection", {"N": 40, "S": 36, "D": 10}),
        ("softmax-3pass", "spilled-3pass", {"M": 40, "P": 36, "E": 4, "F": 4, "H": 2}),
        ("linear-attention", "linear-attention", {"M": 60, "P": 60, "E": 4, "F": 4, "H": 2}),
    ],
)
def test_the_beginning_of_a_long_run_is_exact(cascade, placing, sizes, limit):
    timeline = simulate(low(cascade, "fusemax-4x4", placing, **sizes))
    part = beginning_is_the_same(timeline, limit)
    if limit == 4000:
        assert sum(one.cycles for one in part.parts) > 200


def test_beginnings_of_random_programs_are_exact():
    seen = Counter()

    @settings(max_examples=12, suppress_health_check=list(HealthCheck), deadline=None)
    @given(long_programs())
    def same(case):
        try:
            timeline = simulate(case.program)
        except ArchError:
            return
        part = beginning_is_the_same(timeline, 2500)
        seen["cut"] += not part.parts[0].is_whole
        seen["some"] += 0 < part.parts[0].cycles < timeline.cycles

    same()
    assert seen["cut"] >= 3
    assert seen["some"] >= 2


def test_a_million_tokens_show_their_beginning(tmp_path):
    program = low("softmax-1pass", "fusemax", "fusemax", "bert", M=2**20, P=2**20)
    recording = record(simulate(program), 20_000)
    (part,) = recording.parts
    assert 1_000 < part.cycles < 20_000
    assert str(recording).startswith(f"the beginning only: {part.cycles:,} of ")
    write_trace(recording, tmp_path / "t.json.gz")
    found = json.loads(gzip.decompress((tmp_path / "t.json.gz").read_bytes()))
    assert found["otherData"]["shows"] == str(recording)
    assert found["otherData"]["time"] == "1 us is 1 cycle of 940 MHz"
    assert found["displayTimeUnit"] == "ns"
    trace = Trace(found["traceEvents"])
    # QK and SLNV 64 slots, SLN 7, LM and SLD 1. Lanes take one more and fall behind, at first.
    starts = [one["ts"] for one in trace.slices["array_2d", "QK"]]
    assert {b - a for a, b in pairwise(starts[10:20])} == {64 + 64 + 7 + 1 + 1}
    assert (tmp_path / "t.json.gz").stat().st_size < 200_000


def test_the_beginning_with_a_table_of_blocks_is_exact():
    """Which key tiles are fetched, and read by whom, is looked up, not counted."""
    neighborhood = ec.Neighborhood((90,), (23,), (4,))
    tiles = neighborhood.tiles((4,), (4,))
    sizes = ec.workload(E=3, F=3, H=2)
    for entries in (3, 9):
        program = lower_neighborhood(neighborhood, tiles, sizes, "fusemax-4x4", entries=entries)
        part = beginning_is_the_same(simulate(program), 2_500)
        assert 0 < part.parts[0].cycles < part.cycles
        check_whole(simulate(program))


def test_the_page_shows_what_the_command_prints(tmp_path):
    page = (Path(__file__).parents[1] / "docs" / "runs.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```console\n(.*?)```", page, re.DOTALL)
    words, _, expected = block.partition("\n")
    done = command(*words.removeprefix("$ archsim ").split(), cwd=tmp_path)
    assert (done.stderr + done.stdout).startswith(expected)
    # What the page says of a layer of BERT.
    timeline = simulate(low("softmax-1pass", "fusemax", "fusemax", "bert", M=4096, P=4096))
    assert str(record(timeline)) in page
    assert f"{LIMIT:,} micro-ops" in page


def command(*words, cwd):
    return subprocess.run([ARCHSIM, *words], capture_output=True, text=True, check=False, cwd=cwd)


def test_the_command_writes_a_trace_and_figures(tmp_path):
    done = command(
        "run", *SERIAL.split(), "--trace", "t.json.gz", "--plot", "figures", "--json", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["cycles"] == 59
    assert "wrote t.json.gz: all 59 cycles, 2 tiles" in done.stderr
    Trace(json.loads(gzip.decompress((tmp_path / "t.json.gz").read_bytes()))["traceEvents"])
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    stems = ("waterfall", "fifos", "buffer", "roofline", "utilization", "energy")
    assert {f"{stem}.{end}" for stem in stems for end in ("png", "svg")} == names


def test_figures_without_times(tmp_path):
    words = "run softmax-3pass --arch flat --mapping flat --model bert --set M=4096,P=4096"
    done = command(*words.split(), "--level", "published", "--plot", "figures", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "level 'published' executes nothing: no figures of tasks over time" in done.stderr
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {
        "roofline",
        "utilization",
        "energy",
    }


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--trace t.json", "t.json is no .json.gz file\n  write --trace t.json.gz"),
        ("--trace t", "write --trace t.json.gz"),
        ("--trace no/t.json.gz", "there is no folder no"),
        ("--plot no/figures", "there is no folder no"),
        ("--trace t.json.gz --level bound", "'bound' executes nothing, so there is nothing to"),
        ("--trace t.json.gz --level bound", "levels that do: --level tile, pe"),
        ("--trace t.json.gz --level published", "'published' executes nothing"),
    ],
)
def test_bad_requests(words, expected, tmp_path):
    words = f"{SERIAL.replace('-serial', '').replace('-4x4', '')} {words}"
    done = command("run", *words.split(), cwd=tmp_path)
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_program_file_has_a_trace_too(tmp_path):
    done = command("lower", *SERIAL.split(), "-o", "p.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = command("run", "--program", "p.yaml", "--trace", "t.json.gz", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "all 59 cycles" in done.stderr


def test_reports_are_those_of_run():
    sizes = {"M": 24, "P": 12, "E": 4, "F": 4}
    args = (ec.load("softmax-1pass"), ec.workload(**sizes), "fusemax-4x4", "fusemax")
    report, timeline = run_timed(*args)
    assert report == archsim.run(*args)
    assert report.cycles == timeline.cycles
    assert run_timed(*args, level="bound")[1] is None
