"""Methods against each other: probability of improvement and performance profiles (Agarwal 2021).

Both look at all tasks at once, so they take the seeds that a method has finished on every task;
`incomplete_seeds` names the others.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from rliable.library import create_performance_profile

from metairn.results.load import REFERENCE, Study, StudyError
from metairn.results.statistics import (
    BOOTSTRAP_SAMPLES,
    MARK,
    env_steps_to_90pct,
    interquartile_mean,
    interval,
    seeded,
)

ALL_TASKS = "all"
MEASURES = {"final": "final score", "speed": "env steps to 90%"}


def measures(study: Study) -> list[str]:
    """What methods are compared by; how soon they get to 90% only where the optimum is known."""
    return list(MEASURES) if study.score == "optimality" else ["final"]


def complete_seeds(study: Study, method: str) -> list[int]:
    """Seeds that the method has finished on every task."""
    seeds = [{run.seed for run in study.cell(task, method)} for task in study.tasks]
    return sorted(set.intersection(*seeds))


def incomplete_seeds(study: Study) -> dict[str, list[int]]:
    """Per method, seeds that it has finished on some tasks only."""
    seen = {m: {r.seed for t in study.tasks for r in study.cell(t, m)} for m in study.display}
    missing = {m: sorted(seen[m] - set(complete_seeds(study, m))) for m in study.display}
    return {method: seeds for method, seeds in missing.items() if seeds}


def score_matrix(study: Study, method: str, measure: str) -> np.ndarray:
    """A method's scores, larger being better, [seeds, tasks].

    Args:
        study: finished runs.
        method: which.
        measure: "final", the study's score at the end, or "speed", minus the env steps to 90%,
            minus infinity for never.

    Raises:
        StudyError: if no seed has finished on every task.
    """
    seeds = complete_seeds(study, method)
    if not seeds:
        raise StudyError(
            f"study={study.name} has no seed with which method={method} finished on every task; "
            "metairn-train with the same seeds on every task."
        )
    columns = []
    for task in study.tasks:
        cell = study.cell(task, method)
        if measure == "final":
            values = np.array([run.summary[study.score] for run in cell], dtype=float)
        else:
            values = -env_steps_to_90pct(study, task, method)
        columns.append([v for v, run in zip(values, cell, strict=True) if run.seed in seeds])
    return np.array(columns).T


def overall(study: Study) -> pd.DataFrame:
    """Interquartile mean of the final score over all tasks' runs.

    Returns:
        Columns method, iqm, low, high, runs (on each task).
    """
    rows = []
    for method in study.display:
        scores = score_matrix(study, method, "final")
        point, low, high = interval(scores, lambda s: interquartile_mean(s)[None])
        row = {"method": method, "iqm": point[0], "low": low[0], "high": high[0]}
        rows.append(row | {"runs": len(scores)})
    return pd.DataFrame(rows)


def probability_of_improvement(better: np.ndarray, than: np.ndarray) -> np.ndarray:
    """P(a run of one method beats a run of another) on each task; ties count half.

    rliable's estimator, without a significance test for each of thousands of resamples.

    Args:
        better: scores [runs, tasks], larger being better.
        than: scores [other runs, tasks].
    """
    wins = better[:, None] > than[None]
    ties = better[:, None] == than[None]
    return (wins + 0.5 * ties).mean(axis=(0, 1))


def improvement(study: Study) -> pd.DataFrame:
    """Probability of improvement of every method over the reference.

    Returns:
        Columns task ("all": the mean over tasks), method, measure (a key of MEASURES),
        probability, low, high.
    """

    def by_task_and_mean(better: np.ndarray, than: np.ndarray) -> np.ndarray:
        by_task = probability_of_improvement(better, than)
        return np.append(by_task, by_task.mean())

    rows = []
    for measure in measures(study):
        reference = score_matrix(study, REFERENCE, measure)
        for method in study.display:
            if method == REFERENCE:
                continue
            pair = [score_matrix(study, method, measure), reference]
            results = zip(*interval(pair, by_task_and_mean), strict=True)
            for task, (point, low, high) in zip([*study.tasks, ALL_TASKS], results, strict=True):
                row = {"task": task, "method": method, "measure": measure}
                rows.append(row | {"probability": point, "low": low, "high": high})
    columns = ["task", "method", "measure", "probability", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def performance_profiles(study: Study, seed: int = 0) -> pd.DataFrame:
    """Share of all tasks' runs that end above a score, and that reach 90% within some env steps.

    Returns:
        Columns measure (a key of MEASURES), method, threshold, share, low, high (the 95% bootstrap
        interval).
    """
    parts = []
    for measure in measures(study):
        scores = {method: score_matrix(study, method, measure) for method in study.display}
        thresholds = _thresholds(study, scores, measure)
        # "Within x env steps" is "above -x" with x itself counted in.
        above = thresholds if measure == "final" else -thresholds - 0.5
        with seeded(seed):
            profiles, intervals = create_performance_profile(
                scores, above, custom_profile_func=_shares_above, reps=BOOTSTRAP_SAMPLES
            )
        for method, share in profiles.items():
            low, high = intervals[method]
            part = {"threshold": thresholds, "share": share, "low": low, "high": high}
            parts.append(pd.DataFrame({"measure": measure, "method": method} | part))
    return pd.concat(parts, ignore_index=True)


def _thresholds(study: Study, scores: dict[str, np.ndarray], measure: str) -> np.ndarray:
    if measure == "speed":
        return np.unique(study.metrics[MARK].dropna())
    if study.score == "optimality":
        return np.linspace(0.0, 1.0, 101)
    every = np.concatenate([array.ravel() for array in scores.values()])
    return np.linspace(every.min(), every.max(), 101)


def _shares_above(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    # rliable's own function loops over the thresholds; this one sorts once.
    ordered = np.sort(scores, axis=None)
    return 1 - np.searchsorted(ordered, thresholds, side="right") / ordered.size
