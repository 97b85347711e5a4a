"""What several tests share: episodes of any kind, made of random numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields

import numpy as np
import pytest
import torch

from metairn.episodes import EpisodeBatch, EpisodeSpec

OBSERVATION_SIZE, ACTION_SIZE = 3, 2

# Networks this small only lose time to threads, fifty times over on a busy machine.
torch.set_num_threads(1)

MakeEpisodes = Callable[..., EpisodeBatch]


def _random_episodes(
    lengths: Sequence[int] = (3, 5, 1, 4),
    discrete: bool = True,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> EpisodeBatch:
    """Episodes of these lengths, every other one cut by a time limit, all with a ground truth."""
    rng = np.random.default_rng(seed)

    def steps(*width: int, extra: int = 0) -> list[np.ndarray]:
        return [rng.normal(size=(n + extra, *width)).astype(np.float32) for n in lengths]

    indices = [rng.integers(ACTION_SIZE, size=n) for n in lengths]
    inputs = steps(ACTION_SIZE * (1 if discrete else 2))
    truth = np.zeros((len(lengths), max(lengths), max(lengths)), np.float32)
    for b, n in enumerate(lengths):
        truth[b, :n, :n] = np.triu(rng.uniform(size=(n, n)))
    return EpisodeBatch.from_arrays(
        observations=steps(OBSERVATION_SIZE, extra=1),
        actions=indices if discrete else steps(ACTION_SIZE),
        rewards=steps(),
        terminated=[b % 2 == 0 for b in range(len(lengths))],
        behaviour_log_probs=[-np.abs(array) - 0.3 for array in steps()],
        behaviour_inputs=inputs,
        ground_truth=truth,
    ).to(dtype)


@pytest.fixture(scope="session")
def random_episodes() -> MakeEpisodes:
    """Makes an EpisodeBatch; float64, so that tolerances can be tight."""
    return _random_episodes


@pytest.fixture(scope="session")
def make_spec() -> Callable[[bool], EpisodeSpec]:
    """The spec that random_episodes keep to, with discrete or with continuous actions."""
    return lambda discrete: EpisodeSpec(OBSERVATION_SIZE, ACTION_SIZE, discrete)


@pytest.fixture(scope="session")
def copy_of_tensors() -> Callable[..., list[torch.Tensor]]:
    """Clones of all tensors in batches, mappings and modules, to see later whether they changed."""

    def clones(*holders: object) -> list[torch.Tensor]:
        found: list[torch.Tensor] = []
        for holder in holders:
            if isinstance(holder, torch.Tensor):
                found.append(holder.detach().clone())
            elif isinstance(holder, torch.nn.Module):
                found += clones(holder.state_dict())
            elif isinstance(holder, dict):
                found += clones(*holder.values())
            elif hasattr(holder, "__dataclass_fields__"):
                found += clones(*(getattr(holder, f.name) for f in fields(holder)))
        return found

    return clones
