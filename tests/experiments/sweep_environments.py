"""Environments for sweeps of many short runs: one that works, two whose runs must fail.

Imported by gymnasium in worker processes, as `sweep_environments:Works0-v0` and so on.
"""

from __future__ import annotations

import os

import gymnasium
import numpy as np

EPISODE_STEPS = 5


class Works(gymnasium.Env):
    """Rewards the second action."""

    def __init__(self) -> None:
        self.observation_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.t += 1
        return np.zeros(1, np.float32), float(action), self.t == EPISODE_STEPS, False, {}


class Fails(Works):
    """Breaks in its first episode."""

    def step(self, action):
        raise RuntimeError("the umbrella is torn\nand wet")


class Dies(Works):
    """Takes its process along, as a lack of memory would."""

    def step(self, action):
        os._exit(1)


for number in range(7):
    gymnasium.register(f"Works{number}-v0", Works)
gymnasium.register("Fails-v0", Fails)
gymnasium.register("Dies-v0", Dies)
