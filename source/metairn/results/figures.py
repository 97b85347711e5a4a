"""Figures of a study, drawn from its runs."""

from __future__ import annotations

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from metairn.results.load import Study
from metairn.results.statistics import estimate
from metairn.results.style import BRACKET_COLOUR, PANEL_HEIGHT, PANEL_WIDTH, use_style

LABELS = {
    "optimality": "optimality (0: random, 1: best)",
    "evaluation_return_mean": "evaluation return",
}


def sample_efficiency(study: Study) -> Figure:
    """Score over env steps, one panel per task: interquartile mean and 95% bootstrap band."""
    use_style()
    tasks = study.tasks()
    figure, axes = plt.subplots(
        1, len(tasks), figsize=(PANEL_WIDTH * len(tasks), PANEL_HEIGHT), sharey=True, squeeze=False
    )
    for axis, (keys, rows) in zip(axes[0], tasks, strict=True):
        runs = set()
        for method, of_method in rows.groupby("method"):
            shown = study.display[str(method)]
            curve = estimate(of_method, study.score)
            runs.add(curve.num_runs)
            axis.plot(curve.marks, curve.iqm, color=shown.colour, label=shown.label)
            axis.fill_between(
                curve.marks, curve.low, curve.high, color=shown.colour, alpha=0.2, linewidth=0
            )
        if study.score == "optimality":
            for height in (0.0, 1.0):
                axis.axhline(height, color=BRACKET_COLOUR, linestyle=":", linewidth=1)
        counts = " or ".join(map(str, sorted(runs)))
        named = {key: value for key, value in keys.items() if key != "environment"}
        task = ", ".join(f"{key} {value}" for key, value in named.items())
        axis.set_title(f"{keys['environment']}\n{task}, {counts} seeds", size=8)
        axis.set_xlabel("env steps")
        axis.ticklabel_format(axis="x", style="sci", scilimits=(3, 3))
    axes[0][0].set_ylabel(LABELS[study.score])
    axes[0][-1].legend(loc="lower right")
    return figure
