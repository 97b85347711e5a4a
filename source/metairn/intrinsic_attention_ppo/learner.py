"""The learner: PPO's update from a method's credit, and the outer update of that credit.

RLlib's update is replaced, not extended: it cuts episodes into steps, knows one loss and runs one
backward pass per minibatch. What remains of it is the frame: optimizers with schedules, metrics,
checkpoints, and several learners at once.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.core import COMPONENT_OPTIMIZER, DEFAULT_MODULE_ID
from ray.rllib.core.learner.training_data import TrainingData
from ray.rllib.utils.metrics import ALL_MODULES, NUM_ENV_STEPS_TRAINED_LIFETIME
from torch import Tensor

from metairn.episodes import EpisodeBatch
from metairn.intrinsic_attention_ppo.credit_update import CreditUpdate
from metairn.intrinsic_attention_ppo.measurement import credit_maps, measure
from metairn.intrinsic_attention_ppo.random_streams import Stream, derive_seed
from metairn.intrinsic_attention_ppo.rl_module import IntrinsicAttentionModule
from metairn.intrinsic_attention_ppo.rllib_workarounds import (
    broadcast_parameters,
    follow_schedules,
    reduce_gradients,
    reduce_sum,
)
from metairn.intrinsic_attention_ppo.update import (
    Horizon,
    PolicyLoss,
    Rollout,
    make_rollout,
    mixed_advantages,
    split_into_minibatches,
    value_head_loss,
)
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
        discount = self.networks.credit_assigner.discount
        return Horizon(self.config.gamma if discount is None else discount, self.config.lambda_)

    @property
    def mixed_critic(self) -> ValueHead:
        """The value head that predicts the return of r'."""
        needed = self.networks.credit_assigner.needs_mixed_critic
        return self.networks.mixed_value if needed else self.networks.extrinsic_value

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """One Adam for each part, so that each has its learning rate, schedule and clipping."""
        networks = self.module[module_id].unwrapped()
        rates = {"actor": config.lr, "extrinsic_value": config.critic_lr}
        if networks.credit_assigner.needs_mixed_critic:
            rates["mixed_value"] = config.critic_lr
        if networks.credit_assigner.learns_by != "nothing":
            rates["credit_assigner"] = networks.credit_assigner.credit_learning_rate
        for name, rate in rates.items():
            parameters = list(getattr(networks, name).parameters())
            self.register_optimizer(
                module_id=module_id,
                optimizer_name=name,
                optimizer=torch.optim.Adam(parameters),
                params=parameters,
                lr_or_lr_schedule=rate,
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
        self.entropy_coefficient = follow_schedules(self, timesteps or {})
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
        rollout = make_rollout(episodes, *critics, self.extrinsic_horizon)
        self._credit_update.begin(rollout)
        self._update_scales(rollout)
        minibatches = split_into_minibatches(
            rollout, self.config.num_epochs, self.config.num_minibatches, self._generator
        )
        losses: list[dict[str, Tensor]] = []
        for position, minibatch in enumerate(minibatches):
            self._credit_update.before_step(minibatches, position)
            losses.append(self._policy_and_value_step(minibatch))
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

    def _update_scales(self, rollout: Rollout) -> None:
        """Moves the running scales of rewards and returns; the rollout's values stay as they are.

        After `begin`: an inner step that waited is imagined with the scale that it was taken with.
        """
        networks, episodes = self.networks, rollout.episodes
        networks.credit_assigner.update_scale(episodes, reduce_sum)
        networks.extrinsic_value.update_scale(rollout.extrinsic_targets, episodes.mask, reduce_sum)
        if networks.credit_assigner.needs_mixed_critic:
            with torch.no_grad():
                advantages, _ = mixed_advantages(
                    networks.credit_assigner, rollout, self.mixed_horizon
                )
            targets = advantages + rollout.mixed_values
            networks.mixed_value.update_scale(targets, episodes.mask, reduce_sum)

    def policy_loss(self, entropy_coefficient: float) -> PolicyLoss:
        """The loss of actor parameters.

        Args:
            entropy_coefficient: weight of the entropy bonus.
        """
        actor = self.networks.actor
        return PolicyLoss(actor, self.config.clip_param, entropy_coefficient, reduce_sum)

    def _policy_and_value_step(self, rollout: Rollout) -> dict[str, Tensor]:
        networks = self.networks
        episodes = rollout.episodes
        with torch.no_grad():
            advantages, _ = mixed_advantages(networks.credit_assigner, rollout, self.mixed_horizon)
        losses = {
            "policy_loss": self.policy_loss(self.entropy_coefficient)(
                dict(networks.actor.named_parameters()), episodes, advantages
            ),
            "value_loss_extrinsic": value_head_loss(
                networks.extrinsic_value, episodes, rollout.extrinsic_targets, reduce_sum
            ),
        }
        parts = {"actor": "policy_loss", "extrinsic_value": "value_loss_extrinsic"}
        if networks.credit_assigner.needs_mixed_critic:
            targets = advantages + rollout.mixed_values
            losses["value_loss_mixed"] = value_head_loss(
                networks.mixed_value, episodes, targets, reduce_sum
            )
            parts["mixed_value"] = "value_loss_mixed"
        if networks.credit_assigner.learns_by == "own_loss":
            losses["credit_loss"] = networks.credit_assigner.own_loss(episodes)
            parts["credit_assigner"] = "credit_loss"
        # The parts share no parameters, so one backward pass serves all losses.
        gradients = torch.autograd.grad(
            torch.stack(list(losses.values())).sum(),
            [p for name in parts for p in getattr(networks, name).parameters()],
            allow_unused=True,
        )
        self.step_optimizers(list(parts), list(gradients))
        return {name: loss.detach() for name, loss in losses.items()}

    def step_optimizers(
        self, parts: list[str], gradients: list[Tensor | None]
    ) -> dict[str, Tensor]:
        """Sums gradients over learners, clips each part's norm and steps its optimizer.

        Args:
            parts: names of the module's parts whose parameters the gradients belong to, in order.
            gradients: one per parameter; None counts as zero.

        Returns:
            Each part's gradient norm before clipping.
        """
        parameters = [list(getattr(self.networks, name).parameters()) for name in parts]
        flat = [p for group in parameters for p in group]
        filled = [
            torch.zeros_like(p) if g is None else g for p, g in zip(flat, gradients, strict=True)
        ]
        for parameter, gradient in zip(flat, reduce_gradients(filled), strict=True):
            parameter.grad = gradient
        norms = {}
        limit = self.config.grad_clip or math.inf
        for name, group in zip(parts, parameters, strict=True):
            norms[name] = torch.nn.utils.clip_grad_norm_(group, limit)
            self.get_optimizer(DEFAULT_MODULE_ID, name).step()
        return norms

    def credit_maps(self, episodes: EpisodeBatch) -> dict[str, np.ndarray]:
        """See measurement.credit_maps."""
        return credit_maps(self.networks, episodes, self.mixed_horizon)

    def _log(self, metrics: dict[str, float], num_steps: int) -> None:
        self.metrics.log_dict(metrics, key=DEFAULT_MODULE_ID, window=1)
        self.metrics.log_value(
            (ALL_MODULES, NUM_ENV_STEPS_TRAINED_LIFETIME), num_steps, reduce="lifetime_sum"
        )

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """RLlib's state and the inner updates that await fresh episodes."""
        state = super().get_state(*args, **kwargs)
        if COMPONENT_OPTIMIZER in state:
            state["credit_update"] = self._credit_update.get_state()
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Restores what `get_state` gave."""
        super().set_state(state)
        if "credit_update" in state:
            self._credit_update.set_state(state["credit_update"])
