"""The umbrella chain against bsuite's own code, and its exact answers against counterfactuals."""

import numpy as np
import pytest
from bsuite.environments.umbrella_chain import UmbrellaChain as BsuiteUmbrellaChain

from metairn.environments.umbrella_chain import UmbrellaChain


class Tape:
    """A random source that hands out given bits, in the ways that either implementation asks."""

    def __init__(self):
        self.bits = []

    def binomial(self, _trials, _probability, size=None):
        """Bsuite's draws: one bit, or an array of them."""
        if size is None:
            return self.bits.pop(0)
        return np.array([self.bits.pop(0) for _ in range(size)])

    def random(self, shape):
        """Our draws: numbers below a half stand for a bit that is set."""
        return np.where(self.binomial(1, 0.5, int(np.prod(shape))), 0.25, 0.75).reshape(shape)


@pytest.mark.parametrize("num_distractors", [0, 1, 20])
@pytest.mark.parametrize("length", [1, 2, 3, 10, 50])
def test_equals_bsuite_step_by_step(length, num_distractors):
    bits = np.random.default_rng(length)
    ours = UmbrellaChain(length, num_distractors, distractor_reward=1.0, final_reward=1.0)
    theirs = BsuiteUmbrellaChain(length, num_distractors)
    our_tape, their_tape = Tape(), Tape()
    theirs._rng = their_tape

    for _ in range(10):
        our_tape.bits = bits.integers(2, size=2 + num_distractors).tolist()
        their_tape.bits = list(our_tape.bits)
        observations, their_step = ours.reset(our_tape, 1), theirs.reset()
        np.testing.assert_array_equal(observations, their_step.observation)
        for step in range(1, length + 1):
            coins = bits.integers(2, size=1 + num_distractors).tolist()
            our_tape.bits = list(coins)
            # Bsuite tosses no coin for a reward that is not noise.
            their_tape.bits = coins[1:] if step == length else list(coins)
            action = int(bits.integers(2))
            observations, rewards, terminated, truncated = ours.step(np.array([action]))
            their_step = theirs.step(action)
            np.testing.assert_array_equal(observations, their_step.observation)
            assert observations.dtype == their_step.observation.dtype
            assert rewards[0] == their_step.reward
            assert terminated[0] == their_step.last()
            assert not truncated[0]
            assert our_tape.bits == their_tape.bits == []
        assert their_step.last()


def test_rewards_have_the_given_sizes():
    task = UmbrellaChain(length=3, distractor_reward=0.25, final_reward=4.0)
    task.reset(np.random.default_rng(0), 200)
    rewards = [task.step(np.zeros(200, dtype=np.int64))[1] for _ in range(3)]
    assert [set(r.tolist()) for r in rewards] == [{-0.25, 0.25}, {-0.25, 0.25}, {-4.0, 4.0}]


def test_all_coins_are_fair_and_drawn_anew():
    n, task = 4000, UmbrellaChain(length=3, num_distractors=2)
    first = task.reset(np.random.default_rng(0), n)
    second, rewards, _, _ = task.step(np.zeros(n, dtype=np.int64))
    coins = np.column_stack([first[:, [0, 1, 3, 4]], second[:, 3:], rewards > 0])
    assert set(np.unique(coins)) == {0.0, 1.0}
    # The correlation of independent coins is 0 with standard error n^-1/2; of a mean, half that.
    np.testing.assert_allclose(coins.mean(axis=0), 0.5, atol=5 * 0.5 / np.sqrt(n))
    correlation = np.corrcoef(coins.T) - np.eye(coins.shape[1])
    np.testing.assert_allclose(correlation, 0.0, atol=5 / np.sqrt(n))


@pytest.mark.parametrize("length", [1, 2, 6])
def test_ground_truth_equals_the_effect_of_flipping_one_action(length):
    n, task = 64, UmbrellaChain(length, num_distractors=3)
    actions = np.random.default_rng(1).integers(2, size=(n, length))

    def play(actions):
        observations = [task.reset(np.random.default_rng(7), n)]
        rewards = []
        for t in range(length):
            observation, reward, _, _ = task.step(actions[:, t])
            observations.append(observation)
            rewards.append(reward)
        return np.stack(observations[:-1], axis=1), np.stack(rewards, axis=1)

    observations, rewards = play(actions)
    credit = task.ground_truth_credit(observations, actions, rewards, np.full(n, length))
    for t in range(length):
        flipped = actions.copy()
        flipped[:, t] ^= 1
        changed = play(flipped)[1] != rewards
        np.testing.assert_array_equal(changed, credit[:, t] > 0)
    np.testing.assert_array_equal(credit[:, 0, length - 1], 1.0)


