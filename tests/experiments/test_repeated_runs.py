"""A run given twice, in a sweep, with other seeds: nothing is done twice, nothing differs."""

import json
from pathlib import Path

import pytest
from training_command import TINY, folder_of, is_one_sentence, read_rows, run_here, without_times

META_IRN = ("method=meta_irn", *TINY)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """The current folder and the root of a sweep over two seeds, and what it said."""
    here = tmp_path_factory.mktemp("here")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        outcome = run_here("-m", "seed=0,1", *META_IRN, "output_root=runs")
    assert outcome.code == 0, outcome.err
    return here, outcome


def rows_of(root: Path, seed: int):
    (folder,) = root.rglob(f"seed={seed}")
    return without_times(read_rows(folder))


def times_of_change(folder: Path):
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {path: path.stat().st_mtime_ns for path in files}


def test_sweep_runs_every_seed(sweep):
    here, outcome = sweep
    assert sorted(path.parent.name for path in here.rglob("DONE")) == ["seed=0", "seed=1"]
    lines = outcome.out.splitlines()
    assert [line[:5] for line in lines if line.startswith("[")] == ["[1/2]", "[2/2]"]
    assert lines[-1].startswith("2 runs: 2 done; ")
    assert outcome.err == ""


def test_sweep_writes_nothing_but_the_run_folders(sweep):
    assert [path.name for path in sweep[0].iterdir()] == ["runs"]


def test_same_seed_gives_the_same_metrics_bit_for_bit(sweep, tmp_path):
    # Alone here, second in the sweep: what ran before in a process must not matter.
    assert run_here(*META_IRN, "seed=1", f"output_root={tmp_path}").code == 0
    assert rows_of(tmp_path, 1) == rows_of(sweep[0], 1)


def test_another_seed_gives_other_metrics(sweep):
    first, second = rows_of(sweep[0], 0), rows_of(sweep[0], 1)
    for name in ("training_return_mean", "policy_loss", "entropy", "meta_gradient_norm"):
        assert [row.get(name) for row in first] != [row.get(name) for row in second]


def test_finished_run_is_skipped_with_one_line_and_nothing_rewritten(sweep):
    root = sweep[0] / "runs"
    before = times_of_change(root)
    outcome = run_here(*META_IRN, f"output_root={root}")
    assert (outcome.code, outcome.err) == (0, "")
    assert is_one_sentence(outcome.out)
    assert "finished before" in outcome.out
    assert "seed=0" in outcome.out
    assert times_of_change(root) == before


def test_finished_run_with_a_number_written_otherwise_is_skipped_too(sweep):
    root = sweep[0] / "runs"
    before = times_of_change(root)
    outcome = run_here(*META_IRN, "training.discount=1", f"output_root={root}")
    assert "finished before" in outcome.out
    assert times_of_change(root) == before


def test_other_configuration_in_the_folder_is_refused_and_both_values_named(sweep):
    root = sweep[0] / "runs"
    before = times_of_change(root)
    outcome = run_here(*META_IRN, "training.epochs=7", f"output_root={root}")
    assert outcome.code == 2
    assert is_one_sentence(outcome.err)
    for words in ("training.epochs=10 there", "7 here", "another study", "force=true"):
        assert words in outcome.err
    assert times_of_change(root) == before


def test_force_runs_again_from_the_beginning(tmp_path):
    command = (*TINY, f"output_root={tmp_path}")
    assert run_here(*command).code == 0
    folder = folder_of(tmp_path)
    first, before = read_rows(folder), times_of_change(folder)
    (folder / "credit" / "iteration=999999.npz").write_text("from an older run")
    outcome = run_here(*command, "force=true")
    assert outcome.code == 0
    assert "finished before" not in outcome.out
    after = times_of_change(folder)
    assert all(after[path] > then for path, then in before.items() if path in after)
    assert not (folder / "credit" / "iteration=999999.npz").exists()
    again = read_rows(folder)
    assert without_times(again) == without_times(first)
    assert again[0]["wall_time_s"] != first[0]["wall_time_s"]


def test_force_replaces_another_configurations_run(tmp_path):
    command = (*TINY, "training.evaluation_episodes=5", f"output_root={tmp_path}")
    assert run_here(*command).code == 0
    assert run_here(*command, "training.epochs=1", "force=true").code == 0
    assert '"epochs"' not in (folder_of(tmp_path) / "config.yaml").read_text()
    assert "epochs: 1\n" in (folder_of(tmp_path) / "config.yaml").read_text()
    assert json.loads((folder_of(tmp_path) / "summary.json").read_text())["iteration"] == 4
