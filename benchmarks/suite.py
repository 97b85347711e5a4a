"""What is measured: the works, who does them, and how long."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import ray

from benchmarks.contender import Work
from benchmarks.interleaved import Entry, Measurement, Protocol, measure
from benchmarks.rllib_training import METHODS, OurTraining, RLlibPPO, experiment
from benchmarks.sampling import RunnerSampling, SamplingFloor
from benchmarks.stable_baselines3_training import StableBaselines3PPO
from benchmarks.start_up import seconds_to_first_iteration, seconds_to_help

PEERS = {"rllib": RLlibPPO, "sb3": StableBaselines3PPO}
STARTS = {"help": seconds_to_help, "first_iteration": seconds_to_first_iteration}
Advance = Callable[[str], None]
LENGTH = 50
# Env steps of an iteration and minibatches of an epoch, the main setting first.
SETTINGS = ((4000, 4), (1000, 1))


@dataclass(frozen=True)
class Plan:
    """How much of each part is done.

    Args:
        protocol: rounds and seconds.
        settings: (env steps, minibatches) of training.
        peer_threads: torch threads that peers are tried with; ours have one.
        lengths: episode lengths of the sweep, by method.
        start_ups: repeats of each start-up.
    """

    protocol: Protocol
    settings: tuple[tuple[int, int], ...]
    peer_threads: tuple[int, ...]
    lengths: dict[str, tuple[int, ...]]
    start_ups: int


FULL = Plan(
    protocol=Protocol(rounds=7, slice_s=1.5, warm_up=3, warm_up_s=5.0),
    settings=SETTINGS,
    peer_threads=(1, 2),
    lengths=dict.fromkeys(METHODS, (10, 20, LENGTH, 100, 200, 500, 1000)),
    start_ups=3,
)
QUICK = Plan(
    protocol=Protocol(rounds=2, slice_s=0.05, warm_up=1, warm_up_s=0.0),
    settings=SETTINGS[:1],
    peer_threads=(1,),
    lengths={"meta_irn": (10, LENGTH)},
    start_ups=1,
)


@dataclass
class Results:
    """Everything measured.

    Args:
        training: by env steps of an iteration, then by contender.
        sampling: by contender.
        lengths: by method, then by episode length.
        start_up: seconds of each repeat, by what was waited for.
    """

    training: dict[int, dict[str, Measurement]] = field(default_factory=dict)
    sampling: dict[str, Measurement] = field(default_factory=dict)
    lengths: dict[str, dict[int, Measurement]] = field(default_factory=dict)
    start_up: dict[str, list[float]] = field(default_factory=dict)


def make_work(length: int, env_steps: int, minibatches: int) -> Work:
    """The work as metairn-train's configuration states it.

    Args:
        length: steps of an episode.
        env_steps: of an iteration; whole episodes.
        minibatches: of an epoch.
    """
    overrides = (
        "environment=umbrella_chain",
        f"environment.length={length}",
        f"training.train_batch_env_steps={env_steps}",
        f"training.num_envs={env_steps // length}",
        f"training.minibatches={minibatches}",
        "training.epochs=10",
        # Peers have one optimizer, so all learning rates are one.
        "training.actor_learning_rate=3e-4",
        "training.critic_learning_rate=3e-4",
    )
    built = experiment(overrides)
    training = built.training
    return Work(
        env=str(built.algorithm.env),
        length=length,
        num_envs=training.num_envs,
        epochs=training.epochs,
        minibatches=training.minibatches,
        learning_rate=float(training.actor_learning_rate),  # type: ignore[arg-type]
        discount=training.discount,
        gae_lambda=training.gae_lambda,
        clip=training.clip,
        entropy_coefficient=float(training.entropy_coefficient),  # type: ignore[arg-type]
        max_gradient_norm=float(training.max_gradient_norm),  # type: ignore[arg-type]
        hidden_sizes=tuple(training.hidden_sizes),
        overrides=overrides,
    )


def training_entries(work: Work, peer_threads: Sequence[int]) -> list[Entry]:
    """Ours with one thread, peers with each number of threads."""
    ours = [Entry(name, partial(OurTraining, method=name), work) for name in METHODS]
    peers = [
        Entry(f"{name}, {threads} thread{'s' if threads > 1 else ''}", make, work, threads)
        for name, make in PEERS.items()
        for threads in peer_threads
    ]
    return ours + peers


@contextlib.contextmanager
def one_ray() -> Iterator[None]:
    """One idle Ray for all contenders that need one, rather than one beside each of them."""
    context = ray.init(
        address="local",
        num_cpus=1,
        include_dashboard=False,
        logging_level="ERROR",
        log_to_driver=False,
    )
    before = os.environ.get("RAY_ADDRESS")
    os.environ["RAY_ADDRESS"] = context.address_info["gcs_address"]
    try:
        yield
    finally:
        if before is None:
            del os.environ["RAY_ADDRESS"]
        else:
            os.environ["RAY_ADDRESS"] = before
        ray.shutdown()


def _measure(entries: Sequence[Entry], plan: Plan, advance: Advance) -> dict[str, Measurement]:
    with one_ray():
        return measure(entries, plan.protocol, advance)


def _training(plan: Plan, results: Results, advance: Advance) -> None:
    for env_steps, minibatches in plan.settings:
        entries = training_entries(make_work(LENGTH, env_steps, minibatches), plan.peer_threads)
        results.training[env_steps] = _measure(entries, plan, advance)


def _sampling(plan: Plan, results: Results, advance: Advance) -> None:
    work = make_work(LENGTH, *SETTINGS[0])
    entries = [Entry("runner", RunnerSampling, work), Entry("floor", SamplingFloor, work)]
    results.sampling = _measure(entries, plan, advance)


def _lengths(plan: Plan, results: Results, advance: Advance) -> None:
    for method, lengths in plan.lengths.items():
        make = partial(OurTraining, method=method)
        entries = {
            n: Entry(f"{method}, length {n}", make, make_work(n, *SETTINGS[0])) for n in lengths
        }
        measured = _measure(list(entries.values()), plan, advance)
        results.lengths[method] = {n: measured[entry.name] for n, entry in entries.items()}


def _start_up(plan: Plan, results: Results, advance: Advance) -> None:
    for name, measure_once in STARTS.items():
        results.start_up[name] = []
        for _ in range(plan.start_ups):
            advance(f"start-up, {name.replace('_', ' ')}")
            results.start_up[name].append(measure_once())


PARTS = {
    "training": _training,
    "sampling": _sampling,
    "lengths": _lengths,
    "start_up": _start_up,
}


def count_steps(plan: Plan, parts: Sequence[str]) -> int:
    """How often `run` will call `advance`: for each warm-up, each turn and each start-up."""
    contenders = len(METHODS) + len(PEERS) * len(plan.peer_threads)
    groups = {
        "training": [contenders] * len(plan.settings),
        "sampling": [2],
        "lengths": [len(lengths) for lengths in plan.lengths.values()],
    }
    turns = sum(1 + size * plan.protocol.rounds for part in parts for size in groups.get(part, []))
    return turns + len(STARTS) * plan.start_ups * ("start_up" in parts)


def run(plan: Plan, parts: Sequence[str], advance: Advance) -> Results:
    """Measures.

    Args:
        plan: how much.
        parts: what, names in PARTS.
        advance: told what comes next.
    """
    results = Results()
    for part in parts:
        PARTS[part](plan, results, advance)
    return results
