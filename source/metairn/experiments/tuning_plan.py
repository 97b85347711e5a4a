"""From the configuration that metairn-tune composed to a tuning, checked before it starts."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from metairn.experiments.build import Experiment, build_experiment
from metairn.experiments.search_space import SET_BY_THE_TUNER, Group, SearchSpace
from metairn.experiments.settings import (
    BadInput,
    TrainingSettings,
    checked_arguments,
    construct,
    resolve_target,
)
from metairn.experiments.trials import trial_config
from metairn.experiments.tuned import tuned_path, tuned_text
from metairn.experiments.tuners import Tuner

ABOUT_TUNER = ("name", "_target_")
# Settings of the training group that are about measuring and machines: no part of what was found.
ABOUT_MACHINE = ("training.num_", "training.evaluation_", "training.checkpoint_")


@dataclass(frozen=True)
class TuningPlan:
    """One tuning, checked and ready.

    Args:
        label: what it is called in messages.
        folder: its folder.
        config: all that can change its result, in plain types.
        composed: what its runs are composed of, interpolations unresolved.
        experiment: a run of the full budget with the values that the search starts from.
        space: what is searched.
        fixed: settings that the command line gives, by full key.
        tuner: how it is searched.
        seed: the tuner's own seed.
        tuned_path: where the best configuration goes.
        force: whether to start over.
    """

    label: str
    folder: Path
    config: dict[str, Any]
    composed: dict[str, Any]
    experiment: Experiment
    space: SearchSpace
    fixed: dict[str, Any]
    tuner: Tuner
    seed: int
    tuned_path: Path
    force: bool

    def tuned_file(self, best: dict[str, Any], provenance: dict[str, Any]) -> str:
        """The text of the tuned file for a line of trajectory.jsonl."""
        tuned_on = {
            "environment": {
                key: value
                for key, value in self.config["environment"].items()
                if key not in ("_target_", "partition_by")
            },
            "seeds": self.tuner.tuning_seeds,
            "tuner": self.config["tuner"],
            "tuner_seed": self.seed,
            "evaluation_return_mean": best["evaluation_return_mean"],
            "git_commit": provenance["git_commit"],
            "git_changes": provenance["git_changes"],
        }
        return tuned_text(self.fixed | best["values"], tuned_on)


def build_tuning(composed: DictConfig, command_line: Collection[str]) -> TuningPlan:
    """Checks a composed configuration and turns it into a TuningPlan; writes nothing.

    Args:
        composed: the configuration.
        command_line: keys that the command line sets: they are fixed, not searched.

    Raises:
        BadInput: one sentence for whatever is wrong with it.
    """
    if SET_BY_THE_TUNER in command_line:
        raise BadInput(
            f"{SET_BY_THE_TUNER} is not allowed here: the tuner sets it, up to "
            "tuner.max_budget_env_steps."
        )
    if "tuned_as" in composed.method:
        raise BadInput(
            f"method={composed.method.name} is not allowed here: tuned=true takes what was found "
            f"for {composed.method.tuned_as}."
        )
    plain: Any = OmegaConf.to_container(composed)
    group = plain.pop("tuner", None) or {}
    target = resolve_target("tuner", group.get("_target_"), (Tuner,))
    arguments = checked_arguments(
        "tuner", target, {k: v for k, v in group.items() if k not in ABOUT_TUNER}
    )
    tuner: Tuner = construct("tuner", target, arguments)
    plain |= {"tuned": False}
    shortest = trial_config(plain, {}, round(min(tuner.budgets())))
    build_experiment(OmegaConf.create(shortest))
    experiment = build_experiment(
        OmegaConf.create(trial_config(plain, {}, tuner.max_budget_env_steps))
    )
    _refuse_processes(experiment.training)
    names = experiment.config["method"]["name"], experiment.config["environment"]["name"]
    space = SearchSpace(_groups(plain, experiment), command_line)
    fixed = {
        key: experiment.config[key.split(".")[0]][key.split(".")[1]]
        for key in sorted(command_line)
        if key.startswith(("method.", "training.")) and not key.startswith(ABOUT_MACHINE)
    }
    config = experiment.config | {"tuner": group | arguments, "search_space": space.definition}
    return TuningPlan(
        label=f"{group['name']} method={names[0]} environment={names[1]}",
        folder=Path(plain["output_root"]) / plain["study"] / "__".join(names) / group["name"],
        config=config,
        composed=plain,
        experiment=experiment,
        space=space,
        fixed=fixed,
        tuner=tuner,
        seed=plain["seed"],
        tuned_path=tuned_path(plain["output_root"], *names),
        force=plain["force"],
    )


def _groups(plain: dict[str, Any], experiment: Experiment) -> list[Group]:
    return [
        Group(
            name,
            experiment.config[name],
            plain[name].get("search_space"),
            target,
        )
        for name, target in (
            ("training", TrainingSettings),
            ("method", experiment.algorithm.credit_assigner),
        )
    ]


def _refuse_processes(training: TrainingSettings) -> None:
    """A trial's processes would wait for processors that other trials hold."""
    for name in ("num_env_runners", "num_learners"):
        if getattr(training, name) > 0:
            raise BadInput(
                f"training.{name}={getattr(training, name)} is not allowed here: each run of a "
                "tuning is one process, and as many run as there are processors."
            )
