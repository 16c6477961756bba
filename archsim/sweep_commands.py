"""Commands for many design points: sweep, plot, report."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import typer

from archsim.command_line import Json, app, bad, print_json, writable
from archsim.rich_tables import new_console, new_table

if TYPE_CHECKING:
    from archsim.sweeps.running import Progress, SweepResult

# Seconds between two lines of progress where nobody watches a bar.
LINE_SECONDS = 10.0
# Rows of the front that are printed; all of them are in the files.
SHOWN = 20


@app.command()
def sweep(
    file: Annotated[str, typer.Argument(help="A shipped sweep (archsim list) or a YAML file.")],
    out: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")],
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes. Default: all cores, if that is worth it.")
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(help="A Dask scheduler whose workers run it: tcp://host:8786.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the results that lie in the folder.")
    ] = False,
    parquet: Annotated[
        bool, typer.Option("--parquet", help="Write results.parquet as well.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Evaluate a space of design points, and keep every result."""
    from archsim.sweeps.definition import load_sweep
    from archsim.sweeps.running import sweep as evaluate
    from archsim.sweeps.storage import need_parquet, write_parquet

    if cluster is not None and jobs is not None:
        raise bad("--jobs", "a cluster has workers of its own", "leave --jobs out")
    if parquet:
        need_parquet()
    found = load_sweep(file)
    try:
        with _progress() as progress:
            result = evaluate(
                found, out, jobs=jobs, cluster=cluster, resume=resume, progress=progress
            )
    except KeyboardInterrupt:
        print(f"interrupted: what was found is in {out}; --resume goes on", file=sys.stderr)
        raise typer.Exit(130) from None
    if parquet:
        write_parquet(list(result.rows), out / "results.parquet")
    if as_json:
        print_json(result.as_dict())
    else:
        _print(result)
    if result.failed == len(result.rows):
        raise typer.Exit(1)


@app.command()
def plot(
    results: Annotated[
        Path, typer.Argument(help="A sweep's folder, its results.jsonl, or a run's JSON.")
    ],
    out: Annotated[Path, typer.Option("-o", "--output", help="Folder for the figures.")],
) -> None:
    """Draw results: fronts, stacks of energy and time, roofline, lengths, sensitivity."""
    from archsim.sweeps.chart_choice import charts
    from archsim.sweeps.drawings import draw
    from archsim.sweeps.reading import read_results

    found, _ = read_results(results)
    _refuse_nothing(results, len(found.good))
    for path in draw(charts(found), out):
        print(f"wrote {path}")


@app.command()
def report(
    results: Annotated[
        Path, typer.Argument(help="A sweep's folder, its results.jsonl, or a run's JSON.")
    ],
    out: Annotated[Path, typer.Option("-o", "--output", help="The HTML file to write.")],
) -> None:
    """Write results as one page with interactive figures and the data, to be opened from disk."""
    from archsim.sweeps.page import write_page
    from archsim.sweeps.reading import read_results

    if out.suffix not in (".html", ".htm"):
        raise bad("--output", f"{out} is no page", f"write -o {out.with_suffix('.html')}")
    writable(out, results)
    found, text = read_results(results)
    write_page(found, text, out)
    print(f"wrote {out}")


def _refuse_nothing(results: Path, good: int) -> None:
    if good == 0:
        what, hint = "no point of these results ran", "`archsim report` shows why"
        raise bad(str(results), what, hint)


def _print(result: SweepResult) -> None:
    """The front as a table, and why points failed."""
    from archsim.sweeps.metrics import shorts
    from archsim.sweeps.reading import results_of
    from archsim.sweeps.results import has

    found = results_of(result.sweep, list(result.rows))
    front, names = found.front, shorts(result.sweep.varied)
    metrics = [found.metric(path) for path, _ in result.sweep.objectives]
    goals = ", ".join(metric.label for metric in metrics)
    told = found.telling
    head = [*(names[path] for path in told), *map(str, metrics)]
    table = new_table(f"{result.sweep.name}: no other point beats these in {goals}", *head)
    for row in front[:SHOWN]:
        numbers = zip(result.sweep.objectives, metrics, strict=True)
        cells = (f"{row[path] * metric.factor:.4g}" for (path, _), metric in numbers)
        table.add_row(*(str(row[path]) for path in told), *cells)
    console = new_console()
    console.print(table)
    if len(front) > SHOWN:
        print(f"... and {len(front) - SHOWN} more")
    done = len(result.rows) - result.failed
    print(f"{done:,} points evaluated, {result.failed:,} failed: {result.path}")
    objectives = [path for path, _ in result.sweep.objectives]
    missing = [path for path in objectives if not any(has(row, path) for row in result.rows)]
    if missing and done:
        print(f"no point has {', '.join(missing)}, so none can be the best: see objectives")
    for message, count in result.failures():
        print(f"  {count:,} x {message}")


@contextmanager
def _progress() -> Iterator[Progress]:
    """A bar with the time left on standard error, or a line now and then if nobody watches."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
    )
    # A thread that refreshes it would be alive where this process is copied.
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as bar:
        task = bar.add_task("")

        def show(done: int, failed: int, points: int) -> None:
            text = f"{failed} failed" if failed else ""
            bar.update(task, completed=done, total=points, description=text, refresh=True)

        yield show


def _lines() -> Progress:
    start = monotonic()
    last, first = start, -1

    def show(done: int, failed: int, points: int) -> None:
        nonlocal last, first
        # What lay in the folder already took no time.
        first = done if first < 0 else first
        now = monotonic()
        if now - last > LINE_SECONDS and done > first:
            last = now
            left = (now - start) / (done - first) * (points - done)
            text = f"{done:,} of {points:,} points, {failed:,} failed, {left:,.0f} s left"
            print(text, file=sys.stderr)

    return show
