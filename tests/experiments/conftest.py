"""Stops the Ray that tests of this folder started, as others start one with settings of theirs."""

import os
from pathlib import Path

import pytest
import torch
import training_command

HERE = Path(__file__).parent


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    stays = nextitem is not None and HERE in nextitem.path.parents
    if training_command.started_ray and not stays:
        import ray

        ray.shutdown()
        training_command.started_ray = False


@pytest.fixture(autouse=True, scope="session")
def importable_in_other_processes():
    """Ray's worker processes and the command's find the modules beside the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(HERE), prepend=os.pathsep)
        yield


@pytest.fixture(autouse=True)
def threads_as_before():
    """A run sets torch's number of threads for its process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
