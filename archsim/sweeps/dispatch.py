"""Who evaluates chunks: this process, processes of this machine, or the workers of a cluster."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from os import cpu_count
from time import monotonic
from typing import Any

from archsim.errors import ArchError
from archsim.sweeps.evaluation import Chunk, Task, evaluate_chunk
from archsim.sweeps.inputs import version
from einsum_cascade.errors import Problem, Source

Lines = list[tuple[str, str]]
# Seconds that a chunk should take, and the fewest and most points of one.
CHUNK_SECONDS = 0.5
FIRST_CHUNK, LARGEST_CHUNK = 8, 256
# Points at the levels of formulas that this process does faster than others start.
ALONE = 2_500


class Pace:
    """How long a point takes, as far as is known: chunks grow and shrink with it."""

    def __init__(self) -> None:
        self.size = FIRST_CHUNK

    def learn(self, points: int, seconds: float) -> None:
        """Take note of what a chunk took."""
        fitting = int(CHUNK_SECONDS * points / max(seconds, 1e-6))
        self.size = min(LARGEST_CHUNK, max(1, (self.size + fitting) // 2))


def chunks(bases: bytes, families: Iterable[list[Task]], pace: Pace) -> Iterator[bytes]:
    """Pack families of points into chunks; one is split only if it is much larger than a chunk."""
    waiting: list[Task] = []
    for family in families:
        for task in family:
            waiting.append(task)
            if len(waiting) >= 4 * pace.size:
                yield pickle.dumps(Chunk(bases, tuple(waiting)))
                waiting = []
        if len(waiting) >= pace.size:
            yield pickle.dumps(Chunk(bases, tuple(waiting)))
            waiting = []
    if waiting:
        yield pickle.dumps(Chunk(bases, tuple(waiting)))


def evaluate_pickled(chunk: bytes) -> tuple[Lines, float]:
    """Evaluate a chunk: the lines, and the seconds they took."""
    start = monotonic()
    found = evaluate_chunk(pickle.loads(chunk))
    return found, monotonic() - start


def dispatch(
    bases: bytes,
    families: Iterable[list[Task]],
    jobs: int | None,
    cluster: str | None,
) -> Iterator[Lines]:
    """Evaluate families of points, and yield lines as they are found.

    Args:
        bases: what all points start from, pickled.
        families: the points, those side by side that share work.
        jobs: processes of this machine, 1 for none but this; None: all cores.
        cluster: the address of a Dask scheduler, instead.

    Raises:
        ArchError: no scheduler at the address, workers of another version, or a dead worker.
    """
    pace = Pace()
    work = chunks(bases, families, pace)
    if cluster is None and (jobs or cpu_count() or 1) == 1:
        results: Iterable[tuple[Lines, float]] = map(evaluate_pickled, work)
    else:
        results = _parallel(work, jobs or cpu_count() or 1, cluster)
    for found, seconds in results:
        pace.learn(len(found), seconds)
        yield found


def _parallel(
    work: Iterator[bytes], jobs: int, cluster: str | None
) -> Iterator[tuple[Lines, float]]:
    """Joblib's processes, or its way to a Dask cluster."""
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
            hint = "it may have run out of memory: go on with --resume and fewer --jobs"
            what = "a process that evaluated points died"
            raise ArchError(Problem(Source("sweep"), what, hint=hint)) from error


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
