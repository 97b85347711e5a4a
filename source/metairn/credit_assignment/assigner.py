"""The interface of every method: shaped rewards r' and pairwise weights W.

The learner computes A_t = sum_{j>=t} W[t,j] delta_j(r') and knows nothing else about a method, so a
new method is one subclass in one file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from metairn.episodes import EpisodeBatch, EpisodeSpec
from metairn.objectives.advantages import ReduceSum, decay_weights, identity, masked_mean


@dataclass(frozen=True)
class Credit:
    """What a method says about a batch of episodes.

    Args:
        rewards: r', the rewards that the policy is to learn from, in units of reward.
        weights: W[b,t,j]; None for the decay of generalised advantage estimation.
    """

    rewards: Float[Tensor, "B T"]
    weights: Float[Tensor, "B T T"] | None = None


class CreditAssigner(nn.Module, ABC):
    """Maps whole episodes to credit, without mutating them.

    Args:
        spec: sizes of observations and actions.

    Attributes:
        learns_by: "nothing", "meta_gradient" (a `MetaLearnedReward`) or "own_loss".
        needs_mixed_critic: whether r' differs from the extrinsic rewards, so that a value head of
            its own has to predict its return.
        needs_ground_truth: whether forward reads EpisodeBatch.ground_truth.
        discount: gamma of the return of r'; None for that of the extrinsic return. 0 means that
            r'_t is already all the credit of action t.
        credit_learning_rate: step size of the method's own parameters.
    """

    learns_by: ClassVar[Literal["nothing", "meta_gradient", "own_loss"]] = "nothing"
    needs_mixed_critic: ClassVar[bool] = True
    needs_ground_truth: ClassVar[bool] = False
    discount: float | None = None
    credit_learning_rate: float = 0.0

    reward_scale: Tensor
    reward_moments: Tensor

    def __init__(self, spec: EpisodeSpec) -> None:
        super().__init__()
        self.spec = spec
        self.register_buffer("reward_scale", torch.ones(()))
        self.register_buffer("reward_moments", torch.zeros(2))

    @abstractmethod
    def forward(self, episodes: EpisodeBatch) -> Credit:
        """The credit of every step."""

    def own_loss(self, episodes: EpisodeBatch) -> Float[Tensor, ""]:
        """The loss of a method that learns by its own, summed over learners; see masked_mean."""
        raise TypeError(f"{type(self).__name__} learns by {self.learns_by}, not by its own loss.")

    def attention(self, episodes: EpisodeBatch) -> Float[Tensor, "B T T"] | None:
        """How much each step looks at each other one, for methods that attend."""
        return None

    @torch.no_grad()
    def update_scale(self, episodes: EpisodeBatch, reduce_sum: ReduceSum = identity) -> None:
        """Moves `reward_scale` towards the root mean square of the extrinsic rewards.

        Networks read rewards, and write intrinsic ones, in this unit: a task whose rewards are a
        thousand times smaller is then the same task.
        """
        square = reduce_sum(masked_mean(episodes.rewards.square(), episodes.mask, reduce_sum))
        moments = torch.stack([torch.ones_like(square), square]).to(self.reward_moments)
        self.reward_moments.lerp_(moments, 0.1)
        scale = (self.reward_moments[1] / self.reward_moments[0]).sqrt()
        self.reward_scale.copy_(scale if scale > 0 else torch.ones_like(scale))


def credit_matrix(
    assigner: CreditAssigner, episodes: EpisodeBatch, decay: float
) -> Float[Tensor, "B T T"]:
    """C[t,j] = d/dr_j sum_{k>=t} W[t,k] r'_k: how much of the reward at j the action at t gets.

    One definition for all methods: (gamma lambda)^(j-t) for PPO, the ground truth for the oracle,
    and the reward network's Jacobian on top of that where intrinsic rewards are learned.

    Args:
        assigner: the method.
        episodes: B whole episodes.
        decay: gamma lambda of the return of r'.
    """
    num_steps = episodes.rewards.shape[1]
    default = decay_weights(num_steps, decay, episodes.rewards.dtype, episodes.rewards.device)

    def credited(rewards: Tensor) -> Tensor:
        credit = assigner(replace(episodes, rewards=rewards))
        weights = default if credit.weights is None else credit.weights.triu()
        return (weights @ (credit.rewards * episodes.mask)[..., None]).squeeze(-1)

    pull_back = torch.func.vjp(credited, episodes.rewards)[1]

    def row(direction: Tensor) -> Tensor:
        return pull_back(direction.expand_as(episodes.rewards))[0]

    steps = torch.eye(num_steps, dtype=episodes.rewards.dtype, device=episodes.rewards.device)
    # Rows are batched, but not all at once: long episodes would need memory for T^3 numbers.
    rows = torch.func.vmap(row, chunk_size=64)(steps).detach()
    both = episodes.mask[:, :, None] & episodes.mask[:, None, :]
    return torch.where(both, rows.transpose(0, 1), 0.0)


def credit_on_cause(
    credit: Float[Tensor, "B T T"], ground_truth: Float[Tensor, "B T T"], mask: Bool[Tensor, "B T"]
) -> Float[Tensor, ""]:
    """Share of the decisive rewards' credit that lands on the actions that caused them.

    sum |C[t,j]| over pairs (t,j) with a cause, by sum |C[t,j]| over all t, for j with any cause;
    1 is perfect, and giving every earlier action the same credit scores 1/L on an umbrella chain.

    Args:
        credit: C[b,t,j].
        ground_truth: positive where the action at t caused the reward at j.
        mask: which steps exist.
    """
    exists = mask[:, :, None] & mask[:, None, :]
    cause = (ground_truth > 0) & exists
    decisive = cause.any(dim=1, keepdim=True) & exists
    size = credit.abs()
    total = (size * decisive).sum()
    return torch.where(total > 0, (size * cause).sum() / total.clamp(min=1e-30), 0.0)
