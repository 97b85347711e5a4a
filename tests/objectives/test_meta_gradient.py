"""THE meta-gradient against finite differences of the whole inner loop, and against TorchOpt.

The finite differences share nothing with what they check but the inner and the outer loss: the
loop, clipping and the optimisers are written out here a second time, with plain first-order
gradients.
"""

from dataclasses import dataclass, replace

import pytest
import torch
import torchopt
from torch.func import functional_call

from metairn.credit_assignment.meta_irn import MetaIRN
from metairn.intrinsic_attention_ppo.losses import PolicyLoss, mixed_advantages
from metairn.intrinsic_attention_ppo.rollout import Horizon, Rollout, make_rollout
from metairn.networks.policy import Policy
from metairn.networks.value import ValueHead
from metairn.objectives.advantages import identity, step_weights
from metairn.objectives.meta_gradient import (
    INNER_UPDATES,
    InnerLoop,
    UpdateState,
    flatten,
    gradient_of,
    meta_gradient,
    unflatten,
)

LEARNING_RATES = {"sgd": 0.5, "adam": 0.02, "normalised": 0.2}
# Smaller than any inner gradient here, so that clipping always happens.
CLIPPING = [None, 1e-2]
HORIZON = Horizon(discount=0.97, gae_lambda=0.9)
DIFFERENCE = 1e-5


@dataclass
class Setting:
    """A policy, a reward network and episodes, with both losses as functions of the policy."""

    policy: Policy
    assigner: MetaIRN
    inner: list[Rollout]
    outer: Rollout

    @property
    def params(self):
        return {name: p.detach().clone() for name, p in self.policy.named_parameters()}

    def outputs(self, params, rollout):
        return functional_call(self.policy, params, (rollout.episodes.acted_on,))

    def inner_losses(self, steps):
        def loss_on(rollout):
            def loss(params):
                advantages = mixed_advantages(self.assigner, rollout, HORIZON)
                loss = PolicyLoss(self.policy.actions, 0.2, 0.01, identity)
                return loss(self.outputs(params, rollout), rollout, advantages)

            return loss

        return [loss_on(self.inner[i % len(self.inner)]) for i in range(steps)]

    def outer_loss(self, params):
        loss = PolicyLoss(self.policy.actions, 0.2, 0.0, identity)
        return loss(self.outputs(params, self.outer), self.outer, self.outer.extrinsic_advantages)


@pytest.fixture
def setting(random_episodes, make_spec):
    torch.manual_seed(0)
    policy = Policy(3, 2, True, (4,)).double()
    assigner = MetaIRN(make_spec(True), encoder_width=4, intrinsic_coefficient=1.0).double()
    with torch.no_grad():
        # Away from the flat start, so that second derivatives matter.
        for parameter in [*policy.parameters(), *assigner.parameters()]:
            parameter.add_(0.5 * torch.randn_like(parameter))
    critics = [ValueHead(3, (4,)).double() for _ in range(2)]

    def rollout(seed, lengths):
        # Episodes that this policy acted in: all importance ratios start at one.
        episodes = random_episodes(lengths, seed=seed)
        with torch.no_grad():
            log_probs = policy.actions.log_prob(policy(episodes.acted_on), episodes.actions)
        return make_rollout(replace(episodes, behaviour_log_probs=log_probs), *critics, HORIZON)

    inner = [rollout(1, (4, 6, 3)), rollout(2, (5, 2, 5))]
    return Setting(policy, assigner, inner, inner[-1])


def memory_of_five_updates(params):
    generator = torch.Generator().manual_seed(5)

    def like(p):
        return torch.randn(p.shape, generator=generator, dtype=p.dtype)

    first = {name: 0.01 * like(p) for name, p in params.items()}
    second = {name: 1e-3 * like(p).square() + 1e-5 for name, p in params.items()}
    return UpdateState(flatten(first.values()), flatten(second.values()), 5)


def second_implementation(params, losses, name, rate, max_norm, state, frozen=None):
    """Parameters after the inner loop, and Adam's second moments on the way.

    With `frozen` second moments are not computed but taken from there: what is constant for the
    meta-gradient has to be constant for its finite differences.
    """
    current = {n: p.clone() for n, p in params.items()}
    m, v = (unflatten(x, params) for x in (state.first_moment, state.second_moment))
    seen = []
    for i, loss in enumerate(losses):
        leaves = {n: p.detach().requires_grad_() for n, p in current.items()}
        gradient = torch.autograd.grad(loss(leaves), list(leaves.values()))
        norm = float(torch.cat([g.flatten() for g in gradient]).norm())
        if max_norm is not None:
            assert norm > 2 * max_norm, "the case does not clip"
            gradient = [g * max_norm / norm for g in gradient]
            norm = max_norm
        if name == "adam":
            for n, g in zip(leaves, gradient, strict=True):
                m[n] = m[n] + 0.1 * (g - m[n])
                v[n] = v[n] + 0.001 * (g**2 - v[n])
            seen.append(dict(v))
            used, count = (frozen or seen)[i], state.num_updates + i + 1
            current = {
                n: p - rate * (m[n] / (1 - 0.9**count))
                / ((used[n] / (1 - 0.999**count)) ** 0.5 + 1e-8)
                for n, p in current.items()
            }  # fmt: skip
        else:
            length = rate / norm if name == "normalised" else rate
            current = {
                n: p - length * g for (n, p), g in zip(current.items(), gradient, strict=True)
            }
    return current, seen


