"""The figures of a run's summary, on tables made by hand."""

import json
import math

import pandas as pd
import pytest

from metairn.results.run_record import RunRecord
from metairn.results.summary import summarise


def table_of(optimality, marks=None):
    """Rows whose evaluations are these; None is an iteration without one."""
    marks = range(0, 2000 * len(optimality), 2000) if marks is None else marks
    return pd.DataFrame(
        {
            "iteration": i,
            "env_steps": 1000 * i,
            "evaluation_mark_env_steps": None if value is None else mark,
            "optimality": value,
            "wall_time_s": 0.5 * i,
        }
        for i, (value, mark) in enumerate(zip(optimality, marks, strict=True))
    )


@pytest.mark.parametrize(
    ("optimality", "reached"),
    [
        ([0.0, 0.5, 0.95, 0.95], 4000),
        ([0.9, 0.9], 0),
        ([0.0, 0.9, 0.9, 0.1], 2000),
        ([0.0, 0.95, 0.5, 0.95, 0.91], 6000),
        ([0.0, 0.95, 0.5, 0.95], None),
        ([0.0, 0.5, 0.95], None),
        ([0.8999, 0.8999, 0.8999], None),
        ([0.95], None),
        ([None, 0.95, None, None, 0.95, None], 2000),
        ([None, 0.95, None, 0.5, None, 0.95], None),
    ],
)
def test_90pct_is_reached_at_the_first_of_two_good_evaluations_in_a_row(optimality, reached):
    assert summarise(table_of(optimality))["env_steps_to_90pct"] == reached


def test_90pct_is_the_mark_and_not_the_policys_env_steps():
    assert summarise(table_of([0.1, 0.95, 0.95], [0, 5000, 9000]))["env_steps_to_90pct"] == 5000


def test_90pct_is_null_without_a_known_optimum():
    table = table_of([0.95, 0.95]).drop(columns="optimality")
    summary = summarise(table)
    assert summary["env_steps_to_90pct"] is None
    assert "optimality" not in summary


@pytest.mark.parametrize(
    ("values", "final"),
    [
        ([1.0, 2.0, 3.0], 3.0),
        ([1.0, 2.0, None], 2.0),
        ([0.0, 0.0, 0.0], 0.0),
        ([1.0, 0.0, None], 0.0),
        ([None, 0.0, None], 0.0),
        ([5, 0, 0], 0),
    ],
)
def test_final_value_is_the_last_one_that_is_there(values, final):
    table = table_of([0.1, 0.2, 0.3]).assign(figure=values)
    assert summarise(table)["figure"] == final


def test_column_without_any_value_is_left_out():
    table = table_of([0.1, 0.2]).assign(figure=[None, None])
    assert "figure" not in summarise(table)


def test_speed_is_env_steps_by_wall_time():
    assert summarise(table_of([0.1, 0.2, 0.3]))["env_steps_per_second"] == 2000 / 1.0


def test_summary_is_plain_json():
    summary = summarise(table_of([0.1, 0.95, 0.95]))
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_counts_are_whole_numbers_in_the_summary(tmp_path):
    record = RunRecord(tmp_path / "run", {})
    record.start({}, None)
    for i, mark in enumerate([0, None, 2000]):
        figures = {"iteration": i, "env_steps": 1000 * i, "evaluation_mark_env_steps": mark}
        record.append(figures | {"wall_time_s": 0.5 * i})
    summary = record.finish()
    record.close()
    for name in ("iteration", "env_steps"):
        assert type(summary[name]) is int, name
    assert not math.isnan(summary["env_steps_per_second"])
