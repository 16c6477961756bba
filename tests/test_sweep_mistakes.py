"""What a sweep refuses, and where it says so: files of others, edited results, odd values."""

from __future__ import annotations

from pathlib import Path

import pytest

import archsim
from archsim.sweeps import storage
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
