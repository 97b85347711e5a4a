"""The credit matrix and the share of it that lands on the cause, method by method."""

from dataclasses import replace

import pytest
import torch

from metairn.credit_assignment.assigner import credit_matrix, credit_on_cause
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


@pytest.mark.parametrize("length", [1, 2, 7])
def test_credit_on_cause_is_one_for_the_oracle_and_one_in_length_for_ppo(
    random_episodes, make_spec, length
):
    episodes = umbrella(length, random_episodes)
    truth, mask = episodes.ground_truth, episodes.mask
    of_oracle = credit_matrix(Oracle(make_spec(True)), episodes, 0.0)
    of_ppo = credit_matrix(PPO(make_spec(True)), episodes, 1.0)
    assert credit_on_cause(of_oracle, truth, mask).item() == pytest.approx(1.0)
    assert credit_on_cause(of_ppo, truth, mask).item() == pytest.approx(1.0 / length)


def test_credit_on_cause_is_zero_where_there_is_no_credit_or_no_cause(random_episodes):
    episodes = umbrella(4, random_episodes)
    truth, mask = episodes.ground_truth, episodes.mask
    assert credit_on_cause(torch.zeros_like(truth), truth, mask).item() == 0.0
    assert credit_on_cause(torch.ones_like(truth), torch.zeros_like(truth), mask).item() == 0.0


def test_credit_on_cause_counts_sizes_existing_steps_and_decisive_rewards_only(random_episodes):
    truth = torch.zeros(1, 3, 3, dtype=torch.float64)
    truth[0, 0, 1] = 1.0
    truth[0, 0, 2] = 1.0  # Not an existing step.
    credit = torch.tensor([[[9.0, -3.0, 9.0], [9.0, 1.0, 9.0], [9.0, 9.0, 9.0]]]).double()
    mask = torch.tensor([[True, True, False]])
    assert credit_on_cause(credit, truth, mask).item() == pytest.approx(3.0 / 4.0)
