"""The clipped surrogate and the value loss against RLlib's own PPO loss."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.torch.torch_distribution import TorchCategorical, TorchDiagGaussian
from ray.rllib.evaluation.postprocessing import Postprocessing

from metairn.intrinsic_attention_ppo.losses import PolicyLoss
from metairn.intrinsic_attention_ppo.rollout import Horizon, make_rollout
from metairn.networks.policy import Policy
from metairn.networks.value import ValueHead
from metairn.objectives.advantages import identity, masked_mean
from metairn.objectives.ppo_loss import clipped_surrogate, value_loss

ENTROPY_COEFFICIENT = 0.07


def rllib_loss(episodes, inputs, values, advantages, targets, clip, vf_clip_param):
    """RLlib's loss of these network outputs, from its method on a stand-in for a learner."""
    discrete = episodes.actions.dim() == 2
    distribution = TorchCategorical if discrete else TorchDiagGaussian
    module = SimpleNamespace(
        get_train_action_dist_cls=lambda: distribution,
        get_exploration_action_dist_cls=lambda: distribution,
        compute_values=lambda batch, embeddings: values,
    )
    learner = SimpleNamespace(
        module={"m": SimpleNamespace(unwrapped=lambda: module)},
        entropy_coeff_schedulers_per_module={
            "m": SimpleNamespace(get_current_value=lambda: ENTROPY_COEFFICIENT)
        },
        metrics=SimpleNamespace(log_dict=lambda *args, **kwargs: None),
    )
    config = SimpleNamespace(
        use_kl_loss=False,
        use_critic=True,
        clip_param=clip,
        vf_clip_param=vf_clip_param,
        vf_loss_coeff=0.5,
    )
    batch = {
        Columns.LOSS_MASK: episodes.mask,
        Columns.ACTIONS: episodes.actions,
        Columns.ACTION_LOGP: episodes.behaviour_log_probs,
        Columns.ACTION_DIST_INPUTS: episodes.behaviour_inputs,
        Postprocessing.ADVANTAGES: advantages,
        Postprocessing.VALUE_TARGETS: targets,
    }
    return PPOTorchLearner.compute_loss_for_module(
        learner,
        module_id="m",
        config=config,
        batch=batch,
        fwd_out={Columns.ACTION_DIST_INPUTS: inputs},
    )


@pytest.fixture(params=[True, False], ids=["discrete", "continuous"])
def batch(request, random_episodes):
    """Episodes, a policy, and values, advantages and targets for them."""
    torch.manual_seed(0)
    episodes = random_episodes((9, 12, 4), discrete=request.param)
    policy = Policy(3, 2, request.param, (8,)).double()
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    values, advantages, targets, noise = torch.randn(4, 3, 12, dtype=torch.float64).unbind()
    with torch.no_grad():
        log_probs = policy.actions.log_prob(policy(episodes.acted_on), episodes.actions)
    # The policy that acted was a similar one, so that some ratios are clipped and some are not.
    episodes = replace(episodes, behaviour_log_probs=log_probs + 0.2 * noise)
    return episodes, policy, values, advantages, targets


