"""The run folder: who may use it, what survives a crash, when it counts as finished."""

import errno
import fcntl
import json

import pytest

from metairn.results import run_record
from metairn.results.run_record import (
    RunFolderError,
    RunRecord,
    config_hash,
    write_atomically,
)

CONFIG = {"seed": 3, "training": {"epochs": 10, "rates": [0.1, 0.2]}, "study": "x"}


def row(iteration, **figures):
    return {
        "iteration": iteration,
        "env_steps": 10 * iteration,
        "evaluation_mark_env_steps": None,
        "wall_time_s": 0.5 * iteration,
        **figures,
    }


def write_run(folder, config=CONFIG, iterations=4, finish=True):
    """A run of a few rows without a checkpoint."""
    record = RunRecord(folder, config)
    record.start({"host": "here"}, None)
    for iteration in range(iterations):
        record.append(row(iteration))
    if finish:
        record.finish()
    record.close()


def contents(folder):
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {path.relative_to(folder): path.read_bytes() for path in files}


class Crash(BaseException):
    """The process dies here."""


def test_folder_is_refused_while_another_process_holds_it(tmp_path):
    first = RunRecord(tmp_path / "run", CONFIG)
    first.start({}, None)
    for force in (False, True):
        with pytest.raises(RunFolderError, match="in use by another process") as refusal:
            RunRecord(tmp_path / "run", CONFIG, force)
        assert str(tmp_path / "run") in str(refusal.value)
        assert "\n" not in str(refusal.value)
    first.append(row(0))
    first.close()
    RunRecord(tmp_path / "run", CONFIG).close()


def test_file_system_without_locks_is_not_called_another_process(tmp_path, monkeypatch):
    def flock(*arguments):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(RunFolderError) as refusal:
        RunRecord(tmp_path / "run", CONFIG)
    assert "another process" not in str(refusal.value)


def test_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="cannot be written") as refusal:
        RunRecord(tmp_path / "file" / "run", CONFIG)
    assert str(tmp_path / "file") in str(refusal.value)


def test_folder_in_which_nothing_was_written_goes_away_but_not_what_was_there_before(tmp_path):
    root = tmp_path / "before"
    root.mkdir()
    RunRecord(root / "study" / "run", CONFIG).close()
    assert list(tmp_path.iterdir()) == [root]
    assert list(root.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 4}, "seed=3 there, 4 here"),
        ({"training": {"epochs": 11, "rates": [0.1, 0.2]}}, "training.epochs=10 there, 11 here"),
        ({"training": {"epochs": 10}}, "training.rates=[0.1, 0.2] there, None here"),
        ({"added": 1}, "added=None there, 1 here"),
        ({"seed": 4, "study": "y"}, "and more"),
    ],
)
def test_other_configuration_is_refused_with_key_and_values(change, named, tmp_path):
    write_run(tmp_path / "run")
    before = contents(tmp_path)
    with pytest.raises(RunFolderError) as refusal:
        RunRecord(tmp_path / "run", CONFIG | change)
    for words in (named, "another study", "force=true"):
        assert words in str(refusal.value)
    assert contents(tmp_path) == before


def test_refused_folder_can_be_used_by_its_own_configuration_again(tmp_path):
    write_run(tmp_path / "run")
    with pytest.raises(RunFolderError):
        RunRecord(tmp_path / "run", CONFIG | {"seed": 4})
    record = RunRecord(tmp_path / "run", CONFIG)
    assert record.is_finished
    record.close()


def test_hash_changes_with_any_value_and_key_but_not_with_their_order():
    assert config_hash(CONFIG) == config_hash(dict(reversed(CONFIG.items())))
    others = [CONFIG | {"seed": 4}, CONFIG | {"new": None}, {"seed": 3, "study": "x"}]
    others.append(CONFIG | {"training": {"epochs": 10, "rates": [0.2, 0.1]}})
    assert len({config_hash(config) for config in [CONFIG, *others]}) == 5


def test_interrupted_run_is_not_finished_and_keeps_the_rows_of_its_checkpoint(tmp_path):
    write_run(tmp_path / "run", finish=False)
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 4, "env')
    record = RunRecord(tmp_path / "run", CONFIG)
    assert not record.is_finished
    assert record.rows == [row(iteration) for iteration in range(4)]
    record.start({}, iteration=2)
    record.append(row(3, again=True))
    record.close()
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [row(0), row(1), row(2), row(3, again=True)]


def test_run_without_checkpoint_starts_with_no_rows(tmp_path):
    write_run(tmp_path / "run", finish=False)
    record = RunRecord(tmp_path / "run", CONFIG)
    assert record.checkpoint is None
    record.start({}, iteration=None)
    record.close()
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == ""


@pytest.mark.parametrize(
    "damage",
    [b'{"iteration": 1, "env_st', b"\x00\x00\x00\x00", b"\xff\xfe\xfd", b"5", b"{}"],
    ids=["half", "zeros", "no text", "no row", "empty row"],
)
def test_damaged_line_in_the_middle_is_refused_with_the_way_out(damage, tmp_path):
    write_run(tmp_path / "run", finish=False)
    path = tmp_path / "run" / "metrics.jsonl"
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([lines[0], damage, *lines[2:]]))
    before = contents(tmp_path)
    with pytest.raises(RunFolderError, match="force=true") as refusal:
        RunRecord(tmp_path / "run", CONFIG)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert contents(tmp_path) == before
    record = RunRecord(tmp_path / "run", CONFIG, force=True)
    record.start({}, None)
    assert record.rows == []
    record.close()


@pytest.mark.parametrize("text", ["{", "- 1\n- 2\n", "text"])
def test_damaged_configuration_is_refused_with_the_way_out(text, tmp_path):
    write_run(tmp_path / "run")
    (tmp_path / "run" / "config.yaml").write_text(text)
    with pytest.raises(RunFolderError, match="force=true"):
        RunRecord(tmp_path / "run", CONFIG)


def test_force_clears_the_folder_only_when_the_run_starts(tmp_path):
    write_run(tmp_path / "run")
    (tmp_path / "run" / "checkpoint").mkdir()
    before = contents(tmp_path)
    record = RunRecord(tmp_path / "run", CONFIG | {"seed": 4}, force=True)
    assert not record.is_finished
    assert record.checkpoint is None
    assert contents(tmp_path) == before
    record.start({"host": "there"}, None)
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {".lock", "config.yaml", "provenance.json", "metrics.jsonl", "tensorboard"}
    record.close()


def test_file_is_old_or_new_but_never_half(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, "old")

    def fsync(_):
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(run_record.os, "fsync", fsync)
        with pytest.raises(Crash):
            write_atomically(path, "new and longer")
    assert path.read_text() == "old"
    write_atomically(path, "new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_done_is_written_last(tmp_path, monkeypatch):
    written = []
    write = run_record.write_atomically
    monkeypatch.setattr(
        run_record,
        "write_atomically",
        lambda path, text: (written.append(path.name), write(path, text)),
    )
    write_run(tmp_path / "run")
    assert written[-1] == "DONE"
    assert written.count("DONE") == 1
    assert {"summary.json", "provenance.json"} <= set(written)
    assert (tmp_path / "run" / "metrics.parquet").exists()
