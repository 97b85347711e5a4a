"""What a finished run leaves: exactly the promised files with the promised contents."""

import itertools
import json
import math
import struct

import numpy as np
import pandas as pd
import pyarrow.dataset
import pytest
import yaml
from tensorboardX.proto import event_pb2
from training_command import TINY, build, folder_of, read_rows, run_here

from metairn.intrinsic_attention_ppo.connectors import known_task
from metairn.results.run_record import config_hash

EVERY_RUN = {
    "env_steps",
    "iteration",
    "evaluation_mark_env_steps",
    "evaluation_return_mean",
    "evaluation_return_std",
    "evaluation_greedy_return_mean",
    "training_return_mean",
    "policy_loss",
    "value_loss_extrinsic",
    "entropy",
    "kl",
    "intrinsic_reward_mean",
    "intrinsic_reward_std",
    "sample_time_s",
    "learn_time_s",
    "wall_time_s",
}
WITH_GROUND_TRUTH = {"optimality", "optimality_greedy", "credit_on_cause"}
META_LEARNED = {"value_loss_mixed", "meta_gradient_norm"}
# Method, environment and the columns that it must have and must not have.
RUNS = {
    "meta_irn": (["method=meta_irn", *TINY], EVERY_RUN | WITH_GROUND_TRUTH | META_LEARNED, set()),
    "ppo": (["method=ppo", *TINY], EVERY_RUN | WITH_GROUND_TRUTH, META_LEARNED),
    "cartpole": (
        ["method=ppo", "environment=gymnasium", *TINY[1:]],
        EVERY_RUN,
        WITH_GROUND_TRUTH | META_LEARNED,
    ),
}


