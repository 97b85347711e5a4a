"""The parts of a module that learn, each as one vector: sum over learners, clip, Adam."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import torch
from ray.rllib.utils.schedules.scheduler import Scheduler
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from metairn.intrinsic_attention_ppo.rllib_workarounds import reduce_sum
from metairn.objectives.meta_gradient import flatten


class Parts:
    """Each part's parameters as windows on one vector, and one Adam over the vectors.

    Adam on one vector takes the time of Adam on one tensor, however many the part has.

    Args:
        modules: the parts by name; from here on their parameters share the vectors' memory.
        rates: each part's learning rate, or RLlib's schedule [[env steps, value], ...] of it.
    """

    def __init__(self, modules: Mapping[str, nn.Module], rates: Mapping[str, Any]) -> None:
        self.parameters = {name: list(module.parameters()) for name, module in modules.items()}
        self.vectors = {
            name: nn.Parameter(parameters_to_vector(parameters).detach())
            for name, parameters in self.parameters.items()
        }
        for name, vector in self.vectors.items():
            vector_to_parameters(vector.data, self.parameters[name])
        groups = [{"params": [vector]} for vector in self.vectors.values()]
        self.optimizer = torch.optim.Adam(groups, fused=True)
        self._schedules = [Scheduler(rates[name]) for name in modules]
        self.learning_rates: dict[str, float] = {}

    def follow_schedules(self, env_steps: int) -> None:
        """Sets each part's learning rate to what it is at this env step.

        RLlib knows one schedule per optimizer, and sets the rate after an update: a checkpoint
        would lack it.
        """
        for name, group, schedule in zip(
            self.vectors, self.optimizer.param_groups, self._schedules, strict=True
        ):
            group["lr"] = self.learning_rates[name] = float(schedule.update(timestep=env_steps))

    def forget(self, names: Iterable[str]) -> None:
        """Adam begins anew for the named parts."""
        for name in names:
            for moment in self.optimizer.state.get(self.vectors[name], {}).values():
                moment.zero_()

    def gradients(
        self, losses: Mapping[str, Tensor], create_graph: bool = False
    ) -> dict[str, list[Tensor]]:
        """Each part's gradient of its own loss, in one backward pass: parts share no parameters.

        Args:
            losses: of some parts.
            create_graph: whether the gradient can be differentiated again.
        """
        wanted = [p for name in losses for p in self.parameters[name]]
        found = iter(torch.autograd.grad(list(losses.values()), wanted, create_graph=create_graph))
        return {name: list(islice(found, len(self.parameters[name]))) for name in losses}

    @torch.no_grad()
    def step(
        self, gradients: Mapping[str, Sequence[Tensor]], max_norm: float | None
    ) -> dict[str, Tensor]:
        """Moves the named parts along their gradients; several learners exchange one message.

        Args:
            gradients: of each part that is to move, a tensor per parameter: this learner's share.
            max_norm: clips each part's gradient; None for no clipping.

        Returns:
            Each part's gradient norm before clipping.
        """
        total = reduce_sum(flatten(g for part in gradients.values() for g in part))
        sizes = [self.vectors[name].numel() for name in gradients]
        found = dict(zip(gradients, total.split(sizes), strict=True))
        norms = {name: torch.linalg.vector_norm(gradient) for name, gradient in found.items()}
        for name, vector in self.vectors.items():
            vector.grad = found.get(name)
            if vector.grad is not None and max_norm is not None:
                vector.grad.mul_((max_norm / (norms[name] + 1e-6)).clamp(max=1.0))
        self.optimizer.step()
        return norms
