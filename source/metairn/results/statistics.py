"""Interquartile means with 95% stratified bootstrap intervals, by rliable, reproducibly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pandas as pd
from rliable.library import get_interval_estimates
from scipy.stats import trim_mean

from metairn.results.load import Study

BOOTSTRAP_SAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """An interquartile mean at each mark, with its 95% interval.

    Args:
        marks: env steps.
        iqm: interquartile mean over runs.
        low: lower end of the interval.
        high: upper end of it.
        num_runs: how many runs it is of.
    """

    marks: np.ndarray
    iqm: np.ndarray
    low: np.ndarray
    high: np.ndarray
    num_runs: int


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """rliable draws from numpy's global generator whatever random state it is given."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)


def scores_by_mark(rows: pd.DataFrame, score: str) -> pd.DataFrame:
    """One row per seed, one column per evaluation mark.

    Raises:
        ValueError: if the runs have different marks or a score is not a number.
    """
    evaluated = rows.dropna(subset=["evaluation_mark_env_steps"])
    table = evaluated.pivot(index="seed", columns="evaluation_mark_env_steps", values=score)
    if table.isna().any(axis=None):
        seed = table.index[table.isna().any(axis=1)][0]
        raise ValueError(
            f"{score} of seed={seed} is missing at some marks: runs of different budgets or "
            "intervals cannot be averaged."
        )
    return table


def estimate(rows: pd.DataFrame, score: str, seed: int = 0) -> Estimate:
    """Interquartile mean over runs at each mark.

    Args:
        rows: metrics of one method on one task.
        score: column.
        seed: of the bootstrap.
    """
    table = scores_by_mark(rows, score)
    runs = table.to_numpy()[:, None, :]

    def interquartile_mean(scores: np.ndarray) -> np.ndarray:
        return trim_mean(scores.reshape(-1, scores.shape[-1]), 0.25, axis=0)

    with _seeded(seed):
        points, intervals = get_interval_estimates(
            {"runs": runs}, interquartile_mean, reps=BOOTSTRAP_SAMPLES
        )
    low, high = intervals["runs"]
    marks = table.columns.to_numpy()
    return Estimate(marks, np.asarray(points["runs"]), low, high, len(table))


def env_steps_to_90pct(rows: pd.DataFrame) -> float:
    """Median over runs of the first mark from which optimality is >= 0.90 at two marks in a row."""
    table = scores_by_mark(rows, "optimality")
    marks = table.columns.to_numpy()
    good = table.to_numpy() >= 0.9
    twice = good[:, :-1] & good[:, 1:]
    first = np.where(twice.any(axis=1), marks[twice.argmax(axis=1)], np.inf)
    return float(np.median(first))


def final_table(study: Study) -> pd.DataFrame:
    """One row per task and method: scores at the last mark, env steps to 90%.

    Columns: the task's keys, method, seeds, score with the ends of its interval, greedy score,
    env_steps_to_90pct (median; infinite for never), the last two where the optimum is known.
    """
    rows = []
    for keys, of_task in study.tasks():
        for method, of_method in of_task.groupby("method"):
            curve = estimate(of_method, study.score)
            row = keys | {
                "method": str(method),
                "seeds": curve.num_runs,
                study.score: curve.iqm[-1],
                "low": curve.low[-1],
                "high": curve.high[-1],
            }
            if study.score == "optimality":
                row["greedy"] = estimate(of_method, "optimality_greedy").iqm[-1]
                row["env_steps_to_90pct"] = env_steps_to_90pct(of_method)
            rows.append(row)
    return pd.DataFrame(rows)
