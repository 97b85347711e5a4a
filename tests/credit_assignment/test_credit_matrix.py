"""The credit matrix and the share of it that lands on the cause, method by method."""

from dataclasses import replace

import pytest
import torch

from metairn.credit_assignment.assigner import Credit
from metairn.credit_assignment.credit_matrix import (
    credit_columns,
    credit_matrix,
    credit_on_cause,
)
from metairn.credit_assignment.lirpg import LIRPG
from metairn.credit_assignment.meta_irn import MetaIRN
from metairn.credit_assignment.oracle import Oracle
from metairn.credit_assignment.ppo import PPO

LENGTHS = (3, 5, 1, 4)
DIFFERENCE = 1e-5


def decay_by_hand(lengths, decay):
    expected = torch.zeros(len(lengths), max(lengths), max(lengths), dtype=torch.float64)
    for b, length in enumerate(lengths):
        for t in range(length):
            for j in range(t, length):
                expected[b, t, j] = decay ** (j - t)
    return expected


def umbrella(length, random_episodes, num_episodes=3):
    """Episodes in which the first action causes the last reward, and nothing else anything."""
    episodes = random_episodes((length,) * num_episodes)
    truth = torch.zeros_like(episodes.ground_truth)
    truth[:, 0, length - 1] = 1.0
    return replace(episodes, ground_truth=truth)


@pytest.mark.parametrize("kind", [PPO, LIRPG])
@pytest.mark.parametrize("decay", [0.0, 0.9, 1.0])
def test_is_the_decay_where_rewards_are_not_moved(random_episodes, make_spec, kind, decay):
    # LIRPG adds rewards, but none that depend on the extrinsic ones.
    matrix = credit_matrix(kind(make_spec(True)).double(), random_episodes(LENGTHS), decay)
    torch.testing.assert_close(matrix, decay_by_hand(LENGTHS, decay))


def test_is_the_ground_truth_for_the_oracle(random_episodes, make_spec):
    episodes = random_episodes(LENGTHS)
    matrix = credit_matrix(Oracle(make_spec(True)), episodes, Oracle.discount * 0.9)
    torch.testing.assert_close(matrix, episodes.ground_truth)


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_is_the_jacobian_of_the_return_of_learned_rewards(random_episodes, make_spec, decay):
    torch.manual_seed(0)
    episodes = random_episodes(LENGTHS)
    assigner = MetaIRN(make_spec(True), encoder_width=4, intrinsic_coefficient=2.0).double()
    assigner.update_scale(episodes)

    def returns(rewards):
        """Sum over k >= t of decay^(k-t) r'_k, term by term."""
        with torch.no_grad():
            shaped = assigner(replace(episodes, rewards=rewards)).rewards
        total = torch.zeros_like(shaped)
        for b, length in enumerate(LENGTHS):
            for t in range(length):
                total[b, t] = sum(decay ** (k - t) * shaped[b, k] for k in range(t, length))
        return total

    expected = torch.zeros(4, 5, 5, dtype=torch.float64)
    for j in range(5):
        step = torch.zeros_like(episodes.rewards)
        step[:, j] = DIFFERENCE
        change = returns(episodes.rewards + step) - returns(episodes.rewards - step)
        expected[:, :, j] = change / (2 * DIFFERENCE)
    both = episodes.mask[:, :, None] & episodes.mask[:, None, :]
    matrix = credit_matrix(assigner, episodes, decay)
    torch.testing.assert_close(matrix, torch.where(both, expected, 0.0), rtol=1e-6, atol=1e-9)
    # Attention looks back as well: a reward also changes what later actions are credited with.
    assert matrix.tril(-1).abs().max() > 1e-4


def test_pairwise_weights_are_the_matrix_where_rewards_stay(random_episodes, make_spec):
    class Weighted(PPO):
        def forward(self, episodes):
            return replace(super().forward(episodes), weights=episodes.ground_truth + 3.0)

    episodes = random_episodes(LENGTHS)
    both = episodes.mask[:, :, None] & episodes.mask[:, None, :]
    matrix = credit_matrix(Weighted(make_spec(True)), episodes, 0.9)
    expected = torch.where(both, (episodes.ground_truth + 3.0).triu(), 0.0)
    torch.testing.assert_close(matrix, expected)