@pytest.mark.parametrize("num_steps", [1, 3, 4, 9])
def test_ground_truth_of_fragments_and_of_padded_episodes(num_steps):
    batch = np.zeros((2, num_steps))
    credit = UmbrellaChain(length=4).ground_truth_credit(
        np.zeros((2, num_steps, 3)), batch, batch, np.full(2, min(num_steps, 4))
    )
    expected = np.zeros((2, num_steps, num_steps))
    if num_steps >= 4:
        expected[:, 0, 3] = 1.0
    np.testing.assert_array_equal(credit, expected)
    assert credit.strides[0] == 0, "one matrix serves every episode"


def test_exact_returns():
    task = UmbrellaChain(length=7, final_reward=2.5)
    assert (task.optimal_return, task.random_return) == (2.5, 0.0)
    assert task.fixed_episode_length == task.max_episode_steps == 7


@pytest.mark.parametrize(
    ("name", "values"),
    {
        "length": [0, -1, 2.5, "5", True],
        "num_distractors": [-1, 0.5],
        "distractor_reward": [-0.1, float("nan"), float("inf")],
        "final_reward": [0.0, -1.0, float("nan"), float("inf")],
    }.items(),
)
def test_bad_parameters_are_refused_in_one_sentence(name, values):
    for value in values:
        with pytest.raises(ValueError, match=rf"^{name}=.* is not allowed: it must [^.]*\.$"):
            UmbrellaChain(**{name: value})


def test_smallest_parameters_are_accepted():
    UmbrellaChain(length=1, num_distractors=0, distractor_reward=0.0, final_reward=1e-3)


def returns_of(decide, payment, episodes=400):
    task = UmbrellaChain(3, distractor_reward=0.0, payment=payment)
    observations = task.reset(np.random.default_rng(0), episodes)
    total = np.zeros(episodes)
    for _ in range(3):
        observations, rewards, _, _ = task.step(decide(task, observations))
        total += rewards
    return total


def take_what_is_needed(_task, observations):
    return observations[..., 0].astype(np.int64)


def test_inverted_payment_pays_for_the_opposite_decision():
    assert (returns_of(take_what_is_needed, "decision") == 10.0).all()
    assert (returns_of(take_what_is_needed, "inverted") == -10.0).all()
    best = returns_of(lambda task, seen: task.oracle_policy(seen), "inverted")
    assert (best == 10.0).all()


def test_payment_by_chance_is_a_fair_coin_whatever_is_decided():
    paid = [
        returns_of(decide, "chance")
        for decide in (take_what_is_needed, lambda task, seen: 1 - take_what_is_needed(task, seen))
    ]
    np.testing.assert_array_equal(*paid)
    assert {*np.unique(paid[0])} == {-10.0, 10.0}
    assert abs(np.mean(paid[0] > 0) - 0.5) < 0.08
    task = UmbrellaChain(3, payment="chance")
    zeros = np.zeros((2, 3), np.float32)
    truth = task.ground_truth_credit(np.zeros((2, 3, 3)), zeros, zeros, np.array([3, 3]))
    assert not truth.any()
    assert task.evaluation_parameters == {"payment": "decision"}
    assert UmbrellaChain(3).evaluation_parameters == {}


def test_unknown_payment_is_refused_in_one_sentence():
    with pytest.raises(
        ValueError, match=r"^payment=cash is not allowed: it must be one of [^.]*\.$"
    ):
        UmbrellaChain(payment="cash")


def test_what_actions_were_worth_is_the_last_reward_and_has_the_return_s_mean():
    rng, task = np.random.default_rng(0), UmbrellaChain(5, distractor_reward=1.0, final_reward=1.0)
    observations = task.reset(rng, 20_000)
    decided = observations[:, 0] == 1
    rewards = [task.step(np.ones(20_000, dtype=np.int64))[1] for _ in range(5)]
    rewards = np.stack(rewards, axis=1)
    worth = task.expected_returns(observations[:, None], None, rewards, np.full(20_000, 5))
    np.testing.assert_array_equal(worth, np.where(decided, 1.0, -1.0))
    assert abs(rewards.sum(axis=1).mean() - worth.mean()) < 5 * 2 / np.sqrt(20_000)
