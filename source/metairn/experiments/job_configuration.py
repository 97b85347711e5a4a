"""One job of Hydra's as plain values: what its run is built from, in this process or another."""

from __future__ import annotations

from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from metairn.experiments.settings import BadInput
from metairn.experiments.tuned import command_line_keys, with_tuned_values


def job_configuration(composed: DictConfig) -> dict[str, Any]:
    """The job's own part of a composition, resolved.

    Args:
        composed: what Hydra composed, with its own node, which says what study was chosen.

    Raises:
        BadInput: if a value refers to what is not there.
    """
    HydraConfig.instance().set_config(composed)
    composed = with_tuned_values(composed, command_line_keys())
    with open_dict(composed):
        del composed["hydra"]
    try:
        config: Any = OmegaConf.to_container(composed, resolve=True)
    except OmegaConfBaseException as error:
        raise BadInput(f"{str(error).splitlines()[0]}.") from error
    return config
