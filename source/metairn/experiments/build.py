"""From a composed configuration to what runs: the only reader of one."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from metairn.credit_assignment.assigner import CreditAssigner
from metairn.credit_assignment.meta_learned_reward import MetaLearnedReward
from metairn.credit_assignment.pretrained import file_of_seed
from metairn.environments.task import BatchedTask
from metairn.experiments.episode_supply import check_episodes, check_outer_data, num_envs
from metairn.experiments.run_name import run_folder, run_label
from metairn.experiments.settings import (
    BadInput,
    GymnasiumEnvironment,
    TrainingSettings,
    checked_arguments,
    construct,
    resolve_target,
)
from metairn.intrinsic_attention_ppo import IntrinsicAttentionPPOConfig
from metairn.intrinsic_attention_ppo.lifetimes import Lifetimes
from metairn.intrinsic_attention_ppo.rl_module import episode_spec

# What the yaml files say beside constructor arguments.
TOP_LEVEL = (
    *("study", "seed", "force", "output_root", "tuned"),
    *("method", "environment", "training"),
)
NOT_OF_A_RUN = ("force", "output_root", "tuned", "question")
ABOUT_METHOD = ("name", "_target_", "display", "tuned_as")
ABOUT_ENVIRONMENT = ("name", "_target_", "partition_by")


@dataclass(frozen=True)
class Experiment:
    """One run, checked and ready.

    Args:
        label: what the run is called in messages.
        folder: its run folder.
        config: the resolved configuration, without what cannot change a result.
        algorithm: RLlib's configuration.
        training: the training group.
        force: whether to start over.
    """

    label: str
    folder: Path
    config: dict[str, Any]
    algorithm: IntrinsicAttentionPPOConfig
    training: TrainingSettings
    force: bool


def build_experiment(composed: DictConfig) -> Experiment:
    """Checks a composed configuration and turns it into an Experiment; writes nothing.

    Raises:
        BadInput: one sentence for whatever is wrong with it.
    """
    try:
        config: Any = OmegaConf.to_container(composed, resolve=True)
    except OmegaConfBaseException as error:
        raise BadInput(f"{str(error).splitlines()[0]}.") from error
    missing = [key for key in TOP_LEVEL if key not in config]
    if missing:
        raise BadInput(f"{missing[0]} is missing: it cannot be removed.")
    for key in ("study", "output_root"):
        if not isinstance(config[key], str) or not config[key]:
            raise BadInput(f"{key}={config[key]} is not allowed: it must be a text.")
    if "/" in config["study"] or config["study"].startswith("."):
        raise BadInput(f"study={config['study']} is not allowed: it must be a folder's name.")
    if type(config["seed"]) is not int or not 0 <= config["seed"] < 2**32:
        raise BadInput(
            f"seed={config['seed']} is not allowed: it must be a whole number from 0 to 2**32 - 1."
        )
    if not isinstance(config["force"], bool):
        raise BadInput(f"force={config['force']} is not allowed: it must be true or false.")
    if not isinstance(config["tuned"], bool | str) or config["tuned"] == "":
        raise BadInput(
            f"tuned={config['tuned']} is not allowed: it must be true, false or the name of "
            "a tuned environment."
        )
    for group in ("method", "training"):
        config[group].pop("search_space", None)  # For metairn-tune.

    arguments = checked_arguments("training", TrainingSettings, config["training"])
    training = construct("training", TrainingSettings, arguments)
    env, env_config, task = _environment(config["environment"])
    lifetimes = _lifetimes(config, training)
    algorithm = _algorithm(config, training, env, env_config, task).training(lifetimes=lifetimes)
    # As checked, so that 1 and 1.0 are one configuration.
    kept = {k: v for k, v in config.items() if k not in NOT_OF_A_RUN}
    kept["training"] = config["training"] | arguments
    kept["environment"] = config["environment"] | (env_config if task is not None else {})
    # The pattern, not the file: runs that take turns with several have one configuration.
    pattern = {k: v for k, v in config["method"].items() if k == "pretrained"}
    method = config["method"] | algorithm.credit_assigner_settings | pattern
    later = algorithm.credit_assigner.later_settings
    kept["method"] = {k: v for k, v in method.items() if k not in later or v != later[k]}
    return Experiment(
        label=run_label(config),
        folder=run_folder(config),
        config=kept,
        algorithm=algorithm,
        training=training,
        force=config["force"],
    )


def _environment(group: dict[str, Any]) -> tuple[str, dict[str, Any], BatchedTask | None]:
    """The environment's id, its keyword arguments and what it knows about itself."""
    bases = (BatchedTask, GymnasiumEnvironment)
    target = resolve_target("environment", group["_target_"], bases)
    values = {key: value for key, value in group.items() if key not in ABOUT_ENVIRONMENT}
    arguments = checked_arguments("environment", target, values)
    made = construct("environment", target, arguments)
    if isinstance(made, GymnasiumEnvironment):
        return made.id, made.kwargs, None
    return f"metairn.environments:metairn/{target.__name__}-v0", arguments, made