def finite_differences(setting, parameter, index, after):
    """d outer loss / d parameter[index], by moving the parameter and doing everything again."""
    values = []
    entry = parameter.detach().flatten()  # Shares its memory with the parameter.
    centre = float(entry[index])
    for sign in (1, -1):
        entry[index] = centre + sign * DIFFERENCE
        values.append(float(setting.outer_loss(after())))
    entry[index] = centre
    return (values[0] - values[1]) / (2 * DIFFERENCE)


@pytest.mark.parametrize("max_norm", CLIPPING)
@pytest.mark.parametrize("outer_data", ["same", "held_out", "next"])
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize(
    ("name", "remembers"), [("sgd", False), ("normalised", False), ("adam", False), ("adam", True)]
)
def test_equals_finite_differences(
    setting, random_episodes, name, remembers, steps, outer_data, max_norm
):
    params, rate = setting.params, LEARNING_RATES[name]
    state = memory_of_five_updates(params) if remembers else UpdateState.empty(params)
    losses = setting.inner_losses(steps)
    arguments = (params, losses, name, rate, max_norm, state)
    theta, frozen = second_implementation(*arguments)
    if outer_data != "same":
        episodes = random_episodes((3, 5, 4, 2), seed=3)
        acting = theta if outer_data == "next" else params
        with torch.no_grad():
            inputs = torch.func.functional_call(setting.policy, acting, (episodes.acted_on,))
            log_probs = setting.policy.actions.log_prob(inputs, episodes.actions)
        advantages = torch.randn_like(episodes.rewards)
        setting.outer = replace(
            setting.outer,
            episodes=replace(episodes, behaviour_log_probs=log_probs),
            extrinsic_advantages=advantages,
            weights=step_weights(episodes.mask, dtype=torch.float64),
        )

    credit_params = list(setting.assigner.parameters())
    inner_loop = InnerLoop(INNER_UPDATES[name], rate, max_norm)
    gradient, value = meta_gradient(
        setting.outer_loss, losses, inner_loop, params, credit_params, state
    )

    assert float(value) == pytest.approx(float(setting.outer_loss(theta)), rel=1e-10)
    sizes = torch.tensor([p.numel() for p in credit_params])
    numbers = torch.cat([g.flatten() for g in gradient])
    chosen = torch.randperm(len(numbers), generator=torch.Generator().manual_seed(0))[:10]
    scale = float(numbers.abs().max())
    assert scale > 1e-6
    for position in chosen.tolist():
        which = int((sizes.cumsum(0) <= position).sum())
        expected = finite_differences(
            setting,
            credit_params[which],
            position - int(sizes[:which].sum()),
            lambda: second_implementation(*arguments, frozen)[0],
        )
        assert float(numbers[position]) == pytest.approx(expected, rel=1e-4, abs=1e-6 * scale)


@pytest.mark.parametrize("steps", [1, 2])
def test_equals_torchopt(setting, steps):
    params, losses = setting.params, setting.inner_losses(steps)
    credit_params = list(setting.assigner.parameters())
    inner_loop = InnerLoop(INNER_UPDATES["sgd"], 0.5)
    ours, _ = meta_gradient(setting.outer_loss, losses, inner_loop, params, credit_params)

    optimiser = torchopt.MetaSGD(setting.policy, lr=0.5)
    for loss in losses:
        optimiser.step(loss(dict(setting.policy.named_parameters())))
    outer = setting.outer_loss(dict(setting.policy.named_parameters()))
    theirs = torch.autograd.grad(outer, credit_params)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("name", sorted(INNER_UPDATES))
@pytest.mark.parametrize("steps", [1, 2])
def test_a_first_gradient_that_is_known_already_changes_nothing(setting, name, steps):
    params, losses = setting.params, setting.inner_losses(steps)
    credit_params = list(setting.assigner.parameters())
    arguments = (losses, InnerLoop(INNER_UPDATES[name], 0.1, 1e-2), params, credit_params)
    leaves = {n: p.detach().requires_grad_() for n, p in params.items()}
    known = gradient_of(losses[0], leaves, create_graph=True)
    anew, loss = meta_gradient(setting.outer_loss, *arguments)
    shared, same_loss = meta_gradient(setting.outer_loss, *arguments, first_gradient=known)
    assert torch.equal(loss, same_loss)
    for one, other in zip(anew, shared, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=0)
    assert any(g.any() for g in shared)
