"""Runs the unfinished jobs of a sweep side by side on one Ray cluster.

A job is a Ray task: Ray keeps worker processes for the tasks that follow, so that only the first
run of a process pays for starting it, and a process that dies takes its own run along only. Nothing
is sent back but a sentence; how far a run is, and whether it is finished, its folder says.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import ray
from omegaconf import OmegaConf
from ray.exceptions import RayError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from metairn.experiments.build import build_experiment
from metairn.experiments.ray_cluster import bundles, start_ray
from metairn.experiments.settings import BadInput, RunFailed
from metairn.experiments.single_run import finish_run, in_a_line
from metairn.experiments.sweep_plan import Job, plan_sweep
from metairn.experiments.sweep_progress import SweepProgress
from metairn.results.folder_lock import RunFolderError, RunFolderInUse

# Seconds between looks at run folders, and until a run that another process holds is tried again.
LOOK_INTERVAL_S = 0.5
IN_USE_INTERVAL_S = 2.0


def run_sweep(configurations: Sequence[dict[str, Any]], max_parallel_runs: int | None) -> None:
    """Runs every job that is not finished, whatever happens to the others.

    Args:
        configurations: the jobs' composed configurations in plain types.
        max_parallel_runs: runs at a time; None for as many as there are processors for.

    Raises:
        BadInput: for any mistake in any job, before the first one starts.
        RunFailed: at the end, for all runs that failed.
    """
    if max_parallel_runs is not None and (
        type(max_parallel_runs) is not int or max_parallel_runs < 1
    ):
        raise BadInput(
            f"hydra.launcher.max_parallel_runs={max_parallel_runs} is not allowed: it must be null "
            "or a whole number of at least 1."
        )
    jobs = plan_sweep(configurations)
    waiting = [job for job in jobs if not job.is_finished]
    with SweepProgress(jobs) as progress:
        if waiting:
            start_ray(*(job.training for job in waiting), inside=True)
            Sweep(waiting, max_parallel_runs, progress).run()
    if progress.failures:
        raise RunFailed("\n".join(progress.failures))


class Sweep:
    """The jobs that wait and those that run.

    Args:
        jobs: what is to run.
        max_parallel_runs: runs at a time; None for as many as there are processors for.
        progress: told what happens.
    """

    def __init__(
        self, jobs: Sequence[Job], max_parallel_runs: int | None, progress: SweepProgress
    ) -> None:
        self.waiting = list(jobs)
        self.most = max_parallel_runs or len(jobs)
        self.progress = progress
        self.running: dict[ray.ObjectRef, tuple[Job, PlacementGroup | None]] = {}
        self.not_before_s: dict[str, float] = {}

    def run(self) -> None:
        """Returns once every job is done or has failed."""
        try:
            while self.waiting or self.running:
                self._start()
                if self.running:
                    ended, _ = ray.wait(list(self.running), timeout=LOOK_INTERVAL_S)
                    for task in ended:
                        self._end(task)
                else:
                    time.sleep(LOOK_INTERVAL_S)
                self.progress.look()
        finally:
            for task in list(self.running):
                ray.cancel(task, force=True)

    def _start(self) -> None:
        """Starts jobs in their order as long as there is room for the next one."""
        total = Counter(ray.cluster_resources())
        taken = sum((_needs(job) for job, _ in self.running.values()), Counter())
        for job in list(self.waiting):
            if time.monotonic() < self.not_before_s.get(job.label, 0.0):
                continue
            taken += _needs(job)
            if len(self.running) >= self.most or any(taken[k] > total[k] for k in taken):
                return
            self.waiting.remove(job)
            task, group = _submit(job)
            self.running[task] = (job, group)
            self.progress.started(job)

    def _end(self, task: ray.ObjectRef) -> None:
        job, group = self.running.pop(task)
        try:
            how, text = ray.get(task)
        except RayError as error:
            # Its process died, or could not even begin.
            how = "failed"
            text = f"{job.label} failed: {in_a_line(error)} (what it wrote is kept in {job.folder})"
        if group is not None:
            remove_placement_group(group)
        if how == "in use":
            # Perhaps of a sweep that was killed a moment ago; or another sweep is at it.
            self.not_before_s[job.label] = time.monotonic() + IN_USE_INTERVAL_S
            self.waiting.append(job)
        self.progress.ended(job, how, text)


def _needs(job: Job) -> Counter[str]:
    needs: Counter[str] = Counter()
    for bundle in bundles(job.training):
        needs.update(bundle)  # type: ignore[arg-type]
    return needs


def _submit(job: Job) -> tuple[ray.ObjectRef, PlacementGroup | None]:
    """Hands a job to Ray; one of several processes with a reservation for all of them.

    Without one, two runs that each hold a processor and wait for another would wait forever.
    """
    parts = bundles(job.training)
    # Runs are never repeated by themselves: the next sweep continues them.
    options: dict[str, Any] = {"max_retries": 0, "name": job.label}
    group = None
    if len(parts) > 1:
        group = placement_group(parts)
        options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(
            group, placement_group_bundle_index=0, placement_group_capture_child_tasks=True
        )
    main = parts[0]
    task = ray.remote(_job_process).options(
        num_cpus=main["CPU"], num_gpus=main.get("GPU", 0), **options
    )
    return task.remote(job.config), group


def _job_process(config: dict[str, Any]) -> tuple[str, str]:
    """One job in a worker process: how it ended ("done", "failed", "in use") and a sentence."""
    try:
        return "done", finish_run(build_experiment(OmegaConf.create(config)))
    except RunFolderInUse as error:
        return "in use", str(error)
    except (RunFailed, BadInput, RunFolderError) as error:
        return "failed", str(error)
    except Exception as error:
        return "failed", in_a_line(error)
