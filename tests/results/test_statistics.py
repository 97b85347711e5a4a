"""Interquartile means, medians and their intervals: rliable's numbers, known answers, coverage."""

import math

import numpy as np
import pandas as pd
import pytest
from rliable import library as rliable_library
from rliable import metrics as rliable_metrics
from scipy.stats import norm
from study_builder import MadeUpStudy

from metairn.results import statistics
from metairn.results.comparisons import probability_of_improvement
from metairn.results.load import StudyError, load_study
from metairn.results.statistics import (
    final_scores,
    interquartile_mean,
    interval,
    learning_curves,
    median_interval,
    scores_by_mark,
    steps_to_90pct,
)

MARKS = [0, 2000, 4000]


def rows_of(scores):
    """A metrics table from an array [runs, marks]."""
    return pd.DataFrame(
        {
            "task": "length 5",
            "method": "ppo",
            "seed": seed,
            "evaluation_mark_env_steps": mark,
            "optimality": value,
        }
        for seed, run in enumerate(scores)
        for mark, value in zip(MARKS, run, strict=True)
    )


@pytest.mark.parametrize("runs", [1, 3, 4, 10, 11])
def test_interquartile_mean_is_rliables(runs):
    scores = np.random.default_rng(0).normal(size=(runs, 3, 4))
    expected = [rliable_metrics.aggregate_iqm(scores[:, :, k]) for k in range(4)]
    np.testing.assert_allclose(interquartile_mean(scores), expected, rtol=1e-12)


def test_interval_is_rliables(monkeypatch):
    monkeypatch.setattr(statistics, "BOOTSTRAP_SAMPLES", 50)
    scores = np.random.default_rng(0).normal(size=(10, 3, 2))

    def documented(scores):
        return np.array([rliable_metrics.aggregate_iqm(scores[..., k]) for k in range(2)])

    np.random.seed(7)
    points, intervals = rliable_library.get_interval_estimates({"x": scores}, documented, reps=50)
    ours = interval(scores, interquartile_mean, seed=7)
    np.testing.assert_allclose(ours, [points["x"], *intervals["x"]], rtol=1e-12)


def test_outliers_are_trimmed():
    scores = np.tile([[[0.0, 0.5, 1.0]]], (8, 1, 1))
    scores[0] = -100.0
    np.testing.assert_array_equal(interquartile_mean(scores), [0.0, 0.5, 1.0])


def test_intervals_are_reproducible_and_leave_the_global_generator_alone():
    scores = np.random.default_rng(1).normal(size=(6, 1, 3))
    np.random.seed(5)
    expected = np.random.random()
    np.random.seed(5)
    first = interval(scores, interquartile_mean)
    assert np.random.random() == expected
    np.testing.assert_array_equal(first, interval(scores, interquartile_mean))
    assert not np.array_equal(first, interval(scores, interquartile_mean, seed=1))


RUNS, SIMULATIONS = 10, 1000


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_intervals_of_the_interquartile_mean_cover(shift):
    """Each simulated study is a column of its own, so that one bootstrap serves them all."""
    scores = np.random.default_rng(2).normal(shift, size=(RUNS, 1, SIMULATIONS))
    _, low, high = interval(scores, interquartile_mean)
    assert 0.92 <= np.mean((low <= shift) & (shift <= high)) <= 0.98


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_intervals_of_the_probability_of_improvement_cover(shift):
    rng = np.random.default_rng(3)
    pair = [rng.normal(mean, size=(RUNS, SIMULATIONS // 2)) for mean in (shift, 0)]
    _, low, high = interval(pair, probability_of_improvement)
    truth = norm.cdf(shift / math.sqrt(2))
    assert 0.92 <= np.mean((low <= truth) & (truth <= high)) <= 0.98


def test_intervals_of_the_median_cover_though_some_runs_never_got_there():
    rng = np.random.default_rng(4)
    steps = rng.exponential(size=(400, RUNS))
    steps[steps > 1.5] = math.inf  # About a fifth; the median is at 0.69.
    covers = [low <= math.log(2) <= high for low, high in map(median_interval, steps)]
    assert 0.92 <= np.mean(covers) <= 0.98


def test_missing_scores_are_refused_not_counted_as_zero():
    scores = np.zeros((3, 1, 2))
    scores[1, 0, 1] = math.nan
    with pytest.raises(ValueError, match="missing"):
        interval(scores, interquartile_mean)
    with pytest.raises(StudyError, match=r"method=ppo, length 5, seed=1 is no number at 4000 env"):
        scores_by_mark(rows_of([[0, 1, 1], [0, 0, math.nan]]), "optimality")


def test_runs_of_different_marks_are_refused():
    rows = rows_of(np.zeros((2, 3)))
    with pytest.raises(StudyError, match="seed=1 is no number at 4000 env steps"):
        scores_by_mark(rows[:-1], "optimality")


def test_curves_are_of_every_mark_and_end_at_the_last(tmp_path):
    study = MadeUpStudy(tmp_path)
    for seed, score in enumerate([0.0, 0.5, 0.5, 1.0]):
        study.write("ppo", 4, seed, scores=[0, 0, 0, 0, 0, score])
    loaded = load_study(tmp_path, "toy")
    curves = learning_curves(loaded)
    of = curves.groupby("score")["env_steps"].apply(list)
    assert of["optimality"] == of["optimality_greedy"] == [0, 2000, 4000, 6000, 8000, 10000]
    assert of["credit_on_cause"] == [2000, 4000, 6000, 8000, 10000]
    final = final_scores(curves).set_index("score")
    assert final.loc["optimality", "iqm"] == 0.5
    assert final.loc["credit_on_cause", "iqm"] == 0.25
    assert set(final["runs"]) == {4}


@pytest.mark.parametrize(
    ("solved_at", "median", "never"),
    [
        ([4000, 4000, 8000], 4000, 0),
        ([2000, 6000], 4000, 0),
        ([2000, 4000, None], 4000, 1),
        ([2000, None, None], math.inf, 2),
        ([2000, 4000, None, None], math.inf, 2),
    ],
)
def test_median_env_steps_count_never_as_last(solved_at, median, never, tmp_path):
    study = MadeUpStudy(tmp_path)
    marks = np.arange(0, 10_001, 2000)
    for seed, mark in enumerate(solved_at):
        study.write("ppo", 4, seed, scores=[float(mark is not None and m >= mark) for m in marks])
    (row,) = steps_to_90pct(load_study(tmp_path, "toy")).to_dict("records")
    assert (row["median"], row["never"], row["runs"]) == (median, never, len(solved_at))
    assert row["low"] <= row["median"] <= row["high"]
    assert {row["low"], row["high"]} <= {2000, 3000, 4000, 5000, 6000, 8000, math.inf}
