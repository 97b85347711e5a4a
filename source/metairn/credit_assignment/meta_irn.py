"""MetaIRN and SAIR: an intrinsic reward for each step from the whole episode, by self-attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from metairn.credit_assignment.meta_learned_reward import MetaLearnedReward
from metairn.credit_assignment.step_tokens import DEFAULT_PARTS, StepTokens
from metairn.episodes import EpisodeBatch, EpisodeSpec
from metairn.networks.attention import RedistributionAttention, SelfAttention, sinusoidal_positions
from metairn.networks.mlp import linear
from metairn.networks.tanh import tanh

Head = Literal["redistribution", "linear"]


class MetaIRN(MetaLearnedReward):
    """An intrinsic reward from attention over h_t = tanh(encode(step t)).

        head linear:          r_in = s tanh(w LayerNorm(h' + Attention(h'))), h' = h + positions
        head redistribution:  r_in = C^T r - r, C[k,t] = attention of step k's reward to t <= k

    The attention looks over the whole episode: what an action is worth shows in the rewards behind
    it. The linear head makes up rewards of its own; redistribution moves those that there are, so
    that r' = C^T r with intrinsic_coefficient 1.

    Args:
        spec: sizes of observations and actions.
        head: linear or redistribution.
        tokens: what the network sees of a step: see StepTokens.
        encoder_width: d, even and at least 2. At 1 the layer norm returns its bias whatever comes
            in: the published network's reward was one constant.
        null_slot: whether redistribution can throw a reward away.
        sharpness: multiplies the redistribution's logits, above 0.
        balanced_gradient: whether the redistribution of late rewards learns as fast as that of
            early ones; not for tokens that see rewards, through which it would change the
            derivatives that the credit matrix is.
        learning: see MetaLearnedReward.

    Raises:
        ValueError: if one of these is not allowed.

    Source: Jiang et al. 2021 (SAIR), algorithm 1, and the MetaIRN report, section 3; encoder,
    positions, flags and the redistribution are ours.
    """

    later_settings: ClassVar[Mapping[str, Any]] = {
        "balanced_gradient": False,
        "outer_episodes": None,
        "judged_by": "return",
        "restart": False,
        "advantage_floor": 0.0,
    }

    def __init__(
        self,
        spec: EpisodeSpec,
        head: Head = "linear",
        tokens: Sequence[str] = DEFAULT_PARTS,
        encoder_width: int = 32,
        null_slot: bool = True,
        sharpness: float = 1.0,
        balanced_gradient: bool = False,
        **learning: Any,
    ) -> None:
        super().__init__(spec, **learning)
        if head not in get_args(Head):
            raise ValueError(
                f"head={head} is not allowed: it must be one of {', '.join(get_args(Head))}."
            )
        if encoder_width < 2 or encoder_width % 2:
            raise ValueError(
                f"encoder_width={encoder_width} is not allowed: it must be even and at least 2 "
                "(layer normalisation over one number is a constant)."
            )
        if not 0 < sharpness < float("inf"):
            raise ValueError(
                f"sharpness={sharpness} is not allowed: it must be above 0 and finite."
            )
        if balanced_gradient and {"reward", "relative_reward"} & set(tokens):
            raise ValueError(
                "balanced_gradient=True is not allowed with tokens that see the reward: it would "
                "change the credit matrix."
            )
        self.encoder_width = encoder_width
        self.tokens = StepTokens(spec, tokens, encoder_width)
        if head == "redistribution":
            self.spread = RedistributionAttention(
                encoder_width, null_slot, sharpness, balanced_gradient
            )
        else:
            self.attend = SelfAttention(encoder_width)
            self.norm = nn.LayerNorm(encoder_width)
            # Small, not zero: a zero head would pass no gradient to the attention.
            self.head = linear(encoder_width, 1, gain=0.1)
        self.redistributes = head == "redistribution"
        self.weights_mean = {"head": head, "tokens": list(tokens), "null_slot": null_slot}
        self.finish()

    def encoded(self, episodes: EpisodeBatch) -> Float[Tensor, "B T d"]:
        """What the linear head's attention sees of each step: h'."""
        rewards = episodes.rewards
        positions = sinusoidal_positions(
            rewards.shape[1], self.encoder_width, rewards.dtype, rewards.device
        )
        return self.tokens(episodes, self.reward_scale, self.reward_peak) + positions

    def attention(self, episodes: EpisodeBatch) -> Float[Tensor, "B T T"]:
        """How much step t (row) looks at step j (column), or gets of its reward."""
        if self.redistributes:
            shares = self.redistribution(episodes).transpose(1, 2)
            return shares.expand(episodes.num_episodes, -1, -1)
        return self.attend.weights(self.encoded(episodes), episodes.mask)

    def redistribution(self, episodes: EpisodeBatch) -> Float[Tensor, "b T T"]:
        """C[k,t]; one matrix, b = 1, for episodes of one length if nothing else is seen of them."""
        lengths = episodes.lengths
        if set(self.tokens.parts) <= {"position", "flags"} and bool((lengths == lengths[0]).all()):
            episodes = episodes.select(torch.zeros_like(lengths[:1]), episodes.mask.shape[1])
        tokens = self.tokens(episodes, self.reward_scale, self.reward_peak)
        return self.spread.weights(tokens, episodes.mask)

    def intrinsic_rewards(self, episodes: EpisodeBatch) -> Float[Tensor, "B T"]:
        """r_in, in units of reward."""
        if self.redistributes:
            moved = episodes.rewards[:, None, :] @ self.redistribution(episodes)
            return moved.squeeze(1) - episodes.rewards
        encoded = self.encoded(episodes)
        mixed = self.norm(encoded + self.attend(encoded, episodes.mask))
        return self.reward_scale * tanh(self.head(mixed).squeeze(-1))