@pytest.fixture(scope="module")
def output_root(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module", params=RUNS)
def run(request, output_root):
    """A finished run's folder, the columns it must have, those it must not, and what was said."""
    overrides, wanted, unwanted = RUNS[request.param]
    outcome = run_here(*overrides, f"output_root={output_root}", f"study={request.param}")
    assert outcome.code == 0, outcome.err
    return folder_of(output_root / request.param), wanted, unwanted, outcome


def scalars_of(event_file):
    """Name, step and value of every scalar in an event file: length, crc, message, crc."""
    data, position, scalars = event_file.read_bytes(), 0, []
    while position < len(data):
        (length,) = struct.unpack_from("<Q", data, position)
        event = event_pb2.Event.FromString(data[position + 12 : position + 12 + length])
        scalars += [(v.tag, event.step, v.simple_value) for v in event.summary.value]
        position += 16 + length
    return scalars


def test_files_are_exactly_the_promised_ones(run):
    folder = run[0]
    names = {path.name for path in folder.iterdir()} - {".lock"}
    learned = {"credit_assigner.pt"} if "method=meta_irn" in str(folder) else set()
    assert names == learned | {
        "config.yaml",
        "metrics.jsonl",
        "metrics.parquet",
        "summary.json",
        "provenance.json",
        "DONE",
        "checkpoint",
        "credit",
        "tensorboard",
    }
    assert not list(folder.rglob("*.tmp"))
    assert (folder / "checkpoint" / "rllib_checkpoint.json").exists()


def test_one_line_says_what_came_out_and_where(run):
    folder, _, _, outcome = run
    assert outcome.out.count("\n") == 1
    assert str(folder) in outcome.out
    assert outcome.err == ""


def test_done_is_the_hash_of_the_configuration_in_the_folder(run):
    folder = run[0]
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert (folder / "DONE").read_text().strip() == config_hash(config)
    assert config["training"]["budget_env_steps"] == 4000


def test_metrics_have_the_promised_columns_in_both_files(run):
    folder, wanted, unwanted, _ = run
    table = pd.read_parquet(folder / "metrics.parquet")
    assert wanted - set(table) == set()
    assert unwanted & set(table) == set()
    rows = read_rows(folder)
    pd.testing.assert_frame_equal(table, pd.DataFrame(rows), check_dtype=False)
    assert table[sorted(wanted - {"evaluation_mark_env_steps"})].notna().any().all()


def test_rows_are_consecutive_iterations_up_to_the_budget(run):
    rows = read_rows(run[0])
    steps = [row["env_steps"] for row in rows]
    assert [row["iteration"] for row in rows] == list(range(len(rows)))
    assert steps[0] == 0
    assert steps[-2] < 4000 <= steps[-1]
    assert all(a < b for a, b in itertools.pairwise(steps))
    marks = [row["evaluation_mark_env_steps"] for row in rows]
    assert [mark for mark in marks if mark is not None] == [0, 2000, 4000]
    evaluated = [mark is not None for mark in marks]
    assert ["evaluation_return_mean" in row for row in rows] == evaluated
    times = [row["wall_time_s"] for row in rows]
    assert times == sorted(times)


def test_optimality_is_scaled_by_what_the_environment_says():
    algorithm = build("environment.final_reward=4").algorithm
    task = known_task(algorithm.env, algorithm.env_config)
    assert (task.random_return, task.optimal_return) == (0.0, 4.0)


def test_optimality_of_a_run_is_its_return_less_the_noise(run):
    rows = [row for row in read_rows(run[0]) if "optimality" in row]
    for row in rows:  # The umbrella chain's best return is 10, the random one 0, its noise 0.1.
        for found, given in (("optimality", ""), ("optimality_greedy", "greedy_")):
            scaled = row[f"evaluation_{given}return_mean"] / 10
            assert row[found] == pytest.approx(scaled, abs=0.05)
            assert -1 <= row[found] <= 1


def test_summary_has_the_final_value_of_every_column(run):
    folder = run[0]
    summary = json.loads((folder / "summary.json").read_text())
    table = pd.read_parquet(folder / "metrics.parquet")
    for name in table:
        assert summary[name] == pytest.approx(table[name].dropna().iloc[-1]), name
    speed = summary["env_steps"] / summary["wall_time_s"]
    assert summary["env_steps_per_second"] == pytest.approx(speed)
    assert "env_steps_to_90pct" in summary
    if "optimality" not in table:
        assert summary["env_steps_to_90pct"] is None


def test_provenance_says_which_code_ran_where_and_for_how_long(run):
    provenance = json.loads((run[0] / "provenance.json").read_text())
    summary = json.loads((run[0] / "summary.json").read_text())
    assert {"git_commit", "git_changes", "python", "host", "cpu_count"} <= provenance.keys()
    assert {"metairn", "ray", "torch", "gymnasium", "numpy"} <= provenance["versions"].keys()
    assert provenance["cpu"]
    assert provenance["wall_time_s"] == summary["wall_time_s"] > 0


def test_credit_maps_are_of_the_start_and_of_every_tenth_of_the_budget(run):
    folder, wanted, *_ = run
    steps = {row["iteration"]: row["env_steps"] for row in read_rows(folder)}
    first = {}
    for iteration, now in steps.items():
        first.setdefault(min(10 * now // 4000, 10), iteration)
    assert first[0] == 0
    assert first[10] == max(steps)
    expected = [f"iteration={iteration:06d}.npz" for iteration in first.values()]
    files = sorted((folder / "credit").iterdir())
    assert [path.name for path in files] == expected
    for path in files:
        maps = dict(np.load(path))
        batch, length, _ = maps["credit_matrix"].shape
        assert batch > 0
        assert maps["intrinsic_rewards"].shape == (batch, length)
        assert ("attention" in maps) == ("meta_gradient_norm" in wanted)
        if "credit_on_cause" in wanted:
            assert maps["ground_truth"].shape == (batch, length, length)
        if "attention" in maps:
            assert maps["attention"].shape == (batch, length, length)
            kept = maps["attention"].sum(-2)  # The rest of a reward is thrown away.
            assert ((kept > 0) & (kept < 1 + 1e-5)).all()


def test_tensorboard_shows_what_metrics_say(run):
    folder = run[0]
    (event_file,) = (folder / "tensorboard").iterdir()
    shown = {(name, step): value for name, step, value in scalars_of(event_file)}
    expected = {
        (name, row["iteration"]): value
        for row in read_rows(folder)
        for name, value in row.items()
        if value is not None
    }
    assert shown.keys() == expected.keys()
    assert all(math.isclose(shown[k], v, rel_tol=1e-6) for k, v in expected.items())


def test_folder_is_partitioned_by_what_varies(output_root, run):
    parts = dict(part.split("=") for part in run[0].relative_to(output_root).parts[1:])
    assert parts["seed"] == "0"
    assert ("length" in parts) == ("credit_on_cause" in run[1])
    assert parts.get("id", "CartPole-v1") == "CartPole-v1"


def test_several_runs_are_read_in_one_call(tmp_path):
    sweep = ["-m", "method=ppo,oracle", "environment.length=2,3", *TINY[1:]]
    cheap = ["training.epochs=1", "training.evaluation_interval_env_steps=4000"]
    cheap += ["training.checkpoint_interval_env_steps=4000", f"hydra.sweep.dir={tmp_path}"]
    assert run_here(*sweep, *cheap, f"output_root={tmp_path}", "study=many").code == 0
    files = [str(path) for path in sorted(tmp_path.rglob("metrics.parquet"))]
    table = pyarrow.dataset.dataset(files, partitioning="hive").to_table().to_pandas()
    keys = ["method", "environment", "length", "seed"]
    runs = table.groupby(keys).size()
    assert set(runs.index) == {
        (method, "umbrella_chain", length, 0) for method in ("ppo", "oracle") for length in (2, 3)
    }
    assert (runs == 5).all()


def test_settings_that_came_later_are_in_a_configuration_only_where_they_change_something():
    later = {"balanced_gradient", "outer_episodes", "judged_by", "restart", "advantage_floor"}
    without = ("balanced_gradient=false", "outer_episodes=null")
    options = [f"method.{each}" for each in without]
    unrolled = build("method=meta_irn_unrolled", *options).config["method"]
    assert not later & unrolled.keys()
    found = [build(f"method={each}").config["method"] for each in ("meta_irn_unrolled", "meta_irn")]
    assert later <= found[0].keys() | found[1].keys()