@pytest.mark.parametrize("clip", [0.2, 0.05])
def test_loss_and_its_gradient_equal_rllibs(batch, clip):
    episodes, policy, values, advantages, targets = batch
    inputs = policy(episodes.acted_on)
    log_probs = policy.actions.log_prob(inputs, episodes.actions)
    surrogate = clipped_surrogate(log_probs, episodes.behaviour_log_probs, advantages, clip)
    entropy = policy.actions.entropy(inputs)
    per_step = surrogate - ENTROPY_COEFFICIENT * entropy + value_loss(values, targets)
    ours = masked_mean(per_step, episodes.mask)
    theirs = rllib_loss(episodes, inputs, values, advantages, targets, clip, math.inf)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    parameters = list(policy.parameters())
    our_gradient = torch.autograd.grad(ours, parameters, retain_graph=True)
    their_gradient = torch.autograd.grad(theirs, parameters)
    for one, other in zip(our_gradient, their_gradient, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-8)
    ratios = (log_probs - episodes.behaviour_log_probs).exp()[episodes.mask]
    assert (ratios < 1 - clip).any()
    assert (ratios > 1 + clip).any()
    assert ((ratios - 1).abs() < clip).any()


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "slope"),
    [
        (1.1, 2.0, -2.2, -2.0),
        (1.5, 2.0, -2.4, 0.0),  # Clipped: no more to gain.
        (1.5, -2.0, 3.0, 2.0),  # Never clipped where it would hide a loss.
        (0.5, 2.0, -1.0, -2.0),
        (0.5, -2.0, 1.6, 0.0),
    ],
)
def test_surrogate_and_its_slope_by_hand(ratio, advantage, loss, slope):
    log_prob = torch.tensor([[math.log(ratio)]], dtype=torch.float64, requires_grad=True)
    advantages = torch.full_like(log_prob, advantage)
    surrogate = clipped_surrogate(log_prob, torch.zeros_like(log_prob), advantages, 0.2)
    (gradient,) = torch.autograd.grad(surrogate, log_prob, torch.ones_like(surrogate))
    assert surrogate.item() == pytest.approx(loss)
    assert gradient.item() / ratio == pytest.approx(slope)


def test_an_infinite_clip_is_the_plain_importance_weighted_objective(batch):
    episodes, policy, _, advantages, _ = batch
    log_probs = policy.actions.log_prob(policy(episodes.acted_on), episodes.actions)
    behaviour = episodes.behaviour_log_probs
    surrogate = clipped_surrogate(log_probs, behaviour, advantages, math.inf)
    torch.testing.assert_close(surrogate, -(log_probs - behaviour).exp() * advantages)


def test_padded_steps_of_whatever_density_leave_gradients_finite(random_episodes):
    torch.manual_seed(0)
    policy = Policy(3, 21, False, (4,))
    episodes = random_episodes((2, 5), discrete=False).to(torch.float32)
    with torch.no_grad():
        policy.log_std.fill_(-5.5)  # The density at the mean, e^96, is no float32 number.
        actions = policy.network(episodes.acted_on) + 0.005 * torch.randn(2, 5, 21)
        actions *= episodes.mask[..., None]
        log_probs = policy.actions.log_prob(policy(episodes.acted_on), actions) * episodes.mask
    episodes = replace(episodes, actions=actions, behaviour_log_probs=log_probs)
    critic = ValueHead(3, (8,))
    rollout = make_rollout(episodes, critic, critic, Horizon(1.0, 1.0))
    policy_loss = PolicyLoss(policy.actions, 0.2, 0.0, identity)
    loss = policy_loss(policy(episodes.acted_on), rollout, episodes.rewards)
    gradient = torch.autograd.grad(loss, list(policy.parameters()))
    assert all(g.isfinite().all() for g in gradient)


@pytest.mark.parametrize("target", [10.0, -10.0])
def test_a_return_of_ten_moves_our_value_where_rllibs_clipped_loss_has_no_gradient(batch, target):
    episodes, policy, _, advantages, _ = batch
    head = ValueHead(3, (8,)).double()
    with torch.no_grad():
        head.network.layers[-1].weight.fill_(
            0.1
        )  # At its start of zero the layers below wait for it.
    targets = torch.full_like(episodes.rewards, target)
    values, inputs = head(episodes.acted_on), policy(episodes.acted_on).detach()
    theirs = rllib_loss(episodes, inputs, values, advantages, targets, 0.2, vf_clip_param=10.0)
    their_gradient = torch.autograd.grad(theirs, list(head.parameters()), allow_unused=True)
    assert not any(g.any() for g in their_gradient)
    # Both before and after the head has found the returns' scale.
    for _ in range(2):
        predicted = head.normalised(episodes.acted_on)
        losses = value_loss(predicted, (targets - head.mean) / head.std)
        gradient = torch.autograd.grad(masked_mean(losses, episodes.mask), list(head.parameters()))
        assert all(g.any() for g in gradient)
        signs = torch.where(episodes.rewards > 0, target, -target)
        head.update_scale(signs, episodes.mask, identity)