def _lifetimes(config: dict[str, Any], training: TrainingSettings) -> Lifetimes | None:
    """The policies' lifetimes, each of their environments tried once."""
    if "lifetimes" not in config:
        return None
    values = {key: value for key, value in config["lifetimes"].items() if key != "name"}
    arguments = checked_arguments("lifetimes", Lifetimes, values)
    lifetimes: Lifetimes = construct("lifetimes", Lifetimes, arguments)
    for key in ("actor_learning_rate", "critic_learning_rate", "entropy_coefficient"):
        if isinstance(getattr(training, key), list):
            raise BadInput(
                f"training.{key}={getattr(training, key)} is not allowed with lifetimes: a "
                "schedule counts the env steps of all policies."
            )
    specs = set()
    for parameters in lifetimes.combinations:
        env, env_config, task = _environment(config["environment"] | parameters)
        specs.add(_spec(config, env, env_config))
        _algorithm(config, training, env, env_config, task)
    if len(specs) > 1:
        raise BadInput(
            "lifetimes.environment is not allowed: all lifetimes must have observations and "
            "actions of the same size."
        )
    return lifetimes


def _algorithm(
    config: dict[str, Any],
    training: TrainingSettings,
    env: str,
    env_config: dict[str, Any],
    task: BatchedTask | None,
) -> IntrinsicAttentionPPOConfig:
    spec = _spec(config, env, env_config)
    method = config["method"]
    assigner_class = resolve_target("method", method["_target_"], (CreditAssigner,))
    values = {key: value for key, value in method.items() if key not in ABOUT_METHOD}
    settings = checked_arguments("method", assigner_class, values, skip=("spec",))
    if settings.get("pretrained") is not None:
        settings["pretrained"] = file_of_seed(settings["pretrained"], config["seed"])
    assigner = construct("method", assigner_class, settings, spec)
    if assigner.needs_ground_truth and task is None:
        raise BadInput(
            f"method={method['name']} is not allowed with environment="
            f"{config['environment']['name']}: it needs an environment that states its "
            "ground-truth credit."
        )
    check_episodes(training, task)
    if isinstance(assigner, MetaLearnedReward) and assigner.learns_by == "meta_gradient":
        check_outer_data(assigner.meta_learning, training, task)
    share = -(-training.train_batch_env_steps // max(training.num_learners, 1))
    return (
        IntrinsicAttentionPPOConfig()
        .environment(env=env, env_config=env_config)
        .env_runners(
            num_env_runners=training.num_env_runners,
            num_envs_per_env_runner=num_envs(training, task),
        )
        .learners(
            num_learners=training.num_learners,
            num_gpus_per_learner=training.num_gpus_per_learner,
        )
        .training(
            credit_assigner=assigner_class,
            credit_assigner_settings=settings,
            hidden_sizes=tuple(training.hidden_sizes),
            lr=training.actor_learning_rate,
            critic_lr=training.critic_learning_rate,
            gamma=training.discount,
            lambda_=training.gae_lambda,
            clip_param=training.clip,
            entropy_coeff=training.entropy_coefficient,
            grad_clip=training.max_gradient_norm,
            num_epochs=training.epochs,
            num_minibatches=training.minibatches,
            train_batch_size_per_learner=share,
        )
        # Nobody reads the monitor of system usage, whose thread a run would wait for at its end.
        .debugging(seed=config["seed"], log_level="ERROR", log_sys_usage=False)
    )


def _spec(config: dict[str, Any], env: str, env_config: dict[str, Any]) -> Any:
    """Sizes of the environment's observations and actions, from one made for the purpose."""
    try:
        with contextlib.closing(gymnasium.make(env, **env_config)) as made:
            return episode_spec(made.observation_space, made.action_space)
    except (gymnasium.error.Error, ImportError, TypeError) as error:
        name = config["environment"].get("id", env)
        reason = str(error).splitlines()[0].rstrip(".")
        raise BadInput(f"environment.id={name} cannot be made: {reason}.") from error
    except ValueError as error:
        raise BadInput(f"environment={config['environment']['name']}: {error}") from error
