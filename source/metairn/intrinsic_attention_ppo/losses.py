"""What the policy and the value heads learn from a rollout and its credit: torch alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from metairn.credit_assignment.assigner import CreditAssigner
from metairn.intrinsic_attention_ppo.rollout import Horizon, Rollout
from metairn.networks.policy import ActionDistribution
from metairn.networks.value import ValueHead
from metairn.objectives.advantages import (
    ReduceSum,
    gae,
    identity,
    normalise,
    td_errors,
    weighted_advantages,
)
from metairn.objectives.ppo_loss import clipped_surrogate, value_loss


def mixed_advantages(
    assigner: CreditAssigner, rollout: Rollout, horizon: Horizon
) -> Float[Tensor, "B T"]:
    """A_t = sum_{j>=t} W[t,j] delta_j(r'), differentiable in the credit.

    Args:
        assigner: gives r' and W.
        rollout: episodes and the values of the mixed critic, which are constants.
        horizon: gamma and lambda of the return of r'.
    """
    if rollout.fixed_advantages is not None:
        return rollout.fixed_advantages
    credit = assigner(rollout.episodes)
    errors = td_errors(
        credit.rewards,
        rollout.mixed_values,
        rollout.mixed_next_values,
        rollout.episodes.mask,
        horizon.discount,
    )
    if credit.weights is None:
        return gae(errors, horizon.discount, horizon.gae_lambda)
    return weighted_advantages(errors, credit.weights)


def policy_advantages(
    assigner: CreditAssigner,
    rollout: Rollout,
    mixed: Float[Tensor, "B T"],
    largest: Float[Tensor, ""] | None = None,
    reduce_sum: ReduceSum = identity,
) -> Float[Tensor, "B T"]:
    """w A_ex / std(A_ex) + (1-w) A_mix / s, both less their means; A_mix itself if w = 0.

    Args:
        assigner: gives w, the extrinsic share.
        rollout: with A_ex.
        mixed: A_mix, the advantages of r'.
        largest: standard deviation of A_mix, the largest so far, where the method has a floor:
            s = max(std(A_mix), floor x largest). None for s = std(A_mix).
        reduce_sum: sum over learners.
    """
    share, weights = assigner.extrinsic_share, rollout.weights
    if share == 0.0 and largest is None:
        return mixed
    floor = None if largest is None else assigner.advantage_floor * largest
    mixed = (1 - share) * normalise(mixed, weights, reduce_sum, floor)
    return mixed + share * normalise(rollout.extrinsic_advantages, weights, reduce_sum)


@dataclass(frozen=True)
class PolicyLoss:
    """The PPO loss of a policy's outputs on given episodes and advantages.

    Args:
        actions: the policy's action distribution.
        clip: eps of the clipped surrogate.
        entropy_coefficient: weight of the entropy bonus, in units of normalised advantage.
        reduce_sum: differentiable sum over learners.
        normalises: false if the advantages are in standard deviations as they come.
    """

    actions: ActionDistribution
    clip: float
    entropy_coefficient: float
    reduce_sum: ReduceSum
    normalises: bool = True

    def __call__(
        self,
        inputs: Float[Tensor, "B T K"],
        rollout: Rollout,
        advantages: Float[Tensor, "B T"],
    ) -> Float[Tensor, ""]:
        """mean(clipped surrogate of normalised advantages) - coefficient x mean(entropy).

        This learner's share of it: the sum over learners is the loss.

        Args:
            inputs: the policy's outputs at each step.
            rollout: what was done there.
            advantages: A_t.
        """
        episodes, weights = rollout.episodes, rollout.weights
        if self.entropy_coefficient:
            log_probs, entropy = self.actions.log_prob_and_entropy(inputs, episodes.actions)
        else:
            log_probs, entropy = self.actions.log_prob(inputs, episodes.actions), None
        losses = clipped_surrogate(
            # The density at a padded step may be infinite, and 0 x infinity is no gradient.
            torch.where(episodes.mask, log_probs, 0.0),
            episodes.behaviour_log_probs,
            normalise(advantages, weights, self.reduce_sum) if self.normalises else advantages,
            self.clip,
        )
        if entropy is not None:
            losses = torch.sub(losses, entropy, alpha=self.entropy_coefficient)
        return (losses * weights).sum()


def value_head_loss(
    head: ValueHead, rollout: Rollout, targets: Float[Tensor, "B T"]
) -> Float[Tensor, ""]:
    """mean 1/2 (f(o) - normalised target)^2; this learner's share of it.

    Args:
        head: predicts the return.
        rollout: whose observations it sees.
        targets: in units of reward.
    """
    predictions = head.normalised(rollout.episodes.acted_on)
    return (value_loss(predictions, (targets - head.mean) / head.std) * rollout.weights).sum()
