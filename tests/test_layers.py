"""The house rules of the source tree: who may import whom, how files are named and introduced.

The layers are stated once, as import-linter contracts in pyproject.toml. Here they are run on the
package, and on a stub of it with one wrong import at a time, so that a contract that no longer
bites is noticed.
"""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "source"
SOURCE_FILES = sorted(SOURCE.rglob("*.py"))

ROOMS = (
    "experiments",
    "intrinsic_attention_ppo",
    "results",
    "environments",
    "credit_assignment",
    "objectives",
    "networks",
    "episodes",
)
NAMES_THAT_SAY_NOTHING = {"utils", "helpers", "common", "misc", "base", "custom", "new"}


def lint_imports(directory: Path, import_from: Path) -> subprocess.CompletedProcess[str]:
    """Run the contracts of `directory`/pyproject.toml on the package found in `import_from`."""
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(import_from), "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def imported_modules(code: str) -> set[str]:
    """Dotted names of everything that the code imports, at whatever depth."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def imports_rllib(code: str) -> bool:
    return any(f"{name}.".startswith("ray.rllib.") for name in imported_modules(code))


@pytest.fixture
def stub_house(tmp_path: Path) -> Path:
    """An empty copy of every room, under the contracts of the real one."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    package = tmp_path / "metairn"
    for folder in (package, *(package / room for room in ROOMS)):
        folder.mkdir()
        (folder / "__init__.py").touch()
    return tmp_path


def test_source_respects_the_layers():
    linted = lint_imports(ROOT, import_from=SOURCE)
    assert linted.returncode == 0, linted.stdout


def test_contracts_accept_imports_that_point_downwards(stub_house: Path):
    allowed = {
        "experiments": "import hydra, ray\nfrom metairn import intrinsic_attention_ppo, results",
        "intrinsic_attention_ppo": "import ray.rllib, torch\nfrom metairn import credit_assignment",
        "environments": "import gymnasium, numpy",
        "objectives": "import torch\nfrom metairn import episodes",
    }
    for room, code in allowed.items():
        (stub_house / "metairn" / room / "__init__.py").write_text(code)
    linted = lint_imports(stub_house, import_from=stub_house)
    assert linted.returncode == 0, linted.stdout


@pytest.mark.parametrize(
    ("room", "code"),
    [
        ("episodes", "import metairn.objectives"),
        ("networks", "import metairn.objectives"),
        ("environments", "import metairn.intrinsic_attention_ppo"),
        ("results", "import metairn.episodes"),
        ("environments", "import torch"),
        ("results", "import ray"),
        ("credit_assignment", "import ray"),
        ("credit_assignment", "import gymnasium"),
        ("intrinsic_attention_ppo", "def later():\n    from omegaconf import DictConfig"),
        ("a_room_that_no_layer_names", ""),
    ],
)
def test_contracts_catch_a_forbidden_import(stub_house: Path, room: str, code: str):
    offender = stub_house / "metairn" / room / "__init__.py"
    offender.parent.mkdir(exist_ok=True)
    offender.write_text(code)
    linted = lint_imports(stub_house, import_from=stub_house)
    assert linted.returncode == 1, linted.stdout
    assert "BROKEN" in linted.stdout
    assert room in linted.stdout


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import ray.rllib.algorithms", True),
        ("from ray import rllib", True),
        ("def later():\n    from ray.rllib.core import Columns", True),
        ("import ray\nfrom ray import tune", False),
        ("from .rllib import workarounds", False),
    ],
)
def test_rllib_imports_are_recognised(code: str, expected: bool):
    assert imports_rllib(code) is expected


def test_only_the_learner_room_imports_rllib():
    offenders = [
        str(file.relative_to(SOURCE))
        for file in SOURCE_FILES
        if "intrinsic_attention_ppo" not in file.relative_to(SOURCE).parts
        and imports_rllib(file.read_text(encoding="utf-8"))
    ]
    assert not offenders


def test_names_say_what_is_inside():
    offenders = [
        str(path.relative_to(SOURCE))
        for path in (*SOURCE_FILES, *{file.parent for file in SOURCE_FILES})
        if path.stem in NAMES_THAT_SAY_NOTHING
    ]
    assert not offenders


def test_every_module_has_a_docstring():
    offenders = [
        str(file.relative_to(SOURCE))
        for file in SOURCE_FILES
        if not ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    ]
    assert not offenders
