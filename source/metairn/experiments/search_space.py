"""Which settings a tuning may change: the `search_space` of the yaml files as SMAC reads it.

A group's yaml file (method, training) lists the settings of that group, each as a range
`{low: 0.001, high: 0.1, log: true}` (of whole numbers where the setting is one) or as
`{choices: [1, 2, 4]}`, with `when: {other_setting: [values]}` where it only matters then. A setting
whose condition does not hold keeps the value of its yaml file, which is also where the search
starts. A setting that the command line gives is fixed, not searched.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ConfigSpace import (
    AndConjunction,
    Categorical,
    Configuration,
    ConfigurationSpace,
    Float,
    InCondition,
    Integer,
)
from ConfigSpace.hyperparameters import Hyperparameter

from metairn.experiments.settings import BadInput, checked_arguments

RANGE = {"low", "high", "log", "when"}
CHOICES = {"choices", "when"}
SET_BY_THE_TUNER = "training.budget_env_steps"


@dataclass(frozen=True)
class Group:
    """One group of the configuration.

    Args:
        name: method or training.
        values: its settings, checked.
        search_space: what its yaml file says; None if nothing.
        target: class whose constructor the settings are for.
    """

    name: str
    values: dict[str, Any]
    search_space: Any
    target: type


class SearchSpace:
    """The settings that are searched, as a ConfigurationSpace.

    Args:
        groups: groups with their search spaces.
        fixed: full keys (`training.epochs`) that the command line sets.

    Raises:
        BadInput: if a search space names an unknown setting or a range that makes no sense.
    """

    def __init__(self, groups: Collection[Group], fixed: Collection[str] = ()) -> None:
        self.definition: dict[str, dict[str, Any]] = {}
        self.configspace = ConfigurationSpace()
        self._choices: dict[str, dict[str, Any]] = {}
        conditions: dict[str, dict[str, list[str]]] = {}
        for group in groups:
            entries = {} if group.search_space is None else group.search_space
            if not isinstance(entries, Mapping):
                raise BadInput(f"{group.name}.search_space={entries} is not allowed: {_FORM}")
            for name, entry in entries.items():
                key = f"{group.name}.{name}"
                checked = _checked(group, name, entry)
                when = self._condition(group, name, checked, entries, fixed)
                if key in fixed or when is None:
                    continue
                self.definition[key] = checked
                self.configspace.add(self._hyperparameter(key, checked, group.values[name]))
                if when:
                    conditions[key] = when
        if not self.definition:
            raise BadInput("There is nothing to tune: the search space is empty.")
        for key, when in conditions.items():
            space = self.configspace
            parts = [InCondition(space[key], space[parent], on) for parent, on in when.items()]
            space.add(parts[0] if len(parts) == 1 else AndConjunction(*parts))

    def values(self, configuration: Configuration) -> dict[str, Any]:
        """A configuration's settings in plain types, without those whose condition is unmet."""
        return {
            # ConfigSpace hands out choices as numpy's texts.
            key: self._choices[key][str(value)] if key in self._choices else value
            for key, value in sorted(dict(configuration).items())
        }

    def _hyperparameter(self, key: str, entry: dict[str, Any], default: Any) -> Hyperparameter:
        if "choices" in entry:
            # Texts, for a choice may be a list or null, which no hash table takes.
            self._choices[key] = {str(choice): choice for choice in entry["choices"]}
            if default not in entry["choices"]:
                _refuse_default(key, default, f"choices {entry['choices']}")
            return Categorical(
                key,
                list(self._choices[key]),
                default=str(default),
                ordered=_are_numbers(entry["choices"]),
            )
        low, high = entry["low"], entry["high"]
        if type(default) not in (int, float) or not low <= default <= high:
            _refuse_default(key, default, f"range from {low} to {high}")
        kind = Integer if type(low) is int else Float
        return kind(key, (low, high), default=default, log=entry["log"])

    @staticmethod
    def _condition(
        group: Group,
        name: str,
        entry: dict[str, Any],
        entries: Mapping[str, Any],
        fixed: Collection[str],
    ) -> dict[str, list[str]] | None:
        """Parents and the choices, as texts, with which a setting matters; None if it never does.

        A parent that is fixed decides here and now.
        """
        conditions = {}
        when = entry.get("when", {})
        if not isinstance(when, Mapping) or not all(isinstance(v, list) for v in when.values()):
            raise BadInput(f"{group.name}.search_space.{name}.when={when} is not allowed: {_FORM}")
        for parent, wanted in when.items():
            key = f"{group.name}.{parent}"
            if key in fixed:
                if group.values[parent] not in wanted:
                    return None
                continue
            choices = dict(entries.get(parent) or {}).get("choices", [])
            if unknown := [value for value in wanted if value not in choices]:
                raise BadInput(
                    f"{group.name}.search_space.{name}.when.{parent}={unknown[0]} is not allowed: "
                    f"it must be one of {parent}'s choices, {choices}."
                )
            conditions[key] = [str(value) for value in wanted]
        return conditions


_FORM = (
    "it must be {low: ..., high: ..., log: ...} or {choices: [...]} for each setting, either with "
    "when: {other: [...]} if need be."
)


def _checked(group: Group, name: str, entry: Any) -> dict[str, Any]:
    """An entry with its values as the setting's type wants them."""
    key = f"{group.name}.search_space.{name}"
    if f"{group.name}.{name}" == SET_BY_THE_TUNER:
        raise BadInput(f"{key} is not allowed: the tuner sets the budget.")
    if not isinstance(entry, Mapping) or not (
        {"low", "high"} <= set(entry) <= RANGE or {"choices"} <= set(entry) <= CHOICES
    ):
        raise BadInput(f"{key}={entry} is not allowed: {_FORM}")

    def typed(value: Any) -> Any:
        prefix = f"{group.name}.search_space"
        return checked_arguments(prefix, group.target, {name: value}, skip=("spec",))[name]

    if "choices" in entry:
        choices = entry["choices"]
        if not isinstance(choices, list) or len(choices) < 2:
            raise BadInput(f"{key}.choices={choices} is not allowed: it must list at least two.")
        return dict(entry) | {"choices": _in_order([typed(choice) for choice in choices])}
    low, high, log = typed(entry["low"]), typed(entry["high"]), entry.get("log", False)
    if any(type(end) not in (int, float) for end in (low, high)) or not low < high:
        raise BadInput(f"{key}={entry} is not allowed: low and high must be numbers, low < high.")
    if not isinstance(log, bool) or (log and low <= 0):
        raise BadInput(f"{key}.log={log} is not allowed: it must be false, or true with low > 0.")
    return dict(entry) | {"low": low, "high": high, "log": log}


def _are_numbers(choices: list[Any]) -> bool:
    return all(type(choice) in (int, float) for choice in choices)


def _in_order(choices: list[Any]) -> list[Any]:
    return sorted(choices) if _are_numbers(choices) else choices


def _refuse_default(key: str, default: Any, allowed: str) -> None:
    group, _, name = key.partition(".")
    raise BadInput(
        f"{key}={default} is not in the {allowed} of {group}.search_space.{name}, where the search "
        "starts; change either."
    )
