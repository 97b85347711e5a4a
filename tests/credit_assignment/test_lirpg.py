"""LIRPG: a reward network that sees one step at a time."""

from dataclasses import replace

import pytest
import torch

from metairn.credit_assignment.lirpg import LIRPG


@pytest.fixture(params=[True, False], ids=["discrete", "continuous"])
def episodes(request, random_episodes):
    return random_episodes((3, 6, 6, 4), discrete=request.param)


@pytest.fixture
def lirpg(episodes, make_spec):
    torch.manual_seed(0)
    return LIRPG(make_spec(episodes.actions.dim() == 2), (8,)).double()


def test_a_step_is_rewarded_for_its_own_observation_alone(lirpg, episodes):
    def rewards(observations):
        return lirpg.intrinsic_rewards(replace(episodes, observations=observations))

    jacobian = torch.autograd.functional.jacobian(rewards, episodes.observations)
    reached = jacobian.abs().sum(dim=-1) > 0
    steps = torch.eye(4 * 6).view(4, 6, 4, 6)
    expected = torch.cat([steps, torch.zeros(4, 6, 4, 1)], dim=-1) > 0
    assert torch.equal(reached, expected)


def test_a_step_is_rewarded_for_its_own_action_alone(lirpg, episodes):
    before = lirpg.intrinsic_rewards(episodes)
    for t in range(6):
        actions = episodes.actions.clone()
        actions[:, t] = 1 - actions[:, t]
        after = lirpg.intrinsic_rewards(replace(episodes, actions=actions))
        changed = (after != before).all(dim=0)
        assert changed.tolist() == [step == t for step in range(6)]
        assert torch.equal((after != before).any(dim=0), changed)


def test_what_came_of_an_action_is_not_seen(lirpg, episodes):
    before = lirpg.intrinsic_rewards(episodes)
    other = replace(
        episodes,
        rewards=episodes.rewards + 3.0,
        terminated=~episodes.terminated,
        ground_truth=None,
        behaviour_log_probs=episodes.behaviour_log_probs - 1.0,
    )
    assert torch.equal(lirpg.intrinsic_rewards(other), before)
    assert (before.abs() < 1).all()


def test_all_parameters_shape_the_reward(lirpg, episodes):
    rewards = lirpg.intrinsic_rewards(episodes)
    gradient = torch.autograd.grad(rewards.square().sum(), list(lirpg.parameters()))
    assert all(g.any() for g in gradient)
    assert lirpg.attention(episodes) is None
