"""Episodes of earlier iterations, for meta-gradient steps taken before the policy moves."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from metairn.credit_assignment.meta_learned_reward import MetaLearning
from metairn.episodes import EpisodeBatch
from metairn.intrinsic_attention_ppo.rllib_workarounds import reduce_sum
from metairn.intrinsic_attention_ppo.rollout import Rollout, make_rollout
from metairn.objectives.advantages import step_weights

if TYPE_CHECKING:
    from metairn.intrinsic_attention_ppo.learner import IntrinsicAttentionLearner


class Replay:
    """The episodes of the last K iterations.

    Attributes:
        batches: one per iteration, the newest last.
    """

    def __init__(self) -> None:
        self.batches: list[EpisodeBatch] = []

    def remember(self, episodes: EpisodeBatch, iterations: int) -> EpisodeBatch:
        """Adds an iteration's episodes and returns all that are kept.

        Args:
            episodes: of this iteration.
            iterations: K; at 1, nothing is kept for the next.
        """
        episodes = replace(episodes, ground_truth=None)
        if iterations == 1:
            return episodes
        self.batches = [*self.batches, episodes][-iterations:]
        return EpisodeBatch.concatenate(self.batches)

    @torch.no_grad()
    def extended(
        self, rollout: Rollout, settings: MetaLearning, learner: IntrinsicAttentionLearner
    ) -> Rollout:
        """Adds a rollout's episodes and returns all that are kept, as the present policy's.

        What an earlier policy did counts min(pi / pi_behaviour, max_importance_ratio) times, and
        its advantages are of the critics as they are now.

        Args:
            rollout: of this iteration.
            settings: how many iterations are kept, and the bound.
            learner: has the networks.
        """
        episodes = self.remember(rollout.episodes, settings.replay_iterations)
        if len(self.batches) < 2:
            return rollout
        networks, actor = learner.networks, learner.networks.actor
        log_probs = actor.actions.log_prob(actor(episodes.acted_on), episodes.actions)
        log_probs = torch.where(episodes.mask, log_probs, 0.0)
        ratio = (log_probs - episodes.behaviour_log_probs).exp()
        importance = ratio.clamp(max=settings.max_importance_ratio)
        present = make_rollout(
            replace(episodes, behaviour_log_probs=log_probs),
            networks.extrinsic_value,
            learner.mixed_critic,
            learner.extrinsic_horizon,
            reduce_sum,
        )
        weights = step_weights(episodes.mask, reduce_sum, importance.dtype, importance)
        return replace(present, importance=importance, weights=weights)


def split_for_meta_step(
    pool: Rollout, settings: MetaLearning, generator: torch.Generator
) -> tuple[list[list[Rollout]], Rollout | None]:
    """Disjoint episodes for each imagined policy update, and others for the outer loss.

    Args:
        pool: all episodes.
        settings: how many updates, and episodes for each.
        generator: shuffles.

    Returns:
        At most M sequences of k rollouts, and the outer one; None if the outer loss takes the
        inner ones.

    Raises:
        ValueError: if there are too few episodes.
    """
    count, k = pool.episodes.num_episodes, settings.inner_steps
    if count <= k:
        raise ValueError(
            f"{count} episodes are too few for inner_steps={k} updates of one each, and another "
            "for the outer loss: raise train_batch_env_steps or lower inner_steps."
        )
    updates = min(settings.inner_starts, (count - 1) // k) * k
    share = max(1, count // (2 * updates))
    if settings.inner_episodes is not None:
        share = min(share, settings.inner_episodes)
    order = torch.randperm(count, generator=generator).to(pool.weights.device)
    inner, outer = order[: share * updates].split(share), order[share * updates :]
    outer = outer[: settings.outer_episodes]
    steps = pool.episodes.mask.shape[1]
    parts = [pool.select(part, steps, reduce_sum) for part in inner]
    starts = [parts[i : i + k] for i in range(0, len(parts), k)]
    if settings.outer_data == "same":
        return starts, None
    return starts, pool.select(outer, steps, reduce_sum)
