"""A folder that belongs to one configuration and, while work goes on in it, to one process.

What it holds is its owner's affair: run_record.py for a run.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import yaml


class RunFolderError(Exception):
    """A folder that cannot be used: one sentence that says why and what to do."""


def config_hash(config: dict[str, Any]) -> str:
    """A hash that changes with any key or value that can change a result, but not with their order.

    How a method is drawn (`display`) cannot.
    """
    return hashlib.sha256(json.dumps(_flat(config), sort_keys=True).encode()).hexdigest()[:16]


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
        self._made = [path for path in (folder, *folder.parents) if not path.exists()]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = (folder / ".lock").open("w")
        except OSError as error:
            raise RunFolderError(
                f"output_root={folder} cannot be written: {error.strerror}; choose another "
                "output_root."
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            reason = f"cannot be locked ({error.strerror}); choose another output_root."
            if isinstance(error, BlockingIOError):
                reason = "is in use by another process; wait for it or choose another study."
            raise RunFolderError(f"{folder} {reason}") from error
        try:
            if not force:
                self._refuse_other_config()
        except Exception:
            self._lock.close()
            raise

    @property
    def is_finished(self) -> bool:
        """Whether this very configuration has run to its end."""
        done = self.folder / "DONE"
        return (
            not self.force
            and done.exists()
            and done.read_text().strip() == config_hash(self.config)
        )

    def close(self) -> None:
        """Lets go of the folder; one in which nothing was written goes away."""
        if [path.name for path in self.folder.iterdir()] == [".lock"]:
            (self.folder / ".lock").unlink()
            with contextlib.suppress(OSError):
                for path in self._made:  # From the inside out.
                    path.rmdir()
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
            held = _flat(yaml.safe_load(path.read_text()))
        except (ValueError, AttributeError, yaml.YAMLError) as error:
            raise RunFolderError(f"{path} is damaged; force=true starts the run over.") from error
        wanted = _flat(self.config)
        changed = sorted(k for k in held.keys() | wanted.keys() if held.get(k) != wanted.get(k))
        if changed:
            key = changed[0]
            raise RunFolderError(
                f"{self.folder} holds another configuration's run ({key}={held.get(key)} there, "
                f"{wanted.get(key)} here{', and more' if len(changed) > 1 else ''}); choose "
                "another study, or force=true to replace it."
            )


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if key == "display":
            continue
        name = f"{prefix}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat
