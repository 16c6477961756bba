"""What a sweep refuses, and where it says so: files of others, edited results, odd values."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

import archsim
from archsim.sweeps import checking, storage
from archsim.sweeps.definition import load_sweep, sweep_from
from archsim.sweeps.reading import read_results
from einsum_cascade.documents import read_text

HEAD = """name: mine
cascade: softmax-1pass
model: bert
arch: fusemax-4x4
mapping: fusemax
level: bound
sizes: {B: 1, H: 2, E: 4, F: 4, M: 8, P: 8}
"""
SMALL = HEAD + "over: {sizes.M: [8, 12]}\n"
FULL = HEAD + "over: {sizes.M: {range: [4, 96, 4]}}\n"
ARCHSIM = str(Path(sys.executable).with_name("archsim"))


def saved(text: str, folder: Path, name: str = "mine.yaml") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def problems(text: str, tmp_path: Path) -> list[str]:
    """What a sweep is refused for: line, column and message of each mistake, and its hint."""
    with pytest.raises(archsim.ArchError) as caught:
        archsim.sweep(saved(text, tmp_path), jobs=1)
    return [
        f"{p.source.line}:{p.source.column} {p.message}; {p.hint}" for p in caught.value.problems
    ]


def test_what_is_wrong_with_all_values_of_a_range_is_said_once(tmp_path: Path) -> None:
    found = problems(HEAD + "over:\n  arch.array_2d.rws: {log2: [64, 512]}\n", tmp_path)
    assert len(found) == 1
    assert found[0].startswith("9:22 unknown key 'rws'; known keys: count, rows")
    assert found[0].endswith("did you mean 'rows'?")


def test_a_mapping_may_speak_of_a_cascade_beside_it(tmp_path: Path) -> None:
    """By its path; a bare name is a shipped one's, and the message says what to write instead."""
    cascade, mapping = (
        Path(str(files(package))) / name
        for package, name in (
            ("einsum_cascade.workloads", "cascades/softmax-1pass.yaml"),
            ("archsim.mappings", "fusemax.yaml"),
        )
    )
    saved(cascade.read_text().replace("name: softmax-1pass", "name: own"), tmp_path, "own.yaml")
    text = mapping.read_text()
    sweep = SMALL.replace("softmax-1pass", "own.yaml").replace(
        "mapping: fusemax", "mapping: m.yaml"
    )
    saved(text.replace("cascade: softmax-1pass", "cascade: own"), tmp_path, "m.yaml")
    (found,) = problems(sweep, tmp_path)
    assert found.startswith("5:10 unknown cascade 'own'; ")
    assert "m.yaml:4:10: unknown cascade 'own'" in found
    assert found.endswith("to take the file beside it write own.yaml")
    saved(text.replace("cascade: softmax-1pass", "cascade: own.yaml"), tmp_path, "m.yaml")
    result = archsim.sweep(saved(sweep, tmp_path), jobs=1)
    assert ["", ""] == list(result.table["error"].fillna(""))


# ---- folders ----


@pytest.mark.parametrize("foreign", [storage.COPY, storage.TABLE])
def test_files_that_no_sweep_wrote_stay(foreign: str, tmp_path: Path) -> None:
    file = saved(SMALL, tmp_path)
    saved("precious", tmp_path, foreign)
    with pytest.raises(archsim.ArchError, match=rf"{foreign}: this would be written over"):
        archsim.sweep(file, tmp_path, jobs=1)
    assert (tmp_path / foreign).read_text() == "precious"
    assert not (tmp_path / storage.RESULTS).exists()


def test_a_sweep_may_lie_in_the_folder_of_its_results(tmp_path: Path) -> None:
    file = saved(SMALL, tmp_path, storage.COPY)
    archsim.sweep(file, tmp_path, jobs=1)
    archsim.sweep(file, tmp_path, jobs=1, resume=True)
    assert (tmp_path / storage.COPY).read_text() == SMALL
    assert len(read_results(tmp_path)[0].rows) == 2


