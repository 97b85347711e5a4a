"""Seconds from typing metairn-train until there is something to read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

POLL_S = 0.005
TRAIN = str(Path(sys.executable).with_name("metairn-train"))


def seconds_to_help() -> float:
    """Until `metairn-train --help` has ended."""
    started = time.perf_counter()
    subprocess.run([TRAIN, "--help"], check=True, stdout=subprocess.DEVNULL, env=_environment())
    return time.perf_counter() - started


def seconds_to_first_iteration() -> float:
    """Until a run of one iteration, with Ray of its own, has written that iteration's row.

    Raises:
        RuntimeError: if the run ends without one.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [TRAIN, f"output_root={folder}", "training.budget_env_steps=1000"]
        started = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=_environment()
        )
        try:
            while not _has_first_iteration(Path(folder)):
                if process.poll() is not None:
                    assert process.stderr is not None
                    message = process.stderr.read().decode()
                    raise RuntimeError(f"{' '.join(command)} ended early: {message}")
                time.sleep(POLL_S)
            return time.perf_counter() - started
        finally:
            process.communicate()


def _has_first_iteration(folder: Path) -> bool:
    lines = [line for path in folder.rglob("metrics.jsonl") for line in path.open()]
    return any(json.loads(line)["iteration"] == 1 for line in lines if line.endswith("\n"))


def _environment() -> dict[str, str]:
    """One thread, and a Ray of its own even where this process has one."""
    here = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return {**here, "OMP_NUM_THREADS": "1"}
