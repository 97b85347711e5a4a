"""Which slots of a vector environment start episodes, and what happened in them."""

from __future__ import annotations

import numpy as np


class EpisodePlan:
    """Decides which slots start another episode, without looking at how episodes turn out.

    Args:
        num_steps: start episodes until those under way are expected to bring this many env steps.
        num_episodes: or start exactly this many.
        episode_length: steps of an episode where all have the same number; None if they vary.
    """

    def __init__(
        self, num_steps: int | None, num_episodes: int | None, episode_length: int | None
    ) -> None:
        self.num_steps = num_steps
        self.num_episodes = num_episodes
        self.episode_length = episode_length
        self.started = 0
        self.finished = 0
        self.steps_finished = 0

    def start(self) -> bool:
        """Whether one more episode is to be started; counts it if so."""
        if self.num_episodes is not None:
            wanted = self.started < self.num_episodes
        else:
            expected = self.episode_length or self.steps_finished / max(self.finished, 1)
            coming = self.steps_finished + (self.started - self.finished) * expected
            wanted = coming < (self.num_steps or 0)
        self.started += wanted
        return wanted

    def finish(self, num_steps: int) -> None:
        """Counts an episode that ended after this many steps."""
        self.finished += 1
        self.steps_finished += num_steps


class Trace:
    """All slots' steps in the order in which they were taken.

    Args:
        observations: the first ones of all slots.
    """

    def __init__(self, observations: np.ndarray) -> None:
        self.observations = [np.array(observations, dtype=np.float32)]
        self.steps: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def __len__(self) -> int:
        return len(self.steps)

    def append(
        self,
        observations: np.ndarray,
        actions: np.ndarray,
        rewards: np.ndarray,
        inputs: np.ndarray,
    ) -> None:
        """Adds a step of all slots: what was done and where it led."""
        # Vector environments may reuse their observation buffer, so keep a copy.
        self.observations.append(np.array(observations, dtype=np.float32))
        self.steps.append((actions, np.array(rewards, dtype=np.float32), inputs))

    def by_slot(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Observations [slots, steps+1, D], actions, rewards and inputs [slots, steps, ...]."""
        actions, rewards, inputs = zip(*self.steps, strict=True)
        columns = (self.observations, actions, rewards, inputs)
        return tuple(np.ascontiguousarray(np.stack(c).swapaxes(0, 1)) for c in columns)  # type: ignore[return-value]
