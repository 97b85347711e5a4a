"""What a network sees of each step of an episode."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from metairn.episodes import EpisodeBatch, EpisodeSpec
from metairn.networks.mlp import linear
from metairn.networks.tanh import tanh

DEFAULT_PARTS = ("observation", "action", "reward", "position", "flags")
PARTS = (*DEFAULT_PARTS, "relative_reward")


class StepTokens(nn.Module):
    """h_t = tanh(W x_t + b), x_t the named parts of step t.

    Args:
        spec: sizes of observations and actions.
        parts: any of observation, action (one-hot if discrete), reward (in units of reward_scale),
            relative_reward (in units of reward_peak, which episodes of any length share), position
            ([t / length, 1 - t / length]) and flags ([first, last]).
        width: d, numbers that a step is encoded in.

    Raises:
        ValueError: if there is no part, an unknown one, or one twice.
    """

    def __init__(self, spec: EpisodeSpec, parts: Sequence[str], width: int) -> None:
        super().__init__()
        if not parts or set(parts) - set(PARTS) or len(set(parts)) < len(parts):
            raise ValueError(
                f"tokens={list(parts)} is not allowed: it must list one or more of "
                f"{', '.join(PARTS)}, each once."
            )
        self.spec = spec
        self.parts = tuple(parts)
        sizes = {
            "observation": spec.observation_size,
            "action": spec.action_size,
            "reward": 1,
            "relative_reward": 1,
            "position": 2,
            "flags": 2,
        }
        self.encoder = linear(sum(sizes[part] for part in parts), width, gain=math.sqrt(2))

    def features(
        self,
        episodes: EpisodeBatch,
        reward_scale: Float[Tensor, ""],
        reward_peak: Float[Tensor, ""],
    ) -> Float[Tensor, "B T F"]:
        """x."""
        rewards, lengths = episodes.rewards, episodes.lengths[:, None]
        steps = torch.arange(rewards.shape[1], device=rewards.device)
        since_start = (steps / lengths).to(rewards.dtype)
        first = (steps == 0).to(rewards.dtype).expand_as(rewards)
        found = {
            "observation": lambda: episodes.acted_on,
            "action": lambda: episodes.encoded_actions(self.spec),
            "reward": lambda: (rewards / reward_scale)[..., None],
            "relative_reward": lambda: (rewards / reward_peak)[..., None],
            "position": lambda: torch.stack([since_start, 1.0 - since_start], dim=-1),
            "flags": lambda: torch.stack([first, episodes.is_last.to(rewards.dtype)], dim=-1),
        }
        return torch.cat([found[part]() for part in self.parts], dim=-1)

    def forward(
        self,
        episodes: EpisodeBatch,
        reward_scale: Float[Tensor, ""],
        reward_peak: Float[Tensor, ""],
    ) -> Float[Tensor, "B T d"]:
        """h.

        Args:
            episodes: B whole episodes.
            reward_scale: unit of the rewards, as CreditAssigner keeps it.
            reward_peak: unit of the relative rewards, likewise.
        """
        return tanh(self.encoder(self.features(episodes, reward_scale, reward_peak)))
