"""Reads the runs of a study into one table; runs that cannot be used are named, never patched up.

Which runs may stand beside each other is `consistency.py`'s business.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import yaml

from metairn.results.metrics_lines import read_rows

# The bracket that methods are compared with from below, and the one that holds them from above.
REFERENCE, UPPER_BRACKET = "ppo", "oracle"

Key = int | str


class StudyError(Exception):
    """A study that cannot be reported: one sentence that says why and what to do."""


@dataclass(frozen=True)
class Display:
    """How a method is drawn: its yaml file says so."""

    label: str
    colour: str


@dataclass(frozen=True)
class Run:
    """A finished run without its rows.

    Args:
        folder: where it is.
        keys: what its folder's name says: method, environment, ..., seed.
        config: its resolved configuration.
        summary: its final figures.
        provenance: code, versions and host.
        schema: columns of its metrics.parquet.
    """

    folder: Path
    keys: dict[str, Key]
    config: dict[str, Any]
    summary: dict[str, Any]
    provenance: dict[str, Any]
    schema: pa.Schema

    @property
    def seed(self) -> int:
        """The last of its keys."""
        return int(self.keys["seed"])


@dataclass(frozen=True)
class LeftOut:
    """A run that is not part of the study's numbers: its folder, its keys and why."""

    folder: Path
    keys: dict[str, Key]
    reason: str


@dataclass(frozen=True)
class Study:
    """The finished runs of one study.

    Args:
        name: its name.
        metrics: all rows of all runs, with the folders' keys (method, environment, seed, ...) as
            columns, and `task`, the name of what is solved: "length 50".
        runs: the runs, in the order of their folders.
        left_out: runs that have not ended, have failed or are damaged.
    """

    name: str
    metrics: pd.DataFrame
    runs: list[Run]
    left_out: list[LeftOut]

    @cached_property
    def tasks(self) -> dict[str, dict[str, Key]]:
        """Each task's keys, by its name; shorter lengths first."""
        tasks = {task_name(run.keys, self._environments): task_keys(run.keys) for run in self.runs}
        order = sorted(tasks, key=lambda t: [(type(v) is str, v) for v in tasks[t].values()])
        return {task: tasks[task] for task in order}

    @cached_property
    def display(self) -> dict[str, Display]:
        """How each method is drawn; the reference first, the upper bracket last."""
        found = {str(r.keys["method"]): Display(**r.config["method"]["display"]) for r in self.runs}
        ends = {REFERENCE: -1, UPPER_BRACKET: 1}
        return {m: found[m] for m in sorted(found, key=lambda m: (ends.get(m, 0), m))}

    @property
    def score(self) -> str:
        """The column that methods are compared by: optimality wherever the optimum is known."""
        return "optimality" if "optimality" in self.metrics else "evaluation_return_mean"

    def cell(self, task: str, method: str) -> list[Run]:
        """The runs of one method on one task, by seed."""
        keys = self.tasks[task] | {"method": method}
        runs = [run for run in self.runs if keys.items() <= run.keys.items()]
        return sorted(runs, key=lambda run: run.seed)

    @property
    def _environments(self) -> int:
        return len({run.keys["environment"] for run in self.runs})


def task_keys(keys: dict[str, Key]) -> dict[str, Key]:
    """What tells tasks apart: everything but method and seed."""
    return {key: value for key, value in keys.items() if key not in ("method", "seed")}


def task_name(keys: dict[str, Key], num_environments: int) -> str:
    """The task in words; its environment is one of them where a study has several."""
    named = {k: v for k, v in task_keys(keys).items() if k != "environment"}
    words = [f"{key} {value}" for key, value in named.items()]
    if num_environments > 1 or not words:
        words.insert(0, str(keys["environment"]))
    return ", ".join(words)


