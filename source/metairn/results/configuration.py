"""A resolved configuration as flat keys, and what two of them have not in common."""

from __future__ import annotations

from typing import Any


def flat_settings(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every key that can change a result, by its dotted name.

    How a method is drawn (`display`) cannot.
    """
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if key == "display":
            continue
        name = f"{prefix}{key}"
        flat |= flat_settings(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat


def changes(one: dict[str, Any], other: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Flat settings in which two configurations differ: name, value in one, value in the other."""
    one, other = flat_settings(one), flat_settings(other)
    pairs = ((key, one.get(key), other.get(key)) for key in sorted(one.keys() | other.keys()))
    return [(key, first, second) for key, first, second in pairs if first != second]