def test_two_sweeps_do_not_write_to_one_folder_at_a_time(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    sweep, out = load_sweep(saved(SMALL, tmp_path)), tmp_path / "out"
    first = storage.Store(out)
    first.open(sweep, resume=False)
    first.add([("a", '{"key": "a", "error": ""}')])
    with pytest.raises(archsim.ArchError, match="another sweep is writing here"):
        archsim.sweep(sweep, out, jobs=1, resume=True)
    first.close()
    assert len(archsim.sweep(sweep, out, jobs=1, resume=True).rows) == 2


@pytest.mark.parametrize(
    "line",
    [b"\xff\xfe", b"", b"[1]", b'{"key": "a"}', b'{"key": [1], "error": ""}', b'{"error": ""}'],
)
def test_lines_that_are_none_of_results(line: bytes, tmp_path: Path) -> None:
    file, out = saved(SMALL, tmp_path), tmp_path / "out"
    archsim.sweep(file, out, jobs=1)
    with (out / storage.RESULTS).open("ab") as results:
        results.write(line + b"\n")
    said = r"results\.jsonl:3:1: this is no line of results"
    with pytest.raises(archsim.ArchError, match=said):
        archsim.sweep(file, out, jobs=1, resume=True)
    with pytest.raises(archsim.ArchError, match=said):
        read_results(out)


def test_parquet_takes_columns_of_numbers_and_text(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    text = HEAD + f"over: {{label: [1, a, null, true, {10**30}], label.n: [{2**53 + 1}, 0.1]}}\n"
    result = archsim.sweep(saved(text, tmp_path), jobs=1)
    storage.write_parquet(list(result.rows), tmp_path / "r.parquet")
    found = pd.read_parquet(tmp_path / "r.parquet")
    labels = ["1", "a", None, "True", "1e+30"]
    assert [None if pd.isna(one) else one for one in found["label"][::2]] == labels
    assert found["latency_s"].tolist() == [row["latency_s"] for row in result.rows]
    assert found["label.n"].tolist() == [float(row["label.n"]) for row in result.rows]


# ---- what stands in the file ----


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("over: {arch.clock: 1 GHz}", "8:20 over.arch.clock: values are a list, {log2: "),
        ("over: {sizes.M: {from: 1, to: 2}}", "8:17 over.sizes.M: values are a list, {log2: "),
        ("over: {sizes.M: {log2: [1, 2], range: [1, 2, 3]}}", "8:17 over.sizes.M: values are"),
        ("over: {sizes.M: {range: [1, 4]}}", "8:25 over.sizes.M.range: list should have at least"),
        ("over: {sizes.M: {range: [1, 4, true]}}", "8:32 over.sizes.M.range.2: input should be a"),
        ("over: {sizes.M: {range: [1, 9000000, 2]}}", "8:17 a range has up to 1,000,000 values"),
        ("over: {label: [2024-01-01]}", "8:16 2024-01-01 is no value of an axis"),
        ("over: {label: [a, .nan]}", "8:19 nan is no value of an axis"),
        ("sampler: nsga2", "8:10 sampler: input should be a valid dictionary"),
        ("constraints: [cycles <= 1e400]", "8:15 '1e400' is no limit"),
        ("constraints: [cycles <= 1e999999999]", "8:15 '1e999999999' is no limit"),
    ],
)
def test_odd_values_have_places(line: str, said: str, tmp_path: Path) -> None:
    found = problems(HEAD + line + "\n", tmp_path)
    assert len(found) == 1
    assert found[0].startswith(said)


def test_a_sampler_says_how_it_is_written(tmp_path: Path) -> None:
    (found,) = problems(HEAD + "sampler: tpe\n", tmp_path)
    assert found.endswith("sampler: an optimizer, such as {method: nsga2, points: 500}")


@pytest.mark.parametrize("given", ["true", "4.0", "'4'"])
def test_sizes_are_whole_numbers(given: str, tmp_path: Path) -> None:
    (found,) = problems(HEAD.replace("M: 8", f"M: {given}"), tmp_path)
    assert found.startswith("7:36 sizes.M: input should be a valid integer")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("mapping: fusemax", "mapping: [gna, search]", "5:16 searching for a mapping comes later"),
        ("mapping: fusemax", "over: {mapping: [search]}", "5:18 searching for a mapping comes"),
        ("mapping: fusemax", "mapping: [gna, gna]", "5:16 gna is listed twice; list it once"),
        ("model: bert", "model: [bert, 5]", "3:15 model.1: input should be a valid string"),
        ("model: bert", "model: 5", "3:8 model.name: input should be a valid string"),
    ],
)
def test_names_that_are_none(old: str, new: str, said: str, tmp_path: Path) -> None:
    (found,) = problems(HEAD.replace(old, new), tmp_path)
    assert found.startswith(said)


