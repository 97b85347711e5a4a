"""The Ray cluster that runs use: what each needs of it, and joining or starting one."""

from __future__ import annotations

import os
from typing import Any

import ray

from metairn.experiments.settings import BadInput, TrainingSettings


def bundles(training: TrainingSettings) -> list[dict[str, float]]:
    """What each process of a run needs, in RLlib's order: itself, env runners, learners."""
    gpus = training.num_gpus_per_learner
    sampling = {"CPU": 1.0}
    learning = sampling | ({"GPU": gpus} if gpus else {})
    main = sampling if training.num_learners else learning
    return [main, *[sampling] * training.num_env_runners, *[learning] * training.num_learners]


def start_ray(*trainings: TrainingSettings, inside: bool = False) -> None:
    """Joins the cluster at RAY_ADDRESS, or starts one on this machine, once per process.

    Args:
        trainings: of all runs that are to come.
        inside: whether Ray is to have room for their main processes as well.

    Raises:
        BadInput: if the cluster cannot be reached, or if a run needs more processors than there
            are, for which Ray would wait forever.
    """
    if not ray.is_initialized():
        where: dict[str, Any] = {}
        if "RAY_ADDRESS" not in os.environ:
            # A cluster that somebody started here is not ours to join unasked. More processes than
            # cores are slow, not wrong.
            most = max(len(bundles(training)) for training in trainings)
            where = {
                "address": "local",
                "num_cpus": max(cores(), most),
                "include_dashboard": False,
            }
        try:
            ray.init(logging_level="ERROR", log_to_driver=False, **where)
        except ConnectionError as error:
            raise BadInput(
                f"RAY_ADDRESS={os.environ.get('RAY_ADDRESS')} cannot be reached: start the "
                "cluster, give this machine its token, or unset RAY_ADDRESS to use this machine "
                "alone."
            ) from error
    has = ray.cluster_resources()
    for training in trainings:
        parts = bundles(training)
        processes = "training.num_env_runners + training.num_learners"
        for kind, needed, keys in (
            ("CPU", len(parts) - 1 + inside, f"1 + {processes}" if inside else processes),
            (
                "GPU",
                sum(p.get("GPU", 0) for p in parts),
                "training.num_gpus_per_learner x learners",
            ),
        ):
            if needed > has.get(kind, 0):
                raise BadInput(
                    f"{keys} = {needed:g} is not allowed: Ray has {has.get(kind, 0):g} {kind}s."
                )


def cores() -> int:
    """Cores that this process may use: fewer than the machine has, under a batch system."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
