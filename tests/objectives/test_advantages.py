"""Advantages against their definition, RLlib's own, and numbers worked out by hand."""

import numpy as np
import pytest
import torch
from ray.rllib.utils.postprocessing.value_predictions import compute_value_targets

from metairn.objectives.advantages import (
    decay_weights,
    gae,
    masked_mean,
    normalise,
    step_weights,
    td_errors,
    weighted_advantages,
    weighted_advantages_loop,
)

LENGTHS = (4, 7, 1, 5)


def random_errors(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(4, 7, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("shape", [(7, 7), (4, 7, 7)])
def test_matrix_product_equals_the_loop_over_its_definition(shape):
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(shape, generator=generator, dtype=torch.float64)
    errors = random_errors()
    fast, slow = weighted_advantages(errors, weights), weighted_advantages_loop(errors, weights)
    torch.testing.assert_close(fast, slow)


@pytest.mark.parametrize("shape", [(7, 7), (4, 7, 7)])
def test_weights_of_what_came_before_do_not_count(shape):
    errors, weights = random_errors(), torch.ones(shape, dtype=torch.float64)
    garbage = weights + 5 * weights.tril(-1)
    torch.testing.assert_close(
        weighted_advantages(errors, garbage), weighted_advantages(errors, weights)
    )


@pytest.mark.parametrize(
    ("discount", "gae_lambda"), [(1.0, 1.0), (0.9, 0.8), (0.97, 0.0), (0.0, 1.0)]
)
def test_gae_equals_rllibs(random_episodes, discount, gae_lambda):
    episodes = random_episodes(LENGTHS)
    assert set(episodes.terminated.tolist()) == {True, False}
    values = torch.randn(4, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    following = episodes.next_values(values)
    errors = td_errors(episodes.rewards, values[:, :-1], following, episodes.mask, discount)
    advantages = gae(errors, discount, gae_lambda)
    for b, length in enumerate(LENGTHS):
        # RLlib wants an episode and the step it ended in, flagged at the last real step.
        ends = np.zeros(length + 1, dtype=bool)
        ends[length - 1] = True
        terminated = bool(episodes.terminated[b])
        targets = compute_value_targets(
            values=values[b, : length + 1].numpy(),
            rewards=np.append(episodes.rewards[b, :length].numpy(), 0.0),
            terminateds=(ends & terminated).astype(np.float64),
            truncateds=(ends & (not terminated)).astype(np.float64),
            gamma=discount,
            lambda_=gae_lambda,
        )
        expected = targets[:length] - values[b, :length].numpy()
        np.testing.assert_allclose(advantages[b, :length], expected, rtol=1e-5, atol=1e-5)
        assert not advantages[b, length:].any()


@pytest.mark.parametrize(
    ("value_behind", "expected"),
    [
        (0.0, [0.75 + 0.25 * 1.5, 1.5]),  # Terminal: delta = (1 + 1.5/2 - 1, 3 - 1.5).
        (4.0, [0.75 + 0.25 * 3.5, 3.5]),  # Truncated: delta_1 is gamma V_2 = 2 larger.
    ],
)
def test_gae_of_two_steps_by_hand(value_behind, expected):
    rewards, values = torch.tensor([[1.0, 3.0]]), torch.tensor([[1.0, 1.5]])
    following = torch.tensor([[1.5, value_behind]])
    errors = td_errors(rewards, values, following, torch.ones(1, 2, dtype=torch.bool), 0.5)
    torch.testing.assert_close(gae(errors, 0.5, 0.5), torch.tensor([expected]))


def test_td_errors_of_padded_steps_are_zero(random_episodes):
    episodes = random_episodes(LENGTHS)
    ones = torch.ones_like(episodes.rewards)
    errors = td_errors(episodes.rewards, ones, 3 * ones, episodes.mask, 0.9)
    assert not errors[~episodes.mask].any()


def test_no_decay_weights_each_step_by_itself_alone():
    weights = decay_weights(5, 0.0, torch.float64, torch.device("cpu"))
    assert torch.equal(weights, torch.eye(5, dtype=torch.float64))
    errors = random_errors()
    assert torch.equal(gae(errors, 0.0, 1.0), errors)
    assert torch.equal(gae(errors, 0.9, 0.0), errors)


def test_decay_one_sums_what_is_still_to_come():
    errors = random_errors()
    torch.testing.assert_close(gae(errors, 1.0, 1.0), errors.flip(1).cumsum(1).flip(1))


def test_masked_means_of_learners_add_up_to_the_mean_over_all_their_steps(random_episodes):
    episodes = random_episodes(LENGTHS)
    values, mask = episodes.rewards, episodes.mask
    torch.testing.assert_close(masked_mean(values, mask), values[mask].mean())
    shares = [
        masked_mean(values[part], mask[part], lambda count: count * 0 + mask.sum())
        for part in (slice(0, 1), slice(1, 4))
    ]
    torch.testing.assert_close(sum(shares), values[mask].mean())


def test_masked_mean_ignores_whatever_stands_in_the_padding():
    mask = torch.tensor([[True, False]])
    values = torch.tensor([[2.0, float("nan")]], requires_grad=True)
    mean = masked_mean(values, mask)
    (gradient,) = torch.autograd.grad(mean, values)
    assert mean.item() == 2.0
    assert gradient.tolist() == [[1.0, 0.0]]


def weights(mask):
    return step_weights(mask, dtype=torch.float64)


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (1e-3, 5.0), (1e3, -1e4)])
def test_normalised_values_have_mean_zero_and_deviation_one(random_episodes, scale, shift):
    episodes = random_episodes(LENGTHS)
    mask = episodes.mask
    normal = normalise(scale * episodes.rewards + shift, weights(mask))
    assert float(normal[mask].mean()) == pytest.approx(0.0, abs=1e-6)
    assert float(normal[mask].std(correction=0)) == pytest.approx(1.0, abs=1e-4)


def test_normalise_is_differentiable_where_values_differ(random_episodes):
    episodes = random_episodes(LENGTHS)
    values = episodes.rewards.requires_grad_()
    assert torch.autograd.gradgradcheck(lambda v: normalise(v, weights(episodes.mask)), (values,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, 0.1, -10.1, 1000.3])
def test_values_that_are_all_equal_become_zero_with_finite_gradients(random_episodes, value, dtype):
    mask = random_episodes(LENGTHS).mask
    values = torch.full(mask.shape, value, dtype=dtype, requires_grad=True)
    normal = normalise(values, step_weights(mask, dtype=dtype))
    weights = torch.arange(normal.numel(), dtype=dtype).view_as(normal)
    (gradient,) = torch.autograd.grad((normal * weights).sum(), values)
    assert normal.abs().max() < 1e-2
    assert gradient.isfinite().all()
