"""A value head that predicts on a scale which suits the returns it has seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from metairn.networks.mlp import MLP


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
        # V starts at zero: any other number would be a guess about the size of the rewards.
        self.network = MLP(observation_size, hidden_sizes, 1, last_gain=0.0)
        self.rate = rate
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("std", torch.ones(()))
        # Total weight of the batches seen, and the running mean and variance of their returns.
        self.register_buffer("moments", torch.zeros(3))

    def normalised(self, observations: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch"]:
        """f(o), in standard deviations of the return."""
        return self.network(observations).squeeze(-1)

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
        batch_mean = sums[1] / sums[0]
        batch_variance = (sums[2] / sums[0] - batch_mean.square()).clamp(min=0)
        weight, mean, variance = self.moments.double()
        # Dividing by the total weight makes the first batch count in full, whatever the rate.
        weight = weight + self.rate * (1 - weight)
        share = self.rate / weight
        step = batch_mean - mean
        mean = mean + share * step
        variance = (1 - share) * (variance + share * step.square()) + share * batch_variance
        self.moments.copy_(torch.stack([weight, mean, variance]))
        # Returns that are all equal have no scale: fall back on their size, then on one.
        size = torch.where(mean != 0, mean.abs(), 1.0)
        std = variance.sqrt()
        std = torch.where(std > 1e-4 * mean.abs(), std, size)
        last: nn.Linear = self.network.layers[-1]  # type: ignore[assignment]
        last.weight.mul_(self.std / std)
        last.bias.copy_((self.std * last.bias + self.mean - mean) / std)
        self.mean.copy_(mean)
        self.std.copy_(std)
