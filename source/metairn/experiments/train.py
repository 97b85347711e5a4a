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
from typing import TYPE_CHECKING

from metairn.experiments import command_help

if TYPE_CHECKING:
    from omegaconf import DictConfig

EXIT_RUN_FAILED = 1
EXIT_BAD_INPUT = 2


def train(composed: DictConfig) -> None:
    """Runs one composed configuration; a finished run is skipped, an interrupted one continued.

    Raises:
        BadInput, RunFolderError: for mistakes of the user's.
        RunFailed: if the run ended by an error.
    """
    # Imported here so that --help and --cfg answer without starting half of Ray.
    from metairn.experiments.build import build_experiment
    from metairn.experiments.single_run import finish_run
    from metairn.experiments.tuned import command_line_keys, with_tuned_values

    experiment = build_experiment(with_tuned_values(composed, command_line_keys()))
    print(finish_run(experiment), flush=True)


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

    from metairn.experiments.settings import BadInput, RunFailed
    from metairn.results.folder_lock import RunFolderError

    codes, here = [0], os.getpid()

    def fail(message: str, code: int) -> None:
        print(message, file=sys.stderr, flush=True)
        codes.append(code)

    def reporting(composed: DictConfig) -> None:
        """One job of a sweep; its failure is said at once and does not stop the others."""
        try:
            task(composed)
        except Exception as error:
            bad_input = isinstance(error, BadInput | RunFolderError)
            # A launcher that runs jobs in other processes brings the error here.
            if os.getpid() != here or (full_error and not bad_input):
                raise
            fail(str(error), EXIT_BAD_INPUT if bad_input else EXIT_RUN_FAILED)

    decorate = hydra.main("pkg://metairn.experiments.configs", config_name, version_base="1.3")
    try:
        with tempfile.TemporaryDirectory() as folder:
            # Hydra leaves a multirun.yaml where a sweep was started; the run folders say it all.
            if not any(a.startswith("hydra.sweep.dir=") for a in sys.argv[1:]):
                sys.argv.append(f"hydra.sweep.dir={folder}")
            decorate(reporting)()
    except (BadInput, RunFolderError) as error:  # A launcher's, for all jobs of a sweep.
        fail(str(error), EXIT_BAD_INPUT)
    except RunFailed as error:
        if full_error:
            raise
        fail(str(error), EXIT_RUN_FAILED)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        # Hydra raises a bare ValueError for group=null; a job's errors never get here.
        fail(explain(error, sys.argv[1:], config_name), EXIT_BAD_INPUT)
    except KeyboardInterrupt:
        fail("Interrupted; the same command continues the run.", EXIT_RUN_FAILED)
    return max(codes)


def explain(error: Exception, arguments: list[str], command: str) -> str:
    """Hydra's error about an override, as one sentence that says what is allowed."""
    names, groups = command_help.top_level(command)
    text = f"{error} {error.__cause__ or ''}"
    missing = re.search(r"Could not find '(\w+)/([^']+)'", text)
    if missing and missing.group(1) in groups:
        group, option = missing.groups()
        allowed = ", ".join(command_help.options(group))
        return f"{group}={option} is not allowed: it must be one of {allowed}."
    for argument in arguments:
        group, _, option = argument.partition("=")
        if group.lstrip("+") == "study" and (group != "study" or option in ("", "null")):
            return (
                f"{argument} is not allowed: write study=<name>, one of configs/study or your own."
            )
        if group in groups and option in ("", "null"):
            allowed = ", ".join(command_help.options(group))
            return f"{argument} is not allowed: it must be one of {allowed}."
    key = re.search(r"Could not override '([^']+)'", text)
    if key:
        group, _, _ = key.group(1).partition(".")
        chosen = dict(a.split("=", 1) for a in arguments if "=" in a).get(group)
        if group in groups:
            # A sweep names several options: the key has to be one of each.
            options = (chosen or groups[group]).split(",")
            common = [set(command_help.keys(group, option)) for option in options]
            names = [n for n in command_help.keys(group, options[0]) if all(n in c for c in common)]
        else:
            names += groups
        allowed = ", ".join(names) or f"none with {group}={chosen or groups[group]}, name another"
        return f"{key.group(1)} is not a key here; allowed: {allowed}."
    return " ".join(text.split())


def _silence_start_up() -> None:
    """Keeps what Ray and gymnasium say at every start off the screen; errors still show."""
    logging.disable(logging.WARNING)
    os.environ.setdefault("PYTHONWARNINGS", "ignore")


if __name__ == "__main__":
    main()
