"""Points chosen by an optimizer, for spaces too large to try all of.

The optimizer asks for points a batch at a time and is told what they cost, in the order in which it
asked: with the same seed it asks the same again, so a sweep goes on by being asked once more, and
points whose results are there are not evaluated again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from archsim.errors import ArchError
from archsim.sweeps.definition import Sweep
from einsum_cascade.errors import Problem, Source

Row = Mapping[str, Any]
Chosen = tuple[int, ...]


def sample(sweep: Sweep, evaluate: Callable[[Sequence[Chosen]], Sequence[Row]]) -> None:
    """Let the sweep's optimizer choose its points; `evaluate` gives a row for each of a batch.

    Raises:
        ArchError: Optuna is not installed.
    """
    optuna = _optuna()
    sampler = sweep.sampler
    assert sampler is not None
    own = _SAMPLERS[sampler.method](optuna, sampler.seed, sampler.batch)
    directions = [_DIRECTION[goal] for _, goal in sweep.objectives]
    study = optuna.create_study(directions=directions, sampler=own)
    space = {
        ",".join(axis.paths): (
            optuna.distributions.IntDistribution(0, len(axis.values) - 1)
            if axis.is_ordered
            else optuna.distributions.CategoricalDistribution(range(len(axis.values)))
        )
        for axis in sweep.axes
    }
    left = sampler.points
    while left > 0:
        trials = [study.ask(space) for _ in range(min(sampler.batch, left))]
        left -= len(trials)
        rows = evaluate([tuple(trial.params[name] for name in space) for trial in trials])
        for trial, row in zip(trials, rows, strict=True):
            costs = [row.get(path) for path, _ in sweep.objectives]
            if row["error"] or any(not isinstance(cost, int | float) for cost in costs):
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
            else:
                for limit in sweep.constraints:
                    trial.set_constraint(limit.text, min(limit.excess(row), 1e300))
                study.tell(trial, costs)


_DIRECTION = {"min": "minimize", "max": "maximize"}


def _nsga2(optuna: Any, seed: int, batch: int) -> Any:
    # Nothing is crossed with itself.
    return optuna.samplers.NSGAIISampler(population_size=max(2, batch), seed=seed)


def _tpe(optuna: Any, seed: int, batch: int) -> Any:
    # Points of a batch are asked for before the others are told: they should differ.
    return optuna.samplers.TPESampler(n_startup_trials=batch, seed=seed, constant_liar=True)


_SAMPLERS: dict[str, Callable[[Any, int, int], Any]] = {"nsga2": _nsga2, "tpe": _tpe}


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        hint = "pip install 'einsum-archsim[optimize]', or leave sampler out to try all points"
        what = "a sampler needs Optuna, which is not installed"
        raise ArchError(Problem(Source("sampler"), what, hint=hint)) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna
