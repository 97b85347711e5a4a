"""Learning curves of a study, and their ends over the length of an episode."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metairn.results.load import Study
from metairn.results.statistics import final_scores
from metairn.results.style import (
    BRACKET_COLOUR,
    ENV_STEPS,
    LABELS,
    PANEL_HEIGHT,
    PANEL_WIDTH,
    draw_brackets,
    legend,
    line_of,
    marker_of,
    use_style,
)


def over_training(study: Study, curves: pd.DataFrame, score: str | None = None) -> Figure:
    """A score over env steps, one panel per task: interquartile mean and 95% bootstrap band.

    Args:
        study: whose runs.
        curves: `learning_curves` of it.
        score: which of the curves; None for the study's score.
    """
    use_style()
    score = score or study.score
    chosen = curves[curves["score"] == score]
    rows = -(-len(study.tasks) // 5)
    columns = -(-len(study.tasks) // rows)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(PANEL_WIDTH * columns, PANEL_HEIGHT * rows + 0.3),
        sharey=True,
        sharex=True,
        squeeze=False,
    )
    for axis, task in zip(axes.flat, study.tasks, strict=False):
        for method in study.display:
            curve = chosen[(chosen["task"] == task) & (chosen["method"] == method)]
            line = line_of(study, method)
            axis.plot(curve["env_steps"], curve["iqm"], **line)
            axis.fill_between(
                *(curve[name] for name in ("env_steps", "low", "high")),
                color=line["color"],
                alpha=0.2,
                linewidth=0,
            )
        draw_brackets(axis, score)
        counts = sorted(set(chosen.loc[chosen["task"] == task, "runs"]))
        # The environment's name would reach into the next panel.
        named = task.replace(", ", "\n")
        axis.set_title(f"{named} ({' or '.join(map(str, counts))} runs)")
        axis.xaxis.set_major_formatter(ENV_STEPS)
    for axis in axes.flat[len(study.tasks) :]:
        axis.remove()
    figure.supxlabel("env steps", size=9)
    axes[0][0].set_ylabel(LABELS[score])
    legend(figure, axes[0][0])
    return figure


def over_length(study: Study, curves: pd.DataFrame, steps: pd.DataFrame | None) -> Figure:
    """The final score and the env steps to 90% over the length of an episode, with intervals.

    Args:
        study: whose runs; its tasks have a length.
        curves: `learning_curves` of it.
        steps: `steps_to_90pct` of it; None where no optimum is known.
    """
    use_style()
    final = final_scores(curves)
    final = _with_length(study, final[final["score"] == study.score])
    panels = 1 if steps is None else 2
    environments = list(dict.fromkeys(final["environment"]))
    size = (1.7 * PANEL_WIDTH * panels, 1.4 * PANEL_HEIGHT * len(environments) + 0.3)
    figure, axes = plt.subplots(len(environments), panels, figsize=size, squeeze=False)
    for row, environment in zip(axes, environments, strict=True):
        _draw_final(study, row[0], final[final["environment"] == environment])
        if steps is not None:
            lengths = _with_length(study, steps)
            _draw_steps(study, row[1], lengths[lengths["environment"] == environment], curves)
        for axis in row:
            axis.set_xlabel(f"length of an episode ({environment})")
    legend(figure, axes[0][0])
    return figure


def has_lengths(study: Study) -> bool:
    """Whether tasks differ in their length and environment alone, and there are several."""
    names = {"environment", "length"}
    return len(study.tasks) > 1 and all(keys.keys() == names for keys in study.tasks.values())


def _with_length(study: Study, table: pd.DataFrame) -> pd.DataFrame:
    names = ("environment", "length")
    return table.assign(**{k: [study.tasks[task][k] for task in table["task"]] for k in names})


def _draw_final(study: Study, axis: Axes, final: pd.DataFrame) -> None:
    for place, method in enumerate(study.display):
        one = final[final["method"] == method].sort_values("length")
        errors = [one["iqm"] - one["low"], one["high"] - one["iqm"]]
        _error_bars(study, axis, method, place, one["length"], one["iqm"], errors)
    axis.set_ylabel(f"{LABELS[study.score]} after training")
    draw_brackets(axis, study.score)
    _length_axis(axis, final)


def _draw_steps(study: Study, axis: Axes, steps: pd.DataFrame, curves: pd.DataFrame) -> None:
    """Medians on log axes; a run that never got there stands above the budget, not at a number."""
    budget = curves["env_steps"].max()
    never = 2.0 * budget
    for place, method in enumerate(study.display):
        one = steps[steps["method"] == method].sort_values("length")
        middle, low, high = (one[n].replace(np.inf, never) for n in ("median", "low", "high"))
        _error_bars(
            study, axis, method, place, one["length"], middle, [middle - low, high - middle]
        )
    axis.set_yscale("log")
    axis.axhspan(1.4 * budget, 2.8 * budget, color=BRACKET_COLOUR, alpha=0.15, linewidth=0)
    axis.annotate("never", (0.02, never), xycoords=("axes fraction", "data"), va="center", size=8)
    axis.set_ylim(top=2.8 * budget)
    axis.set_ylabel("env steps to 90% (median)")
    _length_axis(axis, steps)


def _error_bars(study, axis, method, place, lengths, values, errors) -> None:
    """One method's points, moved a little to the side so that intervals do not hide each other."""
    shift = 1 + 0.04 * (place - (len(study.display) - 1) / 2)
    axis.errorbar(
        lengths * shift,
        values,
        yerr=np.clip(errors, 0, None),
        marker=marker_of(study, method),
        markersize=4,
        elinewidth=1,
        capsize=2,
        **line_of(study, method),
    )


def _length_axis(axis: Axes, table: pd.DataFrame) -> None:
    lengths = sorted(set(table["length"]))
    axis.set_xscale("log")
    axis.set_xticks(lengths, [str(length) for length in lengths])
    axis.minorticks_off()
