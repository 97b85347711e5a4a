"""The folder of a tuning: what has been tried, and what was best.

    config.yaml      what is tuned, how              trials.jsonl     one line per finished trial
    provenance.json  code, versions, host            trajectory.jsonl incumbents, in their order
    incumbent.yaml   the best, as tuned=true reads it
    smac/<seed>/     SMAC's own files (runhistory.json and more), as DeepCAVE reads them
    DONE             hash of the configuration

trials.jsonl grows by a line as a trial ends and is what an interrupted tuning goes on from; the
other files follow from it.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from metairn.experiments.trials import Outcome
from metairn.results.folder_lock import RunFolderError
from metairn.results.held_folder import HeldFolder, config_hash, write_atomically


class TuningRecord(HeldFolder):
    """One tuning's folder, held by this process until `close`.

    Args:
        folder: where; made if need be.
        config: what is tuned and how, in plain types.
        force: whether to replace what an earlier tuning left, once `start` is called.

    Raises:
        RunFolderError: if the folder cannot be written, is in use, is damaged, or holds another
            tuning.
    """

    def __init__(self, folder: Path, config: dict[str, Any], force: bool = False) -> None:
        super().__init__(folder, config, force)
        self.finished: dict[str, Outcome] = {}
        try:
            if not force:
                self._read_trials()
        except Exception:
            self._lock.close()
            raise

    def start(self, provenance: dict[str, Any]) -> dict[str, Any]:
        """Writes the configuration and where it runs, unless it is there; returns provenance."""
        if self.force:
            self._clear()
            self.force = False
        path = self.folder / "provenance.json"
        if not path.exists():
            write_atomically(
                self.folder / "config.yaml", yaml.safe_dump(self.config, sort_keys=False)
            )
            self._write_json("provenance.json", provenance)
        self._trials_path.touch()
        # What follows the last line break was being written when the tuning was killed.
        whole = self._trials_path.read_text().rpartition("\n")
        write_atomically(self._trials_path, whole[0] + whole[1])
        held: dict[str, Any] = json.loads(path.read_text())
        return held

    def outcome(self, values: dict[str, Any], budget_env_steps: int) -> Outcome | None:
        """The outcome of a trial that has finished before; None if it has not."""
        return self.finished.get(_key(values, budget_env_steps))

    def append(self, values: dict[str, Any], budget_env_steps: int, outcome: Outcome) -> None:
        """Adds a finished trial."""
        self.finished[_key(values, budget_env_steps)] = outcome
        line = {"budget_env_steps": budget_env_steps, "values": values, **asdict(outcome)}
        with self._trials_path.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def save_trajectory(self, incumbents: list[dict[str, Any]]) -> None:
        """Writes the incumbents so far."""
        lines = "".join(json.dumps(incumbent) + "\n" for incumbent in incumbents)
        write_atomically(self.folder / "trajectory.jsonl", lines)

    def finish(self, incumbent: str) -> None:
        """Writes incumbent.yaml and, last, DONE."""
        write_atomically(self.folder / "incumbent.yaml", incumbent)
        write_atomically(self.folder / "DONE", config_hash(self.config) + "\n")

    @property
    def incumbent(self) -> str:
        """The text of incumbent.yaml."""
        return (self.folder / "incumbent.yaml").read_text()

    @property
    def _trials_path(self) -> Path:
        return self.folder / "trials.jsonl"

    def _read_trials(self) -> None:
        if not self._trials_path.exists():
            return
        try:
            for line in self._trials_path.read_text().split("\n")[:-1]:
                trial = json.loads(line)
                key = _key(trial.pop("values"), trial.pop("budget_env_steps"))
                self.finished[key] = Outcome(**trial)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise RunFolderError(
                f"{self._trials_path} is damaged ({error}); force=true starts the tuning over."
            ) from error


def _key(values: dict[str, Any], budget_env_steps: int) -> str:
    return json.dumps([values, budget_env_steps], sort_keys=True)
