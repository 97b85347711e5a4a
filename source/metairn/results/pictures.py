"""The figures of a study's report, with what they show in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from metairn.results.analysis import Analysis
from metairn.results.comparison_figures import improvement_intervals, profiles
from metairn.results.credit_figures import credit_matrices, credit_of_last_reward, first_action
from metairn.results.credit_maps import CreditMap
from metairn.results.figures import has_lengths, over_length, over_training
from metairn.results.load import REFERENCE, Study


@dataclass(frozen=True)
class Picture:
    """A figure, what its file is called and what it shows.

    Args:
        name: of its files, after the study's.
        words: its caption and, for those who cannot see it, its description.
        figure: the drawing.
    """

    name: str
    words: str
    figure: Figure

    def close(self) -> None:
        """Gives its memory back."""
        plt.close(self.figure)


def performance_pictures(study: Study, analysis: Analysis) -> Iterator[Picture]:
    """How well and how soon methods learn."""
    yield Picture(
        "sample_efficiency",
        "Sample efficiency: interquartile mean over runs and its 95% stratified bootstrap band at "
        "each evaluation, of the policy as it acts. Dashed: the methods that bracket the others.",
        over_training(study, analysis.curves),
    )
    if has_lengths(study):
        text = (
            "After training, over the length of an episode: interquartile mean of the final score"
        )
        if analysis.steps is not None:
            text += (
                " and median env steps to 90% optimality, 95% bootstrap intervals. A run that "
                "never got there counts as later than any number"
            )
        yield Picture(
            "over_length", text + ".", over_length(study, analysis.curves, analysis.steps)
        )


def comparison_pictures(study: Study, analysis: Analysis) -> Iterator[Picture]:
    """Methods against each other."""
    reference = study.display[REFERENCE].label
    if len(study.display) > 1:
        yield Picture(
            "improvement",
            f"Probability that a run of a method beats a run of {reference}, with 95% stratified "
            "bootstrap intervals; ties count half, so 0.5 is no difference.",
            improvement_intervals(study, analysis.improvement),
        )
    yield Picture(
        "profiles",
        "Performance profiles over the runs of all tasks, with 95% stratified bootstrap bands: the "
        "higher a line, the better.",
        profiles(study, analysis.profiles),
    )


def task_of_maps(study: Study, maps: dict[str, dict[str, list[CreditMap]]]) -> str | None:
    """The last (longest) task with maps to show: where a coin pays, no action caused anything."""
    mapped = [t for t in study.tasks if any(m[-1].truth.any() for m in maps[t].values())]
    return mapped[-1] if mapped else None


def credit_pictures(
    study: Study, analysis: Analysis, maps: dict[str, dict[str, list[CreditMap]]]
) -> Iterator[Picture]:
    """What methods credit: over training on every task, in full on the last (longest) one.

    Args:
        study: whose runs.
        analysis: of it.
        maps: per task, `load_credit_maps` of it.
    """
    if "credit_on_cause" in set(analysis.curves["score"]):
        yield Picture(
            "credit_on_cause",
            "Share of the decisive reward's credit that lands on the action that caused it: "
            "interquartile mean and 95% stratified bootstrap band.",
            over_training(study, analysis.curves, "credit_on_cause"),
        )
    task = task_of_maps(study, maps)
    if task is None:
        return
    mean = f"{task}, mean over runs and evaluation episodes"
    yield Picture(
        "credit_matrices",
        f"After training ({mean}): how much of the reward at step j the action at step t is "
        "credited with, and how much step t attends to step j, beside what would be optimal. Each "
        "panel has its own scale.",
        credit_matrices(study, maps[task]),
    )
    yield Picture(
        "first_action",
        f"The first action over training ({mean}): which rewards it is credited with, which steps "
        "it attends to, and what would be optimal.",
        first_action(study, maps[task]),
    )
    yield Picture(
        "decisive_reward",
        f"After training ({mean}): how the credit for the decisive reward is shared among actions.",
        credit_of_last_reward(study, maps[task]),
    )
