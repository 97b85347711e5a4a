"""Where RLlib 2.60 is bent, each with the reason; tests fail once Ray no longer needs one.

The env runner's own sampling loop and the learner's own update are replacements rather than
workarounds and are explained where they stand.
"""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.training_data import TrainingData
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME
from torch import Tensor


class WholeEpisodes(TrainingData):
    """Training data that is split between learners by whole episodes.

    RLlib's TrainingData.shard cuts episodes in the middle so that all learners get equally many
    steps; a cut episode has lost the rewards that its actions are to be credited with.
    """

    def shard(
        self, num_shards: int, len_lookback_buffer: int | None = None, **kwargs: Any
    ) -> list[tuple[TrainingData, dict[str, Any]]]:
        """Deals the episodes out in turn: counts differ by one at most."""
        episodes = self.episodes or []
        if len(episodes) < num_shards:
            raise ValueError(
                f"{len(episodes)} episodes cannot be shared between {num_shards} learners: "
                "raise train_batch_env_steps or lower num_learners."
            )
        return [(WholeEpisodes(episodes=episodes[i::num_shards]), {}) for i in range(num_shards)]


def is_distributed() -> bool:
    """Whether this process is one of several learners."""
    return torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1


class _AllReduceSum(torch.autograd.Function):
    """Sum over learners whose derivative is again a sum over learners.

    RLlib wraps modules in DistributedDataParallel instead, which cannot work here: it wants every
    parameter used in each backward pass and only sees gradients of forward passes through itself.
    """

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _AllReduceSum.apply(gradient.contiguous())


def reduce_sum(tensor: Tensor) -> Tensor:
    """The sum of a tensor over all learners, differentiable as often as one likes."""
    return _AllReduceSum.apply(tensor) if is_distributed() else tensor


@torch.no_grad()
def reduce_gradients(gradients: list[Tensor]) -> list[Tensor]:
    """Gradients summed over all learners, in one message."""
    if not is_distributed():
        return gradients
    flat = torch.cat([g.reshape(-1) for g in gradients])
    torch.distributed.all_reduce(flat)
    parts = flat.split([g.numel() for g in gradients])
    return [part.view_as(g) for part, g in zip(parts, gradients, strict=True)]


@torch.no_grad()
def broadcast_parameters(module: torch.nn.Module) -> None:
    """Gives every learner the first learner's parameters and buffers."""
    if is_distributed():
        for tensor in [*module.parameters(), *module.buffers()]:
            torch.distributed.broadcast(tensor, src=0)


def follow_schedules(learner: Any, timesteps: dict[str, Any]) -> float:
    """Sets the learning rates to what they are at this env step; returns the entropy coefficient.

    RLlib does so after each update and keeps the result, which a checkpoint then lacks.

    Args:
        learner: a PPOTorchLearner.
        timesteps: env steps so far.
    """
    env_steps = timesteps.get(NUM_ENV_STEPS_SAMPLED_LIFETIME, 0)
    for optimizer, schedule in learner._optimizer_lr_schedules.items():
        learner._set_optimizer_lr(optimizer, lr=schedule.update(timestep=env_steps))
    entropy = learner.entropy_coeff_schedulers_per_module[DEFAULT_MODULE_ID]
    return float(entropy.update(timestep=env_steps))
