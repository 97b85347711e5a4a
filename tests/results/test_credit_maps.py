"""Credit maps: means over runs, what the page's slider gets, and which tasks have none."""

import base64
from dataclasses import replace

import numpy as np
import pytest
from matplotlib import pyplot as plt
from study_builder import MadeUpStudy, credit_maps

from metairn.results.analysis import analyse
from metairn.results.credit_explorer import explorer_data, shrink
from metairn.results.credit_figures import credit_matrices, credit_of_last_reward, first_action
from metairn.results.credit_maps import load_credit_maps
from metairn.results.load import StudyError, load_study
from metairn.results.pictures import credit_pictures
from metairn.results.run_record import RunRecord

METHODS = ("ppo", "meta_irn", "oracle")


@pytest.fixture
def study(tmp_path):
    MadeUpStudy(tmp_path).write_all(methods=METHODS, lengths=[4], seeds=2)
    return load_study(tmp_path, "toy")


def test_maps_are_means_over_runs_in_the_order_of_training(study):
    maps = load_credit_maps(study, "length 4")
    assert list(maps) == list(METHODS)
    assert [m.env_steps for m in maps["meta_irn"]] == [0, 6000, 10000]
    uniform, truth = np.triu(np.ones((4, 4))), np.zeros((4, 4))
    truth[0, 3] = 1
    for snapshot, share in zip(maps["meta_irn"], (0, 0.6, 1), strict=True):
        np.testing.assert_allclose(snapshot.credit, share * truth + (1 - share) * uniform, 1e-6)
        np.testing.assert_array_equal(snapshot.truth, truth)
        assert snapshot.runs == 2
    files = [np.load(run.folder / "credit" / "iteration=000000.npz") for run in study.runs[:2]]
    attention = np.concatenate([file["attention"] for file in files]).mean(axis=0)
    np.testing.assert_allclose(maps["meta_irn"][0].attention, attention)
    assert maps["ppo"][0].attention is None


def test_tasks_without_truth_or_with_episodes_of_several_lengths_have_no_maps(study):
    folder = study.runs[0].folder
    record = RunRecord(folder, study.runs[0].config)
    maps = credit_maps("ppo", 4, 0.5, np.random.default_rng(0))
    record.save_credit_maps(0, {k: v for k, v in maps.items() if k != "ground_truth"})
    assert load_credit_maps(study, "length 4") == {}
    maps["mask"] = np.array([[True, True, True, False]] * 2)
    record.save_credit_maps(0, maps)
    assert load_credit_maps(study, "length 4") == {}
    record.close()


def test_figures_are_of_the_last_task_in_which_an_action_caused_a_reward(tmp_path):
    MadeUpStudy(tmp_path).write_all(methods=METHODS, lengths=[4, 6], seeds=2)
    study = load_study(tmp_path, "toy")
    maps = {task: load_credit_maps(study, task) for task in study.tasks}
    by_chance = {
        method: [replace(m, truth=np.zeros_like(m.truth)) for m in snapshots]
        for method, snapshots in maps["length 6"].items()
    }
    pictures = list(credit_pictures(study, analyse(study), maps | {"length 6": by_chance}))
    assert "length 4" in next(p.words for p in pictures if p.name == "credit_matrices")
    of_none = {"length 4": {}, "length 6": by_chance}
    assert [p.name for p in credit_pictures(study, analyse(study), of_none)] == ["credit_on_cause"]


def test_damaged_map_is_named(study):
    path = study.runs[0].folder / "credit" / "iteration=000000.npz"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(StudyError, match=r"iteration=000000\.npz is damaged; remove it"):
        load_credit_maps(study, "length 4")


def decoded(panel, frame):
    levels = np.frombuffer(base64.b64decode(panel["frames"][frame]["levels"]), np.uint8)
    values = (levels.astype(float) - 128) / 127 * panel["largest"]
    return values.reshape(panel["side"], panel["side"])


def test_page_gets_every_map_to_the_precision_of_a_byte(study):
    maps = load_credit_maps(study, "length 4")
    (task,) = explorer_data(study, {"length 4": maps, "other": {}})["tasks"]
    assert (task["name"], task["steps"]) == ("length 4", [0, 6000, 10000])
    credit, beyond, attention = task["rows"]
    labels = [[panel["label"] for panel in row["panels"]] for row in task["rows"]]
    assert labels[0] == ["ground truth", "PPO", "MetaIRN", "Credit oracle"]
    assert labels[1:] == [["MetaIRN", "Credit oracle"], ["optimal attention", "MetaIRN"]]
    for k, snapshot in enumerate(maps["meta_irn"]):
        for row, place, expected in (
            (credit, 2, snapshot.credit),
            (beyond, 0, snapshot.credit - maps["ppo"][-1].credit),
            (attention, 1, snapshot.attention),
        ):
            panel = row["panels"][place]
            np.testing.assert_allclose(decoded(panel, k), expected, atol=panel["largest"] / 250)


def test_wide_matrices_keep_their_spikes():
    matrix = np.zeros((7, 7))
    matrix[0, 6], matrix[3, 2] = 5.0, -4.0
    np.testing.assert_array_equal(shrink(matrix, 7), matrix)
    assert shrink(matrix, 3).tolist() == [[0, 0, 5], [-4, 0, 0], [0, 0, 0]]


def test_figures_show_the_truth_beside_every_method(study):
    maps = load_credit_maps(study, "length 4")
    for draw in (credit_matrices, first_action):
        figure = draw(study, maps)
        titles = [axis.get_title() for axis in figure.axes]
        assert titles[0] == "optimal credit"
        assert set(titles[1:]) == {
            "PPO: credit",
            "MetaIRN: credit",
            "Credit oracle: credit",
            "optimal attention",
            "MetaIRN: attention",
        }
        plt.close(figure)
    figure = credit_of_last_reward(study, maps)
    lines = {line.get_label(): line.get_ydata() for line in figure.axes[0].lines}
    np.testing.assert_allclose(lines["PPO"], 0.25)
    np.testing.assert_array_equal(lines["ground truth"], [1, 0, 0, 0])
    plt.close(figure)
