"""MetaIRN: a reward network that sees the whole episode and that all of can learn."""

from dataclasses import replace

import jaxtyping
import pytest
import torch
from torch import nn
from torch.func import functional_call

from metairn.credit_assignment.meta_irn import MetaIRN
from metairn.intrinsic_attention_ppo.losses import PolicyLoss, mixed_advantages
from metairn.intrinsic_attention_ppo.rollout import Horizon, make_rollout
from metairn.networks.policy import Policy
from metairn.networks.value import ValueHead
from metairn.objectives.advantages import identity
from metairn.objectives.meta_gradient import INNER_UPDATES, InnerLoop, meta_gradient


@pytest.fixture(params=[True, False], ids=["discrete", "continuous"])
def episodes(request, random_episodes):
    return random_episodes((3, 6, 6, 4), discrete=request.param)


@pytest.fixture
def meta_irn(episodes, make_spec):
    torch.manual_seed(0)
    return MetaIRN(make_spec(episodes.actions.dim() == 2), encoder_width=8).double()


def test_every_number_of_the_network_gets_a_meta_gradient(meta_irn, episodes):
    torch.manual_seed(1)
    policy = Policy(3, 2, meta_irn.spec.discrete, (8,)).double()
    critics = [ValueHead(3, (8,)).double() for _ in range(2)]
    horizon = Horizon(1.0, 1.0)
    rollout = make_rollout(episodes, *critics, horizon)
    policy_loss = PolicyLoss(policy.actions, 0.2, 0.0, identity)

    def outputs(params):
        return functional_call(policy, params, (episodes.acted_on,))

    def inner(params):
        advantages = mixed_advantages(meta_irn, rollout, horizon)
        return policy_loss(outputs(params), rollout, advantages)

    gradient, _ = meta_gradient(
        lambda params: policy_loss(outputs(params), rollout, rollout.extrinsic_advantages),
        [inner],
        InnerLoop(INNER_UPDATES["sgd"], 0.1),
        {name: p.detach() for name, p in policy.named_parameters()},
        list(meta_irn.parameters()),
    )
    largest = max(float(g.abs().max()) for g in gradient)
    for (name, _), g in zip(meta_irn.named_parameters(), gradient, strict=True):
        assert (g.abs() > 1e-9 * largest).all(), name


def test_layer_norm_over_one_number_is_a_constant():
    norm = nn.LayerNorm(1)
    nn.init.constant_(norm.bias, 0.3)
    inputs = torch.randn(100, 1, requires_grad=True)
    outputs = norm(inputs)
    assert (outputs == 0.3).all()
    (gradient,) = torch.autograd.grad(outputs.sum(), inputs)
    assert not gradient.any()


@pytest.mark.parametrize("width", [-2, 0, 1, 3])
def test_a_width_that_cannot_learn_or_has_no_positions_is_refused_in_one_sentence(make_spec, width):
    with pytest.raises(ValueError, match=rf"^encoder_width={width} is not allowed: [^.]*\.$"):
        MetaIRN(make_spec(True), encoder_width=width)


def test_rewards_differ_between_steps_and_between_episodes_and_stay_below_one(meta_irn, episodes):
    rewards = meta_irn.intrinsic_rewards(episodes)
    assert (rewards.abs() < 1).all()
    for b, length in enumerate(episodes.lengths.tolist()):
        assert rewards[b, :length].std() > 1e-3
    assert (rewards[1] - rewards[2]).abs().min() > 1e-6


def test_what_comes_of_an_action_shows_in_its_reward(meta_irn, episodes):
    before = meta_irn.intrinsic_rewards(episodes)
    for b, length in enumerate(episodes.lengths.tolist()):
        rewards = episodes.rewards.clone()
        rewards[b, length - 1] += 1.0
        change = meta_irn.intrinsic_rewards(replace(episodes, rewards=rewards)) - before
        assert (change[b, :length].abs() > 1e-6).all()
        others = [i for i in range(len(before)) if i != b]
        assert not change[others].any()


def test_attention_is_what_the_network_looks_with(meta_irn, episodes):
    weights = meta_irn.attention(episodes)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones_like(episodes.rewards))
    encoded = meta_irn.encoded(episodes)
    seen = weights @ meta_irn.attend.value(encoded)
    by_hand = meta_irn.head(meta_irn.norm(encoded + seen)).squeeze(-1).tanh()
    torch.testing.assert_close(meta_irn.intrinsic_rewards(episodes), by_hand)


def test_learned_rewards_are_added_in_the_unit_of_the_extrinsic_ones(meta_irn, episodes):
    meta_irn.reward_scale.fill_(5.0)
    intrinsic = meta_irn.intrinsic_rewards(episodes)
    encoded = meta_irn.encoded(episodes)
    mixed = meta_irn.norm(encoded + meta_irn.attend(encoded, episodes.mask))
    by_hand = 5.0 * meta_irn.head(mixed).squeeze(-1).tanh()
    torch.testing.assert_close(intrinsic, by_hand)
    expected = episodes.rewards + 0.1 * intrinsic * episodes.mask
    torch.testing.assert_close(meta_irn(episodes).rewards, expected)


def test_a_task_with_larger_rewards_is_the_same_task(meta_irn, episodes):
    larger = replace(episodes, rewards=1000.0 * episodes.rewards)
    rewards = []
    for batch in (episodes, larger):
        meta_irn.reward_moments.zero_()
        meta_irn.update_scale(batch)
        rewards.append(meta_irn(batch).rewards)
    torch.testing.assert_close(rewards[1], 1000.0 * rewards[0])


@pytest.mark.parametrize(
    ("name", "values"),
    {
        "intrinsic_coefficient": [-0.1, float("nan"), float("inf")],
        "credit_learning_rate": [0.0, -1.0, float("nan"), float("inf")],
        "inner_learning_rate": [0.0, -1.0, float("nan"), float("inf")],
        "inner_steps": [0, -1],
        "inner_update": ["rmsprop"],
        "outer_data": ["other"],
    }.items(),
)
def test_bad_settings_are_refused_in_one_sentence(make_spec, monkeypatch, name, values):
    # By the class itself: annotations are checked in tests only.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    for value in values:
        with pytest.raises(ValueError, match=rf"^{name}=.* is not allowed: it must [^.]*\.$"):
            MetaIRN(make_spec(True), **{name: value})
