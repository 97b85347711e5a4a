"""A `BatchedTask` as a gymnasium environment, alone or vectorised, and the registration of all.

Every task in this room is registered as `metairn/<ClassName>-v0`, so
`gymnasium.make("metairn.environments:metairn/UmbrellaChain-v0", length=5)` works in a process
that has imported nothing of ours, such as a rollout worker.
"""

import importlib
import inspect
import pkgutil
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from metairn.environments.task import Array, BatchedTask, whole_number


def _spaces(task: BatchedTask) -> tuple[gymnasium.spaces.Box, gymnasium.spaces.Discrete[np.int64]]:
    bounds = np.zeros((2, task.observation_size), dtype=np.float32)
    bounds[0], bounds[1] = task.observation_low, task.observation_high
    box = gymnasium.spaces.Box(bounds[0], bounds[1], dtype=np.float32)
    return box, gymnasium.spaces.Discrete(task.num_actions)


class TaskEnv(gymnasium.Env[Array, np.int64]):
    """One slot of a task as a gymnasium environment.

    Args:
        task_class: the task, for instance `UmbrellaChain`.
        **parameters: the keyword arguments of the task's constructor.

    Raises:
        ValueError: if a parameter is outside its range.
    """

    # Gymnasium declares this as no ClassVar, so neither may we.
    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012

    def __init__(self, task_class: type[BatchedTask], **parameters: Any) -> None:
        self.task = task_class(**parameters)
        self.observation_space, self.action_space = _spaces(self.task)
        self._running = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Start an episode; without a seed the random stream goes on where it was.

        Args:
            seed: seeds the environment's one generator; None continues it.
            options: ignored.

        Returns:
            The first observation (D,) float32, and an empty dict.
        """
        super().reset(seed=seed)
        self._running = True
        return self.task.reset(self.np_random, 1)[0], {}

    def step(self, action: int | np.int64) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Take one step.

        Args:
            action: an element of the action space.

        Returns:
            observation (D,) float32, reward, terminated, truncated, and an empty dict.

        Raises:
            ValueError: if the action is not in the action space.
            RuntimeError: if no episode is running.
        """
        if not self.action_space.contains(action):
            raise ValueError(
                f"action={action!r} is not allowed: it must be in {self.action_space}."
            )
        if not self._running:
            raise RuntimeError("No episode is running: call reset first.")
        observations, rewards, terminated, truncated = self.task.step(np.array([action]))
        self._running = not (terminated[0] or truncated[0])
        return observations[0], float(rewards[0]), bool(terminated[0]), bool(truncated[0]), {}


class TaskVectorEnv(VectorEnv[Array, Array, Array]):
    """All slots of a task as one natively vectorised gymnasium environment.

    Autoreset is gymnasium's NEXT_STEP: the step after the end of a slot's episode ignores that
    slot's action, starts a fresh episode there, and returns its first observation with reward 0,
    terminated False and truncated False. One generator serves all slots.

    Args:
        task_class: the task, for instance `UmbrellaChain`.
        num_envs: number of slots, n, at least 1.
        **parameters: the keyword arguments of the task's constructor.

    Raises:
        ValueError: if a parameter is outside its range.

    Source: https://farama.org/Vector-Autoreset-Mode
    """

    metadata: dict[str, Any] = {  # noqa: RUF012
        "render_modes": [],
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(self, task_class: type[BatchedTask], num_envs: int = 1, **parameters: Any) -> None:
        self.task = task_class(**parameters)
        self.num_envs = whole_number("num_envs", num_envs, at_least=1)
        self.single_observation_space, self.single_action_space = _spaces(self.task)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._ended = np.zeros(self.num_envs, dtype=np.bool_)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Start an episode in every slot; without a seed the random stream goes on where it was.

        Args:
            seed: seeds the one generator of all slots; None continues it.
            options: ignored.

        Returns:
            The first observations (n, D) float32, and an empty dict.
        """
        super().reset(seed=seed)
        self._ended = np.zeros(self.num_envs, dtype=np.bool_)
        return self.task.reset(self.np_random, self.num_envs), {}

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """Take one step in every running slot and restart those whose episode just ended.

        Args:
            actions: (n,) int; their range is not checked, for speed.

        Returns:
            observations (n, D) float32, rewards (n,) float32, terminated (n,) bool,
            truncated (n,) bool, and an empty dict.

        Raises:
            ValueError: if there is not exactly one action per slot, or reset was never called.
        """
        observations, rewards, terminated, truncated = self.task.step(np.asarray(actions))
        ended = self._ended
        if ended.any():
            # These slots were stepped beyond their end with the others; all of it is overwritten.
            observations = self.task.reset_where(ended)
            rewards[ended] = 0.0
            terminated[ended] = False
            truncated[ended] = False
        self._ended = terminated | truncated
        return observations, rewards, terminated, truncated, {}


def discover_tasks() -> list[type[BatchedTask]]:
    """Return every concrete `BatchedTask` defined in a module of this room, in order of module."""
    tasks: list[type[BatchedTask]] = []
    for module_info in pkgutil.iter_modules([str(Path(__file__).parent)]):
        module = importlib.import_module(f"{__package__}.{module_info.name}")
        tasks += [
            member
            for _, member in inspect.getmembers(module, inspect.isclass)
            if member.__module__ == module.__name__
            and issubclass(member, BatchedTask)
            and not inspect.isabstract(member)
        ]
    return tasks


def register_tasks() -> None:
    """Register every discovered task with gymnasium as `metairn/<ClassName>-v0`, once.

    No step limit is registered: a TimeLimit wrapper would turn a task's termination into a
    truncation, and a learner would then bootstrap from a final state.
    """
    for task_class in discover_tasks():
        name = f"metairn/{task_class.__name__}-v0"
        if name not in gymnasium.registry:
            gymnasium.register(
                id=name,
                entry_point=partial(TaskEnv, task_class),
                vector_entry_point=partial(TaskVectorEnv, task_class),
            )
