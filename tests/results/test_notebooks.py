"""Notebooks run from top to bottom on small made-up data, and are stored without outputs."""

import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from study_builder import MadeUpStudy
from test_searches import TRIALS, write_search

PLOTS = Path(__file__).parents[2] / "plots"
NOTEBOOKS = sorted(PLOTS.glob("*.ipynb"))


@pytest.mark.slow
def test_notebooks_run(tmp_path):
    """In a folder laid out like the repository, for that is where they look for data."""
    data = tmp_path / "experiment_data"
    for name in ("umbrella_length", "umbrella_length_bsuite"):
        MadeUpStudy(data, name).write_all(lengths=(3, 5), seeds=2)
    for name in ("", "_noisy", "_tuned", "_noisy_tuned", "_ablations"):
        methods = ("ppo", "meta_irn", "oracle")
        MadeUpStudy(data, f"credit_within_a_lifetime{name}").write_all(methods, (3, 5), seeds=2)
    for name in ("", "_controls", "_controls_long", "_distractors", "_long"):
        transfer = ("ppo", "meta_irn_transferred", "oracle")
        MadeUpStudy(data, f"credit_transfer{name}").write_all(transfer, lengths=(20, 50), seeds=5)
    write_search(data / "tuning" / "meta_irn__umbrella_chain", TRIALS)
    shutil.copytree(PLOTS, tmp_path / "plots")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbmake"]
    done = subprocess.run([*command, "plots"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert f"{len(NOTEBOOKS)} passed" in done.stdout


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_short_and_stored_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    assert len(notebook.cells) <= 10
    assert notebook.cells[0].cell_type == "markdown"
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