@pytest.mark.parametrize(
    ("values", "ordered"),
    [("1 GB/s, 2 GB/s", True), ("1 GB/s, 2 MB/s", False), ("1, 2 MB/s", False), ("true, 2", False)],
)
def test_quantities_of_several_units_are_in_no_order(values: str, ordered: bool) -> None:
    text = HEAD + f"over: {{arch.dram.bandwidth: [{values}]}}\n"
    (axis,) = sweep_from(read_text(text, "mine.yaml", archsim.ArchError)).axes
    assert axis.is_ordered is ordered


def test_one_point_at_a_time_is_a_batch(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    text = SMALL + "sampler: {method: nsga2, points: 6, batch: 1}\n"
    assert len(archsim.sweep(saved(text, tmp_path), jobs=1).rows) == 2


# ---- what nothing would read ----


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("objectives: {latency: min}", "8:14 a report has no number 'latency'"),
        ("objectives: {bottleneck: min}", "8:14 a report has no number 'bottleneck'"),
        ("objectives: {model: min}", "8:14 not all values of model are numbers"),
        ("constraints: [area_um.total <= 3]", "8:15 a report has no number 'area_um.total'"),
        ("over: {label: [1, a]}\nconstraints: [label < 3]", "9:15 not all values of label are"),
        ("over: {numbers.exp: [poly3]}", "8:8 the sweep has no numbers; give it: format"),
        ("over: {neighborhood.hold: [3]}", "8:8 the sweep has no neighborhood; give it: shape, "),
        ("numbers: {format: bf16}\nover: {numbers.expp: [poly3]}", "9:8 numbers has no 'expp'"),
        ("numbers: {format: bf16}\nover: {numbers.format: [fp8]}", "9:25 format: input should be"),
        ("numbers: {format: bf16}\nover: {numbers.exp: [poly3, poly9]}", "9:29 unknown unit 'poly"),
        ("numbers: {format: bf16, exp: pol3}", "8:30 unknown unit 'pol3'; units for 2^x: "),
        ("neighborhood: {shape: 4x4, window: 3x3}", "6:8 level bound takes no neighborhood"),
    ],
)
def test_what_nothing_reads_has_a_place(line: str, said: str, tmp_path: Path) -> None:
    text = HEAD.replace(", M: 8, P: 8", "") if "shape" in line else HEAD
    (found,) = problems(text + line + "\n", tmp_path)
    assert found.startswith(said)


