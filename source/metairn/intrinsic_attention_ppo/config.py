"""The configuration of IntrinsicAttentionPPO, a PPOConfig that refuses what it would ignore."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Sequence
from typing import Any

import gymnasium
from ray.rllib.algorithms.algorithm_config import NotProvided
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.connectors.learner import LearnerConnectorPipeline
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from metairn.credit_assignment.assigner import CreditAssigner
from metairn.credit_assignment.ppo import PPO as PlainPPO
from metairn.intrinsic_attention_ppo.lifetimes import Lifetimes

Schedule = float | list[list[float]]


NO_CONNECTORS = "connectors are skipped here; wrap the environment instead"
# RLlib's settings that would be ignored, with the one value that they may have.
ONLY_ALLOWED: dict[str, tuple[Any, str]] = {
    "_env_to_module_connector": (None, NO_CONNECTORS),
    "_module_to_env_connector": (None, NO_CONNECTORS),
    "_learner_connector": (None, NO_CONNECTORS),
    "batch_mode": ("complete_episodes", "credit needs whole episodes"),
    "minibatch_size": (None, "num_minibatches splits a batch by whole episodes"),
    "use_gae": (True, "lambda_=1 gives Monte Carlo advantages"),
    "use_critic": (True, "advantages need a critic"),
    "use_kl_loss": (False, "clip_param bounds the update"),
    "vf_clip_param": (float("inf"), "it would cut the gradient of large value errors"),
    "vf_loss_coeff": (1.0, "critic_lr sizes the value heads' steps"),
    "grad_clip_by": ("global_norm", "each network's gradient norm is clipped"),
}


class IntrinsicAttentionPPOConfig(PPOConfig):
    """PPO on whole episodes, with credit from any CreditAssigner.

    Learning rates and the entropy coefficient take a number or RLlib's schedule, a list of
    [env steps, value]. What RLlib would offer but this algorithm does not use (connectors, episode
    callbacks, the KL penalty, clipped value errors) is refused when set.
    """

    def __init__(self, algo_class: type | None = None) -> None:
        from metairn.intrinsic_attention_ppo.algorithm import IntrinsicAttentionPPO
        from metairn.intrinsic_attention_ppo.env_runner import EpisodeEnvRunner

        super().__init__(algo_class=algo_class or IntrinsicAttentionPPO)
        self.credit_assigner: type[CreditAssigner] = PlainPPO
        self.credit_assigner_settings: dict[str, Any] = {}
        self.hidden_sizes: Sequence[int] = (64, 64)
        self.critic_lr: Schedule = 1e-2
        self.num_minibatches = 1
        self.lifetimes: Lifetimes | None = None
        # The tuned PPO for long chains; RLlib's own defaults hardly learn here.
        self.lr = 3e-3
        self.gamma = 1.0
        self.lambda_ = 1.0
        self.clip_param = 0.2
        self.entropy_coeff = 0.01
        self.num_epochs = 10
        self.grad_clip = 0.5
        self.train_batch_size_per_learner = 1000
        self.minibatch_size = None
        self.num_env_runners = 0
        self.num_envs_per_env_runner = 20
        self.batch_mode = "complete_episodes"
        self.env_runner_cls = EpisodeEnvRunner
        self.use_kl_loss = False
        self.kl_coeff = 0.0
        self.vf_clip_param = float("inf")
        self.add_default_connectors_to_learner_pipeline = False

    def training(  # type: ignore[override]
        self,
        *,
        credit_assigner: type[CreditAssigner] = NotProvided,
        credit_assigner_settings: dict[str, Any] = NotProvided,
        hidden_sizes: Sequence[int] = NotProvided,
        critic_lr: Schedule = NotProvided,
        num_minibatches: int = NotProvided,
        lifetimes: Lifetimes | None = NotProvided,
        **kwargs: Any,
    ) -> IntrinsicAttentionPPOConfig:
        """Sets training options; those not named here are PPOConfig's.

        Args:
            credit_assigner: the method, a CreditAssigner class.
            credit_assigner_settings: its constructor's keyword arguments.
            hidden_sizes: hidden layers of the actor and of each value head.
            critic_lr: learning rate of the value heads; `lr` is the actor's.
            num_minibatches: parts that each epoch's episodes are split into.
            lifetimes: policies that learn one after the other; None for one.
        """
        super().training(**kwargs)
        given = {
            "credit_assigner": credit_assigner,
            "credit_assigner_settings": credit_assigner_settings,
            "hidden_sizes": hidden_sizes,
            "critic_lr": critic_lr,
            "num_minibatches": num_minibatches,
            "lifetimes": lifetimes,
        }
        for name, value in given.items():
            if value is not NotProvided:
                setattr(self, name, value)
        return self

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """The module with actor, value heads and credit assigner."""
        from metairn.intrinsic_attention_ppo.rl_module import IntrinsicAttentionModule

        return RLModuleSpec(
            module_class=IntrinsicAttentionModule,
            model_config={
                "hidden_sizes": tuple(self.hidden_sizes),
                "credit_assigner": self.credit_assigner,
                "credit_assigner_settings": dict(self.credit_assigner_settings),
                "seed": self.seed,
            },
        )

    def get_default_learner_class(self) -> type:
        """The learner with the inner and the outer update."""
        from metairn.intrinsic_attention_ppo.learner import IntrinsicAttentionLearner

        return IntrinsicAttentionLearner

    def build_learner_connector(
        self, input_observation_space: Any, input_action_space: Any, device: Any = None
    ) -> Any:
        """One piece: RLlib's episodes to an EpisodeBatch."""
        from metairn.intrinsic_attention_ppo.connectors import EpisodesToEpisodeBatch

        spaces = (input_observation_space, input_action_space)
        piece = EpisodesToEpisodeBatch(*spaces, env=self.env, env_config=dict(self.env_config))
        return LearnerConnectorPipeline(
            connectors=[piece], input_observation_space=spaces[0], input_action_space=spaces[1]
        )

    def validate(self) -> None:
        """Checks the settings before anything is built.

        Raises:
            ValueError: one sentence that names the setting.
        """
        if isinstance(self.env, str):
            self._choose_vectorisation(self.env)
        super().validate()
        self._refuse_what_is_skipped()
        if self.num_minibatches < 1:
            self._value_error(f"num_minibatches={self.num_minibatches} must be at least 1.")
        if not (
            inspect.isclass(self.credit_assigner)
            and issubclass(self.credit_assigner, CreditAssigner)
        ):
            self._value_error(f"credit_assigner={self.credit_assigner} is no CreditAssigner class.")

    def _choose_vectorisation(self, env: str) -> None:
        """Steps our own environments in one call, others one by one.

        Gymnasium's native vector environments differ in how they reset; ours are known to fit.
        """
        module, _, name = env.rpartition(":")
        if module:
            importlib.import_module(module)
        native = gymnasium.spec(name).namespace == "metairn"
        self.gym_env_vectorize_mode = "vector_entry_point" if native else "sync"

    def _refuse_what_is_skipped(self) -> None:
        for event in ("created", "start", "step", "end"):
            name = f"on_episode_{event}"
            classes = self.callbacks_class
            classes = classes if isinstance(classes, list) else [classes]
            overridden = any(getattr(c, name) is not getattr(RLlibCallback, name) for c in classes)
            if overridden or getattr(self, f"callbacks_{name}"):
                self._value_error(f"{name} callbacks are skipped by the episode runner.")
        for name, (only, reason) in ONLY_ALLOWED.items():
            value = getattr(self, name)
            if value != only:
                self._value_error(f"{name.lstrip('_')}={value} is not supported: {reason}.")
