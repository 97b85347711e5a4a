"""Searches: what is read of a tuning's folder, what is best, what is refused."""

import json
import math

import pytest
from matplotlib import pyplot as plt

from metairn.results.load import StudyError
from metairn.results.searches import (
    best_trials,
    load_searches,
    search_overview,
    search_progress,
    search_settings,
)


def trial(budget, rate, returns, error=None):
    values = {"training.actor_learning_rate": rate, "method.inner_update": "sgd"}
    line = {"budget_env_steps": budget, "values": values, "returns": returns, "error": error}
    return line | {"started_s": 1.0, "ended_s": 2.0, "wall_time_s": 1800.0}


TRIALS = [
    trial(1000, 0.1, [9.0, 9.0]),
    trial(3000, 0.01, [1.0, 3.0]),
    trial(3000, 0.3, [], error="seed 0: ValueError: too bad"),
    trial(3000, 0.001, [4.0, 6.0]),
]


def write_search(folder, trials):
    folder.mkdir(parents=True)
    (folder / "trials.jsonl").write_text("".join(json.dumps(line) + "\n" for line in trials))
    incumbent = {"trials": 1, "env_steps": 1000, "evaluation_return_mean": 9.0, "values": {}}
    (folder / "trajectory.jsonl").write_text(json.dumps(incumbent) + "\n")


@pytest.fixture
def root(tmp_path):
    write_search(tmp_path / "meta_irn__umbrella_chain", TRIALS)
    return tmp_path


def test_failed_trials_have_no_score_and_short_ones_are_not_best(root):
    (search,) = load_searches(root)
    assert search.name == "meta_irn__umbrella_chain"
    assert search.trials["env_steps"].tolist() == [1000, 4000, 7000, 10000]
    assert search.trials["score"].tolist()[:2] == [9.0, 2.0]
    assert math.isnan(search.trials["score"][2])
    best = best_trials(search)
    assert best["trial"].tolist() == [4, 2]
    assert best["training.actor_learning_rate"].tolist() == [0.001, 0.01]
    (row,) = search_overview([search]).to_dict("records")
    assert (row["trials"], row["failed"], row["env steps"]) == (4, 1, 10000)
    assert (row["hours"], row["best score"]) == (2.0, 5.0)


def test_figures_show_every_trial_and_setting(root):
    searches = load_searches(root)
    progress = search_progress(searches)
    points = progress.axes[0].collections[0].get_offsets()
    assert len(points) == 4
    assert progress.axes[0].lines[1].get_xdata().tolist() == [7000]
    settings = search_settings(searches[0])
    named = [axis.get_xlabel() for axis in settings.axes]
    assert named == ["training.actor_learning_rate", "method.inner_update"]
    assert settings.axes[0].lines[0].get_ydata().tolist() == [2.0, 5.0]
    plt.close("all")


def test_nothing_and_damage_are_refused_in_a_sentence(root, tmp_path):
    with pytest.raises(StudyError, match="has no searches; metairn-tune"):
        load_searches(tmp_path / "nothing")
    path = root / "meta_irn__umbrella_chain" / "trials.jsonl"
    whole = path.read_text()
    path.write_text(whole + "{")  # Cut off by a crash, and left out when the tuning goes on.
    assert len(load_searches(root)[0].trials) == 4
    path.write_text(whole + "{\n")
    with pytest.raises(StudyError, match=r"trials\.jsonl: line 5 is damaged"):
        load_searches(root)
