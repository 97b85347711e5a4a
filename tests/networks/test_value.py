"""The value head: rescaling never changes what it predicts, whatever the returns' scale."""

import pytest
import torch

from metairn.networks.value import ValueHead
from metairn.objectives.advantages import identity

ALL = torch.ones(8, 10, dtype=torch.bool)


@pytest.fixture
def head():
    torch.manual_seed(0)
    return ValueHead(3, (16, 16))


def random_returns(mean, std, seed=0):
    return mean + std * torch.randn(8, 10, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("mean", "std"), [(0.0, 1.0), (10.0, 0.1), (-300.0, 50.0), (0.0, 1e-2), (1e4, 1e3)]
)
def test_predictions_survive_each_update_of_the_scale(head, mean, std):
    observations = torch.randn(100, 3)
    for batch in range(5):
        before = head(observations).detach()
        head.update_scale(random_returns(mean, std, batch), ALL, identity)
        # Relative to the units that V now has: its own size, or that of the mean it is added to.
        size = max(float(before.abs().max()), float(head.mean.abs()))
        torch.testing.assert_close(head(observations), before, rtol=1e-4, atol=1e-4 * size)


def test_the_scale_moves_predictions_nowhere_even_when_it_jumps(head):
    observations = torch.randn(100, 3)
    before = head(observations)
    head.update_scale(random_returns(10.0, 5.0), ALL, identity)
    head.update_scale(random_returns(-20.0, 0.5), ALL, identity)
    assert abs(float(head.mean) - 10.0) > 1.0
    torch.testing.assert_close(head(observations), before, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (10.0, 0.1), (-300.0, 50.0), (0.0, 1e-2)])
def test_normalised_targets_have_mean_zero_and_deviation_one(head, mean, std):
    for batch in range(60):
        head.update_scale(random_returns(mean, std, batch), ALL, identity)
    targets = (random_returns(mean, std, 99) - head.mean) / head.std
    assert abs(float(targets.mean())) < 0.4
    assert float(targets.std()) == pytest.approx(1.0, abs=0.25)


def test_the_first_batch_alone_sets_the_scale(head):
    returns = random_returns(7.0, 3.0)
    head.update_scale(returns, ALL, identity)
    assert float(head.mean) == pytest.approx(float(returns.mean()), rel=1e-5)
    assert float(head.std) == pytest.approx(float(returns.std(correction=0)), rel=1e-5)


def test_padded_returns_do_not_count(head):
    returns = random_returns(7.0, 3.0)
    mask = torch.rand(8, 10, generator=torch.Generator().manual_seed(0)) < 0.6
    head.update_scale(torch.where(mask, returns, 1e6), mask, identity)
    assert float(head.mean) == pytest.approx(float(returns[mask].mean()), rel=1e-5)


def test_moments_are_those_of_all_learners_together():
    returns = random_returns(7.0, 3.0)
    torch.manual_seed(0)
    alone = ValueHead(3, (4,))
    alone.update_scale(returns, ALL, identity)
    others = returns[:6].double()
    rest = torch.stack(
        [torch.tensor(60.0, dtype=torch.float64), others.sum(), others.square().sum()]
    )
    shared = ValueHead(3, (4,))
    shared.update_scale(returns[6:], ALL[6:], lambda sums: sums + rest)
    torch.testing.assert_close(shared.mean, alone.mean)
    torch.testing.assert_close(shared.std, alone.std)


@pytest.mark.parametrize("constant", [0.0, 10.0, -1e-3, 1e6])
def test_returns_that_are_all_equal_divide_by_nothing(head, constant):
    observations = torch.randn(20, 3)
    before = head(observations).detach()
    for _ in range(3):
        head.update_scale(torch.full((8, 10), constant), ALL, identity)
    assert all(torch.isfinite(t).all() for t in head.state_dict().values())
    assert head.std > 0
    size = max(abs(constant), float(before.abs().max()))
    torch.testing.assert_close(head(observations), before, rtol=0, atol=1e-4 * size)


@pytest.mark.parametrize("constant", [0.0, 10.0])
def test_returns_that_are_all_equal_leave_weights_of_a_size_that_can_learn(head, constant):
    head.update_scale(torch.full((8, 10), constant), ALL, identity)
    # Weights grow by what the deviation shrinks: at 1e-6 no learning rate would move them.
    assert head.network.layers[-1].weight.abs().max() < 100


def test_normalised_is_what_the_prediction_scales(head):
    head.update_scale(random_returns(7.0, 3.0), ALL, identity)
    observations = torch.randn(5, 4, 3)
    torch.testing.assert_close(
        head(observations), head.mean + head.std * head.normalised(observations)
    )
    assert head(observations).shape == (5, 4)
