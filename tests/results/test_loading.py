"""Reading run folders: what is in the table, and what is named and left out instead of guessed."""

import json
import math

import pandas as pd
import pytest
from study_builder import MadeUpStudy

from metairn.results.load import StudyError, load_study
from metairn.results.run_record import RunRecord


def test_study_reads_keys_from_folders(tmp_path):
    MadeUpStudy(tmp_path).write_all(methods=["oracle", "ppo"], lengths=(20, 5), seeds=2)
    study = load_study(tmp_path, "toy")
    assert list(study.tasks) == ["length 5", "length 20"]
    assert study.tasks["length 20"] == {"environment": "umbrella_chain", "length": 20}
    assert list(study.display) == ["ppo", "oracle"]
    assert study.display["ppo"].label == "PPO"
    assert study.left_out == []
    assert [run.seed for run in study.cell("length 5", "oracle")] == [0, 1]
    counts = study.metrics.groupby(["task", "method", "environment", "length", "seed"]).size()
    assert counts.tolist() == [11] * 8
    rows = study.metrics.query("task == 'length 20' and method == 'ppo' and seed == 1")
    lines = (study.cell("length 20", "ppo")[1].folder / "metrics.jsonl").read_text().splitlines()
    for row, line in zip(rows.to_dict("records"), map(json.loads, lines), strict=True):
        same = (row[key] == value for key, value in line.items() if value is not None)
        assert all(same)


def test_columns_that_only_some_runs_have_are_empty_in_the_others(tmp_path):
    study = MadeUpStudy(tmp_path)
    study.write("ppo", 2, 0)
    record = RunRecord(study.folder("oracle", 2, 0), study.config("oracle", 2, 0))
    record.start({}, None)
    row = {"iteration": 0, "env_steps": 0, "evaluation_mark_env_steps": 0, "wall_time_s": 1.0}
    record.append(row | {"evaluation_return_mean": 1.0, "extra": 5.0})
    record.finish()
    record.close()
    metrics = load_study(tmp_path, "toy").metrics.set_index("method")
    assert metrics.loc["oracle", "extra"] == 5.0
    assert math.isnan(metrics.loc["oracle", "optimality"])
    assert metrics.loc["ppo", "extra"].isna().all()


def test_environments_with_other_keys_stand_side_by_side(tmp_path):
    study = MadeUpStudy(tmp_path)
    study.write("ppo", 2, 0)
    other = tmp_path / "toy" / "method=ppo" / "environment=gymnasium" / "id=Cart%2FPole-v1"
    other.mkdir(parents=True)
    study.write("ppo", 5, 0).rename(other / "seed=0")
    loaded = load_study(tmp_path, "toy")
    names = ["gymnasium, id Cart/Pole-v1", "umbrella_chain, length 2"]
    assert sorted(loaded.tasks) == names
    assert loaded.metrics.groupby("task").size().to_dict() == dict.fromkeys(names, 11)


def damage_line(folder):
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines()
    lines[3] = lines[3][:40]
    path.write_text("\n".join(lines) + "\n")


def lose_line(folder):
    path = folder / "metrics.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (damage_line, "damaged, metrics.jsonl: line 4 is no row of figures"),
        (lose_line, "damaged, metrics.jsonl has 10 lines but metrics.parquet 11"),
        (lambda f: (f / "metrics.parquet").write_bytes(b"PAR1"), "damaged, metrics.parquet: "),
        (lambda f: (f / "metrics.parquet").unlink(), "damaged, metrics.parquet is missing"),
        (lambda f: (f / "summary.json").write_text("{"), "damaged, summary.json: "),
        (lambda f: (f / "provenance.json").write_text("[]"), "damaged, provenance.json: it holds"),
        (lambda f: (f / "config.yaml").write_text("a: [b"), "damaged, config.yaml: "),
        (lambda f: (f / "DONE").unlink(), "not ended"),
    ],
)
def test_unusable_run_is_named_and_left_out(damage, reason, tmp_path):
    study = MadeUpStudy(tmp_path)
    study.write_all(methods=["ppo"], lengths=[2])
    damage(study.folder("ppo", 2, 1))
    loaded = load_study(tmp_path, "toy")
    (left_out,) = loaded.left_out
    assert left_out.folder == study.folder("ppo", 2, 1)
    assert left_out.reason.startswith(reason)
    assert "\n" not in left_out.reason
    assert sorted(loaded.metrics["seed"].unique()) == [0, 2]


def test_the_lines_of_a_run_need_not_be_kept_once_it_has_ended(tmp_path):
    study = MadeUpStudy(tmp_path)
    study.write_all(methods=["ppo"], lengths=[2])
    whole = load_study(tmp_path, "toy").metrics
    for path in tmp_path.rglob("metrics.jsonl"):
        path.unlink()
    kept = load_study(tmp_path, "toy")
    assert not kept.left_out
    pd.testing.assert_frame_equal(kept.metrics, whole)


def test_failed_run_is_left_out_with_the_end_of_its_traceback(tmp_path):
    study = MadeUpStudy(tmp_path)
    study.write("ppo", 2, 0)
    folder = study.write("ppo", 2, 1, finish=False)
    (folder / "error.txt").write_text("Traceback:\n  line 1\nValueError: too bad\n")
    (left_out,) = load_study(tmp_path, "toy").left_out
    assert left_out.reason == "failed, ValueError: too bad"


def test_study_without_finished_runs_is_refused(tmp_path):
    with pytest.raises(StudyError, match=r"study=toy has no finished runs in .*; metairn-train"):
        load_study(tmp_path, "toy")
    MadeUpStudy(tmp_path).write("ppo", 2, 0, finish=False)
    with pytest.raises(StudyError, match=r"study=toy has no finished runs in .*seed=0: not ended"):
        load_study(tmp_path, "toy")
