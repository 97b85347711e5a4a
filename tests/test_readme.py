"""What the README says is true: its Python example runs, its commands compose, its paths exist."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from metairn.experiments.build import build_experiment
from metairn.experiments.job_configuration import job_configuration
from metairn.experiments.tuning_plan import build_tuning

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
TRAIN_COMMANDS = [
    shlex.split(line.split("#")[0])[1:]
    for line in README.splitlines()
    if line.startswith("metairn-train ") and "-m" not in line.split() and "--help" not in line
]
TUNE_COMMANDS = [
    shlex.split(line.split("#")[0])[1:]
    for line in README.splitlines()
    if line.startswith("metairn-tune ")
]


def test_python_example_runs():
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    # Not in whatever cluster somebody has on this machine.
    environment = os.environ | {"RAY_ADDRESS": "local"}
    done = subprocess.run(
        [sys.executable, "-c", example],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^-?\d+\.\d+$", done.stdout, flags=re.MULTILINE)) == 5


def test_readme_has_commands():
    assert len(TRAIN_COMMANDS) >= 3


@pytest.mark.parametrize("overrides", TRAIN_COMMANDS, ids=" ".join)
def test_training_commands_compose(overrides):
    with initialize_config_module("metairn.experiments.configs", version_base="1.3"):
        # The file that tuned=true wants is what the tuning above it writes.
        known = [override for override in overrides if override != "tuned=true"]
        composed = compose("train", known, return_hydra_config=True)
    assert build_experiment(OmegaConf.create(job_configuration(composed))).label


@pytest.mark.parametrize("overrides", TUNE_COMMANDS, ids=" ".join)
def test_tuning_commands_compose(overrides):
    with initialize_config_module("metairn.experiments.configs", version_base="1.3"):
        composed = compose("tune", overrides)
    assert build_tuning(composed, [override.split("=")[0] for override in overrides])


def test_every_file_named_in_the_tables_exists():
    section = README.split("## Where is")[1].split("All of these")[0]
    named = [n for n in re.findall(r"`([\w/]+(?:\.py|/))`", section) if not n.startswith("tests")]
    assert len(named) > 10
    package = ROOT / "source" / "metairn"
    rooms = [package, *(path for path in package.iterdir() if path.is_dir())]
    missing = [n for n in named if not any((room / n).exists() for room in rooms)]
    assert not missing


def test_images_shown_exist():
    images = re.findall(r"!\[.*?\]\((.*?)\)", README)
    assert images
    assert all((ROOT / image).stat().st_size > 1000 for image in images)
