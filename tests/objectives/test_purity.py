"""What a meta-gradient looks at and what it leaves alone.

The outer loss sees the learned credit through the policy only, constants carry no gradient, and
nothing that is passed in is changed.
"""

from types import SimpleNamespace

import pytest
import torch
from torch.func import functional_call

from metairn.credit_assignment.meta_irn import MetaIRN
from metairn.credit_assignment.ppo import PPO
from metairn.intrinsic_attention_ppo.losses import PolicyLoss, mixed_advantages
from metairn.intrinsic_attention_ppo.rollout import Horizon, make_rollout
from metairn.networks.policy import Policy
from metairn.networks.value import ValueHead
from metairn.objectives.advantages import identity
from metairn.objectives.meta_gradient import (
    INNER_UPDATES,
    InnerLoop,
    UpdateState,
    clip_by_norm,
    flatten,
    meta_gradient,
    norm,
)

HORIZON = Horizon(discount=0.97, gae_lambda=0.9)


@pytest.fixture(params=[True, False], ids=["discrete", "continuous"])
def parts(request, random_episodes, make_spec):
    """Everything that takes part in an outer update."""
    torch.manual_seed(0)
    policy = Policy(3, 2, request.param, (4,)).double()
    critics = [ValueHead(3, (4,)).double() for _ in range(2)]
    episodes = random_episodes(discrete=request.param)
    params = {name: p.detach().clone() for name, p in policy.named_parameters()}
    return SimpleNamespace(
        policy=policy,
        critics=critics,
        assigner=MetaIRN(make_spec(request.param), encoder_width=4).double(),
        rollout=make_rollout(episodes, *critics, HORIZON),
        params=params,
        state=UpdateState(
            0.01 * flatten(torch.randn_like(p) for p in params.values()),
            flatten(torch.rand_like(p) for p in params.values()),
            3,
        ),
    )


def outputs(parts, params):
    return functional_call(parts.policy, params, (parts.rollout.episodes.acted_on,))


def inner_loss(parts):
    def loss(params):
        advantages = mixed_advantages(parts.assigner, parts.rollout, HORIZON)
        policy_loss = PolicyLoss(parts.policy.actions, 0.2, 0.01, identity)
        return policy_loss(outputs(parts, params), parts.rollout, advantages)

    return loss


def outer_loss(parts):
    policy_loss = PolicyLoss(parts.policy.actions, 0.2, 0.0, identity)
    rollout = parts.rollout
    return lambda params: policy_loss(outputs(parts, params), rollout, rollout.extrinsic_advantages)


def perturb(module):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter))


def test_outer_loss_of_a_fixed_policy_does_not_depend_on_the_credit(parts):
    inner_loop = InnerLoop(INNER_UPDATES["sgd"], 0.1)
    after = inner_loop.unroll(parts.params, [inner_loss(parts)], parts.state)
    fixed = {name: p.detach() for name, p in after.items()}
    inner_before, outer_before = inner_loss(parts)(fixed), outer_loss(parts)(fixed)
    perturb(parts.assigner)
    assert torch.equal(outer_loss(parts)(fixed), outer_before)
    assert not torch.equal(inner_loss(parts)(fixed), inner_before)


def test_a_rollout_carries_no_gradient(parts):
    rollout = parts.rollout
    for name in ("extrinsic_advantages", "extrinsic_targets", "mixed_values", "mixed_next_values"):
        assert not getattr(rollout, name).requires_grad, name
    advantages = mixed_advantages(parts.assigner, rollout, HORIZON)
    critics = [p for critic in parts.critics for p in critic.parameters()]
    reached = torch.autograd.grad(advantages.sum(), critics, allow_unused=True)
    assert all(gradient is None for gradient in reached)


def test_plain_ppo_learns_from_the_extrinsic_advantages(parts, random_episodes):
    episodes, critic = parts.rollout.episodes, parts.critics[0]
    rollout = make_rollout(episodes, critic, critic, HORIZON)
    assigner = PPO(parts.assigner.spec)
    advantages, credit = mixed_advantages(assigner, rollout, HORIZON), assigner(episodes)
    torch.testing.assert_close(advantages, rollout.extrinsic_advantages)
    assert torch.equal(credit.rewards, episodes.rewards)
    torch.testing.assert_close(
        rollout.extrinsic_targets[episodes.mask],
        (rollout.extrinsic_advantages + critic(episodes.acted_on))[episodes.mask],
    )


