"""The figure of the benchmarks: speed beside other PPOs, and what longer episodes cost."""

from __future__ import annotations

from typing import Any

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metairn.results.style import PANEL_HEIGHT, PANEL_WIDTH, use_style

PEERS = {
    "rllib": {"label": "RLlib PPO", "colour": "#56b4e9"},
    "sb3": {"label": "SB3 PPO", "colour": "#e69f00"},
}


def draw(content: dict[str, Any], ours: dict[str, dict[str, str]]) -> Figure:
    """Two panels: env steps per second of all contenders, and time per env step by episode length.

    Args:
        content: what `report.as_dictionary` returned.
        ours: label and colour of our methods.
    """
    use_style()
    figure, (speeds, lengths) = plt.subplots(
        1, 2, figsize=(2.4 * PANEL_WIDTH, 1.1 * PANEL_HEIGHT), width_ratios=(1.3, 1), layout="tight"
    )
    _draw_speeds(speeds, content["training"], ours | PEERS)
    _draw_lengths(lengths, content["lengths"], ours)
    return figure


def _draw_speeds(axis: Axes, training: dict[str, Any], shown: dict[str, dict[str, str]]) -> None:
    names = list(next(iter(training.values()))["contenders"])
    height = 0.8 / len(training)
    for row, (env_steps, part) in enumerate(training.items()):
        speeds = [part["contenders"][name]["speed"] for name in names]
        axis.barh(
            [place + row * height for place in range(len(names))],
            [speed["median"] / 1000 for speed in speeds],
            height=0.9 * height,
            xerr=_errors(speeds, lambda value: value / 1000),
            color=[shown[name.split(",")[0]]["colour"] for name in names],
            alpha=1.0 if row == 0 else 0.45,
            error_kw={"linewidth": 1},
        )
        # A grey twin for the legend, since the bars have a colour each.
        axis.barh(
            [0],
            [0],
            color="#4d4d4d",
            alpha=1.0 if row == 0 else 0.45,
            label=f"{env_steps} env steps per iteration",
        )
    axis.set_yticks(
        [place + 0.5 * (len(training) - 1) * height for place in range(len(names))],
        [name.replace(key, shown[key]["label"]) for name in names for key in [name.split(",")[0]]],
    )
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    axis.set_xlabel("1000 env steps per second")
    axis.set_axisbelow(True)
    axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(training), fontsize=7)


def _draw_lengths(axis: Axes, lengths: dict[str, Any], shown: dict[str, dict[str, str]]) -> None:
    for method, by_length in lengths.items():
        speeds = [part["speed"] for part in by_length.values()]
        axis.errorbar(
            [int(length) for length in by_length],
            [1e6 / speed["median"] for speed in speeds],
            yerr=_errors(speeds, lambda value: 1e6 / value),
            color=shown[method]["colour"],
            label=shown[method]["label"],
            marker="o",
            markersize=3,
        )
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("episode length")
    axis.set_ylabel("µs per env step")
    axis.legend(loc="upper left", fontsize=7)


def _errors(speeds: list[dict[str, float]], of: Any) -> list[list[float]]:
    """Distances from the median to the lowest and to the highest turn."""
    medians = [of(speed["median"]) for speed in speeds]
    ends = [sorted((of(speed["min"]), of(speed["max"]))) for speed in speeds]
    return [
        [middle - low for middle, (low, _) in zip(medians, ends, strict=True)],
        [high - middle for middle, (_, high) in zip(medians, ends, strict=True)],
    ]
