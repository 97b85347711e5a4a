"""THE meta-gradient: how a change of the learned credit changes the extrinsic return that follows.

    theta_{i+1} = U(theta_i, grad_theta L_inner(theta_i, eta)),   i = 0 .. k-1
    meta-gradient = d L_outer(theta_k) / d eta

The inner loss L_inner uses the learned credit eta; the outer loss L_outer counts extrinsic rewards
only and sees eta through theta_k alone. Both are functions of the policy's parameters
(torch.func.functional_call), so a module is never changed to ask what would happen if it were.
Between losses theta is one vector of all P parameters: an update is then a handful of operations,
however many tensors a policy has.
Source: Zheng et al. 2018 (LIRPG), equations 5-8, where U is one step of gradient ascent; Xu et al.
2018 (meta-gradients), equations 2-5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from metairn.objectives.advantages import ReduceSum, identity

Params = dict[str, Tensor]
Loss = Callable[[Params], Float[Tensor, ""]]


def flatten(tensors: Iterable[Tensor]) -> Float[Tensor, "P"]:
    """All numbers of some tensors in one vector."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def unflatten(vector: Float[Tensor, "P"], like: Params) -> Params:
    """The vector's parts, named and shaped like the given parameters."""
    parts = vector.split([p.numel() for p in like.values()])
    return {n: part.view_as(p) for (n, p), part in zip(like.items(), parts, strict=True)}


@dataclass(frozen=True)
class UpdateState:
    """What an optimiser remembers between steps; constants for the meta-gradient.

    Args:
        first_moment: running mean of gradients (Adam).
        second_moment: running mean of squared gradients (Adam).
        num_updates: updates made so far (Adam's bias correction).
    """

    first_moment: Float[Tensor, "P"]
    second_moment: Float[Tensor, "P"]
    num_updates: int = 0

    @classmethod
    def empty(cls, params: Params) -> UpdateState:
        """The state before the first update."""
        zeros = torch.zeros_like(flatten(p.detach() for p in params.values()))
        return cls(zeros, zeros)


@runtime_checkable
class InnerUpdate(Protocol):
    """U: theta after one update along a gradient, differentiable in the gradient."""

    def __call__(
        self,
        theta: Float[Tensor, "P"],
        gradient: Float[Tensor, "P"],
        state: UpdateState,
        learning_rate: float,
    ) -> tuple[Float[Tensor, "P"], UpdateState]: ...


def sgd(
    theta: Float[Tensor, "P"],
    gradient: Float[Tensor, "P"],
    state: UpdateState,
    learning_rate: float,
) -> tuple[Float[Tensor, "P"], UpdateState]:
    """theta' = theta - alpha g. Source: LIRPG, equation 4."""
    return theta - learning_rate * gradient, state


def normalised(
    theta: Float[Tensor, "P"],
    gradient: Float[Tensor, "P"],
    state: UpdateState,
    learning_rate: float,
) -> tuple[Float[Tensor, "P"], UpdateState]:
    """theta' = theta - alpha g / |g|: a step of fixed length, so only g's direction can pay off."""
    # The floor keeps a zero gradient from dividing by zero; it never shortens a real step.
    return theta - learning_rate / norm(gradient).clamp(min=1e-12) * gradient, state


def adam(
    theta: Float[Tensor, "P"],
    gradient: Float[Tensor, "P"],
    state: UpdateState,
    learning_rate: float,
) -> tuple[Float[Tensor, "P"], UpdateState]:
    """theta' = theta - alpha m / (sqrt(v) + 1e-8), bias-corrected, with v a constant.

    g^2 is not differentiated: at the start v is g^2 itself and the step is its sign, whose gradient
    says nothing. Source: Kingma and Ba 2015, algorithm 1; the stop-gradient as in LIRPG's PPO code.
    """
    beta_1, beta_2, epsilon = 0.9, 0.999, 1e-8
    step = state.num_updates + 1
    first = beta_1 * state.first_moment + (1 - beta_1) * gradient
    second = beta_2 * state.second_moment + (1 - beta_2) * gradient.detach().square()
    scale = (second / (1 - beta_2**step)).sqrt() + epsilon
    moved = theta - learning_rate / (1 - beta_1**step) * (first / scale)
    return moved, UpdateState(first, second, step)


