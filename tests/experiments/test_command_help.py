"""--help explains everything that can be set, quickly; every yaml file keeps the house rules."""

import json
import subprocess
import sys
import time
from importlib.metadata import entry_points

import pytest
import yaml
from training_command import build, run_here

from metairn.experiments import train
from metairn.experiments.command_help import (
    CONFIGS,
    GROUPS,
    TUNE_GROUPS,
    help_text,
    keys,
    options,
)
from metairn.intrinsic_attention_ppo.connectors import known_task

OPTIONS = [(group, option) for group in GROUPS for option in options(group)]
MADE_OF = [
    (method, environment)
    for method in options("method")
    for environment in options("environment")
    if (method, environment) != ("oracle", "gymnasium")
]
ABOUT = {"name", "_target_", "display", "defaults", "partition_by", "search_space"}

every_option = pytest.mark.parametrize(("group", "option"), OPTIONS)


def settings_of(group, option):
    return yaml.safe_load((CONFIGS / group / f"{option}.yaml").read_text())


def test_groups_of_the_help_are_the_folders():
    folders = {path.name for path in CONFIGS.iterdir() if any(path.glob("*.yaml"))}
    assert {*GROUPS, *TUNE_GROUPS, "study"} == folders


def test_help_explains_every_study_and_every_way_to_run_a_sweep():
    lines = help_text().splitlines()
    assert "  study=default  " in "\n".join(lines)
    assert len(options("study")) >= 2
    for study in options("study"):
        (line,) = [line for line in lines if line.startswith(f"  study={study}: ")]
        assert settings_of("study", study)["question"] in line
        assert "@package" not in line
    for launcher in (*options("hydra/launcher"), "basic"):
        (line,) = [line for line in lines if line.startswith(f"  hydra/launcher={launcher}: ")]
        assert len(line.split(": ", 1)[1]) > 20
    assert any(line.startswith("    hydra.launcher.max_parallel_runs=null  ") for line in lines)


def test_console_script_is_the_tested_function():
    scripts = {script.name: script for script in entry_points(group="console_scripts")}
    assert scripts["metairn-train"].load() is train.main


@every_option
def test_help_explains_every_option_and_every_key(group, option):
    text = help_text()
    start = text.index(f"\n  {group}={option}: ")
    explained = text[start + 1 :].split(f"\n  {group}=")[0].splitlines()
    assert len(explained[0].split(": ", 1)[1]) > 20
    for key in settings_of(group, option).keys() - ABOUT:
        (line,) = [line for line in explained if line.startswith(f"    {group}.{key}=")]
        assert len(line.split("  ")[-1].strip()) > 5, line


def test_help_explains_every_top_level_key_and_lists_every_option():
    lines = help_text().splitlines()
    top = yaml.safe_load((CONFIGS / "train.yaml").read_text()).keys() - {"defaults", "hydra"}
    assert {"study", "seed", "force", "output_root"} <= top
    keys_of_all = lines[lines.index("Keys") : lines.index("", lines.index("Keys"))]
    for key in top:
        (line,) = [line for line in keys_of_all if line.startswith(f"  {key}=")]
        assert len(line.split("  ")[-1].strip()) > 10
    for group in GROUPS:
        assert f"{group}={'|'.join(options(group))}" in lines


def test_help_has_examples_that_compose():
    examples = [line for line in help_text().splitlines() if line.startswith("  metairn-train ")]
    assert len(examples) == 4
    build(*examples[0].split()[1:])
    assert all(" -m " in example for example in examples[1:])


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_is_printed_and_ends_with_zero(flag):
    outcome = run_here(flag)
    assert (outcome.code, outcome.out, outcome.err) == (0, help_text() + "\n", "")


def test_help_is_quick_and_imports_nothing_heavy():
    heavy = "{'ray', 'torch', 'hydra', 'omegaconf', 'numpy', 'pandas', 'gymnasium'}"
    code = (
        "import sys; sys.argv = ['metairn-train', '--help']\n"
        "from metairn.experiments.train import main; main()\n"
        f"import json; print(json.dumps(sorted({heavy} & set(sys.modules))))"
    )
    seconds = []
    for _ in range(3):  # The quickest of three, for other work may slow down any one.
        started = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        seconds.append(time.perf_counter() - started)
        assert json.loads(done.stdout.splitlines()[-1]) == []
    assert min(seconds) < 1.5


@every_option
def test_yaml_explains_itself_and_each_key(group, option):
    lines = (CONFIGS / group / f"{option}.yaml").read_text().splitlines()
    assert lines[0].startswith("# ")
    explained = {line.split(":")[0] for line in lines if "  # " in line}
    own = settings_of(group, option)
    assert own.keys() - ABOUT == explained
    inherited = {key for other in own.get("defaults", []) for key in keys(group, other)}
    every = set(keys(group, option))
    assert explained | inherited - {"_target_"} == every - {"_target_"}


@every_option
def test_name_is_the_file_name(group, option):
    settings = settings_of(group, option)
    assert group == "training" or settings["name"] == option


def test_every_method_has_a_label_and_a_colour_of_its_own():
    display = [settings_of("method", option)["display"] for option in options("method")]
    assert all(entry["label"] for entry in display)
    assert all(entry["colour"].startswith("#") for entry in display)
    assert all(len(int(e["colour"][1:], 16).to_bytes(3, "big")) == 3 for e in display)
    for what in ("label", "colour"):
        assert len({entry[what] for entry in display}) == len(display)


@pytest.mark.parametrize(("method", "environment"), MADE_OF)
def test_every_method_builds_with_every_environment(method, environment):
    experiment = build(f"method={method}", f"environment={environment}")
    parts = experiment.folder.parts
    assert parts[:2] == ("experiment_data", "default")
    assert [part.split("=")[0] for part in parts[2:]] == [
        "method",
        "environment",
        *settings_of("environment", environment)["partition_by"],
        "seed",
    ]
    assert f"method={method}" in parts
    assert f"environment={environment}" in parts
    known = environment != "gymnasium"
    task = known_task(experiment.algorithm.env, experiment.algorithm.env_config)
    assert (task is not None and task.optimal_return is not None) == known


@pytest.mark.parametrize("training", options("training"))
def test_every_training_option_builds(training):
    assert build(f"training={training}").training.budget_env_steps > 0


def test_a_value_cannot_leave_its_folder():
    folder = build("environment=gymnasium", "environment.name=../..").folder
    assert ".." not in folder.parts
    assert len(folder.parts) == len(build("environment=gymnasium").folder.parts)


def test_cfg_job_prints_the_configuration_without_running_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = run_here("--cfg", "job", "method=meta_irn", "environment.length=7", "seed=5")
    assert outcome.code == 0
    printed = yaml.safe_load(outcome.out)
    assert (printed["method"]["name"], printed["environment"]["length"]) == ("meta_irn", 7)
    assert printed["seed"] == 5
    assert list(tmp_path.iterdir()) == []
