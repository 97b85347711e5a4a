"""What was measured, as one dictionary for a file and as tables for the screen."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from rich.console import Group
from rich.table import Table

from benchmarks.interleaved import Measurement
from benchmarks.suite import LENGTH, SETTINGS, Plan, Results
from metairn.experiments.training_run import provenance

# Name, our method and the peer that it is measured against.
RATIOS = (
    ("ppo_over_sb3", "ppo", "sb3"),
    ("meta_irn_over_sb3", "meta_irn", "sb3"),
    ("ppo_over_rllib", "ppo", "rllib"),
)
RATIO_MEANINGS = {
    "ppo_over_sb3": "env steps per second, our ppo over stable-baselines3's PPO",
    "meta_irn_over_sb3": "env steps per second, our meta_irn over stable-baselines3's PPO",
    "ppo_over_rllib": "env steps per second, our ppo over RLlib's PPO",
    "sampling_over_floor": "env steps per second, our env runner over the bare loop",
    "_two_threads": "the same with two threads for the peer and one for us",
    "meta_irn_length_1000_over_50": "seconds per env step, episodes of 1000 steps over those of 50",
}


def as_dictionary(plan: Plan, results: Results) -> dict[str, Any]:
    """Everything, with where and how it was measured.

    Args:
        plan: what was asked for.
        results: what came out.
    """
    source = provenance()
    del source["host"]
    source["versions"]["stable-baselines3"] = version("stable-baselines3")
    return {
        "ratios": _ratios(results),
        "ratio_meanings": RATIO_MEANINGS,
        "provenance": source,
        "protocol": asdict(plan.protocol),
        "training": {
            str(env_steps): {
                "ratios": _training_ratios(measured),
                "contenders": _contenders(measured),
            }
            for env_steps, measured in results.training.items()
        },
        "sampling": _contenders(results.sampling),
        "lengths": {
            method: _contenders({str(length): m for length, m in by_length.items()})
            for method, by_length in results.lengths.items()
        },
        "start_up": {name: _spread("s", seconds) for name, seconds in results.start_up.items()},
    }


def _training_ratios(measured: dict[str, Measurement]) -> dict[str, float]:
    """Ours on one core over each peer on one core and, where measured, on two."""
    ratios = {}
    for threads, suffix in ((1, ""), (2, "_two_threads")):
        for name, method, peer in RATIOS:
            found = [
                m.speed
                for key, m in measured.items()
                if key.startswith(peer) and m.entry.threads == threads
            ]
            if found:
                ratios[name + suffix] = measured[method].speed / found[0]
    return ratios


def _ratios(results: Results) -> dict[str, float]:
    """Those of the main setting; what was not measured is left out."""
    ratios: dict[str, float] = {}
    if results.training:
        ratios |= _training_ratios(results.training[SETTINGS[0][0]])
    if results.sampling:
        runner, floor = results.sampling["runner"], results.sampling["floor"]
        ratios["sampling_over_floor"] = runner.speed / floor.speed
    by_length = results.lengths.get("meta_irn", {})
    if by_length.keys() >= {LENGTH, 1000}:
        ratio = by_length[LENGTH].speed / by_length[1000].speed
        ratios["meta_irn_length_1000_over_50"] = ratio
    return ratios


def _spread(unit: str, values: Sequence[float]) -> dict[str, Any]:
    return {
        "unit": unit,
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "all": list(values),
    }


def _contenders(measured: dict[str, Measurement]) -> dict[str, Any]:
    return {
        name: {
            "threads": measurement.entry.threads,
            "speed": _spread("env steps/s", measurement.speeds),
            "peak_memory_mib": measurement.peak_memory_mib,
            "work": asdict(measurement.entry.work),
        }
        for name, measurement in measured.items()
    }


def as_tables(content: dict[str, Any]) -> Group:
    """The same for the screen.

    Args:
        content: what `as_dictionary` returned.
    """
    tables = [
        _speeds(f"Training, {env_steps} env steps per iteration", part["contenders"])
        for env_steps, part in content["training"].items()
    ]
    if content["sampling"]:
        tables.append(_speeds("Sampling alone", content["sampling"]))
    tables += [
        _speeds(f"{method} by episode length", part) for method, part in content["lengths"].items()
    ]
    if content["start_up"]:
        tables.append(Table("", "median s", "min", "max", title="Start-up"))
    for name, spread in content["start_up"].items():
        seconds = (f"{spread[key]:.2f}" for key in ("median", "min", "max"))
        tables[-1].add_row(name.replace("_", " "), *seconds)
    if content["ratios"]:
        tables.append(Table("", "ratio", "of", title="Ratios of medians"))
    for name, value in content["ratios"].items():
        tables[-1].add_row(
            name, f"{value:.2f}", RATIO_MEANINGS.get(name, RATIO_MEANINGS["_two_threads"])
        )
    return Group(*tables)


def _speeds(title: str, contenders: dict[str, Any]) -> Table:
    table = Table(title=title)
    for heading in ("", "env steps/s", "min", "max", "µs per env step", "peak memory, MiB"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, contender in contenders.items():
        speed = contender["speed"]
        table.add_row(
            name,
            *(f"{speed[key]:.0f}" for key in ("median", "min", "max")),
            f"{1e6 / speed['median']:.1f}",
            f"{contender['peak_memory_mib']:.0f}",
        )
    return table
