"""The work that is measured, in numbers, and what everything that does it has in common.

Light on purpose: a contender's process imports this, and its memory is measured too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Work:
    """One iteration's work on the umbrella chain, the same for every contender.

    Args:
        env: environment id.
        length: steps of an episode.
        num_envs: environments stepped together; each gives one episode per iteration.
        epochs: passes over the batch.
        minibatches: parts of a batch; each is one policy update.
        learning_rate: Adam's step size.
        discount: gamma.
        gae_lambda: lambda of generalised advantage estimation.
        clip: epsilon of PPO's clipped surrogate.
        entropy_coefficient: weight of the entropy bonus.
        max_gradient_norm: clips the gradient norm.
        hidden_sizes: hidden layers of the policy, and of the separate value network.
        overrides: the same as overrides of metairn-train.
    """

    env: str
    length: int
    num_envs: int
    epochs: int
    minibatches: int
    learning_rate: float
    discount: float
    gae_lambda: float
    clip: float
    entropy_coefficient: float
    max_gradient_norm: float
    hidden_sizes: tuple[int, ...]
    overrides: tuple[str, ...]

    @property
    def env_steps(self) -> int:
        """Env steps of an iteration."""
        return self.length * self.num_envs

    @property
    def updates(self) -> int:
        """Policy updates of an iteration."""
        return self.epochs * self.minibatches


class Contender(ABC):
    """Something that does the work, one iteration at a time."""

    @abstractmethod
    def iterate(self) -> None:
        """One iteration: this is what is timed."""

    def tidy(self) -> None:  # noqa: B027  # Most have nothing to tidy.
        """Called after each iteration, outside the timing."""

    @abstractmethod
    def env_steps(self) -> int:
        """Env steps so far."""

    def updates(self) -> int | None:
        """Policy updates so far; None if this is no training."""
        return None


MakeContender = Callable[[Work], Contender]


def optimizer_steps(optimizer: torch.optim.Optimizer) -> int:
    """Steps that an Adam has taken, by its own count; of the tensor with the fewest."""
    states: list[dict[str, Any]] = list(optimizer.state.values())
    return min((int(state["step"]) for state in states), default=0)
