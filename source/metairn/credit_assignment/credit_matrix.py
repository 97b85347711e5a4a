"""The credit matrix of any method, and how much of it lands where the ground truth says.

    C[t,j] = d/dr_j sum_{k>=t} W[t,k] r'_k: how much of the reward at j the action at t gets.

One definition for all methods: (gamma lambda)^(j-t) for PPO, the ground truth for the oracle, and
the reward network's Jacobian on top of that where intrinsic rewards are learned.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from metairn.credit_assignment.assigner import CreditAssigner
from metairn.episodes import EpisodeBatch
from metairn.objectives.advantages import decay_weights

# Numbers in an intermediate result: a row of C for one episode passes through T x T attention.
MAX_NUMBERS = 2**24


def credit_matrix(
    assigner: CreditAssigner, episodes: EpisodeBatch, decay: float
) -> Float[Tensor, "B T T"]:
    """C, row by row: one backward pass for each.

    Args:
        assigner: the method.
        episodes: B whole episodes.
        decay: gamma lambda of the return of r'.
    """
    rewards, credited = _credited(assigner, episodes, decay)
    steps = torch.eye(rewards.shape[1], dtype=rewards.dtype, device=rewards.device)
    directions = steps[:, None, :].expand(-1, rewards.shape[0], -1)
    rows = _pulled_back(credited, rewards, directions)
    both = episodes.mask[:, :, None] & episodes.mask[:, None, :]
    return torch.where(both, rows.transpose(0, 1), 0.0)


def credit_columns(
    assigner: CreditAssigner,
    episodes: EpisodeBatch,
    decay: float,
    directions: Float[Tensor, "N B T"],
) -> Float[Tensor, "N B T"]:
    """C v for each direction v: a column of C where v is one reward.

    The derivative, in u, of C^T u, which is linear in u: two backward passes instead of one for
    each of the T rows.

    Args:
        assigner: the method.
        episodes: B whole episodes.
        decay: gamma lambda of the return of r'.
        directions: v.
    """
    rewards, credited = _credited(assigner, episodes, decay)
    anything = torch.zeros_like(credited).requires_grad_()
    pulled = torch.autograd.grad(credited, rewards, anything, create_graph=True, allow_unused=True)[
        0
    ]
    if pulled is None:  # Credit that no reward has a part in.
        return torch.zeros_like(directions)
    return _pulled_back(pulled, anything, directions) * episodes.mask


def credit_on_cause(
    assigner: CreditAssigner, episodes: EpisodeBatch, decay: float
) -> Float[Tensor, ""]:
    """Share of the decisive rewards' credit that lands on the actions that caused them.

    sum |C[t,j]| over pairs (t,j) with a cause, by sum |C[t,j]| over all t, for j with any cause;
    1 is perfect, and giving every earlier action the same credit scores 1/L on an umbrella chain.

    Args:
        assigner: the method.
        episodes: B whole episodes with their ground truth.
        decay: gamma lambda of the return of r'.

    Raises:
        ValueError: if the ground truth is unknown.
    """
    if episodes.ground_truth is None:
        raise ValueError("Credit can only be scored against a ground truth.")
    exists = episodes.mask[:, :, None] & episodes.mask[:, None, :]
    cause = (episodes.ground_truth > 0) & exists
    decisive = cause.any(dim=1)
    # The n-th decisive reward of every episode is looked at together, for n = 0, 1, ...
    count = decisive.cumsum(dim=1)
    numbers = torch.arange(1, max(int(count.max()), 1) + 1, device=count.device)
    directions = (decisive & (count == numbers[:, None, None])).to(episodes.rewards)
    size = credit_columns(assigner, episodes, decay, directions).abs()
    caused = torch.einsum("btj,nbj->nbt", cause.to(directions), directions)
    total = size.sum()
    return torch.where(total > 0, (size * caused).sum() / total.clamp(min=1e-30), 0.0)


def _credited(
    assigner: CreditAssigner, episodes: EpisodeBatch, decay: float
) -> tuple[Float[Tensor, "B T"], Float[Tensor, "B T"]]:
    """The rewards, and what each action is credited with as a function of them."""
    rewards = episodes.rewards.detach().requires_grad_()
    with torch.enable_grad():
        credit = assigner(replace(episodes, rewards=rewards))
        shaped = (credit.rewards * episodes.mask)[..., None]
        if credit.weights is None:
            weights = decay_weights(rewards.shape[1], decay, rewards.dtype, rewards.device)
        else:
            weights = credit.weights.triu()
        # Nothing is added, but a gradient can be asked for even where no reward has a part in it.
        return rewards, (weights @ shaped).squeeze(-1) + 0.0 * rewards


def _pulled_back(
    output: Float[Tensor, "B T"], leaf: Float[Tensor, "B T"], directions: Float[Tensor, "N B T"]
) -> Float[Tensor, "N B T"]:
    """J^T v for each direction v, with J = d output / d leaf."""

    def parts() -> Iterator[Tensor]:
        # Directions are batched, but not all at once: long episodes would fill the memory.
        for some in directions.split(max(1, MAX_NUMBERS // (leaf.numel() * leaf.shape[1]))):
            found = torch.autograd.grad(
                output, leaf, some, retain_graph=True, is_grads_batched=True, allow_unused=True
            )[0]
            yield torch.zeros_like(some) if found is None else found

    return torch.cat(list(parts()))
