"""The natural meta-gradient in closed form, against derivatives of imagined policies' rewards."""

import pytest
import torch

from metairn.networks.policy import Policy
from metairn.objectives.natural_credit import (
    centred_rewards,
    gains,
    policy_gradients,
    score_size,
    whitened,
)

B, T, D = 7, 5, 3


@pytest.fixture(params=[True, False], ids=["discrete", "continuous"])
def data(request):
    """A policy and what it did: observations, actions, rewards and which steps exist."""
    torch.manual_seed(0)
    policy = Policy(D, 2, request.param, [4]).double()
    observations = torch.randn(B, T, D, dtype=torch.float64)
    actions = torch.randint(0, 2, (B, T)) if request.param else observations[..., :2].tanh()
    rewards = torch.randn(B, T, dtype=torch.float64)
    lengths = torch.tensor([5, 5, 4, 5, 2, 5, 1])
    mask = torch.arange(T) < lengths[:, None]
    return policy, observations, actions, rewards * mask, mask


def scores_of(policy, observations, actions, mask):
    inputs = policy(observations).detach()
    return policy.scores(observations, actions, inputs) * mask[..., None]


def log_probs(policy, observations, actions):
    return policy.actions.log_prob(policy(observations), actions)


def last_layer(policy):
    layer = policy.network.layers[-1]
    return [layer.weight, layer.bias]


def as_vector(weight, bias):
    """In the order of the scores: each output's features and its bias."""
    return torch.cat([weight, bias[:, None]], dim=1).flatten()


def test_scores_are_the_gradients_of_log_probabilities(data):
    policy, observations, actions, _, mask = data
    found = scores_of(policy, observations, actions, mask)
    for e, t in [(0, 0), (3, 4), (4, 1)]:
        log_prob = log_probs(policy, observations, actions)[e, t]
        wanted = as_vector(*torch.autograd.grad(log_prob, last_layer(policy)))
        torch.testing.assert_close(found[e, t], wanted)


def expected_rewards(policy, data, shift):
    """J_k at theta + shift, by importance sampling from the episodes: [T]."""
    _, observations, actions, rewards, mask = data
    layer = policy.network.layers[-1]
    parts = shift.view(len(layer.bias), -1)
    before = log_probs(policy, observations, actions).detach()
    with torch.no_grad():
        layer.weight += parts[:, :-1]
        layer.bias += parts[:, -1]
        after = log_probs(policy, observations, actions)
        layer.weight -= parts[:, :-1]
        layer.bias -= parts[:, -1]
    ratio = ((after - before) * mask).cumsum(dim=1).exp()
    return (ratio * rewards).mean(dim=0)


def test_gains_are_what_a_natural_step_does_to_each_reward(data):
    policy, observations, actions, rewards, mask = data
    scores = scores_of(policy, observations, actions, mask)
    size = score_size(scores, mask)
    natural = whitened(scores, mask, size)
    credit = torch.randn(B, T, dtype=torch.float64) * mask
    gradients = policy_gradients(natural, rewards, 1.0, by_reward=True)
    found = torch.einsum("et,etk->k", credit, gains(natural, gradients, leave_out=False)) / B

    rows = scores.flatten(0, 1)
    fisher = rows.t() @ rows / mask.sum()
    fisher += 0.01 * size * torch.eye(len(fisher), dtype=torch.float64)
    direction = torch.linalg.solve(fisher, (credit[..., None] * scores).sum(dim=(0, 1)) / B)
    step = 1e-6 * direction
    ahead, behind = (expected_rewards(policy, data, sign * step) for sign in (1, -1))
    torch.testing.assert_close(found, (ahead - behind) / 2e-6, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("discount", [1.0, 0.9])
def test_the_return_s_gain_is_the_sum_of_the_rewards_gains(data, discount):
    policy, observations, actions, rewards, mask = data
    scores = scores_of(policy, observations, actions, mask)
    each = gains(scores, policy_gradients(scores, rewards, discount, True), True)
    whole = gains(scores, policy_gradients(scores, rewards, discount, False), True)
    torch.testing.assert_close(each.sum(dim=2, keepdim=True), whole)


def test_no_episode_judges_itself(data):
    policy, observations, actions, rewards, mask = data
    scores = scores_of(policy, observations, actions, mask)
    found = gains(scores, policy_gradients(scores, rewards, 0.9, True), leave_out=True)
    for e in range(B):
        others = [i for i in range(B) if i != e]
        for k in range(T):
            gradient = sum(
                rewards[i, k] * 0.9 ** (k - t) * scores[i, t] for i in others for t in range(k + 1)
            ) / (B - 1)
            torch.testing.assert_close(found[e, :, k], scores[e] @ gradient)


def test_a_policy_that_has_made_up_its_mind_does_not_gain_by_rounding_errors(data):
    policy, observations, actions, _, mask = data
    scores = scores_of(policy, observations, actions, mask)
    size = score_size(scores, mask)
    decided = whitened(1e-6 * scores, mask, size)
    assert decided.abs().max() < 1e-4 * whitened(scores, mask, size).abs().max()


def test_rewards_that_do_not_come_count_as_nothing():
    rewards = torch.tensor([[1.0, 1.0], [1.0, 9.0]])
    centred = centred_rewards(rewards, torch.tensor([[True, True], [True, False]]))
    torch.testing.assert_close(centred, 2**0.5 * torch.tensor([[0.0, 1.0], [0.0, -1.0]]))


def test_a_lone_episode_cannot_be_judged_by_others(data):
    policy, observations, actions, rewards, mask = (
        part if isinstance(part, Policy) else part[:1] for part in data
    )
    scores = scores_of(policy, observations, actions, mask)
    with pytest.raises(ValueError, match=r"^inner_update=natural needs at least two episodes"):
        gains(scores, policy_gradients(scores, rewards, 1.0, True), leave_out=True)
