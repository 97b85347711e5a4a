"""The training loop: whole episodes, one update, the actor's weights back to the runners."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.algorithms.ppo import PPO
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    LEARNER_RESULTS,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
)

from metairn.intrinsic_attention_ppo.config import IntrinsicAttentionPPOConfig
from metairn.intrinsic_attention_ppo.connectors import known_task, to_episode_batch
from metairn.intrinsic_attention_ppo.env_runner import EpisodeEnvRunner
from metairn.intrinsic_attention_ppo.rllib_workarounds import WholeEpisodes

if TYPE_CHECKING:
    from metairn.intrinsic_attention_ppo.learner import IntrinsicAttentionLearner


class IntrinsicAttentionPPO(PPO):
    """PPO whose advantages come from a CreditAssigner."""

    config: IntrinsicAttentionPPOConfig

    @classmethod
    def get_default_config(cls) -> AlgorithmConfig:
        """The tuned PPO."""
        return IntrinsicAttentionPPOConfig()

    def setup(self, config: AlgorithmConfig) -> None:
        """Builds runners and learners; evaluation runners are built when they are first needed."""
        self._evaluation_runners: dict[int, EpisodeEnvRunner] = {}
        self._lifetime: int | None = None
        super().setup(config)

    @property
    def env_steps(self) -> int:
        """Training env steps so far."""
        key = (ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME)
        return int(self.metrics.peek(key, default=0))

    def training_step(self) -> None:
        """One iteration: about `total_train_batch_size` env steps of whole episodes."""
        started = time.perf_counter()
        self._enter_lifetime()
        episodes = self._sample_episodes()
        if not episodes:
            return
        self._check_shares(len(episodes))
        sampled = time.perf_counter()
        results = self.learner_group.update(
            training_data=WholeEpisodes(episodes=episodes),
            timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: self.env_steps},
            round_index=self.training_iteration,
        )
        self.metrics.aggregate(results, key=LEARNER_RESULTS)
        self._sync_actor()
        figures = {
            "training_return_mean": float(np.mean([e.get_return() for e in episodes])),
            "sample_time_s": sampled - started,
            "learn_time_s": time.perf_counter() - sampled,
        }
        self.metrics.log_dict(figures, window=1)

    @property
    def env_config(self) -> dict[str, Any]:
        """Parameters of the environment that the present policy learns in."""
        given, lifetimes = dict(self.config.env_config), self.config.lifetimes
        if lifetimes is None:
            return given
        return given | lifetimes.task(self._lifetime or 0, self.config.seed or 0)

    def _enter_lifetime(self) -> None:
        """At a lifetime's first iteration, or the first one after a checkpoint was restored."""
        lifetimes, now = self.config.lifetimes, self.training_iteration
        if lifetimes is None or lifetimes.index(now) == self._lifetime:
            return
        self._lifetime = index = lifetimes.index(now)
        env_config, begins = self.env_config, now % lifetimes.iterations == 0
        self._of_learners(lambda learner: learner.enter_lifetime(index, env_config, begins))
        self.env_runner_group.foreach_env_runner(
            lambda runner: runner.change_environment(env_config),
            local_env_runner=self.config.num_env_runners == 0,
        )
        self._stop_evaluation_runners()
        self._sync_actor()

    def _sync_actor(self) -> None:
        """Gives the runners the policy that was learned."""
        if self.env_runner_group.num_remote_env_runners() == 0:
            # RLlib would send it through the object store to this same process.
            self.env_runner_group.local_env_runner.module.set_state(self._actor_state())
        else:
            self.env_runner_group.sync_weights(
                from_worker_or_learner_group=self.learner_group, inference_only=True
            )

    def _check_shares(self, num_episodes: int) -> None:
        """Refuses too few episodes: a learner that did so by itself would leave others waiting.

        Raises:
            ValueError: if a learner's minibatches would lack episodes.
        """
        learners = max(1, self.config.num_learners)
        settings = self.config.credit_assigner_settings
        # With meta_steps, minibatches are the policy's alone.
        halved = settings.get("outer_data") == "held_out" and not settings.get("meta_steps")
        halves = 2 if halved else 1
        if num_episodes // learners < halves * self.config.num_minibatches:
            raise ValueError(
                f"{num_episodes} episodes are too few for {learners} learners with "
                f"num_minibatches={self.config.num_minibatches} of at least {halves} episodes: "
                "raise train_batch_env_steps."
            )

    def _sample_episodes(self) -> list[SingleAgentEpisode]:
        runners = max(1, self.env_runner_group.num_healthy_remote_env_runners())
        share = math.ceil(self.config.total_train_batch_size / runners)
        round_index = self.training_iteration

        def sample(runner: EpisodeEnvRunner) -> tuple[list[SingleAgentEpisode], Any]:
            runner.sampling_round = round_index
            return runner.sample(num_timesteps=share), runner.get_metrics()

        results = self.env_runner_group.foreach_env_runner(
            sample, local_env_runner=self.config.num_env_runners == 0
        )
        self.metrics.aggregate([metrics for _, metrics in results], key=ENV_RUNNER_RESULTS)
        return [episode for episodes, _ in results for episode in episodes]

    def iteration_metrics(self, result: dict[str, Any]) -> dict[str, float]:
        """The figures of one iteration, by the names that run records use.

        Args:
            result: what `train` returned.
        """
        names = ("training_return_mean", "sample_time_s", "learn_time_s")
        learner = result[LEARNER_RESULTS][DEFAULT_MODULE_ID]
        wanted = (
            "policy_loss", "value_loss_extrinsic", "value_loss_mixed", "credit_loss", "entropy",
            "kl", "intrinsic_reward_mean", "intrinsic_reward_std", "credit_on_cause",
            "meta_gradient_norm", "outer_loss",
        )  # fmt: skip
        figures = {name: float(result[name]) for name in names}
        return figures | {name: float(learner[name]) for name in wanted if name in learner}

    def evaluate_policy(
        self, num_episodes: int, explore: bool, round_index: int
    ) -> list[SingleAgentEpisode]:
        """Fresh episodes of the current policy; neither training nor its step count notices.

        Args:
            num_episodes: how many.
            explore: the policy as it acts (True) or its mode (False).
            round_index: which evaluation of the run this is; seeds its episodes.
        """
        # Which episodes come out depends on the slots, so those must not depend on earlier calls.
        slots = min(num_episodes, 100)
        if slots not in self._evaluation_runners:
            config = self.config.copy(copy_frozen=False)
            config.in_evaluation = True
            changes = {} if self.task is None else self.task.evaluation_parameters
            config.env_config = {**self.env_config, **changes}
            config.num_env_runners = 0
            config.num_envs_per_env_runner = slots
            self._evaluation_runners[slots] = EpisodeEnvRunner(config=config, worker_index=0)
        runner = self._evaluation_runners[slots]
        runner.module.set_state(self._actor_state())
        runner.sampling_round = round_index
        episodes = runner.sample(num_episodes=num_episodes, explore=explore)
        runner.get_metrics()  # Empties the runner's own record of its episodes.
        return episodes

    @property
    def task(self) -> Any | None:
        """The present environment's own account of itself, if it has one."""
        return known_task(self.config.env, self.env_config)

    def optimality(self, episodes: list[SingleAgentEpisode]) -> float | None:
        """(worth - random) / (optimal - random), worth being the mean of what the actions were.

        0 for the uniformly random policy and 1 for the best, on average; see
        BatchedTask.expected_returns. None where the environment does not know these.

        Args:
            episodes: of an evaluation.
        """
        task = self.task
        if task is None or task.random_return is None or task.optimal_return is None:
            return None
        batch = to_episode_batch(episodes).to_numpy()
        arrays = (batch["observations"][:, :-1], batch["actions"], batch["rewards"])
        worth = task.expected_returns(*arrays, batch["mask"].sum(axis=1)).mean()
        return float((worth - task.random_return) / (task.optimal_return - task.random_return))

    def _actor_state(self) -> dict[str, Any]:
        states = self.learner_group.get_state(
            components=f"learner/rl_module/{DEFAULT_MODULE_ID}", inference_only=True
        )
        return states["learner"]["rl_module"][DEFAULT_MODULE_ID]

    def credit_maps(self, episodes: list[SingleAgentEpisode]) -> dict[str, np.ndarray]:
        """What the method makes of some episodes: arrays for files and figures."""
        batch = to_episode_batch(episodes, self.task)
        return self._of_learners(lambda learner: learner.credit_maps(batch), first_only=True)[0]

    def save_credit_assigner(self, path: Path) -> None:
        """Writes what the method has learned, if it learns, into one small file for `pretrained`.

        Args:
            path: of the file, on a disk that the learners share.
        """
        chosen = self.config.credit_assigner
        if chosen.learns_by != "nothing" and not self.config.credit_assigner_settings.get("frozen"):
            name = str(path.absolute())
            self._of_learners(lambda learner: learner.save_credit_assigner(name), first_only=True)

    def _of_learners(
        self, call: Callable[[IntrinsicAttentionLearner], Any], first_only: bool = False
    ) -> list[Any]:
        """What a function returns for each learner; its errors are raised here."""
        group = self.learner_group
        found = list(group.foreach_learner(call, remote_actor_ids=[0] if first_only else None))
        for result in found:
            if not result.ok:
                raise result.get()
        return [result.get() for result in found]

    def cleanup(self) -> None:
        """Closes the evaluation environments too."""
        self._stop_evaluation_runners()
        super().cleanup()

    def _stop_evaluation_runners(self) -> None:
        for runner in self._evaluation_runners.values():
            runner.stop()
        self._evaluation_runners.clear()
