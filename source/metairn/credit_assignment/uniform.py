"""Uniform return redistribution: equal shares of each reward for the steps up to it."""

from __future__ import annotations

import torch

from metairn.credit_assignment.assigner import Credit, CreditAssigner
from metairn.episodes import EpisodeBatch


class Uniform(CreditAssigner):
    """r'_t = sum_{k>=t} r_k / (k + 1) with discount 0: redistribution that has learned nothing.

    The control for methods that learn where rewards belong: it has their dense rewards and their
    horizon, but not their knowledge. Source: Gangwani et al. 2020 (IRCR), who give every step the
    episode's return.
    """

    discount: float | None = 0.0

    def forward(self, episodes: EpisodeBatch) -> Credit:
        """Every reward in equal parts on the steps up to its own."""
        steps = torch.arange(1, episodes.rewards.shape[1] + 1, device=episodes.rewards.device)
        shares = episodes.rewards * episodes.mask / steps
        later = shares.flip(1).cumsum(1).flip(1)
        return Credit(rewards=later * episodes.mask)
