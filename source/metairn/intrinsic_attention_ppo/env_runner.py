"""An env runner that returns whole episodes, stepping all environments with one policy forward.

It replaces RLlib's sampling loop because that loop, asked for complete episodes, re-seeds the
environments to the same episodes on every call and keeps the first to finish, which favours short
ones. Here every started episode is finished and returned.
"""

from __future__ import annotations

import logging
import secrets
from typing import Any

import numpy as np
import torch
from gymnasium.wrappers.vector import DictInfoToList
from ray.rllib.core.columns import Columns
from ray.rllib.env.env_runner import NUM_ENV_STEP_FAILURES_LIFETIME
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.env.utils.infinite_lookback_buffer import InfiniteLookbackBuffer

from metairn.intrinsic_attention_ppo.episode_plan import EpisodePlan, Trace
from metairn.intrinsic_attention_ppo.random_streams import Stream, derive_seed
from metairn.networks.policy import Policy

logger = logging.getLogger(__name__)

# Attempts to sample from an environment that fails and is replaced each time.
MAX_ATTEMPTS = 5


class EpisodeEnvRunner(SingleAgentEnvRunner):
    """Samples whole episodes; the same seed, round and weights give the same episodes, bit for bit.

    Attributes:
        stream: what the episodes are for; evaluation shares no random numbers with training.
        sampling_round: number of the next call of `sample`; callers may set it.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        evaluates = self.config.in_evaluation
        self.stream = Stream.EVALUATION_EPISODES if evaluates else Stream.TRAINING_EPISODES
        self.sampling_round = 0
        seed = self.config.seed
        self._base_seed = seed if seed is not None else secrets.randbits(63)
        self._note_episode_length()

    def change_environment(self, env_config: dict[str, Any]) -> None:
        """Goes on with another environment of the same kind.

        Args:
            env_config: its parameters.
        """
        changed = self.config.copy(copy_frozen=False)
        changed.env_config = env_config
        self.config: Any = changed
        self.make_env()
        self._note_episode_length()

    def _note_episode_length(self) -> None:
        task = getattr(self.env.unwrapped, "task", None) if self.env is not None else None
        self._episode_length = getattr(task, "fixed_episode_length", None)

    @property
    def _policy(self) -> Policy:
        return self.module.unwrapped().actor

    def _sample(
        self,
        *,
        num_timesteps: int | None = None,
        num_episodes: int | None = None,
        explore: bool,
        random_actions: bool = False,
        force_reset: bool = False,
    ) -> list[SingleAgentEpisode]:
        """Whole episodes, worth about `num_timesteps` env steps or exactly `num_episodes`."""
        use = (self.worker_index or 0, self.sampling_round)
        self._use = f"{self.worker_index or 0}-{self.sampling_round}"
        self.sampling_round += 1
        for attempt in range(MAX_ATTEMPTS):  # More than one only if an environment was replaced.
            plan = EpisodePlan(num_timesteps, num_episodes, self._episode_length)
            # Another seed, or a failure that depends on it would come again.
            seed = derive_seed(self._base_seed, self.stream, *use, *([attempt] if attempt else []))
            episodes = self._run(plan, seed, explore, random_actions)
            if episodes is not None:
                break
        else:
            raise RuntimeError(f"The environment failed in {MAX_ATTEMPTS} attempts to sample it.")
        num_steps = int(plan.steps_finished)
        self._done_episodes_for_metrics.extend(episodes)
        self._log_env_steps(metric=self._metrics_num_env_steps_sampled, num_steps=num_steps)
        self._increase_sampled_metrics(num_steps, len(episodes))
        return episodes

    def get_metrics(self) -> dict[str, Any]:
        """RLlib's figures of the episodes since last asked.

        Of all at once: RLlib notes each episode's, in as much time as it took to build them.
        """
        episodes = self._done_episodes_for_metrics
        figures: dict[str, list[float]] = {
            "episode_len": [len(episode) for episode in episodes],
            "episode_return": [float(episode.rewards.data.sum()) for episode in episodes],
        }
        for name, values in figures.items() if episodes else ():
            self.metrics.log_value(f"{name}_mean", float(np.mean(values)), window=1)
            self.metrics.log_value(f"{name}_min", min(values), reduce="min", window=1)
            self.metrics.log_value(f"{name}_max", max(values), reduce="max", window=1)
        episodes.clear()
        return self.metrics.reduce()

    @torch.inference_mode()
    def _run(
        self, plan: EpisodePlan, seed: int, explore: bool, random_actions: bool
    ) -> list[SingleAgentEpisode] | None:
        """Steps all slots until every started episode has ended; None if an environment failed."""
        generator = torch.Generator(device=self._device).manual_seed(seed)
        self.env.action_space.seed(seed % 2**31)
        observations, _ = self._try_env_reset(seed=seed % 2**31)
        running = np.array([plan.start() for _ in range(self.num_envs)])
        first = np.zeros(self.num_envs, dtype=np.int64)
        trace = Trace(observations)
        spans: list[tuple[int, int, int, bool]] = []
        policy = self._policy
        while running.any():
            ended = None
            while ended is None or not ended.any():
                inputs = policy(
                    torch.as_tensor(observations, dtype=torch.float32, device=self._device)
                )
                actions = self._actions(policy, inputs, generator, explore, random_actions)
                results = self._step(self._clipped(actions))
                if results is None:
                    return None
                observations, rewards, terminated, truncated, _ = results
                trace.append(observations, actions, rewards, inputs.cpu().numpy())
                ended = terminated | truncated
            now = len(trace)
            # A slot that starts again spends the next step on its reset: first is ahead of now.
            for slot in np.flatnonzero(ended & running & (first < now)):
                plan.finish(now - int(first[slot]))
                spans.append((int(slot), int(first[slot]), now, bool(terminated[slot])))
                first[slot] = now + 1
                running[slot] = plan.start()
        return self._episodes(trace, spans) if spans else []

    def _step(self, actions: np.ndarray) -> Any | None:
        """Steps all slots; None if that failed and the environment was replaced.

        RLlib's own way takes notes at every step, and turns information into a list of dictionaries
        that nobody reads: together as much time as the step itself.
        """
        wrapped = isinstance(self.env, DictInfoToList)
        try:
            return (self.env.env if wrapped else self.env).step(actions)
        except Exception as error:
            self.metrics.log_value(NUM_ENV_STEP_FAILURES_LIFETIME, 1, reduce="lifetime_sum")
            if not self.config.restart_failed_sub_environments:
                raise RuntimeError(f"The environment failed: {error}") from error
            logger.exception("The environment failed and is made anew.")
            self.make_env()
            return None

    def _actions(
        self,
        policy: Policy,
        inputs: torch.Tensor,
        generator: torch.Generator,
        explore: bool,
        at_random: bool,
    ) -> np.ndarray:
        if at_random:
            return self.env.action_space.sample()
        act = policy.actions
        return (act.sample(inputs, generator) if explore else act.mode(inputs)).cpu().numpy()

    def _clipped(self, actions: np.ndarray) -> np.ndarray:
        """Continuous actions cut to what the environment allows; learning uses the ones drawn."""
        space = self.env.single_action_space
        return np.clip(actions, space.low, space.high) if hasattr(space, "low") else actions

    def _episodes(
        self, trace: Trace, spans: list[tuple[int, int, int, bool]]
    ) -> list[SingleAgentEpisode]:
        observations, actions, rewards, inputs = trace.by_slot()
        log_probs = (
            self._policy.actions.log_prob(
                torch.as_tensor(inputs, device=self._device),
                torch.as_tensor(actions, device=self._device),
            )
            .cpu()
            .numpy()
        )

        def part(array: np.ndarray, slot: int, start: int, stop: int) -> InfiniteLookbackBuffer:
            return InfiniteLookbackBuffer(array[slot, start:stop])

        return [
            SingleAgentEpisode(
                # By default a random name: the system's entropy costs more than the episode.
                id_=f"{self._use}-{slot}-{start}",
                observations=part(observations, slot, start, stop + 1),
                infos=InfiniteLookbackBuffer(data=[{}] * (stop + 1 - start)),
                actions=part(actions, slot, start, stop),
                rewards=part(rewards, slot, start, stop),
                terminated=terminated,
                truncated=not terminated,
                extra_model_outputs={
                    Columns.ACTION_LOGP: part(log_probs, slot, start, stop),
                    Columns.ACTION_DIST_INPUTS: part(inputs, slot, start, stop),
                },
                len_lookback_buffer=0,
            )
            for slot, start, stop, terminated in spans
        ]
