"""The outer update: moves a learned reward along the meta-gradient, before the policy moves.

The method chooses the episodes of the outer loss. `same`: the inner ones. `held_out`: each
minibatch is halved, one half inner, one outer. `next`: the last k inner steps of an iteration are
kept, and imagined again when the next episodes, which the policy they led to has collected, are
there.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from torch import Tensor

from metairn.credit_assignment.meta_learned_reward import MetaLearnedReward
from metairn.intrinsic_attention_ppo.rllib_workarounds import reduce_sum
from metairn.intrinsic_attention_ppo.update import Rollout, mixed_advantages
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
        state: the policy optimiser's memory.
        learning_rate: the policy's, as scheduled then.
        entropy_coefficient: as scheduled then.
        rollouts: one per inner step.
    """

    params: Params
    state: UpdateState
    learning_rate: float
    entropy_coefficient: float
    rollouts: list[Rollout]


class CreditUpdate:
    """Takes the meta-gradient steps of one learner; idle for methods that learn otherwise.

    Args:
        learner: owner of the networks and of their optimizers.
    """

    def __init__(self, learner: IntrinsicAttentionLearner) -> None:
        self.learner = learner
        self.pending: InnerStart | None = None
        self.steps: list[dict[str, Tensor]] = []

    @property
    def assigner(self) -> MetaLearnedReward | None:
        """The method, if the meta-gradient is what it learns by."""
        assigner = self.learner.networks.credit_assigner
        return assigner if isinstance(assigner, MetaLearnedReward) else None

    def begin(self, rollout: Rollout) -> None:
        """At an iteration's start: with `next`, these are the episodes that were waited for."""
        self.steps = []
        if self.assigner is not None and self.pending is not None:
            self._step(self.pending, rollout)
            self.pending = None

    def before_step(self, minibatches: list[Rollout], position: int) -> None:
        """Before the policy learns from minibatches[position]: every k-th time, an outer update."""
        if self.assigner is None:
            return
        settings = self.assigner.meta_learning
        if settings.outer_data == "next":
            if position == max(len(minibatches) - settings.inner_steps, 0):
                self.pending = self._start(minibatches[position:])
        elif position % settings.inner_steps == 0:
            inner = minibatches[position : position + settings.inner_steps]
            if settings.outer_data == "same":
                self._step(self._start(inner), inner[-1])
            else:
                halves = [self._halves(rollout) for rollout in inner]
                self._step(self._start([half[0] for half in halves]), halves[-1][1])

    def metrics(self) -> dict[str, float]:
        """Means over this iteration's outer updates; empty if there were none."""
        if not self.steps:
            return {}
        return {k: float(torch.stack([s[k] for s in self.steps]).mean()) for k in self.steps[0]}

    def _halves(self, rollout: Rollout) -> tuple[Rollout, Rollout]:
        count = rollout.episodes.num_episodes
        if count < 2:
            raise ValueError(
                "outer_data=held_out needs at least two episodes in each minibatch: raise "
                "train_batch_env_steps or lower minibatches."
            )
        order = torch.randperm(count, generator=self.learner._generator)
        inner, outer = order.to(rollout.episodes.rewards.device).tensor_split(2)
        return rollout.select(inner), rollout.select(outer)

    def _start(self, rollouts: list[Rollout]) -> InnerStart:
        actor = self.learner.networks.actor
        params = {name: p.detach().clone() for name, p in actor.named_parameters()}
        optimizer = self.learner.get_optimizer(DEFAULT_MODULE_ID, "actor")
        how = (float(optimizer.param_groups[0]["lr"]), self.learner.entropy_coefficient, rollouts)
        memory = optimizer.state
        if not memory:
            return InnerStart(params, UpdateState.empty(params), *how)
        of = {name: memory[p] for name, p in actor.named_parameters()}
        state = UpdateState(
            {name: m["exp_avg"].clone() for name, m in of.items()},
            {name: m["exp_avg_sq"].clone() for name, m in of.items()},
            int(next(iter(of.values()))["step"]),
        )
        return InnerStart(params, state, *how)

    def _step(self, start: InnerStart, outer: Rollout) -> None:
        learner, assigner = self.learner, self.assigner
        assert assigner is not None
        settings = assigner.meta_learning
        inner_loop = InnerLoop(
            INNER_UPDATES[settings.inner_update],
            settings.inner_learning_rate or start.learning_rate,
            learner.config.grad_clip,
            reduce_sum,
        )
        inner_loss = learner.policy_loss(start.entropy_coefficient)
        # The outer objective is the extrinsic return alone: no entropy bonus.
        outer_loss = learner.policy_loss(0.0)

        def inner(rollout: Rollout) -> Loss:
            def loss(params: Params) -> Tensor:
                advantages, _ = mixed_advantages(assigner, rollout, learner.mixed_horizon)
                return inner_loss(params, rollout.episodes, advantages)

            return loss

        gradient, value = meta_gradient(
            lambda params: outer_loss(params, outer.episodes, outer.extrinsic_advantages),
            [inner(rollout) for rollout in start.rollouts],
            inner_loop,
            start.params,
            list(assigner.parameters()),
            start.state,
        )
        norms = learner.step_optimizers(["credit_assigner"], list(gradient))
        self.steps.append(
            {"meta_gradient_norm": norms["credit_assigner"], "outer_loss": reduce_sum(value)}
        )

    def get_state(self) -> bytes:
        """The inner steps that wait for fresh episodes."""
        buffer = io.BytesIO()
        torch.save(self.pending, buffer)
        return buffer.getvalue()

    def set_state(self, state: bytes) -> None:
        """Restores what `get_state` gave, on this learner's device."""
        device = next(self.learner.networks.parameters()).device
        # The file is the run's own checkpoint, which RLlib unpickles anyway.
        self.pending = torch.load(io.BytesIO(state), map_location=device, weights_only=False)
