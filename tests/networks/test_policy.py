"""The policy's action distributions against closed forms and against their own samples."""

import math

import pytest
import scipy.stats
import torch

from metairn.networks.mlp import linear
from metairn.networks.policy import ContinuousActions, DiscreteActions, Policy

LOGITS = torch.tensor([[1.0, -0.5, 0.3, 2.0]], dtype=torch.float64)
# Means 0.5 and -1.0, standard deviations 2.0 and 0.3.
NORMALS = torch.tensor([[0.5, -1.0, math.log(2.0), math.log(0.3)]], dtype=torch.float64)


def test_discrete_samples_come_as_often_as_their_probability_says():
    n = 20_000
    generator = torch.Generator().manual_seed(0)
    samples = DiscreteActions().sample(LOGITS.float().expand(n, 4), generator)
    assert samples.dtype == torch.int64
    counts = torch.bincount(samples, minlength=4).double()
    expected = n * LOGITS[0].softmax(dim=-1)
    statistic = float(((counts - expected).square() / expected).sum())
    assert statistic < scipy.stats.chi2.ppf(1 - 1e-4, df=3)


def test_continuous_samples_follow_their_normals():
    generator = torch.Generator().manual_seed(0)
    samples = ContinuousActions().sample(NORMALS.float().expand(20_000, 4), generator)
    for column, mean, std in ((0, 0.5, 2.0), (1, -1.0, 0.3)):
        test = scipy.stats.kstest(samples[:, column].numpy(), scipy.stats.norm(mean, std).cdf)
        assert test.pvalue > 1e-4
    assert abs(float(torch.corrcoef(samples.T)[0, 1])) < 5 / math.sqrt(20_000)


@pytest.mark.parametrize(
    ("actions", "inputs"), [(DiscreteActions(), LOGITS), (ContinuousActions(), NORMALS)]
)
def test_samples_depend_on_the_given_generator_alone(actions, inputs):
    inputs = inputs.expand(50, 4)
    before = torch.random.get_rng_state()
    first = actions.sample(inputs, torch.Generator().manual_seed(3))
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(5)
    assert torch.equal(actions.sample(inputs, torch.Generator().manual_seed(3)), first)
    assert not torch.equal(actions.sample(inputs, torch.Generator().manual_seed(4)), first)


def test_no_draw_falls_outside_the_actions():
    # Probabilities of which float32 cumulative sums end below one, and one action with all of it.
    logits = torch.cat([torch.zeros(1, 7).expand(50_000, 7), torch.full((9, 7), -1e4)])
    logits[-9:, 4] = 0.0
    samples = DiscreteActions().sample(logits, torch.Generator().manual_seed(0))
    assert 0 <= samples.min() <= samples.max() <= 6
    assert (samples[-9:] == 4).all()


def test_an_impossible_action_is_never_drawn(monkeypatch):
    # One uniform draw in 2^24 is exactly 0.
    monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.zeros(shape))
    logits = torch.tensor([[-math.inf, 0.0, 0.0]])
    assert DiscreteActions().sample(logits, torch.Generator()).item() == 1


def test_discrete_log_prob_entropy_kl_and_mode_follow_their_formulas():
    actions = DiscreteActions()
    other = torch.tensor([[0.0, 0.7, -1.0, 0.1]], dtype=torch.float64)
    p, q = LOGITS.softmax(dim=-1), other.softmax(dim=-1)
    for action in range(4):
        log_prob = actions.log_prob(LOGITS, torch.tensor([action]))
        torch.testing.assert_close(log_prob, p[:, action].log())
    torch.testing.assert_close(actions.entropy(LOGITS), -(p * p.log()).sum(dim=-1))
    torch.testing.assert_close(actions.kl(LOGITS, other), (p * (p / q).log()).sum(dim=-1))
    assert actions.kl(LOGITS, LOGITS).item() == pytest.approx(0, abs=1e-12)
    assert actions.mode(LOGITS).tolist() == [3]


def test_continuous_log_prob_entropy_kl_and_mode_follow_their_formulas():
    actions = ContinuousActions()
    action = torch.tensor([[1.0, -0.7]], dtype=torch.float64)
    other = torch.tensor([[0.0, 0.2, math.log(1.5), math.log(0.4)]], dtype=torch.float64)
    by_hand, kl = 0.0, 0.0
    for a, m, s, n, r in ((1.0, 0.5, 2.0, 0.0, 1.5), (-0.7, -1.0, 0.3, 0.2, 0.4)):
        by_hand += -((a - m) ** 2) / (2 * s**2) - math.log(s) - 0.5 * math.log(2 * math.pi)
        kl += math.log(r / s) + (s**2 + (m - n) ** 2) / (2 * r**2) - 0.5
    entropy = math.log(2.0) + math.log(0.3) + math.log(2 * math.pi * math.e)
    assert actions.log_prob(NORMALS, action).tolist() == pytest.approx([by_hand])
    assert actions.entropy(NORMALS).tolist() == pytest.approx([entropy])
    assert actions.kl(NORMALS, other).tolist() == pytest.approx([kl])
    assert actions.mode(NORMALS).tolist() == [[0.5, -1.0]]


@pytest.mark.parametrize("discrete", [True, False])
def test_log_probs_of_a_batch_of_episodes_are_one_per_step(discrete, random_episodes):
    episodes = random_episodes(discrete=discrete)
    policy = Policy(3, 2, discrete, (8,)).double()
    inputs = policy(episodes.acted_on)
    assert inputs.shape == (4, 5, 2 if discrete else 4)
    for figure in (
        policy.actions.log_prob(inputs, episodes.actions),
        policy.actions.entropy(inputs),
        policy.actions.kl(episodes.behaviour_inputs, inputs),
    ):
        assert figure.shape == episodes.rewards.shape


def test_a_fresh_policy_hardly_prefers_any_action():
    torch.manual_seed(0)
    observations = torch.randn(100, 3)
    probabilities = Policy(3, 4, True, (64, 64))(observations).softmax(dim=-1)
    torch.testing.assert_close(probabilities, torch.full((100, 4), 0.25), atol=0.02, rtol=0)
    mean, log_std = Policy(3, 4, False, (64, 64))(observations).chunk(2, dim=-1)
    assert mean.abs().max() < 0.05
    assert not log_std.any()


def test_every_policy_parameter_moves_the_log_probability(random_episodes):
    for discrete in (True, False):
        episodes = random_episodes(discrete=discrete)
        policy = Policy(3, 2, discrete, (8, 8)).double()
        log_probs = policy.actions.log_prob(policy(episodes.acted_on), episodes.actions)
        gradients = torch.autograd.grad(log_probs.sum(), list(policy.parameters()))
        assert all(g.any() for g in gradients)


def test_linear_layers_start_orthogonal_with_zero_bias():
    layer = linear(9, 4, gain=0.5)
    torch.testing.assert_close(layer.weight @ layer.weight.T, 0.25 * torch.eye(4))
    assert not layer.bias.any()
    assert linear(9, 4, gain=0.5, bias=False).bias is None
