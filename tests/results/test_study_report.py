"""Statistics and the report: known answers, rliable's own numbers, refusals, the command itself."""

import math

import numpy as np
import pandas as pd
import pytest
import yaml
from rliable import metrics as rliable_metrics

from metairn.experiments import report
from metairn.results.load import NoRuns, load_study
from metairn.results.statistics import env_steps_to_90pct, estimate, scores_by_mark

MARKS = [0, 2000, 4000]


def rows_of(scores):
    """A metrics table from an array [runs, marks]."""
    return pd.DataFrame(
        {
            "seed": seed,
            "evaluation_mark_env_steps": mark,
            "optimality": value,
            "optimality_greedy": value,
        }
        for seed, run in enumerate(scores)
        for mark, value in zip(MARKS, run, strict=True)
    )


def write_run(root, method, seed, scores, label="A method"):
    folder = root / "toy" / f"method={method}" / "environment=chain" / "length=5" / f"seed={seed}"
    folder.mkdir(parents=True)
    table = rows_of([scores]).drop(columns="seed")
    table.to_parquet(folder / "metrics.parquet")
    display = {"label": label, "colour": "#123456"}
    (folder / "config.yaml").write_text(yaml.safe_dump({"method": {"display": display}}))
    (folder / "DONE").write_text("hash")
    return folder


def test_interquartile_mean_is_rliables():
    scores = np.random.default_rng(0).normal(size=(10, 3))
    curve = estimate(rows_of(scores), "optimality")
    expected = [rliable_metrics.aggregate_iqm(scores[:, [k]]) for k in range(3)]
    np.testing.assert_allclose(curve.iqm, expected)
    assert (curve.low <= curve.iqm).all()
    assert (curve.iqm <= curve.high).all()
    assert curve.num_runs == 10


def test_outliers_are_trimmed():
    scores = np.tile([[0.0, 0.5, 1.0]], (8, 1))
    scores[0] = -100.0
    np.testing.assert_allclose(estimate(rows_of(scores), "optimality").iqm, [0.0, 0.5, 1.0])


def test_intervals_are_reproducible_and_leave_the_global_generator_alone():
    scores = rows_of(np.random.default_rng(1).normal(size=(6, 3)))
    np.random.seed(5)
    expected = np.random.random()
    np.random.seed(5)
    first = estimate(scores, "optimality")
    assert np.random.random() == expected
    second = estimate(scores, "optimality")
    np.testing.assert_array_equal(first.low, second.low)
    other = estimate(scores, "optimality", seed=1)
    assert not np.array_equal(first.low, other.low)


def test_runs_of_different_marks_are_refused():
    rows = rows_of(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="seed=1 is missing at some marks"):
        scores_by_mark(rows[:-1], "optimality")


def test_missing_scores_are_refused_not_counted_as_zero():
    rows = rows_of([[0.0, math.nan, 1.0]])
    with pytest.raises(ValueError, match="missing"):
        estimate(rows, "optimality")


def test_env_steps_to_90pct_wants_two_marks_in_a_row():
    assert env_steps_to_90pct(rows_of([[0.0, 0.95, 0.95]])) == 2000
    assert env_steps_to_90pct(rows_of([[0.95, 0.5, 0.95]])) == math.inf


def test_study_reads_keys_from_folders(tmp_path):
    write_run(tmp_path, "a", 0, [0, 0.5, 1])
    write_run(tmp_path, "a", 1, [0, 0.5, 1])
    unfinished = write_run(tmp_path, "a", 2, [0, 0, 0])
    (unfinished / "DONE").unlink()
    study = load_study(tmp_path, "toy")
    assert study.task_keys == ["environment", "length"]
    assert sorted(study.metrics["seed"].unique()) == [0, 1]
    assert study.display["a"].label == "A method"
    assert study.unfinished == [unfinished]


def test_empty_study_is_refused(tmp_path):
    with pytest.raises(NoRuns, match="study=toy has no finished runs"):
        load_study(tmp_path, "toy")


def test_report_prints_a_table_and_draws_a_figure(tmp_path, monkeypatch, capsys):
    for seed in range(3):
        write_run(tmp_path, "a", seed, [0, 0.95, 1], label="First")
        write_run(tmp_path, "b", seed, [0, 0.1, 0.2], label="Second")
    monkeypatch.setattr(
        "sys.argv",
        ["metairn-report", "study=toy", f"output_root={tmp_path}", f"images_root={tmp_path}/i"],
    )
    with pytest.raises(SystemExit) as ended:
        report.main()
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    for text in (" a ", " b ", "1.00", "0.20", "2000", "inf"):
        assert text in shown
    table = pd.read_csv(tmp_path / "toy" / "table.csv")
    assert table["optimality"].tolist() == [1.0, 0.2]
    assert table["env_steps_to_90pct"].tolist() == [2000, math.inf]
    assert table["seeds"].tolist() == [3, 3]
    assert (tmp_path / "i" / "toy_sample_efficiency.png").stat().st_size > 1000


def test_report_of_nothing_is_bad_input(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["metairn-report", "study=toy", f"output_root={tmp_path}"])
    with pytest.raises(SystemExit) as ended:
        report.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not list(tmp_path.iterdir())
