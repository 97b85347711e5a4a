"""The outer update: moves a learned reward along the meta-gradient, at the policy's side.

The method chooses the episodes of the outer loss. `same`: the inner ones. `held_out`: each
minibatch is halved, one half inner, one outer. `next`: the last k inner steps of an iteration are
kept, and imagined again when the next episodes, which the policy they led to has collected, are
there. With meta_steps, the outer updates come before the policy moves, on this iteration's episodes
and some earlier ones, and the policy then learns from credit that stays as it is. A natural inner
update is not unrolled: what it would do to the rewards is gathered once, as evidence for all of the
meta_steps.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from metairn.credit_assignment.meta_learned_reward import MetaLearnedReward
from metairn.intrinsic_attention_ppo.evidence import gather_evidence
from metairn.intrinsic_attention_ppo.replay import Replay, split_for_meta_step
from metairn.intrinsic_attention_ppo.rllib_workarounds import reduce_sum
from metairn.intrinsic_attention_ppo.rollout import Rollout
from metairn.intrinsic_attention_ppo.unrolled import (
    InnerStart,
    halves,
    inner_start,
    unrolled_gradient,
)
from metairn.objectives.meta_gradient import credit_gradient

if TYPE_CHECKING:
    from metairn.intrinsic_attention_ppo.learner import IntrinsicAttentionLearner


class CreditUpdate:
    """Takes the meta-gradient steps of one learner; idle for methods that learn otherwise.

    Args:
        learner: owner of the networks and of their optimizers.
    """

    def __init__(self, learner: IntrinsicAttentionLearner) -> None:
        self.learner = learner
        self.pending: InnerStart | None = None
        self.replay = Replay()
        self.newest: Tensor | None = None
        self.first: Tensor | None = None
        self.score_size: Tensor | None = None
        self.losses: list[Tensor] = []
        self.norms: list[Tensor] = []

    @property
    def fixes_credit(self) -> bool:
        """Whether the credit stays as it is while the policy learns from it."""
        learns_by = self.learner.networks.credit_assigner.learns_by
        early = self.assigner is not None and self.assigner.meta_learning.meta_steps > 0
        return early or learns_by == "nothing"

    @property
    def assigner(self) -> MetaLearnedReward | None:
        """The method, if the meta-gradient is what it learns by."""
        assigner = self.learner.networks.credit_assigner
        learns = assigner.learns_by == "meta_gradient"
        return assigner if learns and isinstance(assigner, MetaLearnedReward) else None

    def begin_lifetime(self) -> None:
        """Forgets what earlier policies did."""
        self.pending = self.first = self.score_size = None
        self.replay = Replay()

    def begin(self, rollout: Rollout) -> None:
        """At an iteration's start: with `next`, these are the episodes that were waited for."""
        self.losses, self.norms = [], []
        if self.assigner is not None and self.pending is not None:
            self._move(self._gradient(self.pending, rollout))
            self.pending = None

    def before_policy(self, rollout: Rollout) -> None:
        """The meta_steps, on the rollout and those of earlier iterations, if the method has any.

        The module's weights are the running mean; the newest, which the steps move, are kept here.
        """
        if self.assigner is None or not self.fixes_credit:
            return
        settings, parts = self.assigner.meta_learning, self.learner.parts
        weights = parts.vectors["credit_assigner"].data
        before = weights.clone()
        if settings.restart:
            self.first = before if self.first is None else self.first
            weights.copy_(self.first)
            parts.forget({"credit_assigner"})
        elif self.newest is not None:
            weights.copy_(self.newest)
        natural = settings.inner_update == "natural"
        found = self._natural_gradients(rollout) if natural else self._unrolled_gradients(rollout)
        for gradient in found:
            self._move({"credit_assigner": gradient})
        if settings.credit_average:
            self.newest = weights.clone()
            weights.lerp_(before, settings.credit_average)

    def _unrolled_gradients(self, rollout: Rollout) -> Iterator[list[Tensor]]:
        assert self.assigner is not None
        settings = self.assigner.meta_learning
        pool = self.replay.extended(rollout, settings, self.learner)
        for _ in range(settings.meta_steps):
            starts, outer = split_for_meta_step(pool, settings, self.learner._generator)
            found = [self._gradient(self._start(start), outer or start[-1]) for start in starts]
            sums = zip(*(each["credit_assigner"] for each in found), strict=True)
            yield [torch.stack(parts).mean(0) for parts in sums]

    def _natural_gradients(self, rollout: Rollout) -> Iterator[list[Tensor]]:
        learner, assigner = self.learner, self.assigner
        assert assigner is not None
        settings = assigner.meta_learning
        episodes = self.replay.remember(rollout.episodes, settings.replay_iterations)
        discount, policy = learner.extrinsic_horizon.discount, learner.networks.actor
        evidence = gather_evidence(episodes, policy, assigner, discount, self.score_size)
        self.score_size = evidence.size
        credit_params = learner.parts.parameters["credit_assigner"]
        for _ in range(settings.meta_steps):
            loss = evidence.drawn(settings.inner_episodes, learner._generator).outer_loss(
                assigner, learner.mixed_horizon
            )
            self.losses.append(loss.detach())
            yield credit_gradient(loss, credit_params)

    def _move(self, gradient: Mapping[str, Sequence[Tensor]]) -> None:
        self.note(self.learner.parts.step(gradient, self.learner.config.grad_clip))

    def reads_policy_gradient(self, position: int) -> bool:
        """Whether the policy's gradient on this minibatch is the first inner gradient too."""
        if self.assigner is None or self.fixes_credit:
            return False
        settings = self.assigner.meta_learning
        imagined = settings.outer_data == "same" and position % settings.inner_steps == 0
        # What is imagined is learning from r' alone.
        return imagined and self.assigner.extrinsic_share == self.assigner.advantage_floor == 0

    def gradient(
        self, minibatches: list[Rollout], position: int, policy_gradient: Sequence[Tensor] | None
    ) -> dict[str, list[Tensor]]:
        """The meta-gradient that is due at minibatches[position]: every k-th time there is one.

        Args:
            minibatches: of this iteration.
            position: which of them the policy learns from now.
            policy_gradient: of the policy's loss on it, with its graph, if `reads_policy_gradient`.
        """
        if self.assigner is None or self.fixes_credit:
            return {}
        settings = self.assigner.meta_learning
        inner = minibatches[position : position + settings.inner_steps]
        if settings.outer_data == "next":
            if position == max(len(minibatches) - settings.inner_steps, 0):
                start = self._start(minibatches[position:])
                params = {name: p.detach().clone() for name, p in start.params.items()}
                self.pending = replace(start, params=params)
            return {}
        if position % settings.inner_steps:
            return {}
        if settings.outer_data == "same":
            return self._gradient(self._start(inner), inner[-1], policy_gradient)
        pairs = [halves(rollout, self.learner._generator) for rollout in inner]
        return self._gradient(self._start([pair[0] for pair in pairs]), pairs[-1][1])

    def note(self, norms: Mapping[str, Tensor]) -> None:
        """Remembers the gradient norm of an outer update, if one was taken."""
        if self.assigner is not None and "credit_assigner" in norms:
            self.norms.append(norms["credit_assigner"])

    def metrics(self) -> dict[str, float]:
        """Means over this iteration's outer updates; empty if there were none."""
        if not self.losses:
            return {}
        means = {"meta_gradient_norm": self.norms, "outer_loss": self.losses}
        return {name: float(torch.stack(values).mean()) for name, values in means.items()}

    def _start(self, rollouts: list[Rollout]) -> InnerStart:
        """Where the policy stands now; its parameters are not copied."""
        assert self.assigner is not None
        return inner_start(self.learner, self.assigner, rollouts)

    def _gradient(
        self, start: InnerStart, outer: Rollout, first_gradient: Sequence[Tensor] | None = None
    ) -> dict[str, list[Tensor]]:
        assert self.assigner is not None
        gradient, value = unrolled_gradient(
            self.learner, self.assigner, start, outer, first_gradient
        )
        self.losses.append(reduce_sum(value))
        return {"credit_assigner": gradient}

    def get_state(self) -> bytes:
        """Inner steps that wait for fresh episodes, earlier episodes, and weights to go on from."""
        buffer = io.BytesIO()
        held = (self.pending, self.replay.batches, self.newest, self.first, self.score_size)
        torch.save(held, buffer)
        return buffer.getvalue()

    def set_state(self, state: bytes) -> None:
        """Restores what `get_state` gave, on this learner's device."""
        device = next(self.learner.networks.parameters()).device
        # The file is the run's own checkpoint, which RLlib unpickles anyway.
        held = torch.load(io.BytesIO(state), map_location=device, weights_only=False)
        self.pending, self.replay.batches, self.newest, self.first, self.score_size = held
