"""The interface of every method: shaped rewards r' and pairwise weights W.

The learner computes A_t = sum_{j>=t} W[t,j] delta_j(r') and knows nothing else about a method, so a
new method is one subclass in one file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from metairn.episodes import EpisodeBatch, EpisodeSpec
from metairn.objectives.advantages import ReduceSum, identity, masked_mean


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
        gae_lambda: lambda of the return of r'; None for that of the extrinsic return.
        extrinsic_share: share of the extrinsic advantage in what the policy learns from; the rest
            is that of r', both in standard deviations.
        advantage_floor: least divisor of the advantage of r', as a share of its largest standard
            deviation so far: where nothing is left to gain, what is left is noise. 0 for none.
        credit_learning_rate: step size of the method's own parameters.
        later_settings: those that earlier versions lacked, with the values that change nothing: at
            these they are left out of a run's configuration, so that earlier runs keep theirs.
    """

    learns_by: Literal["nothing", "meta_gradient", "own_loss"] = "nothing"
    needs_mixed_critic: ClassVar[bool] = True
    needs_ground_truth: ClassVar[bool] = False
    later_settings: ClassVar[Mapping[str, Any]] = {}
    discount: float | None = None
    gae_lambda: float | None = None
    extrinsic_share: float = 0.0
    advantage_floor: float = 0.0
    credit_learning_rate: float = 0.0

    reward_scale: Tensor
    reward_peak: Tensor
    reward_moments: Tensor

    def __init__(self, spec: EpisodeSpec) -> None:
        super().__init__()
        self.spec = spec
        self.register_buffer("reward_scale", torch.ones(()))
        self.register_buffer("reward_peak", torch.ones(()))
        self.register_buffer("reward_moments", torch.zeros(3))

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
        """Moves the units of reward towards what these episodes show.

            reward_scale = sqrt(mean_{e,t} r^2)        reward_peak = sqrt(mean_e max_t r^2)

        Networks read rewards, and write intrinsic ones, in such a unit: a task whose rewards are a
        thousand times smaller is then the same task. In units of the peak, one large reward among
        many small ones looks alike however many these are.
        """
        squares = torch.where(episodes.mask, episodes.rewards, 0.0).square()
        peaks = squares.amax(dim=1, keepdim=True)
        exist = torch.ones_like(peaks, dtype=torch.bool)
        square = reduce_sum(masked_mean(squares, episodes.mask, reduce_sum))
        peak = reduce_sum(masked_mean(peaks, exist, reduce_sum))
        moments = torch.stack([torch.ones_like(square), square, peak]).to(self.reward_moments)
        self.reward_moments.lerp_(moments, 0.1)
        weight, *means = self.reward_moments
        for unit, mean in zip((self.reward_scale, self.reward_peak), means, strict=True):
            value = (mean / weight).sqrt()
            unit.copy_(value if value > 0 else torch.ones_like(value))

    def begin_lifetime(self) -> None:
        """Forgets what belongs to one policy and its task: the size of the rewards."""
        self.reward_scale.fill_(1.0)
        self.reward_peak.fill_(1.0)
        self.reward_moments.zero_()
