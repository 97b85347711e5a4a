"""A value head that predicts on a scale which suits the returns it has seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from metairn.networks.mlp import linear, mlp


class ValueHead(nn.Module):
    """V(o) = mean + std * f(o), with mean and std following the returns.

    f is fitted to (G - mean) / std, so rewards of 10 and of 0.01 give the same gradients. When mean
    and std move, the last layer is rescaled so that V stays as it was.

    Args:
        observation_size: D.
        hidden_sizes: width of each hidden layer.
        rate: share of the newest batch in the running moments.

    Source: van Hasselt et al. 2016, PopArt, equations 4-6.
    """

    mean: Tensor
    std: Tensor
    moments: Tensor

    def __init__(
        self, observation_size: int, hidden_sizes: Sequence[int], rate: float = 0.1
    ) -> None:
        super().__init__()
        self.torso = mlp(observation_size, hidden_sizes[:-1], hidden_sizes[-1], last_gain=2**0.5)
        self.last = linear(hidden_sizes[-1], 1, gain=1.0)
        self.rate = rate
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("std", torch.ones(()))
        # Sum of weights, weighted mean and weighted mean square: dividing removes the start's bias.
        self.register_buffer("moments", torch.zeros(3, dtype=torch.float64))

    def normalised(self, observations: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch"]:
        """f(o), in standard deviations of the return."""
        return self.last(torch.tanh(self.torso(observations))).squeeze(-1)

    def forward(self, observations: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch"]:
        """V(o), in units of reward."""
        return self.mean + self.std * self.normalised(observations)

    @torch.no_grad()
    def update_scale(
        self,
        returns: Float[Tensor, "B T"],
        mask: Bool[Tensor, "B T"],
        reduce_sum: Callable[[Tensor], Tensor],
    ) -> None:
        """Moves mean and std towards those of the returns, leaving V unchanged.

        Args:
            returns: value targets, in units of reward.
            mask: which of them exist.
            reduce_sum: adds a tensor over all learners.
        """
        values = returns[mask].double()
        count = values.new_tensor(len(values))
        sums = reduce_sum(torch.stack([count, values.sum(), values.square().sum()]))
        self.moments.lerp_(sums / sums[0], self.rate)
        mean = self.moments[1] / self.moments[0]
        variance = self.moments[2] / self.moments[0] - mean.square()
        # Returns that are all equal have no scale: fall back on their size, then on one.
        floor = (1e-4 * mean.abs()).clamp(min=1e-6)
        std = variance.clamp(min=0).sqrt().maximum(floor)
        self.last.weight.mul_(self.std / std)
        self.last.bias.copy_((self.std * self.last.bias + self.mean - mean) / std)
        self.mean.copy_(mean)
        self.std.copy_(std)
