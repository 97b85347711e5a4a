"""One thread per process, and one Ray for the few tests that need it."""

import os
from collections.abc import Iterator

import pytest
import ray
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Small networks gain nothing from threads, and wait for each other on a busy machine."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[None]:
    """A local Ray that knows this folder, so that its workers can import what tests define.

    Not for the whole session: tests in other folders would find it running, and their workers
    would not know theirs.
    """
    here = os.path.dirname(__file__)
    ray.init(
        address="local",
        num_cpus=4,
        logging_level="ERROR",
        log_to_driver=False,
        include_dashboard=False,
        runtime_env={"env_vars": {"PYTHONPATH": here}},
    )
    yield
    ray.shutdown()
