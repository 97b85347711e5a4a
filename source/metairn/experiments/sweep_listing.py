"""What a sweep would do, as a table: one row for runs that differ in their seed only."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from metairn.experiments.ray_cluster import bundles, cores
from metairn.experiments.sweep_plan import Job, plan_sweep
from metairn.experiments.sweep_progress import duration


def list_sweep(configurations: Sequence[dict[str, Any]]) -> None:
    """Prints what is finished, what would run, and an estimate of how long that takes.

    Args:
        configurations: the jobs' composed configurations in plain types.

    Raises:
        BadInput: for any mistake in any job.
    """
    jobs = plan_sweep(configurations)
    cells: dict[str, list[Job]] = {}
    for job in jobs:
        cells.setdefault(job.cell, []).append(job)
    table = Table("runs", "finished", "begun", "to run", "estimated")
    known_s, unknown = 0.0, 0
    for cell, members in cells.items():
        rest = [job for job in members if not job.is_finished]
        begun = sum(job.env_steps() > 0 for job in rest)
        seconds = _estimated_s(rest)
        known_s += seconds or 0.0
        unknown += len(rest) if seconds is None else 0
        table.add_row(
            cell,
            str(len(members) - len(rest)),
            str(begun),
            str(len(rest)),
            "?" if seconds is None else duration(seconds),
        )
    console = Console(highlight=False)
    # Cut to a terminal's width, a table in a file would lose its last columns.
    console = console if console.is_terminal else Console(highlight=False, width=120)
    console.print(table)
    rest = [job for job in jobs if not job.is_finished]
    print(f"{len(jobs)} runs: {len(jobs) - len(rest)} finished, {len(rest)} to run")
    if rest:
        print(_time_text(rest, known_s, unknown))


def _time_text(rest: Sequence[Job], known_s: float, unknown: int) -> str:
    if unknown == len(rest):
        return "estimated time: not known before the first run of this study has finished"
    text = f"estimated time: {duration(known_s)} one after the other"
    if "RAY_ADDRESS" not in os.environ:
        # What one run reserves, the others cannot have.
        share = sum(len(bundles(job.training)) for job in rest) / len(rest)
        parallel = max(min(cores() / share, len(rest)), 1)
        text += f", {duration(known_s / parallel)} on the {cores()} cores of this machine"
    if unknown:
        text += f", and {unknown} runs of methods that none has finished of yet"
    return text


def _estimated_s(rest: Sequence[Job]) -> float | None:
    """Seconds for what is left of these runs, at the speed of finished ones like them.

    Runs of the same cell are asked first, then those of the method at any length.
    """
    if not rest:
        return 0.0
    cell = rest[0].folder.parent
    method = next(path for path in cell.parents if path.name.startswith("method="))
    speed = _seconds_per_env_step(cell, "*/") or _seconds_per_env_step(method, "**/")
    if speed is None:
        return None
    return sum(speed * (job.training.budget_env_steps - job.env_steps()) for job in rest)


def _seconds_per_env_step(folder: Path, below: str) -> float | None:
    summaries = [json.loads(path.read_text()) for path in folder.glob(f"{below}summary.json")]
    env_steps = sum(summary["env_steps"] for summary in summaries)
    return sum(summary["wall_time_s"] for summary in summaries) / env_steps if env_steps else None
