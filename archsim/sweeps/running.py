"""`sweep`: evaluate the points of a sweep, keep every result, say which are the best."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsim.errors import ArchError
from archsim.reporting import ESTIMATES
from archsim.sweeps import fronts, storage
from archsim.sweeps.axes import Value
from archsim.sweeps.checking import check
from archsim.sweeps.definition import Sweep, load_sweep
from archsim.sweeps.dispatch import ALONE, Dispatch
from archsim.sweeps.evaluation import Task, inputs_of
from archsim.sweeps.inputs import Inputs, bases
from archsim.sweeps.sampling import sample
from einsum_cascade.errors import Problem, Source, legal_words

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]
# Told after every chunk: points done (failed ones included), failed ones, and all.
Progress = Callable[[int, int, int], object]


@dataclass(frozen=True, repr=False)
class SweepResult:
    """Every point of a sweep: a row of cells, numbers of its report, and its error or ""."""

    sweep: Sweep
    rows: tuple[Row, ...]
    # The file of results; None if they were not kept.
    path: Path | None

    def __repr__(self) -> str:
        """Say what it is of: rows are many."""
        return f"<sweep {self.sweep.name}: {len(self.rows):,} points, {self.failed:,} failed>"

    @property
    def failed(self) -> int:
        """How many points could not be run."""
        return sum(1 for row in self.rows if row["error"])

    @property
    def numbers(self) -> set[str]:
        """Columns in which at least one point has a number."""
        return {path for row in self.rows for path in row if fronts.is_number(row[path])}

    @property
    def table(self) -> pd.DataFrame:
        """All rows as a pandas table, a column for each cell and number."""
        return storage.table(list(self.rows))

    def pareto(self, *objectives: str) -> pd.DataFrame:
        """The rows that no other beats, in the sweep's objectives or the given ones (minimized).

        Points compete with those of the same problem: model, sizes, windows. Rows that failed or
        break a constraint of the sweep are left out.

        Raises:
            ArchError: no point has a number of that name.
        """
        for path in objectives:
            if path not in self.numbers:
                hint = legal_words(path, sorted(self.numbers), "numbers")
                raise ArchError(Problem(Source("pareto"), f"no point has '{path}'", hint=hint))
        goals = dict(self.sweep.objectives)
        asked = tuple((path, goals.get(path, "min")) for path in objectives)
        return storage.table(self._best(asked or self.sweep.objectives))

    def front(self) -> list[Row]:
        """The sweep's Pareto front: values of its axes and objectives, row by row; see `pareto`."""
        wanted = (*self.sweep.varied, *(path for path, _ in self.sweep.objectives))
        return [{name: row[name] for name in wanted} for row in self._best(self.sweep.objectives)]

    def _best(self, objectives: Sequence[tuple[str, str]]) -> list[Row]:
        sweep = self.sweep
        numbers = fronts.fronts(self.rows, objectives, sweep.constraints, sweep.varied)
        return [self.rows[number] for number in numbers]

    def failures(self) -> list[tuple[str, int]]:
        """First lines of what went wrong, most frequent first."""
        texts = (row["error"] for row in self.rows if row["error"])
        return Counter(text.partition("\n")[0] for text in texts).most_common()

    def as_dict(self) -> dict[str, Any]:
        """What `archsim sweep --json` prints."""
        return {
            "name": self.sweep.name,
            "points": len(self.rows),
            "done": len(self.rows) - self.failed,
            "failed": self.failed,
            "results": None if self.path is None else str(self.path),
            "pareto": self.front(),
        }


def sweep(
    sweep: Sweep | str,
    out: Path | str | None = None,
    *,
    jobs: int | None = None,
    cluster: str | None = None,
    resume: bool = False,
    progress: Progress = lambda done, failed, points: None,
) -> SweepResult:
    """Evaluate a sweep.

    Args:
        sweep: a sweep, its shipped name or a path.
        out: folder for the results; without one they are kept in memory only.
        jobs: processes; None: as many as the machine has cores, if that is worth it.
        cluster: the address of a Dask scheduler whose workers evaluate, instead.
        resume: go on with what lies in the folder.
        progress: told what is done.

    Raises:
        ArchError, CascadeError: the sweep is not legal, or its folder holds other results.
    """
    if jobs is not None and (not isinstance(jobs, int) or jobs < 1):
        hint = "None takes all cores"
        raise ArchError(Problem(Source("jobs"), f"{jobs!r} is no number of processes", hint=hint))
    found = load_sweep(sweep)
    start = pickle.dumps(bases(found))
    inputs = inputs_of(start)
    check(found, inputs)
    store = storage.Store(None if out is None else Path(out))
    few = found.points <= ALONE and found.level in ESTIMATES
    dispatch = Dispatch(start, jobs, cluster, few)
    try:
        store.open(found, resume)
        run = _Run(found, inputs, store, dispatch, progress)
        keys = run.sample() if found.sampler else run.evaluate(list(found.grid()))
        rows = store.finish(keys)
    finally:
        dispatch.close()
        store.close()
    path = store.folder / storage.RESULTS if store.folder else None
    return SweepResult(found, tuple(rows), path)


class _Run:
    """A sweep on its way."""

    def __init__(
        self,
        sweep: Sweep,
        inputs: Inputs,
        store: storage.Store,
        dispatch: Dispatch,
        progress: Progress,
    ) -> None:
        self.sweep, self.inputs, self.store = sweep, inputs, store
        self.dispatch, self.progress = dispatch, progress
        self.done, self.failed = 0, 0

    def evaluate(self, points: Sequence[tuple[int, ...]]) -> list[str]:
        """Evaluate points, as indices into each axis, and return their keys in order."""
        tasks = [self._task(self.sweep.at(chosen)) for chosen in points]
        new = {task.key: task for task in tasks if task.key not in self.store.lines}
        known = {task.key for task in tasks} - new.keys()
        self._count(self.store.lines[key] for key in known)
        if new:
            for lines in self.dispatch(self._families(new.values())):
                self.store.add(lines)
                self._count(text for _, text in lines)
        return [task.key for task in tasks]

    def sample(self) -> list[str]:
        """Evaluate the points that the optimizer chooses; keys of those that differ, in order."""
        asked: dict[str, None] = {}

        def rows(points: Sequence[tuple[int, ...]]) -> list[Row]:
            keys = self.evaluate(points)
            asked.update(dict.fromkeys(keys))
            return [self.store.rows[key] for key in keys]

        sample(self.sweep, rows)
        return list(asked)

    def _task(self, values: dict[str, Value]) -> Task:
        self.inputs.make_room()
        return Task(self.inputs.key(values), values)

    def _families(self, tasks: Iterable[Task]) -> Collection[list[Task]]:
        """Points that share work, side by side."""
        families: dict[str, list[Task]] = {}
        for task in tasks:
            families.setdefault(self.inputs.family(task.values), []).append(task)
        return families.values()

    def _count(self, lines: Iterable[str]) -> None:
        for text in lines:
            self.done += 1
            self.failed += not text.endswith('"error": ""}')
        self.progress(self.done, self.failed, self.sweep.points)
