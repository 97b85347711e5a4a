"""metairn-tune and tuned=true from the command line, with real trials where it takes them."""

import collections
import json
import os
import signal
import time
from importlib.metadata import entry_points

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from training_command import is_one_sentence, outcome_of, run_here, start_process

from metairn.experiments import trials, tune
from metairn.experiments.command_help import CONFIGS, options, tune_help_text
from metairn.experiments.settings import BadInput
from metairn.experiments.tuned import tuned_path, tuned_text
from metairn.results.held_folder import config_hash

# Six trials of one or three batches.
SMALL = (
    "method=meta_irn",
    "environment.length=2",
    "training.evaluation_episodes=10",
    "tuner.trials=6",
    "tuner.min_budget_env_steps=4000",
    "tuner.max_budget_env_steps=12000",
    "tuner.seeds=[77]",
    "output_root=runs",
)
FOLDER = "runs/tuning/meta_irn__umbrella_chain/bohb"

MISTAKES = {
    "what takes another's": (["method=oracle"], ["method=oracle", "ppo"]),
    "unknown setting": (
        ["+method.search_space.foo={low:0,high:1}", "method=meta_irn"],
        ["method.search_space.foo", "encoder_width", "intrinsic_coefficient"],
    ),
    "setting of another method": (
        ["+method.search_space={encoder_width:{choices:[16,32]}}"],
        ["method.search_space.encoder_width", "PPO"],
    ),
    "unknown word": (
        ["+training.search_space.epochs.foo=1"],
        ["training.search_space.epochs", "low", "choices"],
    ),
    "unknown tuner": (["tuner=nope"], ["tuner=nope", *options("tuner")]),
    "unknown tuner key": (["tuner.trial=3"], ["tuner.trial", "trials", "seeds"]),
    "no trial": (["tuner.trials=0"], ["tuner.trials=0", "at least 1"]),
    "trials a text": (["tuner.trials=many"], ["tuner.trials=many", "whole number"]),
    "small after large": (
        ["tuner.min_budget_env_steps=200000"],
        ["tuner.max_budget_env_steps=100000", "at least"],
    ),
    "less than a batch": (
        ["tuner.max_budget_env_steps=30000", "tuner.min_budget_env_steps=10"],
        ["budget_env_steps=", "train_batch_env_steps=1000"],
    ),
    "a seed twice": (["tuner.seeds=[1,1]"], ["tuner.seeds=[1, 1]", "different"]),
    "no seed": (["tuner.seeds=0"], ["tuner.seeds=0"]),
    "budget of a run": (["training.budget_env_steps=7"], ["tuner.max_budget_env_steps"]),
    "processes": (["training.num_env_runners=2"], ["training.num_env_runners=2", "process"]),
    "misspelt top key": (["sed=1"], ["sed", "seed", "output_root", "tuner"]),
    "length zero": (["environment.length=0"], ["environment.length=0"]),
    "all fixed": (["training.search_space=null"], ["nothing to tune"]),
}


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_costs_one_sentence_and_writes_nothing(mistake, empty_folder):
    overrides, named = MISTAKES[mistake]
    outcome = run_here(*overrides, "output_root=runs", command=tune)
    assert (outcome.code, outcome.out) == (2, ""), outcome.err
    assert is_one_sentence(outcome.err), outcome.err
    assert [word for word in named if word not in outcome.err] == []
    assert list(empty_folder.iterdir()) == []


def test_help_explains_every_tuner_key():
    outcome = run_here("--help", command=tune)
    assert (outcome.code, outcome.out, outcome.err) == (0, tune_help_text() + "\n", "")
    for option in options("tuner"):
        for key in ("trials", "seeds", "min_budget_env_steps", "max_budget_env_steps"):
            explained = outcome.out.split(f"tuner={option}: ")[1]
            assert f"tuner.{key}=" in explained


def test_console_script_is_the_tested_function():
    scripts = {script.name: script for script in entry_points(group="console_scripts")}
    assert scripts["metairn-tune"].load() is tune.main


def write_tuned(values, seeds=(77,), method="ppo"):
    path = tuned_path("runs", method, "umbrella_chain")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(tuned_text(values, {"seeds": list(seeds)}))
    return path


@pytest.fixture
def built(monkeypatch):
    """Configurations of the runs that metairn-train would have started."""
    from metairn.experiments import build

    configs = []
    inside = build.build_experiment

    def end_there(*arguments):
        configs.append(inside(*arguments).config)
        raise BadInput("Seen.")

    monkeypatch.setattr(build, "build_experiment", end_there)
    return configs


def test_tuned_values_lie_between_the_yaml_files_and_the_command_line(built):
    write_tuned({"training.epochs": 3, "training.clip": 0.33, "training.hidden_sizes": [8]})
    run_here("tuned=true", "training.epochs=4", "output_root=runs")
    run_here("training.epochs=4", "output_root=runs")
    tuned, plain = built
    assert tuned["training"] == plain["training"] | {"clip": 0.33, "hidden_sizes": [8]}
    assert tuned["training"]["epochs"] == 4


def test_a_tuned_run_is_the_run_of_the_same_values(built):
    write_tuned({"training.epochs": 3})
    for overrides in (["tuned=true"], ["training.epochs=3"], ["tuned=false"]):
        run_here(*overrides, "output_root=runs")
    tuned, same, untuned = map(config_hash, built)
    assert tuned == same != untuned


