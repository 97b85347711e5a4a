"""Training on stable-baselines3's PPO, with the task natively vectorised for it.

Its vector environments that wrap single ones (DummyVecEnv, SubprocVecEnv) are far slower here.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv

import metairn.environments  # noqa: F401  # Registers the umbrella chain.
from benchmarks.contender import Contender, Work, optimizer_steps


class TaskVecEnv(VecEnv):
    """A task in stable-baselines3's own terms: a slot restarts in the step that ends its episode.

    Args:
        env: environment id of a task.
        num_envs: number of slots.
        seed: seeds the one generator of all slots.
        **parameters: the task's.
    """

    def __init__(self, env: str, num_envs: int, seed: int, **parameters: Any) -> None:
        made = gymnasium.make_vec(env, num_envs, "vector_entry_point", **parameters)
        self.task = made.unwrapped.task
        self.generator = np.random.default_rng(seed)
        super().__init__(num_envs, made.single_observation_space, made.single_action_space)

    def reset(self) -> np.ndarray:
        return self.task.reset(self.generator, self.num_envs)

    def step_async(self, actions: np.ndarray) -> None:
        self.actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        observations, rewards, terminated, truncated = self.task.step(self.actions)
        ended = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if ended.any():
            for slot in np.flatnonzero(ended):
                infos[slot] = {
                    "terminal_observation": observations[slot],
                    "TimeLimit.truncated": bool(truncated[slot]),
                }
            observations = self.task.reset_where(ended)
        return observations, rewards, ended, infos

    def close(self) -> None:
        """There is nothing to close."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self, attr_name, None)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise NotImplementedError("all slots are one task")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> Any:
        raise NotImplementedError("all slots are one task")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * self.num_envs


class StableBaselines3PPO(Contender):
    """PPO's `learn`, one turn of its loop at a time.

    Args:
        work: what to do.
    """

    def __init__(self, work: Work) -> None:
        hidden = list(work.hidden_sizes)
        self.env = TaskVecEnv(work.env, work.num_envs, seed=0, length=work.length)
        self.model = PPO(
            "MlpPolicy",
            self.env,
            learning_rate=work.learning_rate,
            n_steps=work.length,
            batch_size=work.env_steps // work.minibatches,
            n_epochs=work.epochs,
            gamma=work.discount,
            gae_lambda=work.gae_lambda,
            clip_range=work.clip,
            ent_coef=work.entropy_coefficient,
            max_grad_norm=work.max_gradient_norm,
            policy_kwargs={"net_arch": {"pi": hidden, "vf": hidden}},
            seed=0,
            device="cpu",
        )
        # `learn` would build a logger and callbacks anew in every call; once is enough.
        self.total, self.callback = self.model._setup_learn(total_timesteps=2**62)
        self.turns = 0

    def iterate(self) -> None:
        model = self.model
        model.collect_rollouts(self.env, self.callback, model.rollout_buffer, model.n_steps)
        self.turns += 1
        model._update_current_progress_remaining(model.num_timesteps, self.total)
        model.dump_logs(self.turns)
        model.train()

    def env_steps(self) -> int:
        return int(self.model.num_timesteps)

    def updates(self) -> int:
        return optimizer_steps(self.model.policy.optimizer)
