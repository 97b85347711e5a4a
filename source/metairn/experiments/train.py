"""metairn-train: one run, or every run of a sweep, from a Hydra command line to run folders.

How to run:
    metairn-train method=meta_irn environment.length=20 seed=3
Results to expect: a line with where the run folder is and what came out; see results/run_record.py
for what is in it.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from metairn.experiments import command_help

if TYPE_CHECKING:
    from omegaconf import DictConfig

EXIT_RUN_FAILED = 1
EXIT_BAD_INPUT = 2


class RunFailed(Exception):
    """A run that ended by an error: one sentence with its folder and the error."""


def train(composed: DictConfig) -> None:
    """Runs one composed configuration; a finished run is skipped, an interrupted one continued.

    Raises:
        BadInput, RunFolderError: for mistakes of the user's.
        RunFailed: if the run ended by an error.
    """
    # Imported here so that --help and --cfg answer without starting half of Ray.
    from metairn.experiments.build import build_experiment
    from metairn.experiments.settings import BadInput
    from metairn.experiments.training_run import TrainingRun
    from metairn.results.run_record import RunFolderError, RunRecord

    experiment = build_experiment(composed)
    record = RunRecord(experiment.folder, experiment.config, experiment.force)
    try:
        if record.is_finished:
            print(f"{experiment.label}: finished before, see {experiment.folder}", flush=True)
            return
        try:
            summary = TrainingRun(experiment, record).run()
        except (BadInput, RunFolderError):
            raise
        except Exception as error:
            raise RunFailed(failure(experiment.label, experiment.folder, error)) from error
        print(f"{experiment.label}: {_outcome(summary)}; see {experiment.folder}", flush=True)
    finally:
        record.close()


def _outcome(summary: dict) -> str:
    text = f"return {summary['evaluation_return_mean']:.2f}"
    if "optimality" in summary:
        reached = summary["env_steps_to_90pct"]
        text += f", optimality {summary['optimality']:.2f}, 90% "
        text += "never" if reached is None else f"from {reached} env steps"
    return text + f", {summary['wall_time_s']:.0f} s"


def main() -> None:
    """The console script; exits with 0, 1 (a run failed) or 2 (bad input)."""
    if {"--help", "-h"} & set(sys.argv[1:]):
        print(command_help.help_text())
        return
    sys.exit(run_command("train", train))


def run_command(config_name: str, task: Callable[[DictConfig], None]) -> int:
    """Runs a Hydra task so that the user's mistakes cost one sentence instead of a traceback.

    Args:
        config_name: the top-level yaml file.
        task: called with each composed configuration.

    Returns:
        The exit code.
    """
    # Hydra would print its own errors over several lines and exit with 1; this makes it raise them.
    full_error = "HYDRA_FULL_ERROR" in os.environ
    os.environ["HYDRA_FULL_ERROR"] = "1"
    _silence_start_up()
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from metairn.experiments.settings import BadInput
    from metairn.results.run_record import RunFolderError

    codes = [0]

    def fail(message: str, code: int) -> None:
        print(message, file=sys.stderr, flush=True)
        codes.append(code)

    def reporting(composed: DictConfig) -> None:
        """One job of a sweep; its failure is said at once and does not stop the others."""
        try:
            task(composed)
        except (BadInput, RunFolderError) as error:
            fail(str(error), EXIT_BAD_INPUT)
        except Exception as error:
            if full_error:
                raise
            fail(str(error), EXIT_RUN_FAILED)

    decorate = hydra.main("pkg://metairn.experiments.configs", config_name, version_base="1.3")
    try:
        with tempfile.TemporaryDirectory() as folder:
            # Hydra leaves a multirun.yaml where a sweep was started; the run folders say it all.
            if not any(a.startswith("hydra.sweep.dir=") for a in sys.argv[1:]):
                sys.argv.append(f"hydra.sweep.dir={folder}")
            decorate(reporting)()
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        # Hydra raises a bare ValueError for group=null; a job's errors never get here.
        fail(explain(error, sys.argv[1:]), EXIT_BAD_INPUT)
    except KeyboardInterrupt:
        fail("Interrupted; the same command continues the run.", EXIT_RUN_FAILED)
    return max(codes)


def failure(label: str, folder: Path, error: Exception) -> str:
    """A failed run in one sentence."""
    last = [line for line in str(error).strip().splitlines() if line.strip()] or ["no message"]
    return (
        f"{label} failed: {type(error).__name__}: {last[-1].strip()} (what it wrote is kept in "
        f"{folder}; HYDRA_FULL_ERROR=1 shows the traceback)"
    )


def explain(error: Exception, arguments: list[str]) -> str:
    """Hydra's error about an override, as one sentence that says what is allowed."""
    text = f"{error} {error.__cause__ or ''}"
    missing = re.search(r"Could not find '(\w+)/([^']+)'", text)
    if missing and missing.group(1) in command_help.GROUPS:
        group, option = missing.groups()
        allowed = ", ".join(command_help.options(group))
        return f"{group}={option} is not allowed: it must be one of {allowed}."
    for argument in arguments:
        group, _, option = argument.partition("=")
        if group in command_help.GROUPS and option in ("", "null"):
            allowed = ", ".join(command_help.options(group))
            return f"{argument} is not allowed: it must be one of {allowed}."
    key = re.search(r"Could not override '([^']+)'", text)
    if key:
        group, _, _ = key.group(1).partition(".")
        chosen = dict(a.split("=", 1) for a in arguments if "=" in a).get(group)
        if group in command_help.GROUPS:
            defaults = {"method": "ppo", "environment": "umbrella_chain", "training": "default"}
            # A sweep names several options: the key has to be one of each.
            options = (chosen or defaults[group]).split(",")
            common = [set(command_help.keys(group, option)) for option in options]
            names = [n for n in command_help.keys(group, options[0]) if all(n in c for c in common)]
        else:
            names = ["study", "seed", "force", "output_root", *command_help.GROUPS]
        return f"{key.group(1)} is not a key here; allowed: {', '.join(names)}."
    return " ".join(text.split())


def _silence_start_up() -> None:
    """Keeps what Ray and gymnasium say at every start off the screen; errors still show."""
    logging.disable(logging.WARNING)
    os.environ.setdefault("PYTHONWARNINGS", "ignore")


if __name__ == "__main__":
    main()
