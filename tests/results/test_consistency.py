"""Studies that compare what cannot be compared are refused in one sentence that names the key."""

from dataclasses import replace

import pytest
import yaml
from study_builder import MadeUpStudy

from metairn.results.consistency import check_consistency
from metairn.results.load import StudyError, load_study


def refusal(root):
    with pytest.raises(StudyError) as refused:
        check_consistency(load_study(root, "toy"))
    message = str(refused.value)
    assert message.count("\n") == 0
    assert message.startswith("study=toy ")
    return message


def test_methods_may_have_settings_of_their_own(tmp_path):
    study = MadeUpStudy(tmp_path)
    study.write_all(methods=["ppo", "oracle"])
    for seed in range(2):
        study.write("meta_irn", 2, seed, actor_learning_rate=0.5)
        study.write("meta_irn", 5, seed, actor_learning_rate=0.1)
    check_consistency(load_study(tmp_path, "toy"))


def test_runs_that_differ_in_more_than_their_seed_are_refused(tmp_path):
    study = MadeUpStudy(tmp_path)
    study.write("ppo", 2, 0)
    study.write("ppo", 2, 1, epochs=3)
    message = refusal(tmp_path)
    assert "training.epochs=10 in" in message
    assert f", 3 in {study.folder('ppo', 2, 1)};" in message


def test_runs_of_different_code_are_refused(tmp_path):
    study = MadeUpStudy(tmp_path)
    study.write("ppo", 2, 0)
    replace(study, commit="fedcba").write("ppo", 2, 1)
    assert "git_commit=0123456789abcdef in" in refusal(tmp_path)


def test_methods_that_met_different_environments_are_refused(tmp_path):
    study = MadeUpStudy(tmp_path)
    study.write_all(methods=["ppo", "oracle"], lengths=[2])
    for seed in range(3):
        path = study.folder("oracle", 2, seed) / "config.yaml"
        config = yaml.safe_load(path.read_text())
        config["environment"]["final_reward"] = 3.0
        path.write_text(yaml.safe_dump(config))
    assert "environment.final_reward=10.0 in" in refusal(tmp_path)


@pytest.mark.parametrize("key", ["budget_env_steps", "evaluation_interval_env_steps"])
def test_different_budgets_and_intervals_are_refused(key, tmp_path):
    study = MadeUpStudy(tmp_path)
    study.write_all(methods=["ppo"], lengths=[2])
    for seed in range(3):
        study.write("ppo", 5, seed, **{key: 1000})
    assert f"training.{key}=" in refusal(tmp_path)


def test_missing_method_is_refused_with_the_command_that_runs_it(tmp_path):
    study = MadeUpStudy(tmp_path)
    study.write_all(methods=["ppo", "oracle"], lengths=[2])
    study.write("ppo", 5, 0)
    message = refusal(tmp_path)
    assert "no finished runs of method=oracle with length 5" in message
    command = "method=oracle environment=umbrella_chain environment.length=5"
    assert f"metairn-train study=toy {command}" in message


def test_missing_reference_is_refused(tmp_path):
    MadeUpStudy(tmp_path).write_all(methods=["meta_irn"], lengths=[2])
    assert "no finished runs of method=ppo with length 2" in refusal(tmp_path)


def test_missing_method_of_the_plan_is_refused(tmp_path):
    MadeUpStudy(tmp_path).write_all(methods=["ppo"], lengths=[2])
    study = load_study(tmp_path, "toy")
    check_consistency(study, ["ppo"])
    with pytest.raises(StudyError, match="no finished runs of method=oracle with length 2"):
        check_consistency(study, ["ppo", "oracle"])
