"""The upper bracket: credit from the environment's own knowledge of what caused what."""

from __future__ import annotations

from typing import ClassVar

import torch

from metairn.credit_assignment.assigner import Credit, CreditAssigner
from metairn.episodes import EpisodeBatch


class Oracle(CreditAssigner):
    """r'_t = sum_j G[t,j] r_j with discount 0: each action gets just the rewards it caused.

    G is the ground truth of the environment, so this is no method but the most that any could do.
    """

    needs_ground_truth: ClassVar[bool] = True
    discount = 0.0

    def forward(self, episodes: EpisodeBatch) -> Credit:
        """Every reward, moved to the action that caused it; rewards without a cause are dropped."""
        if episodes.ground_truth is None:
            raise ValueError("The oracle needs an environment that states its ground-truth credit.")
        return Credit(rewards=torch.einsum("btj,bj->bt", episodes.ground_truth, episodes.rewards))
