"""What a run is called, in messages and as a folder: read from its configuration alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

from metairn.experiments.settings import BadInput


def run_label(config: dict[str, Any]) -> str:
    """What the run is called in messages.

    Raises:
        BadInput: if environment.partition_by is not a list of the environment's keys.
    """
    return " ".join(f"{key}={value}" for key, value in _partition(config))


def run_folder(config: dict[str, Any]) -> Path:
    """<output_root>/<study>/method=.../environment=.../<key>=<value>/seed=...

    Raises:
        BadInput: if environment.partition_by is not a list of the environment's keys.
    """
    root = Path(config["output_root"]) / config["study"]
    return root.joinpath(*(f"{k}={quote(str(v), safe='')}" for k, v in _partition(config)))


def is_sure_to_run(config: dict[str, Any]) -> bool:
    """Whether nothing in its folder says that the run is finished.

    Told without the check of a configuration, which takes seconds of imports; False for one that
    names no folder to look into, about which the check will say more.
    """
    try:
        return not (run_folder(config) / "DONE").exists()
    except (BadInput, KeyError, TypeError, OSError):
        return False


def _partition(config: dict[str, Any]) -> list[tuple[str, Any]]:
    environment = config["environment"]
    keys = environment["partition_by"]
    if not isinstance(keys, list) or any(key not in environment for key in keys):
        raise BadInput(
            f"environment.partition_by={keys} is not allowed: it must list keys of environment."
        )
    varying = [(key, environment[key]) for key in keys]
    if "lifetimes" in config:  # Each has an environment of its own.
        varying = [("lifetimes", config["lifetimes"]["name"])]
    return [
        ("method", config["method"]["name"]),
        ("environment", environment["name"]),
        *varying,
        ("seed", config["seed"]),
    ]
