"""One trial: a configuration trained with every tuning seed, each seed a Ray task.

The runs are ordinary ones (build.py, training_run.py) in a temporary folder, so that a trial leaves
only its figures. Ray reuses its worker processes: only the first run in each pays RLlib's start.
"""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from omegaconf import OmegaConf

from metairn.experiments.build import build_experiment
from metairn.experiments.single_run import in_a_line
from metairn.experiments.training_run import TrainingRun
from metairn.results.run_record import RunRecord

# Starts a trial of these values and this budget in env steps; what it returns waits for its end.
Submit = Callable[[dict[str, Any], int], Callable[[], "Outcome"]]


@dataclass(frozen=True)
class Outcome:
    """What came out of a trial.

    Args:
        returns: mean evaluation return of each seed's run, over its evaluation marks.
        error: why it failed; None if it did not.
        started_s: when its first run began, seconds since 1970.
        ended_s: when its last run ended.
        wall_time_s: what its runs took together.
    """

    returns: list[float]
    error: str | None
    started_s: float
    ended_s: float
    wall_time_s: float


def submitter(composed: dict[str, Any], seeds: list[int], num_gpus: float) -> Submit:
    """Trials of a composed configuration on the Ray that runs.

    Args:
        composed: the configuration, interpolations unresolved.
        seeds: tuning seeds.
        num_gpus: what each run needs.
    """
    task = ray.remote(train_seed).options(num_gpus=num_gpus)

    def submit(values: dict[str, Any], budget_env_steps: int) -> Callable[[], Outcome]:
        config = trial_config(composed, values, budget_env_steps)
        runs = [task.remote(config, seed) for seed in seeds]

        def wait() -> Outcome:
            try:
                return outcome(ray.get(runs))
            except ray.exceptions.RayError as error:  # A worker died, of memory for example.
                now = time.time()
                return Outcome([], in_a_line(error), now, now, 0.0)

        return wait

    return submit


def trial_config(
    composed: dict[str, Any], values: dict[str, Any], budget_env_steps: int
) -> dict[str, Any]:
    """The configuration with a trial's values and budget, as plain types."""
    config = OmegaConf.create(copy.deepcopy(composed))
    for key, value in (values | {"training.budget_env_steps": budget_env_steps}).items():
        OmegaConf.update(config, key, value)
    plain: Any = OmegaConf.to_container(config, resolve=True)
    return plain


def train_seed(config: dict[str, Any], seed: int) -> dict[str, Any]:
    """Trains one seed; an error is part of what comes out, for it must not end the tuning."""
    started_s, value, error = time.time(), None, None
    try:
        with tempfile.TemporaryDirectory() as folder:
            value = _mean_return(OmegaConf.create(config | {"seed": seed, "output_root": folder}))
        if not np.isfinite(value):
            error = f"seed {seed}: the mean evaluation return is {value}"
    except Exception as raised:
        error = f"seed {seed}: {in_a_line(raised)}"
    return {"value": value, "error": error, "started_s": started_s, "ended_s": time.time()}


def _mean_return(composed: Any) -> float:
    experiment = build_experiment(composed)
    record = RunRecord(experiment.folder, experiment.config)
    try:
        TrainingRun(experiment, record).run()
        name = "evaluation_return_mean"
        return float(np.mean([row[name] for row in record.rows if name in row]))
    finally:
        record.close()


def outcome(runs: list[dict[str, Any]]) -> Outcome:
    """A trial's outcome from those of its runs."""
    errors = [run["error"] for run in runs if run["error"] is not None]
    return Outcome(
        returns=[] if errors else [run["value"] for run in runs],
        error=errors[0] if errors else None,
        started_s=min(run["started_s"] for run in runs),
        ended_s=max(run["ended_s"] for run in runs),
        wall_time_s=sum(run["ended_s"] - run["started_s"] for run in runs),
    )
