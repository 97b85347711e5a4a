"""Credit and attention of a study's methods over training, averaged over runs and episodes."""

from __future__ import annotations

import zipfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from metairn.results.load import Run, Study, StudyError

ARRAYS = ("credit_matrix", "attention", "ground_truth")


@dataclass(frozen=True)
class CreditMap:
    """What a method makes of a task at one moment of training.

    Args:
        env_steps: that it has learned from.
        credit: C[t,j], how much of the reward at j the action at t gets, [T,T].
        attention: how much step t looks at step j, [T,T]; None for methods that do not attend.
        truth: the share of the reward at j that the action at t caused, [T,T].
        runs: of how many runs this is the mean.
    """

    env_steps: int
    credit: np.ndarray
    attention: np.ndarray | None
    truth: np.ndarray
    runs: int


def load_credit_maps(
    study: Study, task: str, seeds: Collection[int] | None = None
) -> dict[str, list[CreditMap]]:
    """Each method's maps, in the order of training; empty without a ground truth.

    Episodes have to have one length, or a mean over them would mean nothing: a task of others has
    no maps here.

    Args:
        study: whose runs.
        task: its name.
        seeds: of the runs to average; None for all.

    Raises:
        StudyError: if a file is damaged.
    """
    maps = {}
    for method in study.display:
        cell = [r for r in study.cell(task, method) if seeds is None or r.seed in seeds]
        by_iteration: dict[int, list[dict[str, np.ndarray]]] = {}
        for run in cell:
            for path in sorted((run.folder / "credit").glob("iteration=*.npz")):
                iteration = int(path.stem.partition("=")[2])
                by_iteration.setdefault(iteration, []).append(_read(path))
        if not by_iteration or not _one_length(by_iteration):
            return {}
        env_steps = _env_steps(study, cell[0])
        maps[method] = [
            _mean(env_steps[iteration], arrays)
            for iteration, arrays in sorted(by_iteration.items())
        ]
    return maps


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path) as file:
            return {name: file[name] for name in ("mask", *ARRAYS) if name in file}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise StudyError(f"{path} is damaged; remove it to leave its maps out.") from error


def _one_length(by_iteration: dict[int, list[dict[str, np.ndarray]]]) -> bool:
    every = [arrays for many in by_iteration.values() for arrays in many]
    same = len({arrays["credit_matrix"].shape[1:] for arrays in every}) == 1
    return same and all("ground_truth" in a and a["mask"].all() for a in every)


def _env_steps(study: Study, run: Run) -> dict[int, int]:
    rows = study.metrics
    for key, value in run.keys.items():
        rows = rows[rows[key] == value]
    return dict(zip(rows["iteration"], rows["env_steps"], strict=True))


def _mean(env_steps: int, runs: list[dict[str, np.ndarray]]) -> CreditMap:
    means = {
        name: np.concatenate([arrays[name] for arrays in runs]).mean(axis=0)
        for name in ARRAYS
        if name in runs[0]
    }
    attention = means.get("attention")
    return CreditMap(
        int(env_steps), means["credit_matrix"], attention, means["ground_truth"], len(runs)
    )
