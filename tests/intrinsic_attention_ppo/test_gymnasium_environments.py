"""Any Gymnasium environment trains, with discrete or continuous actions."""

import numpy as np
import pytest
import torch
from small_runs import SmallRun, small_config

from metairn.credit_assignment.meta_irn import MetaIRN
from metairn.credit_assignment.ppo import PPO


@pytest.mark.slow
def test_cartpole_improves():
    training = {"steps": 1000, "num_epochs": 10, "hidden_sizes": (64, 64)}
    run = SmallRun(small_config("CartPole-v1", **training))
    returns = []
    for _ in range(25):
        episodes = run.sample()
        returns.append(np.mean([e.get_return() for e in episodes]))
        run.learn(episodes)
    assert returns[0] < 40
    assert np.mean(returns[-3:]) > 100


@pytest.mark.parametrize("method", [PPO, MetaIRN])
def test_pendulum_trains(method):
    run = SmallRun(
        small_config("Pendulum-v1", steps=600, num_minibatches=2, credit_assigner=method)
    )
    before = {n: p.detach().clone() for n, p in run.networks.actor.named_parameters()}
    for figures in run.train(2):
        assert all(np.isfinite(value) for value in figures.values())
    after = dict(run.networks.actor.named_parameters())
    assert not any(torch.equal(after[name], before[name]) for name in before)
