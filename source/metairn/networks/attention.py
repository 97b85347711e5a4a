"""Single-head self-attention over the steps of an episode."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from metairn.networks.mlp import linear


class SelfAttention(nn.Module):
    """softmax(Q K^T / sqrt(d)) V over the steps of one episode, looking both ways in time.

    One head, because its weights are what is read as credit. Queries and keys have no bias: one on
    the keys would cancel in the softmax and never get a gradient.

    Args:
        width: d, numbers per step.

    Source: Vaswani et al. 2017, equation 1.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = linear(width, width, gain=1.0, bias=False)
        self.key = linear(width, width, gain=1.0, bias=False)
        self.value = linear(width, width, gain=1.0, bias=False)

    def weights(
        self, steps: Float[Tensor, "B T d"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T T"]:
        """How much step t (row) attends to step j (column); rows sum to one, padding gets zero."""
        logits = self.query(steps) @ self.key(steps).transpose(-1, -2)
        logits = logits / math.sqrt(steps.shape[-1])
        return logits.masked_fill(~mask[:, None, :], -math.inf).softmax(dim=-1)

    def forward(
        self, steps: Float[Tensor, "B T d"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T d"]:
        """Each step's weighted mean of all steps' values."""
        return self.weights(steps, mask) @ self.value(steps)


def sinusoidal_positions(steps: Int[Tensor, "T"], width: int) -> Float[Tensor, "T d"]:
    """sin and cos of t / 10000^(2i/d), a code for the step index that needs no training.

    Args:
        steps: step indices t.
        width: d, even.

    Source: Vaswani et al. 2017, section 3.5.
    """
    rates = torch.exp(torch.arange(0, width, 2, device=steps.device) * (-math.log(10000.0) / width))
    angles = steps[:, None] * rates[None, :]
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
