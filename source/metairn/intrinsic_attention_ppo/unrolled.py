"""The unrolled meta-gradient: policy updates imagined one by one, and differentiated through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call

from metairn.credit_assignment.meta_learned_reward import MetaLearnedReward
from metairn.intrinsic_attention_ppo.losses import mixed_advantages
from metairn.intrinsic_attention_ppo.rllib_workarounds import reduce_sum
from metairn.intrinsic_attention_ppo.rollout import Rollout
from metairn.objectives.meta_gradient import (
    INNER_UPDATES,
    InnerLoop,
    Loss,
    Params,
    UpdateState,
    meta_gradient,
)

if TYPE_CHECKING:
    from metairn.intrinsic_attention_ppo.learner import IntrinsicAttentionLearner


@dataclass(frozen=True)
class InnerStart:
    """Where a sequence of inner steps began, and what and how it learned.

    Args:
        params: theta_0.
        state: the policy optimiser's memory; None before its first step, and for inner updates that
            remember nothing.
        learning_rate: the policy's, as scheduled then.
        entropy_coefficient: as scheduled then.
        rollouts: one per inner step.
    """

    params: Params
    state: UpdateState | None
    learning_rate: float
    entropy_coefficient: float
    rollouts: list[Rollout]


def inner_start(
    learner: IntrinsicAttentionLearner, assigner: MetaLearnedReward, rollouts: list[Rollout]
) -> InnerStart:
    """Where the policy stands now; its parameters are not copied.

    Args:
        learner: has the networks.
        assigner: has the settings.
        rollouts: one per inner step.
    """
    parts = learner.parts
    params: Params = dict(learner.networks.actor.named_parameters())
    memory = parts.optimizer.state.get(parts.vectors["actor"])
    state = None
    # The step count may be on a GPU, and reading it would be to wait.
    if memory and assigner.meta_learning.inner_update == "adam":
        moments = (memory["exp_avg"].clone(), memory["exp_avg_sq"].clone())
        state = UpdateState(*moments, int(memory["step"]))
    rate = parts.learning_rates["actor"]
    return InnerStart(params, state, rate, learner.entropy_coefficient, rollouts)


def unrolled_gradient(
    learner: IntrinsicAttentionLearner,
    assigner: MetaLearnedReward,
    start: InnerStart,
    outer: Rollout,
    first_gradient: Sequence[Tensor] | None,
) -> tuple[list[Tensor], Float[Tensor, ""]]:
    """The meta-gradient and the outer loss.

    Args:
        learner: has the networks.
        assigner: the method, and its settings.
        start: of the imagined updates.
        outer: episodes of the outer loss.
        first_gradient: see InnerLoop.unroll.
    """
    settings = assigner.meta_learning
    inner_loop = InnerLoop(
        INNER_UPDATES[settings.inner_update],
        settings.inner_learning_rate or start.learning_rate,
        # A step of fixed length is the same with clipping and without.
        None if settings.inner_update == "normalised" else learner.config.grad_clip,
        reduce_sum,
    )
    inner_loss = learner.policy_loss(start.entropy_coefficient)
    # The outer objective is the extrinsic return alone: no entropy bonus.
    outer_loss = learner.policy_loss(0.0)

    def outputs(params: Params, rollout: Rollout) -> Tensor:
        actor = learner.networks.actor
        return functional_call(actor, params, (rollout.episodes.acted_on,), tie_weights=False)

    def inner(rollout: Rollout) -> Loss:
        def loss(params: Params) -> Tensor:
            advantages = mixed_advantages(assigner, rollout, learner.mixed_horizon)
            return inner_loss(outputs(params, rollout), rollout, advantages)

        return loss

    return meta_gradient(
        lambda params: outer_loss(outputs(params, outer), outer, outer.extrinsic_advantages),
        [inner(rollout) for rollout in start.rollouts],
        inner_loop,
        start.params,
        learner.parts.parameters["credit_assigner"],
        start.state,
        first_gradient,
    )


def halves(rollout: Rollout, generator: torch.Generator) -> tuple[Rollout, Rollout]:
    """A minibatch's episodes for the imagined update, and the others for the outer loss.

    Args:
        rollout: the minibatch.
        generator: shuffles.

    Raises:
        ValueError: if there is one episode only.
    """
    count = rollout.episodes.num_episodes
    if count < 2:
        raise ValueError(
            "outer_data=held_out needs at least two episodes in each minibatch: raise "
            "train_batch_env_steps or lower minibatches."
        )
    order = torch.randperm(count, generator=generator)
    inner, outer = order.to(rollout.episodes.rewards.device).tensor_split(2)
    steps = rollout.episodes.mask.shape[1]
    return rollout.select(inner, steps, reduce_sum), rollout.select(outer, steps, reduce_sum)
