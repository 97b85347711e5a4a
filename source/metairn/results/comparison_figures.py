"""Methods against each other: probability of improvement over PPO, and performance profiles."""

from __future__ import annotations

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from metairn.results.comparisons import ALL_TASKS, MEASURES
from metairn.results.load import REFERENCE, Study
from metairn.results.style import (
    BRACKET_COLOUR,
    ENV_STEPS,
    LABELS,
    PANEL_HEIGHT,
    PANEL_WIDTH,
    legend,
    line_of,
    marker_of,
    use_style,
)


def improvement_intervals(study: Study, table: pd.DataFrame) -> Figure:
    """P(better than the reference) of each method on each task and over all, with its interval.

    Args:
        study: whose runs.
        table: `improvement` of it, not empty.
    """
    use_style()
    measures = [measure for measure in MEASURES if measure in set(table["measure"])]
    tasks = list(dict.fromkeys(table["task"]))
    methods = [method for method in study.display if method != REFERENCE]
    height = 0.8 + len(tasks) * (0.18 + 0.13 * len(methods))
    size = (1.7 * PANEL_WIDTH * len(measures), height)
    figure, axes = plt.subplots(1, len(measures), figsize=size, sharey=True, squeeze=False)
    for axis, measure in zip(axes[0], measures, strict=True):
        for place, method in enumerate(methods):
            mine = (table["measure"] == measure) & (table["method"] == method)
            one = table[mine].set_index("task").loc[tasks]
            shift = (place - (len(methods) - 1) / 2) * 0.7 / len(methods)
            axis.errorbar(
                one["probability"],
                [row + shift for row in range(len(tasks))],
                xerr=[one["probability"] - one["low"], one["high"] - one["probability"]],
                marker=marker_of(study, method),
                markersize=4,
                capsize=2,
                **line_of(study, method) | {"linestyle": "none"},
            )
        axis.axvline(0.5, color=BRACKET_COLOUR, linestyle=":", linewidth=1)
        axis.set_xlim(-0.03, 1.03)
        axis.set_xlabel(f"P(better than {study.display[REFERENCE].label}): {MEASURES[measure]}")
        axis.grid(axis="y", visible=False)
    names = ["all tasks" if task == ALL_TASKS else task for task in tasks]
    axes[0][0].set_yticks(range(len(tasks)), names)
    axes[0][0].invert_yaxis()
    legend(figure, axes[0][0])
    return figure


def profiles(study: Study, table: pd.DataFrame) -> Figure:
    """Share of runs above each final score, and at 90% by each env step, with 95% bands.

    Args:
        study: whose runs, of all tasks together.
        table: `performance_profiles` of it.
    """
    use_style()
    measures = list(dict.fromkeys(table["measure"]))
    size = (1.7 * PANEL_WIDTH * len(measures), 1.3 * PANEL_HEIGHT)
    figure, axes = plt.subplots(1, len(measures), figsize=size, sharey=True, squeeze=False)
    for axis, measure in zip(axes[0], measures, strict=True):
        for method in study.display:
            one = table[(table["measure"] == measure) & (table["method"] == method)]
            line = line_of(study, method)
            axis.step(one["threshold"], one["share"], where="post", **line)
            axis.fill_between(
                *(one[name] for name in ("threshold", "low", "high")),
                step="post",
                color=line["color"],
                alpha=0.15,
                linewidth=0,
            )
    axes[0][0].set_xlabel(f"{LABELS[study.score]} after training")
    axes[0][0].set_ylabel("share of runs above it")
    if len(measures) > 1:
        axes[0][1].set_xlabel("env steps")
        axes[0][1].set_ylabel("share of runs at 90% by then")
        axes[0][1].xaxis.set_major_formatter(ENV_STEPS)
    axes[0][0].set_ylim(-0.02, 1.02)
    legend(figure, axes[0][0])
    return figure
