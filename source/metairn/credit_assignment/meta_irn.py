"""MetaIRN and SAIR: an intrinsic reward for each step from the whole episode, by self-attention."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from metairn.credit_assignment.meta_learned_reward import MetaLearnedReward
from metairn.episodes import EpisodeBatch, EpisodeSpec
from metairn.networks.attention import SelfAttention, sinusoidal_positions
from metairn.networks.mlp import linear
from metairn.networks.tanh import tanh


class MetaIRN(MetaLearnedReward):
    """r_in = tanh(head(LayerNorm(h + Attention(h)))), h_t = tanh(encode(step t)) + position t.

    A step is its observation, action, extrinsic reward, relative time and first/last flags. The
    attention looks both ways: what an action is worth shows in the rewards behind it.

    Args:
        spec: sizes of observations and actions.
        encoder_width: d, even and at least 2. At 1 the layer norm returns its bias whatever comes
            in: the published network's reward was one constant.
        learning: see MetaLearnedReward.

    Raises:
        ValueError: if `encoder_width` is odd or below 2.

    Source: Jiang et al. 2021 (SAIR), algorithm 1, and the MetaIRN report, section 3; encoder,
    positions and flags are ours.
    """

    def __init__(self, spec: EpisodeSpec, encoder_width: int = 32, **learning: Any) -> None:
        super().__init__(spec, **learning)
        if encoder_width < 2 or encoder_width % 2:
            raise ValueError(
                f"encoder_width={encoder_width} is not allowed: it must be even and at least 2 "
                "(layer normalisation over one number is a constant)."
            )
        self.encoder_width = encoder_width
        # Reward, time from the start, time to the end, first flag, last flag.
        features = spec.observation_size + spec.action_size + 5
        self.encoder = linear(features, encoder_width, gain=math.sqrt(2))
        self.attend = SelfAttention(encoder_width)
        self.norm = nn.LayerNorm(encoder_width)
        # Small, not zero: a zero head would pass no gradient to the attention.
        self.head = linear(encoder_width, 1, gain=0.1)

    def features(self, episodes: EpisodeBatch) -> Float[Tensor, "B T F"]:
        """What the network reads of each step."""
        rewards, lengths = episodes.rewards, episodes.lengths[:, None]
        steps = torch.arange(rewards.shape[1], device=rewards.device)
        since_start = (steps / lengths).to(rewards.dtype)
        extra = [
            rewards / self.reward_scale,
            since_start,
            1.0 - since_start,
            (steps == 0).to(rewards.dtype).expand_as(rewards),
            (steps == lengths - 1).to(rewards.dtype),
        ]
        actions = episodes.encoded_actions(self.spec)
        return torch.cat([episodes.acted_on, actions, torch.stack(extra, dim=-1)], dim=-1)

    def encoded(self, episodes: EpisodeBatch) -> Float[Tensor, "B T d"]:
        """h."""
        rewards = episodes.rewards
        positions = sinusoidal_positions(
            rewards.shape[1], self.encoder_width, rewards.dtype, rewards.device
        )
        return tanh(self.encoder(self.features(episodes))) + positions

    def attention(self, episodes: EpisodeBatch) -> Float[Tensor, "B T T"]:
        """How much step t (row) attends to step j (column)."""
        return self.attend.weights(self.encoded(episodes), episodes.mask)

    def intrinsic_rewards(self, episodes: EpisodeBatch) -> Float[Tensor, "B T"]:
        """r_in."""
        encoded = self.encoded(episodes)
        mixed = self.norm(encoded + self.attend(encoded, episodes.mask))
        return tanh(self.head(mixed).squeeze(-1))