@pytest.mark.parametrize("name", sorted(INNER_UPDATES))
def test_nothing_that_is_passed_in_is_changed(parts, copy_of_tensors, name):
    rollout, state = parts.rollout, parts.state
    holders = (rollout, parts.policy, parts.assigner, *parts.critics, parts.params)
    memory = ({"first": state.first_moment, "second": state.second_moment},)
    before = copy_of_tensors(*holders, *memory)
    versions = [p._version for p in parts.params.values()]
    assert len(before) > 40

    inner_loop = InnerLoop(INNER_UPDATES[name], 0.1, max_gradient_norm=0.1)
    make_rollout(rollout.episodes, *parts.critics, HORIZON)
    mixed_advantages(parts.assigner, rollout, HORIZON)
    credit_params = list(parts.assigner.parameters())
    meta_gradient(
        outer_loss(parts), [inner_loss(parts)] * 2, inner_loop, parts.params, credit_params, state
    )

    after = copy_of_tensors(*holders, *memory)
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert [p._version for p in parts.params.values()] == versions
    assert not any(p.requires_grad for p in parts.params.values())
    assert all(p.grad is None for p in [*credit_params, *parts.policy.parameters()])
    assert state.num_updates == 3


def test_credit_that_the_inner_loss_ignores_is_refused_in_one_sentence(parts):
    inner_loop = InnerLoop(INNER_UPDATES["sgd"], 0.1)
    credit_params = list(parts.assigner.parameters())
    outer = outer_loss(parts)
    with pytest.raises(RuntimeError, match=r"^The inner losses do not depend on [^.]*\.$"):
        meta_gradient(outer, [outer], inner_loop, parts.params, credit_params)


def test_a_credit_parameter_without_influence_gets_zeros(parts):
    idle = torch.ones(2, 3, dtype=torch.float64, requires_grad=True)
    inner_loop = InnerLoop(INNER_UPDATES["sgd"], 0.1)
    head = parts.assigner.head.bias
    gradient, loss = meta_gradient(
        outer_loss(parts), [inner_loss(parts)], inner_loop, parts.params, [idle, head]
    )
    assert torch.equal(gradient[0], torch.zeros_like(idle))
    assert gradient[1].any()
    assert not loss.requires_grad


@pytest.mark.parametrize(("name", "factor"), [("sgd", 3.0), ("normalised", 1.0)])
def test_each_inner_gradient_is_summed_over_learners(parts, name, factor):
    loss = [inner_loss(parts)]
    alone = InnerLoop(INNER_UPDATES[name], 0.1).unroll(parts.params, loss, parts.state)
    together = InnerLoop(INNER_UPDATES[name], 0.1, reduce_sum=lambda g: 3 * g)
    for key, moved in together.unroll(parts.params, loss, parts.state).items():
        start = parts.params[key]
        torch.testing.assert_close(moved - start, factor * (alone[key] - start))


def test_clipping_bounds_the_norm_and_leaves_small_gradients_alone():
    gradient = torch.tensor([3.0, 0.0, 4.0])
    assert norm(gradient).item() == 5.0
    torch.testing.assert_close(clip_by_norm(gradient, 1.0), torch.tensor([0.6, 0.0, 0.8]))
    for limit in (None, 5.5):
        assert torch.equal(clip_by_norm(gradient, limit), gradient)


@pytest.mark.parametrize("name", sorted(INNER_UPDATES))
def test_a_zero_gradient_moves_nothing_and_can_be_differentiated(name):
    gradient, theta = torch.zeros(3, requires_grad=True), torch.ones(3)
    state = UpdateState.empty({"a": theta})
    moved, _ = INNER_UPDATES[name](theta, clip_by_norm(gradient, 0.5), state, 0.1)
    (derivative,) = torch.autograd.grad(moved.sum(), gradient)
    assert torch.equal(moved, theta)
    assert derivative.isfinite().all()
