"""The meta-gradient through a natural policy gradient step, in closed form.

An imagined natural gradient step of small size alpha along the credit's gradient g changes the
expectation J_k of step k's reward, to first order in alpha, by

    d J_k = alpha g^T F^-1 h_k,    g = mean_e sum_t A_t x_t,    h_k = mean_e r_k sum_{t<=k} x_t

with scores x_t = grad log pi(a_t|o_t), their second moment F, the credit A_t that action t is given
and h_k = grad J_k. Credit that is linear in the rewards, A_t = sum_k C[k,t] r_k, is then worth
sum_{k,t} C[k,t] D[k,t]: the evidence D can be computed once, and how good any credit C is follows
without another look at the policy.

Two things take most of the noise out. Natural: scores that all steps have in common, which drown
the one action that matters, are divided by their own size. Judged by one reward: the part of g that
reward k is credited for counts by d J_k alone, not by the change of the whole return, of which r_k
is one of T terms. What that leaves out is what credit for one reward does to the other rewards.
Source: the outer objective is LIRPG's (Zheng et al. 2018, equations 5-8); natural gradients are
Kakade's (2001); one inner step on the last layer is ANIL's (Raghu et al. 2020). Judging each reward
by itself, and leaving each episode out of its own judgement, is ours.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from metairn.objectives.advantages import decay_weights

# Share of the scores' mean square that is added to F, as in damped natural gradients.
DAMPING = 0.01


def centred_rewards(
    rewards: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]
) -> Float[Tensor, "B T"]:
    """(r_k - mean over episodes of r_k) / root mean square of all; no reward counts as 0.

    Behind an episode's end too: that nothing came is what its actions have to answer for.
    """
    existing = rewards * mask
    centred = existing - existing.mean(dim=0)
    return centred / centred.square().mean().sqrt().clamp(min=1e-12)


def score_size(scores: Float[Tensor, "B T F"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, ""]:
    """Mean square of the scores' numbers, over the steps that exist."""
    return scores.square().sum() / (mask.sum() * scores.shape[-1])


def whitened(
    scores: Float[Tensor, "B T F"], mask: Bool[Tensor, "B T"], size: Float[Tensor, ""]
) -> Float[Tensor, "B T F"]:
    """y = R^-1 x with R R^T = F + damping: y^T y' is the inner product x^T F^-1 x'.

    Args:
        scores: x, zero at padded steps.
        mask: which steps exist.
        size: what the damping is relative to. That of the most random policy so far keeps a policy
            that has made up its mind from having rounding errors blown up.
    """
    rows = scores.flatten(0, 1)
    second_moment = rows.t() @ rows / mask.sum()
    damping = DAMPING * size + torch.finfo(rows.dtype).tiny
    damped = second_moment + damping * torch.eye(
        len(second_moment), dtype=rows.dtype, device=rows.device
    )
    root = torch.linalg.cholesky(damped)
    return torch.linalg.solve_triangular(root, rows.t(), upper=False).t().view_as(scores)


def policy_gradients(
    scores: Float[Tensor, "B T F"],
    rewards: Float[Tensor, "B T"],
    discount: float,
    by_reward: bool,
) -> Float[Tensor, "B K F"]:
    """What each episode says of grad J_k: r_k sum_{t<=k} gamma^(k-t) x_t.

    Args:
        scores: x, zero at padded steps.
        rewards: r_k less a baseline, behind an episode's end too.
        discount: gamma of the extrinsic return.
        by_reward: whether each reward stands for itself (K = T); else their sum (K = 1), which is
            the policy gradient of the return.
    """
    decay = decay_weights(scores.shape[1], discount, scores.dtype, scores.device)
    gradients = rewards[..., None] * (decay.t() @ scores)
    return gradients if by_reward else gradients.sum(dim=1, keepdim=True)


def gains(
    scores: Float[Tensor, "B T F"], gradients: Float[Tensor, "B K F"], leave_out: bool
) -> Float[Tensor, "B T K"]:
    """M[e,t,k] = x_t^T grad J_k: what one unit of credit for this action does to J_k.

    Args:
        scores: x.
        gradients: what each episode says of grad J_k.
        leave_out: whether grad J_k is that of all other episodes; else this one's is among them,
            and the episode's own noise passes for a gain.

    Raises:
        ValueError: if there is no other episode.
    """
    num_episodes = len(scores)
    if leave_out and num_episodes < 2:
        raise ValueError(
            "inner_update=natural needs at least two episodes, to judge each by the others: raise "
            "train_batch_env_steps."
        )
    total = gradients.sum(dim=0)
    if not leave_out:
        return scores @ (total / num_episodes).t()
    others = (total - gradients) / (num_episodes - 1)
    return scores @ others.transpose(1, 2)
