"""RLlib's episodes to an EpisodeBatch, in a handful of array operations for all of them."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from metairn.episodes import EpisodeBatch


def known_task(env: Any, env_config: dict[str, Any]) -> Any | None:
    """The environment's own account of its ground truth, if it has one (`env.unwrapped.task`)."""
    if not isinstance(env, str):
        return None
    return getattr(gymnasium.make(env, **env_config).unwrapped, "task", None)


def to_episode_batch(episodes: list[SingleAgentEpisode], task: Any | None = None) -> EpisodeBatch:
    """Pads whole, numpy'ized episodes into one batch.

    Args:
        episodes: finished episodes with action_logp and action_dist_inputs.
        task: states the ground-truth credit; None if unknown.
    """
    batch = EpisodeBatch.from_arrays(
        observations=[e.get_observations() for e in episodes],
        actions=[e.get_actions() for e in episodes],
        rewards=[e.get_rewards() for e in episodes],
        terminated=[e.is_terminated for e in episodes],
        behaviour_log_probs=[e.get_extra_model_outputs(Columns.ACTION_LOGP) for e in episodes],
        behaviour_inputs=[e.get_extra_model_outputs(Columns.ACTION_DIST_INPUTS) for e in episodes],
    )
    if task is None:
        return batch
    arrays = batch.to_numpy()
    lengths = arrays["mask"].sum(axis=1)
    truth = task.ground_truth_credit(
        arrays["observations"][:, :-1], arrays["actions"], arrays["rewards"], lengths
    )
    return EpisodeBatch.from_numpy({**arrays, "ground_truth": np.asarray(truth)})


class EpisodesToEpisodeBatch(ConnectorV2):
    """Puts an EpisodeBatch where RLlib would put a dictionary of flat columns.

    Args:
        input_observation_space: given by RLlib.
        input_action_space: given by RLlib.
        env: environment id, asked for its ground truth.
        env_config: its keyword arguments.
    """

    def __init__(
        self,
        input_observation_space: Any = None,
        input_action_space: Any = None,
        *,
        env: Any = None,
        env_config: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(input_observation_space, input_action_space)
        self.task = known_task(env, env_config or {})

    def __call__(
        self, *, batch: dict[str, Any], episodes: list[SingleAgentEpisode], **kwargs: Any
    ) -> dict[str, Any]:
        """Adds the batch under the module's id."""
        batch[DEFAULT_MODULE_ID] = to_episode_batch(episodes, self.task)
        return batch
