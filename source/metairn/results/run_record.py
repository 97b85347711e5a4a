"""The run folder: what a run writes, when, and how it is found again after a crash.

    config.yaml      the resolved configuration      metrics.jsonl    one line per iteration
    metrics.parquet  the same, tidy, at the end      summary.json     final figures
    provenance.json  code, versions, host            DONE             hash of the configuration
    checkpoint/      RLlib's checkpoint              credit/          credit maps (npz)
    tensorboard/     event files                     error.txt        traceback, if it failed
    credit_assigner.pt  what the method has learned

Every file but metrics.jsonl is replaced in one step; DONE is written last. A folder belongs to one
configuration and, while a run goes on, to one process.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from tensorboardX import SummaryWriter

from metairn.results.folder_lock import RunFolderError
from metairn.results.held_folder import HeldFolder, config_hash, write_atomically
from metairn.results.metrics_lines import read_rows
from metairn.results.summary import summarise

Row = dict[str, Any]


class RunRecord(HeldFolder):
    """One run folder, held by this process until `close`.

    Args:
        folder: where; made if need be.
        config: the resolved configuration, in plain types.
        force: whether to replace what an earlier run left, once `start` is called.

    Raises:
        RunFolderError: if the folder cannot be written, is in use, or holds another configuration.
    """

    def __init__(self, folder: Path, config: dict[str, Any], force: bool = False) -> None:
        super().__init__(folder, config, force)
        self.rows: list[Row] = []
        self._events: SummaryWriter | None = None
        try:
            if not force:
                self.rows = self._read_rows()
        except Exception:
            self._lock.close()
            raise

    @property
    def checkpoint(self) -> Path | None:
        """The last whole checkpoint; None if there is none or it is not to be used."""
        for name in ("checkpoint", "checkpoint.old"):
            if not self.force and (self.folder / name).exists():
                return self.folder / name
        return None

    def start(self, provenance: dict[str, Any], iteration: int | None) -> None:
        """Writes the configuration and where it runs; keeps rows up to `iteration`.

        Args:
            provenance: code, versions and host.
            iteration: the one that the run goes on after; None for a run from the beginning.
        """
        if self.force:
            self._clear()
            self.force = False
        write_atomically(self.folder / "config.yaml", yaml.safe_dump(self.config, sort_keys=False))
        self._write_json("provenance.json", provenance)
        self.rows = [r for r in self.rows if iteration is not None and r["iteration"] <= iteration]
        lines = "".join(json.dumps(row) + "\n" for row in self.rows)
        write_atomically(self.folder / "metrics.jsonl", lines)
        purge = 0 if iteration is None else iteration + 1
        self._events = SummaryWriter(str(self.folder / "tensorboard"), purge_step=purge)

    def append(self, row: Row) -> None:
        """Adds one iteration's figures to metrics.jsonl and to TensorBoard."""
        self.rows.append(row)
        with (self.folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        assert self._events is not None, "start() comes first"
        for name, value in row.items():
            if value is not None:
                self._events.add_scalar(name, value, row["iteration"])

    def save_checkpoint(self, save: Any) -> None:
        """Replaces the checkpoint by what `save(path)` writes.

        Args:
            save: writes a whole checkpoint into the absolute path that it is given.
        """
        new, current, old = (self.folder / f"checkpoint{end}" for end in (".new", "", ".old"))
        shutil.rmtree(new, ignore_errors=True)
        save(str(new.absolute()))
        if current.exists():  # Without it, a crash has left `old` as the only whole one.
            shutil.rmtree(old, ignore_errors=True)
            current.rename(old)
        new.rename(current)
        shutil.rmtree(old, ignore_errors=True)

    def save_credit_maps(self, iteration: int, maps: dict[str, np.ndarray]) -> None:
        """Writes credit/iteration=<n>.npz."""
        path = self.folder / "credit" / f"iteration={iteration:06d}.npz"
        path.parent.mkdir(exist_ok=True)
        temporary = path.with_name(path.name + ".tmp")
        with temporary.open("wb") as file:
            np.savez_compressed(file, **maps)  # type: ignore[arg-type]
        temporary.replace(path)

    def finish(self) -> dict[str, Any]:
        """Writes metrics.parquet, summary.json and, last, DONE; returns the summary."""
        table = pd.DataFrame(self.rows)
        # Missing at most iterations, which would make a whole number a float.
        mark = "evaluation_mark_env_steps"
        table[mark] = table[mark].astype("Int64")
        temporary = self.folder / "metrics.parquet.tmp"
        table.to_parquet(temporary, index=False)
        temporary.replace(self.folder / "metrics.parquet")
        summary = summarise(table)
        self._write_json("summary.json", summary)
        provenance = json.loads((self.folder / "provenance.json").read_text())
        self._write_json("provenance.json", provenance | {"wall_time_s": summary["wall_time_s"]})
        write_atomically(self.folder / "DONE", config_hash(self.config) + "\n")
        return summary

    def close(self) -> None:
        """Lets go of the folder; one in which nothing was written goes away."""
        if self._events is not None:
            self._events.close()
        super().close()

    def _read_rows(self) -> list[Row]:
        path = self.folder / "metrics.jsonl"
        if not path.exists():
            return []
        try:
            return read_rows(path)
        except ValueError as error:
            raise RunFolderError(
                f"{path} is damaged ({error}); force=true starts the run over."
            ) from error
