"""Sweeps: planned before anything starts, run side by side, given again without loss."""

import json
import math
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from training_command import TINY, outcome_of, run_here, start_process

from metairn.experiments import ray_cluster, sweep
from metairn.experiments.command_help import CONFIGS, options
from metairn.experiments.sweep_plan import newest_row
from metairn.results.run_record import RunRecord

# 24 runs, of which the 3 of Fails-v0 must fail.
IDS = [f"sweep_environments:{name}-v0" for name in ("Works0", "Works1", "Fails", "Works2")]
IDS += [f"sweep_environments:Works{number}-v0" for number in range(3, 7)]
SHORT_RUNS = (
    "environment=gymnasium",
    "training.budget_env_steps=2000",
    "training.evaluation_episodes=5",
    "output_root=runs",
)
SWEEP_OF_24 = ("-m", f"environment.id={','.join(IDS)}", "seed=0,1,2", *SHORT_RUNS)


@pytest.fixture
def empty_folder(tmp_path, monkeypatch):
    """The current directory, in which runs go to ./runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def no_ray(monkeypatch):
    def start(*trainings, **options):
        raise AssertionError("nothing is to be started")

    monkeypatch.setattr(sweep, "start_ray", start)
    monkeypatch.setattr(ray_cluster, "start_ray_ahead", start)


def finish_by_hand(root, *overrides, seconds=2.0):
    """Leaves a finished run's files, as if it had run."""
    from training_command import build

    experiment = build(*overrides, f"output_root={root}")
    record = RunRecord(experiment.folder, experiment.config)
    record.start({}, None)
    steps = experiment.training.budget_env_steps
    mark = {"evaluation_mark_env_steps": steps, "evaluation_return_mean": 1.0}
    record.append({"iteration": 0, "env_steps": steps, "wall_time_s": seconds, **mark})
    record.finish()
    record.close()


def test_sweep_runs_all_goes_on_after_a_failure_and_says_which_failed(empty_folder):
    ids = ",".join(f"sweep_environments:{name}-v0" for name in ("Dies", "Fails", "Works0"))
    outcome = run_here("-m", f"environment.id={ids}", "seed=0,1", *SHORT_RUNS, "study=mixed")
    assert outcome.code == 1
    failures = sorted(outcome.err.splitlines())
    assert len(failures) == 4
    kinds = [(kind, seed) for kind in ("Dies", "Fails") for seed in (0, 1)]
    for (kind, seed), line in zip(kinds, failures, strict=True):
        (folder,) = empty_folder.rglob(f"id=*{kind}*/seed={seed}")
        assert str(folder) in line
        assert ("WorkerCrashedError: " if kind == "Dies" else "torn (what") in line
        assert kind == "Dies" or "and wet" in (folder / "error.txt").read_text()
    assert "6 runs: 2 done, 4 failed;" in outcome.out
    done = sorted(path.parent.relative_to(empty_folder) for path in empty_folder.rglob("DONE"))
    assert [path.name for path in done] == ["seed=0", "seed=1"]
    assert {path.parts[:2] for path in done} == {("runs", "mixed")}


def test_finished_runs_are_skipped_without_starting_ray(empty_folder, no_ray):
    for seed in (0, 1):
        finish_by_hand("runs", *TINY, f"seed={seed}")
    outcome = run_here("-m", "seed=0,1", *TINY, "output_root=runs")
    assert (outcome.code, outcome.err) == (0, "")
    assert "2 runs: 2 skipped as finished;" in outcome.out


def test_only_what_is_unfinished_is_run_and_a_job_given_twice_once(empty_folder):
    finish_by_hand("runs", *TINY, "seed=0")
    (done,) = empty_folder.rglob("DONE")
    before = done.stat().st_mtime_ns
    outcome = run_here("-m", "seed=0,1,1", *TINY, "output_root=runs")
    assert outcome.code == 0, outcome.err
    assert "2 runs: 1 done, 1 skipped as finished;" in outcome.out
    assert done.stat().st_mtime_ns == before
    assert len(list(empty_folder.rglob("DONE"))) == 2


def test_run_that_another_process_holds_is_waited_for(empty_folder, monkeypatch):
    from training_command import build

    held = build(*TINY, "seed=0", "output_root=runs")
    record = RunRecord(held.folder, held.config)
    looks = []

    class Progress(sweep.SweepProgress):
        def ended(self, job, how, text):
            looks.append(how)
            if how == "in use":
                record.close()
            super().ended(job, how, text)

    monkeypatch.setattr(sweep, "SweepProgress", Progress)
    outcome = run_here("-m", "seed=0,1", *TINY, "output_root=runs")
    assert outcome.code == 0, outcome.err
    assert sorted(looks) == ["done", "done", "in use"]
    assert len(list(empty_folder.rglob("DONE"))) == 2


def test_run_of_several_processes_gets_them_all(empty_folder):
    outcome = run_here(
        "-m", "seed=0,1", *TINY, "training.num_env_runners=1", "output_root=runs", "study=remote"
    )
    assert outcome.code == 0, outcome.err
    assert len(list(empty_folder.rglob("DONE"))) == 2


