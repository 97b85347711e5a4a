"""How Hydra hands a sweep of metairn-train over: all of its jobs at once, composed.

Hydra only takes plugins from a package of this name; what they do is in metairn.experiments.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class GridSweeper(BasicSweeper):
    """Hydra's own sweeper, but for composing every job twice: 11 seconds for 250 of them."""

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Leaves it to the launcher, which composes all jobs before the first one starts."""


class SweepLauncher(Launcher):
    """Composes every job of a sweep before the first one starts."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.hydra_context = hydra_context
        self.config = config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        # Imported here because Hydra imports all plugins at every start.
        from metairn.experiments.job_configuration import job_configuration

        load = self.hydra_context.config_loader.load_sweep_config
        configurations = []
        for job in job_overrides:
            configurations.append(job_configuration(load(self.config, list(job))))
            self.prepare(configurations[-1])
        self.start(configurations)
        return [JobReturn(overrides=job, status=JobStatus.COMPLETED) for job in job_overrides]

    def prepare(self, configuration: dict[str, Any]) -> None:
        """Sees each job as soon as it is composed."""

    @abstractmethod
    def start(self, configurations: list[dict[str, Any]]) -> None:
        """Does with the jobs what the launcher is for."""


class RayLauncher(SweepLauncher):
    """Runs the unfinished jobs in parallel.

    Args:
        max_parallel_runs: runs at a time; None for as many as there are processors for.
    """

    def __init__(self, max_parallel_runs: int | None) -> None:
        self.max_parallel_runs = max_parallel_runs

    def prepare(self, configuration: dict[str, Any]) -> None:
        from metairn.experiments.run_name import is_sure_to_run

        if is_sure_to_run(configuration):
            from metairn.experiments.ray_cluster import start_ray_ahead

            start_ray_ahead()

    def start(self, configurations: list[dict[str, Any]]) -> None:
        from metairn.experiments.sweep import run_sweep

        run_sweep(configurations, self.max_parallel_runs)


class DryRunLauncher(SweepLauncher):
    """Lists the jobs."""

    def start(self, configurations: list[dict[str, Any]]) -> None:
        from metairn.experiments.sweep_listing import list_sweep

        list_sweep(configurations)