def test_padding_has_no_credit_even_where_a_method_counts_it(random_episodes, make_spec):
    class Everything(PPO):
        def forward(self, episodes):
            rewards = episodes.rewards.sum(dim=1, keepdim=True).expand_as(episodes.rewards)
            return replace(super().forward(episodes), rewards=rewards)

    episodes = random_episodes(LENGTHS)
    both = episodes.mask[:, :, None] & episodes.mask[:, None, :]
    matrix = credit_matrix(Everything(make_spec(True)), episodes, 0.0)
    torch.testing.assert_close(matrix, both.double())


class Given(PPO):
    """r' = M r, so that with decay 0 the credit matrix is M."""

    def __init__(self, spec, matrix):
        super().__init__(spec)
        self.matrix = matrix

    def forward(self, episodes):
        return Credit((self.matrix @ episodes.rewards[..., None]).squeeze(-1))


@pytest.mark.parametrize("length", [1, 2, 7])
def test_credit_on_cause_is_one_for_the_oracle_and_one_in_length_for_ppo(
    random_episodes, make_spec, length
):
    episodes = umbrella(length, random_episodes)
    assert credit_on_cause(Oracle(make_spec(True)), episodes, 0.0).item() == pytest.approx(1.0)
    expected = pytest.approx(1.0 / length)
    assert credit_on_cause(PPO(make_spec(True)), episodes, 1.0).item() == expected


def test_credit_on_cause_is_zero_where_there_is_no_credit_or_no_cause(random_episodes, make_spec):
    episodes, spec = umbrella(4, random_episodes), make_spec(True)
    nothing = Given(spec, torch.zeros(4, 4).double())
    assert credit_on_cause(nothing, episodes, 0.0).item() == 0.0
    without = replace(episodes, ground_truth=torch.zeros_like(episodes.ground_truth))
    assert credit_on_cause(PPO(spec), without, 1.0).item() == 0.0


def test_credit_is_not_scored_without_a_ground_truth(random_episodes, make_spec):
    episodes = replace(random_episodes(LENGTHS), ground_truth=None)
    with pytest.raises(ValueError, match="ground truth"):
        credit_on_cause(PPO(make_spec(True)), episodes, 1.0)


def test_credit_on_cause_counts_sizes_existing_steps_and_decisive_rewards_only(
    random_episodes, make_spec
):
    truth = torch.zeros(2, 3, 3, dtype=torch.float64)
    truth[0, 0, 1] = 1.0
    truth[0, 0, 2] = 1.0  # Not an existing step.
    truth[1, 1, 2] = truth[1, 0, 1] = 1.0  # Two decisive rewards in one episode.
    episodes = replace(random_episodes((2, 3)), ground_truth=truth)
    matrix = torch.tensor([[9.0, -3.0, 6.0], [9.0, 1.0, -2.0], [9.0, 5.0, 9.0]]).double()
    score = credit_on_cause(Given(make_spec(True), matrix), episodes, 0.0)
    assert score.item() == pytest.approx((3.0 + 3.0 + 2.0) / (4.0 + 9.0 + 17.0))


@pytest.mark.parametrize("max_numbers", [1, 2**24])
def test_columns_and_rows_are_of_one_matrix_however_many_at_once(
    random_episodes, make_spec, monkeypatch, max_numbers
):
    monkeypatch.setattr("metairn.credit_assignment.credit_matrix.MAX_NUMBERS", max_numbers)
    torch.manual_seed(0)
    episodes = random_episodes(LENGTHS)
    assigner = MetaIRN(make_spec(True), encoder_width=4, intrinsic_coefficient=2.0).double()
    matrix = credit_matrix(assigner, episodes, 0.9)
    directions = torch.randn(3, *episodes.rewards.shape, dtype=torch.float64) * episodes.mask
    columns = credit_columns(assigner, episodes, 0.9, directions)
    torch.testing.assert_close(columns, torch.einsum("btj,nbj->nbt", matrix, directions))
