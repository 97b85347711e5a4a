"""What a configuration may say: types and ranges, checked before anything expensive starts.

The constructor of whatever a yaml file names in `_target_` is its schema: names, types and ranges
are stated there and nowhere else.
"""

from __future__ import annotations

import importlib
import inspect
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Schedule = float | list[list[float]]


class BadInput(Exception):
    """A mistake of the user's: one sentence that names the key, the value and what is allowed."""


class RunFailed(Exception):
    """Runs that ended by an error: a sentence each, with the folder and the error."""


@dataclass(frozen=True)
class GymnasiumEnvironment:
    """Any registered Gymnasium environment.

    Args:
        id: its id, such as CartPole-v1.
        kwargs: keyword arguments of gymnasium.make.
    """

    id: str
    kwargs: dict = field(default_factory=dict)


@dataclass(frozen=True)
class TrainingSettings:
    """The training group; configs/training/default.yaml explains each key.

    Raises:
        ValueError: if a number is out of its range.
    """

    budget_env_steps: int
    train_batch_env_steps: int
    epochs: int
    minibatches: int
    num_envs: int
    num_env_runners: int
    num_learners: int
    num_gpus_per_learner: float
    num_threads: int
    actor_learning_rate: Schedule
    critic_learning_rate: Schedule
    discount: float
    gae_lambda: float
    clip: float
    entropy_coefficient: Schedule
    max_gradient_norm: float | None
    hidden_sizes: list[int]
    evaluation_interval_env_steps: int
    evaluation_episodes: int
    checkpoint_interval_env_steps: int

    def __post_init__(self) -> None:
        may_be_zero = ("num_env_runners", "num_learners")
        for name, value in vars(self).items():
            least = 0 if name in may_be_zero else 1
            if isinstance(value, int) and type(value) is int and value < least:
                raise ValueError(f"{name}={value} is not allowed: it must be at least {least}.")
        for name in ("discount", "gae_lambda"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(
                    f"{name}={getattr(self, name)} is not allowed: it must be between 0 and 1."
                )
        for name in ("clip", "max_gradient_norm"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name}={value} is not allowed: it must be above 0.")
        for name in ("actor_learning_rate", "critic_learning_rate", "entropy_coefficient"):
            _check_schedule(name, getattr(self, name))
        if not 0 <= self.num_gpus_per_learner < float("inf"):
            raise ValueError(
                f"num_gpus_per_learner={self.num_gpus_per_learner} is not allowed: "
                "it must be at least 0."
            )
        if not self.hidden_sizes or min(self.hidden_sizes) < 1:
            raise ValueError(
                f"hidden_sizes={self.hidden_sizes} is not allowed: it must list widths of at "
                "least 1."
            )
        if self.budget_env_steps < self.train_batch_env_steps:
            raise ValueError(
                f"budget_env_steps={self.budget_env_steps} is not allowed: it must be at least one "
                f"batch, train_batch_env_steps={self.train_batch_env_steps}."
            )


def _check_schedule(name: str, value: Schedule) -> None:
    # RLlib wants two points; a number is a schedule that stays.
    points = [[0, value], [1, value]] if isinstance(value, int | float) else value
    pairs = all(len(point) == 2 and 0 <= point[1] < float("inf") for point in points)
    ordered = pairs and [p[0] for p in points] == sorted(p[0] for p in points)
    if len(points) < 2 or not ordered or points[0][0] != 0:
        raise ValueError(
            f"{name}={value} is not allowed: it must be a number of at least 0 or a schedule "
            "[[0, value], [env steps, value], ...]."
        )


def resolve_target(group: str, path: Any, bases: tuple[type, ...]) -> type:
    """The class that a yaml file names.

    Raises:
        BadInput: if there is none of that name.
    """
    module, _, name = str(path).rpartition(".")
    try:
        target = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise BadInput(f"{group}._target_={path} is not allowed: {error}.") from error
    if not (inspect.isclass(target) and issubclass(target, bases)):
        names = " or ".join(base.__name__ for base in bases)
        raise BadInput(f"{group}._target_={path} is not allowed: it must be a {names} class.")
    return target


def constructor_schema(target: type, skip: Sequence[str] = ()) -> dict[str, Any]:
    """Names and annotated types of a constructor's arguments, through **kwargs to its bases.

    Keyword arguments annotated with Annotated[Any, other] are those of the other class instead.
    """
    schema: dict[str, Any] = {}
    for cls in target.__mro__:
        if "__init__" not in vars(cls):
            continue
        hints = typing.get_type_hints(vars(cls)["__init__"], include_extras=True)
        parameters = list(inspect.signature(vars(cls)["__init__"]).parameters.values())[1:]
        for p in parameters:
            if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name not in skip:
                schema.setdefault(p.name, hints.get(p.name, Any))
        rest = [hints.get(p.name) for p in parameters if p.kind is p.VAR_KEYWORD]
        others = getattr(rest[0], "__metadata__", ()) if rest else ()
        for other in others:
            schema = constructor_schema(other) | schema
        if not rest or others:
            break
    return schema


def checked_arguments(
    group: str, target: type, values: Mapping[str, Any], skip: Sequence[str] = ()
) -> dict[str, Any]:
    """The values as the target's constructor wants them.

    Args:
        group: config group, for messages.
        target: class that they are for.
        values: keys and values of the yaml file and the command line.
        skip: constructor arguments that do not come from the configuration.

    Raises:
        BadInput: for a key that the constructor does not have or a value of another type.
    """
    schema = constructor_schema(target, skip)
    for key in values:
        if key not in schema:
            allowed = ", ".join(sorted(schema)) or "none"
            raise BadInput(f"{group}.{key} is not a key of {target.__name__}; allowed: {allowed}.")
    return {key: _as_type(f"{group}.{key}", value, schema[key]) for key, value in values.items()}


def construct(group: str, target: type, arguments: Mapping[str, Any], *positional: Any) -> Any:
    """target(*positional, **arguments), its ValueError turned into a sentence about the group.

    Raises:
        BadInput: if the constructor refuses a value.
    """
    try:
        return target(*positional, **arguments)
    except ValueError as error:
        raise BadInput(f"{group}.{error}") from error
    except TypeError as error:
        raise BadInput(f"{group}: {error}.") from error


def _as_type(key: str, value: Any, wanted: Any) -> Any:
    """The value, converted where nothing is lost (1 -> 1.0)."""
    for option in _options(wanted):
        origin = typing.get_origin(option)
        if option is Any or (option is type(None) and value is None):
            return value
        if origin is typing.Literal and value in typing.get_args(option):
            return value
        if option is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if isinstance(option, type) and type(value) is option:
            return value
        if origin in (list, Sequence) and isinstance(value, list):
            inner = typing.get_args(option)[0]
            return [_as_type(key, item, inner) for item in value]
        if origin is Mapping and isinstance(value, dict):
            inner = typing.get_args(option)[1]
            return {name: _as_type(f"{key}.{name}", item, inner) for name, item in value.items()}
    allowed = " or ".join(_describe(option) for option in _options(wanted))
    raise BadInput(f"{key}={value} is not allowed: it must be {allowed}.")


def _options(wanted: Any) -> tuple[Any, ...]:
    is_union = typing.get_origin(wanted) in (typing.Union, types.UnionType)
    return typing.get_args(wanted) if is_union else (wanted,)


def _describe(option: Any) -> str:
    names = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "a text",
        type(None): "null",
        dict: "a mapping",
    }
    if option in names:
        return names[option]
    if typing.get_origin(option) is typing.Literal:
        return "one of " + ", ".join(map(str, typing.get_args(option)))
    if typing.get_origin(option) is Mapping:
        return "a mapping, each value " + _describe(typing.get_args(option)[1])
    inner = typing.get_args(option)[0]
    return "a list" if inner is Any else f"a list, each item {_describe(inner)}"
