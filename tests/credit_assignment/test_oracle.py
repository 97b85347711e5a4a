"""The oracle: every reward goes to the action that caused it, and nowhere else."""

from dataclasses import replace

import torch

from metairn.credit_assignment.oracle import Oracle
from metairn.intrinsic_attention_ppo.losses import mixed_advantages
from metairn.intrinsic_attention_ppo.rollout import Horizon, Rollout


def test_rewards_move_to_their_causes(random_episodes, make_spec):
    episodes = random_episodes((4, 4))
    truth = torch.zeros(2, 4, 4, dtype=torch.float64)
    truth[0, 0, 3] = 1.0  # The first action caused the last reward of the first episode.
    truth[1, 1, 2], truth[1, 2, 2] = 0.25, 0.75  # Two share one; the others have no cause.
    rewards = torch.tensor([[1.0, 2.0, 3.0, 10.0], [1.0, 2.0, 8.0, 5.0]], dtype=torch.float64)
    moved = Oracle(make_spec(True))(replace(episodes, rewards=rewards, ground_truth=truth))
    assert moved.rewards.tolist() == [[10.0, 0.0, 0.0, 0.0], [0.0, 2.0, 6.0, 0.0]]
    assert moved.weights is None


def test_an_action_is_not_credited_with_what_later_ones_caused(random_episodes, make_spec):
    episodes, oracle = random_episodes((4, 2)), Oracle(make_spec(True))
    values = torch.randn(2, 4, dtype=torch.float64)
    rollout = Rollout(episodes, values, values, values, 9 * values, episodes.mask / 6)
    advantages = mixed_advantages(oracle, rollout, Horizon(oracle.discount, 1.0))
    expected = (oracle(episodes).rewards - values) * episodes.mask
    torch.testing.assert_close(advantages, expected)
