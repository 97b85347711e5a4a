"""The search space of the yaml files: what SMAC gets, what a trial gets, and what is refused."""

import json

import pytest
import yaml
from hydra import compose, initialize_config_module
from training_command import build

from metairn.experiments.command_help import keys, options
from metairn.experiments.search_space import Group, SearchSpace
from metairn.experiments.settings import BadInput, TrainingSettings
from metairn.experiments.tuning_plan import build_tuning
from metairn.results.held_folder import config_hash

VALUES = build().config["training"]


def space(entries, fixed=(), values=VALUES):
    return SearchSpace([Group("training", values, entries, TrainingSettings)], fixed)


def plan(*overrides):
    with initialize_config_module("metairn.experiments.configs", version_base="1.3"):
        return build_tuning(compose("tune", list(overrides)), [o.split("=")[0] for o in overrides])


def samples(searched, count=200):
    searched.configspace.seed(0)
    return [searched.values(c) for c in searched.configspace.sample_configuration(count)]


def test_values_are_plain_and_within_their_range():
    searched = space(
        {
            "epochs": {"low": 1, "high": 20, "log": True},
            "clip": {"low": 0.1, "high": 0.4},
            "minibatches": {"choices": [4, 1, 2]},
            "hidden_sizes": {"choices": [[32], [64, 64]]},
            "max_gradient_norm": {"choices": [None, 0.5]},
        }
    )
    drawn = samples(searched)
    assert all(type(v["training.epochs"]) is int for v in drawn)
    assert all(1 <= v["training.epochs"] <= 20 for v in drawn)
    assert {v["training.epochs"] for v in drawn} >= {1, 2, 20}
    assert all(type(v["training.clip"]) is float for v in drawn)
    assert all(0.1 <= v["training.clip"] <= 0.4 for v in drawn)
    assert {v["training.minibatches"] for v in drawn} == {1, 2, 4}
    assert all(v["training.hidden_sizes"] in ([32], [64, 64]) for v in drawn)
    assert {v["training.max_gradient_norm"] for v in drawn} == {None, 0.5}
    for values in drawn:  # As they go to trials.jsonl and to the tuned file, and come back.
        assert json.loads(json.dumps(values)) == values
        assert yaml.safe_load(yaml.safe_dump(values)) == values


def test_the_search_starts_at_the_yaml_files_values():
    searched = space({"epochs": {"low": 1, "high": 20}, "minibatches": {"choices": [1, 2]}})
    start = searched.values(searched.configspace.get_default_configuration())
    assert start == {f"training.{k}": VALUES[k] for k in ("epochs", "minibatches")}


CONDITIONAL = {
    "minibatches": {"choices": [1, 2, 4]},
    "clip": {"low": 0.1, "high": 0.4, "when": {"minibatches": [2, 4]}},
}


def test_a_condition_decides_whether_a_setting_is_there():
    drawn = samples(space(CONDITIONAL))
    assert {v["training.minibatches"] for v in drawn} == {1, 2, 4}
    for values in drawn:
        assert ("training.clip" in values) == (values["training.minibatches"] in (2, 4))


@pytest.mark.parametrize(("fixed", "searched"), [(1, set()), (2, {"training.clip"})])
def test_a_fixed_parent_decides_a_condition(fixed, searched):
    entries = CONDITIONAL | {"epochs": {"low": 1, "high": 20}}
    made = space(entries, ["training.minibatches"], VALUES | {"minibatches": fixed})
    assert set(made.definition) == {"training.epochs"} | searched


MISTAKES = {
    "unknown setting": ({"epoch": {"low": 1, "high": 2}}, ["search_space.epoch", "epochs"]),
    "unknown word": ({"epochs": {"lo": 1, "high": 2}}, ["search_space.epochs", "low"]),
    "both forms": ({"epochs": {"low": 1, "high": 2, "choices": [1, 2]}}, ["search_space.epochs"]),
    "no mapping": ({"epochs": 3}, ["search_space.epochs=3", "choices"]),
    "no space": ([1], ["search_space=[1]", "choices"]),
    "another type": ({"epochs": {"low": 0.5, "high": 2}}, ["epochs=0.5", "whole number"]),
    "a text": ({"epochs": {"choices": ["many", 2]}}, ["epochs=many", "whole number"]),
    "empty range": ({"epochs": {"low": 3, "high": 3}}, ["search_space.epochs", "low < high"]),
    "log of zero": ({"clip": {"low": 0, "high": 1, "log": True}}, ["clip.log=True", "low > 0"]),
    "one choice": ({"epochs": {"choices": [10]}}, ["epochs.choices=[10]", "two"]),
    "start outside": ({"epochs": {"low": 1, "high": 5}}, ["training.epochs=10", "from 1 to 5"]),
    "start no choice": ({"epochs": {"choices": [1, 2]}}, ["training.epochs=10", "[1, 2]"]),
    "budget": ({"budget_env_steps": {"low": 1, "high": 2}}, ["budget_env_steps", "tuner"]),
    "unknown parent": (
        {"epochs": {"low": 1, "high": 20, "when": {"clip": [1]}}},
        ["epochs.when.clip=1", "choices"],
    ),
    "condition no list": (
        {"epochs": {"low": 1, "high": 20, "when": {"clip": 1}}},
        ["epochs.when", "when: {other"],
    ),
    "nothing": (None, ["nothing to tune"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_is_one_sentence(mistake):
    entries, named = MISTAKES[mistake]
    with pytest.raises(BadInput) as error:
        space(entries)
    assert "\n" not in str(error.value)
    assert [word for word in named if word not in str(error.value)] == []


TUNED = [method for method in options("method") if "tuned_as" not in keys("method", method)]


@pytest.mark.parametrize("method", TUNED)
def test_every_method_shares_the_space_of_ppo(method):
    own, shared = plan(f"method={method}").space.definition, plan("method=ppo").space.definition
    assert shared.items() <= own.items()
    assert all(key.startswith("method.") for key in own.keys() - shared.keys())


@pytest.mark.parametrize("method", options("method"))
def test_the_search_space_is_no_part_of_a_run(method):
    config = build(f"method={method}", "training.epochs=7").config
    assert "search_space" not in {*config, *config["method"], *config["training"]}
    other = build(f"method={method}", "training.epochs=7", "training.search_space=null").config
    assert config_hash(other) == config_hash(config)


def test_what_the_command_line_gives_is_fixed():
    made = plan("method=meta_irn", "training.epochs=4", "method.outer_data=same")
    assert not {"training.epochs", "method.outer_data"} & set(made.space.definition)
    assert made.fixed == {"training.epochs": 4, "method.outer_data": "same"}
    assert plan("training.num_threads=2", "training.evaluation_episodes=9").fixed == {}
