"""The learner: PPO's update from a method's credit, and the outer update of that credit.

RLlib's update is replaced, not extended: it cuts episodes into steps, knows one loss and runs one
backward pass per minibatch. What remains of it is the frame: optimizers with schedules, metrics,
checkpoints, and several learners at once.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.core import COMPONENT_OPTIMIZER, DEFAULT_MODULE_ID
from ray.rllib.core.learner.training_data import TrainingData
from ray.rllib.utils.metrics import (
    ALL_MODULES,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_ENV_STEPS_TRAINED_LIFETIME,
)

from metairn.credit_assignment.pretrained import save_assigner
from metairn.episodes import EpisodeBatch
from metairn.intrinsic_attention_ppo.connectors import known_task
from metairn.intrinsic_attention_ppo.credit_update import CreditUpdate
from metairn.intrinsic_attention_ppo.losses import PolicyLoss
from metairn.intrinsic_attention_ppo.measurement import credit_maps, measure
from metairn.intrinsic_attention_ppo.parts import Parts
from metairn.intrinsic_attention_ppo.policy_update import PolicyUpdate
from metairn.intrinsic_attention_ppo.random_streams import Stream, derive_seed
from metairn.intrinsic_attention_ppo.rl_module import IntrinsicAttentionModule
from metairn.intrinsic_attention_ppo.rllib_workarounds import (
    broadcast_parameters,
    reduce_sum,
)
from metairn.intrinsic_attention_ppo.rollout import Horizon, make_rollout, split_into_minibatches
from metairn.networks.value import ValueHead


class TrainingDiverged(RuntimeError):
    """A loss or gradient is not a finite number."""


class IntrinsicAttentionLearner(PPOTorchLearner):
    """Inner update on extrinsic and learned credit, outer update on extrinsic return alone."""

    def build(self) -> None:
        """Builds module and optimizers, and gives all learners the same parameters."""
        super().build()
        self._round = 0
        self._generator = torch.Generator()
        self._credit_update = CreditUpdate(self)
        self._policy_update = PolicyUpdate(self, self._credit_update)
        broadcast_parameters(self.networks)

    @property
    def networks(self) -> IntrinsicAttentionModule:
        """The module with actor, value heads and credit assigner."""
        return self.module[DEFAULT_MODULE_ID].unwrapped()

    @property
    def extrinsic_horizon(self) -> Horizon:
        """gamma and lambda of the extrinsic return."""
        return Horizon(self.config.gamma, self.config.lambda_)

    @property
    def mixed_horizon(self) -> Horizon:
        """gamma and lambda of the return of r'."""
        assigner, own = self.networks.credit_assigner, self.extrinsic_horizon
        return Horizon(
            own.discount if assigner.discount is None else assigner.discount,
            own.gae_lambda if assigner.gae_lambda is None else assigner.gae_lambda,
        )

    @property
    def mixed_critic(self) -> ValueHead:
        """The value head that predicts the return of r'."""
        needed = self.networks.credit_assigner.needs_mixed_critic
        return self.networks.mixed_value if needed else self.networks.extrinsic_value

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """One Adam over the parts, each with its own learning rate, schedule and clipping."""
        networks = self.module[module_id].unwrapped()
        rates = {"actor": config.lr, "extrinsic_value": config.critic_lr}
        if networks.credit_assigner.needs_mixed_critic:
            rates["mixed_value"] = config.critic_lr
        if networks.credit_assigner.learns_by != "nothing":
            rates["credit_assigner"] = networks.credit_assigner.credit_learning_rate
        modules = {name: getattr(networks, name) for name in rates}
        self.parts = Parts(modules, rates)
        self.register_optimizer(
            module_id=module_id,
            optimizer=self.parts.optimizer,
            params=list(self.parts.vectors.values()),
            lr_or_lr_schedule=config.lr,
        )

    def _make_modules_ddp_if_necessary(self) -> None:
        """Nothing: gradients are summed explicitly (see rllib_workarounds)."""

    def update(  # type: ignore[override]
        self,
        *,
        training_data: TrainingData,
        timesteps: dict[str, Any] | None = None,
        round_index: int = 0,
        **kwargs: Any,
    ) -> Any:
        """All epochs over one batch of whole episodes.

        Args:
            training_data: episodes.
            timesteps: env steps so far, for schedules.
            round_index: number of this update; seeds the minibatches.

        Raises:
            TrainingDiverged: if a loss is not finite.
        """
        self.before_gradient_based_update(timesteps=timesteps or {})
        training_data.validate()
        training_data.solve_refs()
        self._weights_seq_no += 1
        env_steps = (timesteps or {}).get(NUM_ENV_STEPS_SAMPLED_LIFETIME, 0)
        self.parts.follow_schedules(env_steps)
        entropy = self.entropy_coeff_schedulers_per_module[DEFAULT_MODULE_ID]
        self.entropy_coefficient = float(entropy.update(timestep=env_steps))
        self._round = round_index
        seed = derive_seed(self.config.seed or 0, Stream.MINIBATCHES, round_index)
        self._generator.manual_seed(seed)

        batch = self._learner_connector(
            rl_module=self.module, batch={}, episodes=training_data.episodes, shared_data={}
        )
        episodes: EpisodeBatch = batch[DEFAULT_MODULE_ID].to(torch.device(self._device))
        if episodes.num_episodes < self.config.num_minibatches:
            raise ValueError(
                f"{episodes.num_episodes} episodes cannot be split into num_minibatches="
                f"{self.config.num_minibatches}: raise train_batch_env_steps."
            )
        self._log(self._learn(episodes), episodes.num_steps)
        self.after_gradient_based_update(timesteps=timesteps or {})
        return self.metrics.reduce()

    def _learn(self, episodes: EpisodeBatch) -> dict[str, float]:
        networks = self.networks
        critics = (networks.extrinsic_value, self.mixed_critic)
        rollout = make_rollout(episodes, *critics, self.extrinsic_horizon, reduce_sum)
        self._credit_update.begin(rollout)
        self._policy_update.update_scales(rollout)
        self._credit_update.before_policy(rollout.without_ground_truth())
        minibatches = split_into_minibatches(
            self._policy_update.prepared(rollout),
            self.config.num_epochs,
            self.config.num_minibatches,
            self._generator,
            reduce_sum,
        )
        step = self._policy_update.step
        losses = [step(minibatches, position) for position in range(len(minibatches))]
        means = {k: torch.stack([step[k] for step in losses]).mean() for k in losses[0]}
        metrics = {k: float(reduce_sum(v)) for k, v in means.items()}
        metrics |= self._credit_update.metrics()
        metrics |= measure(networks, episodes, self.mixed_horizon)
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise TrainingDiverged(
                    f"{name} is {value} in iteration {self._round}: the run has diverged. "
                    "Lower the learning rates or look at the rewards' size."
                )
        return metrics

    def policy_loss(self, entropy_coefficient: float, normalises: bool = True) -> PolicyLoss:
        """The loss of the policy's outputs.

        Args:
            entropy_coefficient: weight of the entropy bonus.
            normalises: false if the advantages are in standard deviations as they come.
        """
        actions, clip = self.networks.actor.actions, self.config.clip_param
        return PolicyLoss(actions, clip, entropy_coefficient, reduce_sum, normalises)

    def enter_lifetime(self, index: int, env_config: dict[str, Any], begins: bool) -> None:
        """Makes ready for a lifetime's episodes and, where it begins, forgets the last policy.

        Args:
            index: of the lifetime.
            env_config: of its environment.
            begins: false if a checkpoint from the middle of it has been restored.
        """
        for piece in self._learner_connector.connectors:
            piece.task = known_task(self.config.env, env_config)
        if begins:
            self.networks.begin_lifetime(index)
            self.parts.forget(set(self.parts.vectors) - {"credit_assigner"})
            self._credit_update.begin_lifetime()
            self._policy_update.largest_advantage = None

    def credit_maps(self, episodes: EpisodeBatch) -> dict[str, np.ndarray]:
        """See measurement.credit_maps."""
        return credit_maps(self.networks, episodes, self.mixed_horizon)

    def save_credit_assigner(self, path: str) -> None:
        """Writes what the method has learned, for other runs to take."""
        settings = dict(self.config.credit_assigner_settings)
        settings.pop("pretrained", None)  # A path, which says nothing elsewhere.
        save_assigner(Path(path), self.networks.credit_assigner, settings)

    def _log(self, metrics: dict[str, float], num_steps: int) -> None:
        rates = {f"{name}_learning_rate": r for name, r in self.parts.learning_rates.items()}
        self.metrics.log_dict(metrics | rates, key=DEFAULT_MODULE_ID, window=1)
        self.metrics.log_value(
            (ALL_MODULES, NUM_ENV_STEPS_TRAINED_LIFETIME), num_steps, reduce="lifetime_sum"
        )

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """RLlib's state and the inner updates that await fresh episodes."""
        state = super().get_state(*args, **kwargs)
        if COMPONENT_OPTIMIZER in state:
            state["credit_update"] = self._credit_update.get_state()
            state["largest_advantage"] = self._policy_update.largest_advantage
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Restores what `get_state` gave."""
        super().set_state(state)
        if "credit_update" in state:
            self._credit_update.set_state(state["credit_update"])
            self._policy_update.largest_advantage = state["largest_advantage"]
