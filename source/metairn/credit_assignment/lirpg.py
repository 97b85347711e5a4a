"""LIRPG: an intrinsic reward for each step from its observation and action alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from metairn.credit_assignment.meta_learned_reward import MetaLearnedReward
from metairn.episodes import EpisodeBatch, EpisodeSpec
from metairn.networks.mlp import MLP
from metairn.networks.tanh import tanh


class LIRPG(MetaLearnedReward):
    """r_in,t = s tanh(MLP(o_t, a_t)), s the size of the extrinsic rewards.

    It cannot see what came of an action, so it can only learn which actions are good, not which
    reward belongs to them: the baseline that attention is measured against.

    Args:
        spec: sizes of observations and actions.
        reward_hidden_sizes: width of each hidden layer of the reward network.
        learning: see MetaLearnedReward.

    Source: Zheng et al. 2018, section 4 and the network of its delayed MuJoCo experiments.
    """

    def __init__(
        self, spec: EpisodeSpec, reward_hidden_sizes: Sequence[int] = (64, 64), **learning: Any
    ) -> None:
        super().__init__(spec, **learning)
        if min(reward_hidden_sizes, default=1) < 1:
            raise ValueError(
                f"reward_hidden_sizes={reward_hidden_sizes} is not allowed: it must list widths of "
                "at least 1."
            )
        inputs = spec.observation_size + spec.action_size
        # Small, not zero: a zero layer would pass no gradient to those below it.
        self.network = MLP(inputs, reward_hidden_sizes, 1, last_gain=0.1)
        self.finish()

    def intrinsic_rewards(self, episodes: EpisodeBatch) -> Float[Tensor, "B T"]:
        """s tanh(MLP(o_t, a_t))."""
        actions = episodes.encoded_actions(self.spec)
        inputs = torch.cat([episodes.acted_on, actions], dim=-1)
        return self.reward_scale * tanh(self.network(inputs).squeeze(-1))
