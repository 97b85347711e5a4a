"""Probability of improvement and performance profiles: rliable's numbers and known answers."""

import numpy as np
import pytest
from rliable import library as rliable_library
from rliable import metrics as rliable_metrics
from study_builder import MadeUpStudy

from metairn.results import comparisons
from metairn.results.comparisons import (
    complete_seeds,
    improvement,
    incomplete_seeds,
    overall,
    performance_profiles,
    probability_of_improvement,
    score_matrix,
)
from metairn.results.load import StudyError, load_study

MARKS = np.arange(0, 10_001, 2000)


def solved_at(mark):
    return [float(mark is not None and m >= mark) for m in MARKS]


@pytest.mark.parametrize("decimals", [0, 8])  # With many ties, and with none.
def test_probability_of_improvement_is_rliables(decimals):
    rng = np.random.default_rng(0)
    better = rng.normal(0.3, size=(7, 4)).round(decimals)
    than = rng.normal(size=(9, 4)).round(decimals)
    expected = rliable_metrics.probability_of_improvement(better, than)
    assert probability_of_improvement(better, than).mean() == pytest.approx(expected, abs=1e-12)


def test_known_probabilities():
    never = -np.inf
    better = np.array([[3.0, 1.0, never], [4.0, 2.0, never]])
    than = np.array([[1.0, 1.0, never], [2.0, 2.0, -5.0]])
    np.testing.assert_array_equal(probability_of_improvement(better, than), [1.0, 0.5, 0.25])
    np.testing.assert_array_equal(probability_of_improvement(than, better), [0.0, 0.5, 0.75])


def test_profiles_are_rliables(tmp_path, monkeypatch):
    monkeypatch.setattr(comparisons, "BOOTSTRAP_SAMPLES", 20)
    MadeUpStudy(tmp_path).write_all(methods=["ppo"], seeds=4)
    study = load_study(tmp_path, "toy")
    table = performance_profiles(study)
    for measure, above in (("final", lambda t: t), ("speed", lambda t: -t - 0.5)):
        ours = table[table["measure"] == measure]
        np.random.seed(0)
        profiles, intervals = rliable_library.create_performance_profile(
            {"ppo": score_matrix(study, "ppo", measure)}, above(ours["threshold"].values), reps=20
        )
        np.testing.assert_allclose(ours["share"], profiles["ppo"])
        np.testing.assert_allclose(ours[["low", "high"]].T, intervals["ppo"])


def test_profile_of_speed_is_the_share_solved_by_then(tmp_path):
    study = MadeUpStudy(tmp_path)
    for seed, mark in enumerate([2000, 2000, 6000, None]):
        study.write("ppo", 4, seed, scores=solved_at(mark))
    table = performance_profiles(load_study(tmp_path, "toy"))
    speed = table[table["measure"] == "speed"].set_index("threshold")["share"]
    assert speed.to_dict() == {0: 0, 2000: 0.5, 4000: 0.5, 6000: 0.75, 8000: 0.75, 10000: 0.75}


def test_improvement_over_ppo_at_the_end_and_in_speed(tmp_path):
    study = MadeUpStudy(tmp_path)
    for seed in range(3):
        for length, ppo, mine in ((2, 2000, 2000), (5, 8000, 4000)):
            study.write("ppo", length, seed, scores=solved_at(ppo))
            study.write("meta_irn", length, seed, scores=solved_at(mine))
    table = improvement(load_study(tmp_path, "toy")).set_index(["measure", "task"])
    assert set(table["method"]) == {"meta_irn"}
    probabilities = table["probability"].unstack()
    assert probabilities.loc["final"].to_dict() == {"length 2": 0.5, "length 5": 0.5, "all": 0.5}
    assert probabilities.loc["speed"].to_dict() == {"length 2": 0.5, "length 5": 1, "all": 0.75}
    assert (table["low"] <= table["probability"]).all()
    assert (table["high"] >= table["probability"]).all()


def test_comparisons_over_tasks_take_seeds_that_finished_all_of_them(tmp_path):
    study = MadeUpStudy(tmp_path)
    study.write_all(methods=["ppo", "oracle"])
    (study.folder("ppo", 5, 1) / "DONE").unlink()
    loaded = load_study(tmp_path, "toy")
    assert complete_seeds(loaded, "ppo") == [0, 2]
    assert incomplete_seeds(loaded) == {"ppo": [1]}
    assert score_matrix(loaded, "ppo", "final").shape == (2, 2)
    assert overall(loaded)["runs"].tolist() == [2, 3]


def test_no_seed_in_common_is_refused(tmp_path):
    study = MadeUpStudy(tmp_path)
    study.write("ppo", 2, 0)
    study.write("ppo", 5, 1)
    with pytest.raises(StudyError, match="no seed with which method=ppo finished on every task"):
        score_matrix(load_study(tmp_path, "toy"), "ppo", "final")
