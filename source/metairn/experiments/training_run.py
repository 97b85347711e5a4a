"""One run from its first iteration, or from its last checkpoint, to its DONE."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from metairn.credit_assignment.pretrained import fingerprint
from metairn.experiments.build import Experiment
from metairn.experiments.progress import Progress
from metairn.experiments.ray_cluster import start_ray
from metairn.experiments.settings import BadInput
from metairn.intrinsic_attention_ppo import IntrinsicAttentionPPO
from metairn.results.run_record import RunRecord

# Credit maps are kept before the first iteration and after each tenth of the budget, of so many
# evaluation episodes: most of a finished run's size. A map of T steps takes T^3 numbers to make;
# past T = 256 there is none, while credit_on_cause, which takes T^2, is measured at any length.
MAPPED_MOMENTS, MAPPED_EPISODES, MAPPED_NUMBERS = 10, 2, 2**24


def evaluation_mark(previous: int, now: int, batch: int, interval: int, budget: int) -> int | None:
    """The mark at which the policy of this moment is evaluated; None for none.

    A policy stands for the marks from its env step count up to the next iteration's. At most one of
    them is evaluated, the others have the same policy; a run's end is always a mark. A mark that an
    iteration ran past gets the next policy there is; `env_steps` says how far that one was.

    Args:
        previous: the last mark evaluated; -1 for none.
        now: env steps that the policy has learned from.
        batch: env steps until the next policy, as planned.
        interval: env steps between marks.
        budget: env steps of the run.
    """
    if now >= budget:
        return budget if previous < budget else None
    mark = -(-now // interval) * interval
    missed = mark - interval
    if missed > previous and now < mark:
        # An iteration longer than planned ran past a mark: this policy is the nearest there is.
        return missed
    return mark if mark > previous and mark < now + batch and mark < budget else None


class TrainingRun:
    """Trains an Experiment into its run folder.

    Args:
        experiment: what to run.
        record: its run folder, open.
    """

    def __init__(self, experiment: Experiment, record: RunRecord) -> None:
        self.experiment = experiment
        self.record = record
        self.last_mark = -1
        self.mapped_moment = -1

    def run(self) -> dict[str, Any]:
        """Trains to the budget and returns the summary.

        Raises:
            BadInput: if the checkpoint to resume from cannot be read.
        """
        torch.set_num_threads(self.experiment.training.num_threads)
        start_ray(self.experiment.training)
        algorithm = self.experiment.algorithm.build_algo()
        try:
            self._begin(algorithm)
            self._train(algorithm)
            algorithm.save_credit_assigner(self.record.folder / "credit_assigner.pt")
            return self.record.finish()
        finally:
            algorithm.stop()

    def _begin(self, algorithm: IntrinsicAttentionPPO) -> None:
        checkpoint = self.record.checkpoint
        iteration = None
        if checkpoint is not None:
            restore(algorithm, checkpoint)
            iteration = algorithm.training_iteration
        origin = provenance()
        pretrained = self.experiment.algorithm.credit_assigner_settings.get("pretrained")
        if pretrained is not None:
            origin["pretrained_sha256"] = fingerprint(pretrained)
        self.record.start(origin, iteration)
        rows = self.record.rows
        if iteration is not None and (not rows or rows[-1]["iteration"] != iteration):
            raise BadInput(
                f"{checkpoint} is of iteration {iteration}, which metrics.jsonl does not have; "
                "force=true starts the run over."
            )
        self.elapsed_s = rows[-1]["wall_time_s"] if rows else 0.0
        marks = [row["evaluation_mark_env_steps"] for row in rows]
        self.last_mark = max((mark for mark in marks if mark is not None), default=-1)
        if iteration is not None:
            self.mapped_moment = self._moment(algorithm.env_steps)
        self.started_s = time.perf_counter() - self.elapsed_s
        if iteration is None:
            self._end_iteration(algorithm, {})

    def _train(self, algorithm: IntrinsicAttentionPPO) -> None:
        training = self.experiment.training
        saved_at = algorithm.env_steps
        with Progress(self.experiment.label, training.budget_env_steps) as progress:
            progress.show(algorithm.env_steps, self.record.rows[-1])
            while algorithm.env_steps < training.budget_env_steps:
                figures = algorithm.iteration_metrics(algorithm.train())
                row = self._end_iteration(algorithm, figures)
                progress.show(algorithm.env_steps, row)
                due = algorithm.env_steps - saved_at >= training.checkpoint_interval_env_steps
                if due and algorithm.env_steps < training.budget_env_steps:
                    saved_at = algorithm.env_steps
                    self.record.save_checkpoint(algorithm.save_to_path)
        self.record.save_checkpoint(algorithm.save_to_path)

    def _end_iteration(
        self, algorithm: IntrinsicAttentionPPO, figures: dict[str, float]
    ) -> dict[str, Any]:
        """Evaluates if a mark is due and records the iteration."""
        training, now = self.experiment.training, algorithm.env_steps
        mark = evaluation_mark(
            self.last_mark,
            now,
            training.train_batch_env_steps,
            training.evaluation_interval_env_steps,
            training.budget_env_steps,
        )
        row = {
            "iteration": algorithm.training_iteration,
            "env_steps": now,
            "evaluation_mark_env_steps": mark,
        }
        if mark is not None:
            self.last_mark = mark
            row |= self._evaluate(algorithm, mark)
        self._save_maps(algorithm, mark)
        row |= figures | {"wall_time_s": time.perf_counter() - self.started_s}
        self.record.append(row)
        return row

    def _evaluate(self, algorithm: IntrinsicAttentionPPO, mark: int) -> dict[str, float]:
        """The policy as it acts and its mode, on the same fresh episodes' random numbers."""
        count = self.experiment.training.evaluation_episodes

        acting, greedy = (
            algorithm.evaluate_policy(count, explore, round_index=mark) for explore in (True, False)
        )
        returns = np.array([episode.get_return() for episode in acting])
        figures = {
            "evaluation_return_mean": float(returns.mean()),
            "evaluation_return_std": float(returns.std()),
            "evaluation_greedy_return_mean": float(np.mean([e.get_return() for e in greedy])),
        }
        for name, episodes in (("optimality", acting), ("optimality_greedy", greedy)):
            optimality = algorithm.optimality(episodes)
            if optimality is not None:
                figures[name] = optimality
        return figures

    def _save_maps(self, algorithm: IntrinsicAttentionPPO, mark: int | None) -> None:
        """Credit maps of evaluation episodes, at every moment once."""
        now = algorithm.env_steps
        if self._moment(now) > self.mapped_moment:
            self.mapped_moment = self._moment(now)
            episodes = algorithm.evaluate_policy(MAPPED_EPISODES, True, round_index=mark or now)
            if max(len(episode) for episode in episodes) ** 3 > MAPPED_NUMBERS:
                return
            maps = algorithm.credit_maps(episodes)
            self.record.save_credit_maps(algorithm.training_iteration, maps)

    def _moment(self, env_steps: int) -> int:
        """How many parts of the budget are over."""
        whole = self.experiment.training.budget_env_steps
        return min(env_steps * MAPPED_MOMENTS // whole, MAPPED_MOMENTS)


def restore(algorithm: IntrinsicAttentionPPO, checkpoint: Path) -> None:
    """Sets the algorithm to where the checkpoint was taken.

    Raises:
        BadInput: if the checkpoint is damaged.
    """
    try:
        algorithm.restore_from_path(str(checkpoint.absolute()))
    except Exception as error:  # Whatever a damaged file makes pickle, torch or RLlib raise.
        raise BadInput(
            f"{checkpoint} cannot be read ({type(error).__name__}); force=true starts the run over."
        ) from error


def provenance() -> dict[str, Any]:
    """Code, versions and host of this process."""
    packages = ("metairn", "ray", "torch", "gymnasium", "numpy", "hydra-core")
    return {
        "git_commit": _git("rev-parse", "HEAD"),
        "git_changes": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
        "host": platform.node(),
        "cpu": _cpu(),
        "cpu_count": os.cpu_count(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _git(*arguments: str) -> str | None:
    """A git command's output in the package's repository; None outside of one."""
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _cpu() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()
