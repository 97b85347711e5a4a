"""Advantages: one formula, A_t = sum_{j>=t} W[t,j] delta_j, for every method.

Generalised advantage estimation is W[t,j] = (gamma lambda)^(j-t); pairwise-weight methods learn W.
All tensors are [B,T] over padded episodes; errors at padded steps are zero, so padding adds nothing
to any sum.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from jaxtyping import Bool, Float
from torch import Tensor

ReduceSum = Callable[[Tensor], Tensor]


def identity(tensor: Tensor) -> Tensor:
    """The sum over all learners when there is one."""
    return tensor


def td_errors(
    rewards: Float[Tensor, "B T"],
    values: Float[Tensor, "B T"],
    next_values: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    discount: float,
) -> Float[Tensor, "B T"]:
    """delta_t = r_t + gamma V(o_{t+1}) - V(o_t), zero at padded steps.

    Args:
        rewards: r_t, in units of reward, as are both values.
        values: V(o_t).
        next_values: V(o_{t+1}), zero behind a terminal step (EpisodeBatch.next_values).
        mask: which steps exist.
        discount: gamma.

    Source: Schulman et al. 2016, equation 9.
    """
    return (rewards + discount * next_values - values) * mask


@lru_cache(maxsize=64)
def decay_weights(
    num_steps: int, decay: float, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "T T"]:
    """W[t,j] = decay^(j-t) for j >= t and 0 before; decay 0 gives the identity.

    Source: Schulman et al. 2016, equation 16, written as a matrix.
    """
    steps = torch.arange(num_steps, device=device)
    lag = (steps[None, :] - steps[:, None]).to(torch.float64)
    weights = torch.where(lag >= 0, decay ** lag.clamp(min=0), 0.0)
    return weights.to(dtype)


def weighted_advantages(
    errors: Float[Tensor, "B T"], weights: Float[Tensor, "T T"] | Float[Tensor, "B T T"]
) -> Float[Tensor, "B T"]:
    """A_t = sum_{j>=t} W[t,j] delta_j, as one matrix product.

    Args:
        errors: TD errors delta_j of the (shaped) rewards.
        weights: W, one for all episodes or one each; only j >= t counts.

    Source: Zheng et al. 2022 (pairwise weights), equation 3; the loop below says the same.
    """
    return (weights.triu() @ errors[..., None]).squeeze(-1)


def weighted_advantages_loop(
    errors: Float[Tensor, "B T"], weights: Float[Tensor, "T T"] | Float[Tensor, "B T T"]
) -> Float[Tensor, "B T"]:
    """The definition of `weighted_advantages`, term by term: slow, there to compare with."""
    num_episodes, num_steps = errors.shape
    weights = weights.expand(num_episodes, num_steps, num_steps)
    rows = []
    for t in range(num_steps):
        total = torch.zeros_like(errors[:, 0])
        for j in range(t, num_steps):
            total = total + weights[:, t, j] * errors[:, j]
        rows.append(total)
    return torch.stack(rows, dim=1)


def gae(errors: Float[Tensor, "B T"], discount: float, gae_lambda: float) -> Float[Tensor, "B T"]:
    """A_t = sum_{j>=t} (gamma lambda)^(j-t) delta_j.

    Source: Schulman et al. 2016, equation 16.
    """
    decay = discount * gae_lambda
    return errors @ decay_weights(errors.shape[1], decay, errors.dtype, errors.device).T


def step_weights(
    mask: Bool[Tensor, "B T"],
    reduce_sum: ReduceSum = identity,
    dtype: torch.dtype = torch.float32,
    importance: Float[Tensor, "B T"] | None = None,
) -> Float[Tensor, "B T"]:
    """1 / (steps of all learners) where a step exists and 0 elsewhere.

    A sum with these weights, summed over learners, is the mean over all their steps, whatever each
    one's share: gradients of it add up to the gradient of one learner with all episodes.

    Args:
        mask: which steps exist.
        reduce_sum: sum over learners.
        dtype: of the weights.
        importance: how much each step counts; None if all count alike.
    """
    exists = mask.to(dtype) if importance is None else importance * mask
    return exists / reduce_sum(exists.sum())


def masked_mean(
    values: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"], reduce_sum: ReduceSum = identity
) -> Float[Tensor, ""]:
    """This learner's share of the mean over the existing steps of all learners."""
    weights = step_weights(mask, reduce_sum, values.dtype)
    return (torch.where(mask, values, 0.0) * weights).sum()


def normalise(
    values: Float[Tensor, "B T"],
    weights: Float[Tensor, "B T"],
    reduce_sum: ReduceSum = identity,
    floor: Float[Tensor, ""] | None = None,
) -> Float[Tensor, "B T"]:
    """(x - mean) / std over the existing steps of all learners; padded steps may get anything.

    Differentiable: a meta-gradient through it sees signal over noise, not signal alone.

    Args:
        values: x.
        weights: see step_weights.
        reduce_sum: differentiable sum over learners.
        floor: least divisor; None for none.
    """
    deviations = values - reduce_sum((values * weights).sum())
    # Twice, or the mean's rounding error would pass for a difference where all x are equal.
    deviations = deviations - reduce_sum((deviations * weights).sum())
    variance = reduce_sum((deviations.square() * weights).sum())
    # The floor only guards x that are all equal, where the square root has no derivative.
    deviation = (variance + 1e-12).sqrt()
    return deviations / (deviation if floor is None else torch.maximum(deviation, floor))


def standard_deviation(
    values: Float[Tensor, "B T"], weights: Float[Tensor, "B T"], reduce_sum: ReduceSum = identity
) -> Float[Tensor, ""]:
    """std(x) over the existing steps of all learners; arguments as in normalise."""
    deviations = values - reduce_sum((values * weights).sum())
    return reduce_sum((deviations.square() * weights).sum()).sqrt()
