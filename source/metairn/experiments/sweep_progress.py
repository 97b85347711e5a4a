"""How far a sweep is: counts, time left and the runs under way, live on a terminal, else in lines.

Worker processes are not asked: a run's folder says how far it is.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from metairn.experiments.sweep_plan import Job, newest_row

# Seconds between lines about the sweep where there is no terminal; every end of a run has its own.
LINE_INTERVAL_S = 30.0


class SweepProgress:
    """Shows where a sweep is.

    Args:
        jobs: all of its jobs.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs = jobs
        self.skipped = sum(job.is_finished for job in jobs)
        self.done = 0
        self.failures: list[str] = []
        self.running: dict[str, Job] = {}
        # Env steps that each unfinished run has had, has, and will have had.
        self.before = {job.label: job.env_steps() for job in jobs if not job.is_finished}
        self.env_steps = dict(self.before)
        self.budget = {
            job.label: job.training.budget_env_steps for job in jobs if not job.is_finished
        }
        self.console = Console(highlight=False, soft_wrap=True)
        self.live: Live | None = None

    def __enter__(self) -> SweepProgress:
        self.started_s = self.shown_s = time.perf_counter()
        self.first: tuple[float, int] | None = None
        if self.skipped:
            self._say(f"{self.skipped} of {len(self.jobs)} runs finished before")
        if self.console.is_terminal and self.skipped < len(self.jobs):
            self.live = Live(self._picture(), console=self.console, auto_refresh=False)
            self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.live is not None:
            self.live.stop()
        if kind is None:
            self._say(f"{self._counts()}; {duration(time.perf_counter() - self.started_s)}")

    def started(self, job: Job) -> None:
        """A run begins."""
        self.running[job.label] = job

    def ended(self, job: Job, how: str, text: str) -> None:
        """A run is over, or has to wait.

        Args:
            job: which.
            how: "done", "failed", or "in use" if another process holds its folder.
            text: what came out.
        """
        del self.running[job.label]
        if how == "in use":
            return
        if how == "failed":
            self.failures.append(text)
            # What it will not do is no time left.
            self.budget[job.label] = self.env_steps[job.label]
        else:
            self.done += 1
            self.env_steps[job.label] = self.budget[job.label]
        count = self.done + len(self.failures) + self.skipped
        self._say(f"[{count}/{len(self.jobs)}] {text}")

    def look(self) -> None:
        """Reads how far the running runs are and shows it."""
        for label, job in self.running.items():
            row = newest_row(job.folder)
            if row is not None:
                self.env_steps[label] = max(self.env_steps[label], row["env_steps"])
        total = sum(self.env_steps.values())
        if self.first is None and total > sum(self.before.values()):
            self.first = (time.perf_counter(), total)
        if self.live is not None:
            self.live.update(self._picture(), refresh=True)
        elif time.perf_counter() - self.shown_s >= LINE_INTERVAL_S:
            self.shown_s = time.perf_counter()
            self._say(f"{self._counts()}; {self._time_left()}")

    def _say(self, text: str) -> None:
        self.console.print(text, markup=False)

    def _counts(self) -> str:
        parts = {
            "done": self.done,
            "running": len(self.running),
            "failed": len(self.failures),
            "skipped as finished": self.skipped,
        }
        named = ", ".join(f"{number} {name}" for name, number in parts.items() if number)
        return f"{len(self.jobs)} runs: {named or 'none has begun'}"

    def _time_left(self) -> str:
        """From the env steps per second of all runs together, since the first ones."""
        now, total = time.perf_counter(), sum(self.env_steps.values())
        left = sum(self.budget.values()) - total
        if self.first is None or total == self.first[1]:
            return "time left not known yet"
        rate = (total - self.first[1]) / (now - self.first[0])
        return f"about {duration(left / rate)} left"

    def _picture(self) -> Group:
        table = Table.grid(padding=(0, 2))
        bar = ProgressBar(
            total=max(sum(self.budget.values()), 1),
            completed=sum(self.env_steps.values()),
            width=30,
        )
        table.add_row(Text(self._counts()), bar, Text(self._time_left()))
        for label, job in list(self.running.items())[: max(self.console.height - 4, 1)]:
            share = ProgressBar(total=self.budget[label], completed=self.env_steps[label], width=30)
            table.add_row(Text(f"  {label}"), share, Text(_newest_result(job)))
        return Group(table)


def _newest_result(job: Job) -> str:
    row = newest_row(job.folder) or {}
    shown = {"optimality": "optimality", "training_return_mean": "return"}
    return next((f"{text} {row[name]:.2f}" for name, text in shown.items() if name in row), "")


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"
