"""One iteration's data: torch, and nothing of RLlib.

What is constant during an iteration (extrinsic advantages, value targets, values) is computed once,
from the networks as they were when the episodes were collected. So is the credit, unless it is
learned in between.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from metairn.episodes import EpisodeBatch
from metairn.networks.value import ValueHead
from metairn.objectives.advantages import ReduceSum, gae, identity, step_weights, td_errors


@dataclass(frozen=True)
class Horizon:
    """gamma and lambda of a return."""

    discount: float
    gae_lambda: float

    @property
    def decay(self) -> float:
        """gamma lambda."""
        return self.discount * self.gae_lambda


@dataclass(frozen=True)
class Rollout:
    """Episodes with what is constant while they are learned from.

    Args:
        episodes: B whole episodes.
        extrinsic_advantages: A_ex, not normalised.
        extrinsic_targets: A_ex + V_ex, in units of reward.
        mixed_values: V(o_t) of the critic that predicts the return of r'.
        mixed_next_values: V(o_{t+1}) of the same.
        weights: see objectives.advantages.step_weights.
        fixed_advantages: A_t of r', not normalised; None while the credit is being learned.
        importance: how much each step counts, where not all do alike; None if they do.
    """

    episodes: EpisodeBatch
    extrinsic_advantages: Float[Tensor, "B T"]
    extrinsic_targets: Float[Tensor, "B T"]
    mixed_values: Float[Tensor, "B T"]
    mixed_next_values: Float[Tensor, "B T"]
    weights: Float[Tensor, "B T"]
    fixed_advantages: Float[Tensor, "B T"] | None = None
    importance: Float[Tensor, "B T"] | None = None

    def select(
        self,
        indices: Int[Tensor, "b"],
        num_steps: int | None = None,
        reduce_sum: ReduceSum = identity,
    ) -> Rollout:
        """The named episodes' part.

        Args:
            indices: which.
            num_steps: steps to keep; see EpisodeBatch.select.
            reduce_sum: sum over learners, whose parts weigh together.
        """
        episodes = self.episodes.select(indices, num_steps)
        steps = episodes.rewards.shape[1]
        own = ("episodes", "weights")
        parts = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in own}
        chosen: dict[str, Any] = {
            name: None if part is None else part.index_select(0, indices)[:, :steps]
            for name, part in parts.items()
        }
        dtype = episodes.rewards.dtype
        weights = step_weights(episodes.mask, reduce_sum, dtype, chosen["importance"])
        return Rollout(episodes, weights=weights, **chosen)

    def with_fixed_credit(self, advantages: Float[Tensor, "B T"]) -> Rollout:
        """The same rollout with the credit's advantages, for a method that does not learn."""
        return replace(self, fixed_advantages=advantages)

    def without_ground_truth(self) -> Rollout:
        """The same rollout less T^2 numbers per episode, for whatever does not read them."""
        return replace(self, episodes=replace(self.episodes, ground_truth=None))


@torch.no_grad()
def make_rollout(
    episodes: EpisodeBatch,
    extrinsic_critic: ValueHead,
    mixed_critic: ValueHead,
    horizon: Horizon,
    reduce_sum: ReduceSum = identity,
) -> Rollout:
    """Evaluates both critics on all observations and computes extrinsic advantages.

    Args:
        episodes: B whole episodes.
        extrinsic_critic: predicts the extrinsic return.
        mixed_critic: predicts the return of r'; the extrinsic critic itself where r' is extrinsic.
        horizon: gamma and lambda of the extrinsic return.
        reduce_sum: sum over learners.
    """
    values = extrinsic_critic(episodes.observations)
    current, following = values[:, :-1], episodes.next_values(values)
    errors = td_errors(episodes.rewards, current, following, episodes.mask, horizon.discount)
    advantages = gae(errors, horizon.discount, horizon.gae_lambda)
    mixed = values if mixed_critic is extrinsic_critic else mixed_critic(episodes.observations)
    return Rollout(
        episodes=episodes,
        extrinsic_advantages=advantages,
        extrinsic_targets=advantages + current,
        mixed_values=mixed[:, :-1],
        mixed_next_values=episodes.next_values(mixed),
        weights=step_weights(episodes.mask, reduce_sum, values.dtype),
    )


def split_into_minibatches(
    rollout: Rollout,
    num_epochs: int,
    num_minibatches: int,
    generator: torch.Generator,
    reduce_sum: ReduceSum = identity,
) -> list[Rollout]:
    """Every epoch's episodes, shuffled and split by whole episodes; one part is the batch itself.

    Args:
        rollout: the batch.
        num_epochs: passes over it.
        num_minibatches: parts of each pass.
        generator: shuffles.
        reduce_sum: sum over learners.
    """
    if num_minibatches == 1:
        return [rollout] * num_epochs
    # Sizes are looked up here once, not on the device between two steps.
    lengths, device = rollout.episodes.lengths.cpu(), rollout.episodes.rewards.device
    parts = [
        part
        for _ in range(num_epochs)
        for part in torch.randperm(len(lengths), generator=generator).tensor_split(num_minibatches)
    ]
    return [rollout.select(part.to(device), int(lengths[part].max()), reduce_sum) for part in parts]
