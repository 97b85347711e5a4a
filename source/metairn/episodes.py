"""Whole episodes as padded tensors: the one place where shapes, masks and padding are defined.

Credit assignment looks at an episode from its first to its last step, so nothing here is ever a
fragment of one. Steps are indexed t = 0 .. length-1; an episode has one observation more than it
has steps (the one it ended in).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class EpisodeSpec:
    """What the steps of an environment look like.

    Args:
        observation_size: D, numbers in one observation.
        action_size: number of discrete actions, or of numbers in a continuous one.
        discrete: whether an action is an index (True) or a vector (False).
    """

    observation_size: int
    action_size: int
    discrete: bool


@dataclass(frozen=True)
class EpisodeBatch:
    """B whole episodes, padded with zeros to the longest of T steps.

    Args:
        observations: o_0 .. o_length, the last being the one that the episode ended in.
        actions: a_t, int64 [B,T] for discrete actions, float [B,T,A] else.
        rewards: extrinsic r_t, in the environment's units.
        mask: true where step t exists.
        terminated: true where the environment ended the episode, so that nothing follows it;
            false where a time limit cut it, so that returns bootstrap from the last observation.
        behaviour_log_probs: log pi(a_t | o_t) of the policy that acted.
        behaviour_inputs: parameters of that policy's action distribution.
        ground_truth: share of the reward at j that the action at t caused [B,t,j]; None if unknown.
    """

    observations: Float[Tensor, "B Tp1 D"]
    actions: Int[Tensor, "B T"] | Float[Tensor, "B T A"]
    rewards: Float[Tensor, "B T"]
    mask: Bool[Tensor, "B T"]
    terminated: Bool[Tensor, "B"]
    behaviour_log_probs: Float[Tensor, "B T"]
    behaviour_inputs: Float[Tensor, "B T K"]
    ground_truth: Float[Tensor, "B T T"] | None = None

    @classmethod
    def from_arrays(
        cls,
        observations: Sequence[np.ndarray],
        actions: Sequence[np.ndarray],
        rewards: Sequence[np.ndarray],
        terminated: Sequence[bool],
        behaviour_log_probs: Sequence[np.ndarray],
        behaviour_inputs: Sequence[np.ndarray],
        ground_truth: np.ndarray | None = None,
    ) -> EpisodeBatch:
        """Pads one array per episode into a batch.

        Args:
            observations: per episode [length+1, D]; the other sequences [length, ...].
            ground_truth: already padded [B,T,T].

        Raises:
            ValueError: if there is no episode, or one without steps.
        """
        lengths = np.array([len(r) for r in rewards])
        if len(lengths) == 0 or lengths.min() < 1:
            raise ValueError("An EpisodeBatch needs at least one episode of at least one step.")
        mask = np.arange(lengths.max())[None, :] < lengths[:, None]
        obs_mask = np.arange(lengths.max() + 1)[None, :] <= lengths[:, None]
        steps = {
            "observations": _pad(observations, obs_mask, np.float32),
            "actions": _pad(actions, mask, None),
            "rewards": _pad(rewards, mask, np.float32),
            "behaviour_log_probs": _pad(behaviour_log_probs, mask, np.float32),
            "behaviour_inputs": _pad(behaviour_inputs, mask, np.float32),
        }
        discrete = np.issubdtype(steps["actions"].dtype, np.integer)
        steps["actions"] = steps["actions"].astype(np.int64 if discrete else np.float32)
        return cls(
            **{name: torch.from_numpy(array) for name, array in steps.items()},
            mask=torch.from_numpy(mask),
            terminated=torch.from_numpy(np.asarray(terminated, dtype=bool)),
            ground_truth=(
                None if ground_truth is None else torch.tensor(ground_truth, dtype=torch.float32)
            ),
        )

    @property
    def num_episodes(self) -> int:
        """B."""
        return self.rewards.shape[0]

    @property
    def num_steps(self) -> int:
        """Steps that exist, over all episodes."""
        return int(self.mask.sum())

    @property
    def lengths(self) -> Int[Tensor, "B"]:
        """Steps of each episode."""
        return self.mask.sum(dim=1)

    @property
    def is_last(self) -> Bool[Tensor, "B T"]:
        """True at the last step of each episode."""
        steps = torch.arange(self.mask.shape[1], device=self.mask.device)
        return steps[None, :] == (self.lengths - 1)[:, None]

    @property
    def acted_on(self) -> Float[Tensor, "B T D"]:
        """o_t, the observation that a_t answered."""
        return self.observations[:, :-1]

    def returns(self) -> Float[Tensor, "B"]:
        """Undiscounted extrinsic return of each episode."""
        return (self.rewards * self.mask).sum(dim=1)

    def next_values(self, values: Float[Tensor, "B Tp1"]) -> Float[Tensor, "B T"]:
        """V(o_{t+1}), which is 0 behind a terminal step and bootstraps behind a truncated one.

        Args:
            values: V(o_t) of every observation of the episode, the last one included.
        """
        ends = self.is_last & self.terminated[:, None]
        return values[:, 1:].masked_fill(ends, 0.0)

    def encoded_actions(self, spec: EpisodeSpec) -> Float[Tensor, "B T A"]:
        """Actions as network input: one-hot if discrete, as they are otherwise."""
        if spec.discrete:
            identity = torch.eye(
                spec.action_size, dtype=self.rewards.dtype, device=self.rewards.device
            )
            return identity[self.actions]
        return self.actions

    def select(self, episodes: Int[Tensor, "b"], num_steps: int | None = None) -> EpisodeBatch:
        """The batch of the named episodes.

        Args:
            episodes: which.
            num_steps: steps to keep, all that the episodes have; None for the longest of them,
                which on a GPU means to wait for the answer.
        """
        if num_steps is None:
            num_steps = int(self.lengths[episodes].max())
        chosen = self._map(lambda tensor: tensor.index_select(0, episodes))
        if num_steps == self.mask.shape[1]:
            return chosen
        whole = ("observations", "terminated", "ground_truth")
        steps = {f.name: getattr(chosen, f.name) for f in fields(self) if f.name not in whole}
        truth = chosen.ground_truth
        return replace(
            chosen,
            **{name: tensor[:, :num_steps] for name, tensor in steps.items()},
            observations=chosen.observations[:, : num_steps + 1],
            ground_truth=None if truth is None else truth[:, :num_steps, :num_steps],
        )

    @classmethod
    def concatenate(cls, batches: Sequence[EpisodeBatch]) -> EpisodeBatch:
        """All episodes in one batch, padded to the longest of them."""
        if len(batches) == 1:
            return batches[0]
        num_steps = max(batch.mask.shape[1] for batch in batches)
        padded = [batch._padded(num_steps) for batch in batches]
        joined: dict[str, Any] = {}
        for field in fields(cls):
            parts = [getattr(batch, field.name) for batch in padded]
            known = all(part is not None for part in parts)
            joined[field.name] = torch.cat(parts) if known else None
        return cls(**joined)

    def _padded(self, num_steps: int) -> EpisodeBatch:
        """The same episodes in tensors of so many steps."""
        more = num_steps - self.mask.shape[1]
        if more == 0:
            return self
        changed: dict[str, Any] = {}
        for field in fields(self):
            tensor = getattr(self, field.name)
            if tensor is None or field.name == "terminated":
                continue
            both = field.name == "ground_truth"
            # Pairs (before, after) from the last axis back to that of the steps.
            sides = [0, more] * 2 if both else [0, 0] * (tensor.dim() - 2) + [0, more]
            changed[field.name] = torch.nn.functional.pad(tensor, sides)
        return replace(self, **changed)

    def to(self, target: torch.device | torch.dtype) -> EpisodeBatch:
        """The same batch on another device, or with its floating numbers in another precision."""
        if isinstance(target, torch.device):
            return self._map(lambda tensor: tensor.to(target))
        return self._map(lambda tensor: tensor.to(target) if tensor.is_floating_point() else tensor)

    def to_numpy(self) -> dict[str, np.ndarray]:
        """The fields as arrays, for files; `EpisodeBatch.from_numpy` reads them back."""
        pairs = ((f.name, getattr(self, f.name)) for f in fields(self))
        return {name: tensor.cpu().numpy() for name, tensor in pairs if tensor is not None}

    @classmethod
    def from_numpy(cls, arrays: dict[str, np.ndarray]) -> EpisodeBatch:
        """The batch that `to_numpy` wrote."""
        return cls(**{name: torch.from_numpy(np.array(array)) for name, array in arrays.items()})

    def _map(self, change) -> EpisodeBatch:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        changed: dict[str, Any] = {n: None if v is None else change(v) for n, v in values.items()}
        return EpisodeBatch(**changed)


def _pad(arrays: Sequence[np.ndarray], mask: np.ndarray, dtype) -> np.ndarray:
    """Puts the arrays' rows where the mask is true, one array per row of it, in one assignment."""
    rows = np.concatenate(arrays)
    padded = np.zeros(mask.shape + rows.shape[1:], dtype=dtype or rows.dtype)
    padded[mask] = rows
    return padded
