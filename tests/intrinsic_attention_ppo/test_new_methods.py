"""A new method is one subclass: it trains without a change to any other file."""

from typing import ClassVar

import pytest
import torch
from small_runs import SmallRun, small_config
from torch import nn

from metairn.credit_assignment.assigner import Credit, CreditAssigner
from metairn.objectives.advantages import masked_mean


class Recent(CreditAssigner):
    """Pairwise weights: an action answers for the next three rewards only."""

    needs_mixed_critic: ClassVar[bool] = False

    def forward(self, episodes):
        steps = torch.arange(episodes.rewards.shape[1])
        near = (steps[None, :] - steps[:, None]).clamp(min=0) < 3
        return Credit(episodes.rewards, near.float().expand(len(episodes.rewards), -1, -1))


class Redistributed(CreditAssigner):
    """The return, shared out by a regression of the rewards on the observations."""

    learns_by: ClassVar[str] = "own_loss"
    discount = 0.0
    credit_learning_rate = 1e-2

    def __init__(self, spec, width=4):
        super().__init__(spec)
        self.predict = nn.Sequential(nn.Linear(spec.observation_size, width), nn.Linear(width, 1))

    def forward(self, episodes):
        return Credit(self.predict(episodes.acted_on).squeeze(-1))

    def own_loss(self, episodes):
        errors = self.forward(episodes).rewards - episodes.rewards
        return masked_mean(errors.square(), episodes.mask)


def small_run(method, **training):
    return SmallRun(small_config(credit_assigner=method, **training))


@pytest.mark.parametrize("method", [Recent, Redistributed])
@pytest.mark.parametrize("env", ["umbrella", "CartPole-v1", "Pendulum-v1"])
def test_a_method_of_ten_lines_trains_on_any_environment(method, env):
    run = small_run(method, num_minibatches=2, **({} if env == "umbrella" else {"env": env}))
    before = {n: p.detach().clone() for n, p in run.networks.named_parameters()}
    measured = run.train(3)
    assert not any(torch.equal(p, before[n]) for n, p in run.networks.named_parameters())
    assert ("credit_loss" in measured[-1]) == (method is Redistributed)
    assert ("value_loss_mixed" in measured[-1]) == (method is Redistributed)


def test_its_own_loss_falls():
    settings = {"credit_assigner_settings": {"width": 8}, "env": "CartPole-v1"}
    run = small_run(Redistributed, num_epochs=10, **settings)
    losses = [figures["credit_loss"] for figures in run.train(10)]
    assert losses[-1] < 0.1 * losses[0]
    assert run.networks.credit_assigner.predict[0].out_features == 8


def test_its_weights_are_what_the_policy_learns_from(monkeypatch):
    """With advantages of three steps, credit reaches back three steps."""
    run = small_run(Recent)
    episodes = run.sample()
    run.learn(episodes)
    batch = run.learner._learner_connector(
        rl_module=run.learner.module, batch={}, episodes=episodes, shared_data={}
    )["default_policy"]
    credit = run.learner.credit_maps(batch)["credit_matrix"]
    lag = torch.arange(10)[None, :] - torch.arange(10)[:, None]
    expected = ((lag >= 0) & (lag < 3)).float().expand(len(credit), -1, -1)
    torch.testing.assert_close(torch.from_numpy(credit), expected)
