"""Reads the finished runs of a study into one table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import yaml


class NoRuns(Exception):
    """A study without finished runs."""


@dataclass(frozen=True)
class Display:
    """How a method is drawn: its yaml file says so."""

    label: str
    colour: str


@dataclass(frozen=True)
class Study:
    """The finished runs of one study.

    Args:
        name: its name.
        metrics: all rows of all runs, with the folder's keys (method, environment, seed, ...) as
            columns.
        task_keys: the columns that tell tasks apart: environment, length, ...
        display: per method, how it is drawn.
        unfinished: folders of runs that have not ended.
    """

    name: str
    metrics: pd.DataFrame
    task_keys: list[str]
    display: dict[str, Display]
    unfinished: list[Path]

    def tasks(self) -> list[tuple[dict, pd.DataFrame]]:
        """Each task's keys and its rows, shorter lengths first."""
        return [
            (dict(zip(self.task_keys, values, strict=True)), rows)
            for values, rows in self.metrics.groupby(self.task_keys, sort=True)
        ]

    @property
    def score(self) -> str:
        """The column that methods are compared by: optimality wherever the optimum is known."""
        return "optimality" if "optimality" in self.metrics else "evaluation_return_mean"


def load_study(root: Path, name: str) -> Study:
    """Reads every finished run below root/name.

    Raises:
        NoRuns: if there is none.
    """
    folders = sorted(path.parent for path in (root / name).glob("**/config.yaml"))
    finished = [folder for folder in folders if (folder / "DONE").exists()]
    if not finished:
        raise NoRuns(f"study={name} has no finished runs in {root}; metairn-train makes some.")
    tables, display = [], {}
    for folder in finished:
        keys = dict(part.split("=", 1) for part in folder.relative_to(root / name).parts)
        values = {key: _number(unquote(value)) for key, value in keys.items()}
        tables.append(pd.read_parquet(folder / "metrics.parquet").assign(**values))
        if values["method"] not in display:
            method = yaml.safe_load((folder / "config.yaml").read_text())["method"]
            display[str(values["method"])] = Display(**method["display"])
    task_keys = [key for key in values if key not in ("method", "seed")]
    metrics = pd.concat(tables, ignore_index=True)
    unfinished = [folder for folder in folders if folder not in finished]
    return Study(name, metrics, task_keys, display, unfinished)


def _number(text: str) -> int | str:
    return int(text) if text.isdecimal() else text
