"""Where RLlib 2.60 is bent, each with the reason; tests fail once Ray no longer needs one.

The env runner's own sampling loop and the learner's own update are replacements rather than
workarounds and are explained where they stand.
"""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.core.learner.training_data import TrainingData
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
def broadcast_parameters(module: torch.nn.Module) -> None:
    """Gives every learner the first learner's parameters and buffers."""
    if is_distributed():
        for tensor in [*module.parameters(), *module.buffers()]:
            torch.distributed.broadcast(tensor, src=0)
