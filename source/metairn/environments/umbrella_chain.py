"""Umbrella chain of bsuite: one decision, paid for at the end of a long row of noise rewards.

It isolates credit assignment: nothing has to be explored or remembered, since what is needed
stays in sight. It is no memory task.
"""

import numpy as np

from metairn.environments.task import Array, BatchedTask, real_number, whole_number

PAYMENTS = ("decision", "inverted", "chance")


class UmbrellaChain(BatchedTask):
    """Decide at the first step whether to take the umbrella; be paid for it at the last.

    With L = `length`, n_t and h_t = whether the umbrella is needed and held, and a fair coin
    c_t in {-1, +1} drawn anew at every step, the reward of the action at step t = 0 .. L-1 is

        r_t = distractor_reward * c_t                              for t < L-1
        r_{L-1} = final_reward * (+1 if h_L == n_L else -1)

    Two controls tell a method that learns what earned a reward from one that knows the answer:
    `payment="inverted"` pays for the opposite decision, and `payment="chance"` by a coin, so that
    there is nothing to learn.

    need is a fair coin per episode; have is one too until h_1 := a_0. No later action matters.
    The observation after t steps, (3 + num_distractors,), dimensionless, is
    [need, have, 1 - t / L, num_distractors fair bits drawn anew at every step].

    Args:
        length: L, steps per episode, at least 1.
        num_distractors: uninformative bits in the observation, at least 0.
        distractor_reward: size of the noise reward, finite and not negative, in reward units.
        final_reward: size of the decisive reward, finite and positive, in reward units.
        payment: what the last reward is paid for: decision, inverted or chance.

    Raises:
        ValueError: if a parameter is outside its range.

    Source: Osband et al., "Behaviour Suite for Reinforcement Learning" (ICLR 2020), experiments
    umbrella_length and umbrella_distract. There both rewards are 1, the observation has a leading
    axis of size 1, and the coins are drawn one by one; here both rewards are parameters, and one
    generator draws all coins of all slots.
    """

    def __init__(
        self,
        length: int = 50,
        num_distractors: int = 0,
        distractor_reward: float = 0.1,
        final_reward: float = 10.0,
        payment: str = "decision",
    ) -> None:
        if payment not in PAYMENTS:
            raise ValueError(
                f"payment={payment} is not allowed: it must be one of {', '.join(PAYMENTS)}."
            )
        self.payment = payment
        if payment == "chance":  # Measured is whether a policy decides, for whatever reason.
            self.evaluation_parameters = {"payment": "decision"}
        self.length = whole_number("length", length, at_least=1)
        self.num_distractors = whole_number("num_distractors", num_distractors, at_least=0)
        self.distractor_reward = real_number("distractor_reward", distractor_reward)
        self.final_reward = real_number("final_reward", final_reward, above=0.0)
        super().__init__(
            observation_size=3 + self.num_distractors,
            num_actions=2,
            max_episode_steps=self.length,
            fixed_episode_length=self.length,
            optimal_return=self.final_reward,
            random_return=0.0,
            observation_low=0.0,
            observation_high=1.0,
        )
        # float32 scalars keep the rewards float32 without a conversion at every step.
        self._noise = np.float32(self.distractor_reward)
        self._final = np.float32(self.final_reward)

    def _fair_coins(self, n: int, coins_per_slot: int) -> Array:
        return self.rng.random((n, coins_per_slot)) < 0.5

    def _initial_state(self, n: int) -> dict[str, Array]:
        by_chance = self.payment == "chance"
        coins = self._fair_coins(n, 2 + self.num_distractors + by_chance)
        state = {
            "need": coins[:, 0].astype(np.int64),
            "have": coins[:, 1].astype(np.int64),
            "distractors": coins[:, 2 : 2 + self.num_distractors],
        }
        return state | ({"luck": coins[:, -1]} if by_chance else {})

    def _transition(self, actions: Array) -> tuple[Array, Array]:
        state, steps = self.state, self.steps
        # One draw serves the noise reward and the distractors, and its size never depends on the
        # actions: two runs with one seed differ only by what the actions cause.
        coins = self._fair_coins(steps.size, 1 + self.num_distractors)
        state["distractors"] = coins[:, 1:]
        state["have"] = np.where(steps == 1, actions, state["have"])
        terminated = steps == self.length
        final = np.where(self._earned(), self._final, -self._final)
        noise = np.where(coins[:, 0], self._noise, -self._noise)
        return np.where(terminated, final, noise), terminated

    def _earned(self) -> Array:
        """Whether the last reward, if it comes now, is positive."""
        if self.payment == "chance":
            return self.state["luck"]
        right = self.state["have"] == self.state["need"]
        return right if self.payment == "decision" else ~right

    def _observe(self) -> Array:
        observations = np.empty((self.steps.size, self.observation_size), dtype=np.float32)
        observations[:, 0] = self.state["need"]
        observations[:, 1] = self.state["have"]
        observations[:, 2] = 1.0 - self.steps / self.length
        observations[:, 3:] = self.state["distractors"]
        return observations

    def oracle_policy(self, observations: Array) -> Array:
        """Return the decision that is paid for, a = need unless inverted, at every observation.

        (..., D) float32 to (...) int64. Where chance pays, no policy is better than another.
        """
        need = observations[..., 0].astype(np.int64)
        return 1 - need if self.payment == "inverted" else need

    def expected_returns(
        self, observations: Array, actions: Array, rewards: Array, lengths: Array
    ) -> Array:
        """Return the last reward, (B,): the others are coin tosses around zero."""
        return rewards[np.arange(len(rewards)), lengths - 1]

    def ground_truth_credit(
        self, observations: Array, actions: Array, rewards: Array, lengths: Array
    ) -> Array:
        """Return G[b, 0, L-1] = 1 and zero elsewhere, (B, T, T) float32, a read-only view.

        The other rewards are coin tosses, which no action causes. If T < L, as in a fragment cut
        before its end, the decisive reward is absent and G is zero; so it is where chance pays.
        Arguments as in BatchedTask.
        """
        num_episodes, num_steps = rewards.shape
        credit = np.zeros((num_steps, num_steps), dtype=np.float32)
        credit[:1, self.length - 1 : self.length] = self.payment != "chance"
        return np.broadcast_to(credit, (num_episodes, num_steps, num_steps))
