"""A run in a few figures."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd


def summarise(table: pd.DataFrame) -> dict[str, Any]:
    """Final value of each column, env steps to 90% and training speed.

    Args:
        table: a run's rows.

    Returns:
        Last value of each column, and
        env_steps_to_90pct: first mark from which optimality >= 0.90 at two evaluations in a row;
        None if never, or if the environment has no known optimum;
        env_steps_per_second: env steps by wall time, evaluation included.
    """
    last = {
        name: column.dropna().iloc[-1] for name, column in table.items() if column.notna().any()
    }
    summary = {str(name): _plain(value) for name, value in last.items()}
    to_90pct = None
    if "optimality" in table:
        marks = table.dropna(subset=["optimality"])
        good = marks["optimality"] >= 0.9
        twice = (good & good.shift(-1, fill_value=False)).to_numpy()
        if twice.any():
            to_90pct = int(marks["evaluation_mark_env_steps"].iloc[int(twice.argmax())])
    summary["env_steps_to_90pct"] = to_90pct
    wall_time = summary.get("wall_time_s") or math.nan
    summary["env_steps_per_second"] = summary.get("env_steps", 0) / wall_time
    return summary


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
