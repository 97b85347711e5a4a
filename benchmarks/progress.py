"""How far the benchmarks are: a bar with the time left on a terminal, lines elsewhere."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

# Seconds between lines where there is no terminal.
LINE_INTERVAL_S = 10.0


class Progress:
    """Shows what is being measured.

    Args:
        steps: calls of `advance` to come.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.done = -1
        self.console = Console()
        self.bar: RichProgress | None = None
        if self.console.is_terminal:
            self.bar = RichProgress(
                BarColumn(),
                TaskProgressColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.description}"),
                console=self.console,
                # Redrawn only between turns, so that drawing is in no measurement.
                auto_refresh=False,
            )

    def __enter__(self) -> Progress:
        self.started_s = self.shown_s = time.perf_counter()
        if self.bar is not None:
            self.bar.start()
            self.task = self.bar.add_task("start", total=self.steps)
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def advance(self, what: str) -> None:
        """Says that one more step begins.

        Args:
            what: which.
        """
        self.done += 1
        if self.bar is not None:
            self.bar.update(self.task, completed=self.done, description=what, refresh=True)
            return
        now = time.perf_counter()
        if now - self.shown_s >= LINE_INTERVAL_S:
            self.shown_s = now
            left = (self.steps - self.done) * (now - self.started_s) / self.done
            print(f"{self.done} of {self.steps}: {what}, {left:.0f} s left", flush=True)