def load_study(root: Path, name: str) -> Study:
    """Reads every run below root/name.

    Raises:
        StudyError: if none is finished.
    """
    runs, left_out = [], []
    for config in sorted((root / name).glob("method=*/**/config.yaml")):
        folder = config.parent
        keys = folder_keys(folder, root / name)
        try:
            runs.append(_read_run(folder, keys))
        except ValueError as error:
            left_out.append(LeftOut(folder, keys, str(error)))
    if not runs:
        why = f" ({left_out[0].folder}: {left_out[0].reason})" if left_out else ""
        raise StudyError(
            f"study={name} has no finished runs in {root}{why}; metairn-train study={name} "
            "makes some."
        )
    return Study(name, _read_metrics(root / name, runs), runs, left_out)


def folder_keys(folder: Path, root: Path) -> dict[str, Key]:
    """The keys in a hive-partitioned folder's name, whole numbers as such."""
    parts = (part.partition("=") for part in folder.relative_to(root).parts)
    return {key: _number(unquote(value)) for key, _, value in parts}


def _number(text: str) -> Key:
    return int(text) if text.isdecimal() else text


def _read_run(folder: Path, keys: dict[str, Key]) -> Run:
    """What stands beside a run's rows, once those are known to be whole.

    Raises:
        ValueError: if the run has not ended or a file of its is damaged; says which.
    """
    if not (folder / "DONE").exists():
        traceback = folder / "error.txt"
        if traceback.exists():
            *_, last = ["no message", *traceback.read_text().strip().splitlines()]
            raise ValueError(f"failed, {last.strip()}")
        raise ValueError("not ended")
    contents: list[Any] = []
    for name, read in (
        ("metrics.jsonl", _read_lines),
        ("metrics.parquet", pq.read_metadata),
        ("config.yaml", _read_mapping),
        ("summary.json", _read_mapping),
        ("provenance.json", _read_mapping),
    ):
        try:
            contents.append(read(folder / name))
        except FileNotFoundError as error:
            raise ValueError(f"damaged, {name} is missing") from error
        except (ValueError, OSError, pa.ArrowException, yaml.YAMLError) as error:
            detail = " ".join(str(error).split())[:120]
            raise ValueError(f"damaged, {name}: {detail}") from error
    rows, table, config, summary, provenance = contents
    if rows is not None and len(rows) != table.num_rows:
        raise ValueError(
            f"damaged, metrics.jsonl has {len(rows)} lines but metrics.parquet {table.num_rows}"
        )
    return Run(folder, keys, config, summary, provenance, table.schema.to_arrow_schema())


def _read_lines(path: Path) -> list[dict[str, Any]] | None:
    """The lines of a run as it went; None where only what it ended with has been kept."""
    return read_rows(path) if path.exists() else None


def _read_mapping(path: Path) -> dict[str, Any]:
    read = yaml.safe_load if path.suffix == ".yaml" else json.loads
    content = read(path.read_text())
    if not isinstance(content, dict):
        raise ValueError("it holds no keys and values")
    return content


def _read_metrics(root: Path, runs: list[Run]) -> pd.DataFrame:
    """All rows of the runs, with their folders' keys and the name of their task."""
    names = {key for run in runs for key in run.keys}
    texts = {k for k in names if any(isinstance(run.keys.get(k), str) for run in runs)}
    keys = pa.schema([(key, pa.string() if key in texts else pa.int64()) for key in sorted(names)])
    # A column that a method lacks is empty in its rows, whichever run comes first.
    columns = pa.unify_schemas([run.schema for run in runs], promote_options="permissive")
    paths = {str(run.folder / "metrics.parquet"): run for run in runs}
    dataset = ds.dataset(
        list(paths),
        schema=pa.unify_schemas([columns.remove_metadata(), keys]),
        partitioning=ds.partitioning(keys, flavor="hive"),
        partition_base_dir=str(root),
        format="parquet",
    )
    metrics = dataset.to_table(columns=[*dataset.schema.names, "__filename"]).to_pandas()
    environments = len({run.keys["environment"] for run in runs})
    tasks = {path: task_name(run.keys, environments) for path, run in paths.items()}
    metrics.insert(0, "task", metrics.pop("__filename").map(tasks))
    return metrics
