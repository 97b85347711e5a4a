"""What MetaIRN, SAIR and LIRPG share: r' = r + c r_in, with r_in learned by the meta-gradient."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from jaxtyping import Float
from torch import Tensor

from metairn.credit_assignment.assigner import Credit, CreditAssigner
from metairn.episodes import EpisodeBatch, EpisodeSpec

InnerUpdateName = Literal["sgd", "adam", "normalised"]
OuterData = Literal["same", "held_out", "next"]


@dataclass(frozen=True)
class MetaLearning:
    """How the meta-gradient of a learned reward is taken.

    Args:
        inner_update: U, the imagined policy update (objectives.meta_gradient).
        inner_learning_rate: its step size; None for the policy's own learning rate.
        inner_steps: k, updates that are unrolled.
        outer_data: episodes of the outer loss: the inner ones (`same`), others of the same batch
            (`held_out`), or fresh ones from the updated policy (`next`).
    """

    inner_update: InnerUpdateName
    inner_learning_rate: float | None
    inner_steps: int
    outer_data: OuterData


class MetaLearnedReward(CreditAssigner):
    """r'_t = r_t + c s r_in,t, with r_in in (-1, 1) and s the size of the extrinsic rewards.

    Args:
        spec: sizes of observations and actions.
        intrinsic_coefficient: c, at least 0.
        credit_learning_rate: step size of the reward network, above 0.
        inner_update: sgd, adam or normalised.
        inner_learning_rate: step size of the inner update; None for the policy's.
        inner_steps: k, at least 1.
        outer_data: same, held_out or next.

    Raises:
        ValueError: if one of these is out of its range.

    Source: Zheng et al. 2018 (LIRPG), equation 3; the unit s is ours.
    """

    learns_by: ClassVar[Literal["nothing", "meta_gradient", "own_loss"]] = "meta_gradient"

    def __init__(
        self,
        spec: EpisodeSpec,
        intrinsic_coefficient: float = 0.1,
        credit_learning_rate: float = 1e-3,
        inner_update: InnerUpdateName = "sgd",
        inner_learning_rate: float | None = None,
        inner_steps: int = 1,
        outer_data: OuterData = "same",
    ) -> None:
        super().__init__(spec)
        if not 0 <= intrinsic_coefficient < float("inf"):
            raise ValueError(
                f"intrinsic_coefficient={intrinsic_coefficient} is not allowed: "
                "it must be at least 0 and finite."
            )
        for name, value, known in (
            ("inner_update", inner_update, get_args(InnerUpdateName)),
            ("outer_data", outer_data, get_args(OuterData)),
        ):
            if value not in known:
                raise ValueError(
                    f"{name}={value} is not allowed: it must be one of {', '.join(known)}."
                )
        for name, rate in (
            ("credit_learning_rate", credit_learning_rate),
            ("inner_learning_rate", inner_learning_rate),
        ):
            if rate is not None and not 0 < rate < float("inf"):
                raise ValueError(f"{name}={rate} is not allowed: it must be above 0 and finite.")
        if inner_steps < 1:
            raise ValueError(f"inner_steps={inner_steps} is not allowed: it must be at least 1.")
        self.intrinsic_coefficient = intrinsic_coefficient
        self.credit_learning_rate = credit_learning_rate
        self.meta_learning = MetaLearning(
            inner_update, inner_learning_rate, inner_steps, outer_data
        )

    @abstractmethod
    def intrinsic_rewards(self, episodes: EpisodeBatch) -> Float[Tensor, "B T"]:
        """r_in, bounded by one."""

    def forward(self, episodes: EpisodeBatch) -> Credit:
        """Extrinsic plus weighted intrinsic rewards, as a new tensor."""
        unit = self.intrinsic_coefficient * self.reward_scale
        intrinsic = self.intrinsic_rewards(episodes) * episodes.mask
        return Credit(rewards=episodes.rewards + unit * intrinsic)
