"""What any method of credit assignment has to keep to, whatever it does."""

import pytest
import torch

from metairn.credit_assignment.credit_matrix import credit_matrix
from metairn.credit_assignment.meta_learned_reward import MetaLearnedReward

LENGTHS = (3, 5, 1, 4)


@pytest.fixture
def episodes(assigner, random_episodes):
    return random_episodes(LENGTHS, discrete=assigner.spec.discrete)


def test_output_has_the_shape_and_precision_of_the_rewards(assigner, episodes):
    credit = assigner(episodes)
    assert credit.rewards.shape == episodes.rewards.shape
    assert credit.rewards.dtype == episodes.rewards.dtype
    assert credit.rewards.isfinite().all()
    assert not credit.rewards[~episodes.mask].any()
    for pairwise in (credit.weights, assigner.attention(episodes)):
        if pairwise is not None:
            assert pairwise.shape == episodes.ground_truth.shape
            assert pairwise.isfinite().all()
    matrix = credit_matrix(assigner, episodes, 0.9)
    assert matrix.shape == episodes.ground_truth.shape
    assert matrix.isfinite().all()
    assert not matrix.requires_grad


def test_nothing_is_mutated(assigner, episodes, copy_of_tensors):
    before = copy_of_tensors(episodes, assigner)
    assigner(episodes)
    assigner.attention(episodes)
    credit_matrix(assigner, episodes, 0.9)
    after = copy_of_tensors(episodes, assigner)
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert not episodes.rewards.requires_grad


def test_same_episodes_give_the_same_credit(assigner, episodes):
    state = torch.random.get_rng_state()
    first = assigner(episodes)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(3)
    second = assigner(episodes)
    assert torch.equal(first.rewards, second.rewards)
    if first.weights is not None:
        assert torch.equal(first.weights, second.weights)


def test_order_of_the_episodes_is_of_no_account(assigner, episodes):
    order = torch.tensor([2, 0, 3, 1])
    shuffled = assigner(episodes.select(order))
    credit = assigner(episodes)
    torch.testing.assert_close(shuffled.rewards, credit.rewards[order])
    if credit.weights is not None:
        torch.testing.assert_close(shuffled.weights, credit.weights[order])


def test_float32_agrees_with_float64(assigner, episodes):
    expected = assigner(episodes).rewards
    single = assigner.float()(episodes.to(torch.float32)).rewards
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), expected, rtol=1e-4, atol=1e-5)


def test_what_a_method_says_of_itself_is_true(assigner, episodes):
    learnable = [p for p in assigner.parameters() if p.requires_grad]
    assert bool(learnable) == (assigner.learns_by != "nothing")
    assert isinstance(assigner, MetaLearnedReward) == (assigner.learns_by == "meta_gradient")
    assert (assigner.credit_learning_rate > 0) == (assigner.learns_by != "nothing")
    if not assigner.needs_mixed_critic:
        assert torch.equal(assigner(episodes).rewards, episodes.rewards)
    if assigner.learns_by == "own_loss":
        loss = assigner.own_loss(episodes)
        assert loss.shape == ()
        assert all(g.any() for g in torch.autograd.grad(loss, learnable))
    else:
        with pytest.raises(TypeError, match=type(assigner).__name__):
            assigner.own_loss(episodes)


def test_only_methods_that_need_it_look_at_the_ground_truth(assigner, episodes):
    blind = type(episodes)(**{**vars(episodes), "ground_truth": None})
    if assigner.needs_ground_truth:
        with pytest.raises(ValueError, match=r"ground-truth[^.]*\.$"):
            assigner(blind)
    else:
        assert torch.equal(assigner(blind).rewards, assigner(episodes).rewards)


def test_units_of_reward_are_of_existing_rewards(assigner, episodes):
    squares = episodes.rewards.square() * episodes.mask
    size = float(episodes.rewards[episodes.mask].square().mean().sqrt())
    peak = float(squares.amax(dim=1).mean().sqrt())
    assert peak > 1.1 * size
    garbage = torch.where(episodes.mask, episodes.rewards, float("nan"))
    for factor in (1.0, 10.0):
        assigner.begin_lifetime()
        batch = type(episodes)(**{**vars(episodes), "rewards": factor * garbage})
        assigner.update_scale(batch)
        assert float(assigner.reward_scale) == pytest.approx(factor * size)
        assert float(assigner.reward_peak) == pytest.approx(factor * peak)
    assigner.begin_lifetime()
    nothing = torch.zeros_like(episodes.rewards)
    assigner.update_scale(type(episodes)(**{**vars(episodes), "rewards": nothing}))
    assert float(assigner.reward_scale) == float(assigner.reward_peak) == 1.0
