"""Which runs may stand beside each other in one study; unfair comparisons are refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from metairn.results.configuration import changes, flat_settings
from metairn.results.load import REFERENCE, Run, Study, StudyError

# Runs that differ in one of these have no marks, or not the same scores at them, in common.
SHARED_BY_ALL = (
    "training.budget_env_steps",
    "training.evaluation_interval_env_steps",
    "training.evaluation_episodes",
)


def check_consistency(study: Study, planned_methods: Sequence[str] = ()) -> None:
    """Refuses a study whose runs cannot be compared.

    Args:
        study: to check.
        planned_methods: which have to be in it, besides the reference and those that are.

    Raises:
        StudyError: if runs of one method and task differ in more than their seed, if methods met
            different environments or budgets, or if a method is missing.
    """
    _check_methods(study, [REFERENCE, *study.display, *planned_methods])
    for task in study.tasks:
        runs = []
        for method in study.display:
            cell = study.cell(task, method)
            _check_same(study, cell, _settings_and_code)
            runs += cell
        _check_same(study, runs, _environment)
    _check_same(study, study.runs, _shared)


def _check_methods(study: Study, methods: Sequence[str]) -> None:
    """Every method has to have run on every task."""
    for method in dict.fromkeys(methods):
        for task, keys in study.tasks.items():
            if study.cell(task, method):
                continue
            overrides = [f"method={method}", f"environment={keys['environment']}"]
            overrides += [f"environment.{k}={v}" for k, v in keys.items() if k != "environment"]
            raise StudyError(
                f"study={study.name} has no finished runs of method={method} with {task}, but of "
                f"others; metairn-train study={study.name} {' '.join(overrides)} makes one."
            )


def _check_same(
    study: Study, runs: Iterable[Run], content: Callable[[Run], dict[str, Any]]
) -> None:
    first, *others = runs
    for run in others:
        changed = changes(content(first), content(run))
        if changed:
            key, one, other = changed[0]
            more = " (and more)" if len(changed) > 1 else ""
            raise StudyError(
                f"study={study.name} mixes runs that cannot be compared: {key}={one} in "
                f"{first.folder}, {other} in {run.folder}{more}; "
                "give each its own study."
            )


def _settings_and_code(run: Run) -> dict[str, Any]:
    settings = {key: value for key, value in run.config.items() if key != "seed"}
    return settings | {"git_commit": run.provenance.get("git_commit")}


def _environment(run: Run) -> dict[str, Any]:
    return {"environment": run.config["environment"]}


def _shared(run: Run) -> dict[str, Any]:
    settings = flat_settings(run.config)
    return {key: settings.get(key) for key in SHARED_BY_ALL}
