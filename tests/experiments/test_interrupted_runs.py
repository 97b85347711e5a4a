"""A killed run, given again, goes on from its checkpoint and ends as if nothing had happened.

Real kills take a process each; at exact moments a run in this process is stopped by an exception
that nothing catches instead, which leaves the same files.
"""

import os
import pathlib
import signal
import time

import pytest
from training_command import (
    Killed,
    folder_of,
    read_rows,
    run_here,
    start_process,
    without_times,
)

from metairn.results.run_record import RunRecord

METHODS = {"ppo": ("method=ppo",), "meta_irn": ("method=meta_irn",)}
CHECKPOINT_INTERVAL = 3  # iterations
SHORT = (
    "environment.length=5",
    "training.budget_env_steps=8000",
    "training.checkpoint_interval_env_steps=3000",
    "training.evaluation_episodes=10",
    "training.epochs=2",
)
LONG = (*SHORT, "training.budget_env_steps=15000")


@pytest.fixture(scope="module")
def whole_runs(tmp_path_factory):
    """Rows of each method's run that nothing interrupts."""
    roots = {name: tmp_path_factory.mktemp(name) for name in METHODS}
    for name, root in roots.items():
        assert run_here(*METHODS[name], *SHORT, f"output_root={root}").code == 0
    return {name: read_rows(folder_of(root)) for name, root in roots.items()}


def die_at_row(patch, count):
    """Kill the run when it wants to write its row of this number."""
    append = RunRecord.append

    def dying(self, row):
        if len(self.rows) == count:
            raise Killed
        append(self, row)

    patch.setattr(RunRecord, "append", dying)


def die_at_rename(patch, count):
    """Kill the run when it wants to rename a checkpoint for the time of this number."""
    rename, calls = pathlib.Path.rename, []

    def dying(self, target):
        if self.name.startswith("checkpoint"):
            calls.append(target)
            if len(calls) == count:
                raise Killed
        return rename(self, target)

    patch.setattr(pathlib.Path, "rename", dying)


def die_at_the_end(patch, _):
    """Kill the run after its last checkpoint, before its table and DONE."""

    def dying(self):
        raise Killed

    patch.setattr(RunRecord, "finish", dying)


# How the run dies, and after which iteration's checkpoint it is to go on.
MOMENTS = {
    "at the very first row": (die_at_row, 0, None),
    "before any checkpoint": (die_at_row, 3, None),
    "just after a checkpoint": (die_at_row, 4, 3),
    "just before the next one": (die_at_row, 6, 3),
    "after two checkpoints": (die_at_row, 8, 6),
    "with a first checkpoint not yet in place": (die_at_rename, 1, None),
    "with a second checkpoint not yet in place": (die_at_rename, 2, 3),
    "between the renames": (die_at_rename, 3, 3),
    "between the last renames": (die_at_rename, 5, 6),
    "before the end is written": (die_at_the_end, 0, 8),
}
# Plain PPO has less to restore: two moments will do.
CASES = [("meta_irn", moment) for moment in MOMENTS]
CASES += [("ppo", "just after a checkpoint"), ("ppo", "between the renames")]


@pytest.mark.parametrize(("method", "moment"), CASES)
def test_run_killed_at_any_moment_ends_as_the_whole_run(method, moment, whole_runs, tmp_path):
    die, count, iteration = MOMENTS[moment]
    command = (*METHODS[method], *SHORT, f"output_root={tmp_path}")
    with pytest.MonkeyPatch.context() as patch:
        die(patch, count)
        assert run_here(*command).code == -9
    folder = folder_of(tmp_path)
    assert not (folder / "DONE").exists()
    kept = read_rows(folder)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 7, "env_st')
    outcome = run_here(*command)
    assert outcome.code == 0, outcome.err
    rows = read_rows(folder)
    assert without_times(rows) == without_times(whole_runs[method])
    went_on_after = 0 if iteration is None else iteration + 1
    assert rows[:went_on_after] == kept[:went_on_after]
    repeated = zip(rows[went_on_after:], kept[went_on_after:], strict=False)
    assert all(row["wall_time_s"] != old["wall_time_s"] for row, old in repeated)
    assert {path.name for path in folder.glob("checkpoint*")} == {"checkpoint"}
    times = [row["wall_time_s"] for row in rows]
    assert times == sorted(times)


def test_run_killed_time_and_again_ends_as_the_whole_run(whole_runs, tmp_path):
    command = (*METHODS["meta_irn"], *SHORT, f"output_root={tmp_path}")
    for die, count in ((die_at_rename, 3), (die_at_rename, 1), (die_at_row, 8)):
        with pytest.MonkeyPatch.context() as patch:
            die(patch, count)
            assert run_here(*command).code == -9
    assert run_here(*command).code == 0
    assert without_times(read_rows(folder_of(tmp_path))) == without_times(whole_runs["meta_irn"])


def kill_when(folder_root, process, num_rows):
    """kill -9 the process and its group once metrics.jsonl has so many lines."""
    for _ in range(6000):
        # Not rglob: checkpoint folders come and go while it looks into them.
        files = list(folder_root.glob("*/method=*/environment=*/length=*/seed=*/metrics.jsonl"))
        if files and files[0].read_bytes().count(b"\n") >= num_rows:
            break
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return process.returncode


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_run_killed_with_its_process_ends_as_the_whole_run(method, tmp_path):
    commands = {name: (*METHODS[method], *LONG, f"output_root={tmp_path / name}") for name in "ab"}
    process = start_process(tmp_path, *commands["a"])
    assert kill_when(tmp_path / "a", process, num_rows=9) == -signal.SIGKILL
    folder = folder_of(tmp_path / "a")
    assert not (folder / "DONE").exists()
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    assert run_here(*commands["a"]).code == 0
    assert run_here(*commands["b"]).code == 0
    rows, whole = read_rows(folder), read_rows(folder_of(tmp_path / "b"))
    assert without_times(rows) == without_times(whole)
    # Checkpoints come after iterations 3, 6, ...; the kill may have hit the newest one's writing.
    newest = (len(lines) - 2) // CHECKPOINT_INTERVAL * CHECKPOINT_INTERVAL
    kept = newest - CHECKPOINT_INTERVAL + 1
    assert kept > 1
    assert (folder / "metrics.jsonl").read_text().splitlines()[:kept] == lines[:kept]


def test_damaged_checkpoint_is_refused_with_the_way_out(tmp_path):
    command = (*SHORT, f"output_root={tmp_path}")
    with pytest.MonkeyPatch.context() as patch:
        die_at_row(patch, 5)
        assert run_here(*command).code == -9
    damaged = folder_of(tmp_path) / "checkpoint" / "algorithm_state.pkl"
    damaged.write_bytes(damaged.read_bytes()[:20])
    lines = (folder_of(tmp_path) / "metrics.jsonl").read_text()
    outcome = run_here(*command)
    assert outcome.code == 2, outcome.err
    assert outcome.err.count("\n") == 1
    assert "checkpoint" in outcome.err
    assert "force=true" in outcome.err
    assert (folder_of(tmp_path) / "metrics.jsonl").read_text() == lines
    assert run_here(*command, "force=true").code == 0
