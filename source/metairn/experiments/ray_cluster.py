"""The Ray cluster that runs use: what each needs of it, and joining or starting one."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from concurrent.futures import Future
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


# Of one cluster at most, from start_ray_ahead to start_ray.
_ahead: list[Future[None]] = []


def start_ray_ahead() -> None:
    """Begins to start this machine's Ray in the background, for start_ray to find.

    That takes three seconds of waiting, in which the runs to come can be checked.
    """
    if "RAY_ADDRESS" in os.environ or ray.is_initialized() or _ahead:
        return
    # Ray does so in the main thread only; without it, SIGTERM would leave the cluster behind.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(number))
    started: Future[None] = Future()
    _ahead.append(started)

    def start() -> None:
        try:
            _start(cores())
            started.set_result(None)
        except BaseException as error:
            started.set_exception(error)
        # Linux ends Ray's processes with the thread that started them.
        threading.Event().wait()

    threading.Thread(target=start, daemon=True).start()
    # Ray's own end, registered before, cannot interrupt its beginning.
    atexit.register(started.exception)


def start_ray(*trainings: TrainingSettings, inside: bool = False) -> None:
    """Joins the cluster at RAY_ADDRESS, or starts one on this machine, once per process.

    Args:
        trainings: of all runs that are to come.
        inside: whether Ray is to have room for their main processes as well.

    Raises:
        BadInput: if the cluster cannot be reached, or if a run needs more processors than there
            are, for which Ray would wait forever.
    """
    # More processes than cores are slow, not wrong.
    most = max(cores(), *(len(bundles(training)) for training in trainings))
    if _ahead:
        _ahead.pop().result()
        if ray.is_initialized() and ray.cluster_resources()["CPU"] < most:
            ray.shutdown()
    if not ray.is_initialized():
        try:
            _start(most)
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


def _start(num_cpus: int) -> None:
    where: dict[str, Any] = {}
    if "RAY_ADDRESS" not in os.environ:
        # A cluster that somebody started here is not ours to join unasked.
        where = {"address": "local", "num_cpus": num_cpus, "include_dashboard": False}
    ray.init(logging_level="ERROR", log_to_driver=False, **where)


def cores() -> int:
    """Cores that this process may use: fewer than the machine has, under a batch system."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
