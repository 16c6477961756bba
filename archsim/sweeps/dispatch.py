"""Who evaluates chunks: this process, copies of it, fresh processes, or workers of a cluster."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from itertools import islice
from os import cpu_count
from time import monotonic
from typing import Any

from archsim.errors import ArchError
from archsim.sweeps.evaluation import Chunk, Task, evaluate_chunk
from archsim.sweeps.forks import DiedError, Forks, are_safe
from archsim.sweeps.inputs import version
from einsum_cascade.errors import Problem, Source

Lines = list[tuple[str, str]]
# Seconds that a chunk should take, the most points of one, and the fewest if they are that fast.
CHUNK_SECONDS = 0.25
LARGEST_CHUNK, SMALLEST_CHUNK = 256, 8
# Points at the levels of formulas that this process does faster than fresh ones start.
ALONE = 2_500


class Pace:
    """How long a point takes, as far as is known: chunks grow and shrink with it."""

    def __init__(self) -> None:
        self.size = 1

    def learn(self, points: int, seconds: float) -> None:
        """Take note of what a chunk took."""
        fitting = int(CHUNK_SECONDS * points / max(seconds, 1e-6))
        self.size = min(LARGEST_CHUNK, max(1, (self.size + fitting) // 2))


def chunks(
    bases: bytes, families: Collection[list[Task]], pace: Pace, workers: int
) -> Iterator[bytes]:
    """Pack families of points into chunks; one is split only if it is much larger than a chunk.

    Chunks become small towards the end, so that all workers end together.
    """
    left = sum(map(len, families))
    waiting: list[Task] = []
    for family in families:
        for number, task in enumerate(family, 1):
            waiting.append(task)
            size = min(pace.size, max(SMALLEST_CHUNK, left // (2 * workers)))
            if len(waiting) >= (size if number == len(family) else 4 * size):
                yield pickle.dumps(Chunk(bases, tuple(waiting)))
                left -= len(waiting)
                waiting = []
    if waiting:
        yield pickle.dumps(Chunk(bases, tuple(waiting)))


def evaluate_pickled(chunk: bytes) -> tuple[Lines, float]:
    """Evaluate a chunk: the lines, and the seconds they took."""
    start = monotonic()
    found = evaluate_chunk(pickle.loads(chunk))
    return found, monotonic() - start


class Dispatch:
    """Evaluates families of points, in this process and in others, until it is closed."""

    def __init__(self, bases: bytes, jobs: int | None, cluster: str | None, few: bool) -> None:
        """Start nothing yet.

        Args:
            bases: what all points start from, pickled.
            jobs: processes of this machine, 1 for none but this; None: all cores.
            cluster: the address of a Dask scheduler, instead.
            few: points take less time than fresh processes would start in.
        """
        self.bases, self.cluster, self.pace = bases, cluster, Pace()
        self.jobs = jobs or cpu_count() or 1
        copied = cluster is None and self.jobs > 1 and are_safe()
        self.forks = Forks(evaluate_pickled, self.jobs) if copied else None
        if jobs is None and few and self.forks is None:
            self.jobs = 1

    def __call__(self, families: Collection[list[Task]]) -> Iterator[Lines]:
        """Lines as they are found; `families` are points side by side that share work.

        Raises:
            ArchError: no scheduler at the address, workers of another version, or a dead worker.
        """
        for found, seconds in self._results(chunks(self.bases, families, self.pace, self.jobs)):
            self.pace.learn(len(found), seconds)
            yield found

    def _results(self, work: Iterator[bytes]) -> Iterator[tuple[Lines, float]]:
        if self.cluster is not None:
            yield from _joblib(work, self.jobs, self.cluster)
        elif self.forks is not None:
            if not self.forks.copies:
                # What the first points load and compile here, copies of this process start with.
                yield from map(evaluate_pickled, islice(work, 1))
            try:
                yield from self.forks.map(work)
            except DiedError as error:
                raise _died() from error
        elif self.jobs == 1:
            yield from map(evaluate_pickled, work)
        else:
            yield from _joblib(work, self.jobs, None)

    def close(self) -> None:
        """End processes that were started for it."""
        if self.forks is not None:
            self.forks.close()


def _joblib(work: Iterator[bytes], jobs: int, cluster: str | None) -> Iterator[tuple[Lines, float]]:
    """Fresh processes, or the workers of a Dask cluster."""
    from joblib import Parallel, delayed, parallel_config
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        # Who interrupts a sweep knows that chunks were on their way.
        warnings.filterwarnings("ignore", "[0-9]+ tasks (which|have)")
        if cluster is None:
            stack.enter_context(parallel_config("loky", n_jobs=jobs))
        else:
            client = stack.enter_context(connected(cluster))
            workers = sum(client.ncores().values())
            stack.enter_context(parallel_config("dask", client=client, n_jobs=-1))
            jobs = max(1, workers)
        run = Parallel(
            return_as="generator_unordered", batch_size=1, pre_dispatch=2 * jobs, verbose=0
        )
        try:
            yield from run(delayed(evaluate_pickled)(chunk) for chunk in work)
        except TerminatedWorkerError as error:
            raise _died() from error


def _died() -> ArchError:
    hint = "it may have run out of memory: go on with --resume and fewer --jobs"
    return ArchError(Problem(Source("sweep"), "a process that evaluated points died", hint=hint))


def connected(address: str) -> Any:
    """A client of a Dask scheduler whose workers run this version."""
    try:
        import distributed
    except ImportError:
        hint = "pip install 'einsum-archsim[cluster]'"
        raise ArchError(Problem(Source("--cluster"), "Dask is not installed", hint=hint)) from None
    new: Any = distributed.Client
    try:
        client: Any = new(address, timeout="5s")
    except (OSError, ValueError) as error:
        hint = "start one with: dask scheduler; its address reads tcp://host:8786"
        what = f"no scheduler answers at {address}: {error}"
        raise ArchError(Problem(Source("--cluster"), what, hint=hint)) from None
    others = {name for name, found in client.run(version).items() if found != version()}
    if others:
        client.close()
        what = f"workers run another version of this package: {', '.join(sorted(others))}"
        raise ArchError(Problem(Source("--cluster"), what, hint="install the same one there"))
    return client
