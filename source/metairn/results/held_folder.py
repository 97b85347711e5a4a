"""A folder that belongs to one configuration and, while work goes on in it, to one process.

What it holds is its owner's affair: run_record.py for a run.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import yaml

from metairn.results.configuration import changes, flat_settings
from metairn.results.folder_lock import FolderLock, RunFolderError


def config_hash(config: dict[str, Any]) -> str:
    """A hash that changes with any key or value that can change a result, but not with their order.

    How a method is drawn (`display`) cannot.
    """
    return hashlib.sha256(json.dumps(flat_settings(config), sort_keys=True).encode()).hexdigest()[
        :16
    ]


def is_finished(folder: Path, config: dict[str, Any]) -> bool:
    """Whether this very configuration has run to its end there."""
    done = folder / "DONE"
    return done.exists() and done.read_text().strip() == config_hash(config)


def write_atomically(path: Path, text: str) -> None:
    """The file is either the old one or all of the new one, whenever the power fails."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


class HeldFolder:
    """One folder, held by this process until `close`.

    Args:
        folder: where; made if need be.
        config: the resolved configuration, in plain types.
        force: whether what another configuration left is to be replaced.

    Raises:
        RunFolderError: if the folder cannot be written, is in use, or holds another configuration.
    """

    def __init__(self, folder: Path, config: dict[str, Any], force: bool = False) -> None:
        self.folder = folder
        self.config = config
        self.force = force
        self._lock = FolderLock(folder)
        try:
            if not force:
                self._refuse_other_config()
        except Exception:
            self._lock.close()
            raise

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing to do."""
        return not self.force and is_finished(self.folder, self.config)

    def close(self) -> None:
        """Lets go of the folder; one in which nothing was written goes away."""
        self._lock.close()

    def _write_json(self, name: str, content: dict[str, Any]) -> None:
        write_atomically(self.folder / name, json.dumps(content, indent=2) + "\n")

    def _clear(self) -> None:
        for path in self.folder.iterdir():
            if path.name == ".lock":
                continue
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _refuse_other_config(self) -> None:
        path = self.folder / "config.yaml"
        if not path.exists():
            return
        try:
            changed = changes(yaml.safe_load(path.read_text()), self.config)
        except (ValueError, AttributeError, yaml.YAMLError) as error:
            raise RunFolderError(f"{path} is damaged; force=true starts the run over.") from error
        if changed:
            key, held, wanted = changed[0]
            raise RunFolderError(
                f"{self.folder} holds another configuration's run ({key}={held} there, "
                f"{wanted} here{', and more' if len(changed) > 1 else ''}); choose another "
                "study, or force=true to replace it."
            )
