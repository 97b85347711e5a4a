"""Single-head self-attention over the steps of an episode."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from metairn.networks.mlp import linear

# Attention weights that are held at once: 64 MB of float32.
MAX_WEIGHTS = 2**24


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
        return _weights(self.query(steps), self.key(steps), mask)

    def forward(
        self, steps: Float[Tensor, "B T d"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T d"]:
        """Each step's weighted mean of all steps' values.

        Weights are T^2 numbers per episode. Many long episodes are looked at in parts, whose
        weights are computed anew in the backward pass instead of being kept.
        """
        inputs = (self.query(steps), self.key(steps), self.value(steps), mask)
        num_episodes, num_steps, _ = steps.shape
        part = max(1, MAX_WEIGHTS // num_steps**2)
        if num_episodes <= part:
            return _attend(*inputs)
        parts = zip(*(tensor.split(part) for tensor in inputs), strict=True)
        return torch.cat(
            [checkpoint(_attend, *p, use_reentrant=False, preserve_rng_state=False) for p in parts]
        )


def _weights(
    query: Float[Tensor, "B T d"], key: Float[Tensor, "B T d"], mask: Bool[Tensor, "B T"]
) -> Float[Tensor, "B T T"]:
    # Scale, mask and product in one operation: each alone would go through all T^2 numbers again.
    padding = torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, -math.inf)
    logits = torch.baddbmm(
        padding[:, None, :], query, key.transpose(-1, -2), alpha=1 / math.sqrt(query.shape[-1])
    )
    return logits.softmax(dim=-1)


def _attend(
    query: Float[Tensor, "B T d"],
    key: Float[Tensor, "B T d"],
    value: Float[Tensor, "B T d"],
    mask: Bool[Tensor, "B T"],
) -> Float[Tensor, "B T d"]:
    return _weights(query, key, mask) @ value


@lru_cache(maxsize=64)
def sinusoidal_positions(
    num_steps: int, width: int, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "T d"]:
    """sin and cos of t / 10000^(2i/d), a code for the step index that needs no training.

    Args:
        num_steps: T.
        width: d, even.
        dtype: of the result.
        device: of the result.

    Source: Vaswani et al. 2017, section 3.5.
    """
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    angles = torch.arange(num_steps)[:, None] * rates[None, :]
    return torch.cat([angles.sin(), angles.cos()], dim=-1).to(device, dtype)


class RedistributionAttention(nn.Module):
    """How each step's reward is spread over the steps up to it, or thrown away.

        C[k,t] = softmax over {null, 0 .. k} of  c_k <W_q h_k, W_k h_t> / sqrt(d)      (t)
                                                 c_k <w_0, h_k> + c_k b_0              (null)
        c_k = sharpness * ln(k+2) / ln 4

    Rows sum to one together with the null slot, which is what lets a reward that nothing caused
    reach no action at all. c_k grows with the number of steps to choose from: an attention that is
    sharp over ten steps is as sharp over a thousand.

    Untrained, each of a row's k + 2 shares is 1/(k+2), and so is what the softmax passes on of its
    gradient: the noise of the first rows drowns what the last rewards say. A balanced gradient is
    (k+2)/2 times as large at row k's logits.

    Args:
        width: d, numbers per step.
        null_slot: whether a reward can be thrown away.
        sharpness: multiplies all logits.
        balanced_gradient: whether rows learn alike, however many shares they have.

    Source: logits that grow with ln k are Chiang and Cholak's (2022); null slot and use are ours.
    """

    def __init__(
        self,
        width: int,
        null_slot: bool = True,
        sharpness: float = 1.0,
        balanced_gradient: bool = False,
    ) -> None:
        super().__init__()
        self.query = linear(width, width, gain=1.0, bias=False)
        self.key = linear(width, width, gain=1.0, bias=False)
        self.sharpness = sharpness
        self.balanced_gradient = balanced_gradient
        self.null = linear(width, 1, gain=0.1) if null_slot else None

    def weights(
        self, steps: Float[Tensor, "B T d"], mask: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T T"]:
        """C[k,t]: the share of step k's reward that step t gets; zero for t > k and for padding."""
        num_steps = mask.shape[1]
        scale = _length_scale(num_steps, steps.dtype, steps.device) * self.sharpness
        query, key = self.query(steps) * scale[:, None], self.key(steps)
        later = _later(num_steps, steps.dtype, steps.device)
        alpha = 1 / math.sqrt(query.shape[-1])
        if self.balanced_gradient:
            logits = later + _balanced(alpha * query @ key.transpose(-1, -2))
        else:
            logits = torch.baddbmm(later, query, key.transpose(-1, -2), alpha=alpha)
        if self.null is None:
            return logits.softmax(dim=-1) * mask[:, :, None]
        null = self.null(steps) * scale[:, None]
        if self.balanced_gradient:
            null = _balanced(null)
        return torch.cat([logits, null], dim=-1).softmax(dim=-1)[..., :-1] * mask[:, :, None]


def _balanced(logits: Float[Tensor, "B T K"]) -> Float[Tensor, "B T K"]:
    """The same numbers, with a gradient (k+2)/2 times as large in row k."""
    rows = torch.arange(logits.shape[1], dtype=logits.dtype, device=logits.device)
    return logits + (rows / 2)[:, None] * (logits - logits.detach())


@lru_cache(maxsize=64)
def _length_scale(num_steps: int, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "T"]:
    """ln(k+2) / ln 4."""
    return (torch.arange(num_steps, device=device, dtype=dtype) + 2).log() / math.log(4)


@lru_cache(maxsize=8)
def _later(num_steps: int, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "1 T T"]:
    """-inf where t > k, 0 elsewhere."""
    full = torch.full((1, num_steps, num_steps), -math.inf, dtype=dtype, device=device)
    return full.triu(1)
