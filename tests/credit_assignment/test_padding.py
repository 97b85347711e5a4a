"""Padding changes nothing: an episode is the same alone as in a batch with longer ones."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import pad

from metairn.credit_assignment.credit_matrix import credit_matrix
from metairn.episodes import EpisodeBatch
from metairn.intrinsic_attention_ppo.losses import PolicyLoss, mixed_advantages
from metairn.intrinsic_attention_ppo.rollout import Horizon, make_rollout
from metairn.networks.policy import Policy
from metairn.networks.value import ValueHead
from metairn.objectives.advantages import identity, masked_mean
from metairn.objectives.ppo_loss import value_loss

LENGTHS = (3, 5, 1, 4)
HORIZON = Horizon(discount=0.97, gae_lambda=0.9)


def padded_further(episodes: EpisodeBatch, extra: int) -> EpisodeBatch:
    """The same episodes with this many more columns of padding."""
    changed = {}
    for name, tensor in vars(episodes).items():
        if name == "terminated":
            continue
        if name == "ground_truth":
            changed[name] = pad(tensor, (0, extra, 0, extra))
        else:
            changed[name] = pad(tensor, (0, extra) if tensor.dim() == 2 else (0, 0, 0, extra))
    return replace(episodes, **changed)


@pytest.fixture
def episodes(assigner, random_episodes):
    return random_episodes(LENGTHS, discrete=assigner.spec.discrete)


@pytest.fixture
def critics():
    torch.manual_seed(1)
    return [ValueHead(3, (4,)).double() for _ in range(2)]


@pytest.mark.parametrize("position", range(len(LENGTHS)))
def test_an_episode_alone_gets_what_it_gets_in_a_batch(assigner, episodes, critics, position):
    length, alone = LENGTHS[position], episodes.select(torch.tensor([position]))
    assert alone.rewards.shape == (1, length)
    pairs = [(assigner(alone).rewards, assigner(episodes).rewards)]
    pairs.append((assigner.attention(alone), assigner.attention(episodes)))
    pairs.append((assigner(alone).weights, assigner(episodes).weights))
    pairs.append((credit_matrix(assigner, alone, 0.9), credit_matrix(assigner, episodes, 0.9)))
    rollouts = [make_rollout(batch, *critics, HORIZON) for batch in (alone, episodes)]
    pairs.append(tuple(rollout.extrinsic_advantages for rollout in rollouts))
    pairs.append(tuple(mixed_advantages(assigner, rollout, HORIZON) for rollout in rollouts))
    selected = rollouts[1].select(torch.tensor([position]))
    pairs.append((mixed_advantages(assigner, selected, HORIZON), pairs[-1][1]))
    for by_itself, in_batch in pairs:
        if by_itself is None:
            assert in_batch is None
        elif by_itself.dim() == 2:
            torch.testing.assert_close(by_itself[0], in_batch[position, :length])
        else:
            torch.testing.assert_close(by_itself[0], in_batch[position, :length, :length])


def test_credit_matrix_and_advantages_of_padding_are_zero(assigner, episodes, critics):
    both = episodes.mask[:, :, None] & episodes.mask[:, None, :]
    assert not credit_matrix(assigner, episodes, 0.9)[~both].any()
    rollout = make_rollout(episodes, *critics, HORIZON)
    advantages = mixed_advantages(assigner, rollout, HORIZON)
    assert not advantages[~episodes.mask].any()


def losses(assigner, episodes, critics):
    """Policy and value loss of one update, and the gradient of the former."""
    torch.manual_seed(2)
    policy = Policy(3, 2, assigner.spec.discrete, (4,)).double()
    rollout = make_rollout(episodes, *critics, HORIZON)
    advantages = mixed_advantages(assigner, rollout, HORIZON)
    loss = PolicyLoss(policy.actions, 0.2, 0.01, identity)(
        policy(episodes.acted_on), rollout, advantages
    )
    errors = value_loss(critics[0].normalised(episodes.acted_on), rollout.extrinsic_targets)
    figures = [loss, masked_mean(errors, episodes.mask)]
    if assigner.learns_by == "own_loss":
        figures.append(assigner.own_loss(episodes))
    return figures + list(torch.autograd.grad(loss, list(policy.parameters()), retain_graph=True))


@pytest.mark.parametrize("extra", [1, 7])
def test_more_padding_changes_no_loss_and_no_gradient(assigner, episodes, critics, extra):
    wider = padded_further(episodes, extra)
    assert wider.rewards.shape == (4, 5 + extra)
    assert torch.equal(wider.lengths, episodes.lengths)
    expected = losses(assigner, episodes, critics)
    for one, other in zip(losses(assigner, wider, critics), expected, strict=True):
        torch.testing.assert_close(one, other)
    assert all(t.any() for t in expected)


def test_more_padding_changes_no_running_scale(assigner, episodes, critics):
    wider = padded_further(episodes, 4)
    scales = []
    for batch in (episodes, wider):
        assigner.reward_moments.zero_()
        critics[0].moments.zero_()
        assigner.update_scale(batch)
        critics[0].update_scale(batch.rewards, batch.mask, identity)
        scales.append(torch.stack([assigner.reward_scale, critics[0].mean, critics[0].std]))
    torch.testing.assert_close(*scales)
