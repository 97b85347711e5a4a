"""A feed-forward policy and the action distributions it parametrises.

Feed-forward on purpose: a policy with memory would let memory leak into a measurement of credit.
The distributions sample with a generator of their own, which torch.distributions cannot, so that
training and evaluation never share random numbers. Discrete actions are written out, since for two
of them torch.distributions takes three times as long as the formulas.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Independent, Normal, kl_divergence

from metairn.networks.mlp import MLP


class ActionDistribution(ABC):
    """Turns a network's outputs into a distribution over actions."""

    @abstractmethod
    def sample(self, inputs: Float[Tensor, "n K"], generator: torch.Generator) -> Tensor:
        """One action per row, drawn with the given generator."""

    @abstractmethod
    def mode(self, inputs: Float[Tensor, "n K"]) -> Tensor:
        """The most probable action of each row."""

    @abstractmethod
    def log_prob(
        self, inputs: Float[Tensor, "*batch K"], actions: Tensor
    ) -> Float[Tensor, "*batch"]:
        """log pi(a | inputs), summed over an action's numbers."""

    @abstractmethod
    def entropy(self, inputs: Float[Tensor, "*batch K"]) -> Float[Tensor, "*batch"]:
        """Entropy in nats."""

    def log_prob_and_entropy(
        self, inputs: Float[Tensor, "*batch K"], actions: Tensor
    ) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
        """Both, with what they have in common computed once."""
        return self.log_prob(inputs, actions), self.entropy(inputs)

    @abstractmethod
    def kl(
        self, old: Float[Tensor, "*batch K"], new: Float[Tensor, "*batch K"]
    ) -> Float[Tensor, "*batch"]:
        """KL(old || new) in nats."""


class DiscreteActions(ActionDistribution):
    """Inputs are logits, one per action."""

    def sample(self, inputs: Float[Tensor, "n K"], generator: torch.Generator) -> Tensor:
        uniform = torch.rand((len(inputs), 1), generator=generator, device=inputs.device)
        # Without the last, which rounding can leave just under one: there is no action behind it.
        cumulative = inputs.softmax(dim=-1).cumsum(dim=-1)[..., :-1]
        return (uniform >= cumulative).sum(dim=-1)

    def mode(self, inputs: Float[Tensor, "n K"]) -> Tensor:
        return inputs.argmax(dim=-1)

    def log_prob(
        self, inputs: Float[Tensor, "*batch K"], actions: Tensor
    ) -> Float[Tensor, "*batch"]:
        return inputs.log_softmax(dim=-1).gather(-1, actions[..., None]).squeeze(-1)

    def entropy(self, inputs: Float[Tensor, "*batch K"]) -> Float[Tensor, "*batch"]:
        return -_plogp(inputs.log_softmax(dim=-1))

    def log_prob_and_entropy(
        self, inputs: Float[Tensor, "*batch K"], actions: Tensor
    ) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
        log_probs = inputs.log_softmax(dim=-1)
        return log_probs.gather(-1, actions[..., None]).squeeze(-1), -_plogp(log_probs)

    def kl(
        self, old: Float[Tensor, "*batch K"], new: Float[Tensor, "*batch K"]
    ) -> Float[Tensor, "*batch"]:
        log_probs = old.log_softmax(dim=-1)
        return (log_probs.exp() * (log_probs - new.log_softmax(dim=-1))).sum(dim=-1)


def _plogp(log_probs: Float[Tensor, "*batch K"]) -> Float[Tensor, "*batch"]:
    """sum p log p."""
    return (log_probs.exp() * log_probs).sum(dim=-1)


class ContinuousActions(ActionDistribution):
    """Inputs are the means and the log standard deviations of independent normals."""

    def of(self, inputs: Float[Tensor, "*batch K"]) -> Independent:
        """The distribution with these parameters."""
        mean, log_std = inputs.chunk(2, dim=-1)
        return Independent(Normal(mean, log_std.exp(), validate_args=False), 1)

    def sample(self, inputs: Float[Tensor, "n K"], generator: torch.Generator) -> Tensor:
        mean, log_std = inputs.chunk(2, dim=-1)
        noise = torch.randn(mean.shape, generator=generator, device=inputs.device)
        return mean + log_std.exp() * noise

    def mode(self, inputs: Float[Tensor, "n K"]) -> Tensor:
        return inputs.chunk(2, dim=-1)[0]

    def log_prob(
        self, inputs: Float[Tensor, "*batch K"], actions: Tensor
    ) -> Float[Tensor, "*batch"]:
        return self.of(inputs).log_prob(actions)

    def entropy(self, inputs: Float[Tensor, "*batch K"]) -> Float[Tensor, "*batch"]:
        return self.of(inputs).entropy()

    def kl(
        self, old: Float[Tensor, "*batch K"], new: Float[Tensor, "*batch K"]
    ) -> Float[Tensor, "*batch"]:
        return kl_divergence(self.of(old), self.of(new))


class Policy(nn.Module):
    """pi(a | o): an MLP that outputs the parameters of an action distribution.

    Args:
        observation_size: D.
        action_size: number of discrete actions, or numbers in a continuous one.
        discrete: which of the two.
        hidden_sizes: width of each hidden layer.
    """

    def __init__(
        self, observation_size: int, action_size: int, discrete: bool, hidden_sizes: Sequence[int]
    ) -> None:
        super().__init__()
        # Small last weights: the first policy is nearly uniform, so no action starts with credit.
        self.network = MLP(observation_size, hidden_sizes, action_size, last_gain=0.01)
        self.log_std = None if discrete else nn.Parameter(torch.zeros(action_size))
        self.actions: ActionDistribution = DiscreteActions() if discrete else ContinuousActions()

    def forward(self, observations: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch K"]:
        """Parameters of the action distribution: logits, or means and log standard deviations."""
        outputs = self.network(observations)
        if self.log_std is None:
            return outputs
        return torch.cat([outputs, self.log_std.expand_as(outputs)], dim=-1)

    @torch.no_grad()
    def scores(
        self,
        observations: Float[Tensor, "*batch D"],
        actions: Tensor,
        inputs: Float[Tensor, "*batch K"],
    ) -> Float[Tensor, "*batch F"]:
        """x = [features, 1] (outer product) d log pi / d outputs: the last layer's policy score.

        Args:
            observations: o.
            actions: a.
            inputs: parameters of the distribution that a was drawn from, those of an earlier policy
                maybe; for continuous actions the score is that of the means.
        """
        features = self.network.features(observations)
        features = torch.cat([features, torch.ones_like(features[..., :1])], dim=-1)
        with torch.enable_grad():
            drawn_from = inputs.detach().requires_grad_()
            log_probs = self.actions.log_prob(drawn_from, actions)
            (slopes,) = torch.autograd.grad(log_probs.sum(), drawn_from)
        slopes = slopes[..., : self.network.layers[-1].out_features]
        return (slopes[..., :, None] * features[..., None, :]).flatten(-2)
