"""A command as the tests call it: in this process where possible, else in one of its own."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from metairn.experiments import ray_cluster, train
from metairn.experiments.build import Experiment, build_experiment
from metairn.experiments.job_configuration import job_configuration

# Four iterations of one batch each, with two evaluations after the first.
TINY = (
    "environment.length=3",
    "training.budget_env_steps=4000",
    "training.evaluation_interval_env_steps=2000",
    "training.evaluation_episodes=20",
    "training.checkpoint_interval_env_steps=1000",
)
SET_BY_THE_COMMAND = ("HYDRA_FULL_ERROR", "PYTHONWARNINGS", "RAY_BACKEND_LOG_LEVEL")

# Whether `run_here` was what started this process' Ray.
started_ray = False


class Killed(BaseException):
    """Stands for kill -9: nothing in the package may catch it."""


@dataclass(frozen=True)
class Outcome:
    """What a call of the command left: exit code (-9 if Killed) and both streams."""

    code: int
    out: str
    err: str


def ray_is_running() -> bool:
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized()


def run_here(*arguments: object, command: ModuleType = train) -> Outcome:
    """Call a command's main function in this process, which starts Ray once only."""
    global started_ray
    ray_was_running = ray_is_running()
    before = {name: os.environ.pop(name, None) for name in SET_BY_THE_COMMAND}
    argv, sys.argv = sys.argv, [command.__name__, *map(str, arguments)]
    out, err, code = io.StringIO(), io.StringIO(), 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            command.main()
    except SystemExit as end:
        code = int(end.code or 0)
    except Killed:
        code = -9
    finally:
        while ray_cluster._ahead:  # Of a command that ended before it needed it.
            ray_cluster._ahead.pop().result()
        sys.argv = argv
        logging.disable(logging.NOTSET)
        GlobalHydra.instance().clear()
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        started_ray = started_ray or (ray_is_running() and not ray_was_running)
    return Outcome(code, out.getvalue(), err.getvalue())


def start_process(
    cwd: Path, *arguments: object, command: ModuleType = train
) -> subprocess.Popen[str]:
    """Start a command in a process group of its own."""
    environment = {k: v for k, v in os.environ.items() if k not in SET_BY_THE_COMMAND}
    return subprocess.Popen(
        [sys.executable, "-m", command.__name__, *map(str, arguments)],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def outcome_of(process: subprocess.Popen[str]) -> Outcome:
    out, err = process.communicate(timeout=120)
    return Outcome(process.returncode, out, err)


def build(*overrides: str) -> Experiment:
    """Compose a configuration and check it, as the command does before a run."""
    with initialize_config_module("metairn.experiments.configs", version_base="1.3"):
        composed = compose("train", list(overrides), return_hydra_config=True)
    return build_experiment(OmegaConf.create(job_configuration(composed)))


def folder_of(root: Path) -> Path:
    """The only run folder below an output_root."""
    (config,) = root.rglob("config.yaml")
    return config.parent


def read_rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def without_times(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What has to be the same in every run of one configuration."""
    return [{k: v for k, v in row.items() if not k.endswith("_time_s")} for row in rows]


def is_one_sentence(text: str) -> bool:
    return text.endswith("\n") and text.count("\n") == 1 and "Traceback" not in text