def test_another_environment_s_tuned_values_can_be_used(built):
    write_tuned({"training.epochs": 3})
    run_here("tuned=umbrella_chain", "environment=umbrella_chain_bsuite", "output_root=runs")
    assert built[0]["environment"]["name"] == "umbrella_chain_bsuite"
    assert built[0]["training"]["epochs"] == 3


def test_the_oracle_takes_what_was_found_for_ppo(built):
    write_tuned({"training.epochs": 3})
    run_here("tuned=true", "method=oracle", "output_root=runs")
    assert built[0]["method"]["name"] == "oracle"
    assert built[0]["training"]["epochs"] == 3


def test_no_study_has_a_tuning_seed():
    parser = OverridesParser.create()
    studies = [option for option in options("study") if option != "default"]
    assert studies
    for option in studies:
        study = yaml.safe_load((CONFIGS / "study" / f"{option}.yaml").read_text())
        seeds = parser.parse_override(f"seed={study['hydra']['sweeper']['params']['seed']}")
        assert not {*seeds.sweep_iterator()} & {*range(1000, 1100)}


TUNED_MISTAKES = {
    "no file": (None, [], ["tuned=true", "ppo__umbrella_chain.yaml", "metairn-tune method=ppo"]),
    "a tuning seed": ({}, ["seed=77"], ["seed=77", "tuned"]),
    "unknown key": ({"training.foo": 1}, [], ["training.foo", "tune again"]),
    "damaged": ("values: [", [], ["damaged", "metairn-tune"]),
    "no truth": ({}, ["tuned=3"], ["tuned=3", "true, false or the name"]),
    "another environment": ({}, ["tuned=cartpole"], ["tuned=cartpole", "ppo__cartpole.yaml"]),
}


@pytest.mark.parametrize("mistake", TUNED_MISTAKES)
def test_tuned_mistake_costs_one_sentence(mistake):
    values, overrides, named = TUNED_MISTAKES[mistake]
    if isinstance(values, str):
        write_tuned({}).write_text(values)
    elif values is not None:
        write_tuned(values)
    outcome = run_here("tuned=true", *overrides, "output_root=runs")
    assert outcome.code == 2, outcome.err
    assert is_one_sentence(outcome.err), outcome.err
    assert [word for word in named if word not in outcome.err] == []


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_run_without_a_number_has_failed(value, monkeypatch):
    monkeypatch.setattr(trials, "_mean_return", lambda composed: value)
    run = trials.train_seed({}, 5)
    assert run["error"] == f"seed 5: the mean evaluation return is {value}"
    fine = {"value": 1.0, "error": None, "started_s": 0.0, "ended_s": 2.0}
    assert trials.outcome([fine, run]).returns == []
    assert trials.outcome([fine, run]).error == run["error"]
    assert trials.outcome([fine, fine]) == trials.Outcome([1.0, 1.0], None, 0.0, 2.0, 4.0)


def test_an_error_of_a_run_does_not_end_the_tuning(monkeypatch):
    def broken(composed):
        raise RuntimeError("first line\nlast line")

    monkeypatch.setattr(trials, "_mean_return", broken)
    assert trials.train_seed({}, 5)["error"] == "seed 5: RuntimeError: first line"


def without_times(folder):
    kept = ("values", "budget_env_steps", "returns", "error")
    lines = (folder / "trials.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k in kept} for line in lines]


def evaluations_per_budget(folder):
    data = json.loads((folder / FOLDER / "smac/0/runhistory.json").read_text())["data"]
    return collections.Counter(entry["budget"] for entry in data)


@pytest.mark.slow
def test_killed_tuning_ends_as_an_uninterrupted_one(tmp_path, monkeypatch):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    assert outcome_of(start_process(whole, *SMALL, command=tune)).code == 0
    killed.mkdir()
    process = start_process(killed, *SMALL, command=tune)
    path = killed / FOLDER / "trials.jsonl"
    until = time.monotonic() + 100
    while not (path.exists() and path.read_text().count("\n") >= 3) and time.monotonic() < until:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()  # Not for its streams: Ray's processes hold them until they notice.
    process.stdout.close()
    process.stderr.close()
    assert 3 <= path.read_text().count("\n") < 6
    monkeypatch.chdir(killed)
    outcome = run_here(*SMALL, command=tune)
    assert outcome.code == 0, outcome.err
    assert "mean return" in outcome.out
    assert without_times(killed / FOLDER) == without_times(whole / FOLDER)
    assert evaluations_per_budget(killed) == evaluations_per_budget(whole)
    assert sum(evaluations_per_budget(killed).values()) == 6
    tuned = "runs/tuned/meta_irn__umbrella_chain.yaml"
    assert (killed / tuned).read_text() == (whole / tuned).read_text()
    content = yaml.safe_load((killed / tuned).read_text())
    assert content["tuned_on"]["environment"]["length"] == 2
    best = max(
        (t for t in without_times(whole / FOLDER) if t["budget_env_steps"] == 12000),
        key=lambda trial: trial["returns"][0],
    )
    assert content["values"] == best["values"]
    (killed / tuned).unlink()
    again = run_here(*SMALL, command=tune)
    assert (again.code, "finished before" in again.out) == (0, True), again.err
    assert (killed / tuned).exists()
