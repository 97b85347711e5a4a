"""Searches for settings: what was tried, what came out, what was best, from a tuning's folder.

trials.jsonl       one line per trial: values, budget, the return of each seed or the error
trajectory.jsonl   one line per incumbent, in their order
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metairn.results.load import StudyError
from metairn.results.style import ATTENTION_COLOURS, ENV_STEPS, PANEL_HEIGHT, PANEL_WIDTH, use_style

SCORE = "evaluation return"


@dataclass(frozen=True)
class Search:
    """One tuning.

    Args:
        name: its folder's.
        trials: one row per trial in the order of their ends: trial (from 1), budget_env_steps,
            env_steps (of all trials so far), score (mean return of its seeds; NaN if it failed),
            error, wall_time_s.
        values: the settings of each trial, one column per setting.
        trajectory: incumbents: trials, env_steps, evaluation_return_mean.
    """

    name: str
    trials: pd.DataFrame
    values: pd.DataFrame
    trajectory: pd.DataFrame

    @property
    def completed(self) -> pd.Series:
        """Which trials ran at the highest budget and did not fail: those that may be compared."""
        budget = self.trials["budget_env_steps"]
        return (budget == budget.max()) & self.trials["score"].notna()


def load_searches(root: Path) -> list[Search]:
    """Every search below a folder, by name.

    Raises:
        StudyError: if there is none, or a line of one is damaged.
    """
    paths = sorted(root.glob("**/trials.jsonl"))
    if not paths:
        raise StudyError(f"{root} has no searches; metairn-tune makes some.")
    return [_load(path, str(path.parent.relative_to(root))) for path in paths]


def _load(path: Path, name: str) -> Search:
    lines = _read_lines(path)
    trials = pd.DataFrame(
        {
            "trial": number,
            "budget_env_steps": line["budget_env_steps"],
            # A failed trial has no score; a zero would be one.
            "score": np.mean(line["returns"]) if line["error"] is None else np.nan,
            "error": line["error"],
            "wall_time_s": line["wall_time_s"],
        }
        for number, line in enumerate(lines, start=1)
    )
    trials.insert(2, "env_steps", trials["budget_env_steps"].cumsum())
    trajectory = path.with_name("trajectory.jsonl")
    names = ["trials", "env_steps", "evaluation_return_mean"]
    incumbents = _read_lines(trajectory) if trajectory.exists() else []
    return Search(
        name,
        trials,
        pd.DataFrame([line["values"] for line in lines]),
        pd.DataFrame(incumbents, columns=names),
    )


def _read_lines(path: Path) -> list[dict[str, Any]]:
    lines = []
    # What follows the last line break was cut off by a crash.
    for number, line in enumerate(path.read_text().split("\n")[:-1], start=1):
        try:
            lines.append(dict(json.loads(line)))
        except (ValueError, TypeError) as error:
            raise StudyError(f"{path}: line {number} is damaged.") from error
    return lines


def best_trials(search: Search, count: int = 5) -> pd.DataFrame:
    """The best of the trials at the highest budget: score, then settings."""
    best = search.trials[search.completed].nlargest(count, "score")
    return best[["trial", "score"]].join(search.values)


def search_overview(searches: list[Search]) -> pd.DataFrame:
    """One row per search: trials, how many failed, env steps, hours, best score."""
    rows = []
    for search in searches:
        trials = search.trials
        rows.append(
            {
                "search": search.name,
                "trials": len(trials),
                "failed": int(trials["score"].isna().sum()),
                "env steps": int(trials["budget_env_steps"].sum()),
                "hours": trials["wall_time_s"].sum() / 3600,
                "best score": trials.loc[search.completed, "score"].max(),
            }
        )
    return pd.DataFrame(rows)


def search_progress(searches: list[Search]) -> Figure:
    """Score of every trial over the env steps spent, and the incumbent's; failures at the foot."""
    use_style()
    size = (1.6 * PANEL_WIDTH * len(searches), 1.3 * PANEL_HEIGHT)
    figure, axes = plt.subplots(1, len(searches), figsize=size, sharey=True, squeeze=False)
    for axis, search in zip(axes[0], searches, strict=True):
        trials, best = search.trials, search.trajectory
        shown = axis.scatter(
            trials["env_steps"],
            trials["score"],
            c=trials["budget_env_steps"],
            cmap=ATTENTION_COLOURS,
            s=14,
        )
        axis.step(best["env_steps"], best["evaluation_return_mean"], "k-", where="post", lw=1)
        failed = trials.loc[trials["score"].isna(), "env_steps"]
        foot = axis.get_xaxis_transform()
        axis.plot(failed, np.full(len(failed), 0.02), "rx", transform=foot, ms=5)
        axis.set_title(search.name)
        axis.set_xlabel("env steps of all trials")
        axis.xaxis.set_major_formatter(ENV_STEPS)
        figure.colorbar(shown, ax=axis, label="budget of the trial", format=ENV_STEPS)
    axes[0][0].set_ylabel(SCORE)
    return figure


def search_settings(search: Search) -> Figure:
    """Score over each setting, of the trials at the highest budget."""
    use_style()
    names = list(search.values.columns)
    columns = min(len(names), 4)
    rows = -(-len(names) // columns)
    size = (PANEL_WIDTH * columns, PANEL_HEIGHT * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, sharey=True, squeeze=False)
    scores = search.trials.loc[search.completed, "score"]
    for axis, name in zip(axes.flat, names, strict=False):
        _draw_setting(axis, search.values.loc[search.completed, name], scores)
        axis.set_xlabel(name)
    for axis in axes.flat[len(names) :]:
        axis.remove()
    for row in axes:
        row[0].set_ylabel(SCORE)
    return figure


def _draw_setting(axis: Axes, values: pd.Series, scores: pd.Series) -> None:
    known = values.notna()
    if pd.api.types.is_numeric_dtype(values) and values.dtype != bool:
        axis.plot(values[known], scores[known], ".", ms=5)
        if (values[known] > 0).all() and values.max() > 30 * values.min():
            axis.set_xscale("log")
    else:
        axis.plot([str(value) for value in values[known]], scores[known], ".", ms=5)
