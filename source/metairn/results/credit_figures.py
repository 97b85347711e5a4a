"""What methods credit and attend to, beside what was the cause."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.animation import FuncAnimation
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from metairn.results.credit_maps import CreditMap
from metairn.results.load import Study
from metairn.results.style import (
    ATTENTION_COLOURS,
    CREDIT_COLOURS,
    ENV_STEPS,
    PANEL_HEIGHT,
    PANEL_WIDTH,
    legend,
    line_of,
    use_style,
)

TRUTH = "ground truth"
PANEL = 1.75  # inches

# Pixels of a moving picture.
MAX_WIDTH = 2000


def credit_matrices(study: Study, maps: dict[str, list[CreditMap]]) -> Figure:
    """Credit of every action for every reward, and attention, beside the ground truth.

    Args:
        study: for the methods' names.
        maps: `load_credit_maps` of a task, not empty; their last moments are shown.
    """
    return _images(study, maps)[0]


def credit_over_training(study: Study, maps: dict[str, list[CreditMap]]) -> FuncAnimation:
    """`credit_matrices` at one moment of training after the other.

    Args:
        study: for the methods' names.
        maps: `load_credit_maps` of a task, not empty.
    """
    figure, images = _images(study, maps)
    # A picture of many methods is wide, and every moment is stored in full.
    figure.set_dpi(min(plt.rcParams["savefig.dpi"], MAX_WIDTH / figure.get_figwidth()))
    title = figure.suptitle(" ")

    def show(moment: int) -> list[Artist]:
        for image, method, attention in images:
            matrix = _matrix(maps[method][moment], attention)
            image.set_data(matrix)
            image.set_norm(Normalize(*_bounds(matrix, attention)))
        title.set_text(f"{next(iter(maps.values()))[moment].env_steps:,} env steps")
        return [title]

    plt.close(figure)  # It is shown by the animation alone.
    moments = min(map(len, maps.values()))
    return FuncAnimation(figure, show, frames=moments, interval=600)


def _images(
    study: Study, maps: dict[str, list[CreditMap]]
) -> tuple[Figure, list[tuple[AxesImage, str, bool]]]:
    """`credit_matrices`, and of each method's image whose it is and whether it is attention."""
    images = []

    def draw(axis: Axes, method: str | None, attention: bool) -> None:
        shown = next(iter(maps.values()))[-1] if method is None else maps[method][-1]
        matrix = shown.truth if method is None else _matrix(shown, attention)
        image = axis.imshow(matrix, **_colours(matrix, attention), interpolation="nearest")
        axis.set_xlabel("step attended to" if attention else "reward of step")
        if method is not None:
            images.append((image, method, attention))

    figure = _grid(study, maps, draw)
    for axis in figure.axes[:1]:
        axis.set_ylabel("action of step")
    return figure, images


def first_action(study: Study, maps: dict[str, list[CreditMap]]) -> Figure:
    """Credit and attention of the first action over training, beside the optimal one.

    Args:
        study: for the methods' names.
        maps: `load_credit_maps` of a task, not empty.
    """

    def draw(axis: Axes, method: str | None, attention: bool) -> None:
        snapshots = next(iter(maps.values())) if method is None else maps[method]
        rows = [s.truth[0] if method is None else _matrix(s, attention)[0] for s in snapshots]
        steps = [s.env_steps for s in snapshots]
        matrix = np.array(rows).T
        colours = _colours(matrix, attention)
        axis.pcolormesh(steps, range(len(matrix)), matrix, shading="nearest", **colours)
        axis.xaxis.set_major_formatter(ENV_STEPS)
        axis.set_xlabel("env steps")

    figure = _grid(study, maps, draw)
    for axis in figure.axes[:1]:
        axis.set_ylabel("step of the episode")
    return figure


def credit_of_last_reward(study: Study, maps: dict[str, list[CreditMap]]) -> Figure:
    """Each action's share of the decisive reward's credit after training.

    The decisive rewards are the last one that any action caused; shares are of absolute values.

    Args:
        study: for the methods' names and colours.
        maps: `load_credit_maps` of a task, not empty.
    """
    use_style()
    figure, axis = plt.subplots(figsize=(2.2 * PANEL_WIDTH, 1.3 * PANEL_HEIGHT))
    truth = next(iter(maps.values()))[-1].truth
    decisive = np.flatnonzero(truth.any(axis=0))[-1]
    for method, snapshots in maps.items():
        column = np.abs(snapshots[-1].credit[:, decisive])
        axis.plot(column / max(column.sum(), 1e-12), marker=".", **line_of(study, method))
    axis.plot(truth[:, decisive] / truth[:, decisive].sum(), "kx", label=TRUTH)
    axis.set_xlabel("action of step")
    axis.set_ylabel(f"share of the credit for reward {decisive}")
    axis.set_yscale("symlog", linthresh=1 / len(truth))
    axis.set_ylim(bottom=0)
    legend(figure, axis)
    return figure


def _grid(
    study: Study,
    maps: dict[str, list[CreditMap]],
    draw: Callable[[Axes, str | None, bool], None],
) -> Figure:
    """The ground truth, then one column per method; attention below, where a method attends."""
    use_style()
    attends = [method for method, snapshots in maps.items() if snapshots[0].attention is not None]
    rows, columns = (2 if attends else 1), len(maps) + 1
    size = (PANEL * columns, (PANEL + 0.45) * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    for row, (shown, what) in enumerate([(list(maps), "credit"), (attends, "attention")][:rows]):
        for axis, method in zip(axes[row], [None, *maps], strict=True):
            if method is not None and method not in shown:
                axis.remove()
                continue
            axis.grid(visible=False)
            draw(axis, method, row == 1)
            label = f"optimal {what}" if method is None else study.display[method].label
            axis.set_title(label if method is None else f"{label}: {what}", size=8)
    return figure


def _matrix(shown: CreditMap, attention: bool) -> np.ndarray:
    matrix = shown.attention if attention else shown.credit
    assert matrix is not None
    return matrix


def _colours(matrix: np.ndarray, attention: bool) -> dict[str, Any]:
    low, high = _bounds(matrix, attention)
    return {"cmap": ATTENTION_COLOURS if attention else CREDIT_COLOURS, "vmin": low, "vmax": high}


def _bounds(matrix: np.ndarray, attention: bool) -> tuple[float, float]:
    """Attention from 0 on, credit around 0, each up to its own largest value."""
    largest = float(np.abs(matrix).max()) or 1.0
    return (0.0 if attention else -largest), largest
