"""Wherever the process dies while it replaces a checkpoint, a whole one is left.

Deleting a folder takes time, so a deletion that is interrupted leaves half a folder.
"""

import pathlib
import shutil

import pytest

from metairn.results import run_record
from metairn.results.run_record import RunRecord

PARTS = ("first", "second")
# Writing two files, deleting up to three folders, renaming two, and a margin.
MOST_STEPS = 10


class Crash(BaseException):
    """The process dies here."""


class Steps:
    """Counts what is done to the disk and dies at the step of a given number."""

    def __init__(self, last):
        self.left = last

    def take(self):
        self.left -= 1
        if self.left < 0:
            raise Crash

    def rmtree(self, path, ignore_errors=False):
        if path.exists():
            self.take()
            for part in list(path.iterdir())[:1]:
                part.unlink()
            self.take()
            REMOVE(path)

    def rename(self, path, target):
        self.take()
        return RENAME(path, target)

    def save(self, version):
        def write(path):
            folder = pathlib.Path(path)
            folder.mkdir()
            for part in PARTS:
                self.take()
                (folder / part).write_text(str(version))

        return write


REMOVE, RENAME = shutil.rmtree, pathlib.Path.rename


def version_of(checkpoint):
    """The version of a whole checkpoint; 0 if there is none."""
    if checkpoint is None:
        return 0
    assert sorted(path.name for path in checkpoint.iterdir()) == sorted(PARTS)
    (version,) = {(checkpoint / part).read_text() for part in PARTS}
    return int(version)


def live(folder, patch, first, last_step):
    """Save versions from `first` on until the process dies; return the last one saved whole."""
    record = RunRecord(folder, {})
    record.start({}, None)
    steps = Steps(last_step)
    patch.setattr(run_record.shutil, "rmtree", steps.rmtree)
    patch.setattr(pathlib.Path, "rename", lambda path, target: steps.rename(path, target))
    saved = first - 1
    try:
        for version in range(first, first + 3):
            record.save_checkpoint(steps.save(version))
            saved = version
    except Crash:
        pass
    finally:
        patch.undo()
        record.close()
    return saved


@pytest.mark.parametrize("second", range(3 * MOST_STEPS))
def test_a_whole_checkpoint_is_left_after_any_two_crashes(second, tmp_path):
    for first in range(3 * MOST_STEPS):
        folder = tmp_path / str(first)
        held = 0
        for last_step in (first, second):
            with pytest.MonkeyPatch.context() as patch:
                saved = live(folder, patch, held + 1, last_step)
            record = RunRecord(folder, {})
            version = version_of(record.checkpoint)
            record.close()
            # The one being written when the process died may be in place already.
            assert saved <= version <= saved + 1, (first, second)
            held = version


def test_unfinished_and_old_checkpoints_go_away_with_the_next_save(tmp_path):
    record = RunRecord(tmp_path, {})
    record.start({}, None)
    for name in ("checkpoint.new", "checkpoint.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "first").write_text("left by a crash")
    record.save_checkpoint(Steps(99).save(7))
    assert version_of(record.checkpoint) == 7
    record.close()
    assert [path.name for path in tmp_path.glob("checkpoint*")] == ["checkpoint"]


def test_checkpoint_that_is_being_written_is_never_the_one_to_go_on_from(tmp_path):
    record = RunRecord(tmp_path, {})
    record.start({}, None)
    seen = []

    def save(path):
        seen.append(record.checkpoint)
        Steps(99).save(1)(path)

    record.save_checkpoint(save)
    record.close()
    assert seen == [None]
    assert record.checkpoint == tmp_path / "checkpoint"
