"""One checked run from its folder to a sentence about it: skipped, done or failed."""

from __future__ import annotations

import traceback
from typing import Any

from ray.exceptions import RayTaskError

from metairn.experiments.build import Experiment
from metairn.experiments.settings import BadInput, RunFailed
from metairn.experiments.training_run import TrainingRun
from metairn.results.run_record import RunFolderError, RunRecord, write_atomically


def finish_run(experiment: Experiment) -> str:
    """Runs what is left of an experiment; nothing if it is finished.

    Returns:
        What came out, in a line.

    Raises:
        BadInput, RunFolderError: for mistakes of the user's.
        RunFailed: if the run ended by an error; error.txt in its folder has the traceback.
    """
    record = RunRecord(experiment.folder, experiment.config, experiment.force)
    where = f"see {experiment.folder}"
    try:
        if record.is_finished:
            return f"{experiment.label}: finished before, {where}"
        report = experiment.folder / "error.txt"
        report.unlink(missing_ok=True)
        try:
            summary = TrainingRun(experiment, record).run()
        except (BadInput, RunFolderError):
            raise
        except Exception as error:
            write_atomically(report, traceback.format_exc())
            raise RunFailed(
                f"{experiment.label} failed: {in_a_line(error)} (what it wrote is kept in "
                f"{experiment.folder}; error.txt there has the traceback)"
            ) from error
        return f"{experiment.label}: {_outcome(summary)}; {where}"
    finally:
        record.close()


def in_a_line(error: BaseException) -> str:
    """An error's type and its first line; of one that Ray or RLlib wraps up, the wrapped one's."""
    while isinstance(error, RayTaskError):
        error = error.cause
    if error.__cause__ is not None and not str(error):
        return in_a_line(error.__cause__)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0].rstrip('.') if lines else 'no message'}"


def _outcome(summary: dict[str, Any]) -> str:
    text = f"return {summary['evaluation_return_mean']:.2f}"
    if "optimality" in summary:
        reached = summary["env_steps_to_90pct"]
        text += f", optimality {summary['optimality']:.2f}, 90% "
        text += "never" if reached is None else f"from {reached} env steps"
    return text + f", {summary['wall_time_s']:.0f} s"