LAYER = """name: layer
arch: fusemax-4x4
sizes: {H: 1, E: 4, F: 4}
neighborhood: {shape: 12x12, window: 6x6, q_tile: 2x2, kv_tile: 2x2}
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("", "over: {neighborhood.strid: [1x1]}", "5:8 neighborhood has no 'strid'; known keys: "),
        ("", "over: {neighborhood.stride: [1x1, 2y2]}", "5:35 '2y2' is no shape; tokens in each"),
        ("", "over: {neighborhood.stride: [[1, 1]]}", "5:30 stride: input should be a valid str"),
        ("", "over: {neighborhood.hold: [2, 1]}", "5:31 hold: input should be greater than or"),
        ("12x12", "12x1y2", "4:23 '12x1y2' is no shape; tokens in each dimension, such as 4x8x8"),
        ("H: 1", "M: 144", "3:9 sizes.M follows from the shape of the neighborhood; leave it out"),
    ],
)
def test_fields_of_a_neighborhood_have_places(
    old: str, new: str, said: str, tmp_path: Path
) -> None:
    text = LAYER.replace(old, new) if old else LAYER + new + "\n"
    (found,) = problems(text, tmp_path)
    assert found.startswith(said)


@pytest.mark.parametrize(
    "other", ["arch.memories.buffer.capacity", "arch.buffer.capacity.value", "arch.buffer"]
)
def test_one_field_is_varied_once(other: str, tmp_path: Path) -> None:
    whole = "{capacity: {value: 64 KiB, source: s, status: assumed}, width: 64 bit, parent: dram}"
    value = whole if other == "arch.buffer" else "32 KiB"
    text = f"{HEAD}over:\n  arch.buffer.capacity: [16 KiB]\n  {other}: [{value}]\n"
    (found,) = problems(text, tmp_path)
    assert found.startswith(f"10:3 '{other}' and 'arch.buffer.capacity' are of one field")


def test_numbers_that_may_be_looked_for_are_those_of_reports(tmp_path: Path) -> None:
    text = HEAD.replace("bound", "tile") + "numbers: {format: bf16}\n"
    (row,) = archsim.sweep(saved(text, tmp_path), jobs=1).rows
    numbers = {p for p, v in row.items() if isinstance(v, int | float)} - {"numbers.queries"}
    known = (*checking.REPORTED, *checking.ERRORS)
    assert {p for p in numbers if not p.startswith(known)} == {"numbers.seed"}
    assert {one for one in known if not any(p.startswith(one) for p in numbers)} <= {"tiles."}


def test_words_that_move_are_what_passes_look_for(tmp_path: Path) -> None:
    text = HEAD.replace("mapping: fusemax\n", "").replace("bound", "passes")
    result = archsim.sweep(saved(text, tmp_path), jobs=1)
    assert len(result.pareto()) == 1


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ("area_um2.total <= 5 GB/s", "8:15 'GB/s' is no unit of area_um2.total: um2, mm2; "),
        ("cycles <= 3 MiB", "8:15 cycles has no unit, so its limit has none; "),
        ("latency_s <= 3 s", "8:15 's' is no unit of latency_s: ns, us, ms; "),
    ],
)
def test_limits_have_units_of_what_they_limit(limit: str, said: str, tmp_path: Path) -> None:
    (found,) = problems(HEAD + f"constraints: [{limit}]\n", tmp_path)
    assert found.startswith(said)


# ---- results ----


@pytest.mark.parametrize("jobs", [0, -1, "two"])
def test_processes_are_a_positive_number(jobs: int, tmp_path: Path) -> None:
    with pytest.raises(archsim.ArchError, match="is no number of processes"):
        archsim.sweep(saved(SMALL, tmp_path), jobs=jobs)


def test_a_result_says_what_it_is_of_and_knows_its_numbers(tmp_path: Path) -> None:
    result = archsim.sweep(saved(SMALL, tmp_path), jobs=1)
    assert repr(result) == "<sweep mine: 2 points, 0 failed>"
    assert len(result.pareto("cycles")) == 2
    with pytest.raises(archsim.ArchError, match=r"no point has 'cycels'\n.*did you mean 'cycles'"):
        result.pareto("cycels")


def test_results_of_another_sweep_are_not_drawn(tmp_path: Path) -> None:
    file, out = saved(SMALL, tmp_path), tmp_path / "out"
    archsim.sweep(file, out, jobs=1)
    saved(SMALL.replace("sizes.M", "arch.clock").replace("8, 12", "1 GHz"), out, storage.COPY)
    with pytest.raises(archsim.ArchError, match=r"has no arch\.clock, which the sweep varies"):
        read_results(out)


def test_a_full_disk_is_named_and_what_was_written_is_kept(tmp_path: Path) -> None:
    """A limit on the size of files stands for a disk without room."""
    file, out, calm = saved(FULL, tmp_path), tmp_path / "out", tmp_path / "calm"
    command = 'ulimit -f 40; "$0" sweep "$1" -o "$2" --jobs 1 --json'
    run = ["bash", "-c", command, ARCHSIM, file, str(out)]
    found = subprocess.run(run, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.startswith(f"error: {out / storage.RESULTS}: File too large\n  what was ")
    archsim.sweep(file, calm, jobs=1)
    archsim.sweep(file, out, jobs=1, resume=True)
    assert (out / storage.RESULTS).read_bytes() == (calm / storage.RESULTS).read_bytes()


def test_a_mistake_in_a_file_that_is_named_has_its_place_there(tmp_path: Path) -> None:
    chip = archsim.load_architecture("fusemax-4x4")
    assert chip.document is not None
    own = Path(chip.document.file).read_text() + "foo: bar\n"
    saved(own, tmp_path, "chip.yaml")
    text = SMALL.replace("arch: fusemax-4x4", "arch: [fusemax, chip.yaml]")
    (found,) = problems(text + "  # nothing else is said of it\n", tmp_path)
    assert found.startswith("4:17 unknown key 'foo'; ")
    assert f"chip.yaml:{len(own.splitlines())}:1: unknown key 'foo'" in found
