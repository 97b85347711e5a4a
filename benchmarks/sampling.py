"""Sampling alone: our env runner, and the least that any sampler has to do."""

from __future__ import annotations

import gymnasium
import numpy as np
import torch

import metairn.environments  # noqa: F401  # Registers the umbrella chain.
from benchmarks.contender import Contender, Work
from metairn.networks.policy import Policy


class RunnerSampling(Contender):
    """Our EpisodeEnvRunner's whole episodes.

    Args:
        work: which episodes.
    """

    def __init__(self, work: Work) -> None:
        # Not in the floor's process, whose memory is measured too.
        from benchmarks.rllib_training import experiment
        from metairn.intrinsic_attention_ppo.env_runner import EpisodeEnvRunner

        config = experiment(work.overrides).algorithm
        config.validate()
        self.runner = EpisodeEnvRunner(config=config, worker_index=0)
        self.wanted = work.env_steps
        self.sampled = 0

    def iterate(self) -> None:
        self.episodes = self.runner.sample(num_timesteps=self.wanted)

    def tidy(self) -> None:
        """Empties the runner's record of its episodes, which a training step does too."""
        self.runner.get_metrics()
        self.sampled += sum(len(episode) for episode in self.episodes)

    def env_steps(self) -> int:
        return self.sampled


class SamplingFloor(Contender):
    """The task's steps, the policy's forward pass and the draw of actions; nothing is recorded.

    Args:
        work: which episodes.
    """

    def __init__(self, work: Work) -> None:
        made = gymnasium.make_vec(work.env, work.num_envs, "vector_entry_point", length=work.length)
        self.task = made.unwrapped.task
        self.policy = Policy(
            self.task.observation_size, self.task.num_actions, True, work.hidden_sizes
        )
        self.work = work
        self.draws = torch.Generator().manual_seed(0)
        self.steps = 0

    @torch.inference_mode()
    def iterate(self) -> None:
        observations = self.task.reset(np.random.default_rng(self.steps), self.work.num_envs)
        for _ in range(self.work.length):
            inputs = self.policy(torch.as_tensor(observations))
            actions = self.policy.actions.sample(inputs, self.draws)
            observations, _, _, _ = self.task.step(actions.numpy())
        self.steps += self.work.env_steps

    def env_steps(self) -> int:
        return self.steps
