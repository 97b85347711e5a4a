"""Training on RLlib: ours as a run builds it, and RLlib's own PPO."""

from __future__ import annotations

from typing import Any

import ray
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME

import metairn.environments  # noqa: F401  # Registers the umbrella chain.
from benchmarks.contender import Contender, Work, optimizer_steps
from metairn.experiments.build import Experiment, build_experiment
from metairn.experiments.job_configuration import job_configuration
from metairn.experiments.ray_cluster import start_ray

# The reward network over whole steps, and an outer update at every minibatch on the episodes that
# are there: the dearest regular case.
METHODS: dict[str, tuple[str, ...]] = {
    "ppo": ("method=ppo",),
    "meta_irn": (
        "method=meta_irn",
        "method.head=linear",
        "method.tokens=[observation,action,reward,position,flags]",
        "method.encoder_width=32",
        "method.mixed_discount=null",
        "method.extrinsic_share=0",
        "method.balanced_gradient=false",
        "method.inner_update=normalised",
        "+method.inner_learning_rate=0.05",
        "method.outer_data=same",
        "method.judged_by=return",
        "method.meta_steps=0",
        "method.restart=false",
        "method.replay_iterations=1",
    ),
}


def experiment(overrides: tuple[str, ...]) -> Experiment:
    """What metairn-train would make of these overrides."""
    with initialize_config_module("metairn.experiments.configs", version_base="1.3"):
        composed = compose("train", list(overrides), return_hydra_config=True)
    return build_experiment(OmegaConf.create(job_configuration(composed)))


def display(method: str) -> dict[str, str]:
    """Label and colour of one of our methods."""
    return experiment(METHODS[method]).config["method"]["display"]


class RLlibTraining(Contender):
    """An RLlib algorithm that samples and learns in this process."""

    def __init__(self, algorithm: Algorithm) -> None:
        self.algorithm = algorithm

    def iterate(self) -> None:
        self.algorithm.train()

    def env_steps(self) -> int:
        key = (ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME)
        return int(self.algorithm.metrics.peek(key, default=0))

    def updates(self) -> int:
        """Those of the optimizer that has made the fewest."""
        learner: Any = self.algorithm.learner_group._learner
        optimizers = learner.get_optimizers_for_module(DEFAULT_MODULE_ID)
        return min(optimizer_steps(optimizer) for _, optimizer in optimizers)


class OurTraining(RLlibTraining):
    """IntrinsicAttentionPPO, without a run's evaluations and files.

    Args:
        work: what to do.
        method: ppo or meta_irn.
    """

    def __init__(self, work: Work, method: str) -> None:
        built = experiment((*work.overrides, *METHODS[method]))
        start_ray(built.training)
        super().__init__(built.algorithm.build_algo())


class RLlibPPO(RLlibTraining):
    """RLlib's PPO, with what makes it fastest here: natively vectorised environments.

    Args:
        work: what to do.
    """

    def __init__(self, work: Work) -> None:
        ray.init(logging_level="ERROR", log_to_driver=False)
        # RLlib adds a row to each episode for its last value; without room for these rows, an
        # epoch would end in another, small minibatch.
        rows = work.env_steps + work.num_envs
        config = (
            PPOConfig()
            .environment(work.env, env_config={"length": work.length})
            .env_runners(
                num_env_runners=0,
                num_envs_per_env_runner=work.num_envs,
                gym_env_vectorize_mode="vector_entry_point",
            )
            .rl_module(
                model_config=DefaultModelConfig(
                    fcnet_hiddens=list(work.hidden_sizes),
                    fcnet_activation="tanh",
                    vf_share_layers=False,
                )
            )
            .training(
                train_batch_size_per_learner=work.env_steps,
                # One part is called None, since RLlib allows no part beyond the env steps.
                minibatch_size=None if work.minibatches == 1 else -(-rows // work.minibatches),
                num_epochs=work.epochs,
                lr=work.learning_rate,
                gamma=work.discount,
                lambda_=work.gae_lambda,
                clip_param=work.clip,
                entropy_coeff=work.entropy_coefficient,
                grad_clip=work.max_gradient_norm,
                use_kl_loss=False,
                vf_clip_param=float("inf"),
            )
            .debugging(seed=0, log_level="ERROR", log_sys_usage=False)
        )
        super().__init__(config.build_algo())