def test_run_of_more_processes_than_cores_gets_them_all(empty_folder):
    # In a process of its own, whose Ray was begun before that was known.
    runners = ray_cluster.cores()
    process = start_process(
        *(empty_folder, "-m", "seed=0,1", *TINY, f"training.num_env_runners={runners}"),
        "output_root=runs",
    )
    outcome = outcome_of(process)
    assert outcome.code == 0, outcome.err
    assert len(list(empty_folder.rglob("DONE"))) == 2


def test_basic_launcher_runs_in_this_process(empty_folder, no_ray):
    outcome = run_here("-m", "seed=0,1", *TINY, "hydra/launcher=basic", "output_root=runs")
    assert outcome.code == 0, outcome.err
    assert outcome.out.count("see runs/default/method=ppo") == 2


def test_dry_run_lists_without_running_or_writing(empty_folder, no_ray):
    for seed in (0, 1):
        finish_by_hand("runs", *TINY, f"seed={seed}", seconds=50.0)
    files = sorted(empty_folder.rglob("*"))
    outcome = run_here(
        "-m", "method=ppo,oracle", "seed=range(4)", *TINY, "output_root=runs",
        "hydra/launcher=dry_run",
    )  # fmt: skip
    assert (outcome.code, outcome.err) == (0, "")
    rows = [line.split("│")[1:-1] for line in outcome.out.splitlines() if "│" in line]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["method=ppo environment=umbrella_chain length=3", "2", "0", "2", "2 min"],
        ["method=oracle environment=umbrella_chain length=3", "0", "0", "4", "?"],
    ]
    assert "8 runs: 2 finished, 6 to run" in outcome.out
    assert "estimated time: 2 min one after the other" in outcome.out
    assert "4 runs of methods that none has finished of" in outcome.out
    assert sorted(empty_folder.rglob("*")) == files


@pytest.mark.parametrize("study", options("study"))
def test_study_file_gives_its_grid_and_is_in_no_run_s_configuration(study, empty_folder, no_ray):
    grid = yaml.safe_load((CONFIGS / "study" / f"{study}.yaml").read_text())
    values = grid["hydra"]["sweeper"]["params"]
    assert values["seed"] in ("range(5)", "range(10)")
    parts = {key: str(listed).split(",") for key, listed in values.items() if key != "seed"}
    # Tuned files are found from the folder in which the command is given.
    outcome = run_here("-m", f"study={study}", "seed=3", "tuned=false", "hydra/launcher=dry_run")
    assert outcome.code == 0, outcome.err
    runs = math.prod(map(len, parts.values()))
    assert f"{runs} runs: 0 finished" in outcome.out
    varying = {key.split(".")[-1]: many for key, many in parts.items() if len(many) > 1}
    for key, many in (varying | {"method": parts["method"]}).items():
        for each in many:
            assert outcome.out.count(f"{key}={each} ") == runs // len(many)
    from training_command import build

    experiment = build(f"study={study}", "tuned=false")
    assert experiment.config["study"] == study
    assert experiment.folder.parts[1] == study
    assert experiment.config["training"]["budget_env_steps"] == grid["training"]["budget_env_steps"]
    assert not {"question", "hydra"} & experiment.config.keys()


def test_newest_row_is_the_last_whole_line(tmp_path):
    assert newest_row(tmp_path) is None
    rows = [json.dumps({"iteration": n, "padding": "x" * 3000}) for n in range(20)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(rows) + '\n{"iteration": 20, "pad')
    assert newest_row(tmp_path)["iteration"] == 19


def children_of(pid):
    """Process ids of everything that a process started, and what that started."""
    listed = subprocess.run(["ps", "-Ao", "pid=,ppid="], capture_output=True, text=True).stdout
    pairs = [tuple(map(int, line.split())) for line in listed.splitlines()]
    found = {pid}
    while grown := {child for child, parent in pairs if parent in found} - found:
        found |= grown
    return found - {pid}


def is_at_work(pid):
    """Whether a process is alive, but for Ray's two agents, which linger for a minute."""
    listed = subprocess.run(["ps", "-o", "stat=,args=", "-p", str(pid)], capture_output=True)
    state = listed.stdout.decode()
    return state != "" and state[0] != "Z" and "Agent" not in state


def wait_until(holds, seconds):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
def test_killed_sweep_given_again_does_each_run_once_and_leaves_no_process(empty_folder):
    root = empty_folder / "runs"

    def done():
        # Unlike rglob, os.walk bears with folders that come and go.
        paths = [Path(folder) / "DONE" for folder, _, files in os.walk(root) if "DONE" in files]
        return {path: path.stat().st_mtime_ns for path in paths}

    process = start_process(empty_folder, *SWEEP_OF_24)
    wait_until(lambda: len(done()) >= 7 or process.poll() is not None, 120)
    started = children_of(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    # Workers outlive the driver by a moment, and may end their runs in it.
    wait_until(lambda: not any(map(is_at_work, started)), 20)
    first = done()
    assert 7 <= len(first) < 21
    outcome = outcome_of(start_process(empty_folder, *SWEEP_OF_24))
    assert outcome.code == 1
    assert len(outcome.err.splitlines()) == 3
    assert all("Fails-v0" in line and "seed=" in line for line in outcome.err.splitlines())
    assert f"{24 - 3 - len(first)} done, 3 failed, {len(first)} skipped" in outcome.out
    assert len(done()) == 21
    assert done().items() >= first.items()
    assert len(started) > 5
