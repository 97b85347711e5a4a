"""One iteration's data and losses: torch, and nothing of RLlib.

What is constant during an iteration (extrinsic advantages, value targets, values) is computed once,
from the networks as they were when the episodes were collected. So is the credit, unless it is
learned in between.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from metairn.credit_assignment.assigner import CreditAssigner
from metairn.episodes import EpisodeBatch
from metairn.networks.policy import ActionDistribution
from metairn.networks.value import ValueHead
from metairn.objectives.advantages import (
    ReduceSum,
    gae,
    identity,
    normalise,
    step_weights,
    td_errors,
    weighted_advantages,
)
from metairn.objectives.ppo_loss import clipped_surrogate, value_loss


@dataclass(frozen=True)
class Horizon:
    """gamma and lambda of a return."""

    discount: float
    gae_lambda: float

    @property
    def decay(self) -> float:
        """gamma lambda."""
        return self.discount * self.gae_lambda


@dataclass(frozen=True)
class Rollout:
    """Episodes with what is constant while they are learned from.

    Args:
        episodes: B whole episodes.
        extrinsic_advantages: A_ex, not normalised.
        extrinsic_targets: A_ex + V_ex, in units of reward.
        mixed_values: V(o_t) of the critic that predicts the return of r'.
        mixed_next_values: V(o_{t+1}) of the same.
        weights: see objectives.advantages.step_weights.
        fixed_advantages: A_t of r', not normalised; None while the credit is being learned.
        importance: how much each step counts, where not all do alike; None if they do.
    """

    episodes: EpisodeBatch
    extrinsic_advantages: Float[Tensor, "B T"]
    extrinsic_targets: Float[Tensor, "B T"]
    mixed_values: Float[Tensor, "B T"]
    mixed_next_values: Float[Tensor, "B T"]
    weights: Float[Tensor, "B T"]
    fixed_advantages: Float[Tensor, "B T"] | None = None
    importance: Float[Tensor, "B T"] | None = None

    def select(
        self,
        indices: Int[Tensor, "b"],
        num_steps: int | None = None,
        reduce_sum: ReduceSum = identity,
    ) -> Rollout:
        """The named episodes' part.

        Args:
            indices: which.
            num_steps: steps to keep; see EpisodeBatch.select.
            reduce_sum: sum over learners, whose parts weigh together.
        """
        episodes = self.episodes.select(indices, num_steps)
        steps = episodes.rewards.shape[1]
        own = ("episodes", "weights")
        parts = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in own}
        chosen: dict[str, Any] = {
            name: None if part is None else part.index_select(0, indices)[:, :steps]
            for name, part in parts.items()
        }
        dtype = episodes.rewards.dtype
        weights = step_weights(episodes.mask, reduce_sum, dtype, chosen["importance"])
        return Rollout(episodes, weights=weights, **chosen)

    def with_fixed_credit(self, advantages: Float[Tensor, "B T"]) -> Rollout:
        """The same rollout with the credit's advantages, for a method that does not learn."""
        return replace(self, fixed_advantages=advantages)

    def without_ground_truth(self) -> Rollout:
        """The same rollout less T^2 numbers per episode, for whatever does not read them."""
        return replace(self, episodes=replace(self.episodes, ground_truth=None))


@torch.no_grad()
def make_rollout(
    episodes: EpisodeBatch,
    extrinsic_critic: ValueHead,
    mixed_critic: ValueHead,
    horizon: Horizon,
    reduce_sum: ReduceSum = identity,
) -> Rollout:
    """Evaluates both critics on all observations and computes extrinsic advantages.

    Args:
        episodes: B whole episodes.
        extrinsic_critic: predicts the extrinsic return.
        mixed_critic: predicts the return of r'; the extrinsic critic itself where r' is extrinsic.
        horizon: gamma and lambda of the extrinsic return.
        reduce_sum: sum over learners.
    """
    values = extrinsic_critic(episodes.observations)
    current, following = values[:, :-1], episodes.next_values(values)
    errors = td_errors(episodes.rewards, current, following, episodes.mask, horizon.discount)
    advantages = gae(errors, horizon.discount, horizon.gae_lambda)
    mixed = values if mixed_critic is extrinsic_critic else mixed_critic(episodes.observations)
    return Rollout(
        episodes=episodes,
        extrinsic_advantages=advantages,
        extrinsic_targets=advantages + current,
        mixed_values=mixed[:, :-1],
        mixed_next_values=episodes.next_values(mixed),
        weights=step_weights(episodes.mask, reduce_sum, values.dtype),
    )


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
    reduce_sum: ReduceSum = identity,
) -> Float[Tensor, "B T"]:
    """w A_ex / std(A_ex) + (1-w) A_mix / std(A_mix), both less their means; A_mix itself if w = 0.

    Args:
        assigner: gives w, the extrinsic share.
        rollout: with A_ex.
        mixed: A_mix, the advantages of r'.
        reduce_sum: sum over learners.
    """
    share = assigner.extrinsic_share
    if share == 0.0:
        return mixed
    extrinsic = normalise(rollout.extrinsic_advantages, rollout.weights, reduce_sum)
    return share * extrinsic + (1 - share) * normalise(mixed, rollout.weights, reduce_sum)


@dataclass(frozen=True)
class PolicyLoss:
    """The PPO loss of a policy's outputs on given episodes and advantages.

    Args:
        actions: the policy's action distribution.
        clip: eps of the clipped surrogate.
        entropy_coefficient: weight of the entropy bonus, in units of normalised advantage.
        reduce_sum: differentiable sum over learners.
    """

    actions: ActionDistribution
    clip: float
    entropy_coefficient: float
    reduce_sum: ReduceSum

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
            advantages: A_t, not normalised.
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
            normalise(advantages, weights, self.reduce_sum),
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


def split_into_minibatches(
    rollout: Rollout,
    num_epochs: int,
    num_minibatches: int,
    generator: torch.Generator,
    reduce_sum: ReduceSum = identity,
) -> list[Rollout]:
    """Every epoch's episodes, shuffled and split by whole episodes; one part is the batch itself.

    Args:
        rollout: the batch.
        num_epochs: passes over it.
        num_minibatches: parts of each pass.
        generator: shuffles.
        reduce_sum: sum over learners.
    """
    if num_minibatches == 1:
        return [rollout] * num_epochs
    # Sizes are looked up here once, not on the device between two steps.
    lengths, device = rollout.episodes.lengths.cpu(), rollout.episodes.rewards.device
    parts = [
        part
        for _ in range(num_epochs)
        for part in torch.randperm(len(lengths), generator=generator).tensor_split(num_minibatches)
    ]
    return [rollout.select(part.to(device), int(lengths[part].max()), reduce_sum) for part in parts]
