"""The file of a tuning's best configuration: written by metairn-tune, used by tuned=true.

Its values lie above those of the yaml files and beneath those of the command line.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from metairn.experiments.settings import BadInput

HEADER = "# Written by metairn-tune, used by metairn-train tuned=true.\n"


def tuned_path(output_root: str, method: str, environment: str) -> Path:
    """<output_root>/tuned/<method>__<environment>.yaml."""
    return Path(output_root) / "tuned" / f"{method}__{environment}.yaml"


def tuned_text(values: dict[str, Any], tuned_on: dict[str, Any]) -> str:
    """The file's text.

    Args:
        values: settings by full key, such as training.epochs.
        tuned_on: what they are the best of.
    """
    content = {"values": values, "tuned_on": tuned_on}
    return HEADER + yaml.safe_dump(content, sort_keys=False)


def with_tuned_values(composed: DictConfig, command_line: Collection[str]) -> DictConfig:
    """The configuration, with the values of the tuned file that `tuned` names.

    true: of its method and environment; a text: of its method and the environment of that name. A
    method with `tuned_as` takes the values of another one.

    Args:
        composed: the configuration.
        command_line: keys that the command line sets, which keep their values.

    Raises:
        BadInput: if the file is missing or damaged, or if the run's seed is one of the tuning's.
    """
    wanted = composed.get("tuned")
    if wanted is not True and not (isinstance(wanted, str) and wanted):
        return composed
    method = composed.method.get("tuned_as", composed.method.name)
    named = "true" if wanted is True else wanted
    environment = composed.environment.name if wanted is True else wanted
    path = tuned_path(composed.output_root, method, environment)
    if not path.exists():
        raise BadInput(
            f"tuned={named} is not allowed: {path} does not exist; metairn-tune method={method} "
            f"environment={environment} makes it."
        )
    try:
        content = yaml.safe_load(path.read_text())
        values, seeds = dict(content["values"]), list(content["tuned_on"]["seeds"])
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{path} is damaged; metairn-tune makes it anew.") from error
    if composed.seed in seeds:
        raise BadInput(
            f"seed={composed.seed} is not allowed with tuned={named}: {path} was tuned on it."
        )
    tuned = composed.copy()
    for key, value in values.items():
        if key not in command_line:
            try:
                OmegaConf.update(tuned, key, value)
            except OmegaConfBaseException as error:
                raise BadInput(
                    f"{path} sets {key}, which is not a key here; tune again."
                ) from error
    return tuned


def command_line_keys() -> list[str]:
    """Keys that the command line of the present Hydra job sets, groups and their options too."""
    # Unresolved: an override may be ${an interpolation}.
    task: Any = OmegaConf.to_container(HydraConfig.get().overrides.task)
    return [each.key_or_group for each in OverridesParser.create().parse_overrides(task)]
