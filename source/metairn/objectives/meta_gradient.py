"""THE meta-gradient: how a change of the learned credit changes the extrinsic return that follows.

    theta_{i+1} = U(theta_i, grad_theta L_inner(theta_i, eta)),   i = 0 .. k-1
    meta-gradient = d L_outer(theta_k) / d eta

The inner loss L_inner uses the learned credit eta; the outer loss L_outer counts extrinsic rewards
only and sees eta through theta_k alone. Both are functions of the policy's parameters
(torch.func.functional_call), so a module is never changed to ask what would happen if it were.
Source: Zheng et al. 2018 (LIRPG), equations 5-8, where U is one step of gradient ascent; Xu et al.
2018 (meta-gradients), equations 2-5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from metairn.objectives.advantages import ReduceSum, identity

Params = dict[str, Tensor]
Loss = Callable[[Params], Float[Tensor, ""]]


@dataclass(frozen=True)
class UpdateState:
    """What an optimiser remembers between steps; constants for the meta-gradient.

    Args:
        first_moment: running mean of gradients, per parameter (Adam).
        second_moment: running mean of squared gradients, per parameter (Adam).
        num_updates: updates made so far (Adam's bias correction).
    """

    first_moment: Mapping[str, Tensor]
    second_moment: Mapping[str, Tensor]
    num_updates: int = 0

    @classmethod
    def empty(cls, params: Params) -> UpdateState:
        """The state before the first update."""
        zeros = {name: torch.zeros_like(p) for name, p in params.items()}
        return cls(zeros, dict(zeros))


@runtime_checkable
class InnerUpdate(Protocol):
    """U: the policy's parameters after one update along a gradient, differentiable in it."""

    def __call__(
        self, params: Params, gradient: Params, state: UpdateState, learning_rate: float
    ) -> tuple[Params, UpdateState]: ...


def sgd(
    params: Params, gradient: Params, state: UpdateState, learning_rate: float
) -> tuple[Params, UpdateState]:
    """theta' = theta - alpha g. Source: LIRPG, equation 4."""
    return {n: p - learning_rate * gradient[n] for n, p in params.items()}, state


def normalised(
    params: Params, gradient: Params, state: UpdateState, learning_rate: float
) -> tuple[Params, UpdateState]:
    """theta' = theta - alpha g / |g|: a step of fixed length, so only g's direction can pay off."""
    # The floor keeps a zero gradient from dividing by zero; it never shortens a real step.
    norm = global_norm(gradient).clamp(min=1e-12)
    return {n: p - learning_rate * gradient[n] / norm for n, p in params.items()}, state


def adam(
    params: Params, gradient: Params, state: UpdateState, learning_rate: float
) -> tuple[Params, UpdateState]:
    """theta' = theta - alpha m / (sqrt(v) + 1e-8), bias-corrected, with v a constant.

    g^2 is not differentiated: at the start v is g^2 itself and the step is its sign, whose gradient
    says nothing. Source: Kingma and Ba 2015, algorithm 1; the stop-gradient as in LIRPG's PPO code.
    """
    beta_1, beta_2, epsilon = 0.9, 0.999, 1e-8
    step = state.num_updates + 1
    first = {n: beta_1 * state.first_moment[n] + (1 - beta_1) * g for n, g in gradient.items()}
    second = {
        n: beta_2 * state.second_moment[n] + (1 - beta_2) * g.detach().square()
        for n, g in gradient.items()
    }
    moved = {}
    for name, param in params.items():
        scale = (second[name] / (1 - beta_2**step)).sqrt() + epsilon
        moved[name] = param - learning_rate * first[name] / (1 - beta_1**step) / scale
    return moved, UpdateState(first, second, step)


INNER_UPDATES: dict[str, InnerUpdate] = {"sgd": sgd, "adam": adam, "normalised": normalised}


def global_norm(gradient: Params) -> Float[Tensor, ""]:
    """|g| over all parameters; its gradient at g = 0 is zero, not undefined."""
    square = torch.stack([g.square().sum() for g in gradient.values()]).sum()
    return torch.where(square > 0, square, 1.0).sqrt() * (square > 0)


def clip_by_global_norm(gradient: Params, max_norm: float | None) -> Params:
    """g min(1, max_norm / |g|), differentiated through; None leaves g as it is."""
    if max_norm is None:
        return gradient
    factor = (max_norm / global_norm(gradient).clamp(min=1e-12)).clamp(max=1.0)
    return {name: g * factor for name, g in gradient.items()}


@dataclass(frozen=True)
class InnerLoop:
    """How the policy would learn from the credit: k updates, one per inner loss.

    Args:
        update: U.
        learning_rate: alpha; for `normalised` the length of the step.
        max_gradient_norm: clips each inner gradient, as the policy's own update does.
        reduce_sum: differentiable sum over learners, of each inner gradient.
    """

    update: InnerUpdate
    learning_rate: float
    max_gradient_norm: float | None = None
    reduce_sum: ReduceSum = identity

    def unroll(self, params: Params, losses: Sequence[Loss], state: UpdateState) -> Params:
        """theta_k, as a differentiable function of whatever the losses depend on.

        Args:
            params: theta_0; constants, detached from the module that holds them.
            losses: L_inner of each step, functions of theta.
            state: the optimiser's memory at theta_0.
        """
        current = {name: p.detach().requires_grad_() for name, p in params.items()}
        for loss in losses:
            names = list(current)
            raw = torch.autograd.grad(
                loss(current), [current[n] for n in names], create_graph=True, allow_unused=True
            )
            gradient = {
                n: self.reduce_sum(torch.zeros_like(current[n]) if g is None else g)
                for n, g in zip(names, raw, strict=True)
            }
            gradient = clip_by_global_norm(gradient, self.max_gradient_norm)
            current, state = self.update(current, gradient, state, self.learning_rate)
        return current


def meta_gradient(
    outer_loss: Loss,
    inner_losses: Sequence[Loss],
    inner_loop: InnerLoop,
    policy_params: Params,
    credit_params: Sequence[Tensor],
    state: UpdateState | None = None,
) -> tuple[list[Tensor], Float[Tensor, ""]]:
    """d L_outer(theta_k(eta)) / d eta.

    Args:
        outer_loss: extrinsic loss as a function of the policy's parameters.
        inner_losses: one per inner step, functions of the policy's parameters and, by closure, of
            `credit_params`.
        inner_loop: U and its settings.
        policy_params: theta_0.
        credit_params: eta.
        state: the policy optimiser's memory; empty if None.

    Returns:
        The gradient, a tensor per credit parameter, and the outer loss.

    Raises:
        RuntimeError: if the inner losses do not depend on any credit parameter.
    """
    after = inner_loop.unroll(
        policy_params, inner_losses, state or UpdateState.empty(policy_params)
    )
    loss = outer_loss(after)
    gradient = torch.autograd.grad(loss, list(credit_params), allow_unused=True)
    if all(g is None for g in gradient):
        raise RuntimeError("The inner losses do not depend on the credit that is to be learned.")
    filled = [
        torch.zeros_like(p) if g is None else g
        for p, g in zip(credit_params, gradient, strict=True)
    ]
    return filled, loss.detach()
