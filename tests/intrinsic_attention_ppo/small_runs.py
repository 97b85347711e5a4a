"""Training runs without Ray: one runner and one learner, in the test's own process."""

from typing import Any

import numpy as np
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME

from metairn.intrinsic_attention_ppo import IntrinsicAttentionPPOConfig
from metairn.intrinsic_attention_ppo.env_runner import EpisodeEnvRunner
from metairn.intrinsic_attention_ppo.rllib_workarounds import WholeEpisodes

UMBRELLA = "metairn.environments:metairn/UmbrellaChain-v0"


def small_config(
    env: str = UMBRELLA,
    env_config: dict[str, Any] | None = None,
    num_envs: int = 10,
    seed: int | None = 0,
    steps: int = 200,
    **training: Any,
) -> IntrinsicAttentionPPOConfig:
    """A configuration that trains in milliseconds; `training` overrides its training options."""
    if env_config is None:
        env_config = {"length": 10} if env == UMBRELLA else {}
    options = {"num_epochs": 3, "hidden_sizes": (16,), "train_batch_size_per_learner": steps}
    config = IntrinsicAttentionPPOConfig()
    config.environment(env, env_config=env_config)
    config.env_runners(num_envs_per_env_runner=num_envs)
    config.debugging(seed=seed, log_level="ERROR")
    return config.training(**(options | training))


def runner_of(config: IntrinsicAttentionPPOConfig, worker_index: int = 0) -> EpisodeEnvRunner:
    """The runner of a validated configuration."""
    config.validate()
    return EpisodeEnvRunner(config=config, worker_index=worker_index)


class SmallRun:
    """Samples, learns and syncs as `IntrinsicAttentionPPO.training_step` does.

    Args:
        config: what to run.
    """

    def __init__(self, config: IntrinsicAttentionPPOConfig) -> None:
        self.config = config
        self.runner = runner_of(config)
        env = self.runner.env
        spaces = (env.single_observation_space, env.single_action_space)
        self.learner = config.build_learner(spaces={DEFAULT_MODULE_ID: spaces})
        self.round = 0
        self.env_steps = 0
        self.sync()

    @property
    def networks(self):
        """Actor, value heads and credit assigner."""
        return self.learner.networks

    def sync(self) -> None:
        """Gives the runner the learner's actor."""
        self.runner.module.set_state(self.networks.get_state(inference_only=True))

    def sample(self) -> list[SingleAgentEpisode]:
        """The episodes of this round."""
        self.runner.sampling_round = self.round
        return self.runner.sample(num_timesteps=self.config.total_train_batch_size)

    def learn(self, episodes: list[SingleAgentEpisode]) -> dict[str, float]:
        """One update and what it measured."""
        self.env_steps += sum(len(episode) for episode in episodes)
        results = self.learner.update(
            training_data=WholeEpisodes(episodes=episodes),
            timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: self.env_steps},
            round_index=self.round,
        )
        self.round += 1
        self.sync()
        measured = sorted(results[DEFAULT_MODULE_ID].items())
        # RLlib counts parameters in the first update only.
        return {k: float(v.peek()) for k, v in measured if not k.startswith("num_")}

    def train(self, iterations: int) -> list[dict[str, float]]:
        """That many iterations; what each measured."""
        return [self.learn(self.sample()) for _ in range(iterations)]

    def state(self) -> dict[str, torch.Tensor]:
        """A copy of all parameters and buffers, and of what the optimizers remember."""
        state = {name: value.clone() for name, value in self.networks.state_dict().items()}
        for name, optimizer in self.learner._named_optimizers.items():
            for index, memory in enumerate(optimizer.state_dict()["state"].values()):
                state |= {f"{name}.{index}.{k}": v.clone() for k, v in memory.items()}
        return state


def differing(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """Names of the entries that are not equal bit for bit; all names must be the same."""
    assert first.keys() == second.keys()
    return [k for k in first if not np.array_equal(np.asarray(first[k]), np.asarray(second[k]))]
