"""PPO's part of an iteration: scales, credit and the steps that policy and value heads take."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from metairn.intrinsic_attention_ppo.credit_update import CreditUpdate
from metairn.intrinsic_attention_ppo.losses import (
    mixed_advantages,
    policy_advantages,
    value_head_loss,
)
from metairn.intrinsic_attention_ppo.rllib_workarounds import reduce_sum
from metairn.intrinsic_attention_ppo.rollout import Rollout
from metairn.objectives.advantages import standard_deviation

if TYPE_CHECKING:
    from metairn.intrinsic_attention_ppo.learner import IntrinsicAttentionLearner

# What the loss of each part is called in metrics.
LOSS_NAMES = {
    "actor": "policy_loss",
    "extrinsic_value": "value_loss_extrinsic",
    "mixed_value": "value_loss_mixed",
    "credit_assigner": "credit_loss",
}


class PolicyUpdate:
    """Takes the minibatch steps of one learner.

    Args:
        learner: owner of the networks and of their optimizers.
        credit_update: gives the credit's gradient where it is learned beside the policy.
    """

    def __init__(self, learner: IntrinsicAttentionLearner, credit_update: CreditUpdate) -> None:
        self.learner = learner
        self.credit_update = credit_update
        self.largest_advantage: Tensor | None = None

    @torch.no_grad()
    def update_scales(self, rollout: Rollout) -> None:
        """Moves the running scales of rewards and returns; the rollout's values stay as they are.

        After `CreditUpdate.begin`: an inner step that waited is imagined with the scale that it
        was taken with.

        Args:
            rollout: of this iteration.
        """
        networks, episodes = self.learner.networks, rollout.episodes
        assigner = networks.credit_assigner
        assigner.update_scale(episodes, reduce_sum)
        networks.extrinsic_value.update_scale(rollout.extrinsic_targets, episodes.mask, reduce_sum)
        if assigner.needs_mixed_critic:
            advantages = mixed_advantages(assigner, rollout, self.learner.mixed_horizon)
            targets = advantages + rollout.mixed_values
            networks.mixed_value.update_scale(targets, episodes.mask, reduce_sum)

    @torch.no_grad()
    def prepared(self, rollout: Rollout) -> Rollout:
        """The rollout with its credit, unless that is learned while the policy is.

        Args:
            rollout: of this iteration.
        """
        assigner = self.learner.networks.credit_assigner
        if self.credit_update.fixes_credit:
            advantages = mixed_advantages(assigner, rollout, self.learner.mixed_horizon)
            return rollout.with_fixed_credit(advantages).without_ground_truth()
        return rollout if assigner.needs_ground_truth else rollout.without_ground_truth()

    def step(self, minibatches: list[Rollout], position: int) -> dict[str, Tensor]:
        """Learns from one minibatch: the policy, the value heads and the credit itself.

        All move at once: every gradient, the meta-gradient too, is of the networks as they stand
        (as in LIRPG, algorithm 1), so that the policy's can serve the meta-gradient.

        Args:
            minibatches: all of the iteration.
            position: of this one.
        """
        learner, networks, rollout = self.learner, self.learner.networks, minibatches[position]
        assigner, observations = networks.credit_assigner, rollout.episodes.acted_on
        share = self.credit_update.reads_policy_gradient(position)
        with torch.set_grad_enabled(share):
            advantages = mixed_advantages(assigner, rollout, learner.mixed_horizon)
            largest = self._largest(rollout, advantages.detach())
            wanted = policy_advantages(assigner, rollout, advantages, largest, reduce_sum)
        policy_loss = learner.policy_loss(learner.entropy_coefficient, largest is None)
        losses = {"actor": policy_loss(networks.actor(observations), rollout, wanted)}
        gradients = learner.parts.gradients(losses, create_graph=True) if share else {}
        gradients |= self.credit_update.gradient(minibatches, position, gradients.get("actor"))
        rest = {} if share else dict(losses)
        rest["extrinsic_value"] = value_head_loss(
            networks.extrinsic_value, rollout, rollout.extrinsic_targets
        )
        if assigner.needs_mixed_critic:
            targets = advantages.detach() + rollout.mixed_values
            rest["mixed_value"] = value_head_loss(networks.mixed_value, rollout, targets)
        if assigner.learns_by == "own_loss":
            rest["credit_assigner"] = assigner.own_loss(rollout.episodes)
        gradients |= learner.parts.gradients(rest)
        self.credit_update.note(learner.parts.step(gradients, learner.config.grad_clip))
        return {LOSS_NAMES[part]: loss.detach() for part, loss in (losses | rest).items()}

    def _largest(self, rollout: Rollout, mixed: Tensor) -> Tensor | None:
        """The largest standard deviation of A_mix so far; None for methods without a floor."""
        if not self.learner.networks.credit_assigner.advantage_floor:
            return None
        now = standard_deviation(mixed, rollout.weights, reduce_sum)
        before = self.largest_advantage
        self.largest_advantage = now if before is None else torch.maximum(before.to(now), now)
        return self.largest_advantage
