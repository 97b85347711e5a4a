"""The parts of the PPO objective, per step.

What is not here: clipping of the squared value error (RLlib's vf_clip_param). It cuts the gradient
of every error above its square root, which is all of them when returns are +-10.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def clipped_surrogate(
    log_probs: Float[Tensor, "B T"],
    behaviour_log_probs: Float[Tensor, "B T"],
    advantages: Float[Tensor, "B T"],
    clip: float,
) -> Float[Tensor, "B T"]:
    """-min(rho A, clip(rho, 1-eps, 1+eps) A) with rho = pi(a|o) / pi_behaviour(a|o); minimise it.

    Args:
        log_probs: log pi(a_t | o_t) of the policy that is optimised.
        behaviour_log_probs: the same of the policy that acted; constant.
        advantages: A_t.
        clip: eps; infinite for the plain importance-weighted objective.

    Source: Schulman et al. 2017 (PPO), equation 7, with the sign of a loss.
    """
    ratio = (log_probs - behaviour_log_probs).exp()
    clipped = ratio.clamp(1.0 - clip, 1.0 + clip)
    return -torch.minimum(ratio * advantages, clipped * advantages)


def value_loss(
    predictions: Float[Tensor, "B T"], targets: Float[Tensor, "B T"]
) -> Float[Tensor, "B T"]:
    """1/2 (v - target)^2, never clipped; both in standard deviations of the return."""
    return 0.5 * (predictions - targets).square()
