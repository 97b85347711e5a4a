"""What an update did and what a method makes of episodes: figures and arrays, nothing learned."""

from __future__ import annotations

import math

import numpy as np
import torch

from metairn.credit_assignment.credit_matrix import credit_matrix, credit_on_cause
from metairn.episodes import EpisodeBatch
from metairn.intrinsic_attention_ppo.rl_module import IntrinsicAttentionModule
from metairn.intrinsic_attention_ppo.rllib_workarounds import reduce_sum
from metairn.intrinsic_attention_ppo.rollout import Horizon
from metairn.objectives.advantages import step_weights

# Episodes whose credit is scored against the ground truth in each iteration: at most so many, and
# of long ones, which cost T^2, fewer.
SCORED_EPISODES = 8
SCORED_NUMBERS = 2**19


@torch.no_grad()
def measure(
    networks: IntrinsicAttentionModule, episodes: EpisodeBatch, horizon: Horizon
) -> dict[str, float]:
    """Entropy, KL to the policy that acted, intrinsic rewards and, if known, credit on the cause.

    Args:
        networks: after an update.
        episodes: the batch that it learned from.
        horizon: gamma and lambda of the return of r'.
    """
    actions = networks.actor.actions
    inputs = networks.actor(episodes.acted_on)
    weights = step_weights(episodes.mask, reduce_sum)
    intrinsic = networks.credit_assigner(episodes).rewards - episodes.rewards
    figures = {
        "entropy": actions.entropy(inputs),
        "kl": actions.kl(episodes.behaviour_inputs, inputs),
        "intrinsic_reward_mean": intrinsic,
        "intrinsic_reward_std": intrinsic.square(),
    }
    sums = [(torch.where(episodes.mask, v, 0.0) * weights).sum() for v in figures.values()]
    metrics = dict(zip(figures, reduce_sum(torch.stack(sums)).tolist(), strict=True))
    variance = metrics["intrinsic_reward_std"] - metrics["intrinsic_reward_mean"] ** 2
    metrics["intrinsic_reward_std"] = math.sqrt(max(variance, 0.0))
    affordable = max(1, SCORED_NUMBERS // episodes.rewards.shape[1] ** 2)
    count = min(SCORED_EPISODES, affordable, episodes.num_episodes)
    scored = episodes.select(torch.arange(count, device=episodes.rewards.device))
    if scored.ground_truth is not None:
        score = credit_on_cause(networks.credit_assigner, scored, horizon.decay)
        metrics["credit_on_cause"] = float(reduce_sum(score / reduce_sum(torch.ones_like(score))))
    return metrics


@torch.no_grad()
def credit_maps(
    networks: IntrinsicAttentionModule, episodes: EpisodeBatch, horizon: Horizon
) -> dict[str, np.ndarray]:
    """The episodes and what the method makes of them: credit, attention, intrinsic rewards.

    Args:
        networks: with the method.
        episodes: B whole episodes.
        horizon: gamma and lambda of the return of r'.
    """
    assigner = networks.credit_assigner
    episodes = episodes.to(networks.extrinsic_value.mean.device)
    maps = {
        "intrinsic_rewards": assigner(episodes).rewards - episodes.rewards,
        "credit_matrix": credit_matrix(assigner, episodes, horizon.decay),
    }
    attention = assigner.attention(episodes)
    if attention is not None:
        maps["attention"] = attention
    return episodes.to_numpy() | {name: t.cpu().numpy() for name, t in maps.items()}
