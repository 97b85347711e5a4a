"""Rewards a thousand times smaller are the same task: no setting has to be tuned for their size."""

import numpy as np
import pytest
import torch
from small_runs import SmallRun, small_config

from metairn.credit_assignment.meta_irn import MetaIRN
from metairn.credit_assignment.oracle import Oracle
from metairn.credit_assignment.ppo import PPO


def probability_correct(run):
    """P(first action = need), over the four first observations."""
    observations = torch.tensor([[n, h, 1.0] for n in (0.0, 1.0) for h in (0.0, 1.0)])
    with torch.no_grad():
        chosen = run.networks.actor(observations).softmax(-1)
    need = observations[:, 0].long()
    return float(chosen.gather(1, need[:, None]).mean())


def learning_curve(method, settings, size, iterations=8):
    env_config = {"length": 5, "distractor_reward": 0.1 * size, "final_reward": 10.0 * size}
    run = SmallRun(
        small_config(
            env_config=env_config,
            steps=1000,
            num_epochs=10,
            hidden_sizes=(32, 32),
            credit_assigner=method,
            credit_assigner_settings=settings,
        )
    )
    curve = []
    for _ in range(iterations):
        run.train(1)
        curve.append(probability_correct(run))
    return np.array(curve)


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        (PPO, {}),
        (Oracle, {}),
        (MetaIRN, {}),
        (MetaIRN, {"outer_data": "next", "inner_update": "adam"}),
    ],
)
def test_the_size_of_rewards_does_not_change_the_learning_curve(method, settings):
    """Identical settings, rewards of +-10 and of +-0.01."""
    large, small = (learning_curve(method, settings, size) for size in (1.0, 1e-3))
    assert large[-1] > 0.9
    np.testing.assert_allclose(small, large, atol=0.03)
