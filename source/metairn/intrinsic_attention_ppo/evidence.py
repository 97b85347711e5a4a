"""What episodes say about which credit would pay off, for inner_update=natural."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from metairn.credit_assignment.meta_learned_reward import MetaLearnedReward
from metairn.episodes import EpisodeBatch
from metairn.intrinsic_attention_ppo.rollout import Horizon
from metairn.objectives.advantages import decay_weights, gae, masked_mean
from metairn.objectives.natural_credit import (
    centred_rewards,
    gains,
    policy_gradients,
    score_size,
    whitened,
)

if TYPE_CHECKING:
    from metairn.networks.policy import Policy


@dataclass(frozen=True)
class Evidence:
    """The gains of credit at the policies that made the episodes.

    Args:
        episodes: B whole episodes.
        rewards: r_k less its mean over episodes, in units of their size; zero at padded steps.
        gains: M[e,t,k], what credit for action t does to the expectation of reward k; K = 1 if to
            that of the return.
        size: mean square of the policy's scores, the largest so far.
    """

    episodes: EpisodeBatch
    rewards: Float[Tensor, "B T"]
    gains: Float[Tensor, "B T K"]
    size: Float[Tensor, ""]

    @cached_property
    def _worth(self) -> Float[Tensor, "T T"]:
        """D[k,t] = sum_e r_k M[e,t,k]: what it is worth to move reward k to action t."""
        return torch.einsum("ek,etk->kt", self.rewards, self.gains)

    @cached_property
    def _worth_in_each(self) -> Float[Tensor, "B T T"]:
        """The same for each episode by itself, where they have shares of their own."""
        return torch.einsum("ek,etk->ekt", self.rewards, self.gains)

    def drawn(self, most: int | None, generator: torch.Generator) -> Evidence:
        """So many episodes by chance, or all if there are no more.

        Args:
            most: how many; None for all.
            generator: draws.
        """
        if most is None or most >= len(self.rewards):
            return self
        order = torch.randperm(len(self.rewards), generator=generator)
        indices = order[:most].to(self.rewards.device)
        return replace(
            self,
            episodes=self.episodes.select(indices, self.episodes.mask.shape[1]),
            rewards=self.rewards[indices],
            gains=self.gains[indices],
        )

    def outer_loss(self, assigner: MetaLearnedReward, horizon: Horizon) -> Float[Tensor, ""]:
        """- mean_e sum_t A_t M_t / std(A): what the imagined update would gain, less is better.

        The policy will learn from normalised advantages, so only the credit's direction counts.

        Args:
            assigner: gives the credit, and with it A.
            horizon: gamma and lambda of the return of r'.
        """
        episodes, decay = self.episodes, horizon.decay
        if self.gains.shape[2] == 1:
            rewards = assigner(episodes).rewards
            advantages = gae(rewards - rewards.mean(dim=0), horizon.discount, horizon.gae_lambda)
            gain = (advantages * self.gains[..., 0] * episodes.mask).sum()
        else:
            shares = assigner.redistribution(episodes)
            if decay:
                size = shares.shape[1]
                shares = shares @ decay_weights(size, decay, shares.dtype, shares.device).t()
            alike = shares.shape[0] == 1
            advantages = self.rewards @ shares[0] if alike else _rows(self.rewards, shares)
            gain = (shares * (self._worth if alike else self._worth_in_each)).sum()
        spread = advantages - masked_mean(advantages, episodes.mask)
        deviation = (masked_mean(spread.square(), episodes.mask) + 1e-12).sqrt()
        return -gain / len(self.rewards) / deviation


def _rows(rewards: Float[Tensor, "B T"], shares: Float[Tensor, "B T T"]) -> Float[Tensor, "B T"]:
    return (rewards[:, None, :] @ shares).squeeze(1)


@torch.no_grad()
def gather_evidence(
    episodes: EpisodeBatch,
    policy: Policy,
    assigner: MetaLearnedReward,
    discount: float,
    size: Float[Tensor, ""] | None,
) -> Evidence:
    """Computes the gains once, for all meta_steps.

    Scores are of the policies that made the episodes, at the features of the present one: a policy
    that has made up its mind shows no more what it once learned from.

    Args:
        episodes: of this iteration and of earlier ones.
        policy: the present one.
        assigner: with the settings.
        discount: gamma of the extrinsic return.
        size: of the scores, the largest of earlier iterations.
    """
    settings, mask = assigner.meta_learning, episodes.mask
    scores = policy.scores(episodes.acted_on, episodes.actions, episodes.behaviour_inputs)
    scores = scores * mask[..., None]
    now = score_size(scores, mask)
    size = now if size is None else torch.maximum(size, now)
    scores = whitened(scores, mask, size)
    rewards = centred_rewards(episodes.rewards, mask)
    gradients = policy_gradients(scores, rewards, discount, settings.judged_by == "reward")
    found = gains(scores, gradients, settings.outer_data != "same")
    return Evidence(episodes, rewards * mask, found, size)
