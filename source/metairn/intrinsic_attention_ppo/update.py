"""One iteration's data and losses: torch, and nothing of RLlib.

What is constant during an iteration (extrinsic advantages, value targets, values) is computed once,
from the networks as they were when the episodes were collected; the credit is not, since it is
learned in between.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import functional_call

from metairn.credit_assignment.assigner import Credit, CreditAssigner
from metairn.episodes import EpisodeBatch
from metairn.networks.policy import Policy
from metairn.networks.value import ValueHead
from metairn.objectives.advantages import (
    ReduceSum,
    gae,
    masked_mean,
    normalise,
    td_errors,
    weighted_advantages,
)
from metairn.objectives.meta_gradient import Params
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
    """

    episodes: EpisodeBatch
    extrinsic_advantages: Float[Tensor, "B T"]
    extrinsic_targets: Float[Tensor, "B T"]
    mixed_values: Float[Tensor, "B T"]
    mixed_next_values: Float[Tensor, "B T"]

    def select(self, indices: Int[Tensor, "b"]) -> Rollout:
        """The named episodes' part."""
        episodes = self.episodes.select(indices)
        steps = episodes.rewards.shape[1]
        return Rollout(
            episodes,
            self.extrinsic_advantages[indices, :steps],
            self.extrinsic_targets[indices, :steps],
            self.mixed_values[indices, :steps],
            self.mixed_next_values[indices, :steps],
        )


@torch.no_grad()
def make_rollout(
    episodes: EpisodeBatch,
    extrinsic_critic: ValueHead,
    mixed_critic: ValueHead,
    horizon: Horizon,
) -> Rollout:
    """Evaluates both critics on all observations and computes extrinsic advantages.

    Args:
        episodes: B whole episodes.
        extrinsic_critic: predicts the extrinsic return.
        mixed_critic: predicts the return of r'; the extrinsic critic itself where r' is extrinsic.
        horizon: gamma and lambda of the extrinsic return.
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
    )


def mixed_advantages(
    assigner: CreditAssigner, rollout: Rollout, horizon: Horizon
) -> tuple[Float[Tensor, "B T"], Credit]:
    """A_t = sum_{j>=t} W[t,j] delta_j(r'), differentiable in the credit, and the credit itself.

    Args:
        assigner: gives r' and W.
        rollout: episodes and the values of the mixed critic, which are constants.
        horizon: gamma and lambda of the return of r'.
    """
    credit = assigner(rollout.episodes)
    errors = td_errors(
        credit.rewards,
        rollout.mixed_values,
        rollout.mixed_next_values,
        rollout.episodes.mask,
        horizon.discount,
    )
    if credit.weights is None:
        return gae(errors, horizon.discount, horizon.gae_lambda), credit
    return weighted_advantages(errors, credit.weights), credit


@dataclass(frozen=True)
class PolicyLoss:
    """The PPO loss of a policy's parameters on given episodes and advantages.

    Args:
        policy: the module whose parameters are replaced.
        clip: eps of the clipped surrogate.
        entropy_coefficient: weight of the entropy bonus, in units of normalised advantage.
        reduce_sum: differentiable sum over learners.
    """

    policy: Policy
    clip: float
    entropy_coefficient: float
    reduce_sum: ReduceSum

    def __call__(
        self, params: Params, episodes: EpisodeBatch, advantages: Float[Tensor, "B T"]
    ) -> Float[Tensor, ""]:
        """mean(clipped surrogate of normalised advantages) - coefficient x mean(entropy).

        This learner's share of it: the sum over learners is the loss.
        """
        inputs = functional_call(self.policy, params, (episodes.acted_on,))
        log_probs = self.policy.actions.log_prob(inputs, episodes.actions)
        losses = clipped_surrogate(
            # The density at a padded step may be infinite, and 0 x infinity is no gradient.
            torch.where(episodes.mask, log_probs, 0.0),
            episodes.behaviour_log_probs,
            normalise(advantages, episodes.mask, self.reduce_sum),
            self.clip,
        )
        if self.entropy_coefficient:
            losses = losses - self.entropy_coefficient * self.policy.actions.entropy(inputs)
        return masked_mean(losses, episodes.mask, self.reduce_sum)


def value_head_loss(
    head: ValueHead,
    episodes: EpisodeBatch,
    targets: Float[Tensor, "B T"],
    reduce_sum: ReduceSum,
) -> Float[Tensor, ""]:
    """mean 1/2 (f(o) - normalised target)^2; this learner's share of it.

    Args:
        head: predicts the return.
        episodes: whose observations it sees.
        targets: in units of reward.
        reduce_sum: sum over learners.
    """
    losses = value_loss(head.normalised(episodes.acted_on), (targets - head.mean) / head.std)
    return masked_mean(losses, episodes.mask, reduce_sum)


def split_into_minibatches(
    rollout: Rollout, num_epochs: int, num_minibatches: int, generator: torch.Generator
) -> list[Rollout]:
    """Every epoch's episodes, shuffled and split by whole episodes; one part is the batch itself.

    Args:
        rollout: the batch.
        num_epochs: passes over it.
        num_minibatches: parts of each pass.
        generator: shuffles.
    """
    if num_minibatches == 1:
        return [rollout] * num_epochs
    count, device = rollout.episodes.num_episodes, rollout.episodes.rewards.device
    orders = [torch.randperm(count, generator=generator).to(device) for _ in range(num_epochs)]
    return [
        rollout.select(part) for order in orders for part in order.tensor_split(num_minibatches)
    ]
