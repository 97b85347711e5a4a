"""An env runner that returns whole episodes, stepping all environments with one policy forward.

It replaces RLlib's sampling loop because that loop, asked for complete episodes, re-seeds the
environments to the same episodes on every call and keeps the first to finish, which favours short
ones. Here every started episode is finished and returned.
"""

from __future__ import annotations

import secrets
from typing import Any

import numpy as np
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.env.env_runner import ENV_STEP_FAILURE
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.env.utils.infinite_lookback_buffer import InfiniteLookbackBuffer

from metairn.intrinsic_attention_ppo.random_streams import Stream, derive_seed

# Attempts to sample from an environment that fails and is replaced each time.
MAX_ATTEMPTS = 5


class EpisodePlan:
    """Decides which slots start another episode, without looking at how episodes turn out.

    Args:
        num_steps: start episodes until those under way are expected to bring this many env steps.
        num_episodes: or start exactly this many.
        episode_length: steps of an episode where all have the same number; None if they vary.
    """

    def __init__(
        self, num_steps: int | None, num_episodes: int | None, episode_length: int | None
    ) -> None:
        self.num_steps = num_steps
        self.num_episodes = num_episodes
        self.episode_length = episode_length
        self.started = 0
        self.finished = 0
        self.steps_finished = 0

    def start(self) -> bool:
        """Whether one more episode is to be started; counts it if so."""
        if self.num_episodes is not None:
            wanted = self.started < self.num_episodes
        else:
            expected = self.episode_length or self.steps_finished / max(self.finished, 1)
            coming = self.steps_finished + (self.started - self.finished) * expected
            wanted = coming < (self.num_steps or 0)
        self.started += wanted
        return wanted

    def finish(self, num_steps: int) -> None:
        """Counts an episode that ended after this many steps."""
        self.finished += 1
        self.steps_finished += num_steps


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
        task = getattr(self.env.unwrapped, "task", None) if self.env is not None else None
        self._episode_length = getattr(task, "fixed_episode_length", None)

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
        self._done_episodes_for_metrics.extend(episodes)
        num_steps = int(plan.steps_finished)
        self._log_env_steps(metric=self._metrics_num_env_steps_sampled, num_steps=num_steps)
        self._increase_sampled_metrics(num_steps, len(episodes))
        return episodes

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
        trace = _Trace([np.array(observations, dtype=np.float32)])
        spans: list[tuple[int, int, int, bool]] = []
        while running.any():
            inputs, actions = self._act(observations, generator, explore, random_actions)
            results = self._try_env_step(self._clipped(actions))
            if isinstance(results, str) and results == ENV_STEP_FAILURE:
                return None
            observations, rewards, terminated, truncated, _ = results
            trace.append(observations, actions, rewards, inputs)
            now = len(trace)
            # A slot that starts again spends the next step on its reset: first is ahead of now.
            ended = running & (first < now) & (terminated | truncated)
            for slot in np.flatnonzero(ended):
                plan.finish(now - int(first[slot]))
                spans.append((int(slot), int(first[slot]), now, bool(terminated[slot])))
                first[slot] = now + 1
                running[slot] = plan.start()
        return self._episodes(trace, spans) if spans else []

    def _act(
        self, observations: np.ndarray, generator: torch.Generator, explore: bool, at_random: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        policy = self.module.unwrapped().actor
        inputs = policy(torch.as_tensor(observations, dtype=torch.float32, device=self._device))
        if at_random:
            return inputs.cpu().numpy(), self.env.action_space.sample()
        act = policy.actions
        actions = act.sample(inputs, generator) if explore else act.mode(inputs)
        return inputs.cpu().numpy(), actions.cpu().numpy()

    def _clipped(self, actions: np.ndarray) -> np.ndarray:
        """Continuous actions cut to what the environment allows; learning uses the ones drawn."""
        space = self.env.single_action_space
        return np.clip(actions, space.low, space.high) if hasattr(space, "low") else actions

    def _episodes(
        self, trace: _Trace, spans: list[tuple[int, int, int, bool]]
    ) -> list[SingleAgentEpisode]:
        observations, actions, rewards, inputs = trace.by_slot()
        policy = self.module.unwrapped().actor
        log_probs = (
            policy.actions.log_prob(
                torch.as_tensor(inputs, device=self._device),
                torch.as_tensor(actions, device=self._device),
            )
            .cpu()
            .numpy()
        )

        def part(array: np.ndarray, slot: int, start: int, stop: int) -> InfiniteLookbackBuffer:
            buffer = InfiniteLookbackBuffer(data=array[slot, start:stop])
            buffer.finalized = True  # It is an array already; to_numpy would only copy it.
            return buffer

        return [
            SingleAgentEpisode(
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
                observation_space=self.env.single_observation_space,
                action_space=self.env.single_action_space,
                len_lookback_buffer=0,
            )
            for slot, start, stop, terminated in spans
        ]


class _Trace:
    """All slots' steps in the order in which they were taken."""

    def __init__(self, observations: list[np.ndarray]) -> None:
        self.observations = observations
        self.steps: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def __len__(self) -> int:
        return len(self.steps)

    def append(
        self,
        observations: np.ndarray,
        actions: np.ndarray,
        rewards: np.ndarray,
        inputs: np.ndarray,
    ) -> None:
        # Vector environments may reuse their observation buffer, so keep a copy.
        self.observations.append(np.array(observations, dtype=np.float32))
        self.steps.append((actions, np.array(rewards, dtype=np.float32), inputs))

    def by_slot(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Observations [slots, steps+1, D], actions, rewards and inputs [slots, steps, ...]."""
        actions, rewards, inputs = zip(*self.steps, strict=True)
        columns = (self.observations, actions, rewards, inputs)
        return tuple(np.ascontiguousarray(np.stack(c).swapaxes(0, 1)) for c in columns)  # type: ignore[return-value]
