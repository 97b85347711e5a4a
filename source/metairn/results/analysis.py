"""All numbers of a study's report, computed once, and the tables that show them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from metairn.results.comparisons import (
    ALL_TASKS,
    improvement,
    overall,
    performance_profiles,
)
from metairn.results.load import Study
from metairn.results.statistics import final_scores, learning_curves, steps_to_90pct


@dataclass(frozen=True)
class Analysis:
    """What the figures and tables of a study are made of; the functions of the same names say how.

    Args:
        curves: `learning_curves`.
        steps: `steps_to_90pct`; None where no optimum is known.
        overall: `overall`.
        improvement: `improvement`.
        profiles: `performance_profiles`.
    """

    curves: pd.DataFrame
    steps: pd.DataFrame | None
    overall: pd.DataFrame
    improvement: pd.DataFrame
    profiles: pd.DataFrame


def analyse(study: Study) -> Analysis:
    """Computes every statistic of the report.

    Raises:
        StudyError: if the runs do not allow one of them.
    """
    return Analysis(
        curves=learning_curves(study),
        steps=steps_to_90pct(study) if study.score == "optimality" else None,
        overall=overall(study),
        improvement=improvement(study),
        profiles=performance_profiles(study),
    )


def results_table(study: Study, analysis: Analysis) -> pd.DataFrame:
    """One row per task and method: every number of the report with the ends of its 95% interval.

    Columns: the task's keys; method; seeds, how many; left_out, runs that could not be used; the
    score, greedy (its value for the policy's mode) and credit_on_cause, interquartile means at the
    last mark; env_steps_to_90pct (median; infinite for never) and never, in how many runs;
    improvement_final and improvement_speed, the probabilities over PPO; env_steps_per_second and
    wall_time_s, medians. `x_low` and `x_high` are the ends of x's interval.
    """
    final = final_scores(analysis.curves)
    rows = []
    for task, keys in study.tasks.items():
        for method in study.display:
            cell = study.cell(task, method)
            wanted = keys | {"method": method}
            left_out = [run for run in study.left_out if wanted.items() <= run.keys.items()]
            row: dict = keys | {"method": method, "seeds": len(cell), "left_out": len(left_out)}
            for score in final["score"].unique():
                name = score if score in (study.score, "credit_on_cause") else "greedy"
                row |= _estimate(name, "iqm", _of(final[final["score"] == score], task, method))
            if analysis.steps is not None:
                steps = _of(analysis.steps, task, method)
                row |= _estimate("env_steps_to_90pct", "median", steps)
                row["never"] = int(steps["never"].iloc[0])
            for measure, table in analysis.improvement.groupby("measure"):
                of_cell = _of(table, task, method)
                row |= _estimate(f"improvement_{measure}", "probability", of_cell)
            for name in ("env_steps_per_second", "wall_time_s"):
                row[name] = float(np.median([run.summary[name] for run in cell]))
            rows.append(row)
    return pd.DataFrame(rows)


def _of(table: pd.DataFrame, task: str, method: str) -> pd.DataFrame:
    return table[(table["task"] == task) & (table["method"] == method)]


def _estimate(name: str, column: str, table: pd.DataFrame) -> dict[str, float]:
    """The only row's value and interval; nothing where the method has none."""
    if table.empty:
        return {}
    row = table.iloc[0]
    return {name: row[column], f"{name}_low": row["low"], f"{name}_high": row["high"]}


def answer_table(study: Study, analysis: Analysis) -> pd.DataFrame:
    """The study's answer: each method over all tasks, in words that can be read aloud.

    Columns: method, runs on each task, final score, and per measure the probability of
    improvement over PPO; each with its 95% interval.
    """
    measures = {"final": "P(better than PPO at the end)", "speed": "P(sooner at 90% than PPO)"}
    rows = []
    for method, one in analysis.overall.set_index("method").iterrows():
        row = {"method": study.display[str(method)].label, "runs per task": int(one["runs"])}
        row[f"final {study.score}, IQM"] = shown_interval(one["iqm"], one["low"], one["high"])
        over_all = _of(analysis.improvement, ALL_TASKS, str(method)).set_index("measure")
        for measure in analysis.improvement["measure"].unique():
            text = "-"
            if measure in over_all.index:
                row_of = over_all.loc[measure]
                text = shown_interval(row_of["probability"], row_of["low"], row_of["high"])
            row[measures[measure]] = text
        rows.append(row)
    return pd.DataFrame(rows)


def shown_table(study: Study, table: pd.DataFrame) -> pd.DataFrame:
    """The results table for people: one column per number, intervals beside it in brackets."""
    keys = dict.fromkeys(key for task in study.tasks.values() for key in task)
    shown = pd.DataFrame({k: ["-" if pd.isna(v) else v for v in table[k]] for k in keys})
    shown["method"] = [study.display[method].label for method in table["method"]]
    shown["runs"] = [
        f"{seeds} ({left_out} left out)" if left_out else str(seeds)
        for seeds, left_out in zip(table["seeds"], table["left_out"], strict=True)
    ]
    names = {
        study.score: f"final {study.score}",
        "greedy": "of its mode",
        "env_steps_to_90pct": "env steps to 90%",
        "improvement_final": "P(better than PPO)",
        "improvement_speed": "P(sooner than PPO)",
        "credit_on_cause": "credit on cause",
    }
    for name, title in names.items():
        if name in table:
            ends = (table[name], table[f"{name}_low"], table[f"{name}_high"])
            shown[title] = [shown_interval(*three) for three in zip(*ends, strict=True)]
    if "never" in table:
        counts = zip(table["never"], table["seeds"], strict=True)
        shown["never at 90%"] = [
            f"in {never} of {seeds}" if never else "-" for never, seeds in counts
        ]
    shown["env steps/s"] = [f"{value:,.0f}" for value in table["env_steps_per_second"]]
    return shown


def shown_interval(value: float, low: float, high: float) -> str:
    """1.00 [0.98, 1.00]; an infinite number of env steps is "never"."""
    if np.isnan(value):
        return "-"
    return f"{_shown(value)} [{_shown(low)}, {_shown(high)}]"


def _shown(value: float) -> str:
    if np.isinf(value):
        return "never"
    return f"{value:.2f}" if abs(value) < 100 else f"{value:,.0f}"
