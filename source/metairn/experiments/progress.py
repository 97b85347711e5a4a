"""How far a run is: a bar with the time left on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

# Seconds between lines where there is no terminal.
LINE_INTERVAL_S = 10.0


class Progress:
    """Shows a run's env steps and latest figures.

    Args:
        label: what the run is called.
        budget_env_steps: where it ends.
    """

    def __init__(self, label: str, budget_env_steps: int) -> None:
        self.label = label
        self.budget = budget_env_steps
        self.console = Console()
        self.latest = ""
        self.bar: RichProgress | None = None
        if self.console.is_terminal:
            self.bar = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[latest]}"),
                console=self.console,
            )

    def __enter__(self) -> Progress:
        self.started_s = self.shown_s = time.perf_counter()
        self.first_env_steps: int | None = None
        if self.bar is not None:
            self.bar.start()
            self.task = self.bar.add_task(self.label, total=self.budget, latest="")
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def show(self, env_steps: int, row: dict[str, Any]) -> None:
        """Shows where the run is.

        Args:
            env_steps: env steps so far.
            row: the newest iteration's figures.
        """
        if self.first_env_steps is None:
            self.first_env_steps = env_steps
        for name in ("evaluation_return_mean", "optimality"):
            if name in row:
                text = name.replace("evaluation_", "").replace("_mean", "")
                self.latest = f"{text} {row[name]:.2f}"
        if self.bar is not None:
            self.bar.update(self.task, completed=min(env_steps, self.budget), latest=self.latest)
            return
        now = time.perf_counter()
        if now - self.shown_s >= LINE_INTERVAL_S:
            self.shown_s = now
            rate = (env_steps - self.first_env_steps) / (now - self.started_s)
            # Whole episodes may go past the budget.
            left = max(self.budget - env_steps, 0) / max(rate, 1e-9)
            parts = [f"{env_steps} of {self.budget} env steps", self.latest, f"{left:.0f} s left"]
            print(f"{self.label}: {', '.join(filter(None, parts))}", flush=True)
