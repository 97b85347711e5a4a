"""Who may use a run folder: one process at a time, until it closes it or dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

NAME = ".lock"


class RunFolderError(Exception):
    """A run folder that cannot be used: one sentence that says why and what to do."""


class RunFolderInUse(RunFolderError):
    """A run folder that another process holds."""


class FolderLock:
    """Holds a folder until `close`.

    Args:
        folder: which; made if need be.

    Raises:
        RunFolderInUse: if another process holds it.
        RunFolderError: if it cannot be written or locked.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._made: list[Path] = []
        self._open()
        while not self._is_in_place():
            # Whoever held the folder left nothing in it and took it away between open and lock.
            self._file.close()
            self._open()

    def _open(self) -> None:
        try:
            self._made += [p for p in (self.folder, *self.folder.parents) if not p.exists()]
            self.folder.mkdir(parents=True, exist_ok=True)
            self._file = (self.folder / NAME).open("w")
        except OSError as error:
            raise RunFolderError(
                f"output_root={self.folder} cannot be written: {error.strerror}; choose another "
                "output_root."
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            if isinstance(error, BlockingIOError):
                raise RunFolderInUse(
                    f"{self.folder} is in use by another process; wait for it or choose another "
                    "study."
                ) from error
            raise RunFolderError(
                f"{self.folder} cannot be locked ({error.strerror}); choose another output_root."
            ) from error

    def _is_in_place(self) -> bool:
        with contextlib.suppress(FileNotFoundError):
            mine = os.fstat(self._file.fileno())
            return os.path.samestat(mine, (self.folder / NAME).stat())
        return False

    def close(self) -> None:
        """Lets go of the folder; one in which nothing was written goes away."""
        if [path.name for path in self.folder.iterdir()] == [NAME]:
            (self.folder / NAME).unlink()
            with contextlib.suppress(OSError):
                for path in self._made:  # From the inside out.
                    path.rmdir()
        self._file.close()
