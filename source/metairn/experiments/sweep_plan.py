"""What a sweep has to do: every job checked before the first one starts, finished ones set aside.

The run folders are the only memory of a sweep; a repeated one reads from them what is left.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from metairn.experiments.build import Experiment, build_experiment
from metairn.experiments.settings import BadInput, TrainingSettings
from metairn.results.configuration import changes
from metairn.results.folder_lock import RunFolderError, RunFolderInUse
from metairn.results.held_folder import is_finished
from metairn.results.run_record import RunRecord

# Bytes at the end of metrics.jsonl that are sure to hold a whole line.
TAIL_BYTES = 16384


@dataclass(frozen=True)
class Job:
    """One run of a sweep, checked.

    Args:
        label: what it is called in messages.
        folder: its run folder.
        config: the composed configuration in plain types, for another process to build from.
        training: its training group.
        is_finished: whether there is nothing left to do.
    """

    label: str
    folder: Path
    config: dict[str, Any]
    training: TrainingSettings
    is_finished: bool

    @property
    def cell(self) -> str:
        """What runs that differ in nothing but their seed have in common."""
        return self.label.rpartition(" ")[0]

    def env_steps(self) -> int:
        """How far the run is, by its folder."""
        row = newest_row(self.folder)
        return 0 if row is None or self.config["force"] else row["env_steps"]


def plan_sweep(configurations: Sequence[dict[str, Any]]) -> list[Job]:
    """Checks every job; a job given twice is one.

    Args:
        configurations: composed configurations in plain types.

    Raises:
        BadInput: a sentence for each mistake in any of them, and for jobs that would write into
            one folder; nothing has been started or written then.
    """
    mistakes: dict[str, None] = {}
    experiments: dict[Path, Experiment] = {}
    jobs: list[Job] = []
    for config in configurations:
        # Worker processes may have another current directory.
        config = config | {"output_root": _absolute(config.get("output_root"))}
        try:
            experiment = build_experiment(OmegaConf.create(config))
            earlier = experiments.setdefault(experiment.folder, experiment)
            if earlier is experiment:
                jobs.append(_job(experiment, config))
            else:
                _refuse_other(earlier, experiment)
        except (BadInput, RunFolderError) as error:
            mistakes[str(error)] = None
    if mistakes:
        raise BadInput("\n".join(mistakes))
    return jobs


def newest_row(folder: Path) -> dict[str, Any] | None:
    """The last whole line of a run's metrics.jsonl; None if there is none."""
    with contextlib.suppress(OSError, ValueError), (folder / "metrics.jsonl").open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - TAIL_BYTES))
        lines = file.read().split(b"\n")
        # What follows the last line break is being written.
        return json.loads(lines[-2]) if len(lines) > 1 else None
    return None


def _absolute(root: Any) -> Any:
    return str(Path(root).absolute()) if isinstance(root, str) and root else root


def _job(experiment: Experiment, config: dict[str, Any]) -> Job:
    finished = not experiment.force and is_finished(experiment.folder, experiment.config)
    if not finished:
        # Refuses a damaged folder or another configuration's; one in use may be free by its turn.
        with contextlib.suppress(RunFolderInUse):
            RunRecord(experiment.folder, experiment.config, experiment.force).close()
    return Job(experiment.label, experiment.folder, config, experiment.training, finished)


def _refuse_other(earlier: Experiment, experiment: Experiment) -> None:
    changed = changes(earlier.config, experiment.config)
    if changed:
        raise BadInput(
            f"Jobs of this sweep differ in {changed[0][0]}, which is not in a run folder's name: "
            "they would share folders; give each value a study of its own."
        )
