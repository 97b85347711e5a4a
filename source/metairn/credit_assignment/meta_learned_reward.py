"""What MetaIRN, SAIR and LIRPG share: r' = r + c r_in, with r_in learned by the meta-gradient."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from metairn.credit_assignment.assigner import Credit, CreditAssigner
from metairn.credit_assignment.pretrained import load_weights
from metairn.episodes import EpisodeBatch, EpisodeSpec

InnerUpdateName = Literal["sgd", "adam", "normalised", "natural"]
OuterData = Literal["same", "held_out", "next"]
JudgedBy = Literal["return", "reward"]
# Settings that a natural inner update has no use for.
UNROLLED_ONLY = ("inner_learning_rate", "inner_starts", "outer_episodes", "max_importance_ratio")


@dataclass(frozen=True)
class MetaLearning:
    """How the meta-gradient of a learned reward is taken.

    Args:
        inner_update: U, the imagined policy update: unrolled (objectives.meta_gradient), or a small
            natural gradient step in closed form (objectives.natural_credit), for meta_steps.
        inner_learning_rate: its step size; None for the policy's own learning rate.
        inner_steps: k, updates that are unrolled.
        outer_data: episodes of the outer loss: the inner ones (`same`), others of the same data
            (`held_out`; for natural, all but the one that is judged), or fresh ones from the
            updated policy (`next`).
        judged_by: what a share of reward k's credit is to raise: the whole `return`, or reward k
            itself, for a natural inner update of redistributed rewards.
        meta_steps: outer updates in each iteration before the policy moves; 0 takes one with each
            minibatch that the policy learns from instead.
        restart: whether the meta_steps of each iteration begin with the weights that the lifetime
            began with, so that what early noise taught is not for ever.
        inner_starts: M, policy updates that each of the meta_steps unrolls side by side; fewer
            where there are too few episodes.
        inner_episodes: most episodes of each imagined update, which gets an equal share of half of
            them if it is unrolled; None for no bound.
        outer_episodes: most episodes of the outer loss of unrolled meta_steps; None for all others.
        replay_iterations: K, iterations whose episodes the meta_steps use, the present one's too.
        max_importance_ratio: bound on how much a step of an earlier policy may weigh in an unrolled
            update; a natural one is imagined at the policies that made the episodes.
        credit_average: share of the old in a running mean of the reward network's weights, which
            is what the policy then learns from; 0 for the newest.
    """

    inner_update: InnerUpdateName = "sgd"
    inner_learning_rate: float | None = None
    inner_steps: int = 1
    outer_data: OuterData = "same"
    judged_by: JudgedBy = "return"
    meta_steps: int = 0
    restart: bool = False
    inner_starts: int = 1
    inner_episodes: int | None = None
    outer_episodes: int | None = None
    replay_iterations: int = 1
    max_importance_ratio: float = 5.0
    credit_average: float = 0.0

    def __post_init__(self) -> None:
        for name, value, known in (
            ("inner_update", self.inner_update, get_args(InnerUpdateName)),
            ("outer_data", self.outer_data, get_args(OuterData)),
            ("judged_by", self.judged_by, get_args(JudgedBy)),
        ):
            if value not in known:
                raise ValueError(
                    f"{name}={value} is not allowed: it must be one of {', '.join(known)}."
                )
        rate = self.inner_learning_rate
        if rate is not None and not 0 < rate < float("inf"):
            raise ValueError(
                f"inner_learning_rate={rate} is not allowed: it must be above 0 and finite."
            )
        least = {
            "inner_steps": 1,
            "meta_steps": 0,
            "inner_starts": 1,
            "inner_episodes": 1,
            "outer_episodes": 1,
            "replay_iterations": 1,
        }
        for name, minimum in least.items():
            if getattr(self, name) is not None and getattr(self, name) < minimum:
                raise ValueError(
                    f"{name}={getattr(self, name)} is not allowed: it must be at least {minimum}."
                )
        if not 1 <= self.max_importance_ratio < float("inf"):
            raise ValueError(
                f"max_importance_ratio={self.max_importance_ratio} is not allowed: it must be at "
                "least 1 and finite."
            )
        if not 0 <= self.credit_average < 1:
            raise ValueError(
                f"credit_average={self.credit_average} is not allowed: it must be at least 0 and "
                "below 1."
            )
        self._check_combinations()

    def _check_combinations(self) -> None:
        natural = self.inner_update == "natural"
        if natural and (self.meta_steps < 1 or self.inner_steps > 1):
            raise ValueError(
                f"inner_update=natural is not allowed with meta_steps={self.meta_steps} and "
                f"inner_steps={self.inner_steps}: they must be at least 1 and just 1."
            )
        for setting in fields(self) if natural else ():
            value = getattr(self, setting.name)
            if setting.name in UNROLLED_ONLY and value != setting.default:
                raise ValueError(
                    f"{setting.name}={value} is not allowed with inner_update=natural: it must be "
                    f"{setting.default}, for nothing is unrolled."
                )
        if self.judged_by == "reward" and not natural:
            raise ValueError(
                f"judged_by=reward is not allowed with inner_update={self.inner_update}: it must "
                "be natural."
            )
        if self.restart and self.credit_average:
            raise ValueError(
                f"restart=True is not allowed with credit_average={self.credit_average}: there is "
                "nothing to average over."
            )
        if self.meta_steps and self.outer_data == "next":
            raise ValueError(
                f"meta_steps={self.meta_steps} is not allowed with outer_data=next: these episodes "
                "are there only after the policy has moved."
            )


class MetaLearnedReward(CreditAssigner):
    """r'_t = r_t + c r_in,t, with r_in learned by the meta-gradient.

    Args:
        spec: sizes of observations and actions.
        intrinsic_coefficient: c, at least 0.
        credit_learning_rate: step size of the reward network, above 0.
        mixed_discount: gamma of the return of r'; None for that of the extrinsic return, 0 if r'_t
            is all the credit of action t.
        mixed_gae_lambda: the same for lambda.
        extrinsic_share: share of the extrinsic advantage in what the policy learns from, 0 to 1.
        advantage_floor: see CreditAssigner, 0 to 1.
        pretrained: file of a network that was trained before; None for a random one.
        frozen: whether the network stays as it is.
        meta_learning: settings of MetaLearning.

    Raises:
        ValueError: if one of these is out of its range.

    Source: Zheng et al. 2018 (LIRPG), equation 3.
    """

    learns_by: Literal["nothing", "meta_gradient", "own_loss"] = "meta_gradient"
    # Whether r' = C^T r and nothing else.
    redistributes: bool = False
    # Settings without which weights of the right shapes would mean something else.
    weights_mean: Mapping[str, Any] = {}

    def __init__(
        self,
        spec: EpisodeSpec,
        intrinsic_coefficient: float = 0.1,
        credit_learning_rate: float = 1e-3,
        mixed_discount: float | None = None,
        mixed_gae_lambda: float | None = None,
        extrinsic_share: float = 0.0,
        advantage_floor: float = 0.0,
        pretrained: str | None = None,
        frozen: bool = False,
        **meta_learning: Annotated[Any, MetaLearning],
    ) -> None:
        super().__init__(spec)
        if not 0 <= intrinsic_coefficient < float("inf"):
            raise ValueError(
                f"intrinsic_coefficient={intrinsic_coefficient} is not allowed: "
                "it must be at least 0 and finite."
            )
        if not 0 < credit_learning_rate < float("inf"):
            raise ValueError(
                f"credit_learning_rate={credit_learning_rate} is not allowed: it must be above 0 "
                "and finite."
            )
        for name, share in (
            ("mixed_discount", mixed_discount),
            ("mixed_gae_lambda", mixed_gae_lambda),
            ("extrinsic_share", extrinsic_share),
            ("advantage_floor", advantage_floor),
        ):
            if share is not None and not 0 <= share <= 1:
                raise ValueError(f"{name}={share} is not allowed: it must be from 0 to 1.")
        self.intrinsic_coefficient = intrinsic_coefficient
        self.credit_learning_rate = credit_learning_rate
        self.discount = mixed_discount
        self.gae_lambda = mixed_gae_lambda
        self.extrinsic_share = extrinsic_share
        self.advantage_floor = advantage_floor
        self.meta_learning = MetaLearning(**meta_learning)
        self.pretrained = pretrained
        if frozen:
            self.learns_by = "nothing"

    def finish(self) -> None:
        """Once the networks are built: takes the pretrained weights.

        Raises:
            ValueError: if the file does not fit, or single rewards are to judge what is not made
                of them.
        """
        if self.meta_learning.judged_by == "reward" and not self.redistributes:
            raise ValueError(
                "judged_by=reward is not allowed here: it must be return, for these rewards are "
                "not made of the extrinsic ones (head=redistribution is)."
            )
        if self.pretrained is not None:
            load_weights(self.pretrained, self)

    @abstractmethod
    def intrinsic_rewards(self, episodes: EpisodeBatch) -> Float[Tensor, "B T"]:
        """r_in, in units of reward."""

    def redistribution(self, episodes: EpisodeBatch) -> Float[Tensor, "b T T"]:
        """C[k,t], the share of reward k that step t gets: its own, unless a method moves it.

        b = 1 if it is the same for all episodes.
        """
        rewards = episodes.rewards
        return torch.eye(rewards.shape[1], dtype=rewards.dtype, device=rewards.device)[None]

    def forward(self, episodes: EpisodeBatch) -> Credit:
        """Extrinsic plus weighted intrinsic rewards, as a new tensor."""
        intrinsic = self.intrinsic_rewards(episodes) * episodes.mask
        return Credit(rewards=episodes.rewards + self.intrinsic_coefficient * intrinsic)
