"""Policy lifetimes: meta-training over many policies that each learn from nothing.

A credit assigner that has seen one policy learn may have memorised that one answer. Over lifetimes
the policy, the critics and their optimizers start anew while the assigner goes on, and each
lifetime's task is drawn, so that only what all of them need is worth learning.
Source: Oh et al. 2020 (LPG), section 3; Xu et al. 2020, section 4.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from metairn.intrinsic_attention_ppo.random_streams import Stream, derive_seed


@dataclass(frozen=True)
class Lifetimes:
    """How long a policy lives, and what it meets.

    Args:
        iterations: policy updates of a lifetime, at least 1.
        environment: values of environment parameters that lifetimes take; every combination comes
            once, in random order, before any comes again.

    Raises:
        ValueError: if a lifetime has no iteration or a parameter no value.
    """

    iterations: int
    environment: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise ValueError(f"iterations={self.iterations} is not allowed: it must be at least 1.")
        for name, values in self.environment.items():
            if not isinstance(values, Sequence) or isinstance(values, str) or not values:
                raise ValueError(
                    f"environment.{name}={values} is not allowed: it must be a list of values."
                )

    @property
    def combinations(self) -> list[dict[str, Any]]:
        """Every task that a lifetime can meet, as environment parameters."""
        names, values = list(self.environment), list(self.environment.values())
        return [dict(zip(names, each, strict=True)) for each in itertools.product(*values)]

    def index(self, iteration: int) -> int:
        """Number of the lifetime that an iteration belongs to, both from 0."""
        return iteration // self.iterations

    def task(self, index: int, seed: int) -> dict[str, Any]:
        """The environment parameters of a lifetime.

        Args:
            index: of the lifetime.
            seed: the run's.
        """
        tasks = self.combinations
        turn, place = divmod(index, len(tasks))
        order = np.random.default_rng(derive_seed(seed, Stream.LIFETIMES, turn))
        return tasks[int(order.permutation(len(tasks))[place])]
