"""Plain PPO: no method at all, the baseline that every other one has to beat."""

from __future__ import annotations

from typing import ClassVar

from metairn.credit_assignment.assigner import Credit, CreditAssigner
from metairn.episodes import EpisodeBatch


class PPO(CreditAssigner):
    """r' = r and W[t,j] = (gamma lambda)^(j-t). Source: Schulman et al. 2017."""

    needs_mixed_critic: ClassVar[bool] = False

    def forward(self, episodes: EpisodeBatch) -> Credit:
        """The extrinsic rewards as they are."""
        return Credit(rewards=episodes.rewards)
