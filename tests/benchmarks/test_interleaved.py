"""Contenders in processes of their own: who is asked when, and what is refused."""

from __future__ import annotations

import os
import time
from functools import partial

import pytest
import torch

from benchmarks.contender import Contender, Work
from benchmarks.interleaved import ContenderFailed, Entry, Protocol, measure

WORK = Work(
    env="none",
    length=5,
    num_envs=2,
    epochs=3,
    minibatches=2,
    learning_rate=1e-3,
    discount=1.0,
    gae_lambda=1.0,
    clip=0.2,
    entropy_coefficient=0.0,
    max_gradient_norm=0.5,
    hidden_sizes=(4,),
    overrides=(),
)
PROTOCOL = Protocol(rounds=2, slice_s=0.05, warm_up=2, warm_up_s=10.0)


class Sleeper(Contender):
    """Sleeps through its iterations, and tidies for longer than any of them lasts."""

    def __init__(self, work: Work, nap_s: float, updates: int) -> None:
        assert os.environ["OMP_NUM_THREADS"] == str(torch.get_num_threads())
        self.nap_s, self.updates_each, self.iterations = nap_s, updates, 0

    def iterate(self) -> None:
        time.sleep(self.nap_s)
        self.iterations += 1

    def tidy(self) -> None:
        time.sleep(0.3)

    def env_steps(self) -> int:
        return 10 * self.iterations

    def updates(self) -> int:
        return self.updates_each * self.iterations


def end_at_once(work: Work) -> Contender:
    os._exit(0)


def entry(name: str, nap_s: float = 0.02, updates: int = 6, threads: int = 1) -> Entry:
    return Entry(name, partial(Sleeper, nap_s=nap_s, updates=updates), WORK, threads)


def test_contenders_take_turns_and_only_iterations_are_timed():
    said: list[str] = []
    measured = measure([entry("quick"), entry("slow", 0.04, threads=2)], PROTOCOL, said.append)
    assert said == ["warm-up", "quick", "slow", "slow", "quick"]
    assert {name: len(m.turns) for name, m in measured.items()} == {"quick": 2, "slow": 2}
    # Sleeping can take longer than asked for, never shorter; tidying would bring both below 32.
    assert 40 < measured["quick"].speed <= 500
    assert 40 < measured["slow"].speed <= 250
    assert all(turn.seconds >= 0.05 for m in measured.values() for turn in m.turns)
    # A process that has imported torch.
    assert 50 < measured["quick"].peak_memory_mib < 5000


def test_other_work_is_refused():
    with pytest.raises(ContenderFailed, match=r"lazy: (.|\n)*5 updates instead of 6"):
        measure([entry("lazy", updates=5)], PROTOCOL, lambda what: None)


def test_a_process_that_ends_is_an_error():
    with pytest.raises(ContenderFailed, match="gone: its process ended"):
        measure([Entry("gone", end_at_once, WORK)], PROTOCOL, lambda what: None)
