"""The contract of an environment: a batch of episodes stepped at once, with its exact answers.

A `BatchedTask` is the numpy core of one environment. Beside the dynamics it knows what a study
must compare with: the best and the random return, an optimal policy, and which action caused
which reward. It is no gymnasium environment; `adapters.py` makes it one.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np

Array = np.ndarray

# Rewards are float32, so a larger number would silently become infinite.
_LARGEST_REAL = float(np.finfo(np.float32).max)


def whole_number(name: str, value: int, at_least: int) -> int:
    """Return `value` as an int if it is a whole number >= `at_least`.

    Args:
        name: the parameter's name, with which the error sentence starts.
        value: what the caller passed.
        at_least: smallest value allowed.

    Returns:
        The same number as a plain int.

    Raises:
        ValueError: if `value` is not a whole number (a bool is not one) or is too small.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ValueError(f"{name}={value!r} is not allowed: it must be a whole number.")
    if value < at_least:
        raise ValueError(f"{name}={value} is not allowed: it must be at least {at_least}.")
    return int(value)


def real_number(name: str, value: float, above: float | None = None) -> float:
    """Return `value` as a float if it is finite and >= 0, or > `above` where that is given.

    Args:
        name: the parameter's name, with which the error sentence starts.
        value: what the caller passed.
        above: the value must be strictly larger; None allows zero and everything above it.

    Returns:
        The same number as a plain float.

    Raises:
        ValueError: if `value` is not a real number, is not finite in float32, or is too small.
    """
    is_real = isinstance(value, int | float | np.integer | np.floating)
    if isinstance(value, bool) or not is_real or not abs(value) <= _LARGEST_REAL:
        raise ValueError(f"{name}={value!r} is not allowed: it must be a finite number.")
    if above is None and value < 0:
        raise ValueError(f"{name}={value} is not allowed: it must not be negative.")
    if above is not None and value <= above:
        raise ValueError(f"{name}={value} is not allowed: it must be greater than {above:g}.")
    return float(value)


class BatchedTask(ABC):
    """n episodes of one environment in n slots, advanced together by array operations.

    A new task writes an `__init__` whose annotated keyword arguments are its parameters and which
    calls this one, and the five abstract methods. The base class holds the slots: `self.state`, a
    dict of arrays whose first axis is the slot; `self.steps` (n,) int, the steps taken in each
    slot's episode; `self.rng`, the only source of randomness.

    Args:
        observation_size: D, the length of one observation vector.
        num_actions: number of discrete actions, which are 0 .. num_actions - 1.
        max_episode_steps: an episode that reaches this many steps unterminated is truncated.
        optimal_return: expected undiscounted return of an episode under the best policy.
        random_return: the same under the uniformly random policy.
        fixed_episode_length: length of every episode in steps; None where it varies.
        observation_low: smallest value an observation can take, a number or (D,).
        observation_high: largest value an observation can take, a number or (D,).

    Attributes:
        evaluation_parameters: parameters that are others when a policy is evaluated, for controls
            that train on something else than they measure; the returns above are those measured.
    """

    evaluation_parameters: Mapping[str, object] = {}

    def __init__(
        self,
        *,
        observation_size: int,
        num_actions: int,
        max_episode_steps: int,
        optimal_return: float,
        random_return: float,
        fixed_episode_length: int | None = None,
        observation_low: float | Array = -np.inf,
        observation_high: float | Array = np.inf,
    ) -> None:
        self.observation_size = observation_size
        self.num_actions = num_actions
        self.max_episode_steps = max_episode_steps
        self.optimal_return = optimal_return
        self.random_return = random_return
        self.fixed_episode_length = fixed_episode_length
        self.observation_low = observation_low
        self.observation_high = observation_high
        self.rng: np.random.Generator
        self.state: dict[str, Array] = {}
        self.steps = np.zeros(0, dtype=np.int64)

    def reset(self, rng: np.random.Generator, n: int) -> Array:
        """Start n fresh episodes and keep `rng` for every later draw.

        Args:
            rng: source of all randomness until the next reset.
            n: number of slots, at least 1.

        Returns:
            The first observations, (n, D) float32.
        """
        self.rng = rng
        self.steps = np.zeros(n, dtype=np.int64)
        self.state = self._initial_state(n)
        return self._observe()

    def reset_where(self, done: Array) -> Array:
        """Start a fresh episode in the marked slots and leave the others untouched.

        Args:
            done: (n,) bool, True where a fresh episode shall start.

        Returns:
            The current observations of all slots, (n, D) float32.
        """
        slots = np.flatnonzero(done)
        for name, fresh in self._initial_state(slots.size).items():
            self.state[name][slots] = fresh
        self.steps[slots] = 0
        return self._observe()

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array]:
        """Take one step in every slot.

        A slot whose episode is over may be stepped until `reset_where` restarts it; what it
        returns meanwhile is meaningless.

        Args:
            actions: (n,) int in 0 .. num_actions - 1; the range is not checked, for speed.

        Returns:
            observations (n, D) float32, rewards (n,) float32, terminated (n,) bool and
            truncated (n,) bool. All are fresh arrays, which the caller may change.

        Raises:
            ValueError: if there is not exactly one action per slot, as before the first reset.
        """
        if actions.shape != self.steps.shape:
            raise ValueError(
                f"actions of shape {actions.shape} are not allowed: it must be {self.steps.shape},"
                " one per slot, and reset must come first."
            )
        self.steps += 1
        rewards, terminated = self._transition(actions)
        truncated = (self.steps >= self.max_episode_steps) & ~terminated
        return self._observe(), rewards, terminated, truncated

    @abstractmethod
    def _initial_state(self, n: int) -> dict[str, Array]:
        """Draw the state of n fresh episodes: arrays of shape (n, ...), the same keys every time.

        n may be any part of the slots, even none, so nothing but `self.rng` may be touched.
        """

    @abstractmethod
    def _transition(self, actions: Array) -> tuple[Array, Array]:
        """Advance `self.state`; return rewards (n,) float32 and terminated (n,) bool, both fresh.

        `self.steps` already counts this step. Must not raise for a slot whose episode is over.
        """

    @abstractmethod
    def _observe(self) -> Array:
        """Return fresh observations (n, D) float32, a function of the state that draws nothing.

        Were something drawn here, a partial reset would change the slots it must leave alone.
        """

    @abstractmethod
    def oracle_policy(self, observations: Array) -> Array:
        """Return an optimal action at every observation.

        Args:
            observations: (..., D) float32.

        Returns:
            Actions of shape (...), int64.
        """

    def expected_returns(
        self, observations: Array, actions: Array, rewards: Array, lengths: Array
    ) -> Array:
        """Return what each episode's actions were worth, (B,), in reward units.

        The undiscounted return, less whatever of it no action could change if its mean is zero:
        noise larger than what a policy earns would else hide it. Arguments as in
        ground_truth_credit; rewards are zero at padded steps.
        """
        return rewards.sum(axis=1)

    @abstractmethod
    def ground_truth_credit(
        self, observations: Array, actions: Array, rewards: Array, lengths: Array
    ) -> Array:
        """Return G[b, t, j], the share of the reward at step j that the action at t caused.

        Column j is all zero where no action caused the reward at j. Rows and columns at or
        beyond an episode's length may hold anything.

        Args:
            observations: (B, T, D) float32, the observations acted on.
            actions: (B, T) int.
            rewards: (B, T) float32, rewards[b, t] following actions[b, t].
            lengths: (B,) int, steps in each episode; the rest is padding.

        Returns:
            G of shape (B, T, T) float32, dimensionless, possibly a read-only broadcast view.
        """
