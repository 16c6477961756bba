"""What is drawn of results: which charts, with which numbers; and the page, in a real browser."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

import archsim
from archsim.sweeps.chart_choice import charts
from archsim.sweeps.charts import Chart, Series, ticks
from archsim.sweeps.drawings import draw
from archsim.sweeps.fronts import fronts
from archsim.sweeps.metrics import fitting, metric, shorts
from archsim.sweeps.page import write_page
from archsim.sweeps.reading import read_results
from archsim.sweeps.results import Results

ARCHSIM = str(Path(sys.executable).with_name("archsim"))
SWEEP = """
name: drawn
description: Aspects <of> a small array.
cascade: softmax-1pass
model: bert
arch: fusemax-4x4
mapping: fusemax
sizes: {B: 1, H: 2, E: 4, F: 4}
over:
  sizes.M,sizes.P: [[8, 8], [16, 16], [64, 64]]
  arch.dram.bandwidth: [1 GB/s, 4 GB/s, 100 GB/s]
  arch.buffer.capacity: [64 B, 16 KiB, 64 KiB]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of the sweep: 18 points that ran, 9 that failed."""
    path = tmp_path_factory.mktemp("sweep")
    (path / "mine.yaml").write_text(SWEEP)
    result = archsim.sweep(str(path / "mine.yaml"), path / "out", jobs=1)
    assert (len(result.rows), result.failed) == (27, 9)
    return path / "out"


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    return read_results(folder)[0]


def named(results: Results, name: str) -> Chart:
    return next(chart for chart in charts(results) if chart.name == name)


def row(**values: Any) -> dict[str, Any]:
    return {"error": "", **{name.replace("__", "."): value for name, value in values.items()}}


def test_charts_are_those_that_the_results_have_data_for(results: Results) -> None:
    assert [chart.name for chart in charts(results)] == [
        "front_energy_pj_latency_s",
        "front_area_um2_latency_s",
        "front_area_um2_energy_pj",
        "latency_s_sizes_M",
        "latency_s_arch_dram_bandwidth",
        "utilization_array_2d_sizes_M",
        "utilization_array_1d_sizes_M",
        # Bars of 64 keys would be 64 times as long as those of 8.
        *(f"time_stack_array_{n}d_M_{m}" for m in (8, 16, 64) for n in (2, 1)),
        *(f"energy_stack_M_{m}" for m in (8, 16, 64)),
        "roofline",
        "sensitivity",
    ]


def test_every_axis_has_a_unit(results: Results) -> None:
    for chart in charts(results):
        numbers = [chart.y_label] if not chart.x_label else [chart.x_label, chart.y_label]
        assert all(label.endswith(")") and "(" in label for label in numbers), chart.name
        assert all(len(one.x) == len(one.y) for one in chart.series)


def test_stacks_add_up(results: Results) -> None:
    problems = results.problems()
    assert list(problems) == ["M 8", "M 16", "M 64"]
    for problem, part in problems.items():
        rows = {part.name(row): row for row in part.good}
        for name, path in (
            ("time_stack_array_2d", "latency_s"),
            ("time_stack_array_1d", "latency_s"),
            ("energy_stack", "energy_pj.total"),
        ):
            chart = named(results, f"{name}_{problem.replace(' ', '_')}")
            assert chart.title.endswith(f", {problem}")
            assert len(chart.series[0].x) == len(rows)
            for place, label in enumerate(chart.series[0].x):
                total = sum(one.y[place] for one in chart.series)
                expected = rows[str(label)][path] * part.metric(path).factor
                assert total == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("lengths", "found"),
    [((8, 16), [""]), ((8, 80), ["_M_8", "_M_80"]), (range(8, 800, 80), "8 248 488 728")],
)
def test_bars_of_one_chart_are_of_like_length(lengths: Iterable[int], found: Any) -> None:
    """Ten lengths are drawn as the four that are apart evenly."""
    named = [f"_M_{m}" for m in found.split()] if isinstance(found, str) else found
    rows = [
        row(sizes__M=m, label=one, energy_pj__total=m, energy_pj__by_component__mac=m)
        for m in lengths
        for one in "ab"
    ]
    goals = (("energy_pj.total", "min"),)
    results = Results("made up", tuple(rows), ("sizes.M", "label"), goals)
    stacks = [chart for chart in charts(results) if chart.name.startswith("energy_stack")]
    assert [chart.name.removeprefix("energy_stack") for chart in stacks] == named
    assert all(max(len(one.x) for one in chart.series) <= 24 for chart in stacks)
    told = "4 of 10 problems are drawn"
    assert [chart.note for chart in stacks] == [told if len(named) == 4 else ""] * len(named)


def test_bars_that_are_short_in_every_problem_stay_together() -> None:
    """Arrays of very different size run each model: charts of models would show no more of them."""
    rows = [
        row(model=model, label=str(size), energy_pj__total=e, energy_pj__by_component__mac=e)
        for model, once in (("a", 1.0), ("b", 4.0))
        for size in (1, 10, 100)
        for e in (once * size,)
    ]
    goals = (("energy_pj.total", "min"),)
    results = Results("made up", tuple(rows), ("model", "label"), goals)
    names = [chart.name for chart in charts(results)]
    assert "energy_stack" in names
    assert not any(name.startswith("energy_stack_") for name in names)


def test_lines_show_the_best_of_each_place(results: Results) -> None:
    chart = named(results, "latency_s_sizes_M")
    factor = results.metric("latency_s").factor
    assert [one.name for one in chart.series] == ["1 GB/s", "4 GB/s", "100 GB/s"]
    for one in chart.series:
        for length, latency in zip(one.x, one.y, strict=True):
            found = [
                row["latency_s"]
                for row in results.good
                if row["sizes.M"] == length and row["arch.dram.bandwidth"] == one.name
            ]
            assert latency == pytest.approx(min(found) * factor)
    # Against a bandwidth, problems are told apart.
    other = named(results, "latency_s_arch_dram_bandwidth")
    assert [one.name for one in other.series] == ["M 8", "M 16", "M 64"]
    assert other.x_label == "bandwidth (GB/s)"
    assert other.series[0].x == (1.0, 4.0, 100.0)


def test_no_point_lies_above_the_roof(results: Results) -> None:
    chart = named(results, "roofline")
    points = [one for one in chart.series if one.name != "roof"]
    pairs = [pair for one in points for pair in zip(one.x, one.y, strict=True)]
    assert len(pairs) == 18
    assert all(y <= 100 * min(1.0, float(x)) * (1 + 1e-9) for x, y in pairs)


def test_points_compete_within_one_problem() -> None:
    rows = [
        row(sizes__M=8, t=1.0, e=2.0),
        row(sizes__M=8, t=2.0, e=3.0),
        row(sizes__M=16, t=5.0, e=5.0),
    ]
    goals = [("t", "min"), ("e", "min")]
    assert fronts(rows, goals, (), ["sizes.M"]) == [0, 2]
    assert fronts(rows, goals, (), []) == [0]


def test_sensitivity_is_what_an_axis_multiplies() -> None:
    rows = [
        row(**{"arch.a": a, "arch.b": b, "latency_s": a * b * b, "level": "tile"})
        for a in (1, 3)
        for b in (1, 2, 4)
    ]
    found = Results("made up", tuple(rows), ("arch.a", "arch.b"), (("latency_s", "min"),))
    chart = named(found, "sensitivity")
    assert chart.series[0].x == ("a", "b")
    assert chart.series[0].y == pytest.approx((3.0, 16.0))


def test_names_and_units() -> None:
    assert shorts(["arch.array_2d.rows", "arch.array_1d.lanes", "sizes.M"]) == {
        "arch.array_2d.rows": "rows",
        "arch.array_1d.lanes": "lanes",
        "sizes.M": "M",
    }
    assert shorts(["arch.dram.latency", "arch.mac.latency"]) == {
        "arch.dram.latency": "dram.latency",
        "arch.mac.latency": "mac.latency",
    }
    assert str(metric("energy_pj.by_component.dram")) == "energy by_component.dram (J)"
    assert str(fitting("latency_s", [30.0])) == "latency (s)"
    assert str(fitting("latency_s", [3e-6])) == "latency (µs)"
    assert fitting("latency_s", [3e-6]).factor == 1e6
    assert str(fitting("energy_pj.total", [5e9])) == "energy (mJ)"
    assert str(metric("error_rms")) == "error, rms relative to float64 (ratio)"


def test_ticks_of_logarithmic_axes_are_round() -> None:
    series = (Series("one", (3.0, 70.0), (1.0, 2.0), "#000000"),)
    chart = Chart("c", "t", "x (s)", "y (s)", series, x_log=True)
    assert ticks(chart, "x") == [
        (2, "2"),
        (5, "5"),
        (10, "10"),
        (20, "20"),
        (50, "50"),
        (100, "100"),
    ]
    assert ticks(chart, "y") == []
    wide = Chart("c", "t", "x", "y", (Series("one", (1.0, 1e6), (1.0, 2.0), ""),), x_log=True)
    assert [text for _, text in ticks(wide, "x")][-2:] == ["100,000", "1,000,000"]


def test_names_may_hold_anything_and_objectives_be_many(tmp_path: Path) -> None:
    goals = [f"utilization.{n}" for n in range(9)]
    rows = [
        row(**{"label.a/b": a, "label": b, "arch.r": a * a, "level": "tile", "accounting": "paper"})
        | {goal: float(number + a) for number, goal in enumerate(goals)}
        for a in (1, 2, 3)
        for b in ("$x$ $\\\\foo$", "plain", "<b>")
    ]
    varied = ("label.a/b", "label", "arch.r")
    found = Results("made up", tuple(rows), varied, tuple((goal, "max") for goal in goals))
    chosen = [chart for chart in charts(found) if not chart.name.startswith("front_")]
    assert "utilization_0_label_a_b" in [chart.name for chart in chosen]
    assert len(named(found, "sensitivity").series) == 9
    written = draw([*chosen[:1], named(found, "sensitivity")], tmp_path)
    assert all(path.stat().st_size > 5_000 for path in written)
    write_page(
        Results("made up", tuple(rows), varied, found.objectives[:2]), "", tmp_path / "p.html"
    )


def test_points_without_a_colour_are_counted() -> None:
    rows = [
        row(sizes__M=m, arch__r=r, latency_s=float(m * r), area_um2__total=1.0 / r, level="tile")
        for m in range(1, 13)
        for r in (1, 2)
    ]
    goals = (("latency_s", "min"), ("area_um2.total", "min"))
    chart = charts(Results("made up", tuple(rows), ("sizes.M", "arch.r"), goals))[0]
    drawn = sum(len(one.x) for one in chart.series if one.kind == "points")
    assert drawn == 16
    assert chart.note == "8 points of further groups are left out"


def test_drawn_files_are_the_same_every_time(results: Results, tmp_path: Path) -> None:
    kinds = ("front_area_um2_latency_s", "energy_stack_M_8", "sensitivity")
    found = [chart for chart in charts(results) if chart.name in kinds]
    once, twice = draw(found, tmp_path / "a"), draw(found, tmp_path / "b")
    assert len(once) == 2 * len(found)
    for a, b in zip(once, twice, strict=True):
        assert a.stat().st_size > 5_000
        assert a.read_bytes() == b.read_bytes()


def test_a_run_is_drawn_too(tmp_path: Path) -> None:
    report = archsim.run(
        "softmax-1pass", "bert", "fusemax", "fusemax", sizes={"M": 1024, "P": 1024}
    )
    file = tmp_path / "run.json"
    file.write_text(json.dumps(report.as_dict()))
    found, text = read_results(file)
    assert text == ""
    assert [chart.name for chart in charts(found)] == [
        "time_stack_array_2d",
        "time_stack_array_1d",
        "energy_stack",
    ]
    write_page(found, text, tmp_path / "run.html")
    assert "softmax-1pass on fusemax through fusemax" in (tmp_path / "run.html").read_text()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda path: _file(path / "run.json", '{"cascade": "a", "cycles": 1, "latency_s": 1}'),
            "this is no report of a run",
        ),
        (lambda path: path / "nothing", "there are no results here"),
        (lambda path: _file(path / "run.json", "{}"), "this is no report of a run"),
        (lambda path: _file(path / "run.json", "{"), "not JSON"),
        (lambda path: _file(path / "results.jsonl", "{}\n"), "1:1: this is no line of results"),
        (
            lambda path: _file(path / "results.jsonl", '{"key": "1", "error": ""}\n'),
            "the sweep of these results",
        ),
    ],
)
def test_what_is_no_result(make: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(archsim.ArchError, match=said):
        read_results(make(tmp_path))


def _file(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_commands_refuse_what_they_cannot_write(folder: Path, tmp_path: Path) -> None:
    def said(*arguments: str) -> str:
        found = subprocess.run([ARCHSIM, *arguments], capture_output=True, text=True, check=False)
        assert found.returncode == 2
        return found.stderr

    assert "write -o page.html" in said("report", str(folder), "-o", "page.pdf")
    missing = str(tmp_path / "no" / "page.html")
    assert "there is no folder" in said("report", str(folder), "-o", missing)
    assert "there are no results here" in said("plot", str(tmp_path), "-o", str(tmp_path))


# ---- the page, in a browser ----


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium import webdriver

    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    assert binary, "apt-get install chromium"
    assert driver, "apt-get install chromium-driver"
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    profile = tmp_path_factory.mktemp("profile")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1300,1000"):
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={profile}")
    options.add_experimental_option("prefs", {"download.default_directory": str(profile)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options, webdriver.ChromeService(driver))
    found.set_script_timeout(30)
    yield found
    found.quit()


@pytest.fixture(scope="module")
def page(folder: Path, browser: Any) -> Any:
    """The page, opened from disk."""
    path = folder / "report.html"
    write_page(*read_results(folder), path)
    browser.get(path.as_uri())
    return browser


def test_the_page_shows_every_figure_and_says_no_error(page: Any, results: Results) -> None:
    assert page.title == "drawn"
    for chart in charts(results):
        figure = page.find_element("id", f"figure-{chart.name}")
        traces = page.execute_script("return arguments[0].data.length", figure)
        assert traces == len(chart.series)
        assert figure.find_elements("css selector", "svg.main-svg")
        shown = figure.find_element("css selector", "svg.main-svg").size
        assert shown["width"] > 600
        assert shown["height"] > 250
    assert [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"] == []
    # Nothing came from anywhere but the file.
    loaded = page.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert [name for name in loaded if not name.startswith(("data:", "blob:"))] == []


def test_text_of_a_sweep_is_text_on_the_page(page: Any) -> None:
    body = page.find_element("tag name", "body").text
    assert "Aspects <of> a small array." in body
    assert "18 points, 9 failed" in body
    assert "arch.dram.bandwidth: [1 GB/s, 4 GB/s, 100 GB/s]" in body


def test_the_table_filters_sorts_and_downloads(page: Any, results: Results) -> None:
    def column(name: str) -> list[str]:
        heads = page.find_elements("css selector", "#points th")
        place = [head.text for head in heads].index(name)
        rows = page.find_elements("css selector", "#points tbody tr")
        return [row.find_elements("tag name", "td")[place].text for row in rows]

    assert len(column("cycles")) == 27
    field = page.find_element("id", "filter")
    field.send_keys("4 GB/s")
    assert set(column("arch.dram.bandwidth")) == {"4 GB/s"}
    assert page.find_element("id", "count").text == "9 of 27 points"
    head = next(h for h in page.find_elements("css selector", "#points th") if h.text == "cycles")
    page.execute_script("arguments[0].click()", head)
    cycles = [int(text) for text in column("cycles") if text]
    assert cycles == sorted(cycles)
    assert head.get_attribute("aria-sort") == "ascending"
    page.execute_script("arguments[0].click()", head)
    assert [int(text) for text in column("cycles") if text] == cycles[::-1]
    field.clear()
    # What the button saves is what the results hold.
    text = page.execute_async_script(
        """
        const done = arguments[0], make = URL.createObjectURL;
        URL.createObjectURL = blob => { blob.text().then(done); return make(blob); };
        document.getElementById('download').click();
        """
    )
    saved = list(csv.DictReader(text.splitlines()))
    assert len(saved) == 27
    assert [one["cycles"] for one in saved] == [
        str(row["cycles"]) if "cycles" in row else "" for row in results.rows
    ]
