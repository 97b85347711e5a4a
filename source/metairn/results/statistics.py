"""Interquartile means and medians over runs, with 95% bootstrap intervals, reproducibly.

The estimators are rliable's. A score that is missing is refused, never filled in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pandas as pd
from rliable.library import get_interval_estimates

from metairn.results.load import Study, StudyError

BOOTSTRAP_SAMPLES = 2000
MARK = "evaluation_mark_env_steps"


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """rliable draws from numpy's global generator whatever random state it is given."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)


def interval(
    scores: np.ndarray | list[np.ndarray], statistic: Callable[..., np.ndarray], seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A statistic with the ends of its 95% stratified percentile bootstrap interval.

    Args:
        scores: [runs, tasks, ...], runs being drawn within each task; or several such arrays,
            each drawn by itself.
        statistic: maps resampled scores to an array.
        seed: of the bootstrap.

    Raises:
        ValueError: if a score is not a number.
    """
    for array in scores if isinstance(scores, list) else [scores]:
        if np.isnan(array).any():
            raise ValueError("scores have to be numbers: a missing one is not a zero.")
    with seeded(seed):
        points, intervals = get_interval_estimates(
            {"runs": scores}, statistic, reps=BOOTSTRAP_SAMPLES
        )
    low, high = intervals["runs"]
    return np.asarray(points["runs"]), low, high


def interquartile_mean(scores: np.ndarray) -> np.ndarray:
    """Mean of the middle half of runs and tasks, [runs, tasks, ...] -> [...].

    scipy's trim_mean, which rliable calls, spends 95% of its time on checks: too much for a
    function that is called for each of 2000 resamples.
    """
    ordered = np.sort(scores.reshape(-1, *scores.shape[2:]), axis=0)
    cut = len(ordered) // 4
    return ordered[cut : len(ordered) - cut].mean(axis=0)


def scores_by_mark(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """One row per seed, one column per evaluation mark.

    Args:
        rows: metrics of one method on one task.
        column: which score.

    Raises:
        StudyError: if the runs have different marks or a score is not a number.
    """
    table = rows.dropna(subset=[MARK]).pivot(index="seed", columns=MARK, values=column)
    if table.isna().any(axis=None):
        (seed, mark), *_ = table.isna().stack().loc[lambda missing: missing].index
        method, task = rows["method"].iloc[0], rows["task"].iloc[0]
        raise StudyError(
            f"{column} of method={method}, {task}, seed={seed} is no number at {mark:g} env steps: "
            "runs with other marks or missing scores cannot be averaged; force=true repeats a run."
        )
    return table


def learning_curves(study: Study) -> pd.DataFrame:
    """Interquartile mean over runs at each evaluation mark.

    Returns:
        Columns task, method, score (the metric's name), env_steps, iqm, low, high, runs; the
        metrics being the study's score, the policy's mode and, from the first update on and where
        the truth is known, credit_on_cause.
    """
    parts = []
    for (task, method), rows in study.metrics.groupby(["task", "method"], sort=False):
        tables = {name: scores_by_mark(rows, name) for name in _at_every_mark(study)}
        if "credit_on_cause" in rows and rows["credit_on_cause"].notna().any():
            tables["credit_on_cause"] = scores_by_mark(
                rows[rows["env_steps"] > 0], "credit_on_cause"
            )
        scores = np.concatenate([table.to_numpy() for table in tables.values()], axis=1)
        iqm, low, high = interval(scores[:, None, :], interquartile_mean)
        marks = [(name, mark) for name, table in tables.items() for mark in table.columns]
        part = pd.DataFrame(marks, columns=["score", "env_steps"])
        part = part.assign(iqm=iqm, low=low, high=high, runs=len(scores))
        parts.append(part.assign(task=task, method=method))
    curves = pd.concat(parts, ignore_index=True)
    return curves[["task", "method", "score", "env_steps", "iqm", "low", "high", "runs"]]


def _at_every_mark(study: Study) -> list[str]:
    modes = {"optimality": "optimality_greedy"}
    return [study.score, modes.get(study.score, "evaluation_greedy_return_mean")]


def final_scores(curves: pd.DataFrame) -> pd.DataFrame:
    """The curves' values at the last mark."""
    return curves[curves["env_steps"] == curves["env_steps"].max()]


def steps_to_90pct(study: Study) -> pd.DataFrame:
    """Median over runs of the env steps to 90% optimality; infinite where a run never got there.

    Returns:
        Columns task, method, median, low, high (the 95% bootstrap interval), never, runs.
    """
    rows = []
    for task in study.tasks:
        for method in study.display:
            steps = env_steps_to_90pct(study, task, method)
            low, high = median_interval(steps)
            row = {"median": float(np.median(steps)), "low": low, "high": high}
            row |= {"never": int(np.isinf(steps).sum()), "runs": len(steps)}
            rows.append({"task": task, "method": method} | row)
    return pd.DataFrame(rows)


def median_interval(values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Ends of the 95% percentile bootstrap interval of a median, some values being infinite.

    Args:
        values: one per run.
        seed: of the bootstrap.
    """
    drawn = np.random.default_rng(seed).choice(values, (BOOTSTRAP_SAMPLES, len(values)))
    # Whole order statistics: nothing lies half-way between a number and never.
    low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975], method="inverted_cdf")
    return float(low), float(high)


def env_steps_to_90pct(study: Study, task: str, method: str) -> np.ndarray:
    """Env steps to 90% of each run, by seed; infinite for never."""
    steps = [run.summary["env_steps_to_90pct"] for run in study.cell(task, method)]
    return np.array([np.inf if value is None else value for value in steps], dtype=float)