INNER_UPDATES: dict[str, InnerUpdate] = {"sgd": sgd, "adam": adam, "normalised": normalised}


def norm(gradient: Float[Tensor, "P"]) -> Float[Tensor, ""]:
    """|g|; its derivative at g = 0 is zero, not undefined."""
    return torch.linalg.vector_norm(gradient)


def clip_by_norm(gradient: Float[Tensor, "P"], max_norm: float | None) -> Float[Tensor, "P"]:
    """g min(1, max_norm / |g|), differentiated through; None leaves g as it is."""
    if max_norm is None:
        return gradient
    return gradient * (max_norm / norm(gradient).clamp(min=1e-12)).clamp(max=1.0)


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

    def unroll(
        self,
        params: Params,
        losses: Sequence[Loss],
        state: UpdateState,
        first_gradient: Sequence[Tensor] | None = None,
    ) -> Params:
        """theta_k, as a differentiable function of whatever the losses depend on.

        Args:
            params: theta_0; constants, whatever module holds them.
            losses: L_inner of each step, functions of theta.
            state: the optimiser's memory at theta_0.
            first_gradient: of losses[0] at theta_0, with its graph, where it is known already.
        """
        theta = flatten(p.detach() for p in params.values())
        current = {name: p.detach().requires_grad_() for name, p in params.items()}
        gradient = None if first_gradient is None else flatten(first_gradient)
        for loss in losses:
            if gradient is None:
                gradient = flatten(gradient_of(loss, current, create_graph=True))
            gradient = clip_by_norm(self.reduce_sum(gradient), self.max_gradient_norm)
            theta, state = self.update(theta, gradient, state, self.learning_rate)
            current, gradient = unflatten(theta, params), None
        return current


def gradient_of(loss: Loss, params: Params, create_graph: bool = False) -> list[Tensor]:
    """d loss / d params, a tensor per parameter; zero where the loss does not depend on one.

    Args:
        loss: function of the parameters.
        params: where.
        create_graph: whether the gradient can be differentiated again.
    """
    wanted = list(params.values())
    raw = torch.autograd.grad(loss(params), wanted, create_graph=create_graph, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(wanted, raw, strict=True)]


def meta_gradient(
    outer_loss: Loss,
    inner_losses: Sequence[Loss],
    inner_loop: InnerLoop,
    policy_params: Params,
    credit_params: Sequence[Tensor],
    state: UpdateState | None = None,
    first_gradient: Sequence[Tensor] | None = None,
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
        first_gradient: see InnerLoop.unroll; its graph is left intact.

    Returns:
        The gradient, a tensor per credit parameter, and the outer loss.

    Raises:
        RuntimeError: if the inner losses do not depend on any credit parameter.
    """
    state = state or UpdateState.empty(policy_params)
    after = inner_loop.unroll(policy_params, inner_losses, state, first_gradient)
    loss = outer_loss(after)
    return credit_gradient(loss, credit_params), loss.detach()


def credit_gradient(loss: Float[Tensor, ""], credit_params: Sequence[Tensor]) -> list[Tensor]:
    """d loss / d eta, a tensor per credit parameter; zero for those that this credit does not use.

    Args:
        loss: L_outer.
        credit_params: eta.

    Raises:
        RuntimeError: if the loss does not depend on any of them.
    """
    gradient = torch.autograd.grad(loss, list(credit_params), allow_unused=True)
    if all(g is None for g in gradient):
        raise RuntimeError("The inner losses do not depend on the credit that is to be learned.")
    pairs = zip(credit_params, gradient, strict=True)
    return [torch.zeros_like(p) if g is None else g for p, g in pairs]
